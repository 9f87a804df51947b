"""The main job as functions: what a run computes, writes and saves, and that a broken run resumes exactly."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import close

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import data, training
from tinygrad_sm.inspection import attention_stats
from tinygrad_sm.random import get_state

SENTENCE = "the cat sat on a mat while dogs ran over green hills and birds sang songs at dawn by old walls"


def english(characters: int = 4000, seed: int = 0) -> str:
    """Return paragraphs of words, none of them repeated."""
    rng, text = np.random.default_rng(seed), ""
    while len(text) < characters:
        text += " ".join(rng.choice(SENTENCE.split(), 30)) + ".\n\n"
    return text


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(english())
    return path


@pytest.fixture
def options(text: Path) -> dict[str, Any]:
    return {
        **training.DEFAULT, "text": str(text), "steps": 8, "batch_size": 3, "context": 8, "d_model": 16, "n_heads": 2,
        "n_layers": 1, "dropout": 0.1, "eval_every": 3,
    }  # fmt: skip


@pytest.fixture
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.plot, "curve", lambda *args: None)
    monkeypatch.setattr(training.plot, "compare", lambda *args: None)
    monkeypatch.setattr(training.Run, "draw_block", lambda *args: None)


no_pictures = pytest.mark.usefixtures("_no_pictures")


def silent(*_: Any) -> None:
    """Say nothing."""


def interrupt_after(
    monkeypatch: pytest.MonkeyPatch, *steps: int, times: int = 1, scaled: tuple[bool, ...] = (True, False)
) -> None:
    """Press Ctrl-C at the end of these steps, of runs with and without √d_k or one of these."""
    advance = training.Run.advance

    def pressed(run: training.Run) -> None:
        advance(run)
        if run.step in steps and run.options["scaled"] in scaled:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(training.Run, "advance", pressed)


def crash_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    advance = training.Run.advance

    def crashing(run: training.Run) -> None:
        advance(run)
        if run.step == step:
            raise RuntimeError("the lights went out")

    monkeypatch.setattr(training.Run, "advance", crashing)


# -- the corpus --------------------------------------------------------------------------------


def test_prepare_text_of_ones_own(text: Path) -> None:
    corpus = training.prepare(str(text), seed=0)
    vocabulary, train, held_out = corpus["vocabulary"], corpus["train"], corpus["held_out"]
    raw = text.read_text()
    assert set(vocabulary.characters) <= set(raw)
    paragraphs = [p.strip() for p in vocabulary.decode(held_out).split("\n\n")]
    assert all(p in raw and p not in vocabulary.decode(train) for p in paragraphs)
    assert 0.05 < len(held_out) / (len(train) + len(held_out)) < 0.2
    assert corpus["overlap"] == data.overlap(vocabulary.decode(train), vocabulary.decode(held_out))
    assert corpus["kept"] <= corpus["characters"] <= len(raw)
    other = training.prepare(str(text), seed=1)
    assert vocabulary.decode(held_out) != other["vocabulary"].decode(other["held_out"])


def test_prepare_drops_repetitions(tmp_path: Path) -> None:
    path = tmp_path / "twice.txt"
    path.write_text(english() * 2)
    corpus = training.prepare(str(path), seed=0)
    assert corpus["kept"] < 0.6 * corpus["characters"]
    assert corpus["overlap"] < 0.05


def test_bigram_loss_by_hand() -> None:
    # counts with one added: 0→0 1, 0→1 3, 1→0 2, 1→1 1
    train, held_out = np.array([0, 1, 0, 1]), np.array([0, 1, 1, 0])
    expected = -(np.log(3 / 4) + np.log(1 / 3) + np.log(2 / 3)) / 3
    assert training.bigram_loss(train, held_out, 2) == pytest.approx(expected)


# -- a run -------------------------------------------------------------------------------------


def made(options: dict[str, Any], steps: int = 0) -> training.Run:
    run = training.Run(options, training.prepare(options["text"], options["seed"]))
    for _ in range(steps):
        run.advance()
    return run


def test_the_loss_falls(options: dict[str, Any]) -> None:
    run = made({**options, "steps": 60, "lr": 0.01, "dropout": 0.0}, 60)
    assert np.mean(run.losses[-5:]) < run.losses[0] - 0.3
    assert run.losses[0] == pytest.approx(np.log(len(run.corpus["vocabulary"])), abs=0.1)


def test_evaluate_is_the_mean_over_all_windows(options: dict[str, Any]) -> None:
    run = made(options, 2)
    x, y = data.all_windows(run.corpus["held_out"], options["context"])
    run.model.eval()
    expected = F.cross_entropy(run.model(x), y).item()
    run.model.train()
    assert run.evaluate(None) == pytest.approx(expected, rel=1e-5)
    assert run.evaluate(len(x)) == run.evaluate(None)
    assert run.evaluate(4) != run.evaluate(None)
    assert run.model.training


def test_attention_of_a_run(options: dict[str, Any]) -> None:
    run = made({**options, "n_layers": 2}, 1)
    found = run.attention()
    x, _ = data.all_windows(run.corpus["held_out"], options["context"])
    run.model.eval()
    expected = [attention_stats(w, causal=True) for w in run.model.attention_weights(x[:8])]
    assert found == expected
    assert len(found) == 2


def test_looking_does_not_change_the_run(options: dict[str, Any]) -> None:
    run = made(options, 3)
    weights, random = {k: v.copy() for k, v in run.model.state_dict().items()}, get_state()
    run.measure()
    run.sample(5)
    run.evaluate(None)
    assert (get_state() == random).all()
    assert all((run.model.state_dict()[k] == v).all() for k, v in weights.items())
    assert run.model.training


def test_gradient_norms_are_those_before_clipping(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    clip = training.optim.clip_grad_norm_
    monkeypatch.setattr(training.optim, "clip_grad_norm_", lambda p, n: seen.append(clip(p, n)))
    run = made(options, 3)
    assert np.sqrt(sum(n**2 for n in run.norms.values())) == pytest.approx(seen[-1], rel=1e-5)


def test_sample_writes_text(options: dict[str, Any]) -> None:
    run = made(options)
    assert run.sample(20) == run.sample(20)
    text = run.sample(20)
    assert len(text) == 20 + (4 if text.startswith("The ") else 1)
    assert run.sample(20) != run.sample(20, seed=1)
    assert set(run.sample(20)) <= set(run.corpus["vocabulary"].characters)


def test_matrices_are_decayed_and_vectors_are_not(options: dict[str, Any]) -> None:
    run = made(options)
    decay = {id(p): g["weight_decay"] for g in run.optimizer.param_groups for p in g["params"]}
    assert {(p.ndim, decay[id(p)]) for p in run.model.parameters()} == {(2, 0.1), (1, 0.0)}


@pytest.mark.parametrize(("scaled", "init"), [(True, "gpt2"), (False, "unit")])
def test_options_reach_the_model(options: dict[str, Any], scaled: bool, init: str) -> None:
    run = made({**options, "scaled": scaled, "init": init, "n_layers": 2, "n_heads": 4, "context": 5})
    assert [b.attn.scaled for b in run.model.blocks] == [scaled] * 2
    assert run.model.blocks[0].attn.n_heads == 4
    assert run.model.context == 5
    assert run.model.blocks[0].attn.qkv.weight.data[:16].std() == pytest.approx(
        0.25 if init == "unit" else 0.02, rel=0.2
    )


# -- train, and resume -------------------------------------------------------------------------


def results(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return all that a run computed: the text of its metrics, and its state."""
    state = {name: (a.dtype.name, a.tolist()) for name, a in sm.load(folder / "state.npz").items()}
    return (folder / "metrics.jsonl").read_text(), state


@no_pictures
def test_equal_seeds_give_equal_runs(options: dict[str, Any], tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        training.train(tmp_path / name, {**options, "seed": seed}, say=silent)
        sm.manual_seed(99)
    assert results(tmp_path / "a") == results(tmp_path / "b")
    assert results(tmp_path / "a")[0] != results(tmp_path / "c")[0]


@no_pictures
def test_how_often_one_looks_does_not_change_the_run(options: dict[str, Any], tmp_path: Path) -> None:
    for name, every in (("a", 1), ("b", 8)):
        training.train(tmp_path / name, {**options, "eval_every": every}, say=silent)
    a, b = (results(tmp_path / name)[1] for name in ("a", "b"))
    assert {k: v for k, v in a.items() if k != "losses"} == {k: v for k, v in b.items() if k != "losses"}
    assert len((tmp_path / "a" / "metrics.jsonl").read_text().splitlines()) == 8


@no_pictures
@pytest.mark.parametrize("breaks", [(1,), (3,), (4,), (7,), (2, 5, 6)])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_broken_run_resumes_with_the_numbers_of_an_unbroken_one(
    options: dict[str, Any], dropout: float, breaks: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options["dropout"] = dropout
    whole = training.train(tmp_path / "whole", options, say=silent)
    interrupt_after(monkeypatch, *breaks)
    before, said = signal.getsignal(signal.SIGINT), []
    for i, step in enumerate(breaks):
        with pytest.raises(KeyboardInterrupt):
            training.train(tmp_path / "broken", options, resume=i > 0, say=said.append)
        assert f"stopped at step {step}" in said[-1]
        assert "--resume" in said[-1]
        assert signal.getsignal(signal.SIGINT) is before
        assert int(sm.load(tmp_path / "broken" / "state.npz")["step"]) == step
        sm.manual_seed(123)  # whatever happened in between
    resumed = training.train(tmp_path / "broken", {"text": None}, resume=True, say=silent)
    assert resumed == whole
    assert results(tmp_path / "broken") == results(tmp_path / "whole")


@no_pictures
def test_a_run_that_died_resumes_from_its_last_evaluation(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = training.train(tmp_path / "whole", options, say=silent)
    with monkeypatch.context() as patch:
        crash_after(patch, 5)
        with pytest.raises(RuntimeError, match="lights"):
            training.train(tmp_path / "dead", options, say=silent)
    with (tmp_path / "dead" / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({**whole[-1], "step": 6}) + "\n")  # a line written after the last saved state
    assert training.train(tmp_path / "dead", {}, resume=True, say=silent) == whole
    assert results(tmp_path / "dead") == results(tmp_path / "whole")


@no_pictures
def test_resuming_a_finished_run_changes_nothing(options: dict[str, Any], tmp_path: Path) -> None:
    whole = training.train(tmp_path / "run", options, say=silent)
    before = results(tmp_path / "run")
    assert training.train(tmp_path / "run", {}, resume=True, say=silent) == whole
    assert results(tmp_path / "run") == before


@no_pictures
def test_a_new_run_in_an_old_folder_never_resumes_the_old_one(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training.train(tmp_path / "run", options, say=silent)
    with monkeypatch.context() as patch:
        crash_after(patch, 1)
        with pytest.raises(RuntimeError):
            training.train(tmp_path / "run", {**options, "seed": 5}, say=silent)
    expected = training.train(tmp_path / "fresh", {**options, "seed": 5}, say=silent)
    resumed = None
    with suppress(ValueError):  # the new run saved no state yet, so there may be nothing to resume
        resumed = training.train(tmp_path / "run", {}, resume=True, say=silent)
    assert resumed in (None, expected)


@pytest.fixture
def _heeds_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C interrupt, although a shell starts what runs in the background with that signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@no_pictures
@pytest.mark.usefixtures("_heeds_ctrl_c")
def test_a_second_ctrl_c_interrupts_at_once(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_after(monkeypatch, 5, times=2)
    said: list[str] = []
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        training.train(tmp_path / "run", options, say=said.append)
    assert not any("state saved" in line for line in said)
    assert signal.getsignal(signal.SIGINT) is before
    assert int(sm.load(tmp_path / "run" / "state.npz")["step"]) == 3  # the last evaluation


def test_nothing_to_resume(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing to resume in .*none.*state\.npz"):
        training.train(tmp_path / "none", options, resume=True, say=silent)
    assert not (tmp_path / "none").exists()


@no_pictures
def test_resume_refuses_a_state_that_does_not_fit(options: dict[str, Any], tmp_path: Path) -> None:
    training.train(tmp_path / "run", options, say=silent)
    Path(options["text"]).write_text(english() + "§§§ new letters: ÄÖÜ " * 10)
    with pytest.raises(ValueError, match=r"tokens\.weight"):
        training.train(tmp_path / "run", {}, resume=True, say=silent)


def test_a_context_that_the_held_out_part_cannot_fill_is_found_before_training(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    monkeypatch.setattr(training.Run, "advance", lambda run: steps.append(1))
    with pytest.raises(ValueError, match="context"):
        training.train(tmp_path / "run", {**options, "context": 1000}, say=silent)
    assert steps == []


# -- compare -----------------------------------------------------------------------------------


@no_pictures
def test_compare_differs_in_the_toggle_only(options: dict[str, Any], tmp_path: Path) -> None:
    said: list[str] = []
    training.compare(tmp_path, {**options, "init": "unit", "n_heads": 1}, say=said.append)
    on, off = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("scaled", "unscaled"))
    assert (on.pop("scaled"), off.pop("scaled")) == (True, False)
    assert on == off
    rows = [training.read_metrics(tmp_path / name)[-1] for name in ("scaled", "unscaled")]
    gap = rows[1]["held_out_loss"] - rows[0]["held_out_loss"]
    assert f"{abs(gap):.3f} nats" in said[-1]
    assert ("cost" if gap > 0 else "gained") in said[-1]
    assert "--init gpt2" in said[-1]
    assert rows[1]["attention"][0]["largest"] > rows[0]["attention"][0]["largest"]  # undivided scores are peaked


@no_pictures
@pytest.mark.parametrize("broken", ["scaled", "unscaled"])
def test_a_broken_comparison_resumes_as_it_was_begun(
    options: dict[str, Any], broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training.compare(tmp_path / "whole", options, say=silent)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 4, scaled=(broken == "scaled",))
        with pytest.raises(KeyboardInterrupt):
            training.compare(tmp_path / "broken", options, say=silent)
        assert (tmp_path / "broken" / "unscaled").exists() == (broken == "unscaled")
    # the user types --resume and not all the options again
    training.compare(tmp_path / "broken", {**options, "steps": 5, "lr": 1e-4}, resume=True, say=silent)
    for name in ("scaled", "unscaled"):
        assert results(tmp_path / "broken" / name) == results(tmp_path / "whole" / name)


@no_pictures
def test_compare_with_nothing_to_resume(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to resume"):
        training.compare(tmp_path / "none", options, resume=True, say=silent)


@pytest.mark.parametrize(("gap", "word"), [(0.25, "cost 0.250"), (-0.01, "gained 0.010")])
@pytest.mark.parametrize(("init", "other"), [("unit", "gpt2"), ("gpt2", "unit")])
def test_verdict(gap: float, word: str, init: str, other: str) -> None:
    said = training._verdict(gap, init, 128)
    assert word in said
    assert f"--init {other}" in said
    assert ("variance" in said) == (init == "unit")


# -- evaluation numbers ------------------------------------------------------------------------


@no_pictures
def test_metrics_are_what_they_say(options: dict[str, Any], tmp_path: Path) -> None:
    rows = training.train(tmp_path / "run", {**options, "dropout": 0.0}, say=silent)
    assert [row["step"] for row in rows] == [3, 6, 8]
    run = made({**options, "dropout": 0.0}, 3)
    assert rows[0]["train_loss"] == np.mean(run.losses)
    assert rows[0]["held_out_loss"] == run.evaluate()
    assert rows[0]["attention"] == run.attention()
    assert rows[0]["grad_norms"] == run.norms
    assert set(run.norms) == {"tokens", "positions", "blocks.0", "ln"}
    weights = run.model.state_dict()
    for _ in range(5):
        run.advance()
    close(sm.load(tmp_path / "run" / "state.npz")["model.tokens.weight"], run.model.tokens.weight.data, rtol=0, atol=0)
    assert (weights["tokens.weight"] != run.model.tokens.weight.data).any()
