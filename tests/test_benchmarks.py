"""The comparison with peers, untimed: every row works, computes what its peers compute, and is shown as it is."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

import numpy as np
import pytest
from benchmarks import page, report, timing
from benchmarks.__main__ import options
from benchmarks.cases import ROWS, TRAINING
from benchmarks.compare import checkout, run
from benchmarks.limits import Machine, attention_bounds, cross_entropy_bounds
from benchmarks.losses import cross_entropy
from benchmarks.measure import Memory, Result, Settings, measured
from benchmarks.memory import peak, peak_of
from benchmarks.row import PEERS, Missing, Row, as_array, disagreement, installed
from benchmarks.timing import Times

import tinygrad_sm as sm

BY_NAME = {row.name: row for row in ROWS}
COUNTED = pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="the system does not count the peak of a process anew"
)
COMPARED = [
    pytest.param(row, peer, id=f"{row.name}-{peer}", marks=[pytest.mark.torch] if peer == "torch" else [])
    for row in ROWS
    for peer in row.peers
    if peer != "plain" and row.tolerance is not None
]


def _step(row: Row, peer: str) -> Any:
    try:
        return row.builders(small=True)[peer]()
    except Missing as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("row", ROWS, ids=BY_NAME)
def test_our_side_of_a_row_runs_and_gives_new_outputs_at_every_call(row):
    step = _step(row, "ours")
    first, second = ([as_array(x) for x in step()] for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert np.isfinite(a).all()
        assert not np.shares_memory(a, b)
        if row.group != TRAINING and row.tolerance is not None:  # nothing is left over from the first call
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("row", "peer"), COMPARED)
@pytest.mark.filterwarnings("ignore")  # those of the peers
def test_a_peer_computes_the_same(row, peer):
    pytest.importorskip(peer)
    ours, theirs = _step(row, "ours"), _step(row, peer)
    for _ in range(3):  # the third shows two updates of the optimisers
        assert disagreement(ours(), theirs()) <= row.tolerance


@pytest.mark.torch
def test_the_torch_model_generates_what_ours_does_when_the_likeliest_token_is_taken():
    torch = pytest.importorskip("torch")
    from benchmarks.torch_gpt import from_ours

    model = sm.nn.TransformerLM(11, d_model=8, n_heads=2, n_layers=2, context=6, rng=np.random.default_rng(1))
    for p in model.parameters():
        p.data = p.data * np.float32(8)  # as it starts, it would say the same token over and over
    ours = model.generate([3], 20, temperature=0)  # the cache of 6 is filled several times
    assert len(set(ours.tolist())) > 3
    assert from_ours(model, 2).generate(torch.tensor([[3]]), 20, temperature=0)[0].tolist() == ours.tolist()


def test_names_are_unique_and_every_peer_of_a_row_has_a_builder():
    assert len(BY_NAME) == len(ROWS)
    for row in ROWS:
        assert set(row.peers) <= set(row.builders(small=True))


def test_disagreement_is_relative_to_the_largest_and_of_equal_shapes():
    a, b = np.array([100.0, 1.0]), np.array([100.0, 3.0])
    assert disagreement([a, a], [a, b]) == pytest.approx(0.02)
    with pytest.raises(ValueError, match="shapes differ"):
        disagreement([a], [a[:1]])


def test_tinygrad_is_left_out_where_there_is_no_compiler(monkeypatch):
    monkeypatch.setattr("benchmarks.row.find_spec", lambda name: object())
    for compiler in (None, "/usr/bin/clang"):
        monkeypatch.setattr("shutil.which", lambda name, found=compiler: found)
        assert installed("tinygrad") == (compiler is not None)
    assert installed("torch")


@pytest.mark.parametrize(("x", "y"), [(np.nan, 1.0), (1.0, np.nan), (np.nan, np.nan), (np.inf, 1.0), (np.inf, np.inf)])
def test_disagreement_is_infinite_where_a_difference_is_not_finite(x, y):
    assert disagreement([np.array([2.0, x])], [np.array([2.0, y])]) == np.inf


def test_two_steps_take_turns(monkeypatch):
    seen: list[str] = []
    monkeypatch.setattr(timing, "TURN", 0.0)  # so that every call is a turn of its own
    timing.compare(lambda: seen.append("a") or (), lambda: seen.append("b") or (), rounds=4)
    assert "".join(seen[-8:]) == "abababab"


def test_the_ratio_is_the_median_of_the_turns_and_so_within_its_quartiles(monkeypatch):
    turns = iter([[1.0], [1.0], [4.0], [2.0], [5.0], [10.0]])  # ours and theirs, three times
    monkeypatch.setattr(timing, "calls_per_turn", lambda step: 1)
    monkeypatch.setattr(timing, "one_turn", lambda step, calls: next(turns))
    t = timing.compare(tuple, tuple, rounds=3)
    assert (t.ours, t.theirs, t.low, t.ratio, t.high) == (4, 2, 0.75, 1, 1.5)


def test_a_row_is_measured_and_a_peer_that_fails_or_differs_is_a_note_in_it():
    def family(n: int) -> Any:
        def broken() -> Any:
            raise RuntimeError("no device")

        return {"ours": lambda: lambda: (np.ones(n),), "torch": broken, "jax": lambda: lambda: (np.zeros(n),)}

    row = Row("a row", "a group", family, (2,), (2,), {"torch": 0.5}, ("jax", "mygrad"))
    broken, differs = measured(row, Settings(("torch", "jax"), rounds=1, memory=False))
    assert (broken.times, broken.met, broken.note) == (None, None, "RuntimeError: no device")
    assert "results differ" in differs.note
    assert differs.times.ours > 0
    assert differs.met is None


def test_a_row_whose_results_differ_meets_no_bar(monkeypatch):
    def family(n: int) -> Any:
        return {"ours": lambda: lambda: (np.ones(n),), "torch": lambda: lambda: (np.full(n, np.nan),),
                "jax": lambda: lambda: (np.ones(n + 1),), "mygrad": lambda: lambda: (np.ones(n),) * 2}  # fmt: skip

    monkeypatch.setattr("benchmarks.measure.peak", lambda *_: 0)
    row = Row("a row", "a group", family, (2,), (2,), dict.fromkeys(("torch", "jax", "mygrad"), 1e9))
    found = list(measured(row, Settings(("torch", "jax", "mygrad"), rounds=1)))
    assert [r.met for r in found] == [False] * 3
    assert [r.memory_met for r in found] == [False, None, None]
    for result, note in zip(found, ("differ by inf", "shapes differ", "results differ: zip"), strict=True):
        assert note in result.note
        assert "MISSED" in report.line(result)


@pytest.mark.parametrize("part", [["--quick"], ["--no-memory"], ["--peers", "torch"], ["--only", "MLP"]])
def test_only_the_whole_page_is_written(part, capsys):
    with pytest.raises(SystemExit):
        options(["--write", *part])
    assert "the page must be whole" in capsys.readouterr().err
    assert options(part).write is False
    assert options(["--write"]).peers == list(PEERS)


def test_an_unknown_peer_or_row_is_refused_and_those_that_exist_are_named(capsys):
    for arguments, error in ([["--peers", "torch,troch"], "no such peer: troch; there are torch, plain"],
                             [["--only", "MLP", "nothing"], "no row's name holds 'nothing'; there are"]):  # fmt: skip
        with pytest.raises(SystemExit):
            options(arguments)
        assert error in (shown := capsys.readouterr().err)
    assert all(name in shown for name in BY_NAME)


def _results() -> list[Result]:
    row = Row("a row", "a group", cross_entropy, (2, 3), (2, 3), {"torch": 0.5}, ("jax",), memory_bar=0.1)
    return [
        Result(row, "torch", Times(0.001, 0.004, 0.25, 0.2, 0.3, 0.25), Memory(9_000_000, 30_000_000)),
        Result(row, "torch", Times(0.003, 0.004, 0.75, 0.7, 0.8, 0.75), Memory(4_000_000, 30_000_000)),
        Result(row, "jax", Times(0.001, 0.004, 0.25, 0.2, 0.3, 0.25)),
        Result(row, "torch", None, note="not there"),
    ]


def test_the_table_says_which_bars_are_met():
    lines = report.table(_results()).splitlines()
    assert lines[0] == "### a group"
    start = "| a row | PyTorch | 1.00 ms | 4.00 ms | **0.25** | 0.20–0.30 | "
    assert lines[4] == start + "met (≤ 0.5) | 9.0 / 30.0 MB, MISSED (≤ 0.1) |"
    assert "MISSED (≤ 0.5) | 4.0 / 30.0 MB, met (≤ 0.1) |" in lines[5]  # within the resolution of a megabyte
    assert lines[6] == "| a row | jax.jit | 1.00 ms | 4.00 ms | **0.25** | 0.20–0.30 |  |  |"
    assert lines[7] == "| a row | PyTorch |  |  |  |  | not there |  |"
    assert report.summary(_results()) == "1 of 2 bars on time are met, 1 of 2 on memory."
    assert [report.line(r)[:5] for r in _results()] == ["a row"] * 4


def test_the_page_has_the_machine_the_table_and_its_parts():
    text = page.text(_results(), Settings(("plain",)), ("starts fast", "grows slowly", "is near"))
    for part in (f"NumPy {np.__version__}", "**0.25**", "starts fast", "grows slowly", "is near", "fill 20 ms",
                 "A bar is", "timed anew beside each peer", "more slowly than T²", "Not compared are dropout",
                 '`pip install -e ".[bench]"`'):  # fmt: skip
        assert part in text
    assert "not measured: PyTorch, HIPS autograd" in text


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_the_files_that_the_page_is_made_of_do_not_make_the_revision_dirty(tmp_path):
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=tmp_path, check=True)

    (tmp_path / "docs" / "images").mkdir(parents=True)
    generated = ["docs/performance.md", "docs/images/growth.svg"]
    for name in (*generated, "docs/guide.md"):
        (tmp_path / name).touch()
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "a")
    clean = page.revision(tmp_path)
    for name in generated:
        (tmp_path / name).write_text("new", encoding="utf-8")
    assert page.revision(tmp_path) == clean != "unknown"
    (tmp_path / "docs/guide.md").write_text("new", encoding="utf-8")
    assert page.revision(tmp_path) == f"{clean}-dirty"


def test_the_least_time_of_a_kernel():
    machine = Machine(threads=1, copy=1e9, fresh=2e9, exps=1e6, flops=1e9)
    assert cross_entropy_bounds(machine, 1000, 500) == {"memory": 0.002, "exponentials": 0.5}
    assert attention_bounds(machine, 1, 1000, 10) == {"matrix products": 0.07, "exponentials": 1.0}


@COUNTED
def test_the_peak_is_that_of_the_second_call():
    sizes = iter([40_000_000, 8_000_000])
    assert 7.5e6 <= peak_of(lambda: [np.ones(next(sizes), np.uint8)]) < 20e6


@COUNTED
def test_the_peak_of_cross_entropy_is_its_gradient_and_not_much_more():
    found = peak(cross_entropy, (1000, 4000), {}, "ours", 1)
    assert 16e6 <= found <= 28e6  # a gradient of 16 MB, and blocks


def test_compare_measures_the_package_of_each_folder(tmp_path):
    folder = checkout(None, tmp_path)
    [(name, seconds)] = run(folder, ["cross_entropy (128"], 0.0, 1).items()
    assert name == "cross_entropy (128, 10)"
    assert seconds > 0
    (folder / "tinygrad_sm" / "__init__.py").write_text("raise ImportError('this folder')", encoding="utf-8")
    with pytest.raises(subprocess.CalledProcessError):
        run(folder, ["cross_entropy (128"], 0.0, 1)
