"""Parameters are moved in runs, over flat arrays: what that must not change, and what changes together."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import numpy as np
import pytest
from helpers import close, leaf, normal

from tinygrad_sm import Tensor, optim
from tinygrad_sm.ops import blocked
from tinygrad_sm.optimizer import RUN_BYTES

KINDS = {
    "SGD": lambda params: optim.SGD(params, lr=0.1),
    "momentum": lambda params: optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=0.1),
    "Adam": lambda params: optim.Adam(params, lr=0.1),
    "AdamW": lambda params: optim.AdamW(params, lr=0.1),
}
each_kind = pytest.mark.parametrize("kind", KINDS)
SHAPES = [(3, 2), (), (4,), (0, 2), (1, 5)]


def parameters(dtype: Any = np.float32) -> list[Tensor]:
    return [leaf(normal(*shape, seed=i), dtype) for i, shape in enumerate(SHAPES)]


def give(params: list[Tensor], step: int, scale: float = 1.0) -> None:
    """Set a gradient for each parameter, which depends on its shape and the step only."""
    for i, p in enumerate(params):
        p.grad = Tensor((normal(*p.shape, seed=100 * step + i) * scale).astype(p.dtype))


def values(params: list[Tensor]) -> list[bytes]:
    return [p.data.tobytes() for p in params]


def state(optimizer: Any) -> dict[str, bytes]:
    return {name: a.tobytes() for name, a in optimizer.state_dict().items()}


def alone(kind: str, steps: int, dtype: Any = np.float32) -> list[Tensor]:
    """Move each parameter with an optimiser of its own."""
    params = parameters(dtype)
    optimizers = [KINDS[kind]([p]) for p in params]
    for step in range(steps):
        give(params, step)
        for optimizer in optimizers:
            optimizer.step()
    return params


@each_kind
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_together_is_as_alone(kind: str, dtype: Any) -> None:
    params = parameters(dtype)
    optimizer = KINDS[kind](params)
    for step in range(4):
        give(params, step)
        optimizer.step()
    assert values(params) == values(alone(kind, 4, dtype))
    assert [(p.shape, p.dtype) for p in params] == [(shape, dtype) for shape in SHAPES]


@each_kind
def test_small_parameters_are_parts_of_one_array(kind: str) -> None:
    params = parameters()
    optimizer = KINDS[kind](params)
    for step in range(2):
        give(params, step)
        optimizer.step()
    assert len({id(p.data.base) for p in params}) == 1


@each_kind
def test_dtypes_and_groups_are_mixed(kind: str) -> None:
    pairs = [(p, q) for p, q in zip(parameters(np.float32), parameters(np.float64), strict=True)]
    mixed = [p for pair in pairs for p in pair]
    optimizer = KINDS[kind]([{"params": mixed[::2]}, {"params": mixed[1::2], "lr": 0.1}])
    for step in range(3):
        for half in (mixed[::2], mixed[1::2]):
            give(half, step)
        optimizer.step()
    assert values(mixed[::2]) == values(alone(kind, 3, np.float32))
    assert values(mixed[1::2]) == values(alone(kind, 3, np.float64))


def change_in_place(params: list[Tensor], optimizer: Any) -> None:
    params[2].data *= 0.5


def replace(params: list[Tensor], optimizer: Any) -> None:
    params[2].data = params[2].data * np.float32(0.5)


def reverse_and_halve(params: list[Tensor], optimizer: Any) -> None:
    params[2].data = (params[2].data * np.float32(0.5))[::-1].copy()[::-1]  # a view with other strides


@each_kind
@pytest.mark.parametrize("change", [change_in_place, replace, reverse_and_halve])
def test_what_others_do_to_a_parameter_counts(kind: str, change: Any) -> None:
    params, singles = parameters(), parameters()
    optimizer, optimizers = KINDS[kind](params), [KINDS[kind]([p]) for p in singles]
    for step in range(4):
        give(params, step)
        give(singles, step)
        optimizer.step()
        for single in optimizers:
            single.step()
        change(params, optimizer)
        change(singles, optimizers[2])
    assert values(params) == values(singles)


def test_two_parameters_that_exchange_their_arrays() -> None:
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    optimizer = optim.SGD([a, b], lr=1.0)
    for p in (a, b):
        p.grad = Tensor(np.zeros(2))
    optimizer.step()
    a.data, b.data = b.data, a.data
    optimizer.step()
    assert (a.tolist(), b.tolist()) == ([3.0, 4.0], [1.0, 2.0])


def test_a_parameter_that_takes_another_dtype_keeps_it() -> None:
    params = parameters()
    optimizer = optim.Adam(params, lr=0.1)
    give(params, 0)
    optimizer.step()
    params[0].data = params[0].data.astype(np.float64)
    give(params, 1)
    optimizer.step()
    assert [p.dtype for p in params] == [np.float64] + [np.float32] * 4
    close([p.data for p in params], [p.data for p in alone("Adam", 2)], rtol=1e-5, atol=1e-6)


def test_a_parameter_that_takes_anothers_place_in_its_group_is_moved() -> None:
    params = parameters()
    optimizer = optim.SGD(params, lr=0.1)
    give(params, 0)
    optimizer.step()
    new = leaf(np.ones(SHAPES[2]), np.float32)
    old, before = optimizer.param_groups[0]["params"][2], values(params)[2]
    optimizer.param_groups[0]["params"][2] = new
    new.grad = Tensor(np.ones(SHAPES[2], np.float32))
    optimizer.step()
    close(new.data, np.full(SHAPES[2], 0.9), rtol=1e-6)
    assert old.data.tobytes() == before


@each_kind
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_a_copy_that_is_changed_in_place_moves_from_there(kind: str, copied: Any) -> None:
    params = parameters()
    optimizer = KINDS[kind](params)
    give(params, 0)
    optimizer.step()
    others, other = copied((params, optimizer))
    for some, its in ((params, optimizer), (others, other)):
        some[2].data *= 0.5
        give(some, 1)
        its.step()
    assert values(others) == values(params)


@each_kind
def test_who_moves_changes_from_step_to_step(kind: str) -> None:
    params, singles = parameters(), parameters()
    optimizer, optimizers = KINDS[kind](params), [KINDS[kind]([p]) for p in singles]
    for step, moving in enumerate([(0, 2), (0, 1, 2, 3, 4), (1,), (0, 2, 4), (0, 2, 4), (0, 1, 2, 3, 4)]):
        give(params, step)
        give(singles, step)
        for i in set(range(len(SHAPES))) - set(moving):
            params[i].grad = None
        optimizer.step()
        for i in moving:
            optimizers[i].step()
    assert values(params) == values(singles)
    together = optimizer.state_dict()
    for i, single in enumerate(optimizers):
        for name, a in single.state_dict().items():
            if name.startswith("0."):
                assert together[f"{i}.{name[2:]}"].tobytes() == a.tobytes()


def test_momentum_that_comes_later_starts_with_the_gradient() -> None:
    w = leaf([1.0])
    optimizer = optim.SGD([w], lr=1.0, dampening=0.5)
    for momentum, expected in ((0.0, 0.0), (0.0, -1.0), (0.5, -2.0), (0.5, -3.0), (0.0, -4.0), (0.5, -5.0)):
        w.grad = Tensor(np.ones(1))
        optimizer.param_groups[0]["momentum"] = momentum
        optimizer.step()
        assert w.tolist() == [expected]  # b is 1 at first, then ½·1 + ½·1


LARGE = [(RUN_BYTES // 4 + 1,), (3 * blocked.BLOCK_BYTES // 4, 2), (RUN_BYTES // 8,), (RUN_BYTES // 8,), (2,)]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_large_parameters_are_as_parts_of_them(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every bit is the same: whatever the blocks, the runs and the threads."""
    monkeypatch.setattr(blocked, "_threads", threads)
    large = [leaf(np.ones(shape), np.float32) for shape in LARGE]
    some = [np.unique(np.linspace(0, p.size - 1, 50).astype(int)) for p in large]
    small = [leaf(p.data.reshape(-1)[i], np.float32) for p, i in zip(large, some, strict=True)]
    optimizers = [optim.AdamW(large, lr=0.1), optim.AdamW(small, lr=0.1)]
    for step in range(3):
        for p, q, i in zip(large, small, some, strict=True):
            g = normal(*p.shape, seed=step).astype(np.float32)
            p.grad, q.grad = Tensor(g), Tensor(g.reshape(-1)[i])
        for optimizer in optimizers:
            optimizer.step()
    for p, q, i in zip(large, small, some, strict=True):
        assert p.data.reshape(-1)[i].tobytes() == q.data.tobytes()


@each_kind
def test_a_step_that_fails_changes_nothing(kind: str) -> None:
    """A misshapen gradient of the last parameter; a gradient that overflows, where warnings are errors."""
    params = parameters()
    optimizer = KINDS[kind](params)
    give(params, 0)
    optimizer.step()
    before = values(params), state(optimizer)
    give(params, 1)
    params[-1].data = np.zeros((7,), np.float32)
    with pytest.raises(ValueError, match=r"parameter 4 now has shape \(7,\), but its gradient \(1, 5\)"):
        optimizer.step()
    params[-1].data = np.frombuffer(before[0][-1], np.float32).reshape(SHAPES[-1])
    assert (values(params), state(optimizer)) == before


def test_state_dict_names_stand_in_the_order_of_the_parameters() -> None:
    params = parameters()
    optimizer = optim.Adam(params)
    give(params, 0)
    params[1].grad = None
    optimizer.step()
    names = [f"{i}.{name}" for i, name in itertools.product((0, 2, 3, 4), ("m", "v", "t"))]
    assert list(optimizer.state_dict()) == ["steps", "lr.0", *names]
    assert optimizer.state_dict()["0.t"].dtype == np.int64


@pytest.mark.parametrize("kind", ["Adam", "AdamW"])
def test_half_precision_is_computed_in_single(kind: str) -> None:
    """In half precision g² and ε would be 0, and the step 0/0."""
    w = leaf([1.0, 2.0], np.float16)
    w.grad = Tensor(np.full(2, 1e-4, np.float16))
    optimizer = getattr(optim, kind)([w], lr=0.125, weight_decay=0.0)
    optimizer.step()
    assert w.tolist() == [0.875, 1.875]
    assert w.dtype == np.float16
    assert optimizer.state_dict()["0.v"].dtype == np.float32
