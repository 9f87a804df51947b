"""What a chapter of the primer is made of: prose, code that runs, figures, and claims of the article with a verdict."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..inspection.document import Block, equation

__all__ = ["Block", "Chapter", "Claim", "Code", "Figure", "Widget", "claim", "equation", "prose", "read", "run", "same"]


class Claim(NamedTuple):
    """What the article says, what was found, and whether that agrees."""

    says: str  # the claim, in our words
    printed: str  # a number as the article prints it, or ""
    found: str
    verdict: str  # "holds", "in part" or "fails"
    right: str = ""  # what is right, where it fails; what limits it, where it holds in part


class Code(NamedTuple):
    """Code that a reader can run, and what it printed when it was run for this report."""

    source: str
    output: str


class Figure(NamedTuple):
    """A picture; `draw` makes it, as an object with `save(path)`, when the report is written."""

    name: str  # of the file, without its ending
    draw: Callable[[], Any]
    caption: str


class Widget(NamedTuple):
    """A piece of the page that a reader can move; `name` is its file beside this one."""

    name: str
    caption: str


class Chapter(NamedTuple):
    """A section of the article, reproduced."""

    title: str
    parts: list[Block | Claim | Code | Figure | Widget]

    @property
    def claims(self) -> list[Claim]:
        """The claims of the chapter, in their order."""
        return [part for part in self.parts if isinstance(part, Claim)]


def prose(text: str) -> Block:
    """Return a paragraph; between backticks stand formulas and names."""
    return Block("text", " ".join(text.split()))


def claim(says: str, holds: Any, found: str, right: str = "", *, limit: Any = False, printed: str = "") -> Claim:
    """Judge a claim: it fails unless `holds`, and holds in part if there is a `limit`, of which `right` tells."""
    verdict = "fails" if not holds else "in part" if limit else "holds"
    return Claim(says, printed, found, verdict, "" if verdict == "holds" else right)


def read(says: str, verdict: str, right: str = "", found: str = "read, not run") -> Claim:
    """Judge what no run of a minute can show: by reading alone, or by what an experiment `found`."""
    return Claim(says, "", found, verdict, right)


def same(says: str, printed: str, value: Any, right: str = "") -> Claim:
    """Compare numbers with those that the article prints: equal, when rounded to as many places.

    >>> same("the probability of horse", "0.67", 0.66524).verdict
    'holds'
    >>> same("three probabilities", "0.0900, 0.2447, 0.6652", [0.09003, 0.24473, 0.66524]).found
    '0.0900, 0.2447, 0.6652'
    >>> same("no number", "nan", float("nan")).verdict, same("the mean", "1", 0.02).verdict
    ('holds', 'fails')
    """
    values = np.atleast_1d(np.asarray(value, np.float64))
    texts = [text.strip() for text in printed.split(",")]
    if len(texts) != len(values):
        raise ValueError(f"same: the article prints {len(texts)} numbers, {printed!r}; {len(values)} were found")
    places = [len(text.partition(".")[2]) for text in texts]
    found = [f"{x:.{n}f}".replace("-0.000", "0.000") for x, n in zip(values, places, strict=True)]
    return claim(says, found == texts, ", ".join(found), right, printed=printed)


def run(source: str) -> Code:
    """Run code as a reader would, with `np`, `sm` and `F` at hand, and keep what it printed."""
    source = source.strip("\n")
    out = io.StringIO()
    names: dict[str, Any] = {}
    exec("import numpy as np\nimport tinygrad_sm as sm\nfrom tinygrad_sm import functional as F", names)
    with contextlib.redirect_stdout(out), np.errstate(all="ignore"):
        exec(compile(source, "<primer>", "exec"), names)
    return Code(source, out.getvalue().rstrip("\n"))
