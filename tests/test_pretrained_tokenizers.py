"""What a tokenizer.json may say and what it does then: tokens around a text, and failures of the package."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tinygrad_sm import pretrained

pytest.importorskip("safetensors")
tokenizers = pytest.importorskip("tokenizers")
from pretrained_folders import BERT, LLAMA, bert_weights, llama_weights, write  # noqa: E402


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return write(tmp_path / "bert", BERT, bert_weights(BERT))


def test_a_tokenizer_that_puts_a_first_token(tmp_path: Path) -> None:
    llama = write(tmp_path / "llama", LLAMA, llama_weights(LLAMA))
    tokenizer = tokenizers.Tokenizer.from_file(str(llama / "tokenizer.json"))
    first = tokenizers.processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 2)])
    tokenizer.post_processor = first
    tokenizer.save(str(llama / "tokenizer.json"))
    lm = pretrained.from_pretrained(llama)
    assert isinstance(lm, pretrained.LanguageModel)
    assert lm.encode("a cat").tolist() == [2, 4, 5]
    assert lm.decode(lm.encode("a cat")) == "a cat"
    assert lm.attention("a cat")[0] == ["[CLS]", "a", "cat"]


def test_tokenizers_that_fail(bert: Path) -> None:
    """The package panics, which is no Exception, at a damaged normalizer, and at an expression that takes too long."""
    file = bert / "tokenizer.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    panics = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    file.write_text(json.dumps(settings | {"normalizer": panics}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"tokenizer\.json: is no tokenizer\.json that can be read"):
        pretrained.from_pretrained(bert)
    slow = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    file.write_text(json.dumps(settings | {"pre_tokenizer": slow}), encoding="utf-8")
    model = pretrained.from_pretrained(bert)
    assert isinstance(model, pretrained.SentenceEncoder)
    with pytest.raises(ValueError, match="the tokenizer cannot read this text: "):
        model.encode(["a" * 40 + "b"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_place_of_a_tokenizer(bert: Path) -> None:
    (bert / "tokenizer.json").unlink()
    os.mkfifo(bert / "tokenizer.json")
    with pytest.raises(ValueError, match=r"tokenizer\.json is not a regular file"):
        pretrained.from_pretrained(bert)
