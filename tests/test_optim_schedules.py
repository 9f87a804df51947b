"""Learning-rate schedules and gradient clipping, against their formulas and PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import close, leaf

import tinygrad_sm as sm
from tinygrad_sm import Tensor, optim, optimizer

# -- schedules ---------------------------------------------------------------------------------


def rates(schedule: Any, steps: int) -> list[list[float]]:
    """Return every group's rate at each step."""
    found = []
    for _ in range(steps):
        found.append([group["lr"] for group in schedule.optimizer.param_groups])
        schedule.step()
    return found


def optimizer_of(*lrs: float) -> optim.SGD:
    return optim.SGD([{"params": [leaf([1.0])], "lr": lr} for lr in lrs])


@pytest.mark.parametrize(
    ("total", "warmup", "floor"), [(10, 0, 0.0), (10, 4, 0.0), (10, 1, 0.1), (7, 7, 0.5), (1, 0, 0.0)]
)
def test_cosine_schedule_by_formula(total: int, warmup: int, floor: float) -> None:
    found = rates(optim.CosineSchedule(optimizer_of(1.0, 0.5), total, warmup=warmup, floor=floor), total + 3)
    for step, pair in enumerate(found):
        if step < warmup:
            expected = (step + 1) / warmup
        elif step >= total:
            expected = floor if total > warmup or step > total else 1.0
        else:
            expected = floor + (1 - floor) * (1 + np.cos(np.pi * (step - warmup) / (total - warmup))) / 2
        assert pair == pytest.approx([expected, expected / 2])


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")  # PyTorch's own schedulers warn of each other
@pytest.mark.parametrize(("total", "warmup", "floor"), [(10, 0, 0.0), (12, 4, 0.0), (12, 2, 0.1)])
def test_cosine_schedule_like_torch(total: int, warmup: int, floor: float) -> None:
    torch = pytest.importorskip("torch")
    other = torch.optim.SGD([torch.ones(1)], lr=0.3)
    schedulers = torch.optim.lr_scheduler
    theirs = schedulers.CosineAnnealingLR(other, total - warmup, eta_min=0.3 * floor)
    if warmup:
        rise = schedulers.LinearLR(other, 1 / warmup, total_iters=warmup - 1)
        theirs = schedulers.SequentialLR(other, [rise, theirs], [warmup])
    expected = []
    for _ in range(total + 1):
        expected.append([other.param_groups[0]["lr"]])
        theirs.step()
    actual = rates(optim.CosineSchedule(optimizer_of(0.3), total, warmup=warmup, floor=floor), total + 1)
    close(actual, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("step_size", "gamma"), [(1, 0.5), (3, 0.1), (4, 1.0), (2, 0.0)])
def test_step_schedule(step_size: int, gamma: float) -> None:
    found = rates(optim.StepSchedule(optimizer_of(1.0, 0.2), step_size, gamma=gamma), 10)
    close(found, [[gamma ** (t // step_size), 0.2 * gamma ** (t // step_size)] for t in range(10)])


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("step_size", "gamma"), [(1, 0.5), (3, 0.1)])
def test_step_schedule_like_torch(step_size: int, gamma: float) -> None:
    torch = pytest.importorskip("torch")
    other = torch.optim.SGD([torch.ones(1)], lr=0.3)
    theirs, expected = torch.optim.lr_scheduler.StepLR(other, step_size, gamma), []
    for _ in range(9):
        expected.append([other.param_groups[0]["lr"]])
        theirs.step()
    close(rates(optim.StepSchedule(optimizer_of(0.3), step_size, gamma=gamma), 9), expected)


@pytest.mark.parametrize(
    "make", [lambda o: optim.CosineSchedule(o, 20, warmup=5, floor=0.1), lambda o: optim.StepSchedule(o, 3, gamma=0.5)]
)
def test_a_schedule_goes_on_from_its_state(make: Any, tmp_path: Any) -> None:
    schedule = make(optimizer_of(0.3, 0.6))
    rates(schedule, 7)
    sm.save(tmp_path / "s.npz", schedule)
    again = make(optimizer_of(9.0, 9.0))
    again.load_state_dict(sm.load(tmp_path / "s.npz"))
    assert rates(again, 10) == rates(schedule, 10)
    with pytest.raises(ValueError, match=r"base: expected \(2,\), file has \(1,\)"):
        again.load_state_dict(make(optimizer_of(1.0)).state_dict())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda o: optim.CosineSchedule(o, 0), ["CosineSchedule", "total", "0"]),
        (lambda o: optim.CosineSchedule(o, 3, warmup=4), ["warmup", "4", "3"]),
        (lambda o: optim.CosineSchedule(o, 3, warmup=-1), ["warmup", "-1"]),
        (lambda o: optim.StepSchedule(o, 0), ["StepSchedule", "step_size", "0"]),
    ],
)
def test_schedule_errors(call: Any, words: list[str]) -> None:
    optimizer = optimizer_of(0.3)
    with pytest.raises(ValueError) as caught:
        call(optimizer)
    assert all(word in str(caught.value) for word in words)
    assert optimizer.param_groups[0]["lr"] == 0.3


# -- clipping ----------------------------------------------------------------------------------


def with_gradients(dtype: Any = np.float64) -> list[Tensor]:
    """Return four parameters, the last without gradient, one a scalar."""
    params = [leaf(np.zeros(shape), dtype) for shape in [(2, 2), (3,), (), (2,)]]
    for p, g in zip(params, [[[1, -2], [3, 4]], [0, -5, 6], 7.0], strict=False):
        p.grad = Tensor(np.array(g, dtype))
    return params


NORM = float(np.sqrt(1 + 4 + 9 + 16 + 25 + 36 + 49))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("max_norm", [0.5, 3.0, NORM - 0.01, NORM + 0.01, 100.0])
def test_clip_grad_norm(max_norm: float, dtype: Any) -> None:
    params = with_gradients(dtype)
    before = [p.grad.data.copy() for p in params[:3]]
    assert optim.clip_grad_norm_(iter(params), max_norm) == pytest.approx(NORM, rel=1e-6)
    scale = max_norm / NORM if max_norm < NORM else 1.0
    close([p.grad.data for p in params[:3]], [g * scale for g in before], rtol=1e-5)
    assert all(p.grad.dtype == dtype for p in params[:3])
    assert params[3].grad is None
    after = np.sqrt(sum((p.grad.data**2).sum() for p in params[:3]))
    assert after <= max_norm


@pytest.mark.torch
@pytest.mark.parametrize("max_norm", [0.5, 3.0, 100.0])
def test_clip_grad_norm_like_torch(max_norm: float) -> None:
    torch = pytest.importorskip("torch")
    params, theirs = with_gradients(), []
    for p in params:
        theirs.append(torch.zeros(p.shape, dtype=torch.float64, requires_grad=True))
        theirs[-1].grad = None if p.grad is None else torch.tensor(p.grad.data)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm)
    close(optim.clip_grad_norm_(params, max_norm), expected.item())
    close([p.grad for p in params[:3]], [q.grad.numpy() for q in theirs[:3]])


def test_clipping_one_tensor_as_pytorch_allows() -> None:
    w = leaf([0.0, 0.0])
    w.grad = Tensor([3.0, 4.0])
    assert optim.clip_grad_norm_(w, 1.0) == pytest.approx(5)
    close(w.grad, np.array([0.6, 0.8], np.float32), rtol=1e-5)


@pytest.mark.parametrize(("dtype", "size"), [(np.float16, 100), (np.float32, 1e20)])
def test_clipping_where_squares_leave_the_range_of_the_dtype(dtype: Any, size: float) -> None:
    w = leaf([0.0, 0.0], dtype)
    w.grad = Tensor(np.array([3, 4], dtype) * dtype(size))
    assert optim.clip_grad_norm_([w], 1.0) == pytest.approx(5 * size, rel=1e-3)
    close(w.grad, np.array([0.6, 0.8], dtype), rtol=2e-3)


def test_clipping_leaves_arrays_that_others_hold() -> None:
    w = leaf([0.0, 0.0])
    g = np.array([3.0, 4.0])
    w.grad = Tensor(g)
    optim.clip_grad_norm_([w], 1.0)
    assert g.tolist() == [3.0, 4.0]


def test_clipping_without_gradients_and_with_zeros() -> None:
    w = leaf([0.0, 0.0])
    assert optim.clip_grad_norm_([w], 1.0) == 0
    assert optim.clip_grad_norm_([], 1.0) == 0
    w.grad = Tensor([0.0, 0.0])
    assert optim.clip_grad_norm_([w], 1.0) == 0
    assert w.grad.tolist() == [0, 0]


@pytest.mark.parametrize("max_norm", [0.0, -1.0, float("nan")])
def test_clipping_refuses(max_norm: float) -> None:
    with pytest.raises(ValueError, match="clip_grad_norm_: max_norm must be above 0"):
        optim.clip_grad_norm_(with_gradients(), max_norm)


def test_an_optimiser_without_a_rate_has_nothing_to_schedule() -> None:
    class Plain(optimizer.Optimizer):
        """Has no options at all."""

    with pytest.raises(ValueError, match=r"CosineSchedule: Plain has no learning rate \(lr\) to schedule"):
        optim.CosineSchedule(Plain([leaf([1.0])]), 10)
