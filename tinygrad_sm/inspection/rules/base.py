"""What rules are made of: what they read (Context), what they find (Finding), and the table of them (RULES)."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ...graph import Graph, Node, dotted
from ...optimizer import Optimizer
from ...tensor import Array, Tensor

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

Probe = Callable[[Node, Array, Node], "Array | None"]

IDS = (
    "softmax-before-cross-entropy", "nll-on-probabilities", "nll-on-logits", "log-of-softmax", "unstable-softmax",
    "non-finite", "one-hot-as-indices", "wrong-class-axis", "degenerate-targets", "softmax-over-batch",
    "unscaled-attention", "missing-causal-mask", "fully-masked-row", "mask-overflow", "saturated-softmax",
    "smoothing-with-distillation", "dead-relu", "vanishing-gradient", "exploding-gradient", "no-gradient",
    "detached-loss", "float64-creep", "double-mean", "update-ratio",
)  # fmt: skip


class Evidence(dict[str, Any]):
    """What was measured, by what it is; as text, "smallest probability 0.02, rows 8".

    >>> print(Evidence({"rows": 8, "share": 0.98765}))
    rows 8, share 0.9877
    """

    def __str__(self) -> str:
        return ", ".join(f"{name} {brief(value)}" for name, value in self.items())


def brief(value: Any) -> str:
    """Write a number with four digits, and a list of numbers with two.

    >>> brief(0.123456), brief([1.0, 0.00012345])
    ('0.1235', '[1, 0.00012]')
    """
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(f'{x:.2g}' if isinstance(x, float) else str(x) for x in value)}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: what, where, why it hurts, the evidence in numbers, and the fix in code.

    >>> import tinygrad_sm as sm
    >>> logits = sm.Tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    >>> report = sm.doctor(sm.cross_entropy(sm.softmax(logits), [2]))
    >>> report[0].rule, report[0].severity
    ('softmax-before-cross-entropy', 'error')
    """

    rule: str
    severity: Severity
    node: str | None  # id in the graph; None where what is wrong is not in it
    op: str  # the op, or the name of a leaf
    module: str  # path of the module around it, "blocks.0.attn"; "" outside of modules
    source: str  # under `sm.record()`, file, number and text of the line: "train.py:12: loss = ..."
    message: str  # what is wrong, and why it hurts
    evidence: Evidence
    fix: str


@dataclass(frozen=True)
class Parameter:
    """A parameter of the model: its node in the graph, or None where the loss does not come from it."""

    name: str
    shape: tuple[int, ...]
    requires_grad: bool
    node: Node | None


@dataclass(frozen=True)
class Context:
    """What a rule may read."""

    graph: Graph
    loss: Tensor | None = None  # None for the graph of another library
    parameters: Sequence[Parameter] = ()  # of the model, if there is one
    model: Any = None
    optimizer: Optimizer | None = None
    inputs: Any = None
    probe: Probe | None = None  # gradient of one node for a gradient at another
    foreign: str = ""  # the library that made the graph, if it is another

    @property
    def root(self) -> Node:
        """The node of the loss."""
        return self.graph.roots[0]


class UncheckedError(Exception):
    """Raised by a rule that cannot tell: the message says what is missing."""


@dataclass(frozen=True)
class Rule:
    """A rule as data. `needs` names the arguments of `doctor` without which it cannot be checked."""

    id: str
    title: str
    docs: str
    check: Callable[[Context], Iterator[Finding]] = field(repr=False)
    needs: tuple[str, ...] = ()


RULES: dict[str, Rule] = {}


def rule(id: str, title: str, *, needs: Sequence[str] = ()) -> Callable[[Any], Any]:
    """Decorate a function of a Context that yields Findings, so that it is a rule; its docstring explains it."""

    def register(check: Callable[[Context], Iterator[Finding]]) -> Callable[[Context], Iterator[Finding]]:
        assert id in IDS, f"the rule {id!r} has no place in IDS, the order of the report"
        RULES[id] = Rule(id, title, inspect.getdoc(check) or "", check, tuple(needs))
        return check

    return register


def finding(
    rule: str, node: Node | None, severity: Severity, message: str, fix: str, evidence: Mapping[str, Any],
    where: str = "",
) -> Finding:  # fmt: skip
    """Return a Finding at a node; `where` names the module for what is in no graph."""
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in evidence.items()}
    op, module, source = "", where, ""
    if node is not None:
        op, module, source = node.op or node.name or node.role, dotted(node.scope), node.source
    id = None if node is None else node.id
    return Finding(rule, severity, id, op, module, source, message, Evidence(plain), fix)


def rows_of(array: Array, axis: int = -1) -> Array:
    """Return an array as rows (N, C) along one axis, in float64.

    >>> rows_of(np.zeros((2, 3, 4)), axis=1).shape
    (8, 3)
    """
    array = np.moveaxis(np.asarray(array), axis, -1)
    return array.reshape(math.prod(array.shape[:-1]), array.shape[-1]).astype(np.float64)
