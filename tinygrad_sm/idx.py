"""The format idx, in which MNIST and its successors come: a few bytes that say dtype and shape, then the numbers.

    byte  0    1    2      3      4 … 3 + 4·axes                  then
          0    0    kind   axes   length of each, big-endian      all numbers, big-endian, last axis fastest

A file may be packed by gzip. Reading trusts nothing that it says of itself: its claim is compared with its size before
memory is set aside, and what is unpacked is counted. Source: http://yann.lecun.com/exdb/mnist (the format's page).
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from typing import IO

import numpy as np

from .npz import DEFLATE
from .tensor import Array
from .text import visible

KINDS = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
LIMIT = 2**30  # bytes of numbers, unless the caller allows more
PIECE = 2**20


def read_idx(path: str | os.PathLike[str], *, max_bytes: int = LIMIT) -> Array:
    """Read an idx file, packed by gzip or not: an array of the dtype and shape that it states, in native byte order.

    Parameters
    ----------
    path : str or path
        A regular file. Whether it is packed is told from its first bytes, not from its name.
    max_bytes : int
        What the numbers may take, 1 GiB by default: a packed file can hold a thousand times its size.

    Raises
    ------
    ValueError
        For a file that is no idx file, damaged, cut short, longer than it says, or larger than `max_bytes`.
    OSError
        If the file cannot be opened (FileNotFoundError if it does not exist).

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from tinygrad_sm.idx import read_idx
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "labels-idx1-ubyte")
    ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 9, 0, 4]))
    ...     read_idx(path)
    array([9, 0, 4], dtype=uint8)
    """
    shown = visible(os.fspath(path))
    if os.path.exists(path) and not os.path.isfile(path):  # to open a pipe would wait for its other end
        raise ValueError(f"read_idx: {shown} is not a regular file")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        try:
            if not packed:
                return _read(file, size, max_bytes)
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _read(unpacked, DEFLATE * size, max_bytes, packed=True)
        except (ValueError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"read_idx: cannot read {shown}: {visible(error, limit=200)}") from None


def _read(file: IO[bytes] | gzip.GzipFile, size: int, limit: int, *, packed: bool = False) -> Array:
    """Read an idx file of `size` bytes; of at most so many if it was packed, when its length shows at the end only."""
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in KINDS:
        raise ValueError(f"it starts with {start!r}, which no idx file does; its format may be another")
    axes = start[3]
    lengths = file.read(4 * axes)
    if len(lengths) < 4 * axes:
        raise ValueError(f"it ends within the lengths of its {axes} axes; it is cut short")
    dtype, shape = np.dtype(KINDS[start[2]]), tuple(np.frombuffer(lengths, ">u4").tolist())
    wanted, there = math.prod(shape) * dtype.itemsize, size - 4 - 4 * axes
    if axes > 32 or max(shape, default=0) * dtype.itemsize > limit:  # an axis of length 0 hides the others' product
        raise ValueError(f"it states {axes} axes, the longest of {max(shape, default=0):,}; no array of ours has those")
    if wanted > limit:
        raise ValueError(f"it states {wanted:,} bytes of numbers; if you trust it, pass max_bytes={wanted}")
    if wanted > there if packed else wanted != there:
        raise ValueError(
            f"it states {wanted:,} bytes of numbers, but {there:,} can be in it; it is damaged or cut short"
        )
    data = bytearray()
    while len(data) < wanted and (piece := file.read(min(PIECE, wanted - len(data)))):
        data += piece  # as it comes: a packed file may state more than it has
    if len(data) < wanted or file.read(1):  # the read at the end also checks the checksum of gzip
        found = f"only {len(data):,}" if len(data) < wanted else "more"
        raise ValueError(f"it states {wanted:,} bytes of numbers and has {found}; it is damaged or cut short")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
