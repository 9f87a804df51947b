"""Text from outside (names, file names, what a model writes), made fit to be shown on a terminal or in a message."""

from __future__ import annotations

from typing import Any


def visible(text: Any, *, limit: int | None = None, keep: str = "") -> str:
    r"""Write control characters, escape codes, marks of direction and lone surrogates as escapes such as `\x1b`.

    What is printable, and what is in `keep`, stays as it is. With `limit`, a longer text loses its middle.

    >>> print(visible("a\x1b[31m\n\u202eb"))
    a\x1b[31m\n\u202eb
    >>> visible("x" * 1000, limit=9)
    'xxx...xxx'
    """
    text = _shortened(text if isinstance(text, str) else str(text), limit)
    if text.isprintable():
        return text
    escaped = (c if c.isprintable() or c in keep else c.encode("unicode_escape").decode("ascii") for c in text)
    return _shortened("".join(escaped), limit)


def _shortened(text: str, limit: int | None) -> str:
    if limit is None or len(text) <= limit:
        return text
    half = (limit - 3) // 2
    return f"{text[:half]}...{text[len(text) - half :]}"
