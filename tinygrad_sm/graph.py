"""Graph: a snapshot of what made a tensor, with every value and every gradient.

All pictures and checks read this one thing. Its backward pass is private: no `.grad` is touched, and the
residuals that fused ops keep for the real backward pass stay where they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Literal

import numpy as np

from .autograd import start, sweep
from .call import assigned, op_label, op_options, signature
from .op import Op
from .tensor import Array, Tensor
from .text import visible

Role = Literal["input", "parameter", "constant", "op", "loss"]


@dataclass(frozen=True, eq=False)
class Node:
    """A tensor of the graph, or an array that stood among the arguments of an op.

    >>> import tinygrad_sm as sm
    >>> x = sm.Tensor([1.0, 2.0], requires_grad=True, name="x")
    >>> node = sm.Graph((x * 3).sum())["n1"]
    >>> node.label, node.formula, node.value.tolist(), node.grad.tolist()
    ('mul 3', 'a·b', [3.0, 6.0], [1.0, 1.0])
    >>> node.constants
    {1: 3}
    """

    id: str  # "n7": numbered in creation order
    role: Role
    name: str | None  # of a tensor: the user's or the variable; of a parameter its path; of an array the argument
    op: str | None
    label: str  # the op with the plain numbers among its arguments, "mul 2"; the role of a leaf
    options: str  # keyword arguments of the op that are not at their defaults, "axis=1"
    formula: str  # of the op, as the registry has it
    gradient: str  # the formula of its backward rule
    scope: tuple[str, ...]  # the modules around it; a parameter stands where it is first used
    requires_grad: bool
    value: Array = field(repr=False)  # the array that the op saw: no copy
    grad: Array | None = field(repr=False)  # None: no gradient reached it, which differs from zeros
    source: str = ""  # under `sm.record()`, the line that made it: "train.py:12: loss = p.log().mean()"
    args: tuple[Any, ...] = field(default=(), repr=False)  # of the op, as it saw them: arrays and numbers
    kwargs: Mapping[str, Any] = field(default_factory=dict, repr=False)  # all that were passed to the op
    seed: Array | None = field(default=None, repr=False)  # what the backward pass started with here
    hooked: bool = False  # whether a hook may have replaced the gradient
    note: str = ""  # why a leaf has no history: "detach() cut its history"
    known: bool = True  # False: another library kept the shape, but not the numbers

    shape = property(lambda self: self.value.shape, doc="Tuple of the sizes of the axes.")
    dtype = property(lambda self: self.value.dtype, doc="NumPy dtype of the elements.")

    @property
    def constants(self) -> dict[int | str, Any]:
        """The arguments of the op that are no arrays, by position or name."""
        plain: dict[int | str, Any] = {i: a for i, a in enumerate(self.args) if not isinstance(a, np.ndarray)}
        plain.update(self.kwargs)
        return plain


@dataclass(frozen=True, eq=False)
class Edge:
    """One use of a node as an argument; `a + a` has two edges from `a`.

    >>> import tinygrad_sm as sm
    >>> x = sm.Tensor([1.0, 2.0], requires_grad=True)
    >>> [(edge.id, edge.share.tolist()) for edge in sm.Graph((x * x).sum()).edges[:2]]
    [('e_n0_n1', [1.0, 2.0]), ('e_n0_n1_2', [1.0, 2.0])]
    """

    id: str  # "e_n6_n7"; a second one between the same nodes is "e_n6_n7_2"
    source: str
    target: str
    position: int  # which argument of the target's op
    share: Array | None = field(repr=False)  # the gradient that came back along this edge


class Graph:
    """What made one tensor, or several: nodes and edges in creation order.

    Gradients are there if there is a scalar to start from, or a `gradient` to start with. The edges that leave
    a node carry the shares of its gradient. Hooks run, and what they return is shown. Arrays
    are not copied; no Tensor is kept alive. What was made under `sm.record()` knows its source line, and has the name
    of the variable that this line assigns.

    Parameters
    ----------
    outputs : Tensor, or sequence of Tensors
        Where the graph ends.
    gradient : array_like, or a sequence with one for each output, optional
        The gradient to start from; None is 1 for a scalar, and starts nothing at other outputs.

    Raises
    ------
    TypeError
        If an output is not a Tensor.
    ValueError
        If there is no output; if a `gradient` has the wrong shape, or its output requires none.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> from tinygrad_sm.graph import Graph
    >>> w = sm.Tensor([1.0, 2.0], requires_grad=True, name="w")
    >>> graph = Graph((w * w * 3).sum())
    >>> [(node.id, node.role, node.label) for node in graph]
    [('n0', 'parameter', 'parameter'), ('n1', 'op', 'mul'), ('n2', 'op', 'mul 3'), ('n3', 'loss', 'sum')]
    >>> graph["n0"].grad.tolist(), w.grad
    ([6.0, 12.0], None)
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    roots: tuple[Node, ...]  # the nodes of the outputs
    has_gradients: bool  # False: there was nothing to start the backward pass from

    def __init__(self, outputs: Tensor | Sequence[Tensor], gradient: Any = None) -> None:
        roots = tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)
        if not roots:
            raise ValueError("Graph: there is no tensor to start from")
        for root in roots:
            if not isinstance(root, Tensor):
                raise TypeError(f"Graph shows what made Tensors; got a {type(root).__name__}")
        tensors = history(roots)
        seeds = _seeds(roots, gradient)
        gradients, shares = _differentiate(seeds)
        uses, assigned_to = _first_uses(tensors), variables(tensors)
        ends = {id(root) for root in roots}
        scoped = any(t.scope for t in tensors if t.op is None)

        nodes: dict[int, Node] = {}  # by id() of the tensor or array, which `tensors` keeps alive meanwhile
        edges: list[Edge] = []
        for t in tensors:
            for i, a in enumerate(t.args):
                if isinstance(a, np.ndarray) and id(a) not in nodes:  # an array comes before its first use
                    nodes[id(a)] = _array_node(f"n{len(nodes)}", a, t.op, i)
            role = _leaf_role(t, scoped) if t.op is None else "loss" if id(t) in ends and t.size == 1 else "op"
            name = assigned_to.get(id(t)) if t.name is None else t.name
            node = _tensor_node(f"n{len(nodes)}", t, name, role, gradients.get(id(t)), uses.get(id(t)))
            if t in seeds or t.hooks:
                node = replace(node, seed=seeds.get(t), hooked=bool(t.hooks))
            nodes[id(t)] = node
            edges += _edges_into(t, nodes, shares.get(id(t), ()))
        self.nodes, self.edges = tuple(nodes.values()), tuple(edges)
        self.roots = tuple(nodes[id(root)] for root in roots)
        self.has_gradients = bool(gradients)
        self._ids = {key: node.id for key, node in nodes.items()}

    @classmethod
    def of(cls, nodes: Sequence[Node], edges: Sequence[Edge], roots: Sequence[Node]) -> Graph:
        """Return a graph of nodes and edges that another library's graph was read into, or of some of another's.

        >>> import tinygrad_sm as sm
        >>> whole = sm.Graph(sm.Tensor([1.0, 2.0], requires_grad=True).exp().sum())
        >>> len(sm.Graph.of(whole.nodes[:2], whole.edges[:1], whole.nodes[1:2]))
        2
        """
        graph = cls.__new__(cls)
        graph.nodes, graph.edges, graph.roots = tuple(nodes), tuple(edges), tuple(roots)
        graph.has_gradients, graph._ids = any(node.grad is not None for node in nodes), {}
        return graph

    def node_of(self, tensor: Tensor) -> Node | None:
        """Return the node of a tensor, or None if it is not in the graph; it must have lived since the graph was made.

        >>> import tinygrad_sm as sm
        >>> x = sm.Tensor([1.0, 2.0], requires_grad=True)
        >>> sm.Graph(x.sum()).node_of(x).id
        'n0'
        """
        id_ = self._ids.get(id(tensor))
        return None if id_ is None else self[id_]

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __repr__(self) -> str:
        names = [visible(root.name or root.label, limit=60) for root in self.roots[:3]]
        ends = ", ".join(names) + ", …" * (len(self.roots) > 3)
        return f"<Graph of {ends}: {len(self.nodes)} nodes, {len(self.edges)} edges>"

    def __getitem__(self, id: str) -> Node:
        try:
            return self._by_id[id]
        except (KeyError, TypeError):
            raise KeyError(
                f"no node {id!r}: ids are 'n0' to 'n{len(self.nodes) - 1}'; find() takes names and ops"
            ) from None

    def find(self, text: str | None = None, *, role: Role | None = None, scope: str | None = None) -> list[Node]:
        """Return the nodes whose name or op is `text`, which have this `role`, and stand in a module `scope`.

        A parameter is found by the end of its path too: "weight" finds "fc.weight". `scope` names a module by its
        label, "attn: MultiHeadAttention", by its name, class or path, "blocks.0.attn"; `*` stands for anything.

        >>> import tinygrad_sm as sm
        >>> from tinygrad_sm.graph import Graph
        >>> x = sm.Tensor([1.0, 2.0], requires_grad=True, name="x")
        >>> [node.id for node in Graph(x.exp().sum()).find("exp")]
        ['n1']
        """
        return [
            node
            for node in self.nodes
            if (
                text is None
                or text in (node.name, node.op)
                or (node.op is None and f".{node.name}".endswith(f".{text}"))
            )
            and (role is None or role == node.role)
            and (scope is None or any(matches(scope, node.scope[: i + 1]) for i in range(len(node.scope))))
        ]

    def edges_into(self, node: Node) -> list[Edge]:
        """Return the edges that bring a node its arguments, in their order.

        >>> import tinygrad_sm as sm
        >>> a, b = (sm.Tensor([n], requires_grad=True) for n in (1.0, 2.0))
        >>> graph = sm.Graph((a - b).sum())
        >>> [edge.share.tolist() for edge in graph.edges_into(graph["n2"])]
        [[1.0], [-1.0]]
        """
        return self._into.get(node.id, [])

    def edges_from(self, node: Node) -> list[Edge]:
        """Return the edges that lead to what used a node.

        Their shares, and the `seed` of a node where the backward pass starts, add up to its gradient, unless a hook
        replaced it.

        >>> import tinygrad_sm as sm
        >>> x = sm.Tensor([1.0, 2.0], requires_grad=True)
        >>> graph = sm.Graph((x * x).sum())
        >>> sum(edge.share for edge in graph.edges_from(graph["n0"])).tolist(), graph["n0"].grad.tolist()
        ([2.0, 4.0], [2.0, 4.0])
        """
        return self._from.get(node.id, [])

    def backward_order(self) -> list[Node]:
        """Return the nodes that get a gradient, in the order in which the backward pass completes it: newest first.

        >>> import tinygrad_sm as sm
        >>> x = sm.Tensor([1.0, 2.0], requires_grad=True)
        >>> [node.label for node in sm.Graph(x.exp().sum()).backward_order()]
        ['sum', 'exp', 'parameter']
        """
        return [node for node in reversed(self.nodes) if node.grad is not None]

    def first_nonfinite(self) -> dict[str, str]:
        """Return where NaN and inf start: node id -> "value" or "grad"; empty if all is finite.

        A value starts it if all arguments were finite; a gradient, if the value and the gradients of all users were.
        A −inf that does no harm, as that of a mask before a softmax, is none.

        >>> import tinygrad_sm as sm
        >>> from tinygrad_sm.graph import Graph
        >>> x = sm.Tensor([0.0, 1.0], requires_grad=True)
        >>> with np.errstate(divide="ignore"):
        ...     graph = Graph(x.log().sum())
        >>> {graph[id].label: what for id, what in graph.first_nonfinite().items()}
        {'parameter': 'grad', 'log': 'value'}
        """
        bad_grad = {n.id for n in self.nodes if not is_finite(n.grad)}
        bad_value = {n.id for n in self.nodes if not is_finite(n.value)} - self._absorbed
        found = {}
        for n in self.nodes:
            if n.id in bad_value and not any(e.source in bad_value for e in self.edges_into(n)):
                found[n.id] = "value"
            elif n.id in bad_grad - bad_value and not any(e.target in bad_grad for e in self.edges_from(n)):
                found[n.id] = "grad"
        return found

    def is_finite(self, node: Node) -> bool:
        """Tell whether the value and the gradient of a node are finite, except for a −inf that does no harm.

        >>> import tinygrad_sm as sm
        >>> graph = sm.Graph(sm.Tensor([1.0, float("inf")], requires_grad=True).relu().sum())
        >>> [graph.is_finite(node) for node in graph]
        [False, False, False]
        """
        return (is_finite(node.value) or node.id in self._absorbed) and is_finite(node.grad)

    @cached_property
    def _absorbed(self) -> set[str]:
        """The nodes with −inf, finite gradients, and only users that are finite or have −inf in the same way."""
        found: set[str] = set()
        for node in reversed(self.nodes):
            users = {edge.target for edge in self.edges_from(node)}
            masked = not is_finite(node.value) and np.all(node.value < np.inf) and is_finite(node.grad)
            if masked and users and all(is_finite(self[id].value) for id in users - found):
                found.add(node.id)
        return found

    @cached_property
    def _by_id(self) -> dict[str, Node]:
        return {node.id: node for node in self.nodes}

    @cached_property
    def _into(self) -> dict[str, list[Edge]]:
        return _grouped(self.edges, "target")

    @cached_property
    def _from(self) -> dict[str, list[Edge]]:
        return _grouped(self.edges, "source")


def is_finite(array: Array | None) -> bool:
    """Tell whether an array holds neither NaN nor inf; true for None."""
    return array is None or bool(np.isfinite(array).all())


def rms(array: Array) -> float:
    """Return the root mean square, √(Σ x²/n), of an array of any dtype; its squares neither overflow nor vanish.

    >>> rms(np.array([3e30, 4e30], np.float32)) / 1e30 > 3.5
    True
    """
    if not array.size:
        return 0.0
    array = array.astype(np.float64) if array.dtype.kind != "f" else array
    peak = float(np.abs(array).max())
    if not 0 < peak < np.inf:
        return peak
    return peak * float(np.sqrt(np.mean(np.square(array / peak), dtype=np.float64)))


def dotted(labels: Sequence[str]) -> str:
    """Return the attribute path of modules from their labels.

    >>> dotted(("TransformerLM", "blocks.0: TransformerBlock", "attn: MultiHeadAttention"))
    'blocks.0.attn'
    """
    return ".".join(name for name, colon, _ in (label.partition(": ") for label in labels) if colon)


def matches(word: str, labels: Sequence[str]) -> bool:
    """Tell whether a word means the last of these modules: its label, name, class or path; `*` stands for anything."""
    name, _, kind = labels[-1].partition(": ")
    return any(text and fnmatchcase(text, word) for text in (labels[-1], name, kind, dotted(labels)))


def _grouped(edges: Sequence[Edge], end: str) -> dict[str, list[Edge]]:
    groups: dict[str, list[Edge]] = {}
    for edge in edges:
        groups.setdefault(getattr(edge, end), []).append(edge)
    return groups


# -- reading tensors ----------------------------------------------------------------------------


def history(roots: Sequence[Tensor], start: float = -1) -> list[Tensor]:
    """Return all Tensors that `roots` came from, oldest first; without those older than `start`."""
    seen, stack = set(roots), list(roots)
    while stack:
        for a in stack.pop().args:
            if isinstance(a, Tensor) and a not in seen and a.order > start:
                seen.add(a)
                stack.append(a)
    return sorted(seen, key=lambda t: t.order)


def _seeds(roots: Sequence[Tensor], gradient: Any) -> dict[Tensor, Array]:
    """Return the gradients to start from."""
    several = isinstance(gradient, (tuple, list)) and len(roots) > 1
    given = gradient if several else (gradient,) if gradient is not None else (None,) * len(roots)
    if len(given) != len(roots):
        raise ValueError(f"Graph: {len(roots)} outputs, but {len(given)} gradients to start from")
    seeds: dict[Tensor, Array] = {}
    for root, g in zip(roots, given, strict=True):
        if g is not None or (root.requires_grad and root.size == 1):
            seed = start(root, g, False, "Graph")
            seeds[root] = seeds[root] + seed if root in seeds else seed
    return seeds


def _differentiate(seeds: dict[Tensor, Array]) -> tuple[dict[int, Array], dict[int, Sequence[Any]]]:
    """Return each tensor's gradient, and what it gave its arguments, by id() of the tensor."""
    gradients, shares = {}, {}
    with np.errstate(all="ignore"):  # where NaN and inf come from is what the snapshot shows
        for t, g, back in sweep(seeds, consume=False):
            gradients[id(t)], shares[id(t)] = np.asarray(g), back
    return gradients, shares


def _first_uses(tensors: Sequence[Tensor]) -> dict[int, tuple[Tensor, int]]:
    """Return which op used a tensor first, and as which argument, by id() of the tensor."""
    uses: dict[int, tuple[Tensor, int]] = {}
    for t in tensors:
        for i, a in enumerate(t.args):
            if isinstance(a, Tensor):
                uses.setdefault(id(a), (t, i))
    return uses


def _line(t: Any) -> tuple[str, int] | None:
    """Return file and number of the line that made a tensor, if `sm.record()` noted it."""
    return (t.note.file, t.note.line) if hasattr(t, "note") and hasattr(t.note, "line") else None


def variables(tensors: Sequence[Tensor]) -> dict[int, str]:
    """Return the variable to which a source line assigned its last result, by id() of the tensor."""
    steps = {id(a) for t in tensors for a in t.args if _line(t) is not None and _line(a) == _line(t)}
    found = {id(t): assigned(t.note.text) for t in tensors if _line(t) is not None and id(t) not in steps}
    return {key: name for key, name in found.items() if name is not None}


def _leaf_role(t: Tensor, scoped: bool) -> Role:
    """Tell what a leaf is; `scoped` means that some leaf belongs to a module, so that others are not parameters."""
    if t.requires_grad:
        return "parameter" if t.scope or not scoped else "input"
    return "input" if t.dtype.kind == "f" and not t.scope else "constant"


def _tensor_node(
    id: str, t: Tensor, name: str | None, role: Role, grad: Array | None, use: tuple[Tensor, int] | None
) -> Node:
    scope, value = t.scope, t.data
    if use:
        consumer, i = use
        value = np.asarray(consumer.raw[i])  # what the op saw, also if t.data has been replaced since
    if t.op is None:  # what a module owns stands where it is first used
        scope = consumer.scope if use and t.scope else ()
        name = _path(name, t.scope, scope)
        note = t.note if isinstance(t.note, str) else ""
        return Node(id, role, name, None, role, "", "", "", scope, t.requires_grad, value, grad, note=note)
    label, options, source = op_label(t), op_options(t), "" if _line(t) is None else str(t.note)
    return Node(
        id, role, name, t.op.name, label, options, t.op.formula, t.op.gradient, scope, t.requires_grad, value, grad,
        source, tuple(t.raw), t.kwargs,
    )  # fmt: skip


def _path(name: str | None, owner: tuple[str, ...], scope: tuple[str, ...]) -> str | None:
    """Return the attribute path of a parameter of the module `owner`, first used in `scope`: "fc.weight"."""
    classes = [label.rpartition(": ")[2] for label in scope]
    if name is None or not owner or owner[-1] not in classes:
        return name
    around = scope[: len(classes) - classes[::-1].index(owner[-1])]
    return f"{dotted(around)}.{name}".lstrip(".")


def _array_node(id: str, array: Array, op: Op | None, position: int) -> Node:
    names = signature(op)[0] if op else ()
    name = names[position] if position < len(names) and len(names[position]) > 2 else None  # "target", but not "b"
    return Node(id, "constant", name, None, "constant", "", "", "", (), False, array, None)


def _edges_into(t: Tensor, nodes: dict[int, Node], shares: Sequence[Any]) -> list[Edge]:
    edges: list[Edge] = []
    times: Counter[str] = Counter()
    for i, a in enumerate(t.args):
        if isinstance(a, (Tensor, np.ndarray)):
            source, target = nodes[id(a)].id, nodes[id(t)].id
            times[source] += 1
            name = f"e_{source}_{target}" + (f"_{times[source]}" if times[source] > 1 else "")
            edges.append(Edge(name, source, target, i, shares[i] if i < len(shares) else None))
    return edges
