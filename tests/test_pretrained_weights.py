"""The real weights, where their packages are installed: what the docstrings show, and what √d_k does to MiniLM."""

from __future__ import annotations

import doctest
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import tinygrad_sm as sm
from tinygrad_sm import cli, pretrained
from tinygrad_sm.pretrained import packages

MISSING = [name for module, name, _ in (packages.MINILM, packages.SMOLLM2) if find_spec(module) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs the weights: make weights ({', '.join(MISSING)})")
pytest.importorskip("tokenizers")


def documented() -> list[Any]:
    """Return what has a docstring whose examples need weights, and which pytest therefore skips."""
    found: list[Any] = []
    for name in pretrained.__all__:
        thing = getattr(pretrained, name)
        found += [thing, *(m for m in vars(thing).values() if callable(m))] if isinstance(thing, type) else [thing]
    return [thing for thing in found if "+SKIP" in (thing.__doc__ or "")]


@pytest.mark.parametrize("thing", documented(), ids=lambda thing: thing.__qualname__)
def test_examples_print_what_they_say(thing: Any) -> None:
    text = thing.__doc__.replace("# doctest: +SKIP", "")
    test = doctest.DocTestParser().get_doctest(text, {}, thing.__qualname__, None, None)
    assert test.examples
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=said.append)
    assert not result.failed, "".join(said)


def test_the_toggle_makes_minilm_nearly_one_hot() -> None:
    sentences = ["The bank of the river was muddy.", "A function that calls itself is called recursive."]
    on, off = pretrained.minilm(), pretrained.minilm(scaled=False)
    for sentence in sentences:
        largest = [[w.max(axis=-1).mean() for w in model.attention(sentence)[1]] for model in (on, off)]
        assert 0.3 < min(largest[0]) < max(largest[0]) < 0.8
        assert min(largest[1]) > 0.75
    cosines = (on.encode(sentences) * off.encode(sentences)).sum(axis=1)
    assert (cosines > 0.6).all()
    assert (cosines < 0.95).all()


def test_smollm2_without_the_scale_is_lost() -> None:
    text = "The sun rises in the east and sets in the west, and so it has done every day since there were days."
    right = pretrained.smollm2().perplexity(text)
    assert right < 30
    assert pretrained.smollm2(scaled=False).perplexity(text) > 5 * right


def test_it_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["generate", "--chat", "What is the capital of France?", "--temperature", "0"]) == 0
    assert "Paris" in capsys.readouterr().out
    lm = pretrained.smollm2()
    assert lm.ends == (2,)
    assert "".join(lm.stream(lm.chat("What is the capital of France?"), 50, temperature=0)).endswith(".")


def test_text_of_several_bytes_a_character_comes_whole() -> None:
    lm = pretrained.smollm2()
    text = "na\u00efve \u2192 \u65e5\u672c\u8a9e \U0001f600!"
    assert lm.decode(lm.encode(text)) == text
    tokens = iter(lm.encode(text))
    lm.model.stream = lambda *args, **options: (np.array([t]) for t in tokens)  # type: ignore[method-assign]
    pieces = list(lm.stream("x", 99))
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_characters_of_several_tokens_are_named_in_attention() -> None:
    pieces, weights = pretrained.smollm2().attention("\u732b \U0001f600 hi")
    assert pieces == ["\u732b 1/3", "\u732b 2/3", "\u732b 3/3", " \U0001f600 1/2", "\U0001f600 2/2", " hi"]
    assert weights[0].shape == (9, 6, 6)


def test_a_step_of_training_moves_minilm() -> None:
    model, sentences = pretrained.minilm(), ["It rains.", "It is raining.", "Stocks fell."]
    a, b, c = model(*model.tokenize(sentences))
    loss = sm.functional.cross_entropy(sm.functional.stack([a @ b, a @ c])[None] * 20, [1])
    loss.backward()
    sm.optim.SGD(model.parameters(), lr=1e-3).step()
    vectors = model.encode(sentences)
    assert vectors[0] @ vectors[1] < (a @ b).item()
