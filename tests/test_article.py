"""What docs/article.md and the primer say of real data is what the committed results say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tinygrad_sm.primer.attention import scaling
from tinygrad_sm.primer.confidence import confidence

ROOT = Path(__file__).parent.parent


def results(name: str) -> Any:
    return json.loads((ROOT / f"docs/results/{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def said() -> list[str]:
    """The page, and what the primer says was found; each with one kind of minus sign."""
    claims = [one for chapter in (scaling(), confidence()) for one in chapter.claims]
    page = (ROOT / "docs/article.md").read_text(encoding="utf-8")
    return [page.replace("−", "-"), " ".join(f"{one.found} {one.right}" for one in claims).replace("−", "-")]


def test_calibration(said: list[str]) -> None:
    rows = {(row["data"], row["images"], row["smoothing"]): row for row in results("calibration")["table"]}
    plain, more, digits = rows["fashion", 10_000, 0.0], rows["fashion", 55_000, 0.0], rows["digits", 897, 0.0]
    for text in said:
        assert f"{plain['accuracy']['mean']:.1f} %" in text
        assert f"{plain['confidence']['mean']:.1f} %" in text
        for row in (plain, more, digits):
            assert f"{row['ece']['mean']:.1f} " in text
        for (data, images, smoothing), row in rows.items():
            if smoothing == 0.1:
                assert f"{row['ece']['mean']:.1f} %" in text, (data, images)
    assert f"{plain['ece_t']['mean']:.1f} %" in said[1]


def test_distillation(said: list[str]) -> None:
    found = [
        one for one in results("label_smoothing")["differences"]
        if one["claim"] == "student of this teacher − student alone" and one.get("pictures") == "few"
    ]  # fmt: skip
    gains = {one["smoothing"]: f"{one['mean']:.2f} ± {one['se']:.2f}" for one in found}
    for text in said:
        assert gains[0.0] in text
        assert gains[0.1] in text


def test_the_factor(said: list[str]) -> None:
    gaps = {(r["init"], r["d_k"]): r["difference"] for r in results("sqrt_dk")["paired"] if r["scores"] == "unscaled"}
    for text in said:
        for init in ("unit", "gpt2"):
            a, b, c = (f"{gaps[init, d_k]:.2f}" for d_k in (16, 64, 128))
            assert f"{a}, {b} and {c}" in text


def test_perplexity_and_beam_search(said: list[str]) -> None:
    found = results("pronounce")
    gains = [t["gain"] for t in found["tests"] if (t["new"], t["old"]) == ([0.1, "beam5"], [0.0, "beam5"])]
    for text in said:
        for row in found["table"]:
            assert row["n"] == 5
            assert f"{row['perplexity']['mean']:.3f}" in text
            assert f"{row['perplexity_after']['mean']:.3f}" in text
            assert row["beam5_search_errors"]["mean"] == 0
        assert len(gains) == 2
        for gain in gains:
            assert f"{gain['mean']:.2f} ± {gain['sd']:.2f}" in text
