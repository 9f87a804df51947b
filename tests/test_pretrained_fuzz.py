"""The readers of GGUF and .safetensors against small files with random damage: arrays that fit the file, or ValueError.

With the variable EXAMPLES in the environment, so many damaged files are tried of each format.
"""

from __future__ import annotations

import math
import os
import struct
import tracemalloc

import model_files as files
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_files import BOOL, F32, LIST, TEXT, U8, U32, U64, entry, key

from tinygrad_sm.pretrained import gguf
from tinygrad_sm.pretrained.weights import Weights, open_safetensors, read_json

pytest.importorskip("safetensors")
EXAMPLES = int(os.environ.get("EXAMPLES", 300))
EXTREMES = [0, 1, 2**7, 2**8, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**63 - 1, 2**63, 2**64 - 32, 2**64 - 1]
MEMORY = 2**24


def gguf_file() -> bytes:
    rng = np.random.default_rng(0)
    shapes = {"Q4_0": (2, 64), "Q4_1": (1, 32), "Q5_0": (32,), "Q5_1": (2, 1, 32), "Q8_0": (3, 32)}
    arrays = {
        kind.lower(): (kind, shape, files.random_bytes(kind, math.prod(shape), rng))
        for kind in files.TYPES
        for shape in [shapes.get(kind, (3, 5))]
    }
    keys = [
        key("general.alignment", U32, 32), key("name", TEXT, "naïve"), key("yes", BOOL, 1), key("n", U64, 7),
        key("x", (LIST, F32), [0.5, 2.0]), key("words", (LIST, TEXT), ["a", "bc", ""]),
        key("nested", (LIST, (LIST, U8)), [[1], [2, 3]]), key("bools", (LIST, BOOL), [0, 1]),
    ]  # fmt: skip
    return files.model(arrays, keys)


def safetensors_file() -> bytes:
    sizes = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "BOOL": 1, "I8": 1, "I64": 8, "U16": 2}
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for kind, size in sizes.items():
        header[kind.lower()] = entry(kind, [2, 3], len(data), len(data) + 6 * size)
        data += np.random.default_rng(1).bytes(6 * size)
    return files.safetensors(header, data)


@st.composite
def damaged(draw, content: bytes, spots: list[int]):
    """Return the bytes of a file after some damage: bits, bytes, whole fields, pieces moved, cut off or added."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        near = st.sampled_from(spots).flatmap(lambda at: st.integers(max(at - 8, 0), at + 8))
        at = min(draw(st.one_of(near, st.integers(0, len(content)))), max(len(changed) - 1, 0))
        what = draw(st.sampled_from(["bit", "byte", "64", "32", "cut", "add", "drop", "copy", "digits"]))
        if what == "bit" and changed:
            changed[at] ^= 1 << draw(st.integers(0, 7))
        elif what == "byte" and changed:
            changed[at] = draw(st.integers(0, 255))
        elif what == "64":
            changed[at : at + 8] = struct.pack("<Q", draw(st.sampled_from(EXTREMES)))
        elif what == "32":
            changed[at : at + 4] = struct.pack("<I", draw(st.sampled_from(EXTREMES)) % 2**32)
        elif what == "cut":
            del changed[at:]
        elif what == "add":
            changed[at:at] = draw(st.binary(min_size=1, max_size=40))
        elif what == "drop":
            del changed[at : at + draw(st.integers(1, 40))]
        elif what == "copy":
            changed[at:at] = changed[: draw(st.integers(1, 60))]
        elif what == "digits":
            changed[at : at + 1] = str(draw(st.sampled_from(EXTREMES))).encode()
    return bytes(changed)


def numbers_of(content: bytes) -> list[int]:
    """Return where the header of a file has lengths, kinds and digits: what damage there does is worth most."""
    small = [i for i in range(len(content) - 8) if 0 < content[i] < 64 and not any(content[i + 1 : i + 4])]
    return [0, *small, *(i for i, byte in enumerate(content) if chr(byte) in '0123456789"[]{}')]


def whole(weights: Weights, size: int) -> None:
    """Assert that the arrays are what a file of this size can hold."""
    for name in weights:
        array = weights[name]
        assert array.shape == weights.shape(name)
        assert array.dtype.kind in "fiub"
        assert array.dtype.kind != "f" or array.dtype == np.float32
        assert array.dtype.isnative
        assert array.nbytes <= 8 * size


def survives(read, path, content: bytes, *, also: type[Exception] = ValueError) -> None:
    """Assert that the file is read, or refused by a ValueError that names it, in little memory."""
    path.write_bytes(content)
    message = path.name
    tracemalloc.start()
    try:
        found = read(path)
        if not isinstance(found, dict):
            whole(found[1] if isinstance(found, tuple) else found, len(content))
    except (ValueError, also) as error:
        message = str(error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.name in message
    assert message.isprintable()
    assert peak < MEMORY


GGUF, SAFETENSORS = gguf_file(), safetensors_file()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


def test_the_undamaged_files_are_read(folder):
    for name, read, content in (("a.gguf", gguf.read, GGUF), ("a.safetensors", open_safetensors, SAFETENSORS)):
        (folder / name).write_bytes(content)
        read(folder / name)


@settings(max_examples=EXAMPLES)
@given(damaged(GGUF, numbers_of(GGUF[:1500])))
def test_damaged_gguf(folder, content):
    survives(gguf.read, folder / "model.gguf", content)


@settings(max_examples=EXAMPLES)
@given(damaged(SAFETENSORS, numbers_of(SAFETENSORS[:800])))
def test_damaged_safetensors(folder, content):
    survives(open_safetensors, folder / "model.safetensors", content)


READERS = [("model.gguf", gguf.read, GGUF), ("model.safetensors", open_safetensors, SAFETENSORS)]


@pytest.mark.parametrize(("name", "read", "content"), READERS)
def test_cut_anywhere(folder, name, read, content):
    path = folder / name
    for length in range(len(content) - 32):  # the last bytes may be padding
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=name):
            read(path)


INDEX = b'{"metadata": {"total_size": 12}, "weight_map": {"f32": "a.safetensors", "i8": "a.safetensors"}}'


@settings(max_examples=EXAMPLES)
@given(damaged(INDEX, numbers_of(INDEX)))
def test_damaged_index(folder, content):
    (folder / "a.safetensors").write_bytes(SAFETENSORS)
    survives(open_safetensors, folder / "model.safetensors.index.json", content, also=FileNotFoundError)


@settings(max_examples=EXAMPLES)
@given(st.one_of(st.binary(max_size=60), damaged(INDEX, numbers_of(INDEX))))
def test_damaged_json(folder, content):
    survives(read_json, folder / "config.json", content)
