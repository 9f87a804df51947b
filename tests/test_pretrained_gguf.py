"""A whole language model in a GGUF file: its weights, its order of rows, its tokenizer, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import close
from model_files import BOOL, F32, I32, LIST, TEXT, U32, key, model

from tinygrad_sm import pretrained

pytest.importorskip("tokenizers")
from pretrained_folders import LLAMA, llama_weights
from test_pretrained import llama_by_hand

LETTERS = [chr(c) for c in range(ord("!"), ord("~") + 1)] + ["\u0120"]
MERGES = ["a t", "c at", "\u0120 cat"]
TOKENS = ["<end>", *LETTERS, "at", "cat", "\u0120cat"]
SETTINGS = LLAMA | {"vocab_size": len(TOKENS)}
KEYS: dict[str, Any] = {
    "general.architecture": (TEXT, "llama"), "llama.block_count": (U32, 2), "llama.context_length": (U32, 32),
    "llama.embedding_length": (U32, 16), "llama.feed_forward_length": (U32, 24), "llama.attention.head_count": (U32, 4),
    "llama.attention.head_count_kv": (U32, 2), "llama.rope.freq_base": (F32, 500.0),
    "llama.attention.layer_norm_rms_epsilon": (F32, 1e-5), "llama.rope.dimension_count": (U32, 4),
    "llama.vocab_size": (U32, len(TOKENS)), "tokenizer.ggml.model": (TEXT, "gpt2"),
    "tokenizer.ggml.pre": (TEXT, "smollm"),
    "tokenizer.ggml.tokens": ((LIST, TEXT), TOKENS), "tokenizer.ggml.merges": ((LIST, TEXT), MERGES),
    "tokenizer.ggml.token_type": ((LIST, I32), [3] + [1] * (len(TOKENS) - 1)), "tokenizer.ggml.eos_token_id": (U32, 0),
    "general.name": (TEXT, "tiny"),
}  # fmt: skip
NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "model.layers.": "blk.",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "post_attention_layernorm": "ffn_norm", "input_layernorm": "attn_norm",
}  # fmt: skip


def in_pairs(weight: Any, heads: int) -> Any:
    """Put the rows of each head in the order first, third, second, fourth: the pairs of a GGUF file side by side."""
    rows = [head * 4 + row for head in range(heads) for row in (0, 2, 1, 3)]
    return weight[rows]


def written(path: Path, change: Any = None, weights: Any = None) -> Path:
    """Write a file of random weights, with some keys changed or (None) left out."""
    arrays = {}
    for name, a in (weights or llama_weights(SETTINGS)).items():
        if "q_proj" in name or "k_proj" in name:
            a = in_pairs(a, 4 if "q_proj" in name else 2)
        for theirs, ours in NAMES.items():
            name = name.replace(theirs, ours)
        arrays[name] = ("F32", a.shape, np.ascontiguousarray(a).tobytes())
    keys = [key(name, *what) for name, what in (KEYS | (change or {})).items() if what is not None]
    path.write_bytes(model(arrays, keys))
    return path


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_by_hand(tied: bool, tmp_path: Path) -> None:
    settings = SETTINGS | {"tie_word_embeddings": tied}
    weights = llama_weights(settings)
    lm = pretrained.from_pretrained(written(tmp_path / "tiny.gguf", weights=weights), dtype=np.float64)
    assert isinstance(lm, pretrained.LanguageModel)
    tokens = lm.encode("a cat sat")
    assert [TOKENS[t] for t in tokens] == ["a", "\u0120cat", "\u0120", "s", "at"]
    close(lm(tokens[None]).data[0], llama_by_hand(tokens, weights, settings), rtol=1e-6, atol=1e-6)
    assert lm.decode(tokens) == "a cat sat"
    assert lm.ends == (0,)
    assert lm.encode("<end>").tolist() == [0]
    assert [TOKENS[t] for t in lm.encode("12")] == ["1", "2"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"general.architecture": (TEXT, "mamba")}, "general.architecture must be 'llama', not 'mamba'"),
        ({"general.architecture": None}, "general.architecture must be 'llama', not None"),
        ({"llama.rope.scaling.type": (TEXT, "yarn")}, "llama.rope.scaling.type must be 'none', not 'yarn'"),
        ({"llama.expert_count": (U32, 8)}, "settings that are not known here.*llama.expert_count = 8"),
        ({"llama.rope.dimension_count": (U32, 2)}, "llama.rope.dimension_count must be 4, not 2"),
        ({"llama.block_count": None}, "the setting 'llama.block_count' is missing"),
        ({"llama.block_count": (TEXT, "2")}, "llama.block_count must be an integer from 1"),
        ({"llama.block_count": (U32, 1_000_000)}, "1000000 layers of width 16 do not fit"),
        ({"llama.embedding_length": (U32, 1_048_572), "llama.rope.dimension_count": (U32, 262_143)}, "do not fit"),
        ({"llama.attention.head_count": (U32, 0)}, "llama.attention.head_count must be an integer from 1"),
        ({"llama.feed_forward_length": (U32, 25)}, r"wrong shape: blk.0.ffn_gate.weight: expected \(25, 16\)"),
        ({"tokenizer.ggml.model": (TEXT, "llama")}, "the tokenizer 'llama' with 'smollm' is not read"),
        ({"tokenizer.ggml.pre": None}, "the tokenizer 'gpt2' with None is not read"),
        ({"tokenizer.ggml.model": (TEXT, "x" * 1000)}, r"the tokenizer 'x+\.\.\.x+' with 'smollm' is not read"),
        ({"tokenizer.ggml.add_bos_token": (BOOL, True)}, "tokenizer.ggml.add_bos_token must be False, not True"),
        ({"tokenizer.ggml.tokens": (U32, 1), "llama.vocab_size": None}, "'llama.vocab_size' is missing"),
        ({"tokenizer.ggml.tokens": None}, "tokenizer.ggml.tokens must be a list of texts, not None"),
        ({"tokenizer.ggml.merges": (U32, 1)}, "tokenizer.ggml.merges must be a list of texts, not 1"),
        ({"tokenizer.ggml.merges": ((LIST, TEXT), ["ab"])}, "vocabulary and merges do not fit: the merge ab"),
        ({"tokenizer.ggml.merges": ((LIST, TEXT), ["a c"])}, "vocabulary and merges do not fit: the merge a c"),
        ({"tokenizer.ggml.tokens": ((LIST, TEXT), [*TOKENS, "a"])}, "do not fit: a token stands twice"),
    ],
)
def test_what_is_refused(change: Any, message: str, tmp_path: Path) -> None:
    path = written(tmp_path / "tiny.gguf", change)
    with pytest.raises(ValueError, match=f"(?s)tiny.gguf: .*{message}"):
        pretrained.from_pretrained(path)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    weights = llama_weights(SETTINGS)
    del weights["model.norm.weight"]
    with pytest.raises(ValueError, match=r"(?s)tiny.gguf: .*missing: output_norm.weight"):
        pretrained.from_pretrained(written(tmp_path / "tiny.gguf", weights=weights))
    path = written(tmp_path / "cut.gguf")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"cut.gguf.*cut short"):
        pretrained.from_pretrained(path)


@pytest.mark.parametrize("ends", [(TEXT, "0"), None, ((LIST, U32), [1, 2])])
def test_ends_that_are_no_token(ends: Any, tmp_path: Path) -> None:
    lm = pretrained.from_pretrained(written(tmp_path / "tiny.gguf", {"tokenizer.ggml.eos_token_id": ends}))
    assert isinstance(lm, pretrained.LanguageModel)
    assert lm.ends == ((1, 2) if ends and isinstance(ends[0], tuple) else ())
