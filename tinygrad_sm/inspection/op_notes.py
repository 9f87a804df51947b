"""What a formula does not say of an op: its Jacobian in closed form, pitfalls, numerical care, the article."""

from __future__ import annotations

from typing import NamedTuple

ARTICLE = "Primer on Softmax"


class Note(NamedTuple):
    """Words for one op; what is empty is not written."""

    why: str = ""  # the gradient, in a sentence or two; `backticks` are formulas
    jacobian: str = ""  # formulas, joined by commas
    pitfalls: tuple[str, ...] = ()
    care: tuple[str, ...] = ()  # what this library does for the numbers
    section: str = ""  # of the article
    names: str = ""  # what else the letters of the formulas mean


NOTES: dict[str, Note] = {
    "softmax": Note(
        "All logits share one sum, so each changes every probability: its own by `pᵢ·(1 − pᵢ)`, the others by "
        "`−pᵢ·pⱼ`.",
        "J = (diag(p) − p·pᵀ)/T, Jᵢⱼ = pᵢ·([i = j] − pⱼ)/T",
        (
            "before cross_entropy it is one softmax too many: cross_entropy takes logits",
            "log(softmax(z)) is −inf where a probability rounds to 0: use log_softmax",
            "where it is sure, `p` near 0 or 1, its Jacobian is nearly 0 and no gradient comes through",
            "over the wrong axis it still sums to 1: of (N, C) the classes are axis −1",
        ),
        (
            "the maximum is subtracted first, so that exp does not overflow",
            "in the backward pass the largest entry is taken off the incoming gradient first, so that no digits cancel",
        ),
        "Numerical Stability",
        "`z` are logits, one row or several, and `T` the temperature, 1 unless it is given.",
    ),
    "log_softmax": Note(
        "A log-probability is the logit minus one number for the whole row. So `g` passes as it is, less the share `p` "
        "of its sum.",
        "Jᵢⱼ = ([i = j] − pⱼ)/T",
        (
            "exp of it, summed, is 1 only up to rounding",
            "nll_loss wants its result, cross_entropy the logits before it",
        ),
        ("log(1 + the rest beside the maximum) keeps small losses exact (log1p)",),
        "Why use LogSoftmax and NLLLoss",
        "`z` are logits, one row or several, and `T` the temperature, 1 unless it is given.",
    ),
    "logsumexp": Note(
        "A smooth maximum: each logit gets its share of the gradient, and the shares are softmax.",
        "∂y/∂zⱼ = pⱼ",
        ("log(exp(z).sum()) overflows beyond 88 in float32",),
        ("the maximum is subtracted first, and added again",),
        "Numerical Stability",
    ),
    "cross_entropy": Note(
        "The log cancels the exp: what is left of the softmax is p, what is left of the target is −y.",
        "∂ℓ/∂zⱼ = pⱼ − [j = y], H = diag(p) − p·pᵀ",
        (
            "feed it logits: with probabilities the model still trains, slowly, and the loss cannot reach 0",
            "the class axis is the last one; PyTorch's layout (N, C, …) is axis=1",
            "with class weights the mean divides by the sum of the weights, not by N",
            "where ignore_index hides every target, loss and gradient are 0",
        ),
        (
            "p − y is made in one pass with the loss; at the true class it is minus the sum of the other "
            "probabilities, so that "
            "no digit of p − 1 is lost",
        ),
        "Why do we use Cross Entropy Loss with Softmax",
        "`y` is the true class of each row of the logits `z`, and in `p − y` its one-hot row; `N` is the number of "
        "rows. `ℓ` is the loss of one row, and `H` its Hessian, the second derivatives.",
    ),
    "soft_cross_entropy": Note(
        "As with class indices, with the target row q in place of the one-hot row.",
        "∂ℓ/∂zⱼ = pⱼ − qⱼ",
        ("rows of q that do not sum to 1 give the gradient Σq·p − q", "the least loss is the entropy of q, not 0"),
        ("0·log 0 counts as 0",),
        "Why do we use Cross Entropy Loss with Softmax",
        "`q` has a row of probabilities for each row of the logits `z`; `N` is the number of rows, and `ℓ` the loss of "
        "one.",
    ),
    "linear_cross_entropy": Note(
        "The gradient of the logits is that of cross-entropy; the rest is the backward pass of a linear layer.",
        "",
        ("it saves memory where there are many classes; with few, linear and cross_entropy are as good",),
        ("logits are made for a block of rows at a time and never held together",),
        "",
        "`z` are the logits, `y` is the true class of each row, and in `p − y` its one-hot row; `N` is the number of "
        "rows.",
    ),
    "nll_loss": Note(
        "Only the log-probability of the true class is in the loss, so only that one gets gradient.",
        "∂loss/∂ℓⱼ = −[j = y]/N",
        ("it takes log-probabilities: with probabilities or logits it gives numbers, but not the loss",),
        ("a class of weight 0 counts as 0 even where its log-probability is −inf",),
        "Why use LogSoftmax and NLLLoss",
        "`ℓ` are log-probabilities, `y` is the true class of each row, and `N` the number of rows.",
    ),
    "attention": Note(
        "A matrix product, a softmax and a matrix product, each with its own rule.",
        "",
        (
            "without 1/√d_k the scores grow like √d_k, the softmax saturates, and the gradient of q and k vanishes",
            "a bool mask is True where a key may be seen; in some libraries it is the other way round",
            "a mask of −1e9 instead of −inf lets a fully hidden row attend to everything",
        ),
        ("works in blocks and holds the weights of small inputs only", "a row with every key hidden gives 0, not NaN"),
        "on attention",
        "`q`, `k` and `v` have a query, key or value in each row. `p` are the weights, `dp` and `ds` the gradients of "
        "weights and scores. `scale` is 1/√d_k by default, for queries of d_k entries; `mask` is added "
        "to the scores, −∞ at hidden keys.",
    ),
    "layer_norm": Note(
        "Mean and spread depend on every entry of the row, so two terms more come off the gradient.",
        "∂x̂ᵢ/∂xⱼ = ([i = j] − 1/n − x̂ᵢ·x̂ⱼ/n)/σ",
        (
            "of a constant row only ε keeps the gradient finite",
            "the variance is that with n, not n − 1",
            "it hides the size of what comes in: the gradient is divided by σ",
        ),
        ("the mean is subtracted before squaring", "half precision is computed in single"),
        "",
        "mean and var are those of a row, of n entries; `w` and `b` are weight and bias, and `h` is the gradient of "
        "`x̂`.",
    ),
    "rms_norm": Note(
        "The size of the row depends on every entry, so one term more comes off the gradient.",
        "∂x̂ᵢ/∂xⱼ = ([i = j] − x̂ᵢ·x̂ⱼ/n)/r",
        ("squares beyond 1e19 overflow in float32",),
        ("half precision is computed in single",),
        "",
        "mean is that of a row, of n entries; `w` is the weight, and `h` the gradient of `x̂`.",
    ),
    "rotary": Note(
        "Features i and i + d/2 are a point of the plane, turned by the angle φ; going back it is turned by −φ.",
        "",
        ("other libraries may turn the pairs (0, 1), (2, 3), …",),
        ("the angles are taken in double precision", "lengths stay as they are, forward and backward"),
        "",
        "`a` and `b` are the halves of `x`, φ is the position times the rate of each pair.",
    ),
    "matmul": Note(
        "Each output is a sum of products, `yᵢⱼ = Σₖ Aᵢₖ·Bₖⱼ`. An entry of A meets a row of B, in every output of its "
        "own row.",
        "∂yᵢⱼ/∂Aᵢₖ = Bₖⱼ, ∂yᵢⱼ/∂Bₖⱼ = Aᵢₖ",
        (
            "of three axes or more, the last two are the matrices",
            "a vector on the left is a row, on the right a column",
        ),
        (),
        "",
    ),
    "linear": Note(
        "An output is a sum over the inputs, each times its weight. A weight meets its input once in each row, "
        "so its gradient sums over the "
        "rows: `gᵀ·x`. An input goes to every output: `g·W`. The bias is added to each row: a sum over the rows.",
        "∂yₙᵢ/∂xₙⱼ = Wᵢⱼ",
        ("W is (out, in), and is transposed in the product",),
        ("one product for all batch axes",),
    ),
    "relu": Note(
        "Where x > 0 the slope is 1 and the gradient passes unchanged; elsewhere the slope is 0 and nothing passes.",
        "",
        (
            "a unit that is negative on all data gets no gradient and stays so (dead)",
            "at 0 the gradient is 0, a choice",
        ),
        (),
    ),
    "tanh": Note(
        "The slope is 1 at 0 and falls to 0 at both ends.",
        "",
        ("beyond |x| = 10 the gradient is 0 in float32: it saturates",),
        (),
    ),
    "sigmoid": Note(
        "The slope is at most ¼, in the middle, and falls to 0 at both ends.",
        "",
        ("ten sigmoids in a row multiply the gradient by at most 1e-6", "log(sigmoid(x)) is −inf for very negative x"),
        ("exp(−|x|) never overflows",),
    ),
    "gelu": Note(
        "Like relu with a soft corner; it lets a little through below 0.",
        "",
        ("the tanh form and the exact one differ by up to 5e-4",),
        ("tanh u is computed again instead of stored",),
    ),
    "silu": Note("x times a sigmoid gate; the gradient goes through both factors.", "", (), ()),
    "exp": Note(
        "The function is its own slope.",
        "",
        ("overflows beyond 88 in float32, 709 in float64",),
        ("no gradient in, none out: 0·∞ is 0 here",),
        "Numerical Stability",
    ),
    "log": Note(
        "Relative change counts: the smaller x, the steeper.",
        "",
        ("log 0 is −inf, and its slope ∞; for probabilities use log_softmax",),
        ("0/0 in the backward pass is 0",),
    ),
    "sqrt": Note(
        "Infinitely steep at 0.",
        "",
        ("the gradient of √0 is ∞; for a length use np.linalg.norm, which is 0 there",),
        (),
    ),
    "div": Note("", "", ("a small divisor makes both gradients large",), ("0/0 in the backward pass is 0",)),
    "mul": Note("Each factor's slope is the other factor.", "", (), ()),
    "add": Note("Addition passes the gradient on to both, unchanged.", "", (), ()),
    "sub": Note("Subtraction passes the gradient on to both, to the second with its sign turned.", "", (), ()),
    "pow": Note(
        "", "", ("the gradient of the exponent takes log a: NaN for a < 0",), ("x**2 and x**0.5 take short cuts",)
    ),
    "abs": Note("The sign of x; at 0, a kink, 0.", "", (), ()),
    "sum": Note(
        "Each element counts once, so each gets the whole gradient.",
        "∂y/∂xᵢ = 1",
        (),
        ("half precision is summed in single",),
    ),
    "mean": Note(
        "Each element counts 1/n, so each gets that share.",
        "∂y/∂xᵢ = 1/n",
        ("a mean of means divides twice: gradients become small by the batch size",),
        (),
    ),
    "max": Note("Only the largest element is in the result.", "", (), ("ties share the gradient equally",)),
    "min": Note("Only the smallest element is in the result.", "", (), ("ties share the gradient equally",)),
    "std": Note("", "", ("of equal numbers there is a kink: the gradient is 0",), ()),
    "norm": Note("The gradient is the unit vector along x.", "", (), ("0 at 0, where √Σ x² by hand has NaN",)),
    "getitem": Note("What was taken goes back to its place; what was taken twice adds up.", "", (), ()),
    "embedding": Note("Only the rows that were looked up get gradient; one looked up twice gets the sum.", "", (), ()),
    "where": Note(
        "",
        "",
        ("a NaN or inf in the branch not taken is harmless here; in a product with a mask the result is NaN",),
        (),
    ),
    "reshape": Note("", "", (), ()),
}
