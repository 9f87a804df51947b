"""The public functions as a set: what they take, what they keep, and dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import close, leaf, normal

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor

M, V = [[0.5, 0.25], [0.75, 0.125]], [0.5, 0.25]
CALLS: dict[str, Any] = {
    "cumsum": lambda a: F.cumsum(a(M), 1), "expand_dims": lambda a: F.expand_dims(a(M), 0),
    "maximum": lambda a: F.maximum(a(M), a(V)), "minimum": lambda a: F.minimum(a(M), a(V)),
    "reshape": lambda a: F.reshape(a(M), (4,)), "squeeze": lambda a: F.squeeze(a(M)),
    "swapaxes": lambda a: F.swapaxes(a(M), 0, 1), "transpose": lambda a: F.transpose(a(M)),
    "broadcast_to": lambda a: F.broadcast_to(a(V), (3, 2)), "clip": lambda a: F.clip(a(M), 0.2, 0.6),
    "concatenate": lambda a: F.concatenate([a(M), a(M)], 1), "cross_entropy": lambda a: F.cross_entropy(a(M), [0, 1]),
    "dropout": lambda a: F.dropout(a(M), 0.5, training=False), "einsum": lambda a: F.einsum("ij,jk->ik", a(M), a(M)),
    "embedding": lambda a: F.embedding([1, 0, 1], a(M)), "flip": lambda a: F.flip(a(M), 0),
     "gelu": lambda a: F.gelu(a(M)),
    "kl_div": lambda a: F.kl_div(a(M), a(M)), "l1_loss": lambda a: F.l1_loss(a(M), a(M)),
    "layer_norm": lambda a: F.layer_norm(a(M), 2, a(V), a(V)), "linear": lambda a: F.linear(a(M), a(M), a(V)),
    "log_softmax": lambda a: F.log_softmax(a(M)), "logit": lambda a: F.logit(a(M)),
     "logsumexp": lambda a: F.logsumexp(a(M)),
    "matmul": lambda a: F.matmul(a(M), a(M)), "moveaxis": lambda a: F.moveaxis(a(M), 0, 1),
    "linear_cross_entropy": lambda a: F.linear_cross_entropy(a(M), a(M), [0, 1], bias=a(V)),
    "mse_loss": lambda a: F.mse_loss(a(M), a(M)), "nll_loss": lambda a: F.nll_loss(a(M), [0, 1]),
    "one_hot": lambda a: F.one_hot([0, 1], 2), "pad": lambda a: F.pad(a(M), 1), "relu": lambda a: F.relu(a(M)),
    "rotary": lambda a: F.rotary(a(M)),
    "rms_norm": lambda a: F.rms_norm(a(M), 2, a(V)), "sigmoid": lambda a: F.sigmoid(a(M)),
     "silu": lambda a: F.silu(a(M)),
    "scaled_dot_product_attention": lambda a: F.scaled_dot_product_attention(a(M), a(M), a(M)),
    "softmax": lambda a: F.softmax(a(M)), "split": lambda a: F.split(a(M), 2)[1], "stack": lambda a: F.stack([a(M),
     a(M)]),
    "take_along_axis": lambda a: F.take_along_axis(a(M), np.array([[0], [1]]), 1), "tanh": lambda a: F.tanh(a(M)),
    "tril": lambda a: F.tril(a(M)), "triu": lambda a: F.triu(a(M)), "where": lambda a: F.where([True, False], a(M),
     a(V)),
}  # fmt: skip
every = pytest.mark.parametrize("name", CALLS)
WITHOUT_GRADIENT = {"one_hot"}


def test_the_table_has_every_public_function() -> None:
    assert {name for name in F.__all__ if name not in CALLS} == set(), "each needs a call in CALLS, above"
    assert all(callable(getattr(F, name)) for name in F.__all__)


@every
def test_tensors_give_tensors_of_their_dtype_that_differentiate(name: str) -> None:
    for dtype in (np.float16, np.float32, np.float64):
        made: list[Tensor] = []

        def boxed(data: Any, dtype: Any = dtype, made: Any = made) -> Tensor:
            made.append(leaf(data, dtype))
            return made[-1]

        y = CALLS[name](boxed)
        assert isinstance(y, Tensor)
        if name in WITHOUT_GRADIENT:
            assert not y.requires_grad
            continue
        assert y.dtype == dtype
        y.sum().backward()
        assert {t.grad.dtype for t in made} == {np.dtype(dtype)}


@every
def test_arrays_are_taken_and_give_the_same_numbers(name: str) -> None:
    tensors, arrays = CALLS[name](lambda data: Tensor(np.array(data))), CALLS[name](np.array)
    close(arrays, tensors, rtol=1e-14)
    assert isinstance(arrays, np.ndarray | np.generic) or name in WITHOUT_GRADIENT


@every
def test_lists_are_taken(name: str) -> None:
    close(CALLS[name](lambda data: data), CALLS[name](np.array), rtol=1e-5, atol=1e-6)


@every
def test_every_public_function_is_documented(name: str) -> None:
    assert getattr(F, name).__doc__.strip()


def test_dropout_keeps_the_mean_and_the_dtype() -> None:
    for dtype in (np.float16, np.float32, np.float64):
        x = Tensor(np.ones((100, 100), dtype), requires_grad=True)
        y = F.dropout(x, 0.2, rng=np.random.default_rng(0))
        assert y.dtype == dtype
        assert set(np.unique(y.data)) == {dtype(0), dtype(1.25)}
        assert 0.77 < (y.data > 0).mean() < 0.83
        y.sum().backward()
        assert np.array_equal(x.grad.data, y.data)


def test_dropout_does_nothing_when_it_has_nothing_to_do() -> None:
    x = leaf([1.0, 2.0])
    assert F.dropout(x, 0.0).tolist() == [1.0, 2.0]
    assert F.dropout(x, 0.9, training=False).tolist() == [1.0, 2.0]


def test_dropout_repeats_with_the_seed() -> None:
    x = Tensor(normal(50))
    sm.manual_seed(3)
    a, b = F.dropout(x), F.dropout(x)
    sm.manual_seed(3)
    assert np.array_equal(F.dropout(x).data, a.data)
    assert not np.array_equal(a.data, b.data)


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, np.nan])
def test_dropout_refuses_other_shares(p: float) -> None:
    with pytest.raises(ValueError, match=r"dropout: p must be in \[0, 1\), not"):
        F.dropout(Tensor([1.0]), p)
