"""The backward pass of a graph as steps: what comes in, the formula in the graph's own names, what goes out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..call import brief
from ..graph import Edge, Graph, Node, rms
from ..op import REGISTRY
from ..tensor import Array
from ..text import visible
from .arrays import array_text, number
from .derive_loss import LOSSES, compared, loss_texts, read_loss
from .document import Block, equation, gradient_span
from .formula import Term, as_text, clauses, free_index, names_in, parsed, substitute
from .formula_latex import as_latex, tex
from .naming import full_name
from .op_names import NO_GRADIENT, OPTIONS, arguments_of

REDUCING = ("sum", "mean", "var", "std", "max", "min", "prod", "norm", "logsumexp")
SIGNS = {" = ": " = ", " += ": r" \mathrel{+}= "}
STRETCHING = ("add", "sub", "mul", "div", "pow", "maximum", "minimum", "where")


class Rule(NamedTuple):
    """The formulas of one step, with the names of the graph in them."""

    forward: Term | str  # words, where the registry has words
    backward: dict[int, tuple[Term | str, str]]  # by position of the argument: the formula, and a remark
    defined: list[tuple[str, Term]]  # names that the formulas use, such as x̂


# -- formulas in the graph's names ----------------------------------------------------------------


def rule_of(graph: Graph, node: Node, names: Mapping[str, str]) -> Rule:
    """Return the formulas of the op that made a node, for this call of it."""
    op = REGISTRY.get(str(node.op))
    letters = arguments_of(op) if op else ("x",)
    known = _meanings(graph, node, letters, names)
    formula, gradient = _texts(graph, node)
    forward = clauses(formula)
    defined: dict[str, Term] = {}
    for name, text in [*forward[1:], *((n, t) for n, t in clauses(gradient) if n)]:
        if name and not _argument(name, letters):
            defined.setdefault(name, substitute(parsed(text) or ("name", text, ""), known))
    backward = dict(_backward(node, clauses(gradient), letters, known))
    if node.op in LOSSES:
        defined |= compared(read_loss(graph, node), known)
    first = parsed(forward[0][1])
    shown = _joined(graph, node, names) or (substitute(first, known) if first else _worded(forward[0][1], known))
    formulas = [t for t in (shown, *(t for t, _ in backward.values())) if isinstance(t, tuple)]
    return Rule(shown, backward, _ordered(defined, set().union(*map(names_in, formulas))))


def _ordered(defined: Mapping[str, Term], used: set[str]) -> list[tuple[str, Term]]:
    """Return the definitions that formulas with these names need, each after those of the names in it."""
    found: dict[str, Term] = {}
    for name in (n for n in defined if n in used):
        needed = _ordered({n: t for n, t in defined.items() if n != name}, names_in(defined[name]))
        found |= {n: t for n, t in [*needed, (name, defined[name])] if n not in found}
    return list(found.items())


def _index(index: Any) -> str:
    """Write an index; short arrays of integers in full."""
    if isinstance(index, tuple) and index:
        return ", ".join(map(_index, index))
    whole = isinstance(index, np.ndarray) and index.dtype != bool and index.ndim == 1 and index.size <= 6
    return str(index.tolist()) if whole else brief(index)


def _joined(graph: Graph, node: Node, names: Mapping[str, str]) -> str | None:
    """Write the call of an op that takes any number of arguments."""
    given = ", ".join(names[edge.source] for edge in graph.edges_into(node))
    if node.op == "einsum":
        return f"einsum {node.constants.get('spec')} of {given}"
    return f"[{given}] joined along axis {node.constants.get('axis')}" if node.op == "concatenate" else None


def _texts(graph: Graph, node: Node) -> tuple[str, str]:
    """Return the registry's formula and gradient, or those for the options of this call where they say more."""
    if node.op in LOSSES:
        return loss_texts(graph, node)
    axes = node.constants.get("axes")
    if (
        node.op == "transpose"
        and axes is not None
        and tuple(axes) != (*range(len(axes) - 2), len(axes) - 1, len(axes) - 2)
    ):
        return f"x with the axes {tuple(axes)}", "g with the axes back in their places"
    return node.formula, node.gradient


def _argument(name: str, letters: tuple[str, ...]) -> bool:
    return len(name) > 1 and name[0] == "d" and name[1:] in letters


def _worded(text: str, known: Mapping[str, Term]) -> str:
    """Put names into words: "g added into zeros at i"."""
    return re.sub(r"(?<!\w)(g|x|W|i)(?!\w)", lambda m: as_text(known.get(m[1], ("name", m[1], ""))), text)


def _meanings(graph: Graph, node: Node, letters: tuple[str, ...], names: Mapping[str, str]) -> dict[str, Term]:
    """Return what each letter of the op's formulas stands for in this call."""
    edges = {edge.position: edge.source for edge in graph.edges_into(node)}
    known: dict[str, Term] = {"g": ("grad", names[node.id], ""), "y": ("name", names[node.id], "")}
    head = clauses(node.formula)[0][0]
    if head:
        known[head] = known["y"]
    for position, letter in enumerate(letters):
        if position in edges:
            known[letter] = ("name", names[edges[position]], "")
        elif isinstance(node.constants.get(position), (int, float)):
            known[letter] = ("num", number(node.constants[position]))
    for option, letter in OPTIONS.items():
        value = node.constants.get(option)
        if isinstance(value, (int, float)) and letter not in letters:
            known[letter] = ("num", number(value))
    known.setdefault("T", ("num", "1"))
    if node.op in REDUCING:
        first = graph[edges[0]]
        known["n"] = ("num", str(first.value.size // max(node.value.size, 1)))
    if node.op == "attention" and node.constants.get("mask") is None and not node.constants.get("causal"):
        known["mask"] = ("num", "0")
    if node.op in ("layer_norm", "rms_norm", "linear", "linear_cross_entropy"):
        known |= {c: ("num", n) for c, n in (("w", "1"), ("b", "0")) if c in letters and letters.index(c) not in edges}
    if "index" in node.constants:
        known["i"] = known["[i]"] = ("name", visible(_index(node.constants["index"]), limit=40), "")
    if node.op in LOSSES:
        known |= _of_loss(graph, node, known)
    return known


def _of_loss(graph: Graph, node: Node, known: Mapping[str, Term]) -> dict[str, Term]:
    """Return the names in the formulas of a loss: y is a one-hot row, but in z[y] the class."""
    loss = read_loss(graph, node)
    found: dict[str, Term] = {"N": ("num", str(len(loss.y))), "D": ("num", number(loss.divisor))}
    if node.op == "soft_cross_entropy":
        return found | {
            "t": known["q"],
            "q": known["q"] if loss.weight is None and not loss.smoothing else ("name", "q", ""),
        }
    index = known["y"]
    return found | {"[y]": index, "y": index if node.op == "nll_loss" else ("name", "y", "")}


def _backward(
    node: Node, own: list[tuple[str, str]], letters: tuple[str, ...], known: Mapping[str, Term]
) -> Iterator[tuple[int, tuple[Any, str]]]:
    """Yield the position of each argument that has a gradient, its formula and a remark."""
    plain = iter([text for name, text in own if not name])
    for position, letter in enumerate(letters):
        if letter in NO_GRADIENT.get(str(node.op), ""):
            continue
        text = dict(own).get(f"d{letter}") or next(plain, "")
        if text:
            remark = re.search(r" \((?!0 at 0)([a-z][a-z ]+)\)$", text)
            term = parsed(text)
            words = _worded(remark[1], known) if remark else ""
            yield position, (substitute(term, known) if term else _worded(text, known), words)


# -- one step -------------------------------------------------------------------------------------


def step(
    graph: Graph, node: Node, names: Mapping[str, str], count: int, numbers: int, folded: Mapping[str, str]
) -> list[Block]:
    """Write one step of the backward pass: the op that made this node."""
    rule = rule_of(graph, node, names)
    name = names[node.id]
    formula = as_text(rule.forward) if isinstance(rule.forward, tuple) else rule.forward
    index = free_index(rule.forward) if isinstance(rule.forward, tuple) else ""
    head = Block(
        "heading", f"Step {count}: {node.op}, `{name}{index} = {formula}`", label=visible(node.source, limit=90)
    )
    blocks = [head, *_values(graph, node, rule, names, numbers)]
    blocks += arrivals(graph, node, names, numbers, folded)
    for term_name, term in rule.defined:
        blocks.append(_chain(("name", term_name, ""), term, None, "where"))
    for edge in graph.edges_into(node):
        if edge.share is not None:
            blocks.append(_outgoing(graph, node, edge, rule, names))
    return blocks


def _values(graph: Graph, node: Node, rule: Rule, names: Mapping[str, str], numbers: int) -> list[Block]:
    """Write what goes into the op, and what comes out of it, forward."""
    if not numbers:
        return []
    blocks = []
    sources = list(dict.fromkeys(edge.source for edge in graph.edges_into(node)))
    inputs = [graph[id] for id in sources if id in names]
    if isinstance(rule.forward, tuple) and all(n.value.ndim == 0 for n in (*inputs, node)) and inputs:
        return [
            _chain(("name", names[node.id], ""), _numeric(graph, rule.forward, names), node.value, "forward", text=True)
        ]
    for source in inputs:
        blocks.append(equation(names[source.id], source.value, label="given"))
    weight = read_loss(graph, node).weight if node.op in LOSSES else None
    if weight is not None:
        blocks.append(equation("w", weight, label="given"))
    blocks.append(equation(names[node.id], node.value, label="forward"))
    return blocks


def _numeric(graph: Graph, term: Term, names: Mapping[str, str]) -> Term:
    """Put the numbers of scalars in place of their names."""
    back = {short: graph[id] for id, short in names.items()}

    def put(t: Term) -> Term:
        if t[0] in ("name", "grad") and t[1] in back:
            node = back[t[1]]
            a = node.value if t[0] == "name" else node.grad
            if a is not None and a.ndim == 0:
                text = number(a[()])
                return ("neg", ("num", text[1:])) if text.startswith("-") else ("num", text)
        return tuple(put(part) if isinstance(part, tuple) else part for part in t)

    return put(term)


def contributions(graph: Graph, node: Node) -> int:
    """Return from how many places a node gets gradient: its uses, and the start of the backward pass."""
    return sum(edge.share is not None for edge in graph.edges_from(node)) + (node.seed is not None)


def arrivals(
    graph: Graph, node: Node, names: Mapping[str, str], numbers: int, folded: Mapping[str, str]
) -> list[Block]:
    """Write what gradient a node gets: where paths join, the contributions and their sum.

    `folded` has the names of modules that stand for what is inside them, by id of the node.
    """
    target = ("grad", names[node.id], "")
    edges = [(edge, edge.share) for edge in graph.edges_from(node) if edge.share is not None]
    parts = contributions(graph, node)
    if parts < 2 or not numbers:
        return [_chain(target, None, node.grad, "comes in")]
    blocks = [Block("text", f"`{names[node.id]}` gets {parts} contributions, which add up:", label="  ")]
    terms = []
    for k, (edge, share) in enumerate(edges, 1):
        terms.append(number(share[()]) if share.ndim == 0 else f"({k})")
        blocks.append(_contribution(graph, edge, names, k, folded.get(edge.target)))
    if node.seed is not None:
        terms.append("the start")
    text = as_text(target) + " = " + " + ".join(terms)
    latex = as_latex(target) + " = " + " + ".join(terms)
    remark = "a hook replaced the sum" if node.hooked else "sum"
    return [*blocks, equation(text, node.grad, label=remark, latex=latex)]


def _contribution(graph: Graph, edge: Edge, names: Mapping[str, str], k: int, module: str | None) -> Block:
    """Write one of several shares of a gradient, by the formula that gave it, or the module."""
    if module is not None:
        return equation(f"({k}) by {module}", edge.share, label="comes in", latex=rf"({k})\ \text{{by {tex(module)}}}")
    user = graph[edge.target]
    rule = rule_of(graph, user, names)
    found, _ = rule.backward.get(edge.position, next(iter(rule.backward.values()), ("", "")))
    text = as_text(found) if isinstance(found, tuple) else found
    latex = as_latex(found) if isinstance(found, tuple) else rf"\text{{{tex(found)}}}"
    through = names[user.id]
    return equation(f"({k}) by {through}: {text}", edge.share, label="comes in",
                    latex=rf"({k})\ \text{{by }} {as_latex(('name', through, ''))}:\; {latex}")  # fmt: skip


def _outgoing(graph: Graph, node: Node, edge: Edge, rule: Rule, names: Mapping[str, str]) -> Block:
    source = graph[edge.source]
    target = ("grad", names[source.id], "")
    several = contributions(graph, source) > 1
    found, remark = rule.backward.get(edge.position, next(iter(rule.backward.values()), ("", "")))
    label, sign = ("gives", " += ") if several else ("goes out", " = ")
    if isinstance(found, str):
        return equation(f"{as_text(target)}{sign}{found}", edge.share, label=label,
                        latex=rf"{as_latex(target)}{SIGNS[sign]}\text{{{tex(found)}}}")  # fmt: skip
    if node.op in STRETCHING and source.value.shape != node.value.shape:
        found, remark = ("big", "Σ", "", found), "over the axes along which it was stretched"
    scalars = edge.share is not None and edge.share.ndim == 0 and all(
        graph[e.source].value.ndim == 0 for e in graph.edges_into(node)
    )  # fmt: skip
    middle = _numeric(graph, found, names) if scalars else None
    return _chain(target, found, edge.share, label, middle=middle, remark=remark, sign=sign)


def _chain(
    left: Term, right: Term | None, value: Array | None, label: str, *, middle: Term | None = None, remark: str = "",
    sign: str = " = ", text: bool = False,
) -> Block:  # fmt: skip
    """Return the equation left = right = middle = value, without what is not there or says nothing new."""
    if right is not None and not text:
        left = (*left[:2], free_index(right))
    parts = [left] + [t for t in (right, middle) if t is not None]
    parts = [t for i, t in enumerate(parts) if i == 0 or as_text(t) != as_text(parts[i - 1])]
    if (
        value is not None
        and value.ndim == 0
        and len(parts) > 1
        and as_text(parts[-1]).replace("−", "-") == array_text(value)
    ):
        parts.pop()
    words = f"   ({remark})" if remark and value is None else ""
    after = rf"\ \text{{({remark})}}" if remark else ""
    written = " = ".join(map(as_text, parts)).replace(" = ", sign, 1) + (f" ({remark})" if remark else words)
    latex = " = ".join(map(as_latex, parts)).replace(" = ", SIGNS[sign], 1) + after
    return equation(written, value, label=label, latex=latex)


def legend(graph: Graph, names: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Return a row for each leaf that has a gradient: its short name, whose it is, its shape and gradient."""
    rows: list[tuple[str, ...]] = []
    for node in graph:
        if node.op is None and node.grad is not None and node.id in names:
            own = full_name(node) if node.name and node.name != names[node.id] else node.role
            short = node.grad.ndim == 0 or (node.grad.ndim == 1 and node.grad.size <= 4)
            size = array_text(node.grad) if short else f"RMS {number(rms(node.grad))}"
            whose = f"`{own}`" if own != node.role else own
            rows.append((gradient_span(names[node.id]), whose, str(node.shape), size))
    return rows
