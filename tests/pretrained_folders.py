"""Small models in folders, as Hugging Face's libraries write them: random weights, a tokenizer of a few words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "cat", "dog", "sleeps", "runs", "##s", "."]
BERT: dict[str, Any] = {
    "model_type": "bert", "hidden_size": 12, "num_attention_heads": 3, "num_hidden_layers": 2, "intermediate_size": 20,
    "max_position_embeddings": 16, "type_vocab_size": 2, "vocab_size": len(WORDS), "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
}  # fmt: skip
LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 2,
    "num_hidden_layers": 2, "intermediate_size": 24, "max_position_embeddings": 32, "vocab_size": len(WORDS),
    "rms_norm_eps": 1e-5, "rope_theta": 500.0, "hidden_act": "silu", "tie_word_embeddings": True, "eos_token_id": 3,
}  # fmt: skip


def bert_weights(c: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return random weights under the names of a BERT file."""
    rng, d, ff = np.random.default_rng(0), c["hidden_size"], c["intermediate_size"]
    shapes = {"word": c["vocab_size"], "position": c["max_position_embeddings"], "token_type": c["type_vocab_size"]}
    state = {f"embeddings.{name}_embeddings.weight": (n, d) for name, n in shapes.items()}
    norms = ["embeddings.LayerNorm"]
    for i in range(c["num_hidden_layers"]):
        layer = f"encoder.layer.{i}."
        products = dict.fromkeys((f"attention.self.{part}" for part in ("query", "key", "value")), (d, d))
        products |= {"attention.output.dense": (d, d), "intermediate.dense": (ff, d), "output.dense": (d, ff)}
        for name, shape in products.items():
            state |= {f"{layer}{name}.weight": shape, f"{layer}{name}.bias": shape[:1]}
        norms += [f"{layer}attention.output.LayerNorm", f"{layer}output.LayerNorm"]
    state |= {f"{name}.{kind}": (d,) for name in norms for kind in ("weight", "bias")}
    return {prefix + name: rng.normal(size=shape).astype(np.float32) * 0.4 for name, shape in state.items()}


def llama_weights(c: dict[str, Any]) -> dict[str, Any]:
    """Return random weights under the names of a Llama file."""
    rng, d, ff = np.random.default_rng(0), c["hidden_size"], c["intermediate_size"]
    shared = d // c["num_attention_heads"] * c["num_key_value_heads"]
    state: dict[str, Any] = {"model.embed_tokens.weight": (c["vocab_size"], d), "model.norm.weight": (d,)}
    for i in range(c["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        rows = {"self_attn.q_proj": d, "self_attn.k_proj": shared, "self_attn.v_proj": shared, "self_attn.o_proj": d}
        rows |= {"mlp.gate_proj": ff, "mlp.up_proj": ff}
        for name, n in rows.items():
            state[f"{layer}{name}.weight"] = (n, d)
            if c.get("attention_bias"):
                state[f"{layer}{name}.bias"] = (n,)
        state[f"{layer}mlp.down_proj.weight"] = (d, ff)
        if c.get("attention_bias"):
            state[f"{layer}mlp.down_proj.bias"] = (d,)
        state |= {f"{layer}input_layernorm.weight": (d,), f"{layer}post_attention_layernorm.weight": (d,)}
    if not c.get("tie_word_embeddings"):
        state["lm_head.weight"] = (c["vocab_size"], d)
    return {name: rng.normal(size=shape).astype(np.float32) * 0.4 for name, shape in state.items()}


def tokenizer_json(around: bool = True) -> str:
    """Return a tokenizer.json of WORDS, in the manner of BERT, which puts a token before and after a text or none."""
    import tokenizers as t

    tokenizer = t.Tokenizer(t.models.WordPiece({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = t.pre_tokenizers.BertPreTokenizer()
    if around:
        tokenizer.post_processor = t.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.decoder = t.decoders.WordPiece()
    tokenizer.add_special_tokens(WORDS[:4])
    tokenizer.enable_padding(length=9)  # which a loader has to switch off
    return str(tokenizer.to_str())


def write(folder: Path, settings: dict[str, Any], weights: dict[str, Any]) -> Path:
    """Write the folder of a model."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "tokenizer.json").write_text(tokenizer_json(settings["model_type"] == "bert"), encoding="utf-8")
    save_file(weights, folder / "model.safetensors")
    return folder
