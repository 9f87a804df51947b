"""Writing a file so that it is always whole: the old one, or the new one, whenever the process dies."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .text import visible

LEFT_OVER = re.compile(r"\.[0-9a-f]{16}\.tinygrad_sm\.tmp")
HOUR = 3600.0  # seconds; no save that is still alive is silent for so long


@contextmanager
def replacing(path: str | os.PathLike[str], caller: str = "save") -> Iterator[IO[bytes]]:
    """Give a file to write to; it takes the place of `path` when the block ends, and vanishes if the block fails.

    The new file is written under another name beside `path`, synced to the disk, and renamed; then its folder is
    synced, so that the new name outlasts a power cut too (Windows has no such call). What a killed process left
    behind, a file `.<16 hex digits>.tinygrad_sm.tmp`, is removed by the next save into that folder, once it is an
    hour old.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    ValueError
        If `path` is there and is not a regular file: a folder or a device.
    """
    target = checked_target(path, caller)
    _sweep(target.parent)
    temporary = target.with_name(f".{secrets.token_hex(8)}.tinygrad_sm.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:  # Ctrl-C too
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def checked_target(path: str | os.PathLike[str], caller: str) -> Path:
    """Return the file that `path` means, or raise what `replacing` would: before a long computation, say."""
    target = Path(os.path.realpath(path))  # a link stays a link: what it points to is replaced
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{caller}: there is no directory {visible(target.parent)}; create it first")
    if target.exists() and not target.is_file():
        raise ValueError(f"{caller}: {visible(target)} is not a regular file; choose another name")
    return target


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        with suppress(OSError):  # some network file systems cannot
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _sweep(folder: Path) -> None:
    """Remove what saves that were killed have left; never what another process may be writing now."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if LEFT_OVER.fullmatch(entry.name) and time.time() - entry.stat(follow_symlinks=False).st_mtime > HOUR:
                os.unlink(entry.path)
