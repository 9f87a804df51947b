"""What the cards of the ops state is true: Jacobians are evaluated beside `sm.jacobian`, pitfalls and care are run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import formulas
import numpy as np
import pytest
from formulas import Scope
from helpers import NEEDS_SCIPY

import tinygrad_sm as sm
from tinygrad_sm import functional as F
from tinygrad_sm.inspection.formula import cut, parse
from tinygrad_sm.inspection.op_notes import NOTES

X = np.array([0.5, -1.0, 2.0, 0.25])
N = len(X)
Check = Callable[[], Any]


def slope(f: Callable[..., Any], *args: Any, g: Any = None) -> np.ndarray:
    """Return the gradient of the first argument."""
    x = sm.Tensor(np.asarray(args[0]), requires_grad=True)
    y = f(x, *args[1:])
    g = np.ones(y.shape, y.dtype) if g is None else g
    return np.asarray(sm.grad(y, x, g)[0].data)


# -- Jacobians ------------------------------------------------------------------------------------

p = formulas.softmax(X)
p2 = formulas.softmax(X / 2.0)
TARGET, Q = np.array([1]), np.array([[0.1, 0.2, 0.3, 0.4]])
A, B = np.arange(6.0).reshape(2, 3) - 2, np.arange(12.0).reshape(3, 4) ** 1.5
CENTRED = X - X.mean()
SIGMA, RMS = np.sqrt(CENTRED.var() + 1e-5), np.sqrt((X**2).mean() + 1e-5)

# op: for each formula of its note the names in it, and what it is
JACOBIANS: dict[str, list[tuple[dict[str, Any], Check]]] = {
    "softmax": [({"p": p2, "T": 2.0}, lambda: sm.jacobian(lambda z: F.softmax(z, temperature=2.0), X))] * 2,
    "log_softmax": [({"p": p2, "T": 2.0}, lambda: sm.jacobian(lambda z: F.log_softmax(z, temperature=2.0), X))],
    "logsumexp": [({"p": p}, lambda: sm.jacobian(F.logsumexp, X))],
    "cross_entropy": [
        ({"p": p, "y": TARGET}, lambda: sm.jacobian(lambda z: F.cross_entropy(z[None], TARGET), X)),
        ({"p": p}, lambda: sm.hessian(lambda z: F.cross_entropy(z[None], TARGET), X)),
    ],
    "soft_cross_entropy": [({"p": p, "q": Q[0]}, lambda: sm.jacobian(lambda z: F.cross_entropy(z[None], Q), X))],
    "nll_loss": [({"y": TARGET, "N": 1}, lambda: sm.jacobian(lambda z: F.nll_loss(z[None], TARGET), X))],
    "layer_norm": [({"x\u0302": CENTRED / SIGMA, "σ": SIGMA}, lambda: sm.jacobian(lambda x: F.layer_norm(x, N), X))],
    "rms_norm": [({"x\u0302": X / RMS, "r": RMS}, lambda: sm.jacobian(lambda x: F.rms_norm(x, N, eps=1e-5), X))],
    "matmul": [
        ({"B": B}, lambda: sm.jacobian(lambda a: a @ B, A)),
        ({"A": A}, lambda: sm.jacobian(lambda b: A @ b, B)),
    ],
    "linear": [({"W": B.T}, lambda: sm.jacobian(lambda x: F.linear(x, B.T), A))],
    "sum": [({}, lambda: sm.jacobian(lambda x: x.sum(), X))],
    "mean": [({}, lambda: sm.jacobian(lambda x: x.mean(), X))],
}


def test_every_jacobian_is_checked() -> None:
    stated = {name: len(cut(note.jacobian, ", ")) for name, note in NOTES.items() if note.jacobian}
    assert stated == {name: len(cases) for name, cases in JACOBIANS.items()}


@pytest.mark.parametrize("name", JACOBIANS)
def test_a_jacobian_is_what_the_engine_computes(name: str) -> None:
    for text, (values, actual) in zip(cut(NOTES[name].jacobian, ", "), JACOBIANS[name], strict=True):
        left, right = cut(text, " = ")
        expected = np.asarray(actual().data)
        if name in ("matmul", "linear"):
            found, expected = _entries(left, right, values, expected)
        else:
            matrices = "ᵀ" in right
            names = {n: v[:, None] if matrices and np.ndim(v) else v for n, v in values.items()}
            scope = Scope({"classes": N, "n": N, "i": np.arange(N), **names}, (-1,), matrices, "ᵢ" in text)
            found = formulas.evaluate(parse(right), scope)
            found = np.reshape(found, expected.shape) if np.size(found) == expected.size else found
        np.testing.assert_allclose(np.broadcast_to(found, expected.shape), expected, rtol=1e-9, atol=1e-12)


def _entries(left: str, right: str, values: dict[str, Any], full: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what "∂yᵢⱼ/∂Aᵢₖ = Bₖⱼ" says, and those entries of the Jacobian; all others must be 0."""
    (_, _, y), (_, _, x) = parse(left)[1:]
    _, name, own = parse(right)
    letters = dict(zip("ᵢⱼₖₙ", "ijkn", strict=True))
    rows, columns, given = ("".join(letters[c] for c in part) for part in (y, x, own))
    kept = "".join(dict.fromkeys(rows + columns))
    entries = np.einsum(f"{rows}{columns}->{kept}", full)
    assert np.abs(entries).sum() == pytest.approx(np.abs(full).sum())
    sizes = dict(zip(rows + columns, full.shape, strict=True))
    return np.einsum(f"{given},{kept}->{kept}", values[name], np.ones([sizes[c] for c in kept])), entries


# -- pitfalls, and the care taken -----------------------------------------------------------------

SURE = np.array([[50.0, 0.0, 0.0]])
HIGH = np.float32(1e8)


def twice_softmax() -> bool:
    once, twice = (F.cross_entropy(z, [0]) for z in (SURE, F.softmax(SURE)))
    return float(once) < 1e-20 and np.isclose(float(twice), np.log(1 + 2 / np.e))


def slow_with_probabilities() -> bool:
    z = np.zeros((1, 10))
    once = slope(lambda t: F.cross_entropy(t, [0]), z)
    twice = slope(lambda t: F.cross_entropy(F.softmax(t), [0]), z)
    return twice[0, 0] < 0 and np.abs(twice).max() < 0.2 * np.abs(once).max() and twice_softmax()


def spread_without_scale() -> bool:
    rng = np.random.default_rng(0)
    found = []
    for d in (4, 400):
        q, k, v = rng.normal(size=(3, 64, d))
        g = slope(lambda t, k=k, v=v: F.scaled_dot_product_attention(t, k, v, scale=1.0)[:, 0], q)
        found.append(((q @ k.T).std() / np.sqrt(d), np.median(np.abs(g))))
    (a, small), (b, large) = found
    return 0.7 < a < 1.3 and 0.7 < b < 1.3 and large < small / 100


def minus_1e9_attends() -> bool:
    q, v = np.ones((2, 4), np.float32), np.array([[1.0], [3.0]], np.float32)
    soft = F.scaled_dot_product_attention(q, q, v, mask=np.full((2, 2), -1e9, np.float32))
    hard = F.scaled_dot_product_attention(q, q, v, mask=np.full((2, 2), -np.inf, np.float32))
    return bool(np.allclose(soft, 2.0) and np.allclose(hard, 0.0))


def seen_where_true() -> bool:
    v = np.array([[1.0], [3.0]])
    return bool(np.allclose(F.scaled_dot_product_attention(v, v, v, mask=np.array([[True, False]] * 2)), 1.0))


def constant_row() -> bool:
    row = np.full((1, 3), 2.0)
    with np.errstate(all="ignore"):
        bare = slope(lambda t: F.layer_norm(t, 3, eps=0.0)[:, 0], row)
    return bool(np.isfinite(slope(lambda t: F.layer_norm(t, 3)[:, 0], row)).all() and not np.isfinite(bare).all())


def half_precision(f: Callable[..., Any]) -> Check:
    return lambda: np.allclose(f(np.array([300.0, -300.0], np.float16), 2), f(np.array([300.0, -300.0]), 2), atol=1e-3)


def exact_logits_gradient() -> bool:
    g = slope(lambda t: F.cross_entropy(t, [0]), np.array([[40.0, 0.0]]))
    return bool(np.allclose(g, [[-np.exp(-40.0), np.exp(-40.0)]], rtol=1e-12, atol=0))


def no_digits_cancel() -> bool:
    g = np.array([1.0, 2.0, 4.0])
    far = slope(F.softmax, X[:3].astype(np.float32), g=(g + 2.0**22).astype(np.float32))
    return bool(np.allclose(far, slope(F.softmax, X[:3], g=g), rtol=1e-5))


def ignored_targets() -> bool:
    g = slope(lambda t: F.cross_entropy(t, [-100]), SURE)
    return float(F.cross_entropy(SURE, [-100])) == 0 and not g.any()


def weighted_mean() -> bool:
    z, w = np.stack([X, -X]), np.array([1.0, 2.0, 3.0, 4.0])
    rows = F.cross_entropy(z, [0, 3], weight=w, reduction="none")
    return bool(np.isclose(F.cross_entropy(z, [0, 3], weight=w), rows.sum() / (w[0] + w[3])))


def nll_on_others() -> bool:
    z = X[None]
    loss = float(F.cross_entropy(z, [0]))
    others = [float(F.nll_loss(given, [0])) for given in (z, F.softmax(z))]
    return np.isfinite(others).all() and not np.isclose(others, loss).any()


def elsewhere() -> bool:
    x = np.array([-1.0, 4.0])
    with np.errstate(all="ignore"):
        taken = [F.where(x > 0, np.sqrt(x), 0.0), slope(lambda t: F.where(x > 0, sm.sqrt(t), 0.0), x)]
        masked = np.sqrt(x) * (x > 0)
    return bool(np.isfinite(taken).all() and np.isnan(masked).any())


def quiet(f: Check) -> Check:
    def run() -> Any:
        with np.errstate(all="ignore"):
            return f()

    return run


F32 = np.float32
# op: a check for each pitfall, then for each care; None is advice, or how a thing is done, with no number in it
FACTS: dict[str, list[Check | None]] = {
    "softmax": [
        twice_softmax,
        quiet(lambda: np.log(F.softmax([0.0, 1000.0]))[0] == -np.inf and F.log_softmax([0.0, 1000.0])[0] == -1000),
        lambda: np.abs(sm.jacobian(F.softmax, np.array([20.0, 0.0])).data).max() < 1e-8,
        lambda: np.allclose(F.softmax(B, axis=0).sum(axis=0), 1) and not np.allclose(F.softmax(B).sum(axis=0), 1),
        lambda: np.allclose(F.softmax([1000.0, 1000.0]), 0.5),
        no_digits_cancel,
    ],
    "log_softmax": [
        lambda: 0 < np.abs(np.exp(F.log_softmax(np.linspace(-3, 3, 400, dtype=F32).reshape(40, 10))).sum(1) - 1).max()
        < 1e-5,
        lambda: np.isclose(F.nll_loss(F.log_softmax(X[None]), [0]), F.cross_entropy(X[None], [0])),
        lambda: np.isclose(F.log_softmax(np.array([0.0, -40.0]))[0], -np.exp(-40.0), rtol=1e-12, atol=0),
    ],
    "logsumexp": [
        quiet(lambda: np.isfinite(np.log(np.exp(F32(88)))) and np.log(np.exp(F32(89))) == np.inf),
        lambda: F.logsumexp(np.array([1000.0])) == 1000,
    ],
    "cross_entropy": [
        slow_with_probabilities,
        lambda: np.isclose(F.cross_entropy(B.T[None], np.array([[0, 1, 2]]), axis=1), F.cross_entropy(B, [0, 1, 2])),
        weighted_mean,
        ignored_targets,
        exact_logits_gradient,
    ],
    "soft_cross_entropy": [
        lambda: np.allclose(slope(lambda z: F.cross_entropy(z, 3 * Q), X[None]), 3 * p - 3 * Q),
        lambda: np.isclose(F.cross_entropy(np.log(Q), Q), -(Q * np.log(Q)).sum()),
        lambda: F.cross_entropy(np.array([[0.0, -np.inf]]), np.array([[1.0, 0.0]])) == 0,
    ],
    "linear_cross_entropy": [
        lambda: np.isclose(F.linear_cross_entropy(A, B.T, [0, 1]), F.cross_entropy(F.linear(A, B.T), [0, 1])),
        None,
    ],
    "nll_loss": [
        nll_on_others,
        lambda: F.nll_loss(np.array([[-np.inf, 0.0]] * 2), [0, 1], weight=np.array([0.0, 1.0])) == 0,
    ],
    "attention": [
        spread_without_scale,
        seen_where_true,
        minus_1e9_attends,
        None,
        lambda: not np.any(F.scaled_dot_product_attention(A, A, A, mask=np.zeros((2, 2), bool))),
    ],
    "layer_norm": [
        constant_row,
        lambda: np.isclose(F.layer_norm(X, N).std(ddof=0), 1, atol=1e-4),
        lambda: np.allclose(10 * slope(lambda t: F.layer_norm(t, N)[0], 10 * X), slope(
            lambda t: F.layer_norm(t, N)[0], X), rtol=1e-3),
        lambda: np.allclose(F.layer_norm((X + 8192).astype(F32), N), F.layer_norm(X, N), atol=1e-4),
        half_precision(F.layer_norm),
    ],
    "rms_norm": [
        quiet(lambda: np.isclose(F.rms_norm(np.array([1e19], F32), 1)[0], 1) and not F.rms_norm(
            np.array([2e19], F32), 1)[0] > 0.5),
        half_precision(F.rms_norm),
    ],
    "rotary": [
        lambda: F.rotary(np.eye(4)[:1], [1.0])[0].nonzero()[0].tolist() == [0, 2],
        lambda: np.isclose(F.rotary(np.ones((1, 2), F32), [1e6 + 0.5])[0, 0], np.cos(1e6 + 0.5) - np.sin(1e6 + 0.5)),
        lambda: np.allclose(np.linalg.norm(F.rotary(B), axis=-1), np.linalg.norm(B, axis=-1)),
    ],
    "matmul": [
        lambda: F.softmax(np.ones((5, 2, 3))).shape == (np.ones((5, 2, 4)) @ np.ones((5, 4, 3))).shape
        == (sm.Tensor(np.ones((5, 2, 4))) @ np.ones((5, 4, 3))).shape,
        lambda: np.allclose(sm.Tensor(A[0]) @ B, (A[:1] @ B)[0]) and np.allclose(sm.Tensor(A) @ B[:, 0], (A @ B)[:, 0]),
    ],
    "linear": [lambda: np.allclose(F.linear(A, B.T), A @ B), None],
    "relu": [
        lambda: not slope(F.relu, np.array([-3.0, -0.1])).any(),
        lambda: slope(F.relu, np.array([0.0]))[0] == 0,
    ],
    "tanh": [lambda: slope(F.tanh, np.array([8.0, 10.0], F32)).astype(bool).tolist() == [True, False]],
    "sigmoid": [
        lambda: 0.25**10 < 1e-6 and slope(F.sigmoid, np.array([0.0]))[0] == 0.25,
        quiet(lambda: np.log(F.sigmoid(np.array([-800.0])))[0] == -np.inf),
        lambda: F.sigmoid(np.array([-1000.0, 1000.0])).tolist() == [0.0, 1.0],
    ],
    "gelu": [
        lambda: 4e-4 < np.abs(F.gelu(np.linspace(-5, 5, 2001)) - F.gelu(
            np.linspace(-5, 5, 2001), approximate="none")).max() < 5e-4,
        None,
    ],
    "exp": [
        quiet(lambda: [np.isfinite(np.exp(x)) for x in (F32(88), F32(89), np.float64(709), np.float64(710))]
              == [True, False, True, False]),
        quiet(lambda: slope(sm.exp, np.array([1000.0]), g=np.zeros(1))[0] == 0),
    ],
    "log": [
        quiet(lambda: np.log(np.float64(0)) == -np.inf and slope(sm.log, np.array([0.0]))[0] == np.inf),
        quiet(lambda: slope(sm.log, np.array([0.0]), g=np.zeros(1))[0] == 0),
    ],
    "sqrt": [
        quiet(lambda: slope(sm.sqrt, np.array([0.0]))[0] == np.inf and not slope(np.linalg.norm, np.zeros(3)).any()),
    ],
    "div": [
        lambda: slope(lambda a: a / 1e-6, np.array([1.0]))[0] == 1e6
        and np.isclose(slope(lambda b: 1.0 / b, np.array([1e-6]))[0], -1e12),
        quiet(lambda: slope(lambda a: a / np.zeros(1), np.array([0.0]), g=np.zeros(1))[0] == 0),
    ],
    "pow": [quiet(lambda: np.isnan(slope(lambda b: sm.Tensor([-2.0]) ** b, np.array([2.0]))[0])), None],
    "sum": [lambda: np.isclose(float(sm.Tensor(np.full(4096, 1.25, np.float16)).sum()), 5120)],
    "mean": [lambda: np.allclose(slope(lambda x: x.mean(axis=1).mean() / 2, A), 1 / A.size / 2)],
    "max": [lambda: slope(lambda x: x.max(), np.array([3.0, 3.0, 1.0])).tolist() == [0.5, 0.5, 0.0]],
    "min": [lambda: slope(lambda x: x.min(), np.array([1.0, 1.0, 3.0])).tolist() == [0.5, 0.5, 0.0]],
    "std": [lambda: not slope(lambda x: x.std(), np.full(3, 2.0)).any()],
    "norm": [
        quiet(lambda: not slope(np.linalg.norm, np.zeros(3)).any()
              and np.isnan(slope(lambda x: sm.sqrt((x * x).sum()), np.zeros(3))).all()),
    ],
    "where": [elsewhere],
}  # fmt: skip


def test_every_pitfall_is_checked() -> None:
    stated = {name: len(note.pitfalls) + len(note.care) for name, note in NOTES.items() if note.pitfalls or note.care}
    assert stated == {name: len(checks) for name, checks in FACTS.items()}


@pytest.mark.parametrize(
    ("name", "number"), [(name, k) for name, checks in FACTS.items() for k, check in enumerate(checks) if check]
)
def test_what_a_card_states_is_so(name: str, number: int) -> None:
    if name == "gelu" and "erf" in NEEDS_SCIPY:
        pytest.importorskip("scipy")
    check = FACTS[name][number]
    assert check is not None
    assert check(), [*NOTES[name].pitfalls, *NOTES[name].care][number]
