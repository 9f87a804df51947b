"""Files of weights as bytes: a writer of GGUF and one of .safetensors, which write what they are told, true or not."""

from __future__ import annotations

import json
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

MEMORY, SECONDS = 2**26, 5  # of the processor: what refusing any of these files may take; it takes some milliseconds
FORMS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B", 10: "<Q", 11: "<q", 12: "<d"}
U8, I8, U16, I16, U32, I32, F32, BOOL, TEXT, LIST, U64, I64, F64 = range(13)
TYPES = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8,
    "I8": 24, "I16": 25, "I32": 26, "I64": 27, "F64": 28, "BF16": 30,
}  # fmt: skip
BLOCKS = {"Q4_0": (32, 18), "Q4_1": (32, 20), "Q5_0": (32, 22), "Q5_1": (32, 24), "Q8_0": (32, 34)}
SIZES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I8": 1, "I16": 2, "I32": 4, "I64": 8}


def text(content: str | bytes) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return struct.pack("<Q", len(content)) + content


def value(kind: Any, content: Any) -> bytes:
    """Return a value as GGUF writes it; a list has the kind (LIST, kind of its items)."""
    if isinstance(kind, tuple):
        inner = kind[1]
        number = LIST if isinstance(inner, tuple) else inner
        return struct.pack("<IQ", number, len(content)) + b"".join(value(inner, item) for item in content)
    return text(content) if kind == TEXT else struct.pack(FORMS[kind], content)


def key(name: str | bytes, kind: Any, content: Any = None, raw: bytes | None = None) -> bytes:
    number = LIST if isinstance(kind, tuple) else kind
    return text(name) + struct.pack("<I", number) + (value(kind, content) if raw is None else raw)


def tensor(name: str | bytes, dims: list[int], kind: int = 0, offset: int = 0, axes: int | None = None) -> bytes:
    axes = len(dims) if axes is None else axes
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", axes, *dims, kind, offset)


def gguf(keys=(), tensors=(), data=b"", *, version=3, counts=None, alignment=32, magic=b"GGUF") -> bytes:
    counts = (len(tensors), len(keys)) if counts is None else counts
    header = magic + struct.pack("<IQQ", version, *counts) + b"".join(keys) + b"".join(tensors)
    return header + bytes(-len(header) % alignment) + data


def model(arrays: dict[str, tuple[str, tuple[int, ...], bytes]], keys=(), alignment=32, **more) -> bytes:
    """Return a GGUF file of arrays: name to type, shape as NumPy has it, and bytes."""
    tensors, data = [], b""
    for name, (kind, shape, content) in arrays.items():
        tensors.append(tensor(name, list(reversed(shape)), TYPES[kind], len(data)))
        data += content + bytes(-len(content) % alignment)
    return gguf(keys, tensors, data, alignment=alignment, **more)


def random_bytes(kind: str, count: int, rng: np.random.Generator) -> bytes:
    """Return `count` numbers of a kind, drawn at random; the float16 and floats among them are finite."""
    if kind not in BLOCKS:
        if kind in ("F32", "F64", "F16"):
            return rng.normal(size=count).astype(f"<f{SIZES[kind]}").tobytes()
        if kind == "BF16":
            return rng.normal(size=count).astype("<f4").view("<u2")[1::2].tobytes()
        return rng.bytes(count * SIZES[kind])
    block, size = BLOCKS[kind]
    raw = np.frombuffer(rng.bytes(count // block * size), np.uint8).reshape(-1, size).copy()
    halves = 2 if kind.endswith("_1") else 1
    raw[:, : 2 * halves] = rng.normal(size=(len(raw), halves)).astype("<f2").view(np.uint8)
    return raw.tobytes()


def slowly(kind: str, raw: bytes) -> list[np.float32]:
    """Return the numbers of quantised blocks, one by one, as the definition of the format has it."""
    block, size = BLOCKS[kind]
    found = []
    for start in range(0, len(raw), size):
        one = raw[start : start + size]
        scale = np.float32(struct.unpack_from("<e", one)[0])
        offset = np.float32(struct.unpack_from("<e", one, 2)[0]) if kind.endswith("_1") else None
        head = 2 if offset is None else 4
        high = int.from_bytes(one[head : head + 4], "little") if kind.startswith("Q5") else 0
        codes = one[head + 4 :] if kind.startswith("Q5") else one[head:]
        for j in range(block):
            if kind == "Q8_0":
                q = struct.unpack_from("<b", codes, j)[0]
            else:
                q = codes[j] & 15 if j < 16 else codes[j - 16] >> 4
                q |= ((high >> j) & 1) << 4
                q -= {"Q4_0": 8, "Q5_0": 16}.get(kind, 0)
            number = np.float32(q) * scale
            found.append(number if offset is None else number + offset)
    return found


def safetensors(entries: dict[str, Any] | bytes, data: bytes = b"", *, length: int | None = None) -> bytes:
    header = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(dtype: Any, shape: Any, start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def described(dtype="F32", shape=(2,), start=0, end=8, data=bytes(8), **more) -> bytes:
    return safetensors({"w": entry(dtype, list(shape), start, end)}, data, **more)


def deep(depth: int) -> bytes:
    return b'{"w":' + b"[" * depth + b"]" * depth + b"}"


def refused(read, path, words: str) -> None:
    """Assert that the file is refused, by a ValueError with these words and the name of the file, at a small price."""
    start = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"(?s){words}") as caught:
            read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert Path(path).name in str(caught.value)
    assert len(str(caught.value)) < 1000 + len(str(path))
    assert str(caught.value).isprintable()
    assert peak < MEMORY
    assert time.process_time() - start < SECONDS
