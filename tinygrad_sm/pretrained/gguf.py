"""The format GGUF, versions 2 and 3, in which llama.cpp keeps models: a header, then the arrays.

    "GGUF", version (4 bytes), number of tensors (8), number of keys (8)       all numbers little-endian
    each key:     its name, the type of its value (4), the value
    each tensor:  its name, number of axes (4), their lengths (8 each, the last axis first), type (4), offset (8)
    padding up to a multiple of the alignment; here the offsets start

A text is its length (8 bytes) and as many bytes of UTF-8. Nothing is trusted: each length is compared with what is left
of the file before memory is set aside. Source: https://github.com/ggml-org/ggml, docs/gguf.md.
"""

from __future__ import annotations

import os
import struct
from typing import Any

import numpy as np

from ..text import visible
from .weights import LARGEST, Entry, Source, Weights, checked_entry, exactly, reading, refuse_other, refuse_overlaps

LONGEST_HEADER = 2**25  # bytes; those of a vocabulary of 256,000 words take 2**23
MOST_ITEMS = 2**21  # numbers and texts in all lists together
MOST_NAMES = 2**16  # of keys, and of tensors
LONGEST_NAME = 2**16 - 1
MOST_AXES, DEEPEST = 4, 8
SCALARS = {0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8", 11: "<i8", 12: "<f8"}
BOOL, TEXT, LIST = 7, 8, 9
TYPES = (
    "F32 F16 Q4_0 Q4_1 Q4_2 Q4_3 Q5_0 Q5_1 Q8_0 Q8_1 Q2_K Q3_K Q4_K Q5_K Q6_K Q8_K IQ2_XXS IQ2_XS IQ3_XXS IQ1_S "
    "IQ4_NL IQ3_S IQ2_S IQ4_XS I8 I16 I32 I64 F64 IQ1_M BF16 Q4_0_4_4 Q4_0_4_8 Q4_0_8_8 TQ1_0 TQ2_0 IQ4_NL_4_4 "
    "IQ4_NL_4_8 IQ4_NL_8_8 MXFP4 NVFP4 Q1_0"
)  # the place of each is its number


def read(path: str | os.PathLike[str], *, max_bytes: int = LARGEST) -> tuple[dict[str, Any], Weights]:
    r"""Open a GGUF file: its metadata, and its arrays, which are read when they are asked for.

    Parameters
    ----------
    path : str or path
        A regular file; a link to one is followed.
    max_bytes : int
        What any one array may take in memory, 4 GiB by default.

    Returns
    -------
    metadata : dict
        Keys and their values: texts, numbers, bools, and lists of them.
    weights : Weights
        Names and arrays, float32 or of integers. Shapes are those of NumPy, the reverse of what the file states.

    Raises
    ------
    ValueError
        For a file that is damaged, cut short or of another format or version, and one with tensors of a type that is
        not read (the K-quants among them).
    OSError
        If the file cannot be opened (FileNotFoundError if it does not exist).

    Examples
    --------
    >>> import pathlib, struct, tempfile
    >>> from tinygrad_sm.pretrained import gguf
    >>> key = struct.pack("<Q4sIf", 4, b"beta", 6, 0.5)
    >>> tensor = struct.pack("<Q1sIQQIQ", 1, b"w", 2, 2, 1, 24, 0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "tiny.gguf")
    ...     header = struct.pack("<4sIQQ", b"GGUF", 3, 1, 1) + key + tensor
    ...     _ = path.write_bytes(header.ljust(96, b"\0") + bytes([7, 9]))
    ...     metadata, weights = gguf.read(path)
    ...     print(metadata, weights["w"])
    {'beta': 0.5} [[7 9]]
    """
    with reading(path, "gguf.read") as (file, source):
        header = _Header(exactly(file, min(source.size, LONGEST_HEADER)), source.size)
        tensors, keys = header.start()
        metadata = header.metadata(keys)
        found = header.tensors(tensors)
        return metadata, Weights(_placed(found, header.at, _alignment(metadata), source, max_bytes))


class _Header:
    """The first bytes of a file, and how many of them are read."""

    def __init__(self, data: bytes, size: int) -> None:
        self.data, self.size = data, size
        self.at, self.items = 0, 0

    def start(self) -> tuple[int, int]:
        """Return the numbers of tensors and of keys."""
        if self.data[:4] != b"GGUF":
            refuse_other(self.data, "a GGUF file")
            raise ValueError(f"it starts with {self.data[:4]!r}, not with b'GGUF'")
        self.at = 4
        (version,) = self.unpack("<I", "the version")
        if version not in (2, 3):
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            what = f"is big-endian, version {swapped}" if swapped < version else f"has version {version}"
            raise ValueError(f"it {what}; versions 2 and 3, little-endian, are read")
        tensors, keys = self.unpack("<QQ", "the numbers of tensors and keys")
        for count, least, what in ((tensors, 24, "tensors"), (keys, 13, "keys")):
            if count * least > self.size:
                raise ValueError(f"it states {count:,} {what}, which the {self.size:,} bytes of the file cannot hold")
            if count > MOST_NAMES:
                raise ValueError(f"it states {count:,} {what}; at most {MOST_NAMES:,} are read")
        return tensors, keys

    def metadata(self, count: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for i in range(count):
            key = self.name(f"the name of key {i}")
            label = f"key {visible(repr(key), limit=100)}"
            if key in found:
                raise ValueError(f"{label} stands twice")
            (kind,) = self.unpack("<I", label)
            found[key] = self.value(kind, label)
        return found

    def value(self, kind: int, label: str, depth: int = 0) -> Any:
        if kind in SCALARS:
            return self.numbers(kind, 1, label)[0]
        if kind == TEXT:
            return self.texts(1, label)[0]
        if kind != LIST:
            raise ValueError(f"{label} has a value of type {kind}, which GGUF does not have")
        if depth == DEEPEST:
            raise ValueError(f"{label} has lists more than {DEEPEST} deep")
        kind, count = self.unpack("<IQ", label)
        self.items += count
        if self.items > MOST_ITEMS:
            raise ValueError(f"{label} has a list of {count:,}; at most {MOST_ITEMS:,} items of lists are read")
        if kind in SCALARS:
            return self.numbers(kind, count, label)
        if kind == TEXT:
            return self.texts(count, label)
        if kind != LIST:
            raise ValueError(f"{label} has a list of type {kind}, which GGUF does not have")
        self.require(12 * count, label)
        return [self.value(LIST, label, depth + 1) for _ in range(count)]

    def tensors(self, count: int) -> dict[str, tuple[str, tuple[int, ...], int]]:
        """Return type, shape and offset of each tensor."""
        found: dict[str, tuple[str, tuple[int, ...], int]] = {}
        for i in range(count):
            name = self.name(f"the name of tensor {i}")
            label = f"tensor {visible(repr(name), limit=100)}"
            if name in found:
                raise ValueError(f"{label} stands twice")
            (axes,) = self.unpack("<I", label)
            if axes > MOST_AXES:
                raise ValueError(f"{label} has {axes:,} axes; GGUF has at most {MOST_AXES}")
            *shape, kind, offset = self.unpack(f"<{axes}QIQ", label)
            found[name] = _type(kind), tuple(reversed(shape)), offset
        return found

    def name(self, label: str) -> str:
        return self.texts(1, label, LONGEST_NAME)[0]

    def texts(self, count: int, label: str, longest: int = LONGEST_HEADER) -> list[str]:
        self.require(8 * count, label)
        data, at, found = self.data, self.at, []
        length_at = struct.Struct("<Q").unpack_from
        for _ in range(count):
            if at + 8 > len(data):
                self.at = at
                self.require(8, label)
            (length,) = length_at(data, at)
            at += 8
            if length > longest or at + length > len(data):
                self.at = at
                self.require(length, label)
                raise ValueError(f"{label} has {length:,} bytes; at most {longest:,} are read")
            try:
                found.append(str(data[at : at + length], "utf-8"))
            except UnicodeDecodeError as error:
                raise ValueError(f"{label} is no UTF-8 text: {error.reason} in {error.object[:40]!r}") from None
            at += length
        self.at = at
        return found

    def numbers(self, kind: int, count: int, label: str) -> list[Any]:
        dtype = np.dtype(SCALARS[kind])
        self.require(count * dtype.itemsize, label)
        found = np.frombuffer(self.data, "u1" if kind == BOOL else dtype, count, self.at)
        self.at += found.nbytes
        if kind == BOOL:
            if count and found.max() > 1:
                raise ValueError(f"{label} has a bool of {found.max()}; there are 0 and 1")
            found = found.astype(bool)
        return found.tolist()

    def unpack(self, form: str, label: str) -> tuple[int, ...]:
        self.require(struct.calcsize(form), label)
        found = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return found

    def require(self, count: int, label: str) -> None:
        """Raise ValueError unless so many bytes are left."""
        left = len(self.data) - self.at
        if count > left:
            what = "are left" if len(self.data) == self.size else f"are left of the {LONGEST_HEADER:,} that are read"
            raise ValueError(f"{label} would take {count:,} bytes from byte {self.at:,} on, but {left:,} {what}")


def _type(number: int) -> str:
    names = TYPES.split()
    return names[number] if number < len(names) else f"number {number}"


def _alignment(metadata: dict[str, Any]) -> int:
    found = metadata.get("general.alignment", 32)
    if type(found) is not int or found < 1 or found & (found - 1):
        shown = visible(repr(found), limit=100)
        raise ValueError(f"key 'general.alignment' is {shown}; it must be a power of two")
    return found


def _placed(
    found: dict[str, tuple[str, tuple[int, ...], int]], end: int, alignment: int, source: Source, max_bytes: int
) -> dict[str, Entry]:
    """Return where each tensor lies in a file whose header ends at byte `end`."""
    begin, entries = -(-end // alignment) * alignment, {}
    for name, (kind, shape, offset) in found.items():
        label = f"tensor {visible(repr(name), limit=100)}"
        if offset % alignment:
            raise ValueError(f"{label} has the offset {offset:,}, which is no multiple of the alignment, {alignment:,}")
        entries[name] = checked_entry(label, source, kind, shape, begin + offset, max_bytes=max_bytes)
    refuse_overlaps(entries)
    return entries
