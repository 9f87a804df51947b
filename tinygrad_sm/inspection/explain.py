"""explain: the backward pass of a loss, or the rule of an op, written as a person would on paper."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import replacing
from ..graph import Graph, Node
from ..op import Op
from ..ops.options import count
from ..tensor import Tensor
from ..viz.draw import check_words, read_graph, words_of
from ..viz.fold import View
from ..viz.groups import Group
from .arrays import FULL
from .document import Block, gradient_span, to_latex, to_markdown, to_text
from .document_html import to_html
from .naming import full_name, short_names
from .notation import signs
from .op_card import card, find_op
from .scopes import all_steps
from .steps import legend

SMALL = 30  # ops of a graph that is explained step by step
HEAD = ("gradient", "of", "shape", "value or size")
MOST_OF = 0.8  # of the ops in one step: then it tells too little
MOST = 1000  # elements of an array in full with numbers=True


@dataclass(frozen=True)
class Explanation:
    r"""An explanation in blocks; it prints as text, and a notebook shows it with its formulas typeset.

    >>> import tinygrad_sm as sm
    >>> card = sm.explain("exp")
    >>> print(card.markdown().splitlines()[0])
    ## The op exp
    >>> print(card.latex().splitlines()[0], card.html()[:15])
    \section*{The op exp} <!DOCTYPE html>
    """

    title: str
    blocks: tuple[Block, ...] = field(repr=False)
    numbers: int = FULL

    def __str__(self) -> str:
        return to_text(self.blocks, self.numbers)

    def __repr__(self) -> str:
        return str(self)

    def markdown(self) -> str:
        """Return the explanation as Markdown, with formulas in LaTeX between dollar signs."""
        return to_markdown(self.blocks, self.numbers)

    def latex(self) -> str:
        """Return the explanation as LaTeX, to stand in a document that loads amsmath."""
        return to_latex(self.blocks, self.numbers)

    def html(self) -> str:
        """Return the explanation as a page of HTML, with formulas in MathML; it asks for nothing from anywhere."""
        return to_html(self.blocks, self.numbers)

    def _repr_markdown_(self) -> str:  # a notebook typesets the formulas in Markdown; in HTML not everywhere
        return self.markdown()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the explanation to a file whose ending says how, and return its path.

        Raises
        ------
        ValueError
            For another ending than .txt, .md, .html or .tex.

        Examples
        --------
        >>> import tempfile, tinygrad_sm as sm
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     sm.explain("softmax").save(f"{folder}/softmax.md").name
        'softmax.md'
        """
        path = Path(path)
        writers: dict[str, Callable[[], str]] = {
            ".txt": lambda: f"{self}\n",
            ".md": self.markdown,
            ".html": self.html,
            ".tex": lambda: to_latex(self.blocks, self.numbers, whole=True),
        }
        kind = path.suffix.lower()
        if kind not in writers:
            raise ValueError(f"save: the file name must end in one of {', '.join(writers)}; got {path.name!r}")
        with replacing(path) as file:
            file.write(writers[kind]().encode())
        return path


def explain(
    what: Tensor | Sequence[Tensor] | Graph | Op | str | Callable[..., Any],
    *,
    expand: str | Sequence[str] = (),
    depth: int | None = None,
    numbers: bool | int | None = None,
) -> Explanation:
    """Write a backward pass as a person would on paper; or, of an op, what it computes and how its gradient goes.

    Of a graph of up to 30 ops every step is written, newest first, as the engine goes: the op's formula and its
    gradient's in the names of this graph, the numbers that come in and go out, and the sums where paths join. Of
    cross-entropy, softmax, attention and the norms the gradient is derived. A larger graph is written by module,
    with the size of the gradient that comes in and goes out. Names are those of the tensors (`name=`), or of your
    variables under `sm.record()`. No `.grad` is touched.

    Parameters
    ----------
    what : Tensor, sequence of Tensors, Graph, Op, str or function
        A loss, or a `Graph(t, gradient)` of any tensor; or an op: itself, its name, or the function that calls it,
        such as `F.softmax`.
    expand : str or sequence of str
        Modules of a large graph to look into, and fused ops to replace by their definition, as in `sm.draw`.
    depth : int, optional
        How many levels of modules are seen; by default all of a small graph, and 2 of a large one, or as many more as
        it takes until no step is nearly all of it.
    numbers : bool or int, optional
        Arrays of up to so many elements are written in full (24), larger ones by shape, RMS and the first elements;
        False leaves the numbers out.

    Returns
    -------
    Explanation
        `print` it, let a notebook show it, or `.save("x.md")` it (.txt, .html and .tex too).

    Raises
    ------
    TypeError
        For an array, a module without an input, or what is no tensor, graph or op.
    ValueError
        For a tensor without history, an op that is not registered, or a word in `expand` that means nothing here.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> w, x = sm.Tensor(2.0, requires_grad=True, name="w"), sm.Tensor(3.0, name="x")
    >>> print(sm.explain(w * x))  # doctest: +ELLIPSIS
    The backward pass of loss
    =========================
    ...
    Step 1: mul, loss = w·x
      forward     loss = 2·3 = 6
      comes in    dloss = 1
      goes out    dw = dloss·x = 1·3 = 3
    ...
    """
    words, full = words_of(expand, "expand", "explain"), _full(numbers)
    depth = None if depth is None else count(depth, "depth", "explain")
    if not isinstance(what, (Tensor, Graph, tuple, list)):
        op = find_op(what)
        return Explanation(op.name, tuple(card(op)), full)
    return _of_graph(what, words, depth, full)


def _full(numbers: Any) -> int:
    if numbers is None or isinstance(numbers, (bool, np.bool_)):
        return FULL if numbers is None else MOST * bool(numbers)
    return count(numbers, "numbers", "explain") if numbers != 0 else 0


def _of_graph(ends: Any, words: list[str], depth: int | None, numbers: int) -> Explanation:
    _check_ends(ends)
    graph, words, defined, known = read_graph(ends, words)
    if not graph.has_gradients:
        shape = graph.roots[-1].shape
        raise ValueError(
            f"explain: there is no gradient to start from at a result of shape {shape}; reduce it to a scalar, "
            "as with .sum(), or pass sm.Graph(t, gradient)"
        )
    ops = [node for node in graph if node.op is not None and node.grad is not None]
    large = len(ops) > SMALL
    view = _view(graph, depth, large, len(ops), expand=words, defined=defined, known=known)
    check_words([view], "explain")
    names = short_names(graph, graph, paths=large)
    root = graph.roots[-1]
    blocks = [
        Block("title", f"The backward pass of `{names[root.id]}`"),
        Block("text", _opening(graph, names, root, len(ops), large, numbers)),
    ]
    steps = list(all_steps(graph, view, names, numbers, derive=not large))
    shown = [str(item.op) for item in view.shown if isinstance(item, Node) and item.op is not None]
    blocks += [*([Block("text", said)] if (said := signs(steps, shown)) else []), *steps]
    if large:  # shapes and sizes only, and of what goes forward only the result
        blocks = [b._replace(brief=True) for b in blocks if b.label != "given"]
    rows = legend(graph, names)
    if rows and not large:
        blocks += [Block("text", "The gradients of the leaves:"), Block("table", rows=(HEAD, *rows))]
    return Explanation(blocks[0].text.replace("`", ""), tuple(blocks), numbers)


def _view(graph: Graph, depth: int | None, large: bool, ops: int, **options: Any) -> View:
    """Return the view whose cards are the steps: of a large graph two levels, or as many as tell more than one step."""
    options["max_nodes"] = 150 if large else 1000
    if not large or depth is not None:
        return View(graph, depth=depth, **options)
    view, deeper = View(graph, depth=2, **options), 3
    while any(_too_much(item, ops) for item in view.shown):
        before, view, deeper = view, View(graph, depth=deeper, **options), deeper + 1
        if view.open == before.open:  # there is no module further in
            break
    return view


def _too_much(item: Node | Group, ops: int) -> bool:
    """Tell whether a step is one module that does nearly everything; not if it stands for several equal ones."""
    return isinstance(item, Group) and len(item.parts) < 2 and len(item.nodes) > MOST_OF * ops


def _opening(graph: Graph, names: dict[str, str], root: Node, ops: int, large: bool, numbers: int) -> str:
    leaf = next((n for n in graph if n.op is None and n.grad is not None), root)
    short, end = names[leaf.id], names[root.id]
    text = f"{gradient_span(short)} is short for `∂{end}/∂{short}`, how much `{end}` changes with `{short}`. "
    text += (
        f"The engine goes back through {ops} ops, newest first" if ops > 1 else "The engine goes back through one op"
    )
    if large:
        text += "; modules stand as one step each, and sizes are the root mean square (RMS) of the entries"
    text += "."
    renamed = [n for n in graph if n.op is None and n.grad is not None and n.name and names[n.id] != full_name(n)]
    if renamed:
        text += " Here " + ", ".join(f"`{names[n.id]}` is `{full_name(n)}`" for n in renamed[:12])
        text += ", …." if len(renamed) > 12 else "."
    uses = [n for n in graph if sum(e.share is not None for e in graph.edges_from(n)) > 1]
    if uses and not large:
        text += " What is used more than once gets several contributions: each step adds one, with `+=`, and their "
        text += "sum comes in at its own step."
    return text


def _check_ends(ends: Any) -> None:
    tensors = ends if isinstance(ends, (tuple, list)) else [ends]
    if not tensors:
        raise ValueError("explain: the sequence holds no tensor")
    for t in tensors:
        if not isinstance(t, (Tensor, Graph)):
            raise TypeError(f"explain: the sequence must hold Tensors, not a {type(t).__name__}")
        if isinstance(t, Tensor) and t.op is None:
            why = f": {t.note}" if isinstance(t.note, str) else ""
            raise ValueError(
                f"explain: nothing made this tensor of shape {t.shape} that was recorded{why}; explain the loss "
                f"that an op "
                "on Tensors with requires_grad=True returned"
            )
