"""Weights: named arrays in files, each read when asked for; and .safetensors, alone or in shards.

A file of weights may be larger than the memory, so that it is opened by its header alone. The header is not trusted:
where each array lies, and how long it is, is checked against the size of the file. Formats that are pickled, such as
`pytorch_model.bin`, are refused by name: to unpickle a file runs the code that it holds.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeGuard

import numpy as np

from ..tensor import Array
from ..text import visible
from .storage import KINDS, Kind

LARGEST = 2**32  # bytes that any one array may take, unless the caller allows more
MOST_AXES = 8
LONGEST_HEADER = 2**22  # bytes; the header of a model of 10,000 arrays takes 2**20
PIECE = 4096  # blocks that are unpacked at a time, so that they stay in the cache
PICKLED = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
RUNS_CODE = "pickled, and to unpickle a file can run code that it holds; get the model as .safetensors or .gguf"
SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*\.safetensors")
INDEX = "model.safetensors.index.json"
STARTS = {  # what else a file may be, by its first bytes
    b"GGUF": "it is a GGUF file",
    b"PK\x03\x04": f"it is a zip archive, perhaps of PyTorch; those are {RUNS_CODE}",
    b"\x80": f"it seems to be {RUNS_CODE}",
    b"version https://git-lfs": "it is a pointer of Git LFS, which stands for a file that was not fetched",
}


class Source(NamedTuple):
    """A file as it was when it was opened."""

    path: str
    size: int
    version: tuple[int, ...]


class Entry(NamedTuple):
    """Where an array lies: from byte `start` of a file on."""

    source: Source
    kind: Kind
    shape: tuple[int, ...]
    start: int

    @property
    def stored(self) -> int:
        """The bytes that it takes in the file."""
        return math.prod(self.shape) // self.kind.block * self.kind.size


class Weights(Mapping[str, Array]):
    """Names and arrays of files; an array is read when it is asked for, and not kept.

    Floating-point numbers come as float32, whatever the file stores; integers and bools as they are. Every array is
    new and can be written to.

    Parameters
    ----------
    entries : dict
        Where each array lies, as `open_safetensors` and `gguf.read` find it.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from tinygrad_sm.io import save
    >>> from tinygrad_sm.pretrained.weights import open_safetensors
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/model.safetensors", {"a.weight": np.ones((2, 3), np.float16)})
    ...     weights = open_safetensors(folder)
    ...     print(weights, weights.shape("a.weight"), weights["a.weight"].dtype)
    Weights(1 arrays of 6 numbers) (2, 3) float32
    """

    def __init__(self, entries: dict[str, Entry]) -> None:
        self._entries = entries

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order of the file."""
        return tuple(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an array, without reading it."""
        return self._entry(name).shape

    def kind(self, name: str) -> str:
        """Return how an array is stored, such as "BF16" or "Q4_1"."""
        return self._entry(name).kind.name

    def __getitem__(self, name: str) -> Array:
        entry = self._entry(name)
        with reading(entry.source.path, f"Weights[{visible(repr(name), limit=100)}]") as (file, source):
            if source.version != entry.source.version:
                raise ValueError("it has changed since it was opened")
            file.seek(entry.start)
            return _array(file, entry)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __eq__(self, other: object) -> bool:  # that of Mapping would read, and compare, all arrays
        return self is other

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        total = sum(math.prod(entry.shape) for entry in self._entries.values())
        return f"Weights({len(self):,} arrays of {total:,} numbers)"

    def _entry(self, name: str) -> Entry:
        try:
            return self._entries[name]
        except KeyError:
            raise KeyError(f"no array {name!r} among the {len(self):,} of the file") from None


def open_safetensors(path: str | os.PathLike[str], *, max_bytes: int = LARGEST) -> Weights:
    """Open a .safetensors file, or a folder of them, without reading the arrays.

    Parameters
    ----------
    path : str or path
        A file; an index of shards (`model.safetensors.index.json`); or a folder that holds `model.safetensors` or that
        index. Shards are files beside their index; links are followed.
    max_bytes : int
        What any one array may take in memory, 4 GiB by default.

    Raises
    ------
    ValueError
        For a pickled format; for a file that is damaged, cut short or of another format, or holds numbers of a kind
        that is not read, or arrays without members; and for an index that names files elsewhere.
    OSError
        If a file cannot be opened (FileNotFoundError if it does not exist).
    ImportError
        If the package `safetensors` is not installed.
    """
    place, shown = Path(os.fsdecode(path)), visible(os.fspath(path))
    if "\0" not in str(place) and place.is_dir():
        place = _in_folder(place, shown)
    if place.suffix.lower() in PICKLED:
        raise ValueError(f"open_safetensors: {shown} is not read: files such as {place.suffix} are {RUNS_CODE}")
    return _open_index(place, max_bytes) if place.suffix == ".json" else Weights(_open_one(place, max_bytes))


def read_json(path: str | os.PathLike[str], kind: type = dict, *, most_bytes: int = 2**22) -> Any:
    """Read a JSON file that holds an object (or with `kind=list` a list), such as config.json.

    Raises
    ------
    ValueError
        For a file of more than `most_bytes`, or one that is not JSON in UTF-8, is nested too deeply, names a key twice
        in an object, or holds something else than an object.
    OSError
        If the file cannot be opened (FileNotFoundError if it does not exist).
    """
    with reading(path, "read_json") as (file, source):
        if source.size > most_bytes:
            raise ValueError(f"it has {source.size:,} bytes, of which at most {most_bytes:,} are read")
        return _json(exactly(file, source.size), kind)


@contextmanager
def reading(path: str | os.PathLike[str], caller: str) -> Iterator[tuple[IO[bytes], Source]]:
    """Open a regular file; a ValueError while it is read will name the caller and the file."""
    name, shown = os.fsdecode(path), visible(os.fspath(path))
    if "\0" in name:
        raise ValueError(f"{caller}: no file can have a NUL in its name, as in {shown}")
    if os.path.exists(name) and not os.path.isfile(name):  # to open a pipe would wait for its other end
        raise ValueError(f"{caller}: {shown} is not a regular file")
    with open(name, "rb", buffering=0) as file:  # an error of the operating system names the path itself
        status = os.fstat(file.fileno())
        version = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        try:
            yield file, Source(os.path.abspath(name), status.st_size, version)
        except ValueError as error:
            raise ValueError(f"{caller}: cannot read {shown}: {visible(error, limit=400)}") from None


def refuse_other(start: bytes, wanted: str) -> None:
    """Raise ValueError if the first bytes of a file are known to be of another format."""
    for known, what in STARTS.items():
        if start.startswith(known):
            raise ValueError(f"it should be {wanted}, but {what}")


def checked_entry(
    label: str, source: Source, kind: str, shape: tuple[int, ...], start: int, *, max_bytes: int = LARGEST
) -> Entry:
    """Return where the array lies that `label` names, after checking its kind, its shape and its place."""
    if kind not in KINDS:
        raise ValueError(f"{label} is of type {kind}, which is not read; {', '.join(KINDS)} are")
    entry = Entry(source, KINDS[kind], shape, start)
    if len(shape) > MOST_AXES:
        raise ValueError(f"{label} has {len(shape):,} axes; at most {MOST_AXES} are read")
    if 0 in shape:
        raise ValueError(f"{label} has an axis of size 0, and so no members: shape {shape}")
    if entry.kind.block > 1 and (not shape or shape[-1] % entry.kind.block):
        raise ValueError(f"{label} has a last axis that {kind}, in blocks of {entry.kind.block}, cannot have: {shape}")
    if start + entry.stored > source.size:
        raise ValueError(
            f"{label}, {kind} of shape {shape}, would take {entry.stored:,} bytes from byte {start:,} on, but the file "
            f"has {source.size:,}; it is damaged or cut short"
        )
    if (taken := math.prod(shape) * np.dtype(entry.kind.dtype).itemsize) > max_bytes:
        raise ValueError(f"{label} of {shape} would take {taken:,} bytes; if you trust it, pass max_bytes={taken}")
    return entry


def refuse_overlaps(entries: dict[str, Entry]) -> None:
    """Raise ValueError if two arrays share bytes of their file."""
    end, before = 0, ""
    for name, entry in sorted(entries.items(), key=lambda item: item[1].start):
        if entry.start < end:
            raise ValueError(f"tensor {name!r}, from byte {entry.start:,} on, overlaps with {before!r}")
        end, before = entry.start + entry.stored, name


def _array(file: IO[bytes], entry: Entry) -> Array:
    kind, count = entry.kind, math.prod(entry.shape)
    out = np.empty(count, kind.dtype)
    if kind.unpack is None:
        _fill(file, out.view(np.uint8).data)
    else:
        blocks = out.reshape(-1, kind.block)
        step = PIECE if kind.block > 1 else 32 * PIECE
        buffer = np.empty((min(step, len(blocks)), kind.size), np.uint8)
        with np.errstate(all="ignore"):  # inf and nan may stand in a file, and float64 that float32 has no number for
            for i in range(0, len(blocks), step):
                raw = buffer[: len(blocks) - i]
                _fill(file, raw.reshape(-1).data)
                kind.unpack(raw, blocks[i : i + step])
    return out.reshape(entry.shape).astype(out.dtype.newbyteorder("="), copy=False)


def _fill(file: IO[bytes], buffer: memoryview) -> None:
    done = 0
    while done < len(buffer):
        count = file.readinto(buffer[done:])  # type: ignore[attr-defined]
        if not count:
            raise ValueError(f"it ends {len(buffer) - done:,} bytes too early")
        done += count


def exactly(file: IO[bytes], count: int) -> bytes:
    """Read `count` bytes, which the file must have."""
    found = file.read(count)
    while len(found) < count:  # an unbuffered file may give less than asked
        piece = file.read(count - len(found))
        if not piece:
            raise ValueError(f"it ends {count - len(found):,} bytes too early")
        found += piece
    return found


def _json(content: bytes, kind: type = dict) -> Any:
    try:
        found = json.loads(content.decode("utf-8"), object_pairs_hook=_unrepeated)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None
    if not isinstance(found, kind):
        raise ValueError(f"its JSON is not {'an object' if kind is dict else 'a list'} but a {type(found).__name__}")
    return found


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the name {twice!r} stands twice in an object")
    return found


def _in_folder(folder: Path, shown: str) -> Path:
    for name in ("model.safetensors", INDEX):
        if (folder / name).exists():
            return folder / name
    message = f"open_safetensors: the folder {shown} has neither model.safetensors nor {INDEX}"
    for file in sorted(folder.iterdir())[:1000]:
        if file.suffix.lower() in PICKLED:
            raise ValueError(f"{message}; it has {visible(file.name, limit=100)}, which is not read: it is {RUNS_CODE}")
    raise ValueError(message)


def _open_index(path: Path, max_bytes: int) -> Weights:
    with reading(path, "open_safetensors") as (file, source):
        if source.size > LONGEST_HEADER:
            raise ValueError(f"it has {source.size:,} bytes, of which at most {LONGEST_HEADER:,} are read")
        places = _json(exactly(file, source.size)).get("weight_map")
        if not (isinstance(places, dict) and places):
            raise ValueError("it has no weight_map, which says what file each array is in")
        for name, shard in places.items():
            if not (isinstance(shard, str) and SHARD.fullmatch(shard)):
                raise ValueError(
                    f"it names {shard!r} as the file of {name!r}; a plain name of a file beside it is read, that ends "
                    "in .safetensors"
                )
    for shard in set(places.values()):
        if not (path.parent / shard).exists():
            raise FileNotFoundError(f"open_safetensors: {visible(path)} names the file {shard}, which is not beside it")
    shards = {shard: _open_one(path.parent / shard, max_bytes) for shard in dict.fromkeys(places.values())}
    for name, shard in places.items():
        if name not in shards[shard]:
            shown = visible(f"{path}: it says that {name!r} is in {shard}", limit=400)
            raise ValueError(f"open_safetensors: cannot read {shown}, where it is not")
    return Weights({name: shards[shard][name] for name, shard in places.items()})


def _open_one(path: Path, max_bytes: int) -> dict[str, Entry]:
    try:
        from safetensors import safe_open
    except ImportError:
        raise ImportError("open_safetensors needs the package safetensors: pip install safetensors") from None
    with reading(path, "open_safetensors") as (file, source):
        start = exactly(file, min(source.size, 32))
        length = int.from_bytes(start[:8], "little")
        if source.size < 8 or length > source.size - 8 or start[8:9] != b"{":
            refuse_other(start, "a .safetensors file")  # only now: a length may look like the mark of another format
            raise ValueError(f"there is no header of {length:,} bytes in the {source.size:,} of the file")
        if length > LONGEST_HEADER:
            raise ValueError(f"its header has {length:,} bytes; at most {LONGEST_HEADER:,} are read")
        file.seek(8)
        header = _json(exactly(file, length))
        header.pop("__metadata__", None)
        entries = {
            name: _entry_of(name, description, source, 8 + length, max_bytes) for name, description in header.items()
        }
        refuse_overlaps(entries)
        try:  # the package has its own checks, such as that no byte is left over
            with safe_open(source.path, framework="numpy") as judge:
                judge.keys()
        except Exception as error:
            raise ValueError(f"the package safetensors refuses it: {error}") from None
    return entries


def _entry_of(name: str, description: Any, source: Source, begin: int, max_bytes: int) -> Entry:
    """Return where an array lies, from what the header says of it: dtype, shape and two offsets."""
    label = f"tensor {visible(repr(name), limit=100)}"
    known = description if isinstance(description, dict) else {}
    kind, shape, offsets = known.get("dtype"), known.get("shape"), known.get("data_offsets")
    if not (isinstance(kind, str) and _whole(shape) and _whole(offsets) and len(offsets) == 2):
        shown = visible(repr(description), limit=100)
        raise ValueError(f"{label} is described by {shown}, not by dtype, shape and data_offsets")
    entry = checked_entry(label, source, kind, tuple(shape), begin + offsets[0], max_bytes=max_bytes)
    if offsets[1] - offsets[0] != entry.stored:
        raise ValueError(f"{label}, {kind} of shape {entry.shape}, takes {entry.stored:,} bytes, not {offsets}")
    return entry


def _whole(numbers: Any) -> TypeGuard[list[int]]:
    """Return whether this is a list of whole numbers that 64 bits can hold."""
    return isinstance(numbers, list) and all(type(n) is int and 0 <= n < 2**64 for n in numbers)
