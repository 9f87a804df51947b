"""Watching the engine at work: `record` remembers where each tensor was made, and guards what the graph saved.

The engine calls `made` after every op and `pulled` after every step of a backward pass, if someone watches.
"""

from __future__ import annotations

import linecache
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..mode import MODE, within
from ..op import Op
from ..tensor import Tensor

PACKAGE = Path(__file__).parent.parent
# What stands between a user's line and an op. training.py, data.py and the like are users themselves.
ENGINE = tuple(
    str(PACKAGE / name)
    for name in (
        "tensor.py", "op.py", "autograd.py", "derivatives.py", "functional.py", "graph.py", "naive.py", "ops", "nn",
        "inspection", "viz",
    )
)  # fmt: skip


class Note(NamedTuple):
    """What `record` remembers of how a tensor was made: the line, and checksums of the arrays it depends on."""

    file: str
    line: int
    sums: tuple[Any, ...] = ()

    def __str__(self) -> str:
        """Return the place and the text of the line: `train.py:12: loss = p.log().mean()`."""
        path = Path(self.file)
        name = "cell" if path.parent.name.startswith("ipykernel_") else path.name  # a notebook's files are numbers
        return f"{name}:{self.line}: {self.text}".rstrip(": ")

    @property
    def text(self) -> str:
        """The line itself, or nothing where the source is not to be had."""
        return linecache.getline(self.file, self.line).strip()


@contextmanager
def record() -> Iterator[None]:
    """Context manager: remember source lines, keep every gradient, and guard the arrays that the graph saved.

    For each tensor made inside, `tensor.note` tells the line that made it, and `backward` keeps its gradient in
    `.grad`, as it does for leaves. A backward pass inside checks that the arrays which the forward pass saw are still
    what they were: one that was changed in place meanwhile may give wrong gradients. Each op costs a checksum of its
    arguments and its result. Only this thread records, and tasks started from it.

    Raises
    ------
    RuntimeError
        From a backward pass over an array that was changed in place; names the op, the argument and the line.

    Examples
    --------
    >>> import numpy as np, tinygrad_sm as sm
    >>> data = np.array([1.0, 2.0])
    >>> x = sm.Tensor(data, requires_grad=True, name="x")
    >>> with sm.record():
    ...     y = x * x
    ...     y.sum().backward()
    >>> print(y.grad, "made by", y.note)
    Tensor([1., 1.], dtype=float64) made by <doctest tinygrad_sm.inspection.watch.record[3]>:2: y = x * x
    >>> with sm.record():
    ...     y = x * x
    ...     data += 1
    ...     y.sum().backward()
    Traceback (most recent call last):
    RuntimeError: mul: argument 0 'x' was changed in place after the forward pass, so the gradient may be wrong; ...
    """
    with watched(MODE.get().watch or Recorder()):
        yield


def watched(watch: Recorder) -> AbstractContextManager[None]:
    """Let `watch` see the ops and backward passes of this context."""
    return within(watch=watch)


class Recorder:
    """What `record` does."""

    strict = False  # whether dubious values are errors, such as probabilities that do not sum to 1

    def made(self, t: Tensor, op: Op, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """See the tensor that `op(*args, **kwargs)` returned."""
        if t.op is not None:
            t.retains = True
            t.note = Note(*source_line(), _checksums(t))

    def pulled(self, t: Tensor, g: Any, shares: Sequence[Any]) -> None:
        """See a tensor, its complete gradient, and what it gives each of its arguments (nothing: a leaf)."""
        if not isinstance(t.note, Note) or not shares:
            return
        assert t.op is not None
        for i, (before, now) in enumerate(zip(t.note.sums, _checksums(t), strict=True)):
            if before != now:
                raise RuntimeError(
                    f"{t.op.name}: {part(t.args, t.kwargs, i)} was changed in place after the forward pass, so the "
                    f"gradient may be wrong; change a copy, or wait until after backward(){place(t.note, t.scope)}"
                )


def source_line() -> tuple[str, int]:
    """Return file and number of the user's line that is running: that of the innermost frame outside the engine."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename.startswith(ENGINE) and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def part(args: Sequence[Any], kwargs: dict[str, Any], i: int) -> str:
    """Name place `i` among arguments, options and result: "argument 1 'w'", "option weight", "the result"."""
    if i < len(args):
        name = getattr(args[i], "name", None)
        return f"argument {i}{f' {name!r}' if name else ''}"
    return f"option {list(kwargs)[i - len(args)]}" if i < len(args) + len(kwargs) else "the result"


def place(note: Note | None, scope: tuple[str, ...]) -> str:
    """Return the lines of a message that say where: the source line, and the modules around it."""
    return (f"\n  line: {note}" if note else "") + (f"\n  module: {' > '.join(scope)}" if scope else "")


def _checksums(t: Tensor) -> tuple[Any, ...]:
    """Return a checksum of all that the backward pass of `t` may read; None for what is not an array."""
    return tuple(_checksum(a) for a in (*t.raw, *t.kwargs.values(), t.out))


def _checksum(a: Any) -> Any:
    if isinstance(a, (tuple, list)):  # indices
        return tuple(map(_checksum, a))
    return zlib.crc32(np.ascontiguousarray(a).data) if isinstance(a, np.ndarray) else None
