"""idx files: every kind and shape, packed or not; what is damaged, cut short or hostile; and Fashion-MNIST in them."""

from __future__ import annotations

import gzip
import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinygrad_sm import images
from tinygrad_sm.data import fashion_mnist
from tinygrad_sm.idx import KINDS, read_idx

CODES = {np.dtype(kind).newbyteorder("="): code for code, kind in KINDS.items()}
NAMES = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


def idx(array: Any) -> bytes:
    """Write an array as idx."""
    head = bytes([0, 0, CODES[array.dtype], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def put(path: Path, content: bytes, *, packed: bool = False) -> Path:
    path.write_bytes(gzip.compress(content, mtime=0) if packed else content)
    return path


# -- what is right ---------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (2, 3, 4), (0,), (0, 28, 28), (1,) * 32])
@pytest.mark.parametrize("dtype", list(CODES))
def test_what_is_written_is_read(dtype: Any, shape: tuple[int, ...], packed: bool, tmp_path: Path) -> None:
    array = np.asarray(np.random.default_rng(0).normal(size=shape) * 100).astype(dtype)
    found = read_idx(put(tmp_path / "a", idx(array), packed=packed))
    np.testing.assert_array_equal(found, array, strict=True)
    assert found.dtype.isnative
    assert found.flags.writeable


def test_a_large_one_in_pieces(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(256, size=(3, 1000, 1000)).astype(np.uint8)
    for packed in (False, True):
        np.testing.assert_array_equal(read_idx(put(tmp_path / "a", idx(array), packed=packed)), array)


# -- what is wrong ---------------------------------------------------------------------------

WHOLE = idx(np.arange(24, dtype=np.int32).reshape(2, 3, 4))
MANY = bytes([0, 0, 8, 3]) + struct.pack(">3I", 60_000, 28, 28)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it starts with b'', which no idx file does"),
        (b"\0\0\x08", "it starts with"),
        (b"PK\x03\x04" + bytes(50), "it starts with b'PK"),
        (b"\0\0\x0a\x01" + bytes(8), r"which no idx file does; its format may be another"),
        (b"\0\0\x08\x03" + bytes(8), "ends within the lengths of its 3 axes; it is cut short"),
        (WHOLE[:-1], r"it states 96 bytes of numbers"),
        (WHOLE + b"\0", r"it states 96 bytes of numbers"),
        (MANY, r"it states 47,040,000 bytes of numbers.*damaged or cut short"),
        (b"\0\0\x0e\x02" + b"\xff" * 8, r"no array of ours has those"),
        (b"\0\0\x08\x02" + struct.pack(">2I", 40_000, 40_000), r"if you trust it, pass max_bytes=1600000000"),
        (b"\0\0\x08\x02" + struct.pack(">2I", 0, 2**32 - 1), r"it states 2 axes, the longest of 4,294,967,295"),
        (b"\0\0\x08\xff" + struct.pack(">255I", *[1] * 255) + b"x", r"it states 255 axes"),
    ],
)  # fmt: skip
def test_one_that_is_wrong(content: bytes, message: str, packed: bool, tmp_path: Path) -> None:
    path = put(tmp_path / "wrong-idx", content, packed=packed)
    with pytest.raises(ValueError, match=f"^read_idx: cannot read .*wrong-idx: .*{message}"):
        read_idx(path)


def test_a_damaged_gzip(tmp_path: Path) -> None:
    whole = gzip.compress(WHOLE, mtime=0)
    for content in (whole[:-9], whole[:-4], whole[:12], whole[:-8] + b"\0" * 8, whole[:20] + b"\xff\xff" + whole[22:]):
        with pytest.raises(ValueError, match="read_idx: cannot read"):
            read_idx(put(tmp_path / "a", content))


def test_nothing_is_set_aside_for_what_a_file_merely_claims(tmp_path: Path) -> None:
    """A file of some bytes that claims a gigabyte, and one of a megabyte packed that has more than it says."""
    claims = bytes([0, 0, 8, 1]) + struct.pack(">I", 2**30)
    bomb = gzip.compress(bytes([0, 0, 8, 1]) + struct.pack(">I", 10) + bytes(2**28), 1)
    padded = gzip.compress(claims, 1) + os.urandom(2**20)  # so that the claim fits the size of the file
    for content in (claims, gzip.compress(claims), bomb, padded):
        path = put(tmp_path / "a", content)
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match="read_idx: cannot read"):
                read_idx(path)
            assert tracemalloc.get_traced_memory()[1] < 2**23
        finally:
            tracemalloc.stop()


def test_more_is_read_if_allowed(tmp_path: Path) -> None:
    path = put(tmp_path / "a", idx(np.zeros(1000, np.uint8)))
    with pytest.raises(ValueError, match="1,000"):
        read_idx(path, max_bytes=999)
    assert read_idx(path, max_bytes=1000).shape == (1000,)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "none")
    with pytest.raises(ValueError, match="not a regular file"):
        read_idx(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ValueError, match="not a regular file"):
            read_idx(tmp_path / "pipe")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(noise=st.binary(max_size=60), packed=st.booleans(), how=st.integers(0, 3), data=st.data())
def test_any_bytes_are_read_or_refused(noise: bytes, packed: bool, how: int, data: Any, tmp_path: Path) -> None:
    """Noise alone, noise after a right start, and a right file with bytes changed before or after it is packed."""
    content = noise if how == 0 else b"\0\0\x08\x01\0\0\0" + noise if how == 1 else WHOLE
    content = gzip.compress(content, mtime=0) if packed and how != 2 else content
    if how >= 2:
        changed = bytearray(content)
        for byte in noise[:3]:
            changed[data.draw(st.integers(0, len(changed) - 1))] = byte
        content = gzip.compress(bytes(changed), mtime=0) if packed and how == 2 else bytes(changed)
    try:
        found = read_idx(put(tmp_path / "a", content))
    except ValueError as error:
        assert str(error).startswith("read_idx: cannot read")  # noqa: PT017
    else:
        assert found.nbytes <= 1032 * len(content)


# -- Fashion-MNIST ---------------------------------------------------------------------------


def small(folder: Path, *, packed: bool = False, **other: Any) -> dict[str, Any]:
    """Write a small set in the form of Fashion-MNIST, with some files replaced; return the arrays."""
    rng, suffix = np.random.default_rng(0), ".gz" if packed else ""
    arrays = {
        name: rng.integers(256 if "images" in name else 10, size=(n, 28, 28) if "images" in name else n).astype(
            np.uint8
        )
        for name, n in zip(NAMES, (6, 6, 4, 4), strict=True)
    }
    arrays |= {name.replace("_", "-"): array for name, array in other.items()}
    for name, array in arrays.items():
        put(folder / f"{name}{suffix}", idx(array), packed=packed)
    return arrays


@pytest.mark.parametrize("packed", [False, True])
def test_a_small_set(packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = small(tmp_path, packed=packed)
    by_folder = fashion_mnist(tmp_path)
    monkeypatch.setenv(images.FOLDER, str(tmp_path))
    by_variable = fashion_mnist()
    monkeypatch.setenv(images.FOLDER, "")
    monkeypatch.setattr(images, "DEBIAN", tmp_path)
    for found in (by_folder, by_variable, fashion_mnist()):
        for part, name in zip(found, NAMES, strict=True):
            want = arrays[name]
            if want.ndim == 3:
                assert part.dtype == np.float32
                np.testing.assert_array_equal(np.round(255 * part).reshape(want.shape), want)
            else:
                np.testing.assert_array_equal(part, want.astype(np.int64), strict=True)


def test_a_set_that_is_not_there_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(images.FOLDER, raising=False)
    monkeypatch.setattr(images, "DEBIAN", tmp_path / "nowhere")
    with pytest.raises(
        FileNotFoundError, match=r"apt-get install dataset-fashion-mnist.*dpkg -x .*TINYGRAD_SM_FASHION"
    ):
        fashion_mnist()
    small(tmp_path)
    (tmp_path / NAMES[3]).unlink()
    with pytest.raises(FileNotFoundError, match=f"there is no {NAMES[3]} or {NAMES[3]}.gz in "):
        fashion_mnist(tmp_path)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("train_labels_idx1_ubyte", np.zeros(5, np.uint8), r"uint8\(6, 28, 28\) and labels uint8\(5,\); they should"),
        ("t10k_images_idx3_ubyte", np.zeros((4, 784), np.uint8), r"t10k in .* has pictures uint8\(4, 784\)"),
        ("t10k_images_idx3_ubyte", np.zeros((4, 28, 28), np.float32), r"has pictures float32"),
        ("train_labels_idx1_ubyte", np.array(3, np.uint8), r"labels uint8\(\)"),
        ("train_labels_idx1_ubyte", np.full(6, 10, np.uint8), r"train in .* has the label 10; they go from 0 to 9"),
    ],
)
def test_a_set_that_does_not_fit_together(name: str, array: Any, message: str, tmp_path: Path) -> None:
    small(tmp_path, **{name: array})
    with pytest.raises(ValueError, match=f"fashion_mnist: .*{message}"):
        fashion_mnist(tmp_path)


def test_the_real_set() -> None:
    try:
        x_train, y_train, x_test, y_test = fashion_mnist()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert (x_train.shape, y_train.shape, x_test.shape, y_test.shape) == (
        (60000, 784),
        (60000,),
        (10000, 784),
        (10000,),
    )
    assert (x_train.min(), x_train.max(), x_train.dtype) == (0, 1, np.float32)
    assert np.bincount(y_train).tolist() == [6000] * 10
    assert np.bincount(y_test).tolist() == [1000] * 10
    assert y_train[:9].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5]
    assert float(x_train.mean(dtype=np.float64)) == pytest.approx(0.2860, abs=5e-5)  # as is often quoted
