"""Damaged files, what is no file at all, and names in errors: one clear error, and never other numbers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hostile_files import refused
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_sm.io import load, save
from tinygrad_sm.state import check_names

STATE = {"layer.weight": np.arange(12.0).reshape(3, 4), "bias": np.ones(3, np.float16), "step": np.array(7)}
posix = pytest.mark.skipif(os.name != "posix", reason="files that only POSIX has")


# -- any file: damage ---------------------------------------------------------------------------


def written(folder: Path, kind: str) -> bytes:
    path = folder / "sound.npz"
    if kind == "compressed":
        np.savez_compressed(path, **STATE)
    else:
        path = folder / f"sound{kind}"
        if kind == ".safetensors":
            pytest.importorskip("safetensors")
        save(path, STATE)
    return path.read_bytes()


KINDS = (".npz", "compressed", ".safetensors")


@pytest.mark.parametrize("kind", KINDS)
@given(
    st.lists(st.tuples(st.integers(0, 2**20), st.integers(1, 255)), min_size=1, max_size=6),
    st.one_of(st.none(), st.integers(0, 2**20)),
)
def test_flipped_bytes_never_give_other_numbers(
    tmp_path_factory: pytest.TempPathFactory, kind: str, flips: list[tuple[int, int]], cut: int | None
) -> None:
    folder = tmp_path_factory.getbasetemp()
    data = bytearray(written(folder, kind))
    for place, bits in flips:
        data[place % len(data)] ^= bits
    path = folder / f"flipped{'.npz' if kind == 'compressed' else kind}"
    path.write_bytes(data if cut is None else data[: cut % len(data)])
    try:
        found = load(path)
    except ValueError:
        return
    if kind == ".safetensors":  # has no checksum
        assert sum(a.nbytes for a in found.values()) <= len(data)
        return
    assert found.keys() == STATE.keys()
    for name, a in STATE.items():
        np.testing.assert_array_equal(found[name], a, strict=True)


@pytest.mark.parametrize("kind", KINDS)
def test_every_byte_of_a_file_in_turn(tmp_path: Path, kind: str) -> None:
    """Change each byte of a file, and cut it there: what loads all the same holds the same numbers."""
    whole = written(tmp_path, kind)
    path = tmp_path / f"x{'.npz' if kind == 'compressed' else kind}"
    same = 0
    for i in range(len(whole)):
        if i % 5 == 0:
            path.write_bytes(whole[:i])
            with pytest.raises(ValueError, match=r"^load: cannot read"):
                load(path)
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :])
        try:
            found = load(path)
        except ValueError:
            continue
        if kind != ".safetensors":
            assert found.keys() == STATE.keys()
            assert all(np.array_equal(found[name], a) for name, a in STATE.items())
            same += 1
    assert same < len(whole) / 2  # times, versions and attributes, which no one reads


# -- what is not a file -------------------------------------------------------------------------


@pytest.fixture(params=[".npz", ".safetensors"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == ".safetensors":
        pytest.importorskip("safetensors")
    return tmp_path / f"x{request.param}"


NOT_FILES: dict[str, Callable[[Path], None]] = {
    "folder": lambda path: path.mkdir(),
    "pipe": lambda path: os.mkfifo(path),
    "/dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "/dev/null": lambda path: path.symlink_to("/dev/null"),
}


@posix
@pytest.mark.parametrize("kind", NOT_FILES)
def test_what_is_not_a_regular_file(path: Path, kind: str) -> None:
    NOT_FILES[kind](path)
    refused(path, "is not a regular file")
    with pytest.raises(ValueError, match=r"save: .* is not a regular file"):
        save(path, {"w": 1})
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@posix
def test_links(path: Path) -> None:
    path.symlink_to(path)
    with pytest.raises(OSError, match="x"):
        load(path)
    path.unlink()
    path.symlink_to(path.parent / "gone")
    with pytest.raises(FileNotFoundError, match="x"):
        load(path)
    save(path, {"w": 1})
    assert path.is_symlink()
    assert load(path)["w"] == 1


@posix
def test_a_file_with_a_terabyte_of_nothing(path: Path) -> None:
    path.touch()
    try:
        os.truncate(path, 2**40)
    except OSError:
        pytest.skip("this file system has no sparse files")
    refused(path)


def test_names_of_files_are_shown_without_their_escape_codes(path: Path) -> None:
    bad = path.with_name(f"a\x1b[31m\n{path.name}")
    try:
        bad.write_bytes(b"noise")
    except OSError:
        pytest.skip("this file system has no such names")
    with pytest.raises(ValueError, match=r"a\\x1b\[31m\\nx") as caught:
        load(bad)
    assert str(caught.value).isprintable()
    with pytest.raises(ValueError, match=r"a\\x1b\[31m\.pkl") as caught:
        save("a\x1b[31m.pkl", {})
    assert str(caught.value).isprintable()
    for call in (load, lambda p: save(p, {})):
        with pytest.raises(ValueError, match="NUL") as caught:
            call(f"a\0{path.name}")
        assert str(caught.value).isprintable()


# -- names --------------------------------------------------------------------------------------


def test_names_in_errors_are_shown_without_their_escape_codes_and_not_all_of_them() -> None:
    names = [f"\x1b[31m{i}\u202e" for i in range(100_000)]
    given_arrays: dict[str, object] = dict.fromkeys(names, 1.0)
    with pytest.raises(ValueError, match=r"unexpected: \\x1b\[31m0\\u202e, .*, \.\.\. and 99,980 more$") as caught:
        check_names({}, given_arrays, "Net")
    assert all(line.isprintable() for line in str(caught.value).split("\n"))
    with pytest.raises(ValueError, match=r"missing: .*, \.\.\. and 99,980 more$"):
        check_names(dict.fromkeys(names, ()), {}, "Net")
    with pytest.raises(ValueError, match=r"\n  wrong shape: \.\.\. and 99,980 more$"):
        check_names(dict.fromkeys(names, (1,)), given_arrays, "Net")
    with pytest.raises(ValueError, match=r"unexpected: x{9,99}\.\.\.x{9,99}$"):
        check_names({}, {"x" * 100_000: 1.0}, "Net")


def test_names_too_long_for_the_format(tmp_path: Path) -> None:
    longest = "x" * (65535 - 4)
    save(tmp_path / "x.npz", {longest: 1})
    assert load(tmp_path / "x.npz").keys() == {longest}
    with pytest.raises(
        ValueError, match=r"save: a \.npz file cannot hold the name 'x{40}'\.\.\., .* 65,532 char.*safetensors"
    ):
        save(tmp_path / "x.npz", {longest + "x": 1})
    assert load(tmp_path / "x.npz").keys() == {longest}
    pytest.importorskip("safetensors")
    save(tmp_path / "x.safetensors", {"x" * 100_000: 1})
    assert load(tmp_path / "x.safetensors").keys() == {"x" * 100_000}
