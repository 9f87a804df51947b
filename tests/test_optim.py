"""Optimisers, against their formulas in NumPy and PyTorch's: values, state, what a step touches."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from helpers import close, leaf, normal

import tinygrad_sm as sm
from tinygrad_sm import Tensor, optim

STEPS = 20
SHAPES = [(3, 2), (4,), (2,)]
SILENT = {1: {0, 1, 5, 6}, 2: set(range(3, STEPS))}  # parameter -> steps in which it has no gradient
TOLERANCE = {np.float32: {"rtol": 2e-5, "atol": 2e-6}, np.float64: {"rtol": 1e-11, "atol": 1e-13}}

SGD = [
    {"lr": 0.1, "momentum": m, "dampening": d, "weight_decay": wd, "nesterov": n}
    for m, d, wd, n in product([0.0, 0.9], [0.0, 0.3], [0.0, 0.1], [False, True])
    if not n or (m and not d)
]
ADAM = [
    {"lr": 0.05, "betas": betas, "eps": eps, "weight_decay": wd}
    for betas, eps, wd in product([(0.9, 0.999), (0.0, 0.5)], [1e-8, 0.1], [0.0, 0.2])
]
CASES = [*(("SGD", o) for o in SGD), *(("Adam", o) for o in ADAM), *(("AdamW", o) for o in ADAM)]
each_case = pytest.mark.parametrize(("kind", "options"), CASES)
each_kind = pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW"])


def starts(dtype: Any) -> list[Any]:
    return [normal(*shape, seed=i, dtype=dtype) for i, shape in enumerate(SHAPES)]


def gradients(step: int, dtype: Any) -> list[Any]:
    """Return the gradients of a step, None where there is none."""
    rng = np.random.default_rng(100 + step)
    drawn = [np.asarray(rng.normal(size=shape), dtype) for shape in SHAPES]
    return [None if step in SILENT.get(i, ()) else g for i, g in enumerate(drawn)]


def grouped(params: list[Any], options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return two groups, of which the second has options of its own."""
    return [{"params": params[:1]}, {"params": params[1:], "lr": options["lr"] / 3, "weight_decay": 0.05}]


def run(optimizer: Any, params: list[Tensor], steps: Iterator[int] | range) -> list[list[Any]]:
    """Take the steps with the given gradients; return the values after each."""
    values = []
    for step in steps:
        for p, g in zip(params, gradients(step, params[0].dtype), strict=True):
            p.grad = None if g is None else Tensor(g)
        optimizer.step()
        values.append([p.data for p in params])
    return values


def by_formula(kind: str, options: dict[str, Any], p: Any, given: list[Any]) -> list[Any]:
    """Return one parameter after each step, from the formulas as the papers write them."""
    o, values, b, m, v, t = options, [], None, 0.0, 0.0, 0
    for g in given:
        if g is not None and kind == "SGD":
            g = g + o["weight_decay"] * p
            b = g if b is None else o["momentum"] * b + (1 - o["dampening"]) * g
            d = g if not o["momentum"] else g + o["momentum"] * b if o["nesterov"] else b
            p = p - o["lr"] * d
        elif g is not None:
            beta1, beta2 = o["betas"]
            if kind == "Adam":
                g = g + o["weight_decay"] * p
            else:
                p = p - o["lr"] * o["weight_decay"] * p
            t, m, v = t + 1, beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
            p = p - o["lr"] * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + o["eps"])
        values.append(p)
    return values


# -- the formulas ------------------------------------------------------------------------------


@each_case
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_formula(kind: str, options: dict[str, Any], dtype: Any) -> None:
    params = [leaf(a, dtype) for a in starts(dtype)]
    values = run(getattr(optim, kind)(grouped(params, options), **options), params, range(STEPS))
    for i, start in enumerate(starts(np.float64)):
        start, given = start.astype(dtype).astype(float), [gradients(s, dtype)[i] for s in range(STEPS)]
        given = [g if g is None else g.astype(float) for g in given]
        own = options if i == 0 else {**options, "lr": options["lr"] / 3, "weight_decay": 0.05}
        for actual, expected in zip([row[i] for row in values], by_formula(kind, own, start, given), strict=True):
            assert actual.dtype == dtype
            close(actual, expected, **TOLERANCE[dtype])


@pytest.mark.torch
@each_case
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_like_torch(kind: str, options: dict[str, Any], dtype: Any) -> None:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    params, theirs = [leaf(a, dtype) for a in starts(dtype)], [torch.tensor(a) for a in starts(dtype)]
    for q in theirs:
        q.requires_grad = True
    values = run(getattr(optim, kind)(grouped(params, options), **options), params, range(STEPS))
    other = getattr(torch.optim, kind)(grouped(theirs, options), **options)
    for step in range(STEPS):
        for q, g in zip(theirs, gradients(step, dtype), strict=True):
            q.grad = None if g is None else torch.tensor(g)
        other.step()
        close(values[step], [q.detach().numpy() for q in theirs], **TOLERANCE[dtype])


@pytest.mark.torch
@each_kind
def test_defaults_like_torch(kind: str) -> None:
    torch = pytest.importorskip("torch")
    ours = getattr(optim, kind)([leaf([1.0])]).param_groups[0]
    theirs = getattr(torch.optim, kind)([torch.ones(1)]).defaults
    assert {name: theirs[name] for name in ours if name != "params"} == {
        name: value for name, value in ours.items() if name != "params"
    }


@each_kind
def test_training_with_backward(kind: str) -> None:
    """Minimize |w − target|² from the gradients of the engine itself."""
    w, target = leaf([5.0, -3.0]), np.array([1.0, 2.0])
    optimizer = getattr(optim, kind)([w], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        sm.functional.mse_loss(w, target).backward()
        optimizer.step()
    assert np.abs(w.data - target).max() < 0.05


# -- what a step touches -----------------------------------------------------------------------


@each_case
def test_a_step_leaves_the_old_arrays_as_they_were(kind: str, options: dict[str, Any]) -> None:
    w, x = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    optimizer, graphs = getattr(optim, kind)([w], **options), []
    for _ in range(3):
        y = (w * w * x).sum()
        old, copy = w.data, w.data.copy()
        w.grad = Tensor(np.array([1.0, -2.0]))
        g = w.grad.data
        optimizer.step()
        assert w.data is not old
        assert old.tolist() == copy.tolist()
        assert g.tolist() == [1.0, -2.0]
        assert (w.data != old).all()
        graphs.append((y, copy))
    for y, old in graphs:  # graphs made before the steps still give their gradients
        close(sm.grad(y, [w, x]), [2 * old * x.data, old**2])


@each_kind
@pytest.mark.parametrize("lr", [0.1, np.float64(0.1), np.float32(0.1)], ids=["float", "float64", "float32"])
@pytest.mark.parametrize("start", [1.0, [1.0, 2.0]], ids=["scalar", "vector"])
def test_kind_and_dtype_of_the_parameter_stay(kind: str, lr: Any, start: Any) -> None:
    w = leaf(start, np.float32)
    optimizer = getattr(optim, kind)([w], lr=lr, weight_decay=lr)
    for _ in range(2):
        w.grad = Tensor(np.ones(w.shape, np.float32))
        optimizer.step()
    assert isinstance(w.data, np.ndarray)
    assert (w.dtype, w.shape) == (np.float32, np.shape(start))
    assert np.asarray(w).shape == np.shape(start)
    assert (w * 1).requires_grad


def test_momentum_of_a_scalar() -> None:
    w = leaf(1.0)
    optimizer = optim.SGD([w], lr=1.0, momentum=0.5)
    for expected in (0.0, -1.5):
        w.grad = Tensor(np.array(1.0))
        optimizer.step()
        assert w.item() == expected
    assert optimizer.state_dict()["0.momentum"].shape == ()


def test_parameters_without_gradient_stay() -> None:
    w, other = leaf([1.0]), leaf([1.0])
    optimizer = optim.AdamW([w, other], lr=0.1, weight_decay=0.5)
    w.grad = Tensor([1.0])
    data = other.data
    optimizer.step()
    assert other.data is data
    optimizer.zero_grad()
    assert w.grad is None


# -- groups and errors -------------------------------------------------------------------------


def test_groups_inherit_what_they_do_not_say() -> None:
    a, b, c = leaf([1.0]), leaf([1.0]), leaf([1.0])
    groups = optim.SGD([{"params": [a, b], "lr": 0.5}, {"params": c, "momentum": 0.9}], lr=0.1).param_groups
    assert [(g["lr"], g["momentum"], len(g["params"])) for g in groups] == [(0.5, 0.0, 2), (0.1, 0.9, 1)]


@pytest.mark.parametrize("give", [iter, tuple, list, lambda params: (p for p in params)])
def test_parameters_come_as_any_iterable(give: Any) -> None:
    a, b = leaf([1.0]), leaf([1.0])
    assert optim.SGD(give([a, b])).param_groups[0]["params"] == [a, b]
    assert optim.SGD([{"params": give([a, b])}]).param_groups[0]["params"] == [a, b]


W = leaf([1.0, 2.0])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: optim.SGD([]), ValueError, ["SGD", "no parameters"]),
        (lambda: optim.Adam([np.ones(2)]), TypeError, ["Adam", "leaf Tensor", "requires_grad"]),
        (lambda: optim.Adam([W * 2]), TypeError, ["Adam", "leaf Tensor"]),
        (lambda: optim.AdamW([W, W]), ValueError, ["AdamW", "(2,)", "twice"]),
        (lambda: optim.SGD([{"params": [W]}, {"params": W}]), ValueError, ["SGD", "twice"]),
        (lambda: optim.SGD([{"params": [W], "betas": 1, "x": 2}]), ValueError, ["SGD", "betas", "x", "group"]),
        (lambda: optim.SGD([{"lr": 1.0}]), ValueError, ["SGD", "params", "group"]),
        (lambda: optim.SGD([{"params": [W]}, leaf([1.0])]), TypeError, ["SGD", "group"]),
        (lambda: optim.SGD([W], lr=-1.0), ValueError, ["SGD", "lr=-1.0"]),
        (lambda: optim.SGD([W], lr=float("nan")), ValueError, ["SGD", "lr"]),
        (lambda: optim.SGD([W], momentum=1.0), ValueError, ["SGD", "momentum=1.0", "[0, 1)"]),
        (lambda: optim.SGD([W], weight_decay=-0.1), ValueError, ["SGD", "weight_decay=-0.1"]),
        (lambda: optim.SGD([W], nesterov=True), ValueError, ["SGD", "nesterov", "momentum"]),
        (lambda: optim.SGD([W], nesterov=True, momentum=0.9, dampening=0.1), ValueError, ["nesterov", "dampening"]),
        (lambda: optim.Adam([W], betas=(0.9, 1.0)), ValueError, ["Adam", "betas", "[0, 1)"]),
        (lambda: optim.Adam([W], betas=(-0.1, 0.9)), ValueError, ["Adam", "betas"]),
        (lambda: optim.Adam([W], eps=-1e-8), ValueError, ["Adam", "eps"]),
        (lambda: optim.SGD([{"params": [W], "lr": -2.0}]), ValueError, ["SGD", "lr=-2.0"]),
    ],
)  # fmt: skip
def test_errors(call: Any, error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        call()
    assert all(word in str(caught.value) for word in words)


def test_betas_may_be_a_list() -> None:
    w, other = leaf([1.0]), leaf([1.0])
    for p, betas in ((w, [0.5, 0.9]), (other, (0.5, 0.9))):
        p.grad = Tensor([2.0])
        optim.Adam([p], betas=betas).step()
    assert w.tolist() == other.tolist()


# -- state -------------------------------------------------------------------------------------


@each_case
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_saved_and_loaded_it_goes_on_identically(
    kind: str, options: dict[str, Any], suffix: str, tmp_path: Any
) -> None:
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    make = getattr(optim, kind)
    params = [leaf(a) for a in starts(np.float32)]
    optimizer = make(grouped(params, options), **options)
    run(optimizer, params, range(4))
    optimizer.param_groups[0]["lr"] *= 0.5  # a schedule would do that
    sm.save(tmp_path / f"state{suffix}", optimizer)
    copies = [leaf(p.data, p.dtype) for p in params]
    again = make(grouped(copies, options), **options)
    again.load_state_dict(sm.load(tmp_path / f"state{suffix}"))
    expected, actual = run(optimizer, params, range(4, 9)), run(again, copies, range(4, 9))
    assert [[a.tolist() for a in row] for row in actual] == [[a.tolist() for a in row] for row in expected]
    a, b = optimizer.state_dict(), again.state_dict()
    assert {name: v.tolist() for name, v in a.items()} == {name: v.tolist() for name, v in b.items()}


@each_kind
def test_state_before_the_first_step(kind: str) -> None:
    make = getattr(optim, kind)
    again = make([leaf([1.0])], lr=0.5)
    again.load_state_dict(make([leaf([1.0])], lr=0.25).state_dict())
    assert again.param_groups[0]["lr"] == 0.25
    assert again.state == {}


@pytest.mark.parametrize("name", ["m", "v", "t"])
def test_a_state_with_one_buffer_missing_is_refused(name: str) -> None:
    """Taken in silence, it would start the averages of that parameter anew."""
    w = leaf([1.0])
    optimizer = optim.Adam([w])
    w.grad = Tensor([1.0])
    optimizer.step()
    state = optimizer.state_dict()
    del state[f"0.{name}"]
    with pytest.raises(ValueError, match=rf"missing: 0\.{name}"):
        optim.Adam([leaf([1.0])]).load_state_dict(state)


def test_a_state_shares_nothing_with_the_optimiser_it_went_into() -> None:
    a, b = leaf([1.0]), leaf([1.0])
    first, second = (optim.SGD([p], momentum=0.9) for p in (a, b))
    a.grad = b.grad = Tensor([1.0])
    first.step()
    state = first.state_dict()
    second.load_state_dict(state)
    second.step()
    assert state["0.momentum"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s | {"0.momentum": np.ones(3)}, ["0.momentum", "(2,)", "(3,)"]),
        (lambda s: {k: v for k, v in s.items() if k != "lr.0"} | {"1.momentum": np.ones(2)},
         ["missing", "lr.0", "unexpected", "1.momentum"]),
        (lambda s: {}, ["missing", "steps", "lr.0"]),
        (lambda s: s | {"lr.0": np.asarray(np.nan)}, ["lr=nan", "[0, inf)"]),
        (lambda s: s | {"lr.0": np.asarray(-1.0)}, ["lr=-1.0", "[0, inf)"]),
        (lambda s: s | {"steps": np.asarray(-3)}, ["steps", "at least 0", "-3"]),
    ],
)  # fmt: skip
def test_a_state_that_does_not_fit_changes_nothing(change: Any, words: list[str]) -> None:
    w = leaf([1.0, 2.0])
    optimizer = optim.SGD([w], lr=0.1, momentum=0.9)
    w.grad = Tensor([1.0, 1.0])
    optimizer.step()
    before = {name: a.tolist() for name, a in optimizer.state_dict().items()}
    with pytest.raises(ValueError) as caught:
        optimizer.load_state_dict(change(optimizer.state_dict() | {"lr.0": np.asarray(9.0)}))
    assert all(word in str(caught.value) for word in ["SGD", *words])
    assert {name: a.tolist() for name, a in optimizer.state_dict().items()} == before


def test_a_negative_count_of_a_parameters_steps_is_refused() -> None:
    w = leaf([1.0])
    optimizer = optim.Adam([w])
    w.grad = Tensor([1.0])
    optimizer.step()
    with pytest.raises(ValueError, match=r"Adam.load_state_dict: 0\.t must be at least 0, not -1"):
        optimizer.load_state_dict(optimizer.state_dict() | {"0.t": np.asarray(-1)})
    assert optimizer.state[0, "t"] == 1


class Signs(optim.Optimizer):
    """An optimiser of one's own, whose rate is called otherwise."""

    def update(self, p: Any, g: Any, old: Any, new: Any, out: Any, t: int, options: Any) -> None:
        np.subtract(p, options["stride"] * np.sign(g), out=out)


def test_an_optimiser_without_a_learning_rate_saves_none() -> None:
    w = leaf([1.0])
    optimizer, again = Signs([w], stride=0.5), Signs([leaf([1.0])], stride=0.5)
    w.grad = Tensor([-3.0])
    optimizer.step()
    assert w.tolist() == [1.5]
    assert list(optimizer.state_dict()) == ["steps"]
    again.load_state_dict(optimizer.state_dict())
    assert again.steps == 1


@pytest.mark.parametrize("lr", [Tensor(0.1, requires_grad=True), "0.1", None], ids=["tensor", "text", "none"])
def test_a_rate_set_later_is_checked_as_one_given_at_the_start(lr: Any) -> None:
    w = leaf([1.0])
    optimizer = optim.SGD([w])
    optimizer.param_groups[0]["lr"] = lr
    w.grad = Tensor([1.0])
    with pytest.raises(TypeError, match=r"^SGD: lr ") as later:
        optimizer.step()
    with pytest.raises(TypeError) as at_once:
        optim.SGD([w], lr=lr)
    assert str(later.value) == str(at_once.value)
    assert (w.tolist(), optimizer.steps) == ([1.0], 0)


def test_a_tensor_as_rate_set_later_counts_as_its_number() -> None:
    w = leaf([1.0])
    optimizer = optim.SGD([w])
    optimizer.param_groups[0]["lr"] = Tensor(0.5)
    w.grad = Tensor([1.0])
    optimizer.step()
    assert w.tolist() == [0.5]


def test_clipping_counts_a_tensor_given_twice_once() -> None:
    w = leaf([0.0, 0.0])
    w.grad = Tensor([3.0, 4.0])
    assert optim.clip_grad_norm_([w, w], 1.0) == 5.0
    close(w.grad, np.array([0.6, 0.8], np.float32), rtol=1e-5)
