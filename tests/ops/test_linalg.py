"""Products: matmul of any batch shapes, linear, einsum of any specification."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from helpers import close, leaf, normal
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from references import einsum as einsum_by_loops

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor

Shapes = npst.BroadcastableShapes


@given(shapes=npst.mutually_broadcastable_shapes(signature=np.matmul.signature, max_dims=2, max_side=3, min_side=0))
@example(shapes=Shapes([(2, 3, 0), (0, 4)], (2, 3, 4)))
@example(shapes=Shapes([(2, 3, 4), (4, 0)], (2, 3, 0)))
@example(shapes=Shapes([(0, 3, 4), (4, 2)], (0, 3, 2)))
def test_matmul_of_any_shapes(shapes: Any) -> None:
    a, b = (normal(*shape, seed=i) for i, shape in enumerate(shapes.input_shapes))
    x, y = leaf(a), leaf(b)
    out = x @ y
    close(out, np.matmul(a, b), rtol=1e-13)
    c = normal(*out.shape, seed=2)
    # out is bilinear, so that ⟨c, a @ db⟩ = ⟨∇b, db⟩, and the same for a
    da, db = normal(*a.shape, seed=3), normal(*b.shape, seed=4)
    for create_graph in (False, True):
        ga, gb = sm.grad(out, [x, y], c, create_graph=create_graph)
        assert (ga.shape, gb.shape) == (a.shape, b.shape)
        close((ga.data * da).sum(), (c * np.matmul(da, b)).sum(), rtol=1e-10, atol=1e-12)
        close((gb.data * db).sum(), (c * np.matmul(a, db)).sum(), rtol=1e-10, atol=1e-12)


def test_matmul_of_tensors_and_arrays_in_either_order() -> None:
    a, b = normal(2, 3), normal(3, 4)
    for left, right in product((a, Tensor(a)), (b, Tensor(b))):
        close(left @ right, a @ b)
        close(np.matmul(left, right), a @ b)
    x = leaf(b)
    close(sm.grad((a @ x).sum(), x)[0], a.T @ np.ones((2, 4)))


@pytest.mark.parametrize("lead", [(), (2,), (2, 3), (0,), (2, 0)], ids=str)
@pytest.mark.parametrize("sizes", [(3, 4), (1, 1), (0, 4), (3, 0)], ids=str)
@pytest.mark.parametrize("with_bias", [True, False])
def test_linear_is_the_product_with_the_transpose(lead: Any, sizes: Any, with_bias: bool) -> None:
    n, m = sizes
    x, w, b = leaf(normal(*lead, n)), leaf(normal(m, n, seed=1)), leaf(normal(m, seed=2))
    inputs = [x, w, b] if with_bias else [x, w]
    y, z = F.linear(*inputs), x @ w.T + (b if with_bias else 0.0)
    close(y, z, rtol=1e-12)
    c = normal(*y.shape, seed=3)
    close(sm.grad(y, inputs, c), sm.grad(z, inputs, c), rtol=1e-11)
    close(sm.grad(y, inputs, c, create_graph=True), sm.grad(z, inputs, c), rtol=1e-11)


@st.composite
def einsum_calls(draw: Any) -> tuple[str, list[Any]]:
    """Draw a specification with repeated, shared, free and summed indices, and arrays that fit it."""
    terms = draw(st.lists(st.text("abcd", max_size=3), min_size=1, max_size=3))
    letters = sorted(set("".join(terms)))
    output = "".join(draw(st.permutations(draw(st.lists(st.sampled_from(letters), unique=True))))) if letters else ""
    sizes = {letter: draw(st.integers(1, 3)) for letter in letters}
    arrays = [normal(*(sizes[letter] for letter in term), seed=i) for i, term in enumerate(terms)]
    return f"{','.join(terms)}->{output}", arrays


@given(call=einsum_calls())
def test_einsum_of_any_specification(call: Any) -> None:
    spec, arrays = call
    leaves = [leaf(a) for a in arrays]
    y = F.einsum(spec, *leaves)
    close(y, einsum_by_loops(*arrays, spec=spec), rtol=1e-10, atol=1e-12)
    c = normal(*y.shape, seed=9)
    for create_graph in (False, True):
        for i, g in enumerate(sm.grad(y, leaves, c, create_graph=create_graph)):
            step = normal(*arrays[i].shape, seed=5)  # linear in each operand: the adjoint
            moved = einsum_by_loops(*arrays[:i], step, *arrays[i + 1 :], spec=spec)
            close((g.data * step).sum(), (c * moved).sum(), rtol=1e-9, atol=1e-11)


IMPLICIT = [("ij,jk", (2, 3), (3, 4)), ("ba", (2, 3)), ("ii", (3, 3)), ("i,i", (3,), (3,)), ("i,j", (2,), (3,))]
ELLIPSIS = [
    ("...ij,...jk->...ik", (5, 2, 3), (5, 3, 4)), ("...ij,jk->...ik", (5, 2, 3), (3, 4)), ("...i->...", (2, 3, 4)),
    ("...i,...i->...", (1, 3), (2, 3)), ("...i,...i", (2, 3), (3,)), ("i...->...i", (2, 3, 4)), ("...->...", (2, 3)),
    ("...i,...j->...ij", (4, 1, 2), (5, 3)), (" i j , j k -> i k ", (2, 3), (3, 2)),
]  # fmt: skip
STRETCHED = [("i,i->i", (1,), (3,)), ("ij,ij->", (2, 1), (2, 3)), ("ij,jk->ik", (2, 1), (3, 4))]


@pytest.mark.parametrize("call", [*IMPLICIT, *ELLIPSIS, *STRETCHED], ids=str)
def test_einsum_in_every_notation_of_numpy(call: Any) -> None:
    spec, *shapes = call
    arrays = [normal(*shape, seed=i) for i, shape in enumerate(shapes)]
    leaves = [leaf(a) for a in arrays]
    y = np.einsum(spec, *leaves)
    close(y, np.einsum(spec, *arrays), rtol=1e-12)
    c = normal(*y.shape, seed=9)
    for i, g in enumerate(sm.grad(y, leaves, c)):
        step = normal(*arrays[i].shape, seed=5)
        close((g.data * step).sum(), (c * np.einsum(spec, *arrays[:i], step, *arrays[i + 1 :])).sum(), rtol=1e-10)


ERRORS = [
    ("matmul", lambda: leaf(normal(2, 3)) @ leaf(normal(2, 3)), ValueError,
     r"^matmul\(float64\[2, 3\], float64\[2, 3\]\)"),
    ("matmul of a scalar", lambda: leaf(normal(2, 3)) @ 2.0, ValueError, "^matmul"),
    ("linear", lambda: F.linear(normal(2, 3), normal(4, 5)), ValueError, r"linear: x of shape \(2, 3\) .*\(4, 5\)"),
    ("linear, bias", lambda: F.linear(normal(2, 3), normal(4, 3), normal(3)), ValueError,
     r"linear: bias of shape \(3,\)"),
    ("linear, scalar", lambda: F.linear(Tensor(1.0), normal(4, 3)), ValueError, r"linear: x of shape \(\)"),
    ("einsum, operands", lambda: F.einsum("ij,jk->ik", normal(2, 3)), ValueError, "names 2 operands, but 1 are given"),
    ("einsum, axes", lambda: F.einsum("ijk->i", normal(2, 3)), ValueError, "^einsum"),
    ("einsum, too few", lambda: F.einsum("i...j...->", normal(2, 3)), ValueError, "^einsum"),
    ("einsum, lengths", lambda: F.einsum("ij,jk->ik", normal(2, 3), normal(2, 3)), ValueError,
     r"^einsum: in 'ij,jk->ik' the index j has lengths \[2, 3\]; shapes \(2, 3\), \(2, 3\)"),
    ("einsum, unknown output", lambda: F.einsum("ij->k", normal(2, 3)), ValueError, "^einsum"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "f", "kind", "message"), ERRORS, ids=[e[0] for e in ERRORS])
def test_errors(name: str, f: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind, match=message):
        f()
