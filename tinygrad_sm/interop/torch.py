"""PyTorch: reads the `grad_fn` graph of a loss into a `Graph`.

PyTorch keeps the functions of the backward pass, not the tensors. Each becomes a node; its name says what was
computed, and what it saved for its gradient are values. Of what it did not save only the shape is known (`Node.known`
is False). PyTorch is imported only here, and only when it is there already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from ..graph import Edge, Graph, Node
from ..inspection.rules.base import Context, Parameter
from ..op import REGISTRY
from ..tensor import Array
from .torch_functions import (
    array,
    fused_losses,
    gradients_at,
    options,
    ordered,
    our_op,
    places,
    saved_at,
    signed,
    source_line,
    torch_name,
    unknown,
    values_saved,
)  # fmt: skip


def is_tensor(x: Any) -> bool:
    """Tell whether something is a tensor of PyTorch, without importing PyTorch."""
    return any(kind.__module__ == "torch" and kind.__name__ == "Tensor" for kind in type(x).__mro__)


def graph(loss: Any, model: Any = None) -> Graph:
    """Return the graph of a loss of PyTorch, with gradients, which are computed without touching any `.grad`.

    Parameters
    ----------
    loss : torch.Tensor
        One number, before its `backward()`, which frees what the graph saved.
    model : torch.nn.Module, optional
        Gives the parameters their names.

    Raises
    ------
    TypeError
        If the model is no `torch.nn.Module`.
    ValueError
        If the loss is not one number, or its graph was freed.
    """
    return _Reader(loss, model).graph


def context(loss: Any, model: Any = None) -> Context:
    """Return what the rules of the doctor read of a loss of PyTorch."""
    reader = _Reader(loss, model)
    named = () if model is None else model.named_parameters()
    parameters = tuple(
        Parameter(name, tuple(p.shape), p.requires_grad, reader.parameters.get(id(p))) for name, p in named
    )
    return Context(reader.graph, None, parameters, model, probe=reader.probe, foreign="PyTorch")


class _Reader:
    """Goes through the functions of a graph, arguments first, and makes a node of each."""

    def __init__(self, loss: Any, model: Any) -> None:
        torch: Any = import_module("torch")
        if model is not None and not isinstance(model, torch.nn.Module):
            raise TypeError(f"a loss of PyTorch goes with a torch.nn.Module, not with a {type(model).__name__}")
        if loss.numel() != 1:
            raise ValueError(f"the loss must be one number, not of shape {tuple(loss.shape)}; take loss.mean()")
        self.names = {} if model is None else {id(p): name for name, p in model.named_parameters()}
        self.modules = {} if model is None else dict(model.named_modules())
        self.loss = loss
        self.nodes: list[Node] = []
        self.edges: list[Edge] = []
        self.uses: Counter[str] = Counter()
        self.made: dict[Any, Node] = {}  # by function
        self.parameters: dict[int, Node] = {}  # by id() of the parameter
        functions = ordered(loss.grad_fn)
        self.fused = fused_losses(functions)
        self.gradients = gradients_at(torch, loss, functions)
        self.values = values_saved(functions)
        inside = {fn for path in self.fused.values() for fn in path}
        for fn in functions:
            if fn not in inside and not hasattr(fn, "variable"):  # a leaf is made where it is first used
                self._add(fn)
        root = self._root(loss)
        self.graph = Graph.of(self.nodes, [self._with_share(edge) for edge in self.edges], [root])

    def _with_share(self, edge: Edge) -> Edge:
        """Return an edge with the gradient that came back along it, where that is all of what its source got."""
        uses = self.uses[edge.source]
        return edge if uses > 1 else Edge(**{**vars(edge), "share": self.nodes[int(edge.source[1:])].grad})

    def probe(self, output: Node, seed: Array, wanted: Node) -> Array | None:
        """Return the gradient of one node for a gradient at another: what that adds to what others bring."""
        functions = {node.id: fn for fn, node in self.made.items()}
        end, begin = functions.get(output.id), functions.get(wanted.id)
        if end is None or begin is None or hasattr(end, "variable"):
            return None
        torch: Any = import_module("torch")

        def replaced(gradients: Any, by: Any) -> Any:
            return (torch.as_tensor(by).to(gradients[0]).reshape(gradients[0].shape), *gradients[1:])

        found = []
        for by in (seed, np.zeros_like(seed)):
            handle = end.register_prehook(lambda gradients, by=by: replaced(gradients, by))
            try:
                found.append(gradients_at(torch, self.loss, list(self.made)).get(begin))
            finally:
                handle.remove()
        return found[0] - found[1] if found[0] is not None and found[1] is not None else None

    def _root(self, loss: Any) -> Node:
        value = array(loss)
        if loss.grad_fn is None:
            note = "" if loss.requires_grad else "no leaf requires a gradient, or detach() or torch.no_grad() cut it"
            return self._node(
                Node(self._id(), "loss", "loss", None, "loss", "", "", "", (), False, value, None, note=note)
            )
        node = self.nodes[-1]
        self.nodes[-1] = Node(**{**vars(node), "role": "loss", "value": value, "known": True})
        return self.nodes[-1]

    def _id(self) -> str:
        return f"n{len(self.nodes)}"

    def _node(self, node: Node) -> Node:
        self.nodes.append(node)
        return node

    def _add(self, fn: Any) -> None:
        inner = self.fused[fn][-1] if fn in self.fused else None
        op = our_op(fn) if inner is None else "cross_entropy"
        befores = [before for before, _ in (inner or fn).next_functions]
        if torch_name(fn) == "addmm":  # bias + x·W
            befores = [befores[1], befores[2], befores[0]]
        args: list[Any] = []
        found: list[tuple[int, Node]] = []
        for i in range(max(len(befores), 1 + max(places(fn), default=0))):
            node, arg = self._argument(fn, befores[i] if i < len(befores) else None, i)
            args.append(arg)
            found += [(i, node)] if node is not None else []
        kwargs = options(fn, self._shape(fn)) | ({"axis": signed(inner._saved_dim)} if inner is not None else {})
        value = self.values.get(fn)
        known, registered = value is not None, REGISTRY.get(op)
        node = self._node(Node(
            self._id(), "op", None, op, op, ", ".join(f"axis={v}" for k, v in kwargs.items() if k == "axis"),
            registered.formula if registered else "", registered.gradient if registered else "",
            self._scope([n for _, n in found]), True, value if value is not None else unknown(fn),
            self.gradients.get(fn), source_line(fn), tuple(args), kwargs, known=known,
        ))  # fmt: skip
        self.made[fn] = node
        for i, before in found:
            self.uses[before.id] += 1
            self.edges.append(Edge(f"e_{before.id}_{node.id}_{i}", before.id, node.id, i, None))

    def _argument(self, fn: Any, before: Any, position: int) -> tuple[Node | None, Any]:
        """Return the node at a place among the arguments, and the array or number that stands there."""
        if before is not None and before not in self.made and hasattr(before, "variable"):
            self.made[before] = self._leaf(before)
        if before is not None and before in self.made:
            node = self.made[before]
            return node, node.value if node.known else None
        saved = saved_at(fn, position)
        if hasattr(saved, "detach"):
            value = array(saved)
            if value.ndim:
                name = "target" if our_op(fn) == "nll_loss" else None
                return self._node(
                    Node(self._id(), "constant", name, None, "constant", "", "", "", (), False, value, None)
                ), value
            return None, value
        return None, saved if isinstance(saved, (int, float)) else None

    def _leaf(self, fn: Any) -> Node:
        p = fn.variable
        role: Any = "parameter" if id(p) in self.names or not self.names else "input"
        name, scope = self.names.get(id(p)), self._labels(self.names.get(id(p), ""))
        node = self._node(
            Node(self._id(), role, name, None, role, "", "", "", scope, True, array(p), self.gradients.get(fn))
        )
        self.parameters[id(p)] = node
        return node

    def _labels(self, name: str) -> tuple[str, ...]:
        """Return the modules around a parameter, outermost first, as this library labels them."""
        if not name:
            return ()
        parts = name.split(".")[:-1]
        paths = [".".join(parts[: i + 1]) for i in range(len(parts))]
        return (type(self.modules[""]).__name__, *(
            f"{part}: {type(self.modules[path]).__name__}" for part, path in zip(parts, paths, strict=True)
        ))  # fmt: skip

    def _scope(self, before: Sequence[Node]) -> tuple[str, ...]:
        """Return the modules of the first parameter among the arguments, or behind a transpose of one."""
        for node in before:
            if node.role == "parameter" or (node.op == "transpose" and node.scope):
                return node.scope
        return ()

    def _shape(self, fn: Any) -> tuple[int, ...]:
        return tuple(int(n) for n in fn._input_metadata[0].shape)
