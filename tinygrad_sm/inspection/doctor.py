"""`doctor`: a linter that reads a computation graph, and reports what is wrong with training.

The rules are in `rules/`, one function each; here is what runs them, and the report.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any, overload

import numpy as np

from ..graph import Graph
from ..interop import torch
from ..mode import within
from ..nn.module import Module
from ..ops.options import shown
from ..optimizer import Optimizer
from ..tensor import Tensor
from ..text import visible
from .rules import attention, gradients, losses, softmax, training
from .rules.base import IDS, RULES, SEVERITIES, Context, Finding, Parameter, UncheckedError

FAMILIES = (losses, softmax, attention, gradients, training)  # their import fills RULES
WIDTH = 100  # of the printed report
SHOWN = 5  # places that are printed for one rule


class Report(Sequence[Finding]):
    """What `doctor` found: a sequence of findings, the worst first, which prints as text, and in a notebook as HTML.

    It is true if anything was found. `checked` are the ids of the rules that ran, `unchecked` those that could not,
    with what they lack, and `silenced` those that were told to be silent; `subject` is what was looked at.

    >>> import tinygrad_sm as sm
    >>> logits = sm.Tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    >>> report = sm.doctor(sm.cross_entropy(sm.softmax(logits), [2]))
    >>> bool(report), report[0].rule
    (True, 'softmax-before-cross-entropy')
    >>> report.heading()
    'doctor: 1 error in the graph of cross_entropy (4 nodes)'
    >>> report.notes()
    ['not checked: no-gradient (pass model=)', 'not checked: update-ratio (pass optimizer=)']
    >>> len(report.by_rule("dead-relu")), len(report.errors), [len(group) for group in report.groups()]
    (0, 1, [1])
    """

    def __init__(
        self, findings: Iterable[Finding], *, subject: str = "a graph", checked: Sequence[str] = (),
        unchecked: Mapping[str, str] | None = None, silenced: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self._findings = tuple(sorted(findings, key=lambda found: SEVERITIES.index(found.severity)))
        self.subject, self.checked, self.silenced = subject, tuple(checked), tuple(silenced)
        self.unchecked = dict(unchecked or {})

    def __len__(self) -> int:
        return len(self._findings)

    @overload
    def __getitem__(self, index: int) -> Finding: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Finding]: ...
    def __getitem__(self, index: int | slice) -> Finding | Sequence[Finding]:
        return self._findings[index]

    def by_rule(self, id: str) -> list[Finding]:
        """Return the findings of one rule.

        Raises
        ------
        ValueError
            If there is no such rule.
        """
        checked_ids([id], "by_rule")
        return [found for found in self if found.rule == id]

    @property
    def errors(self) -> list[Finding]:
        """The findings that are errors."""
        return [found for found in self if found.severity == "error"]

    def heading(self) -> str:
        """Say in a line how much was found."""
        counts = [(sum(found.severity == kind for found in self), kind) for kind in SEVERITIES]
        words = ", ".join(f"{n} {kind}{'s' * (n > 1)}" for n, kind in counts if n) or "nothing found"
        return f"doctor: {words} in {visible(self.subject, limit=80)}"

    def notes(self) -> list[str]:
        """Say what was checked, and what was not."""
        lines = [] if self else [f"checked: {', '.join(self.checked) or 'nothing'}"]
        for reason in dict.fromkeys(self.unchecked.values()):
            ids = [id for id, why in self.unchecked.items() if why == reason]
            lines.append(f"not checked: {', '.join(ids)} ({visible(reason, limit=200)})")
        return lines + [f"silenced: {', '.join(self.silenced)}"] * bool(self.silenced)

    def groups(self) -> list[list[Finding]]:
        """Return the findings of one rule and severity together, in the order of the report."""
        together: dict[tuple[str, str], list[Finding]] = {}
        for found in self:
            together.setdefault((found.severity, found.rule), []).append(found)
        return list(together.values())

    def __repr__(self) -> str:
        blocks = ["\n".join(_lines(group)) for group in self.groups()]
        notes = [textwrap.fill(note, WIDTH, subsequent_indent="  ", break_on_hyphens=False) for note in self.notes()]
        return "\n\n".join([self.heading(), *blocks, *(["\n".join(notes)] if notes else [])])

    def _repr_html_(self) -> str:
        parts = [f"<p><b>{html.escape(self.heading())}</b></p>", *(_html(group) for group in self.groups())]
        return "".join([*parts, *(f"<p>{html.escape(note)}</p>" for note in self.notes())])


def place(found: Finding) -> str:
    """Say where a finding is: the op, the module, the source line."""
    parts = [f"at {visible(found.op, limit=60)}" if found.op else ""]
    parts += [f"in {visible(found.module, limit=60)}" if found.module else "", visible(found.source, limit=100)]
    return ", ".join(part for part in parts if part)


def _lines(group: Sequence[Finding]) -> list[str]:
    """Return the lines of all findings of one rule: the first in full, of the others the place and the evidence."""
    first, *others = group

    def fill(text: str, indent: str) -> str:
        return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent=indent, break_on_hyphens=False)

    where = f" {place(first)}" if place(first) else ""
    lines = [f"{first.severity} {first.rule}{where}", fill(visible(first.message), "  ")]
    lines += [fill(f"measured: {visible(first.evidence)}", "    ")] if first.evidence else []
    lines += [f"  fix: {visible(first.fix, keep=chr(10))}".replace("\n", "\n       ")]
    for other in others[: SHOWN - 1]:
        lines.append(fill(f"also {place(other)}: {visible(other.evidence)}", "    "))
    return lines + [f"  and in {len(others) - SHOWN + 1} other places"] * (len(others) >= SHOWN)


def _html(group: Sequence[Finding]) -> str:
    first, *others = group
    color = {"error": "#B91C1C", "warning": "#B45309", "note": "#475569"}[first.severity]

    def safe(text: Any) -> str:
        return html.escape(visible(text, keep="\n"))

    more = "".join(f"<br>also {safe(place(other))}: {safe(other.evidence)}" for other in others[: SHOWN - 1])
    more += f"<br>and in {len(others) - SHOWN + 1} other places" * (len(others) >= SHOWN)
    return (
        f'<div style="border-left:4px solid {color};padding-left:8px;margin:8px 0">'
        f"<b>{first.severity} {first.rule}</b> {safe(place(first))}<br>{safe(first.message)}"
        f"<br>measured: {safe(first.evidence)}"
        f"<pre>{safe(first.fix)}</pre>{more}</div>"
    )


# -- running the rules --------------------------------------------------------------------------


def doctor(
    loss: Any, model: Any = None, *, optimizer: Any = None, inputs: Any = None, silence: str | Sequence[str] = ()
) -> Report:
    """Read the graph of a loss, and report what is wrong with training.

    The gradients are computed for the report alone: no `.grad` is touched, and `backward()` need not have run. What was
    computed under `sm.record()` is reported with its source line.

    Parameters
    ----------
    loss : Tensor
        One number. A `Graph` of one will do, except for what asks for gradients anew; and, where PyTorch is installed,
        a loss of PyTorch's before its `backward()`.
    model : Module, optional
        Whose parameters should all get a gradient.
    optimizer : Optimizer, optional
        What will move them; then the size of its next step is measured.
    inputs : optional
        What the model was given, or a tuple of its arguments; then whether its output depends on them is measured.
    silence : str or sequence of str
        The ids of rules to leave out.

    Returns
    -------
    Report
        A sequence of `Finding`, the worst first, each with `rule`, `severity`, `node`, `op`, `module`, `source`,
        `message`, `evidence` and `fix`. Empty if nothing was found.

    Raises
    ------
    TypeError
        For a loss, a model or an optimiser of another kind.
    ValueError
        If the loss is not one number; for an unknown rule.

    Examples
    --------
    >>> import numpy as np, tinygrad_sm as sm
    >>> logits = sm.Tensor(np.eye(4, dtype=np.float32), requires_grad=True)
    >>> report = sm.doctor(sm.cross_entropy(sm.softmax(logits), [0, 1, 2, 3]))
    >>> [(found.rule, found.op) for found in report]
    [('softmax-before-cross-entropy', 'cross_entropy')]
    >>> len(sm.doctor(sm.cross_entropy(logits, [0, 1, 2, 3])))
    0
    """
    silenced = checked_ids(silence, "doctor")
    with np.errstate(all="ignore"), within(watch=None, grad=True):  # what is computed here is not the user's program
        return run(read(loss, model, optimizer, inputs), silenced)


def run(context: Context, silenced: Sequence[str] = ()) -> Report:
    """Run the rules on what was read."""
    findings: list[Finding] = []
    checked, unchecked = [], {}
    for id in (id for id in IDS if id in RULES and id not in silenced):
        lacking = [need for need in RULES[id].needs if getattr(context, need) is None]
        if lacking:
            unchecked[id] = f"pass {' and '.join(f'{need}=' for need in lacking)}"
            if context.foreign and lacking != ["model"]:
                unchecked[id] = f"not for losses of {context.foreign}"
            continue
        try:
            findings += RULES[id].check(context)
            checked.append(id)
        except UncheckedError as error:
            unchecked[id] = str(error)
    root = context.root
    subject = f"the graph of {root.name or root.label} ({len(context.graph)} nodes)"
    return Report(findings, subject=subject, checked=checked, unchecked=unchecked, silenced=silenced)


def checked_ids(ids: Any, caller: str) -> list[str]:
    """Return ids of rules as a list, after checking that there are such rules."""
    listed = [ids] if isinstance(ids, str) else list(ids) if isinstance(ids, Iterable) else [ids]
    for id in listed:
        if not isinstance(id, str):
            raise TypeError(f"{caller}: a rule is named by its id, such as 'dead-relu', not {shown(id)}")
        if id not in IDS:
            near = get_close_matches(id, IDS, n=2)
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {', '.join(IDS)}"
            raise ValueError(f"{caller}: there is no rule {visible(shown(id))}; {hint}")
    return listed


def read(loss: Any, model: Any = None, optimizer: Any = None, inputs: Any = None) -> Context:
    """Return what the rules read, after checking the arguments of `doctor`."""
    if torch.is_tensor(loss):
        if optimizer is not None or inputs is not None:
            raise TypeError(
                "doctor: optimizer= and inputs= are for losses of this library; leave them out for PyTorch's"
            )
        return torch.context(loss, model)
    if not isinstance(loss, (Tensor, Graph)):
        hint = "; compute it first: doctor(loss_function(model(x), y))" if callable(loss) else ""
        raise TypeError(f"doctor reads what made a loss, a Tensor; this is of type {type(loss).__name__}{hint}")
    if model is not None and not isinstance(model, Module):
        hint = "; pass inputs= by name" if isinstance(model, (Tensor, np.ndarray)) else ""
        raise TypeError(f"doctor: model must be an nn.Module, not a {type(model).__name__}{hint}")
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise TypeError(f"doctor: optimizer must be one of sm.optim, such as optim.Adam, not {shown(optimizer)}")
    graph = loss if isinstance(loss, Graph) else Graph(loss)
    if len(graph.roots) != 1 or graph.roots[0].value.size != 1:
        raise ValueError(
            f"doctor: the loss must be one number, not of shape {graph.roots[0].shape}; take its mean: "
            "doctor(loss.mean())"
        )
    named = () if model is None else model.named_parameters()
    parameters = tuple(Parameter(name, p.shape, p.requires_grad, graph.node_of(p)) for name, p in named)
    own = loss if isinstance(loss, Tensor) else None
    probe = None if own is None else partial(attention.probe, graph, own)
    return Context(graph, own, parameters, model, optimizer, inputs, probe)
