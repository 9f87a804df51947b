"""draw: a picture of what made a tensor, with values, gradients and modules."""

from __future__ import annotations

import base64
import html
import json
import os
import tempfile
import webbrowser
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..graph import Graph, Node
from ..interop import torch
from ..op import REGISTRY
from ..ops.options import count
from ..tensor import Tensor
from ..text import visible
from .cards import SHOW, plain
from .data import data
from .definition import with_definitions
from .dot import dot
from .fold import View
from .page import Interactive, page
from .picture import Part, Picture, colours, picture
from .render import NoRenderer, render
from .states import states
from .svg import svg

DIRECTIONS = ("TB", "LR", "BT", "RL")
MAX_NODES = 150


@dataclass(frozen=True)
class Drawing:
    """A picture of a graph, which becomes SVG, PNG, PDF or an interactive page on demand. A notebook shows it.

    >>> import tinygrad_sm as sm
    >>> x = sm.Tensor([1.0, 2.0], requires_grad=True, name="x")
    >>> drawing = sm.draw(x.exp().sum(), title="exp and sum")
    >>> drawing
    <Drawing: Computation graph of sum: 3 nodes (1 parameter, 1 op, 1 loss), 2 edges.>
    >>> drawing.svg()[:4], drawing.dot[:7]
    ('<svg', 'digraph')
    """

    picture: Picture
    alt: str  # what the picture shows, in words
    title: str
    parts: tuple[Part, ...] = field(repr=False)  # the graph, or several, for the page
    names: tuple[str, ...] = ()  # of several graphs

    def __repr__(self) -> str:
        return f"<Drawing: {self.alt[:80]}>"

    @cached_property
    def dot(self) -> str:
        """The picture as text in Graphviz's language."""
        return dot(self.picture)

    def svg(self) -> str:
        """Return the picture as SVG, ready to stand in a file or in HTML: by Graphviz; where there is none, without."""
        try:
            text = render(self.dot, "svg").decode(errors="replace")
        except NoRenderer:
            return svg(self.picture)
        return text[text.index("<svg") :]  # without the prologue, whose comment has the renderer's version

    def html(self) -> str:
        """Return the interactive page: the graph, in which one steps through the backward pass. It asks for nothing.

        >>> import tinygrad_sm as sm
        >>> sm.draw(sm.Tensor([1.0, 2.0], requires_grad=True).sum()).html()[:15]
        '<!doctype html>'
        """
        return page(self._data())

    def interactive(self, height: int = 640) -> Interactive:
        """Return the page for a notebook to show, `height` pixels high.

        >>> import tinygrad_sm as sm
        >>> page = sm.draw(sm.Tensor([1.0, 2.0], requires_grad=True).sum()).interactive(height=400)
        >>> page.height, page.alt
        (400, 'Computation graph of sum: 2 nodes (1 parameter, 1 loss), 1 edge.')
        """
        return Interactive(self.html(), count(height, "height", "interactive"), self.alt)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture to a file, and return its path.

        The ending says what is written: .svg, .png or .pdf, a picture; .html, the interactive page; .dot, Graphviz's
        text; .json, the nodes, edges and modules with their numbers.

        Raises
        ------
        ValueError
            For another ending.
        NoRenderer
            For .png and .pdf where no Graphviz is there to draw them; the same picture as SVG then stands beside.

        Examples
        --------
        >>> import tempfile, tinygrad_sm as sm
        >>> x = sm.Tensor([1.0, 2.0], requires_grad=True)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     sm.draw(x.exp().sum()).save(f"{folder}/graph.html").name
        'graph.html'
        """
        path = Path(path)
        writers: dict[str, Callable[[], str | bytes]] = {
            ".svg": self.svg,
            ".png": lambda: render(self.dot, "png"),
            ".pdf": lambda: render(self.dot, "pdf"),
            ".html": self.html,
            ".dot": lambda: self.dot,
            ".json": lambda: json.dumps(self._data(cards=False), indent=1, allow_nan=False),
        }
        kind = path.suffix.lower()
        if kind not in writers:
            known = ", ".join(writers)
            raise ValueError(f"save: the file name must end in one of {known}; got {path.name!r}")
        try:
            content = writers[kind]()
        except NoRenderer as error:
            beside = path.with_suffix(".svg")
            beside.write_text(self.svg(), encoding="utf-8")
            hint = " A PDF needs the system's Graphviz: the wheel makes none." if kind == ".pdf" else ""
            raise NoRenderer(
                f"{visible(path.name)} is not written, but the same picture is, to {visible(beside)}: {error}{hint}"
            ) from None
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def open(self, kind: str = ".svg") -> Path:
        """Show the picture in the system's web browser, or with ".html" the page; return the path of the file shown.

        The file is a temporary one, which the system clears away some day. Raises ValueError for another ending.

        >>> import tinygrad_sm as sm
        >>> sm.draw(sm.Tensor([1.0, 2.0], requires_grad=True).sum()).open()  # doctest: +SKIP
        PosixPath('/.../tinygrad_sm_x2f0a9.svg')
        """
        kind = kind if kind.startswith(".") else f".{kind}"
        if kind not in (".svg", ".html", ".png", ".pdf"):
            raise ValueError(f"open: the browser shows '.svg', '.html', '.png' or '.pdf', not {kind!r}")
        handle, name = tempfile.mkstemp(kind, "tinygrad_sm_")
        os.close(handle)
        path = self.save(name)
        webbrowser.open(path.as_uri())
        return path

    def _data(self, *, cards: bool = True) -> dict[str, Any]:
        return data(
            self.parts, names=self.names, title=self.title, alt=self.alt, direction=self.picture.direction, cards=cards
        )

    def _repr_html_(self) -> str:
        code = base64.b64encode(self.svg().encode()).decode()  # an <img> outlives saving and reopening untrusted
        return f'<img alt="{html.escape(self.alt)}" style="max-width:100%" src="data:image/svg+xml;base64,{code}">'


def draw(
    tensor_or_tensors: Tensor | Sequence[Tensor] | Graph | Callable[..., Any],
    *inputs: Any,
    show: Sequence[str] = SHOW,
    direction: str = "TB",
    depth: int | None = None,
    collapse: str | Sequence[str] = (),
    expand: str | Sequence[str] = (),
    color_by: str | Callable[[Node], Any] | None = None,
    max_nodes: int = MAX_NODES,
    title: str | None = None,
) -> Drawing:
    """Draw what made a tensor: one card for each tensor, with its value and gradient, in the boxes of its modules.

    Arrows show the forward flow; their width and number, the gradient that comes back along them (RMS). The gradients
    are computed for the picture alone: no `.grad` is touched, and `backward()` need not have run.

    Parameters
    ----------
    tensor_or_tensors : Tensor, sequence of Tensors, Graph, or Module
        Where the picture ends; a scalar, if it shall have gradients. `Graph(t, gradient)` starts from any. A module
        is applied to the inputs, and the picture ends at what it returns. A loss of PyTorch's, before its `backward()`.
    *inputs
        What to apply a module to: `draw(model, x)` is `draw(model(x))`. After a loss of PyTorch's, its module.
    show : sequence of {"value", "grad", "shape"}
        What the cards show.
    direction : {"TB", "LR", "BT", "RL"}
        Where the graph runs: top to bottom, left to right, and so on.
    depth : int, optional
        How many levels of modules are seen: with 1 each outermost module is one card, with statistics of its
        gradients. Three or more equal neighbours are one card then, "x12".
    collapse : str or sequence of str
        Modules to draw as one card, by name, class or path: "attn", "MultiHeadAttention", "blocks.*.mlp".
    expand : str or sequence of str
        Modules to open that would be folded; and fused ops whose definition to show in their place, with its values and
        gradients: "cross_entropy", or the name of the tensor that the op made.
    color_by : "grad" or function, optional
        Colours the cards, by the RMS of the gradient, or by the number that the function returns for a `Node`; it
        may return a colour "#RRGGBB" as well, or None.
    max_nodes : int
        A graph of more cards folds its modules by itself, and says so below the picture; one without modules, the
        stretches of it that repeat.
    title : str, optional
        Stands above the picture.

    Returns
    -------
    Drawing
        With `.save("x.svg")` for files of six kinds, `.open()`, and `.interactive()`.

    Raises
    ------
    TypeError
        If it is not given Tensors.
    ValueError
        For an unknown option, or a name in `collapse` or `expand` that means nothing in this graph; if a graph of more
        than `max_nodes` nodes cannot be folded.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> x = sm.Tensor([1.0, 2.0], requires_grad=True, name="x")
    >>> sm.draw(x.exp().sum()).alt
    'Computation graph of sum: 3 nodes (1 parameter, 1 op, 1 loss), 2 edges.'
    """
    ends: Any = tensor_or_tensors
    if torch.is_tensor(ends):  # the second argument may be its model
        ends, inputs = torch.graph(ends, *inputs[:1]), inputs[1:]
    if inputs and hasattr(ends, "parameters") and callable(ends):
        ends, inputs = ends(*inputs), ()
    _check_ends(ends, inputs)
    graph, words, defined, known = read_graph(ends, words_of(expand, "expand"))
    view = View(
        graph,
        depth=None if depth is None else count(depth, "depth", "draw"),
        collapse=words_of(collapse, "collapse"),
        expand=words,
        defined=defined,
        known=known,
        max_nodes=count(max_nodes, "max_nodes", "draw"),
    )
    check_words([view])
    if len(view.shown) > max_nodes and not words:
        raise ValueError(
            f"draw: this graph has {len(graph)} nodes, of which {len(view.shown)} cannot be folded: more than "
            f"max_nodes={max_nodes}. Draw a part of it, or pass max_nodes={len(view.shown)}"
        )
    part = Part(view, states(graph), checked_show(show), *colours(view, color_by))
    image = picture(part, direction=checked_direction(direction), title=title)
    return Drawing(image, in_words(part), "" if title is None else str(title), (part,))


def read_graph(ends: Any, expand: Sequence[str]) -> tuple[Graph, list[str], set[str], set[str]]:
    """Return the graph with the definitions of the fused ops that are to be expanded; the words; the ops; words used.

    A word may mean a module, a fused op, or a tensor that one made, or several of these.
    """
    if isinstance(ends, Graph):
        fused = [word for word in expand if any(word == node.op for node in ends)]
        if fused:
            raise ValueError(
                f"draw: expand={fused[0]!r} needs the tensor, for a Graph keeps none to compute the definition from: "
                "draw(loss, expand=...)"
            )
        return ends, list(expand), set(), set()
    roots, defined, used = with_definitions(list(ends) if isinstance(ends, (tuple, list)) else [ends], expand)
    return Graph(roots), list(expand), defined, used


def words_of(words: str | Sequence[str], option: str, caller: str = "draw") -> list[str]:
    """Return the names that an option lists."""
    words = [words] if isinstance(words, str) else list(words) if isinstance(words, Iterable) else [words]
    for word in words:
        if not isinstance(word, str):
            raise TypeError(f"{caller}: {option} takes names of modules or ops, not a {type(word).__name__}")
    return words


def check_words(views: Sequence[View], caller: str = "draw") -> None:
    """Refuse words of `collapse` and `expand` that mean nothing in any of these graphs; say what is near."""
    unknown = set.intersection(*(set(view.unknown) for view in views))
    for option, word in sorted(unknown):
        nodes = [node for view in views for node in view.graph]
        labels = sorted({g.label for view in views for g in view.tree.groups.values() if g.is_module})
        fused = {node.op for node in nodes if node.op is not None and REGISTRY[node.op].definition is not None}
        if any(word in (node.op, node.name) for node in nodes):
            kind = "an op or a tensor" if option == "collapse" else "not a module, nor made by a fused op"
            raise ValueError(f"{caller}: {option}={word!r} is {kind}: {_takes(option, labels, fused)}")
        names = {part for label in labels for part in (*label.split(": "), label)}
        near = get_close_matches(word, names | fused if option == "expand" else names, 1, 0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        what = "no module of this graph" if option == "collapse" else "no module or fused op of this graph"
        raise ValueError(f"{caller}: {option}={word!r} names {what}{hint} {_takes(option, labels, fused)}")


def _takes(option: str, labels: Sequence[str], fused: Iterable[str]) -> str:
    modules = ", ".join(labels[:12]) + ", ..." * (len(labels) > 12) if labels else "none"
    ops = f"; fused ops: {', '.join(sorted(fused)) or 'none'}" if option == "expand" else ""
    return f"(modules: {modules}{ops})"


def checked_show(show: Any, caller: str = "draw") -> tuple[str, ...]:
    """Return what the cards show, if that is known."""
    show = (show,) if isinstance(show, str) or not isinstance(show, Iterable) else tuple(show)
    if unknown := [s for s in show if s not in SHOW]:
        raise ValueError(f"{caller}: show takes {', '.join(map(repr, SHOW))}; got {unknown[0]!r}")
    return show


def checked_direction(direction: Any, caller: str = "draw") -> str:
    """Return where the graph runs, if that is a direction."""
    if direction not in DIRECTIONS:
        raise ValueError(f"{caller}: direction must be one of {', '.join(map(repr, DIRECTIONS))}, not {direction!r}")
    return str(direction)


def _check_ends(ends: Any, more: tuple[Any, ...]) -> None:
    """Say what to draw instead of a model, an array or a second tensor."""
    if more:
        if isinstance(more[0], (str, os.PathLike)):
            raise TypeError(f"draw takes no file name; save the picture: draw(t).save({str(more[0])!r})")
        raise TypeError(
            "draw takes one tensor, or several in a tuple: draw((a, b)); its options have names: show=, title="
        )
    for end in ends if isinstance(ends, (tuple, list)) else (ends,):
        if isinstance(end, np.ndarray):
            raise TypeError("draw: an array does not know what made it; draw the Tensor that an op on Tensors returned")
        if hasattr(end, "parameters"):
            raise TypeError(f"draw: a {type(end).__name__} is drawn applied to an input: draw(model, x)")
        if not isinstance(end, (Tensor, Graph)):
            raise TypeError(f"draw takes a Tensor, a tuple of Tensors or a Graph, not a {type(end).__name__}")
    if isinstance(ends, (tuple, list)) and not ends:
        raise ValueError("draw: the sequence holds no tensor")


def in_words(part: Part) -> str:
    """Return the text for those who cannot see the picture."""
    view, found = part.view, part.states
    graph = view.graph
    ends = ", ".join(_called(root) for root in graph.roots[:3])
    roles = Counter(node.role for node in graph)
    kinds = ", ".join(_counted(n, role) for role, n in roles.items())
    nodes, edges = _counted(len(graph), "node"), _counted(len(graph.edges), "edge")
    text = f"Computation graph of {ends}: {nodes} ({kinds}), {edges}."
    if view.folded_by_itself:
        text += f" Folded into {len(view.shown)} cards."
    warned = [node for node in graph if node.id in found and found[node.id].kind == "first"]
    return text + "".join(f" {_called(node)}: {found[node.id].text[2:]}." for node in warned[:5])


def _called(node: Node) -> str:
    return plain("" if node.name is None else node.name) or plain(node.label)


def _counted(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}es" if word.endswith("s") else f"{n} {word}s"
