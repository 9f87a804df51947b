"""The readers of GGUF and .safetensors against files that lie: a ValueError that names the fault, soon, and no more."""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import model_files as files
import pytest
from model_files import BOOL, F32, LIST, TEXT, U8, U32, U64, deep, described, entry, key, refused, tensor

from tinygrad_sm.pretrained import gguf
from tinygrad_sm.pretrained.weights import open_safetensors, read_json

pytest.importorskip("safetensors")
HUGE, TERABYTE = 2**63, 2**40


def length(count: int) -> bytes:
    return struct.pack("<Q", count)


def items(kind: int, count: int) -> bytes:
    return struct.pack("<IQ", kind, count)


def one(dims, kind=0, offset=0, data=bytes(64), **more) -> bytes:
    return files.gguf([], [tensor("w", dims, kind, offset, **more)], data)


# name: the file, and words of the message
GGUF = {
    "empty": (b"", "starts with b''"),
    "another format": (b"GGML" + bytes(40), "starts with b'GGML'"),
    "only the magic": (b"GGUF", "the version would take 4 bytes"),
    "ends in the counts": (files.gguf()[:20], "numbers of tensors and keys would take 16 bytes"),
    "version 1": (files.gguf(version=1), "has version 1"),
    "version 4": (files.gguf(version=4), "has version 4"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "is big-endian, version 3"),
    "zip": (b"PK\x03\x04" + bytes(40), "zip archive.*PyTorch.*run code"),
    "pickle": (pickle.dumps({"w": 1}, protocol=4), "pickled.*run code"),
    "not fetched": (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
    "tensors without end": (files.gguf(counts=(2**64 - 1, 0)), "states 18,446,744,073,709,551,615 tensors"),
    "keys without end": (files.gguf(counts=(0, 2**40)), "states 1,099,511,627,776 keys"),
    "many tensors": (files.gguf(counts=(70_000, 0), data=bytes(2**21)), "70,000 tensors; at most 65,536"),
    "a key too many": (files.gguf([key("a", U8, 1)], counts=(0, 2), alignment=1), "name of key 1"),
    "a tensor too many": (files.gguf(counts=(1, 0), data=bytes(24)), "no members|is of type|axis|offset|take"),
    "key of 2^63 bytes": (files.gguf([length(HUGE) + bytes(40)]), "name of key 0 would take 9,223,372,036,854,775,808"),
    "key of 70,000 bytes": (files.gguf([files.text("k" * 70_000)]), "name of key 0 has 70,000 bytes; at most 65,535"),
    "text of 2^63 bytes": (files.gguf([key("k", TEXT, raw=length(HUGE))]), "key 'k' would take 9,223,372,036,854,775"),
    "text of 2^64 - 1 bytes": (files.gguf([key("k", TEXT, raw=length(2**64 - 1))]), "18,446,744,073,709,551,615 bytes"),
    "list of 2^40 numbers": (files.gguf([key("k", LIST, raw=items(F32, 2**40))]), "'k' has a list of 1,099,511,627"),
    "list of 2^64 - 1 texts": (files.gguf([key("k", LIST, raw=items(TEXT, 2**64 - 1))]), "a list of 18,446,744,073"),
    "list of a million texts": (files.gguf([key("k", LIST, raw=items(TEXT, 10**6))]), "'k' would take 8,000,000"),
    "list whose last text is missing": (
        files.gguf([key("k", LIST, raw=items(TEXT, 2) + length(8) + bytes(8))], alignment=1),
        "key 'k' would take 8 bytes from byte .* on, but 0 are left",
    ),
    "list of a million lists": (files.gguf([key("k", LIST, raw=items(LIST, 10**6))]), "'k' would take 12,000,000"),
    "list of a million numbers": (files.gguf([key("k", LIST, raw=items(U64, 10**6))]), "'k' would take 8,000,000"),
    "lists 1000 deep": (files.gguf([key("k", LIST, raw=items(LIST, 1) * 1000)]), "'k' has lists more than 8 deep"),
    "lists of lists": (
        files.gguf([key("k", LIST, raw=items(LIST, 1000) + (items(U8, 2100) + bytes(2100)) * 1000)]),
        "'k' has a list of 2,100; at most 2,097,152",
    ),
    "type of a value": (files.gguf([key("k", 13, raw=bytes(8))]), "'k' has a value of type 13"),
    "type of items": (files.gguf([key("k", LIST, raw=items(99, 1) + bytes(8))]), "'k' has a list of type 99"),
    "type of no items": (files.gguf([key("k", LIST, raw=items(2**32 - 1, 0))]), "list of type 4294967295"),
    "bool of 2": (files.gguf([key("k", BOOL, 2)]), "'k' has a bool of 2"),
    "bools of 255": (files.gguf([key("k", (LIST, BOOL), [0, 255])]), "'k' has a bool of 255"),
    "key not in UTF-8": (files.gguf([key(b"\xff\xfe", U8, 1)]), "name of key 0 is no UTF-8"),
    "text not in UTF-8": (files.gguf([key("k", TEXT, b"a\xc3")]), r"'k' is no UTF-8 text: unexpected end.*a\\xc3"),
    "surrogates": (files.gguf([key("k", (LIST, TEXT), [b"\xed\xa0\x80"])]), "'k' is no UTF-8"),
    "key twice": (files.gguf([key("k", U8, 1), key("k", U8, 2)]), "key 'k' stands twice"),
    "name with escapes": (files.gguf([key("\x1b[31m", U8, 1)] * 2), r"key '\\x1b\[31m' stands twice"),
    "alignment of 0": (files.gguf([key("general.alignment", U32, 0)]), "alignment' is 0; it must be a power of two"),
    "alignment of 24": (files.gguf([key("general.alignment", U32, 24)]), "alignment' is 24; it must be a power of two"),
    "alignment of True": (files.gguf([key("general.alignment", BOOL, 1)]), "is True; it must be a power of two"),
    "alignment in text": (files.gguf([key("general.alignment", TEXT, "32")]), "is '32'; it must be a power of two"),
    "alignment in a list": (files.gguf([key("general.alignment", (LIST, U32), [32])]), r"is \[32\]; it must be"),
    "alignment of 2^63": (
        files.gguf([key("general.alignment", U64, HUGE)], [tensor("w", [1])], bytes(64)),
        "'w', F32 of shape .*from byte 9,223,372,036,854,775,808",
    ),
    "one of three parts": (files.gguf([key("split.count", 2, 3)]), "is one of 3 parts"),
    "axes without end": (one([1], axes=10**9), "'w' has 1,000,000,000 axes"),
    "5 axes": (one([1] * 5), "'w' has 5 axes"),
    "name of a tensor": (files.gguf([], [length(2**40) + bytes(40)]), "name of tensor 0 would take 1,099,511,627,776"),
    "tensor not in UTF-8": (files.gguf([], [tensor(b"\x80", [1])], bytes(32)), "name of tensor 0 is no UTF-8"),
    "ends in a tensor": (files.gguf([], [tensor("w", [4, 4])])[:50], "tensor 'w' would take"),
    "product of axes": (one([2**32, 2**32]), r"'w', F32 of shape \(4294967296, 4294967296\), would take"),
    "product that is 0 in 64 bits": (one([2**63, 2**63, 4, 2**63]), "'w', F32 of shape .*would take"),
    "axis of size 0": (one([4, 0]), r"'w' has an axis of size 0, and so no members: shape \(0, 4\)"),
    "axes of size 0 and 2^63": (one([HUGE, 0]), "'w' has an axis of size 0"),
    "Q4_K": (one([256], kind=12), "'w' is of type Q4_K, which is not read; F32, F16"),
    "a type that was dropped": (one([32], kind=4), "'w' is of type Q4_2, which"),
    "a type that is not": (one([32], kind=1000), "'w' is of type number 1000, which"),
    "row of half a block": (one([16, 2], kind=3), r"'w' has a last axis that Q4_1, in blocks of 32, .*\(2, 16\)"),
    "block without axes": (one([], kind=3), "'w' has a last axis that Q4_1"),
    "cut short": (one([4, 5]), "'w', F32 of shape .*would take 80 bytes from byte 96 on, but the file has 160"),
    "offset outside": (one([4], offset=64), "'w', F32 .*from byte 128 on, but the file has 128"),
    "offset of 2^64 - 32": (one([4], offset=2**64 - 32), "'w', F32 .*from byte 18,446,744,073,709,551,648"),
    "offset askew": (one([4], offset=16), "'w' has the offset 16, which is no multiple of the alignment, 32"),
    "overlap": (
        files.gguf([], [tensor("v", [10], 0, 32), tensor("w", [9], 0, 0)], bytes(72)),
        "tensor 'v', from byte 128 on, overlaps with 'w'",
    ),
    "the same place": (files.gguf([], [tensor("v", [8]), tensor("w", [8])], bytes(32)), "'w'.* overlaps with 'v'"),
    "tensor twice": (files.gguf([], [tensor("w", [8]), tensor("w", [8], 0, 32)], bytes(64)), "'w' stands twice"),
}  # fmt: skip


TWICE = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
SAFETENSORS = {
    "empty": (b"", "no header of 0 bytes in the 0"),
    "seven bytes": (bytes(7), "no header"),
    "zeros": (bytes(4096), "no header of 0 bytes in the 4,096"),
    "header of 2^63 bytes": (described(length=HUGE), "no header of 9,223,372,036,854,775,808 bytes"),
    "header of 2^64 - 1 bytes": (described(length=2**64 - 1), "no header of 18,446,744,073,709,551,615"),
    "header longer than the file": (described(length=1000), "no header of 1,000 bytes in the"),
    "header of 9 MB": (files.safetensors(b"{" + b" " * 9_000_000 + b"}"), "header has 9,000,002 bytes; at most"),
    "not JSON": (files.safetensors(b'{"w": '), "Expecting value"),
    "not an object": (files.safetensors(b"[1]"), "no header"),
    "not UTF-8": (files.safetensors(b'{"\xff":1}'), "utf-8"),
    "deep": (files.safetensors(deep(100_000)), "nested too deeply"),
    "digits": (files.safetensors(b'{"w":' + b"9" * 10_000 + b"}"), "digits"),
    "tensor twice": (files.safetensors(TWICE, bytes(4)), "'w' stands twice"),
    "gguf": (files.gguf(data=bytes(64)), "it is a GGUF file"),
    "zip": (b"PK\x03\x04" + bytes(40), "zip archive.*run code"),
    "pickle": (pickle.dumps({"w": 1}, protocol=4), "run code"),
    "not fetched": (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
    "not described": (files.safetensors({"w": [1]}), r"'w' is described by \[1\], not by dtype"),
    "no dtype": (files.safetensors({"w": {"shape": [1], "data_offsets": [0, 4]}}, bytes(4)), "'w' is described by"),
    "dtype unknown": (described("F31"), "'w' is of type F31, which is not read"),
    "dtype of 8 bits": (described("F8_E4M3"), "'w' is of type F8_E4M3, which is not read"),
    "dtype a number": (described(4), "'w' is described by"),
    "dtype of GGUF": (described("Q4_0", [32], 0, 18, bytes(18)), "the package safetensors refuses it.*Q4_0"),
    "shape of texts": (described(shape=["2"]), "'w' is described by"),
    "shape below 0": (described(shape=[-2]), "'w' is described by"),
    "shape of fractions": (described(shape=[2.0]), "'w' is described by"),
    "shape of bools": (described(shape=[True]), "'w' is described by"),
    "shape of 2^64": (described(shape=[2**64]), "'w' is described by"),
    "product of the shape": (described(shape=[2**63, 2**63, 2]), "'w', F32 of shape .*would take"),
    "9 axes": (described(shape=[1] * 9), "'w' has 9 axes; at most 8"),
    "a million axes": (described(shape=[1] * 10**6), "'w' has 1,000,000 axes"),
    "axis of size 0": (described(shape=[0], end=0, data=b""), "'w' has an axis of size 0"),
    "axes of size 0 and 2^63": (described(shape=[2**63, 0], end=0, data=b""), "'w' has an axis of size 0"),
    "a billion numbers": (described(shape=[10**9], end=4 * 10**9), "'w', F32 .*would take 4,000,000,000 bytes"),
    "offsets outside": (described(start=8, end=16), "'w', F32 .*would take 8 bytes from byte"),
    "offsets turned": (described(start=8, end=0, data=bytes(16)), r"takes 8 bytes, not \[8, 0\]"),
    "offsets of another length": (described(end=4), r"'w', F32 of shape \(2,\), takes 8 bytes, not \[0, 4\]"),
    "three offsets": (
        files.safetensors({"w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1, 1]}}, bytes(1)), "is described by"
    ),
    "overlap": (
        files.safetensors({"v": entry("U8", [4], 0, 4), "w": entry("U8", [4], 2, 6)}, bytes(6)),
        "tensor 'w', from byte .* on, overlaps with 'v'",
    ),
    "a gap": (files.safetensors({"w": entry("U8", [4], 4, 8)}, bytes(8)), "the package safetensors refuses it"),
    "bytes left over": (described(data=bytes(9)), "the package safetensors refuses it"),
    "cut short": (described(data=bytes(7)), "'w', F32 .*would take 8 bytes"),
    "name of surrogates": (
        files.safetensors(b'{"\\ud800":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"1"),
        "the package safetensors refuses it",
    ),
    "metadata of numbers": (files.safetensors({"__metadata__": {"a": 1}}), "the package safetensors refuses it"),
}  # fmt: skip

CASES = [("model.gguf", gguf.read, *case) for case in GGUF.values()]
CASES += [("model.safetensors", open_safetensors, *case) for case in SAFETENSORS.values()]
NAMES = [f"gguf: {name}" for name in GGUF] + [f"safetensors: {name}" for name in SAFETENSORS]


@pytest.mark.parametrize(("name", "read", "content", "words"), CASES, ids=NAMES)
def test_a_file_that_lies_is_refused(tmp_path, name, read, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    refused(read, path, words)


@pytest.mark.parametrize(("name", "read"), [("model.gguf", gguf.read), ("model.safetensors", open_safetensors)])
def test_what_is_no_file_is_refused(tmp_path, name, read):
    path = tmp_path / name
    os.mkfifo(path)
    refused(read, path, "is not a regular file")
    path.unlink()
    path.mkdir()
    refused(read, path, "is not a regular file|has neither")
    with pytest.raises(ValueError, match="NUL"):
        read(f"{path}\0")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none" / name)


def sparse(path: Path, start: bytes) -> Path:
    """Write a file of a terabyte, nearly all of it a hole."""
    with path.open("wb") as file:
        file.write(start)
        file.truncate(TERABYTE)
    return path


SPARSE = {
    "a.gguf": (gguf.read, b"", "starts with"),
    "b.gguf": (gguf.read, one([2**37], data=b""), "'w' of .*take 549,755,813,888 bytes; if you trust it, pass max_byt"),
    "c.gguf": (gguf.read, files.gguf([key("k", TEXT, raw=length(2**39))]), "'k' would take 549,755,813,888.*are read"),
    "d.gguf": (
        gguf.read,
        files.gguf([key("k", LIST, raw=items(TEXT, 2**17))], counts=(0, 3)),
        "key '' stands twice",
    ),
    "e.gguf": (gguf.read, files.gguf(counts=(2**30, 0)), "1,073,741,824 tensors; at most"),
    "f.gguf": (gguf.read, files.gguf(counts=(0, 60_000)), "key '' stands twice"),
    "a.safetensors": (open_safetensors, b"", "no header of 0 bytes"),
    "b.safetensors": (open_safetensors, struct.pack("<Q", 2**39) + b"{", "header has 549,755,813,888 bytes; at most"),
    "c.safetensors": (open_safetensors, described(shape=[2**37], end=2**39), "549,755,813,888 bytes; if you trust it"),
    "d.safetensors": (open_safetensors, described(), "the package safetensors refuses it"),
    "config.json": (read_json, b"{", "has 1,099,511,627,776 bytes, of which at most 4,194,304 are read"),
    "model.safetensors.index.json": (open_safetensors, b"{", "1,099,511,627,776 bytes, of which at most"),
}


@pytest.mark.parametrize("name", SPARSE)
def test_a_sparse_terabyte_is_refused(tmp_path, name):
    read, start, words = SPARSE[name]
    refused(read, sparse(tmp_path / name, start), words)


def test_a_gigabyte_is_opened_without_being_read(tmp_path):
    path = tmp_path / "model.safetensors"
    header = {"big": entry("F32", [2**28], 0, 2**30), "small": entry("U8", [4], 2**30, 2**30 + 4)}
    with path.open("wb") as file:
        file.write(files.safetensors(header))
        file.seek(2**30, os.SEEK_CUR)
        file.write(bytes([1, 2, 3, 4]))
    tracemalloc.start()
    try:
        assert open_safetensors(path)["small"].tolist() == [1, 2, 3, 4]
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    with pytest.raises(
        ValueError, match=r"'big' of .* would take 1,073,741,824 bytes; if you trust it, pass max_bytes"
    ):
        open_safetensors(path, max_bytes=2**20)


CHILD = """
import resource, sys
from pathlib import Path
from tinygrad_sm.pretrained import gguf
from tinygrad_sm.pretrained.weights import open_safetensors, read_json
import safetensors
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 256 * 2**20, resource.RLIM_INFINITY))
for path in sorted(Path(sys.argv[1]).iterdir()):
    read = gguf.read if path.suffix == ".gguf" else read_json if path.name == "config.json" else open_safetensors
    try:
        read(path)
    except ValueError:
        print(path.name)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="tells its address space in another way, or not")
def test_all_are_refused_within_a_small_address_space(tmp_path):
    for i, (name, _, content, _) in enumerate(CASES):
        (tmp_path / f"{i}-{name}").write_bytes(content)
    for name, (_, start, _) in SPARSE.items():
        sparse(tmp_path / name, start)
    done = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    assert set(done.stdout.split()) == {path.name for path in tmp_path.iterdir()}
