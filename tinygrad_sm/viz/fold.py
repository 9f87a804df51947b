"""Folding: which modules of a graph stand as one card each, so that the picture can be read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from ..graph import Edge, Graph, Node, matches, rms
from .groups import READABLE, Group, Tree, joint_rms, summed


class Link(NamedTuple):
    """An arrow of the picture: one edge of the graph, or all from one card to another that is folded."""

    id: str
    source: str
    target: str
    size: float | None  # RMS of the gradient that comes back; None: none does


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
    known : collection of str
        Words of `expand` that mean something else than a module; others that name none are in `unknown` then.
    """

    def __init__(
        self, graph: Graph, *, depth: int | None = None, collapse: Sequence[str] = (), expand: Sequence[str] = (),
        defined: Collection[str] = (), known: Collection[str] = (), max_nodes: int = 150,
    ) -> None:  # fmt: skip
        self.graph = graph
        apart = [word for word in expand if word not in defined]
        self.tree = Tree(graph, apart=apart)
        if self._count(set()) > max_nodes:
            self.tree = Tree(graph, apart=apart, most=max_nodes)
        groups = self.tree.groups
        self.unknown: list[tuple[str, str]] = []  # options, and words there that name nothing
        self._definitions = {id for id, group in groups.items() if group.label in defined}
        fold = self._named(collapse, "collapse")
        keep = self._named(expand, "expand", known) - self._definitions
        for id in tuple(keep):
            keep |= set(self._ancestors(id))
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

    def _named(self, words: Iterable[str], option: str, known: Collection[str] = ()) -> set[str]:
        found: set[str] = set()
        for word in words:
            ids = {g.id for g in self.tree.groups.values() if matches(word, g.scope)}
            if not ids and word not in known:
                self.unknown.append((option, word))
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
            totals = list(summed((edge.source, edge.share) for edge in edges).values())
            yield Link(f"e_{source}_{target}", source, target, joint_rms(totals) if totals else None)
