"""The library's generator: seeds repeat, and a state can be put away and taken up again."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_sm as sm
from tinygrad_sm.random import default_rng, dropout_mask, get_state, set_state


def test_equal_seeds_give_equal_numbers() -> None:
    a = sm.manual_seed(5).normal(size=3)
    b = default_rng().normal(size=3)
    assert not np.array_equal(a, b)
    sm.manual_seed(5)
    assert np.array_equal(default_rng().normal(size=3), a)
    assert np.array_equal(default_rng().normal(size=3), b)
    assert not np.array_equal(sm.manual_seed(6).normal(size=3), a)


def test_a_generator_of_ones_own_is_used_as_it_is() -> None:
    rng = np.random.default_rng(0)
    assert default_rng(rng) is rng
    before = get_state()
    dropout_mask((3,), 0.5, np.float32, rng)
    assert np.array_equal(get_state(), before)


@pytest.mark.parametrize("own", [False, True])
def test_a_state_goes_through_an_array(own: bool) -> None:
    rng = np.random.default_rng(1) if own else None
    default_rng(rng).integers(0, 10, dtype=np.uint32)  # leaves half of a number behind
    state = get_state(rng)
    assert (state.dtype, state.shape) == (np.uint64, (6,))
    expected = [default_rng(rng).normal(size=3), default_rng(rng).integers(0, 1 << 30, 3, dtype=np.uint32)]
    default_rng(rng).normal(size=100)
    set_state(state.copy(), rng)
    actual = [default_rng(rng).normal(size=3), default_rng(rng).integers(0, 1 << 30, 3, dtype=np.uint32)]
    assert all(np.array_equal(a, e) for a, e in zip(actual, expected, strict=True))
    fresh = np.random.default_rng(99)
    set_state(state, fresh)
    assert np.array_equal(fresh.normal(size=3), expected[0])


def test_only_numpys_default_generator_has_such_a_state() -> None:
    with pytest.raises(TypeError, match="PCG64, not MT19937"):
        get_state(np.random.Generator(np.random.MT19937(0)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=lambda d: d.__name__)
def test_a_dropout_mask_has_mean_one(dtype: type) -> None:
    mask = dropout_mask((200, 200), 0.75, dtype, np.random.default_rng(0))
    assert mask.dtype == dtype
    assert set(np.unique(mask)) == {0.0, 4.0}
    assert mask.mean(dtype=np.float64) == pytest.approx(1.0, abs=0.03)
