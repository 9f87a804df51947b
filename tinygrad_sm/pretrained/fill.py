"""From the names in a file of weights to the parameters of a model, one tensor at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ..nn import Module
from ..state import check_names
from ..tensor import Array

Names = dict[str, list[str]]  # the path of a parameter, and the tensors that stand in it one above the other


class Undrawn:
    """Stands for a generator where weights are read from a file afterwards: it draws zeros that take no memory."""

    def uniform(self, low: float, high: float, shape: Any) -> Array:
        """Return zeros, float32."""
        return np.broadcast_to(np.float32(0), shape)

    def normal(self, mean: float, std: float, shape: Any) -> Array:
        """Return zeros, float32."""
        return np.broadcast_to(np.float32(0), shape)


UNDRAWN: Any = Undrawn()


def bert_names(model: Any, prefix: str) -> Names:
    """Return the names that the parameters of a `TransformerEncoder` have in a BERT file."""
    names = {
        "tokens.weight": ["embeddings.word_embeddings.weight"],
        "positions.weight": ["embeddings.position_embeddings.weight"],
        "types.weight": ["embeddings.token_type_embeddings.weight"],
    } | _both("ln", ["embeddings.LayerNorm"])
    for i in range(len(model.blocks)):
        own, theirs = f"blocks.{i}.", f"encoder.layer.{i}."
        names |= _both(own + "attn.qkv", [f"{theirs}attention.self.{part}" for part in ("query", "key", "value")])
        names |= _both(own + "attn.proj", [theirs + "attention.output.dense"])
        names |= _both(own + "ln1", [theirs + "attention.output.LayerNorm"])
        names |= _both(own + "mlp.layers.0", [theirs + "intermediate.dense"])
        names |= _both(own + "mlp.layers.2", [theirs + "output.dense"])
        names |= _both(own + "ln2", [theirs + "output.LayerNorm"])
    return {own: [prefix + name for name in theirs] for own, theirs in names.items()}


def llama_names(model: Any) -> Names:
    """Return the names that the parameters of a `TransformerLM` have in a Llama file."""
    names = {"tokens.weight": ["model.embed_tokens.weight"], "ln.weight": ["model.norm.weight"]}
    if model.head is not None:
        names["head.weight"] = ["lm_head.weight"]
    for i in range(len(model.blocks)):
        own, theirs = f"blocks.{i}.", f"model.layers.{i}."
        names |= _both(own + "attn.qkv", [f"{theirs}self_attn.{part}_proj" for part in "qkv"])
        names |= _both(own + "attn.proj", [theirs + "self_attn.o_proj"])
        names |= _both(own + "mlp.gate_up", [theirs + "mlp.gate_proj", theirs + "mlp.up_proj"])
        names |= _both(own + "mlp.down", [theirs + "mlp.down_proj"])
        names[own + "ln1.weight"] = [theirs + "input_layernorm.weight"]
        names[own + "ln2.weight"] = [theirs + "post_attention_layernorm.weight"]
    parameters = dict(model.named_parameters())
    return {own: theirs for own, theirs in names.items() if own in parameters}  # with or without biases


def gguf_names(model: Any) -> Names:
    """Return the names that the parameters of a `TransformerLM` have in a GGUF file."""
    names = {"tokens.weight": ["token_embd.weight"], "ln.weight": ["output_norm.weight"]}
    if model.head is not None:
        names["head.weight"] = ["output.weight"]
    for i in range(len(model.blocks)):
        own, theirs = f"blocks.{i}.", f"blk.{i}."
        names[own + "attn.qkv.weight"] = [f"{theirs}attn_{part}.weight" for part in "qkv"]
        names[own + "attn.proj.weight"] = [theirs + "attn_output.weight"]
        names[own + "mlp.gate_up.weight"] = [theirs + "ffn_gate.weight", theirs + "ffn_up.weight"]
        names[own + "mlp.down.weight"] = [theirs + "ffn_down.weight"]
        names[own + "ln1.weight"] = [theirs + "attn_norm.weight"]
        names[own + "ln2.weight"] = [theirs + "ffn_norm.weight"]
    return names


def _both(own: str, theirs: Iterable[str]) -> Names:
    theirs = list(theirs)
    return {f"{own}.{kind}": [f"{name}.{kind}" for name in theirs] for kind in ("weight", "bias")}


def in_halves(weight: Array, n_heads: int) -> Array:
    """Return rows of a query or key weight for `F.rotary`; a GGUF file has them for the pairs (0, 1), (2, 3) and so on.

    >>> in_halves(np.arange(8.0)[:, None], 2).ravel()      # two heads of two pairs
    array([0., 2., 1., 3., 4., 6., 5., 7.])
    """
    d_head = len(weight) // n_heads
    pairs = weight.reshape(n_heads, d_head // 2, 2, -1)
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(weight.shape)


def fill(
    model: Module, names: Names, weights: Any, source: str, *, dtype: Any = np.float32,
    unused: tuple[str, ...] = (), turned: Mapping[str, Callable[[Array], Array]] | None = None,
) -> None:  # fmt: skip
    """Put tensors of a file in place of a model's parameters, each read, joined and forgotten before the next.

    Parameters
    ----------
    model : Module
        All of whose parameters are filled.
    names : dict of str to list of str
        Which tensors make up which parameter, one above the other.
    weights : mapping of str to array, with `shape(name)`
        The file.
    source : str
        Its name, for errors.
    dtype : dtype
        Of the parameters.
    unused : tuple of str
        How names begin, after any prefix, that a file may have beside.
    turned : dict of str to callable, optional
        What to do with the tensors whose names end so, before they are joined.

    Raises
    ------
    ValueError
        That lists every tensor that is missing, unexpected or of another shape, before anything is read.
    """
    parameters = dict(model.named_parameters())
    found = {name: tuple(weights.shape(name)) for name in weights if not name.startswith(unused)}
    wanted = {}
    for path, parts in names.items():
        shape = parameters[path].shape
        for name, rows in zip(parts, _rows(model, shape[0], len(parts)), strict=True):
            wanted[name] = (rows, *shape[1:])
    check_names(wanted, {name: np.broadcast_to(0, shape) for name, shape in found.items()}, source)
    for path, parts in names.items():
        tensors = [weights[name] for name in parts]
        for i, name in enumerate(parts):
            for end, turn in (turned or {}).items():
                if name.endswith(end):
                    tensors[i] = turn(tensors[i])
        joined = tensors[0] if len(tensors) == 1 else np.concatenate(tensors)
        parameters[path].data = np.ascontiguousarray(joined, dtype)


def _rows(model: Any, total: int, parts: int) -> list[int]:
    """Return how many rows each part of a parameter has: queries, keys and values, or equal halves."""
    if parts < 3:
        return [total // parts] * parts
    attn = model.blocks[0].attn
    shared = total * attn.n_kv_heads // (attn.n_heads + 2 * attn.n_kv_heads)
    return [total - 2 * shared, shared, shared]
