"""config.json: what it says of a model, each setting understood or refused by its name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from ..text import visible

# Settings that say nothing of what a model computes: where it comes from, how it was trained or is generated with.
IGNORED = {
    "_attn_implementation_autoset", "_name_or_path", "architectures", "attention_dropout",
    "attention_probs_dropout_prob", "bos_token_id", "classifier_dropout", "dtype", "eos_token_id", "finetuning_task",
    "gradient_checkpointing", "hidden_dropout_prob", "id2label", "initializer_range", "is_llama_config", "label2id",
    "model_type", "pad_token_id", "pretraining_tp", "problem_type", "torch_dtype", "transformers.js_config",
    "transformers_version", "unk_token_id", "use_cache",
}  # fmt: skip
ACTIVATIONS = {"gelu": "gelu_exact", "gelu_new": "gelu", "gelu_pytorch_tanh": "gelu", "relu": "relu"}


class Settings:
    """The settings of a config.json, which are taken one by one; those left at the end are refused."""

    def __init__(self, settings: Mapping[str, Any], source: str) -> None:
        self.source, self.left = source, dict(settings)

    def take(self, name: str, kind: Callable[[Any], bool], what: str, *default: Any) -> Any:
        """Return a setting, which must satisfy `kind`; `what` says it in words."""
        if name not in self.left:
            if default:
                return default[0]
            raise ValueError(f"{self.source}: the setting {name!r} is missing")
        value = self.left.pop(name)
        if not kind(value):
            raise ValueError(f"{self.source}: {name} must be {what}, not {visible(repr(value), limit=60)}")
        return value

    def count(self, name: str, *default: Any) -> int:
        """Return a number of things, from 1 to 2²⁰ (a vocabulary has 2¹⁸)."""
        number = self.take(name, lambda n: type(n) is int and 0 < n <= 2**20, "an integer from 1 to 2**20", *default)
        return int(number)

    def number(self, name: str, *default: Any) -> float:
        """Return a positive number."""
        wanted, most = "a positive number", sys.float_info.max
        return float(self.take(name, lambda x: type(x) in (int, float) and 0 < x <= most, wanted, *default))

    def only(self, name: str, *values: Any) -> Any:
        """Return a setting that may be missing (then the first value), and must be one of a few values if not."""
        kinds = [(type(v), v) for v in values]
        return self.take(name, lambda x: (type(x), x) in kinds, " or ".join(map(repr, values)), values[0])

    def finish(self) -> None:
        """Raise ValueError if settings are left that are not known: they might change what the model computes."""
        left = [name for name in self.left if name not in IGNORED]
        if left:
            found = [f"{visible(n, limit=60)} = {visible(repr(self.left[n]), limit=60)}" for n in left[:8]]
            raise ValueError(
                f"{self.source}: settings that are not known here, and might change what the model computes: "
                + ", ".join(found)
            )


def bert(settings: Settings) -> dict[str, Any]:
    """Return the arguments of `nn.TransformerEncoder` for a BERT-shaped model."""
    settings.only("position_embedding_type", "absolute")
    settings.only("is_decoder", False)
    settings.only("add_cross_attention", False)
    settings.only("chunk_size_feed_forward", 0)
    settings.only("tie_word_embeddings", True, False)  # of a head that is not read
    act = settings.take("hidden_act", lambda a: a in [*ACTIVATIONS], f"one of {', '.join(ACTIVATIONS)}", "gelu")
    return {
        "vocab_size": settings.count("vocab_size"), "d_model": settings.count("hidden_size"),
        "n_heads": settings.count("num_attention_heads"), "n_layers": settings.count("num_hidden_layers"),
        "context": settings.count("max_position_embeddings"), "types": settings.count("type_vocab_size", 2),
        "d_ff": settings.count("intermediate_size"), "eps": settings.number("layer_norm_eps", 1e-12),
        "feed_forward": ACTIVATIONS[act],
    }  # fmt: skip


def llama(settings: Settings) -> dict[str, Any]:
    """Return the arguments of `nn.TransformerLM` for a Llama-shaped model."""
    settings.only("hidden_act", "silu")
    settings.only("rope_scaling", None)
    settings.only("rope_interleaved", False)
    settings.only("sliding_window", None)
    bias = settings.only("attention_bias", False, True)
    settings.only("mlp_bias", bias)
    rope = settings.take("rope_parameters", lambda r: isinstance(r, dict), "an object", {})
    rotary = Settings(rope, f"{settings.source}: rope_parameters")
    rotary.only("rope_type", "default")
    base = rotary.number("rope_theta", settings.number("rope_theta", 10000.0))
    rotary.finish()
    d_model, n_heads = settings.count("hidden_size"), settings.count("num_attention_heads")
    settings.only("head_dim", d_model // n_heads, None)
    return {
        "vocab_size": settings.count("vocab_size"), "d_model": d_model, "n_heads": n_heads,
        "n_kv_heads": settings.count("num_key_value_heads", n_heads), "n_layers": settings.count("num_hidden_layers"),
        "context": settings.count("max_position_embeddings"), "d_ff": settings.count("intermediate_size"),
        "eps": settings.number("rms_norm_eps", 1e-6), "rotary_base": base, "bias": bias,
        "tied": settings.only("tie_word_embeddings", False, True), "norm": "rms", "feed_forward": "swiglu",
    }  # fmt: skip


def llama_of_gguf(metadata: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the arguments of `nn.TransformerLM` for the metadata of a GGUF file."""
    if metadata.get("general.architecture") != "llama":
        found = visible(repr(metadata.get("general.architecture")), limit=60)
        raise ValueError(f"{source}: general.architecture must be 'llama', not {found}")
    own = {name: value for name, value in metadata.items() if name.startswith("llama.")}
    settings = Settings(own, source)
    settings.only("llama.rope.scaling.type", "none")
    d_model, n_heads = settings.count("llama.embedding_length"), settings.count("llama.attention.head_count")
    settings.only("llama.rope.dimension_count", d_model // n_heads)
    settings.only("llama.attention.key_length", d_model // n_heads)
    settings.only("llama.attention.value_length", d_model // n_heads)
    tokens = metadata.get("tokenizer.ggml.tokens")
    known = [len(tokens)] if isinstance(tokens, list) else []
    arguments = {
        "vocab_size": settings.count("llama.vocab_size", *known), "d_model": d_model, "n_heads": n_heads,
        "n_kv_heads": settings.count("llama.attention.head_count_kv", n_heads),
        "n_layers": settings.count("llama.block_count"), "context": settings.count("llama.context_length"),
        "d_ff": settings.count("llama.feed_forward_length"),
        "eps": settings.number("llama.attention.layer_norm_rms_epsilon"),
        "rotary_base": settings.number("llama.rope.freq_base", 10000.0), "bias": False, "norm": "rms",
        "feed_forward": "swiglu",
    }  # fmt: skip
    settings.finish()
    return arguments
