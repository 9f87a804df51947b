"""The inductive bias of softmax with cross-entropy: overconfidence, and label smoothing."""

from __future__ import annotations

import numpy as np

from .. import functional as F
from ..derivatives import grad
from ..tensor import Array, Tensor
from . import pictures
from .descent import counted
from .parts import Block, Chapter, Figure, claim, equation, prose, read, run, same

EPSILON, CLASSES = 0.1, 1000
STEPS = 20_000


def smoothed(n_classes: int = CLASSES, epsilon: float = EPSILON) -> Array:
    """Return the target (1 − ε)·y + ε/K of class 0."""
    return (1 - epsilon) * np.eye(n_classes)[0] + epsilon / n_classes


def logit_gaps(epsilon: float, steps: int = STEPS, n_classes: int = 10) -> Array:
    """Descend on the logits of one example, from zeros; return, after each step, how far the true one is ahead."""
    z, gaps = np.zeros(n_classes), []
    for _ in range(steps):
        t = Tensor(z, requires_grad=True)
        z = z - grad(F.cross_entropy(t, 0, label_smoothing=epsilon), t)[0].data
        gaps.append(z[0] - z[1])
    return np.array(gaps)


def confidence() -> Chapter:
    """Reproduce "Inductive Bias of Softmax"."""
    p = np.full(CLASSES, 0.01 / (CLASSES - 1))
    p[0] = 0.99
    z = np.log(p)
    target = smoothed()
    plain, smooth = F.cross_entropy(z, 0), F.cross_entropy(z, 0, label_smoothing=EPSILON)
    entropy = -(target * np.log(target)).sum()
    best = np.log(target)
    at_best = F.cross_entropy(best, 0, label_smoothing=EPSILON)
    gap = best[0] - best[1]
    gaps = {e: logit_gaps(e) for e in (0.0, EPSILON)}
    hard, soft = gaps[0.0], gaps[EPSILON]
    limit = np.log((1 - EPSILON + EPSILON / 10) / (EPSILON / 10))
    english = counted()
    return Chapter(
        "Overconfidence and label smoothing",
        [
            prose(
                "Cross-entropy with a one-hot target is 0 only if the true class has all of the probability, "
                "which no finite logits give. So its gradient drives the true logit away from the others for "
                "ever. Label smoothing asks for less: a share `ε` of the target is spread over all K classes."
            ),
            equation("q = (1 − ε)·y + ε/K"),
            run("""
p = np.full(1000, 0.01 / 999); p[0] = 0.99
z = sm.Tensor(np.log(p))
print(f"{sm.cross_entropy(z, 0):.3f}  {sm.cross_entropy(z, 0, label_smoothing=0.1):.3f}")
"""),
            same("cross-entropy of a prediction of 99 %", "0.010", plain),
            same("the same with ε = 0.1 and 1000 classes", "1.159", smooth),
            same("every class has a target of at least", "0.0001", target.min()),
            claim(
                "1.159 against 0.010 shows how smoothing punishes overconfidence",
                smooth > plain,
                f"no prediction at all has less than {entropy:.4f} against this target, its entropy; the 99 % cost "
                f"{smooth - entropy:.4f} more than the best prediction, {target[0]:.4f}, does",
                f"Most of the difference is the entropy of the target, which nobody can avoid. What is punished is "
                f"{smooth - entropy:.3f} nats: the Kullback-Leibler divergence.",
                limit=smooth - entropy < 0.5 * smooth and np.isclose(at_best, entropy),
            ),
            Block("heading", "Logits driven apart"),
            prose(
                "One example of ten classes, its logits free to move, by gradient descent. With one-hot targets "
                "the true logit moves away without end, ever slower, like the log of the number of steps. With "
                f"smoothing it stops at log((1 − ε + ε/K)/(ε/K)), here {limit:.3f}; with 1000 classes it would be "
                f"{gap:.3f}."
            ),
            Figure("gaps", lambda: pictures.gaps(gaps, limit), "How far the true logit is ahead of the others."),
            claim(
                "softmax with cross-entropy drives the logit of the true class and the others apart",
                hard[-1] - hard[STEPS // 10 - 1] > 0.8 * np.log(10),
                f"{hard[STEPS // 100 - 1]:.2f}, {hard[STEPS // 10 - 1]:.2f} and {hard[-1]:.2f} ahead after "
                f"{STEPS // 100:,}, {STEPS // 10:,} and {STEPS:,} steps: about log 10 = 2.30 more for ten times "
                "as many",
            ),
            claim(
                "label smoothing bounds them",
                abs(soft[-1] - limit) < 1e-6 and abs(soft[STEPS // 100] - limit) < 0.01,
                f"{soft[-1]:.4f}, where theory says {limit:.4f}",
            ),
            Block("heading", "Perplexity"),
            claim(
                "perplexity is the exponential of the cross-entropy",
                np.isclose(np.exp(english["uniform"]), english["classes"]),
                f"a uniform guess among {english['classes']} characters has {english['uniform']:.3f} nats, perplexity "
                f"{np.exp(english['uniform']):.1f}; a bigram model of held-out English has {english['bigram']:.3f} "
                f"nats, perplexity {np.exp(english['bigram']):.1f}",
                "Of the cross-entropy in nats; 2 to the power of it in bits.",
            ),
            Block("heading", "What only real data can tell"),
            read(
                "models trained so are overconfident, and badly calibrated (Guo et al. 2017)",
                "in part",
                "It holds where a model learns its training data by heart; with more data, or where hardly an "
                "answer is wrong, little of it is left. One temperature, fitted on held-out data, mends it: 1.4 "
                "%. See docs/calibration.md.",
                "five perceptrons on 10,000 pictures of Fashion-MNIST are right on 85.4 % and sure by 95.1 %: a "
                "calibration error of 9.7 %; with 55,000 pictures it is 4.4 %, on scikit-learn's digits 1.8 %",
            ),
            read(
                "label smoothing mitigates overconfidence (Szegedy et al. 2015, Müller et al. 2019)",
                "in part",
                "A model that learns smoothed targets gives its answers 1 − ε + ε/K, whatever it knows: if it is "
                "right more often, it is underconfident. After a temperature, plain models are the better "
                "calibrated ones on Fashion-MNIST. See docs/calibration.md.",
                "ε = 0.1 brings the calibration error from 9.7 to 3.7 % with 10,000 pictures of Fashion-MNIST, "
                "from 4.4 to 5.6 % with 55,000 (no difference that can be told), and from 1.8 to 12.3 % on the digits",
            ),
            read(
                "label smoothing can hurt distillation (Müller et al. 2019)",
                "in part",
                "It holds where a teacher helps at all: for a student that sees few pictures. See docs/calibration.md.",
                "a student of 1,000 pictures gains 1.20 ± 0.38 points of accuracy from a plain teacher and −0.22 "
                "± 0.36 from a smoothed one; a student of 10,000 gains nothing that can be told from either",
            ),
            read(
                "label smoothing hurts perplexity (Vaswani et al. 2017)",
                "holds",
                found="Transformers that learn to pronounce words: 1.471 becomes 1.538 with ε = 0.1 and 10,000 words "
                "to learn from, 1.245 becomes 1.368 with 110,591; at the best temperature of each, 1.427 becomes "
                "1.471, and 1.244 1.261",
            ),
            read(
                "overconfidence prunes alternatives in beam search, so smoothing helps what is decoded",
                "in part",
                "It helps with little data, as a regularizer. Pruning is not the reason: no beam of 5 lost a "
                "word to a truth with a higher score, with or without smoothing, and greedy search gains as "
                "much. See docs/decoding.md.",
                "a beam of 5 gets 1.34 ± 0.88 points more of the words right with 10,000 words to learn from, "
                "0.45 ± 0.95 with 110,591 (five seeds, mean and deviation)",
            ),
            read(
                "the chart shows a ResNet and a LeNet on CIFAR-100, from Guo et al., cited as [2]",
                "fails",
                "[2] in the list of references is Vaswani et al.; Guo et al. is [3], which no sentence cites.",
            ),
            read("if the application does not only omit the class but also the confidence", "fails", "emit is meant."),
        ],
    )
