"""Hostile .npz files: one clear error, bounded memory, nothing run, nothing written."""

from __future__ import annotations

import io as bytes_io
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hostile_files import KIB, MIB, Bomb, memory_below, refused

from tinygrad_sm import io
from tinygrad_sm.io import load

STATE = {"layer.weight": np.arange(12.0).reshape(3, 4), "bias": np.ones(3, np.float16), "step": np.array(7)}


# -- what stands in a member --------------------------------------------------------------


def npy(header: str | bytes, data: bytes = b"", version: int = 1, length: int | None = None) -> bytes:
    header = header if isinstance(header, bytes) else header.encode()
    size = len(header) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", size) + header + data


def says(shape: object, descr: str = "'<f8'", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


def saved(array: np.ndarray) -> bytes:
    out = bytes_io.BytesIO()
    np.save(out, array)
    return out.getvalue()


MEMBERS: dict[str, tuple[bytes, str]] = {
    "pickled objects": (saved(np.array([Bomb()], dtype=object)), "not numbers"),
    "a pickle": (pickle.dumps(Bomb()), "is not an array"),
    "code for a dtype": (npy(says((1,), "__import__('os').mkdir('gone')"), bytes(8)), "not understood"),
    "code for a shape": (npy(says("(setattr(0, 'x', 1),)"), bytes(8)), "not understood"),
    "a product for a shape": (npy(says("(9**9**9,)"), bytes(8)), "not understood"),
    "text": (saved(np.array(["text"])), "not numbers"),
    "dates": (saved(np.array(["2020-01-01"], "M8[D]")), "not understood|not numbers"),
    "records": (saved(np.zeros(2, [("a", "f4"), ("b", "i4")])), "not understood"),
    "no width": (npy(says((10**18,), "'|S0'")), "not numbers"),
    "void": (npy(says((10**18,), "'|V0'")), "not numbers"),
    "a dtype that is none": (npy(says((1,), "'<f3'"), bytes(3)), "f3"),
    "negative shape": (npy(says((-1,)), bytes(8)), "not understood"),
    "two negatives": (npy(says((-2, -4)), bytes(64)), "not understood"),
    "bool shape": (npy(says((True,)), bytes(8)), "not understood"),
    "float shape": (npy(says((1.0,)), bytes(8)), "not understood"),
    "text shape": (npy(says(("1",)), bytes(8)), "not understood"),
    "a shape that is a number": (npy(says("(1)"), bytes(8)), "not understood"),
    "shape overflows": (npy(says((2**32, 2**32)), b""), "takes 147,573,952,589,676,412,928"),
    "shape overflows to the size": (npy(says((2**61, 1)), b""), "takes 18,446,744"),
    "empty shape that overflows": (npy(says((0, 2**70)), b""), ""),
    "seventy axes": (npy(says((1,) * 70), bytes(8)), ""),
    "a petabyte": (npy(says((10**15,)), b"short"), "has 5 bytes of data"),
    "order is a number": (npy(says((1,), order="1"), bytes(8)), "not understood"),
    "longer than its shape": (npy(says((1,)), bytes(16)), "has 16 bytes of data; float64.1,. takes 8"),
    "shorter than its shape": (npy(says((2,)), bytes(8)), "has 8 bytes of data"),
    "no keys": (npy("{}\n"), "not understood"),
    "not a dict": (npy("[1]\n"), "not understood"),
    "nested": (npy("(" * 3000), "not understood"),
    "nested by words": (npy("{" + "not " * 900 + "()}"), "not understood"),
    "not ASCII": (npy(b"\xff" * 64), "not understood"),
    "long header": (npy(says((1,)) + " " * 20_000, bytes(8)), "header of 20,0"),
    "header of 2 GB": (npy(says((1,)), bytes(8), version=2, length=2**31), "header of 2,147,483,648"),
    "cut header": (npy(says((1,)), version=1, length=200), ""),
    "version 9": (npy(says((1,)), bytes(8), version=9), "is not an array"),
    "nothing": (b"", "is not an array"),
    "a magic number": (b"\x93NUMPY", "is not an array"),
}  # fmt: skip


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("case", MEMBERS)
def test_members_that_are_not_what_they_say(tmp_path: Path, case: str, method: int) -> None:
    content, message = MEMBERS[case]
    with zipfile.ZipFile(tmp_path / "x.npz", "w", method) as archive:
        archive.writestr("w.npy", content)
    refused(tmp_path / "x.npz", message)


def test_the_bomb_is_live() -> None:
    pickle.loads(pickle.dumps(Bomb()))
    assert Bomb.exploded
    Bomb.exploded = False


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("header", [says((2,)), '{"shape":(2,),"descr":"<f8","fortran_order":True}', says("( 2, )")])
def test_headers_of_other_writers(tmp_path: Path, version: int, header: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("w.npy", npy(header, np.array([1.0, -2.0]).tobytes(), version))
    assert load(tmp_path / "x.npz")["w"].tolist() == [1, -2]


# -- the archive --------------------------------------------------------------------------


def archive(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    out = bytes_io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        for name, content in members:
            file.writestr(zipfile.ZipInfo(name), content, method)
    return out.getvalue()


def changed(data: bytes, offset: int, kind: str, value: int, signature: bytes = b"PK\x01\x02") -> bytes:
    """Put a number into the first record with this signature; by default, of the central directory."""
    copy, at = bytearray(data), data.index(signature) + offset
    struct.pack_into(kind, copy, at, value)
    return bytes(copy)


ONE = archive([("w.npy", saved(np.arange(3.0)))])
DEFLATED = archive([("w.npy", saved(np.zeros(1000)))], zipfile.ZIP_DEFLATED)
TWO = archive([("w.npy", saved(np.arange(3.0))), ("v.npy", saved(np.arange(3.0)))])
SECOND = TWO.index(b"PK\x01\x02", TWO.index(b"PK\x01\x02") + 1)  # the directory's entry of "v.npy"


def twice_the_same() -> bytes:
    """Two names for one member: the trick of bombs that overlap."""
    return TWO[:SECOND] + changed(TWO[SECOND:].replace(b"v.npy", b"u.npy"), 42, "<I", 0)


def duplicated() -> bytes:
    return TWO.replace(b"v.npy", b"w.npy")


ARCHIVES: dict[str, tuple[bytes, str]] = {
    "nested": (archive([("inner.npz", ONE)]), "'inner.npz' is not an array"),
    "encrypted": (changed(ONE, 8, "<H", 1), "encrypted"),
    "encrypted beside": (changed(changed(ONE, 8, "<H", 1), 6, "<H", 1, b"PK\x03\x04"), "encrypted"),
    "bzip2": (archive([("w.npy", saved(np.arange(3.0)))], zipfile.ZIP_BZIP2), "method 12; only deflate"),
    "lzma": (archive([("w.npy", saved(np.arange(3.0)))], zipfile.ZIP_LZMA), "method 14; only deflate"),
    "unknown method": (changed(ONE, 10, "<H", 99), "method 99; only deflate"),
    "twice the same name": (duplicated(), "two arrays have the name 'w.npy'"),
    "overlap": (twice_the_same(), "overlaps"),
    "stored and longer": (changed(ONE, 24, "<I", 2**31), "cannot have 2,147,483,648 bytes"),
    "stored and shorter": (changed(ONE, 24, "<I", 100), "cannot have 100 bytes"),
    "longer than the file": (changed(changed(ONE, 20, "<I", 2**30), 24, "<I", 2**30), "would take 1,073,741,"),
    "inflates too far": (changed(DEFLATED, 24, "<I", 2**31), "cannot have 2,147,483,648 bytes"),
    "inflates less": (changed(DEFLATED, 24, "<I", 4000), "CRC"),
    "inflates more": (changed(DEFLATED, 24, "<I", 9000), "has 8,872 bytes of data"),
    "swallows a name": (changed(TWO, 32, "<H", len(TWO) - SECOND - 22), "directory is damaged: it names 1 of 2"),
    "checksum": (changed(ONE, 16, "<I", 1), "CRC"),
    "no directory": (ONE[:-10] + bytes(10), "directory is damaged: it names 0 of 1 arrays"),
    "fewer than there are": (changed(TWO, 10, "<H", 1, b"PK\x05\x06"), "directory is damaged: it names 2 of 1"),
    "offset beyond the end": (changed(ONE, 42, "<I", 2**31), "would take"),
    "directory beyond the end": (changed(ONE, 16, "<I", 2**31, b"PK\x05\x06"), ""),
    "directory too long": (changed(ONE, 12, "<I", 2**31, b"PK\x05\x06"), ""),
    "directory is long": (changed(ONE, 10, "<H", 9999, b"PK\x05\x06")[:-30], ""),
    "64 bits of size": (ONE.replace(b"PK\x01\x02", b"PK\x01\x02", 1)[:-22] + b"PK\x06\x06" + bytes(70) + ONE[-22:], ""),
    "not UTF-8": (archive([("w\u00e9.npy", saved(np.zeros(1)))]).replace(b"w\xc3\xa9", b"w\xff\xff"), "Unicode|codec"),
    "a pickle": (pickle.dumps(Bomb()), "not a zip"),
    "empty": (b"", "not a zip"),
}  # fmt: skip


@pytest.mark.parametrize("case", ARCHIVES)
def test_archives_that_mean_harm(tmp_path: Path, case: str) -> None:
    data, message = ARCHIVES[case]
    (tmp_path / "x.npz").write_bytes(data)
    refused(tmp_path / "x.npz", message)


def bomb(megabytes: int) -> bytes:
    """Return a sound archive of zeros, of about a thousandth of its contents: the compressed megabyte is repeated."""
    header = npy(says((megabytes * MIB // 8,)))
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    start = packer.compress(header) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    packed, checksum = start + block * megabytes + packer.flush(), zlib.crc32(header)
    for _ in range(megabytes):
        checksum = zlib.crc32(bytes(MIB), checksum)
    numbers = (checksum, len(packed), len(header) + megabytes * MIB)
    local = struct.pack("<4s5H3I2H", b"PK\x03\x04", 20, 0, 8, 0, 0, *numbers, 5, 0) + b"w.npy"
    entry = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 8, 0, 0, *numbers, 5, 0, 0, 0, 0, 0, 0) + b"w.npy"
    place = len(local) + len(packed)
    return local + packed + entry + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, len(entry), place, 0)


def test_zip_bomb(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(bomb(300))
    assert path.stat().st_size < 400 * KIB
    refused(path, r"holds 314,572,\d+ bytes of arrays in 31\d,\d+; if you trust it, pass max_bytes=314572")


def test_who_trusts_a_file_may_unpack_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(bomb(8))
    monkeypatch.setattr(io, "LIMIT", 4 * MIB)
    refused(path, "pass max_bytes=8388")
    w = load(path, max_bytes=9 * MIB)["w"]
    assert w.shape == (MIB,)
    assert not w.any()
    with pytest.raises(ValueError, match="pass max_bytes"):
        load(path, max_bytes=8 * MIB)
    monkeypatch.undo()
    with memory_below(12 * MIB):  # what is read is there once, and a piece of it a second time
        assert load(path)["w"].shape == (MIB,)


def test_many_small_members_count_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "x.npz", **{f"w{i}": np.zeros(100_000) for i in range(4)})
    assert len(load(tmp_path / "x.npz")) == 4
    monkeypatch.setattr(io, "LIMIT", 3 * MIB)
    refused(tmp_path / "x.npz", "pass max_bytes")


def test_arrays_that_users_compress(tmp_path: Path) -> None:
    arrays = {
        "zeros": np.zeros((3, 100_000), np.float32),
        "f": np.asfortranarray(STATE["layer.weight"]),
        "b": np.eye(2) > 0,
    }
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    loaded = load(tmp_path / "x.npz")
    assert loaded.keys() == arrays.keys()
    for name, a in arrays.items():
        np.testing.assert_array_equal(loaded[name], a, strict=True)
        assert loaded[name].flags.writeable


def test_thousands_of_names(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(archive([(f"{i}.npy", saved(np.array(i))) for i in range(2000)]))
    size = (tmp_path / "x.npz").stat().st_size
    with memory_below(8 * size):
        assert [int(a) for a in load(tmp_path / "x.npz").values()] == list(range(2000))


def test_archives_that_count_in_64_bits(tmp_path: Path) -> None:
    directory, place = TWO[TWO.index(b"PK\x01\x02") : -22], TWO.index(b"PK\x01\x02")
    for count in (2, 3):
        wide = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(directory), place)
        where = struct.pack("<4sIQI", b"PK\x06\x07", 0, len(TWO) - 22, 1)
        last = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
        (tmp_path / "x.npz").write_bytes(TWO[:-22] + wide + where + last)
        if count == 2:
            assert load(tmp_path / "x.npz").keys() == {"w", "v"}
    refused(tmp_path / "x.npz", "names 2 of 3")


@pytest.mark.parametrize(
    "name", ["../../x", "/root/x", "C:/x", "//host/share/x", "a/../../x", "..", "~/x", "con", "a:b"]
)
def test_names_that_lead_elsewhere_are_only_names(tmp_path: Path, name: str) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "x.npz").write_bytes(archive([(f"{name}.npy", saved(np.zeros(1)))]))
    before = sorted(tmp_path.rglob("*"))
    assert load(inner / "x.npz").keys() == {name}
    assert sorted(tmp_path.rglob("*")) == before
