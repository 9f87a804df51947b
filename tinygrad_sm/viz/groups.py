"""Groups: the calls of modules in a graph, and what repeats.

The ops of a graph, in creation order, form a tree of groups: a group is one call of a module, the ops between
entering and leaving it. Neighbours that are equal, such as the twelve blocks of a model, form a group of their
own. What is created one after the other is an interval in a topological order, so that no way leads out of a
group and back into it: folded groups never make a cycle.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..graph import Edge, Graph, Node, matches, rms
from ..tensor import Array

READABLE = 60  # how many cards a picture has that folds by itself
EQUAL = 3  # so many equal neighbours are a repeat
PERIOD = 8  # a repeat may have this many different parts, as Linear, ReLU, Linear, ReLU ... has two


@dataclass(frozen=True, eq=False)
class Group:
    """A call of a module; or equal neighbours; or, where a graph has no modules, a stretch of it."""

    id: str  # "b3"
    label: str  # "attn: MultiHeadAttention"; of repeats "blocks.0 to 11: TransformerBlock"
    scope: tuple[str, ...]  # the labels of all modules around it, and its own
    parent: str | None
    depth: int  # 1 for the outermost module
    is_module: bool
    parts: tuple[tuple[Node, ...], ...]  # all nodes inside; a group of repeats has several equal parts

    nodes = property(lambda self: tuple(node for part in self.parts for node in part), doc="All nodes inside.")


@dataclass(eq=False)
class _Span:
    """Ops number `lo` to `hi`, which a module made, or which repeat."""

    lo: int
    hi: int
    labels: tuple[str, ...]  # of all modules around and of this one
    kind: str  # "module", "repeat" or "stretch"
    items: list[Any] = field(default_factory=list)  # numbers of ops, and spans
    times: int = 1


# -- the tree of groups -------------------------------------------------------------------------


class Tree:
    """The groups of a graph, outer ones first, and where each node stands."""

    def __init__(self, graph: Graph, *, apart: Sequence[str] = (), most: int = 10**9) -> None:
        """Find the groups; what `apart` names is no part of a repeat; more than `most` items at the top are cut."""
        self.graph = graph
        self._ops = [node for node in graph if node.op is not None]
        self._number = {node.id: k for k, node in enumerate(self._ops)}
        spans = self._modules()
        for span in spans:
            span.items = self._with_repeats(span, apart)
        if len(spans[0].items) > most:
            spans[0].items = _stretches(spans[0].items, math.ceil(len(spans[0].items) / READABLE * 2))
        self.groups: dict[str, Group] = {}
        self.home: dict[str, str | None] = {}  # the innermost group of each node
        self._make_groups(spans[0])

    def _modules(self) -> list[_Span]:
        """Return a span for all, and one for each call of a module."""
        root = _Span(0, len(self._ops), (), "module")
        spans, open_ = [root], [root]
        for k, node in enumerate(self._ops):
            while not _begins(node.scope, open_[-1].labels):
                open_.pop().hi = k
            for depth in range(len(open_[-1].labels), len(node.scope)):
                span = _Span(k, len(self._ops), node.scope[: depth + 1], "module")
                open_[-1].items.append(span)
                open_.append(span)
                spans.append(span)
            open_[-1].items.append(k)
        return spans

    def _with_repeats(self, span: _Span, apart: Sequence[str]) -> list[Any]:
        """Return the items of a span, with runs of equal ones put into spans of their own."""
        items, signs = span.items, []
        known: dict[tuple[Any, ...], int] = {}
        if len(items) < EQUAL:
            return items
        for item in items:
            sign = self._signature(item, len(span.labels))
            if isinstance(item, _Span) and any(matches(word, item.labels) for word in apart):
                sign = (item.lo,)
            signs.append(known.setdefault(sign, len(known)))
        found: list[Any] = []
        i = 0
        while i < len(items):
            period, times = _repeat(signs, i)
            times = self._together(items[i : i + period * times], period)
            if times < EQUAL:
                found.append(items[i])
                i += 1
                continue
            inside = items[i : i + period * times]
            lo, hi = _bounds(inside)
            found.append(
                _Span(lo, hi, (*span.labels, _repeat_label(inside, period, self._ops)), "repeat", inside, times)
            )
            i += period * times
        return found

    def _together(self, items: Sequence[Any], period: int) -> int:
        """Return how many of these equal parts belong together: each uses the one before, or has the next number."""
        parts = [items[i : i + period] for i in range(0, len(items), period)]
        for n in range(1, len(parts)):
            (lo, hi), (first, last) = _bounds(parts[n - 1]), _bounds(parts[n])
            sources = (self._number.get(e.source, -1) for k in range(first, last) for e in self._edges_into(k))
            one, other = (part[0].labels[-1] if isinstance(part[0], _Span) else "" for part in parts[n - 1 : n + 1])
            if not any(lo <= k < hi for k in sources) and one == other:
                return n
        return len(parts)

    def _edges_into(self, k: int) -> list[Edge]:
        return self.graph.edges_into(self._ops[k])

    def _signature(self, item: Any, depth: int) -> tuple[Any, ...]:
        """Describe what is computed, so that equal items have equal signatures."""
        lo, hi = _bounds([item])
        rows = []
        for k in range(lo, hi):
            node = self._ops[k]
            uses: list[tuple[Any, ...]] = []
            for edge in self._edges_into(k):
                number = self._number.get(edge.source)
                source = self.graph[edge.source]
                if number is not None and number >= lo:
                    uses.append((k - number,))
                else:
                    own = number is None and (source.scope or source.role == "constant")
                    uses.append((source.role, source.shape) if own else ("outside",))
            scope = tuple(
                re.sub(r"\d+(?=:|$)", "#", label) if i == 0 else label for i, label in enumerate(node.scope[depth:])
            )
            rows.append((scope, node.label, node.options, node.shape, tuple(uses)))
        return tuple(rows)

    def _make_groups(self, root: _Span) -> None:
        """Give the spans numbers, from the outside in, and find the home of every node."""
        chain: list[tuple[str, ...]] = [()] * len(self._ops)  # the groups around each op, outer ones first
        part = [0] * len(self._ops)  # in which part of its innermost repeat it stands
        stack: list[tuple[_Span, tuple[str, ...], int]] = [
            (s, (), 1) for s in reversed(root.items) if isinstance(s, _Span)
        ]
        order: list[tuple[_Span, tuple[str, ...], int]] = []
        while stack:
            span, around, depth = stack.pop()
            around = (*around, f"b{len(order)}")
            order.append((span, around, depth))
            chain[span.lo : span.hi] = [around] * (span.hi - span.lo)
            for n, piece in enumerate(_pieces(span)):
                lo, hi = _bounds(piece)
                part[lo:hi] = [n] * (hi - lo)
            depth += span.kind == "module"
            stack += [(s, around, depth) for s in reversed(span.items) if isinstance(s, _Span)]
        modules = {around[-1] for span, around, _ in order if span.kind == "module"}
        where = {node.id: chain[k] for k, node in enumerate(self._ops)}
        for node in self.graph:
            if node.op is None:
                users = [self._number[edge.target] for edge in self.graph.edges_from(node)]
                where[node.id] = _leaf_home(node, [chain[k] for k in users], [part[k] for k in users], modules)
        self.home = {node.id: where[node.id][-1] if where[node.id] else None for node in self.graph}
        self.around = where  # all groups around each node, outer ones first
        inside: dict[str, list[Node]] = {around[-1]: [] for _, around, _ in order}
        for node in self.graph:
            for id in where[node.id]:
                inside[id].append(node)
        for span, around, depth in order:
            nodes = inside[around[-1]]
            cuts = [_bounds(piece) for piece in _pieces(span)]
            self.groups[around[-1]] = Group(
                around[-1], span.labels[-1], span.labels, around[-2] if len(around) > 1 else None, depth,
                span.kind == "module", tuple(self._between(nodes, cuts)),
            )  # fmt: skip

    def _between(self, nodes: Sequence[Node], cuts: Sequence[tuple[int, int]]) -> Iterator[tuple[Node, ...]]:
        """Divide the nodes of a group among its parts; a leaf goes to its first user."""
        if len(cuts) == 1:
            yield tuple(nodes)
            return
        parts: list[list[Node]] = [[] for _ in cuts]
        starts = [lo for lo, _ in cuts]
        for node in nodes:
            k = self._number.get(node.id)
            if k is None:
                k = min(self._number[edge.target] for edge in self.graph.edges_from(node))
            parts[max(bisect_right(starts, k) - 1, 0)].append(node)
        yield from map(tuple, parts)


def _leaf_home(
    node: Node, chains: Sequence[tuple[str, ...]], parts: Sequence[int], modules: set[str]
) -> tuple[str, ...]:
    """Return the groups in which a leaf stands, given the groups around each of its users.

    What belongs to a module stands where it is first used; masks and the like, where they are used; other data
    outside, unless they have no name and a single part of a repeat uses them.
    """
    if not chains or (node.name is not None and not node.scope and node.role in ("input", "parameter")):
        return ()
    if node.role == "parameter" and node.scope:
        home = chains[0]
    else:
        home = _common(chains)
        while home and home[-1] in modules and (node.role != "constant" or node.dtype.kind == "i"):
            home = home[:-1]
    shared = len(set(parts)) > 1 or any(chain[: len(home)] != home for chain in chains)
    while home and home[-1] not in modules and shared:
        home = home[:-1]
    return home


def _common(chains: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    first, last = min(chains), max(chains)
    n = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:n]


def _begins(scope: Sequence[str], labels: Sequence[str]) -> bool:
    """Tell whether these very calls are the outer ones of a scope: a module called again has an equal label only."""
    return len(scope) >= len(labels) and all(a is b for a, b in zip(scope, labels, strict=False))


def _bounds(items: Sequence[Any]) -> tuple[int, int]:
    """Return the numbers of the first op in these items, and of the one after the last."""
    first, last = items[0], items[-1]
    return first.lo if isinstance(first, _Span) else first, last.hi if isinstance(last, _Span) else last + 1


def _pieces(span: _Span) -> list[list[Any]]:
    size = len(span.items) // span.times
    return [span.items[i * size : (i + 1) * size] for i in range(span.times)]


def _repeat(signs: Sequence[int], i: int) -> tuple[int, int]:
    """Return (period, times) of the longest repeat that begins at `i`."""
    best = (1, 1)
    for period in range(1, min(PERIOD, (len(signs) - i) // EQUAL) + 1):
        times = 1
        while signs[i + times * period : i + (times + 1) * period] == signs[i : i + period]:
            times += 1
        if times >= EQUAL and period * times > best[0] * best[1]:
            best = (period, times)
    return best


def _repeat_label(items: Sequence[Any], period: int, ops: Sequence[Node]) -> str:
    """Return "blocks.0 to 11: TransformerBlock"; for plain ops their names."""
    names = [item.labels[-1] if isinstance(item, _Span) else ops[item].label for item in items]
    first, _, kind = names[0].partition(": ")
    end = names[-period].partition(": ")[0]
    number = re.search(r"\d+$", end)
    if period == 1 and kind and first != end and number:
        return f"{first} to {number[0]}: {kind}"
    if period > 1:
        kinds = ", ".join(name.partition(": ")[2] or name for name in names[:period])
        if kind and first != end:
            return f"{first} to {names[-1].partition(': ')[0]}: {kinds}"
        return kinds
    return names[0]


def _stretches(items: Sequence[Any], size: int) -> list[Any]:
    """Cut a long sequence of items into spans of `size` each."""
    found = []
    for i in range(0, len(items), size):
        piece = list(items[i : i + size])
        lo, hi = _bounds(piece)
        found.append(_Span(lo, hi, (f"ops {lo + 1} to {hi}",), "stretch", piece))
    return found


# -- the gradient of a group --------------------------------------------------------------------


class Statistics(NamedTuple):
    """The gradients inside a group, together."""

    of: str  # "parameters"; "result" where there are none
    rms: float
    peak: float
    zeros: float  # share of the elements that are exactly 0
    each: list[float]  # the RMS in each of the equal parts


def statistics(group: Group, graph: Graph) -> Statistics | None:
    """Return statistics of the gradients of a group's parameters, or of its last result; None if there is none.

    What a part gives to a parameter that several parts share counts for that part.
    """
    of, everything = "parameters", [n.grad for n in group.nodes if n.role == "parameter"]
    each = [_given(part, graph) for part in group.parts] if len(group.parts) > 1 else []
    if not any(g is not None for g in everything):
        of, everything = "result", [group.parts[-1][-1].grad]
        each = [[part[-1].grad] for part in group.parts] if len(group.parts) > 1 else []
    everything = [g for g in everything if g is not None and g.size]
    if not everything:
        return None
    with np.errstate(all="ignore"):
        peak = float(np.max([np.abs(g).max() for g in everything]))
    zeros = sum(int((g == 0).sum()) for g in everything) / sum(g.size for g in everything)
    sizes = [joint_rms([g for g in part if g is not None]) for part in each]
    return Statistics(of, joint_rms(everything), peak, zeros, sizes)


def _given(part: Sequence[Node], graph: Graph) -> list[Any]:
    """Return what the ops of a part give back to parameters, summed for each."""
    edges = (edge for node in part for edge in graph.edges_into(node) if graph[edge.source].role == "parameter")
    return list(summed((edge.source, edge.share) for edge in edges).values())


def summed(shares: Iterable[tuple[str, Array | None]]) -> dict[str, Array]:
    """Return the sum of the gradients that have the same key; None, where none came back, is nothing.

    >>> summed([("x", np.ones(2)), ("w", None), ("x", np.ones(2))])
    {'x': array([2., 2.])}
    """
    found: dict[str, Array] = {}
    with np.errstate(all="ignore"):
        for key, share in shares:
            if share is not None:
                found[key] = found[key] + share if key in found else share
    return found


def joint_rms(arrays: Sequence[Any]) -> float:
    """Return the RMS of the elements of several arrays together.

    >>> round(joint_rms([np.ones(3), np.zeros(1)]), 3)
    0.866
    """
    sizes = np.array([a.size for a in arrays], float)
    if not sizes.sum():
        return 0.0
    each = np.array([rms(a) for a in arrays])
    peak = each.max()
    return float(peak * np.sqrt((sizes * (each / peak) ** 2).sum() / sizes.sum())) if 0 < peak < np.inf else float(peak)
