"""Hostile .safetensors files: one clear error, bounded memory."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hostile_files import MIB, Bomb, memory_below, refused

from tinygrad_sm.io import load, save


def tensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = (
        header
        if isinstance(header, bytes)
        else header.encode()
        if isinstance(header, str)
        else json.dumps(header).encode()
    )
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: str = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


W = json.dumps(entry())
SAFE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "no header"),
    "seven bytes": (b"\x00" * 7, "no header"),
    "no header": (struct.pack("<Q", 0), "no header"),
    "length 2^63": (tensors({"w": entry()}, bytes(4), 2**63), "no header of 9,223,372,036,854,775,808 bytes"),
    "length 2^64 - 1": (tensors({"w": entry()}, bytes(4), 2**64 - 1), "no header of 18,446,744"),
    "length of the file": (tensors({"w": entry()}, bytes(4), 80), "no header"),
    "length cuts the header": (tensors({"w": entry()}, bytes(4), 20), ""),
    "not JSON": (tensors("{w"), "JSON"),
    "a list": (tensors("[]"), ""),
    "not UTF-8": (tensors(b'{"\xff": 1}'), "UTF-8"),
    "twice the same name": (tensors(f'{{"w": {W}, "w": {W}}}', bytes(4)), "a name stands twice"),
    "twice the same key": (tensors(f'{{"w": {W[:-1]}, "shape": [1]}}}}', bytes(4)), "twice|duplicate"),
    "overlap": (tensors({"v": entry(), "w": entry()}, bytes(4)), "offset"),
    "hole": (tensors({"v": entry(), "w": entry(offsets=(8, 12))}, bytes(12)), "offset"),
    "offsets beyond the end": (tensors({"w": entry(offsets=(0, 2**40), shape=(2**38,))}, bytes(4)), ""),
    "offsets backwards": (tensors({"w": entry(offsets=(4, 0))}, bytes(4)), ""),
    "offsets overflow": (tensors({"w": entry(offsets=(2**64 - 1, 3))}, bytes(4)), ""),
    "data left over": (tensors({"w": entry()}, bytes(8)), ""),
    "shape overflows": (tensors({"w": entry(shape=(2**32, 2**32, 4))}, bytes(4)), "overflow"),
    "empty shape that overflows": (tensors({"w": entry(shape=(0, 2**64 - 1), offsets=(0, 0))}), ""),
    "negative shape": (tensors({"w": entry(shape=(-1,))}, bytes(4)), ""),
    "bool shape": (tensors({"w": entry(shape=(True,))}, bytes(4)), ""),
    "float shape": (tensors({"w": entry(shape=(1.0,))}, bytes(4)), ""),
    "many axes": (tensors({"w": entry(shape=(1,) * 100)}, bytes(4)), ""),
    "BF16": (tensors({"w": entry("BF16", (2,))}, bytes(4)), "NumPy has no dtype 'BF16'; convert it to F32"),
    "F4": (tensors({"w": entry("F4", (8,))}, bytes(4)), "F4"),
    "unknown dtype": (tensors({"w": entry("\x1b[31mX")}, bytes(4)), r"\\x1b"),
    "long dtype": (tensors({"w": entry("X" * 5000)}, bytes(4)), ""),
    "deep": (tensors('{"w":' * 10_000), ""),
    "deep list": (tensors('{"w":' + "[" * 10_000), ""),
    "deep metadata": (tensors('{"__metadata__":' * 10_000), ""),
    "a pickle": (pickle.dumps(Bomb()), "no header"),
}  # fmt: skip


@pytest.mark.parametrize("case", SAFE)
def test_safetensors_that_mean_harm(tmp_path: Path, case: str) -> None:
    pytest.importorskip("safetensors")
    data, message = SAFE[case]
    (tmp_path / "x.safetensors").write_bytes(data)
    refused(tmp_path / "x.safetensors", message)


def test_safetensors_that_are_sound(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    path = tmp_path / "x.safetensors"
    path.write_bytes(
        tensors({"__metadata__": {"format": "np"}, "../w": entry(), "data_offsets": entry(offsets=(4, 8))}, bytes(8))
    )
    assert load(path).keys() == {"../w", "data_offsets"}
    with pytest.raises(ValueError, match="pass max_bytes="):
        load(path, max_bytes=8)
    save(path, {"w": np.zeros(MIB)})
    load(path)
    with memory_below(17 * MIB):  # the file and the arrays
        assert load(path)["w"].flags.writeable
