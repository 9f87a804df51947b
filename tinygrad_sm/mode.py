"""What holds for the ops called in a context: whether they are recorded, in which modules, and who watches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple


class Call(str):
    """The label of a module, "fc: Linear", made anew for each call, so that two calls can be told apart by identity."""

    __slots__ = ()


class Mode(NamedTuple):
    """What holds for the ops called in this context (thread or task): are they recorded, where, and who watches."""

    grad: bool = True
    scope: tuple[str, ...] = ()
    watch: Any = None  # an object with `made` and `pulled`: see inspection/watch.py


MODE: ContextVar[Mode] = ContextVar("tinygrad_sm_mode", default=Mode())  # noqa: B039 (a NamedTuple is immutable)


@contextmanager
def within(**changes: Any) -> Iterator[None]:
    """Let these fields of the mode hold inside."""
    before = MODE.get()
    try:  # what is set inside is undone even if Ctrl-C comes right after it
        MODE.set(before._replace(**changes))
        yield
    finally:
        MODE.set(before)


def grad_mode(on: bool) -> Any:
    """Record the ops called inside, or don't."""
    return within(grad=on)


def no_grad() -> Any:
    """Context manager and decorator: record nothing inside, so that no memory is kept for gradients.

    >>> import tinygrad_sm as sm
    >>> x = sm.Tensor(2.0, requires_grad=True)
    >>> with sm.no_grad():
    ...     y = x * x
    >>> y.requires_grad
    False
    """
    return grad_mode(False)


def enable_grad() -> Any:
    """Context manager and decorator: record again, inside a `no_grad` block.

    >>> import tinygrad_sm as sm
    >>> x = sm.Tensor(2.0, requires_grad=True)
    >>> with sm.no_grad(), sm.enable_grad():
    ...     y = x * x
    >>> y.requires_grad
    True
    """
    return grad_mode(True)
