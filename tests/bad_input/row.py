"""One row of the table of bad inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Row(NamedTuple):
    """A call that must be refused: with which error, and with a message that matches this pattern."""

    name: str
    call: Callable[[], Any]
    kind: type[Exception]
    message: str
