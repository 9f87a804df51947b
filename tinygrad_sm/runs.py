"""The files of a training run. They are read with distrust, since a folder may be damaged or come from a stranger."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .atomic import replacing
from .text import visible

CONFIG_LIMIT = 2**20  # bytes of a config.json


def read_text(path: str | Path) -> str:
    """Return the text of a file in UTF-8 or, if it is not, in Latin-1, which every file is.

    Raises ValueError for what is not a regular file, and for NULs, which binary files and UTF-16 have.
    """
    content = _content(Path(path))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    if nuls := text.count("\0"):
        raise ValueError(
            f"{visible(path)} is not text: {nuls:,} of its {len(text):,} characters are NUL, as in binary files and in "
            "UTF-16; convert it to UTF-8"
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_config(path: Path, like: dict[str, Any]) -> dict[str, Any]:
    """Return the options in a config.json: the same as in `like`, each of the same kind.

    Raises ValueError that names the option at fault.
    """
    config = _parsed(path, _content(path, CONFIG_LIMIT))
    if not isinstance(config, dict) or config.keys() != like.keys():
        found = config.keys() if isinstance(config, dict) else ()
        missing = ", ".join(k for k in like if k not in found)
        other = ", ".join(visible(k, limit=40) for k in list(found)[:40] if k not in like)
        raise ValueError(
            f"{visible(path)} does not hold the options: missing {missing or 'none'} and unknown {other or 'none'}"
        )
    for name, default in like.items():
        value = config[name]
        if name == "text":
            fits = value is None or isinstance(value, str)
        elif isinstance(default, float):
            fits = type(value) in (int, float) and math.isfinite(value)
        elif type(default) is int:
            fits = type(value) is int and (0 if name == "seed" else 1) <= value < 2**63
        else:
            fits = type(value) is type(default)
        if not fits:
            raise ValueError(
                f"{visible(path)}: {name} cannot be {visible(repr(value), limit=60)}; it is {default!r} by default"
            )
    return config


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of `metrics.jsonl`, without a last one that was cut short; raise ValueError for other lines."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    lines = _content(path).split(b"\n")
    rows: list[dict[str, Any]] = []
    for i, line in enumerate(lines, 1):
        try:
            if line:
                row = _numbers(_parsed(path, line))
                if not _is_row(row) or (rows and _layers(row) != _layers(rows[0])):
                    raise ValueError(f"{visible(path)} does not hold a line of metrics: {visible(repr(line[:60]))}")
                rows.append(row)
        except (ValueError, RecursionError) as error:
            if i < len(lines):  # else the process died while it wrote this line
                raise ValueError(f"line {i} of {error}") from None
    return rows


def write_json(path: Path, *values: Any, indent: int | None = None) -> None:
    """Write values as JSON, one after the other, with null for what is not a finite number."""
    with replacing(path, "train") as file:
        for value in values:
            file.write((to_json(value, indent) + "\n").encode())


def to_json(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON, with null for NaN and infinity, which JSON does not know."""
    return json.dumps(_finite(value), allow_nan=False, indent=indent)


def read_losses(path: Path) -> dict[str, float]:
    """Return what is in a result.json that `write_json` has written."""
    found: dict[str, float] = _numbers(_parsed(path, _content(path)))
    return found


def _content(path: Path, limit: int | None = None) -> bytes:
    if path.exists() and not path.is_file():  # a pipe would keep us waiting; a device may have no end
        raise ValueError(f"{visible(path)} is a {'directory' if path.is_dir() else 'pipe or a device'}, not a file")
    size = path.stat().st_size
    if limit is not None and size > limit:
        raise ValueError(f"{visible(path)} has {size:,} bytes, more than the {limit:,} that it may have")
    return path.read_bytes()


def _parsed(path: Path, content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{visible(path)} is not JSON ({visible(error, limit=200)}); it is damaged or cut short"
        ) from None


def _is_row(row: Any) -> bool:
    """Tell whether this is what `Run.measure` returns."""
    return (
        isinstance(row, dict)
        and row.keys() >= {"step", "train_loss", "held_out_loss", "lr", "grad_norms", "attention"}
        and type(row["step"]) is int
        and all(_is_number(row[key]) for key in ("train_loss", "held_out_loss", "lr"))
        and isinstance(row["grad_norms"], dict)
        and all(map(_is_number, row["grad_norms"].values()))
        and isinstance(row["attention"], list)
        and all(isinstance(a, dict) and a.keys() == {"entropy", "largest"} for a in row["attention"])
        and all(_is_number(x) for a in row["attention"] for x in a.values())
    )


def _is_number(x: Any) -> bool:
    return type(x) in (int, float) and (x != x or abs(x) < 1e300)


def _layers(row: dict[str, Any]) -> tuple[Any, int]:
    return row["grad_norms"].keys(), len(row["attention"])


def _finite(value: Any) -> Any:
    """Put None, which JSON knows, in place of NaN and infinity, anywhere in a line of metrics."""
    return _each(lambda x: None if isinstance(x, float) and not math.isfinite(x) else x, value)


def _numbers(value: Any) -> Any:
    """Undo `_finite`: put NaN in place of None."""
    return _each(lambda x: math.nan if x is None else x, value)


def _each(f: Callable[[Any], Any], value: Any) -> Any:
    """Return dicts and lists with f of what they hold."""
    if isinstance(value, dict):
        return {k: _each(f, v) for k, v in value.items()}
    return [_each(f, v) for v in value] if isinstance(value, list) else f(value)
