"""Module: how parameters and modules are found, state, modes, scopes on what is recorded, copies."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from helpers import graph_of, leaf

import tinygrad_sm as sm
from tinygrad_sm import Tensor, nn
from tinygrad_sm.mode import MODE


class Bag(nn.Module):
    """Keeps whatever it is given."""

    def __init__(self, **members: Any) -> None:
        for name, value in members.items():
            setattr(self, name, value)

    def forward(self, x: Any) -> Any:
        return x


class Scale(nn.Module):
    """One parameter, (2,)."""

    def __init__(self, *start: float) -> None:
        self.w = leaf(start or (1.0, 2.0))

    def forward(self, x: Any) -> Any:
        return x * self.w


def names(module: nn.Module) -> list[str]:
    return [name for name, _ in module.named_parameters()]


# -- finding -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"w": leaf(1.0)}, ["w"]),
        ({"list": [leaf(1.0), leaf(2.0)]}, ["list.0", "list.1"]),
        ({"pair": (leaf(1.0), 3, leaf(2.0))}, ["pair.0", "pair.2"]),
        ({"table": {"a": leaf(1.0), 7: leaf(2.0)}}, ["table.a", "table.7"]),
        ({"deep": [{"x": (leaf(1.0), [leaf(2.0)])}]}, ["deep.0.x.0", "deep.0.x.1.0"]),
        ({"child": Scale()}, ["child.w"]),
        ({"children": [Scale(), {"last": Scale()}]}, ["children.0.w", "children.1.last.w"]),
        ({"a": Bag(b=Bag(c=Scale()))}, ["a.b.c.w"]),
        ({"child": Scale(), "w": leaf(1.0)}, ["w", "child.w"]),  # a module's own come before its children's
        ({"_hidden": leaf(1.0), "_child": Scale(), "w": leaf(1.0)}, ["w"]),
        ({"w": leaf(1.0), "same": [leaf(1.0)] * 2}, ["w", "same.0"]),
        ({"inner": leaf(1.0) * 2, "w": leaf(1.0)}, ["w"]),
        ({"n": 3, "text": "abc", "array": np.ones(2), "nothing": None, "empty": []}, []),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_parameters_are_found(members: dict[str, Any], expected: list[str]) -> None:
    module = Bag(**members)
    assert names(module) == expected
    assert len(module.parameters()) == len(expected)


def test_found_are_the_tensors_themselves_as_they_are_now() -> None:
    a, b = leaf(1.0), leaf(2.0)
    module = Bag(a=a, rows=[])
    assert module.parameters()[0] is a
    module.a = b
    assert module.parameters()[0] is b
    module.rows.append(a)
    assert dict(module.named_parameters()) == {"a": b, "rows.0": a}
    del module.a
    assert names(module) == ["rows.0"]


def test_a_shared_module_and_a_tied_tensor_count_once() -> None:
    shared = Scale()
    module = Bag(first=shared, second=[shared], tied=shared.w)
    assert names(module) == ["tied"]
    assert [path for path, _ in module.named_modules()] == ["", "first"]
    assert list(module.state_dict()) == ["tied"]


def test_a_module_that_contains_itself() -> None:
    module = Bag(w=leaf(1.0))
    module.me = module
    assert names(module) == ["w"]
    assert len(list(module.named_modules())) == 1


def test_named_modules_from_the_outside_in() -> None:
    module = Bag(a=Bag(b=[Scale(), Scale()]), c=Scale(), _d=Scale())
    assert [(path, type(m).__name__) for path, m in module.named_modules()] == [
        ("", "Bag"), ("a", "Bag"), ("a.b.0", "Scale"), ("a.b.1", "Scale"), ("c", "Scale"),
    ]  # fmt: skip


def test_a_frozen_parameter_can_be_given_to_an_optimiser() -> None:
    """As in PyTorch: freezing a layer doesn't take rewriting the call of the optimiser, and it is still saved."""
    module = Bag(frozen=leaf([1.0]), w=leaf([1.0]))
    module.frozen.requires_grad = False
    assert list(module.state_dict()) == ["frozen", "w"]
    optimizer = sm.optim.SGD(module.parameters(), lr=0.1)
    (module.frozen * module.w).sum().backward()
    optimizer.step()
    assert module.frozen.tolist() == [1.0]
    assert module.w.tolist() == [0.9]


def test_what_forward_remembers_is_no_parameter() -> None:
    """Without a recorded graph every result is a leaf; a model's state must not depend on that."""

    class Remembers(Scale):
        def forward(self, x: Any) -> Any:
            self.last = super().forward(x)
            return self.last

    module = Remembers()
    module(np.ones(2))
    assert names(module) == ["w"]
    with sm.no_grad():
        module(np.ones(2))
    assert names(module) == ["w"]


def test_a_module_without_forward_says_so() -> None:
    with pytest.raises(TypeError, match="Module has no forward"):
        nn.Module()(1)


# -- state -------------------------------------------------------------------------------------


def test_state_dict_round_trip() -> None:
    a, b = Bag(x=Scale(1, 2), y=[Scale(3, 4)]), Bag(x=Scale(), y=[Scale()])
    old = b.x.w.data
    b.load_state_dict(a.state_dict())
    assert {name: array.tolist() for name, array in b.state_dict().items()} == {"x.w": [1, 2], "y.0.w": [3, 4]}
    assert old.tolist() == [1, 2]  # a graph may still hold the old array
    b.x.w.data[:] = 9
    assert a.x.w.tolist() == [1, 2]  # nothing is shared


@pytest.mark.parametrize("give", [lambda a: a, Tensor, lambda a: a.tolist(), lambda a: a.astype(np.float16)])
def test_load_keeps_the_dtype_of_the_parameters(give: Any) -> None:
    module = Scale()
    module.load_state_dict({"w": give(np.array([5.0, 6.0], np.float32))})
    assert module.w.dtype == np.float64
    assert module.w.tolist() == [5, 6]
    assert module.w.requires_grad


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({}, ["missing", "a.w", "b.w", "c.w"]),
        ({"a.w": np.ones(3), "b.w": np.ones((2, 1)), "d": np.ones(1), "e": np.ones(1)},
         ["missing", "c.w", "unexpected", "d", "e", "a.w", "(2,)", "(3,)", "b.w", "(2, 1)"]),
        ({"a.w": np.ones(2), "b.w": np.ones(2), "c.w": np.array(["x", "y"])}, ["c.w"]),
    ],
    ids=["nothing", "several", "text"],
)  # fmt: skip
def test_load_lists_all_problems_and_changes_nothing(state: dict[str, Any], words: list[str]) -> None:
    module = Bag(a=Scale(7, 8), b=Scale(7, 8), c=Scale(7, 8))
    with pytest.raises((ValueError, TypeError)) as caught:
        module.load_state_dict(state)
    assert [p.tolist() for p in module.parameters()] == [[7, 8]] * 3
    assert all(word in str(caught.value) for word in ["Bag", *words])


# -- modes and gradients -----------------------------------------------------------------------


def test_train_and_eval_reach_every_module() -> None:
    module = Bag(a=[nn.Dropout(0.5)], b=Bag(c=Scale()), w=leaf(1.0))
    assert module.training
    assert module.eval() is module
    assert [m.training for _, m in module.named_modules()] == [False] * 4
    assert module.train() is module
    assert [m.training for _, m in module.named_modules()] == [True] * 4
    module.train(False)
    assert not module.b.c.training


def test_zero_grad() -> None:
    module = Bag(a=Scale(), b=[Scale()])
    (module.a(np.ones(2)) + module.b[0](np.ones(2))).sum().backward()
    assert all(p.grad is not None for p in module.parameters())
    module.zero_grad()
    assert [p.grad for p in module.parameters()] == [None, None]


def test_repr_lists_modules_and_their_parameters() -> None:
    text = repr(Bag(a=Scale(), b=Bag(c=Scale()), w=leaf([[1.0]])))
    lines = text.splitlines()
    assert lines == ["Bag w[1, 1]", "  a: Scale w[2]", "  b: Bag", "    c: Scale w[2]"]


def test_repr_indents_by_depth_also_in_lists() -> None:
    lines = repr(nn.Sequential(nn.Linear(2, 3), nn.ReLU())).splitlines()
    assert lines == ["Sequential", "  layers.0: Linear weight[3, 2] bias[3]", "  layers.1: ReLU"]


# -- scopes ------------------------------------------------------------------------------------


class Nest(nn.Module):
    def __init__(self) -> None:
        self.first, self.rest, self.table = Scale(), [Scale(), Scale()], {"key": Scale()}
        self.late: list[Any] = []

    def forward(self, x: Any) -> Any:
        x = self.rest[1](self.first(x).exp())
        x = self.table["key"](x)
        return [*self.late, lambda y: y][0](x).sum()


def scopes(tensor: Tensor) -> dict[str, set[tuple[str, ...]]]:
    """Return the scopes of what was recorded, by op."""
    found: dict[str, set[tuple[str, ...]]] = {}
    for t in graph_of(tensor):
        if t.op is not None:
            found.setdefault(t.op.name, set()).add(t.scope)
    return found


def test_scopes_name_the_modules_around() -> None:
    model = Nest()
    loss = model(leaf([1.0, 1.0])) * 2
    assert scopes(loss) == {
        "exp": {("Nest",)},
        "sum": {("Nest",)},
        "mul": {("Nest", "first: Scale"), ("Nest", "rest.1: Scale"), ("Nest", "table.key: Scale"), ()},
    }
    assert MODE.get().scope == ()
    assert scopes(nn.Sequential(model)(leaf([1.0, 1.0])))["exp"] == {("Sequential", "layers.0: Nest")}


def test_scope_of_a_module_appended_after_assignment() -> None:
    model = Nest()
    model.late.append(Scale())
    assert ("Nest", "late.0: Scale") in scopes(model(leaf([1.0, 1.0])))["mul"]


def test_parameters_carry_their_owner_and_name() -> None:
    module = Bag(rows=[leaf(1.0)], child=Scale())
    assert (module.rows[0].scope, module.rows[0].name) == (("Bag",), "rows.0")
    assert (module.child.w.scope, module.child.w.name) == (("Scale",), "w")
    assert Bag(w=Tensor([1.0], requires_grad=True, name="mine")).w.name == "mine"


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: [m], lambda m: (m,), lambda m: {"a": m}])
def test_what_is_assigned_after_a_call_has_its_name_at_once(wrap: Any) -> None:
    module, late, w = Bag(child=Scale()), Scale(), leaf(1.0)
    module(leaf(1.0))
    module.late, module.more, module.n = wrap(late), wrap(w), 3
    assert late._label is not None
    assert late._label.startswith("late")
    assert (w.scope, w.name[:4]) == (("Bag",), "more")


def test_scope_is_restored_when_forward_raises() -> None:
    class Fails(nn.Module):
        def forward(self, x: Any) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Bag(inner=Fails()).inner(1)
    assert MODE.get().scope == ()
    assert scopes(leaf([1.0]).exp()) == {"exp": {()}}


# -- copies ------------------------------------------------------------------------------------


def model_and_input() -> tuple[nn.Module, Any]:
    return nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), np.ones((4, 2), np.float32)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_a_copy_is_equal_and_independent(copied: Any) -> None:
    model, x = model_and_input()
    other = copied(model)
    assert names(other) == names(model)
    assert repr(other) == repr(model)
    assert other(x).tolist() == model(x).tolist()
    other(x).sum().backward()
    assert all(p.grad is None for p in model.parameters())
    sm.optim.SGD(other.parameters(), lr=0.1).step()
    assert all((p.data != q.data).any() for p, q in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_a_copy_keeps_ties(copied: Any) -> None:
    shared = Scale()
    other = copied(Bag(a=shared, b=Bag(w=shared.w)))
    assert other.a.w is other.b.w
    assert len(other.parameters()) == 1


def test_a_pickled_model_has_gradients_in_a_new_process() -> None:
    """The counter of creation starts anew there, and what is computed must still come after the parameters."""
    for _ in range(1000):
        Tensor(1.0)
    model, _ = model_and_input()
    code = (
        "import pickle, sys, numpy as np\n"
        "model = pickle.load(sys.stdin.buffer)\n"
        "model(np.ones((4, 2), np.float32)).sum().backward()\n"
        "print([p.grad is not None for p in model.parameters()])"
    )
    out = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(model), capture_output=True, check=True)
    assert out.stdout.split() == b"[True, True, True, True]".split()
