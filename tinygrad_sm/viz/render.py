"""Finding a program that turns DOT into a picture, and running it.

A plain `pip install` brings no such program, so several are tried in turn: the one named in the environment
variable TINYGRAD_SM_DOT; `dot` on the PATH; the wheel `graphviz-pure`. One that fails, runs out of time
or returns anything but a picture makes way for the next.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from importlib import metadata

from ..text import visible

VARIABLE = "TINYGRAD_SM_DOT"
WHEEL = "graphviz-pure"
SIGNATURES = {"svg": b"<svg", "png": b"\x89PNG\r\n\x1a\n", "pdf": b"%PDF-"}
OPTIONS = {  # 144: twice the size of the screen's points
    "svg": ["-Tsvg"], "png": ["-Tpng", "-Gdpi=144"], "pdf": ["-Tpdf"],
}  # fmt: skip
TIMEOUT = 60.0  # seconds


class NoRenderer(RuntimeError):
    """No program could draw the graph; the message says what was tried, and what to install."""


def render(dot: str, format: str, *, timeout: float = TIMEOUT) -> bytes:
    """Return the picture of a DOT text as "svg", "png" or "pdf".

    Parameters
    ----------
    dot : str
        The graph, in Graphviz's language.
    format : {"svg", "png", "pdf"}
        What to return.
    timeout : float
        Seconds that each program may take.

    Raises
    ------
    ValueError
        For another format.
    NoRenderer
        If no program is there that can do it.
    """
    if format not in SIGNATURES:
        raise ValueError(f"render: format must be 'svg', 'png' or 'pdf', not {format!r}")
    failures = []
    for origin, program in programs():
        try:
            return _run(program, dot, format, timeout)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            failures.append(f"{origin}: {visible(error)}")
    tried = "".join(f"\n  {failure}" for failure in failures) or " none, since none was found"
    raise NoRenderer(
        "no program could draw the graph. Install one with pip install graphviz-pure, or the system package "
        f"graphviz, or name one in the environment variable {VARIABLE}. Tried:{tried}"
    )


def programs() -> Iterator[tuple[str, str]]:
    """Yield where a program comes from, and its path, best first."""
    if named := os.environ.get(VARIABLE):
        yield f"${VARIABLE}", shutil.which(named) or named
    if dot := shutil.which("dot"):
        yield "dot on the PATH", dot
    try:
        files = metadata.files(WHEEL) or []
    except metadata.PackageNotFoundError:
        return
    for file in files:
        if file.name in (WHEEL, f"{WHEEL}.exe"):  # a Jupyter kernel often lacks its folder on the PATH
            yield f"the wheel {WHEEL}", os.path.normpath(str(file.locate()))


def _run(program: str, dot: str, format: str, timeout: float) -> bytes:
    hidden = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # Windows would open a console for each picture
    done = subprocess.run(
        [program, *OPTIONS[format]],
        input=dot.encode(), capture_output=True, timeout=timeout, check=False, creationflags=hidden,
    )  # fmt: skip
    if done.returncode or SIGNATURES[format] not in done.stdout:
        said = done.stderr.decode(errors="replace").strip()[:200] or f"no {format} in it"
        raise ValueError(f"exit code {done.returncode}, {len(done.stdout)} bytes: {said}")
    return done.stdout
