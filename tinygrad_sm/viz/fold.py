"""Folding: which modules of a graph stand as one card each, so that the picture can be read.

The ops of a graph, in creation order, form a tree of groups: a group is one call of a module, the ops between
entering and leaving it. Neighbours that are equal, such as the twelve blocks of a model, form a group of their
own. What is created one after the other is an interval in a topological order, so that no way leads out of a
group and back into it: folded groups never make a cycle.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..graph import Edge, Graph, Node, matches, rms

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


class Link(NamedTuple):
    """An arrow of the picture: one edge of the graph, or all from one card to another that is folded."""

    id: str
    source: str
    target: str
    size: float | None  # RMS of the gradient that comes back; None: none does


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
            while node.scope[: len(open_[-1].labels)] != open_[-1].labels:
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

    def _signature(self, item: Any, depth: int) -> tuple[Any, ...]:
        """Describe what is computed, so that equal items have equal signatures."""
        lo, hi = _bounds([item])
        rows = []
        for k in range(lo, hi):
            node = self._ops[k]
            uses: list[tuple[Any, ...]] = []
            for edge in self.graph.edges_into(node):
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


# -- what is shown ------------------------------------------------------------------------------


class View:
    """What a picture shows of a graph: nodes, folded groups, and the arrows between them.

    Parameters
    ----------
    graph : Graph
        What to show.
    depth : int, optional
        How many levels of modules are seen: at 1, the outermost ones are cards.
    collapse, expand : sequence of str
        Modules to fold, and to open, by label, name, class or path, such as "blocks.*" or "MultiHeadAttention".
    defined : collection of str
        Fused ops that were replaced by their definitions: these are seen wherever what is around them is.
    max_nodes : int
        If there would be more cards, modules fold, inner ones first, until about 60 are left.
    strict : bool
        Whether a word that names no module is an error.
    """

    def __init__(
        self, graph: Graph, *, depth: int | None = None, collapse: Sequence[str] = (), expand: Sequence[str] = (),
        defined: Collection[str] = (), max_nodes: int = 150, strict: bool = True,
    ) -> None:  # fmt: skip
        self.graph = graph
        self.tree = Tree(graph, apart=expand)
        if self._count(set()) > max_nodes:
            self.tree = Tree(graph, apart=expand, most=max_nodes)
        groups = self.tree.groups
        fold, keep = self._named(collapse, "collapse", strict), self._named(expand, "expand", strict)
        for id in tuple(keep):
            keep |= set(self._ancestors(id))
        self._definitions = {id for id, group in groups.items() if group.label in defined}
        shallow = {id for id, g in groups.items() if depth is None or (g.is_module and g.depth < depth)}
        wish = (shallow | self._definitions) - fold | keep
        self.open = self._reachable(wish)
        self.folded_by_itself = self._count(self.open) > max_nodes
        if self.folded_by_itself:
            self.open = self._opened(min(max_nodes, READABLE), wish, keep)
        self.of = {node.id: self._stands_for(node.id) for node in graph}  # node -> what stands for it
        shown: dict[str, Node | Group] = {}
        for node in graph:
            id = self.of[node.id]
            shown.setdefault(id, groups.get(id, node))
        self.shown = tuple(shown.values())
        self.links = tuple(self._links())

    def parent(self, item: Node | Group) -> str | None:
        """Return the innermost module around something that is shown."""
        id = self.tree.home[item.id] if isinstance(item, Node) else item.parent
        while id is not None and not self.tree.groups[id].is_module:
            id = self.tree.groups[id].parent
        return id

    def flow(self, source: Node, group: Group) -> float | None:
        """Return the RMS of the gradient that comes back to a node from all its uses inside a group."""
        edges = [e for e in self.graph.edges_from(source) if group.id in self.tree.around[e.target]]
        total = _total(edges)
        return None if total is None else rms(total)

    def _named(self, words: Iterable[str], option: str, strict: bool) -> set[str]:
        found: set[str] = set()
        for word in words:
            ids = {g.id for g in self.tree.groups.values() if matches(word, g.scope)}
            if not ids and strict:
                known = sorted({g.label for g in self.tree.groups.values() if g.is_module})
                have = (
                    "its modules are " + ", ".join(known[:12]) + ", ..." * (len(known) > 12) if known else "it has none"
                )
                raise ValueError(f"draw: {option}={word!r} names no module of this graph; {have}")
            found |= ids
        return found

    def _ancestors(self, id: str | None) -> Iterator[str]:
        while id is not None and (id := self.tree.groups[id].parent) is not None:
            yield id

    def _reachable(self, wish: set[str]) -> set[str]:
        """Return the groups that are open and stand in open ones only."""
        open_: set[str] = set()
        for id, group in self.tree.groups.items():  # outer ones first
            if id in wish and (group.parent is None or group.parent in open_):
                open_.add(id)
        return open_

    def _count(self, open_: set[str]) -> int:
        """Return how many cards there are if these groups are open."""
        nodes = sum(home is None or home in open_ for home in self.tree.home.values())
        return nodes + sum(
            g.id not in open_ and (g.parent is None or g.parent in open_) for g in self.tree.groups.values()
        )

    def _opened(self, limit: int, wish: set[str], keep: set[str]) -> set[str]:
        """Open groups, outer ones first, as long as there are at most `limit` cards; repeats stay folded."""
        groups, open_ = self.tree.groups, set(keep)
        gain = dict.fromkeys(groups, -1)
        for id in (*self.tree.home.values(), *(g.parent for g in groups.values())):
            if id is not None:
                gain[id] += 1
        count = self._count(open_)
        for id in sorted(groups, key=lambda id: (groups[id].depth, int(id[1:]))):
            group = groups[id]
            outer = group.parent is None or group.parent in open_
            fits = group.is_module and count + gain[id] <= limit
            if id in wish - open_ and outer and (fits or id in self._definitions):
                open_.add(id)
                count += gain[id]
        return open_

    def _stands_for(self, id: str) -> str:
        return next((group for group in self.tree.around[id] if group not in self.open), id)

    def _links(self) -> Iterator[Link]:
        merged: dict[tuple[str, str], list[Edge]] = {}
        for edge in self.graph.edges:
            source, target = self.of[edge.source], self.of[edge.target]
            if (source, target) == (edge.source, edge.target):
                yield Link(edge.id, source, target, None if edge.share is None else rms(edge.share))
            elif source != target:
                merged.setdefault((source, target), []).append(edge)
        for (source, target), edges in merged.items():
            by_source: dict[str, list[Edge]] = {}
            for edge in edges:
                by_source.setdefault(edge.source, []).append(edge)
            totals = [total for total in map(_total, by_source.values()) if total is not None]
            yield Link(f"e_{source}_{target}", source, target, joint_rms(totals) if totals else None)


def _total(edges: Sequence[Edge]) -> Any:
    """Return the sum of what came back along several edges from one node; None if nothing did."""
    shares = [edge.share for edge in edges if edge.share is not None]
    if not shares:
        return None
    with np.errstate(all="ignore"):
        return sum(shares[1:], start=shares[0])


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
