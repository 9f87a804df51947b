"""Cross-entropy of a linear layer, without the logits of all rows at once.

With a large vocabulary the logits x·Wᵀ are the largest array of a language model, and their gradient is as large again.
Here a block of rows is worked on to its end before the next begins: its logits, its loss, p − y in the buffer of the
logits, and what that gives x, W and b. So the gradients are made in the forward pass; the backward pass scales them.
"""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn

import numpy as np

from ..mode import MODE
from ..op import Op
from ..tensor import Array
from .arguments import given
from .blocked import each, slices
from .cross_entropy import _cross_entropy
from .linalg import linear, rows
from .loss import SAMPLE_OPTIONS, SAMPLE_TARGET, check_indices, check_reduction, check_weight, importance, reduced
from .options import refuse, within
from .sample import call
from .softmax import quiet

INPUTS = ("x", "weight", "bias")
LOGIT_BYTES = 3 << 24  # a block of logits: enough rows for matrix products at nearly full speed
FEWEST_ROWS, MOST_ROWS = 128, 1024
PART_BYTES = 1 << 22  # what is taken at a time of work that is not limited by matrix products, to stay in the cache


class Options(NamedTuple):
    """The options of the op that both of its passes need."""

    class_weight: Array | None = None
    ignore_index: int = -100
    label_smoothing: float = 0.0
    wanted: tuple[str, ...] = INPUTS  # which gradients


def _pass(
    x: Array, weight: Array, target: Array, bias: Array | None, scale: Array, o: Options
) -> tuple[Array, list[Array | None]]:
    """Return the loss of each row, and the gradients of Σ scale·loss: of x, weight and bias, those that are wanted."""
    dtype = np.promote_types(np.result_type(x, weight), np.float32)  # float16 becomes single
    dx = np.zeros(x.shape, dtype) if "x" in o.wanted else None
    dw = np.zeros(weight.shape, dtype) if "weight" in o.wanted else None
    db = np.zeros(bias.shape, dtype) if "bias" in o.wanted and bias is not None else None
    losses = np.zeros(target.size, np.promote_types(dtype, np.float64))
    x, weight = rows(x).astype(dtype, copy=False), weight.astype(dtype, copy=False)
    y, scale = target.reshape(-1), scale.astype(dtype)[:, None]
    counting = np.flatnonzero(y != o.ignore_index)  # the other rows are left out
    step = min(max(LOGIT_BYTES // (len(weight) * dtype.itemsize), FEWEST_ROWS), MOST_ROWS)
    buffer = np.empty((min(step, len(counting)), len(weight)), dtype)
    for start in range(0, len(counting), step):
        block = counting[start : start + step]
        x_b, d = x[block], buffer[: len(block)]
        _logits(x_b, weight, d)
        losses[block] = _to_gradient(d, bias, y[block], o)
        share = _gradients(d, x_b * scale[block], weight, dx is not None, dw)
        if dx is not None:
            rows(dx)[block] = share * scale[block]
        if db is not None:
            db += scale[block, 0] @ d
    return losses, [dx, dw, db]


def _logits(x: Array, weight: Array, out: Array) -> None:
    """Write x·Wᵀ into `out`."""

    def kernel(part: slice) -> None:
        np.matmul(x, weight[part].T, out=out[:, part])

    each(kernel, _class_parts(weight), products=True)


def _to_gradient(z: Array, bias: Array | None, target: Array, o: Options) -> Array:
    """Add the bias to x·Wᵀ, return the loss of each row, and write the gradient of the logits over them."""

    def kernel(part: slice) -> Any:
        logits = z[part] if bias is None else (z[part] + bias).astype(z.dtype, copy=False)
        loss, z[part] = _cross_entropy.forward(
            logits, target[part], o.class_weight, o.ignore_index, o.label_smoothing, reduction="none"
        )
        return loss

    return np.concatenate(each(kernel, slices(len(z), PART_BYTES // z[:1].nbytes)))


def _gradients(d: Array, x: Array, weight: Array, wants_dx: bool, dw: Array | None) -> Any:
    """Add to the gradient of W, and return that of x.

    The logits were x·Wᵀ, and `d` is their gradient. So W gets dᵀ·x, and x gets d·W: a sum over classes, part by part.
    """

    def kernel(part: slice) -> Any:
        if dw is not None:
            dw[part] += d[:, part].T @ x
        return d[:, part] @ weight[part] if wants_dx else 0

    return sum(each(kernel, _class_parts(weight), products=True))


def _class_parts(weight: Array) -> list[slice]:
    """Cut the classes into parts; of as many as x has columns at least, lest the shares of d·W take more than d."""
    return slices(len(weight), max(PART_BYTES // max(weight[:1].nbytes, 1), weight.shape[1]))


def _forward(
    x: Array, weight: Array, target: Array, bias: Array | None, reduction: str = "mean", **options: Any
) -> tuple[Array, Any]:
    o = Options(**options)
    later = reduction == "none"  # then each row will have its own cotangent
    _, _, total = importance(target, o.class_weight, o.ignore_index, np.float64)
    scale = np.full(target.size, 1 / total if reduction == "mean" and total else 1.0)
    with quiet():
        losses, gradients = _pass(x, weight, target, bias, scale, o._replace(wanted=()) if later else o)
        out = reduced(losses.reshape(target.shape), total, reduction)
        return np.asarray(out, np.result_type(x, weight)), () if later else gradients


def _vjp(
    g: Array,
    y: Array,
    gradients: Any,
    x: Array,
    weight: Array,
    target: Array,
    bias: Any,
    reduction: str = "mean",
    **o: Any,
) -> Any:
    if reduction == "none":  # the logits are made once more
        with quiet():
            _, gradients = _pass(x, weight, target, bias, g.reshape(-1), Options(**o))
    elif g != 1:
        for gradient in gradients:
            if gradient is not None:
                gradient *= g
    dx, dw, db = gradients
    return dx, dw, None, db


def _definition(
    x: Any, weight: Any, target: Array, bias: Any, *, class_weight: Any = None, wanted: Any = (), **options: Any
) -> Any:
    return _cross_entropy(linear(x, weight, bias), target, weight=class_weight, **options)


def _sample(*args: Any, weight: Any = None, **options: Any) -> Any:
    return call(*args, **({} if weight is None else {"class_weight": weight}), **options)


_linear_cross_entropy = Op(
    _forward,
    _vjp,
    name="linear_cross_entropy",
    definition=_definition,
    formula="mean(log Σⱼ exp(zⱼ) − z[y]), with z = x·Wᵀ + b",
    gradient="dz·W, dzᵀ·x, Σₙ dz, with dz = g·(p − y)/N, p = softmax(z)",
    latex=(
        r"\tfrac1N \textstyle\sum_n (\log \sum_j e^{z_{nj}} - z_{n, y_n}),\; z = x W^\top + b",
        r"\bar x = \bar z W,\; \bar W = \bar z^\top x,\; \bar b = \textstyle\sum_n \bar z,\; "
        r"\bar z = g\,(p - y) / N,\; p = \mathrm{softmax}(z)",
    ),
    samples=[
        *(_sample((3, 2), (4, 2), SAMPLE_TARGET, (4,), **options) for options in SAMPLE_OPTIONS),
        *(_sample((3, 2), (4, 2), SAMPLE_TARGET, None, label_smoothing=0.1, **options) for options in SAMPLE_OPTIONS),
        call((3, 2, 2), (4, 2), np.array([[1, 0], [3, 3], [2, 0]]), None),
        call((2,), (4, 2), np.array(3), (4,), reduction="none"),
    ],
)


def linear_cross_entropy(
    x: Any,
    weight: Any,
    target: Any,
    *,
    bias: Any = None,
    class_weight: Any = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    **other: NoReturn,
) -> Any:
    """Cross-entropy of the logits x·Wᵀ + b with class indices, without holding the logits of all rows at once.

    It is `cross_entropy(linear(x, weight, bias), target)`, and what the last layer of a language model wants: with N
    rows and V classes, that makes logits and their gradient, (N, V) each; this one works in blocks of rows, and takes
    the memory of one block and of the gradients of x, weight and bias. It leaves out rows whose target is ignored.

    Parameters
    ----------
    x : Tensor or array_like of floats, (..., d)
        What the linear layer is given, such as the hidden states of a Transformer.
    weight : Tensor or array_like of floats, (V, d)
        The weight of the linear layer, a row for each class.
    target : array_like of int, (...)
        Class indices.
    bias : Tensor or array_like of floats, (V,), optional
        The bias of the linear layer.
    class_weight : array_like (V,), optional
        The weight of each class, finite and ≥ 0; the `weight` of `cross_entropy`.
    ignore_index : int
        Targets with this value count for nothing.
    label_smoothing : float in [0, 1]
        ε: the target becomes (1 − ε)·y + ε/V.
    reduction : {"mean", "sum", "none"}
        As in `cross_entropy`. With "none" the backward pass makes the logits again, which takes a third longer.

    Returns
    -------
    Tensor (or ndarray for arrays)
        The loss in nats.

    Raises
    ------
    IndexError
        For a class out of range.
    TypeError
        For x, weight or bias that are not floats, targets that are not integers.
    ValueError
        For shapes that don't fit, no classes, smoothing outside [0, 1], negative class weights, an unknown reduction.

    Notes
    -----
    The forward pass makes the gradients, of d = (p − y)/N: d·W for x, dᵀ·x for the weight and Σ d for the bias; the
    backward pass multiplies them by the cotangent. Under `no_grad`, and of what requires none, they are not made.

    Examples
    --------
    >>> import numpy as np, tinygrad_sm as sm
    >>> x, w = sm.Tensor([[1.0, 2.0]], requires_grad=True), sm.Tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> loss = sm.functional.linear_cross_entropy(x, w, [2])
    >>> loss.backward()
    >>> print(f"{loss:.4f}", x.grad.data.round(3))
    0.4076 [[-0.245 -0.09 ]]
    """
    caller = "linear_cross_entropy"
    refuse(other, linear_cross_entropy, caller)
    x, weight = _floats(x, "x", caller), _floats(weight, "weight", caller)
    if weight.ndim != 2 or not x.ndim or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"{caller}: x of shape {x.shape} and weight of shape {weight.shape} do not fit; x must be (…, d) "
            "and weight (V, d), a row for each class"
        )
    if not len(weight):
        raise ValueError(f"{caller}: a weight of shape {weight.shape} has no classes")
    if bias is not None:
        bias = _floats(bias, "bias", caller)
        if bias.shape != weight.shape[:1]:
            raise ValueError(
                f"{caller}: bias of shape {bias.shape} for weight of shape {weight.shape}; it must be (V,)"
            )
    check_reduction(reduction, caller)
    label_smoothing = within(label_smoothing, 0, 1, "label_smoothing", caller, closed=True)
    shape = (*x.shape[:-1], len(weight))
    target = check_indices(given(target, "the target", caller), shape, -1, ignore_index, caller)
    class_weight = check_weight(class_weight, len(weight), caller, "class_weight")
    wanted = [n for n, a in zip(INPUTS, (x, weight, bias), strict=True) if getattr(a, "requires_grad", False)]
    return _linear_cross_entropy(
        x, weight, target, bias, class_weight=class_weight, ignore_index=ignore_index, label_smoothing=label_smoothing,
        reduction=reduction, wanted=tuple(wanted) if MODE.get().grad else (),
    )  # fmt: skip


def _floats(x: Any, name: str, caller: str) -> Any:
    x = given(x, name, caller)
    if x.dtype.kind != "f":
        raise TypeError(f"{caller}: {name} must hold floats, not {x.dtype}; use .astype(np.float32)")
    return x
