"""What `tinygrad-sm doctor script.py` does: run a script, and examine every loss that it sends backward."""

from __future__ import annotations

import gc
import math
import runpy
import sys
import traceback
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import derivatives, nn
from ..autograd import backward
from ..optimizer import Optimizer
from ..tensor import Tensor, attach
from .doctor import Report, doctor
from .rules.base import IDS, SEVERITIES, Finding
from .rules.gradients import unreached
from .watch import Note, record


class Losses:
    """The losses of a script by the line that made them, and what was found in each.

    A line is examined at its 1st, 2nd, 4th, 8th, … pass, and at a loss that is not finite, so that what goes wrong
    later is found too, at little cost.
    """

    def __init__(self, silence: Sequence[str] = ()) -> None:
        self.silence = silence
        self.passes: dict[str, int] = {}
        self.reports: dict[str, Report] = {}
        self.optimizers: list[weakref.ref[Optimizer]] = []
        self.steps = 0  # of all optimisers
        self.reached: set[int] = set()  # parameters of optimisers that ever had a gradient
        self.known: dict[int, Tensor] = {}  # all parameters of optimisers
        self.paths: dict[int, str] = {}  # what they are called in the largest module that has them

    def sent(self, loss: Tensor) -> None:
        """See a loss on its way to `backward`."""
        line = str(loss.note) if isinstance(loss.note, Note) else loss.name or "a loss without a line"
        n = self.passes[line] = self.passes.get(line, 0) + 1
        before = self.reports.get(line)
        broken = not math.isfinite(loss.item()) and not (before and before.by_rule("non-finite"))
        if n & (n - 1) == 0 or broken:
            report = doctor(loss, optimizer=self._optimizer(), silence=self.silence)
            self.reports[line] = report if before is None else _joined(before, report)

    def made(self, optimizer: Optimizer) -> None:
        """See an optimiser."""
        self.optimizers.append(weakref.ref(optimizer))
        for group in optimizer.param_groups:
            self.known |= {id(p): p for p in group["params"] if p.requires_grad and p.size}
        # isinstance would ask each object for its __class__, and some of PyTorch's warn then.
        for module in [found for found in gc.get_objects() if issubclass(type(found), nn.Module)]:
            for path, p in module.named_parameters():
                self.paths[id(p)] = max(path, self.paths.get(id(p), ""), key=len)

    def done(self) -> None:
        """See the end of a backward pass."""
        self.got(p for p in self.known.values() if p.grad is not None)

    def got(self, parameters: Iterable[Tensor]) -> None:
        """See tensors that were given a gradient."""
        self.reached.update(map(id, parameters))

    def _optimizer(self) -> Optimizer | None:
        alive = [optimizer for ref in self.optimizers if (optimizer := ref()) is not None]
        return alive[-1] if len(alive) == 1 else None

    def results(self) -> list[Report]:
        """Return the report of each line, the worst first; at last what no loss of the script reached."""
        found = [self._told(line, report) for line, report in self.reports.items()]
        missed = [p for key, p in self.known.items() if key not in self.reached]
        if missed and self.reports and "no-gradient" not in self.silence:
            names = [self.paths.get(id(p)) or p.name or f"a parameter of shape {p.shape}" for p in missed]
            found.append(Report([unreached(names, len(self.known))], subject="all losses together"))
        return sorted(found, key=lambda report: SEVERITIES.index(report[0].severity) if report else len(SEVERITIES))

    def _told(self, line: str, report: Report) -> Report:
        """Return the report of a line with its name; what no loss reached is told at the end, of optimisers."""
        n, unchecked = self.passes[line], dict(report.unchecked)
        if self.known:
            unchecked.pop("no-gradient", None)
        elif "no-gradient" in unchecked:
            unchecked["no-gradient"] = "the script makes no optimiser"
        if "update-ratio" in unchecked and not self.known:
            unchecked["update-ratio"] = "the script makes no optimiser"
        elif len(self.optimizers) > 1 and "update-ratio" in unchecked:
            unchecked["update-ratio"] = "there are several optimisers"
        subject = f"{line} ({n} backward pass{'es' * (n > 1)})"
        adds_up = n >= 2 * self.steps > 0  # the gradients of several batches before a step, which are divided so
        findings = [found for found in report if not (adds_up and found.rule == "double-mean")]
        return Report(
            findings, subject=subject, checked=report.checked, unchecked=unchecked, silenced=report.silenced
        )  # fmt: skip


def _joined(a: Report, b: Report) -> Report:
    """Return what either of two reports on one line found, each thing once."""

    def key(found: Finding) -> tuple[str, ...]:
        return (found.rule, found.op, found.module, found.source) if found.source else (found.rule,)

    new = [found for found in b if key(found) not in {key(known) for known in a}]
    unchecked = {id: why for id, why in a.unchecked.items() if id in b.unchecked}
    return Report(
        [*a, *new],
        checked=[id for id in IDS if id in {*a.checked, *b.checked}],
        unchecked=unchecked,
        silenced=a.silenced,
    )


def examine(path: Path, args: Sequence[str] = (), silence: Sequence[str] = ()) -> tuple[list[Report], str]:
    """Run a script under `record()`, and return a report for each line whose loss it sent backward.

    Also return what the script failed with, or an empty text.
    """
    losses = Losses(silence)
    failure = ""
    with _as_main(path, args), _spied(losses), record():
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as stop:
            failure = f"{path} ended with {stop.code!r}" if stop.code else ""
        except Exception as error:  # a script may raise anything, and what was found before is to be reported
            lines = [step.lineno for step in traceback.extract_tb(error.__traceback__) if step.filename == str(path)]
            failure = f"{path}{f', line {lines[-1]}' if lines else ''}: {type(error).__name__}: {error}"
    return losses.results(), failure


@contextmanager
def _as_main(path: Path, args: Sequence[str]) -> Iterator[None]:
    """Let a script find its arguments, and the modules beside it."""
    argv, folder = sys.argv, str(path.resolve().parent)
    sys.argv = [str(path), *args]
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.argv = argv
        sys.path.remove(folder)


@contextmanager
def _spied(losses: Losses) -> Iterator[None]:
    """Let `losses` see every `backward`, every `sm.grad` of a loss, and every optimiser that is made."""
    init, step, package = Optimizer.__init__, Optimizer.step, sys.modules[__package__.partition(".")[0]]

    def spy(tensor: Tensor, gradient: Any = None, **options: Any) -> None:
        if tensor.size == 1:
            losses.sent(tensor)
        backward(tensor, gradient, **options)
        losses.done()

    def spy_grad(outputs: Any, inputs: Any, *args: Any, **options: Any) -> tuple[Tensor, ...]:
        loss = (
            isinstance(outputs, Tensor) and outputs.size == 1 and not options.get("create_graph")
        )  # else a part of one
        if loss and outputs.requires_grad:
            losses.sent(outputs)
        found = derivatives.grad(outputs, inputs, *args, **options)
        if loss:
            losses.got(x for x, g in zip(derivatives.as_tuple(inputs), found, strict=True) if g is not None)
        return found

    def spy_init(self: Optimizer, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        losses.made(self)

    def spy_step(self: Optimizer) -> None:
        step(self)
        losses.steps += 1

    attach(backward=spy)
    package.grad = spy_grad  # type: ignore[attr-defined]
    Optimizer.__init__, Optimizer.step = spy_init, spy_step  # type: ignore[method-assign]
    try:
        yield
    finally:
        attach(backward=backward)
        package.grad = derivatives.grad  # type: ignore[attr-defined]
        Optimizer.__init__, Optimizer.step = init, step  # type: ignore[method-assign]
