"""sm.record: source lines, kept gradients, and arrays that were changed under the graph's feet."""

from __future__ import annotations

import copy
import gc
import inspect
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import DIFFERENTIABLE, Case, close, graph_of, leaf, normal

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Tensor, nn
from tinygrad_sm.inspection.watch import Note
from tinygrad_sm.mode import MODE


def test_a_tensor_knows_the_line_that_made_it() -> None:
    x = leaf([1.0, 2.0])
    with sm.record():
        y = np.exp(x * 2)
        here = inspect.currentframe().f_lineno - 1  # type: ignore[union-attr]
    for t in (y, y.args[0]):
        assert (t.note.file, t.note.line) == (__file__, here)
        assert str(t.note) == f"test_watch.py:{here}: y = np.exp(x * 2)"


def test_the_line_is_the_users_however_deep_the_op_lies() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.attention = nn.MultiHeadAttention(4, 2)

        def __call__(self, x: Tensor) -> Tensor:
            return F.cross_entropy(self.attention(x).reshape(3, 4), [0, 1, 2])

    with sm.record():
        loss = Net()(leaf(normal(1, 3, 4), np.float32))
    made = [t for t in graph_of(loss) if t.op is not None]
    assert len(made) > 5
    assert {str(t.note).partition(": ")[2] for t in made} == {
        "return F.cross_entropy(self.attention(x).reshape(3, 4), [0, 1, 2])"
    }


def test_every_gradient_is_kept() -> None:
    x = leaf([1.0, 2.0])
    with sm.record():
        y = x * x
        z = y.sum()
    z.backward()
    assert (x.grad.tolist(), y.grad.tolist(), z.grad.item()) == ([2.0, 4.0], [1.0, 1.0], 1.0)


def test_outside_nothing_is_noted() -> None:
    x = leaf([1.0])
    with sm.record():
        pass
    y = x * 2
    assert (y.note, y.retains, MODE.get().watch) == (None, False, None)


def test_only_this_thread_records() -> None:
    x, made = leaf([1.0]), []
    with sm.record():
        thread = threading.Thread(target=lambda: made.append(x * 2))
        thread.start()
        thread.join()
    assert made[0].note is None


def test_recording_survives_other_modes_inside_it() -> None:
    x = leaf([1.0])
    with sm.record():
        with sm.no_grad(), sm.enable_grad():
            y = x * 2
        (g,) = sm.grad((x**3).sum(), x, create_graph=True)
    assert y.note is not None
    assert g.note is not None


def test_an_error_inside_ends_the_recording() -> None:
    with pytest.raises(KeyError), sm.record():
        raise KeyError
    assert MODE.get().watch is None


def changed_source() -> Tensor:
    data = np.ones(3)
    x = Tensor(data, requires_grad=True, name="x")
    y = (x * x).sum()
    data[0] = 5
    return y


def changed_data() -> Tensor:
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    x.data[0] = 5
    return y


def changed_through_a_view() -> Tensor:
    data = np.ones((4, 2))
    x = Tensor(data[::2], requires_grad=True)
    y = x.exp().log().sum()
    data.reshape(-1)[5] = 3
    return y


def changed_result() -> Tensor:
    y = leaf([1.0, 2.0]).exp()
    y.data[0] = 9
    return y.sum()


def changed_constant() -> Tensor:
    c = np.ones(2)
    y = (leaf([1.0, 2.0]) * c).sum()
    c *= 2
    return y


def changed_target() -> Tensor:
    target = np.array([0, 1])
    y = F.cross_entropy(leaf(normal(2, 3)), target)
    target[0] = 2
    return y


def changed_option() -> Tensor:
    mask = np.ones((2, 2), bool)
    x = leaf(normal(2, 2))
    y = F.scaled_dot_product_attention(x, x, x, mask=mask).sum()
    mask[0, 0] = False
    return y


def changed_half() -> Tensor:
    data = np.ones((2, 0, 1), np.float16), np.ones((), np.float16)
    y = sum((Tensor(a, requires_grad=True) ** 2).sum() for a in data)
    data[1][()] = 2
    return y


MUTATIONS: list[tuple[Callable[[], Tensor], str]] = [
    (changed_source, "mul: argument 0 'x'"), (changed_data, "mul: argument 0"), (changed_through_a_view, "exp: "),
    (changed_result, "exp: the result"), (changed_constant, "mul: argument 1"),
    (changed_target, "cross_entropy: argument 1"), (changed_option, "attention: option mask"),
    (changed_half, "pow: argument 0"),
]  # fmt: skip


@pytest.mark.parametrize("context", [sm.record, sm.detect_anomaly], ids=lambda f: f.__name__)
@pytest.mark.parametrize(("f", "message"), MUTATIONS, ids=[f.__name__ for f, _ in MUTATIONS])
def test_an_array_changed_in_place_is_named(f: Callable[[], Tensor], message: str, context: Any) -> None:
    with context():
        loss = f()
        with pytest.raises(RuntimeError, match=f"^{message}.* was changed in place(?s:.*)line: test_watch.py"):
            loss.backward()


@pytest.mark.parametrize("case", DIFFERENTIABLE)
@pytest.mark.parametrize("create_graph", [False, True], ids=["raw", "recorded"])
def test_no_op_raises_a_false_alarm(case: Case, create_graph: bool) -> None:
    args = case.arguments()
    cotangent = np.ones(np.shape(case(*args)))
    expected = case.first(args, cotangent)
    with sm.record():
        for _ in range(2):
            close(case.first(args, cotangent, create_graph=create_graph), expected, rtol=1e-7, atol=1e-9)


def test_a_training_step_raises_no_false_alarm() -> None:
    model = nn.TransformerLM(7, d_model=8, n_heads=2, n_layers=1, context=4)
    adam = sm.optim.AdamW(model.parameters())
    ids = np.arange(8).reshape(2, 4) % 7
    with sm.record():
        for _ in range(2):
            model.zero_grad()
            loss = sm.cross_entropy(model(ids), ids)
            loss.backward()
            sm.optim.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()


def test_indices_are_copied_so_that_changing_them_changes_nothing() -> None:
    x, rows, columns = leaf(normal(2, 3)), np.array([0, 1]), np.array([1, 1])
    y = x[rows, columns].sum()
    columns[0] = 2
    y.backward()
    assert x.grad.tolist() == [[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]


# -- rebinding .data, which needs no context ------------------------------------------------------


def test_a_replaced_array_does_not_change_the_gradient_of_what_was_computed() -> None:
    x = leaf([1.0, 2.0])
    h = x.exp()
    y = (h * h).sum()
    expected = sm.grad(y, x)[0].tolist()
    x.data, h.data, y.data = np.zeros(2), np.zeros(2), np.zeros(())
    assert sm.grad(y, x)[0].tolist() == expected


@pytest.mark.parametrize("which", [0, 1], ids=["argument", "result"])
def test_a_recorded_pass_refuses_a_replaced_array(which: int) -> None:
    x = leaf([1.0, 2.0])
    h = x.exp()
    (x, h)[which].data = np.zeros(2)
    with pytest.raises(RuntimeError, match=r"exp.*the .data of .* was replaced"):
        sm.grad(h.sum(), x, create_graph=True)


# -- the note goes where its tensor goes ----------------------------------------------------------


def test_what_is_recorded_is_freed_copied_and_pickled() -> None:
    x = leaf([1.0, 2.0])
    with sm.record():
        loss = (x * x).sum()
        loss.backward()
    for again in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert again.note == loss.note
    gc.disable()
    try:
        alive = weakref.ref(loss.args[0])
        del loss, again
        assert alive() is None
    finally:
        gc.enable()


def test_a_cell_of_a_notebook_is_called_a_cell() -> None:
    assert str(Note("/anywhere/ipykernel_123/2322699582.py", 2)) == "cell:2"
