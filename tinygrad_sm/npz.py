"""The format .npz: a zip archive whose members are arrays. Reading trusts nothing that the file says of itself.

All that a file claims is checked before memory is set aside for it: the sizes of its members against each other and
against the size of the file, and the shape of an array against the size of its member.
"""

from __future__ import annotations

import ast
import math
import re
import zipfile
from functools import lru_cache
from typing import IO, Literal

import numpy as np

from .tensor import Array

State = dict[str, Array]
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # all that NumPy writes
DEFLATE = 1032  # deflate makes nothing longer than that many times
LONGEST_HEADER, LONGEST_NAME = 4096, 65535  # bytes
PIECE = 1 << 20
# One flat dict with one flat tuple in it, so that nothing is nested, and nothing computed.
HEADER = re.compile(rb"\s*\{[\w\s'\"<>|=,:]*\([\d\s,]*\)[\w\s'\"<>|=,:]*\}\s*")
NUMBER = re.compile(r"[<>|=]?[biufc]\d{1,2}")


class TooLargeError(ValueError):
    """The arrays of a file would take more memory than allowed."""


def write(file: IO[bytes], state: State) -> None:
    """Write named arrays, uncompressed; equal arrays give equal bytes."""
    # np.savez takes names as keyword arguments, so that an array called "file" would collide with its own
    # argument; and it stamps the time, so that equal arrays would give different bytes.
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in state.items():
            info = zipfile.ZipInfo(f"{name}.npy")
            if info.filename != f"{name}.npy":
                raise ValueError(f"save: a .npz file cannot hold the name {name!r}; rename it or use .safetensors")
            if len(info.filename.encode()) > LONGEST_NAME:
                raise ValueError(
                    f"save: a .npz file cannot hold the name {name[:40]!r}..., which has {len(name):,} characters; "
                    "shorten it or use .safetensors"
                )
            with archive.open(info, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def read(file: IO[bytes], size: int, limit: int) -> State:
    """Return the arrays of a file of `size` bytes, if they take no more than `limit` bytes; else TooLargeError."""
    # np.load would mistake the name "a.npy" for the file "a.npy", which is that of the name "a".
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if len(members) != (count := _count(file, size)):  # zipfile stops where the directory seems to end
            raise ValueError(f"its directory is damaged: it names {len(members):,} of {count:,} arrays")
        _check(members, size, limit)
        return {info.filename.removesuffix(".npy"): _array(archive, info) for info in members}


def _count(file: IO[bytes], size: int) -> int:
    """Return how many members the last record of an archive tells of."""
    file.seek(max(0, size - 2**16 - 100))
    tail = file.read()
    end, wide = tail.rfind(b"PK\x05\x06"), tail.rfind(b"PK\x06\x06")
    count = int.from_bytes(tail[end + 10 : end + 12], "little")
    return int.from_bytes(tail[wide + 32 : wide + 40], "little") if count == 0xFFFF and wide >= 0 else count


def _check(members: list[zipfile.ZipInfo], size: int, limit: int) -> None:
    """Raise ValueError if what the directory says cannot be, or is not what an archive of arrays has."""
    names, end = set(), 0
    for info in sorted(members, key=lambda info: info.header_offset):
        name, packed, length = info.filename, info.compress_size, info.file_size
        if not name.endswith(".npy"):
            raise ValueError(f"{name!r} is not an array")
        if name in names:
            raise ValueError(f"two arrays have the name {name!r}")
        if info.compress_type not in METHODS:
            raise ValueError(f"{name!r} is compressed by method {info.compress_type}; only deflate is read")
        if length != packed if info.compress_type == zipfile.ZIP_STORED else length > DEFLATE * (packed + 1):
            raise ValueError(f"{name!r} cannot have {length:,} bytes in a member of {packed:,}")
        if info.header_offset < end:
            raise ValueError(f"{name!r} overlaps with another member")
        names.add(name)
        end = info.header_offset + 30 + packed  # 30: the least that stands before the data
    if end > size:
        raise ValueError(f"its members would take {end:,} bytes, but the file has {size:,}")
    total = sum(info.file_size for info in members)
    if total > limit:
        raise TooLargeError(f"holds {total:,} bytes of arrays in {size:,}; if you trust it, pass max_bytes={total}")


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    with archive.open(info) as member:
        start = member.read(8)
        width = {b"\x93NUMPY\x01\x00": 2, b"\x93NUMPY\x02\x00": 4, b"\x93NUMPY\x03\x00": 4}.get(start)
        if width is None:
            raise ValueError(f"{info.filename!r} is not an array")
        length = int.from_bytes(member.read(width), "little")
        if length > LONGEST_HEADER:
            raise ValueError(f"{info.filename!r} has a header of {length:,} bytes")
        dtype, shape, order = _parsed(member.read(length))
        data, wanted = info.file_size - 8 - width - length, math.prod(shape) * dtype.itemsize
        if data != wanted:
            raise ValueError(f"{info.filename!r} has {max(data, 0):,} bytes of data; {dtype}{shape} takes {wanted:,}")
        array = np.empty(shape, dtype, order)
        flat = array.reshape(-1, order="A").view(np.uint8)
        for i in range(0, data, PIECE):  # reading to the end also checks the checksum
            piece = np.frombuffer(member.read(PIECE), np.uint8)
            if len(piece) != min(PIECE, data - i):
                raise EOFError(f"{info.filename!r} ends too early")
            flat[i : i + PIECE] = piece
        return array


@lru_cache(maxsize=256)
def _parsed(header: bytes) -> tuple[np.dtype[np.generic], tuple[int, ...], Literal["C", "F"]]:
    """Return dtype, shape and order, "C" or "F", from the header of an array."""
    if not HEADER.fullmatch(header):
        raise ValueError(f"the header of an array is not understood: {header[:80]!r}")
    try:
        found = ast.literal_eval(header.decode("ascii").strip())
        kind, fortran, shape = (found[key] for key in ("descr", "fortran_order", "shape"))
    except Exception:  # the parser of Python gives up in several ways
        raise ValueError(f"the header of an array is not understood: {header[:80]!r}") from None
    if not (isinstance(kind, str) and NUMBER.fullmatch(kind)):
        raise ValueError(f"it holds an array of {kind!r}, which are not numbers")
    if not (type(fortran) is bool and type(shape) is tuple and all(type(n) is int for n in shape)):
        raise ValueError(f"the header of an array is not understood: {header[:80]!r}")
    return np.dtype(kind), shape, "F" if fortran else "C"
