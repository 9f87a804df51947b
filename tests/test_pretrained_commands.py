"""The commands embed, generate and attention, with small models of random weights. No download."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import close

from tinygrad_sm import cli, pretrained

pytest.importorskip("safetensors")
pytest.importorskip("tokenizers")
from pretrained_folders import BERT, LLAMA, bert_weights, llama_weights, write

SENTENCES = ["a cat sleeps.", "a dog", "dogs runs a cat sleeps."]


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return write(tmp_path / "bert", BERT, bert_weights(BERT))


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return write(tmp_path / "llama", LLAMA, llama_weights(LLAMA))


def test_embed(bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    model = ["--model", str(bert)]
    assert cli.main(["embed", *SENTENCES, *model]) == 0
    vectors = pretrained.from_pretrained(bert).encode(SENTENCES)
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[4:] for row in table] == [s.split() for s in SENTENCES]
    close(np.array([[float(x) for x in row[1:4]] for row in table]), vectors @ vectors.T, atol=1e-3)
    assert cli.main(["embed", SENTENCES[0], *model]) == 0
    close(json.loads(capsys.readouterr().out), vectors[0], atol=1e-6)
    (tmp_path / "texts").write_text("\n".join(["", *SENTENCES, ""]), encoding="utf-8")
    for name in ("v.npy", "v.jsonl"):
        assert cli.main(["embed", "--file", str(tmp_path / "texts"), "--out", str(tmp_path / name), *model]) == 0
        assert "3 vectors of 12" in capsys.readouterr().out
    close(np.load(tmp_path / "v.npy"), vectors)
    lines = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["text"] for line in lines] == SENTENCES
    close(np.array([line["vector"] for line in lines]), vectors)
    (tmp_path / "texts").write_text("\ufeffa cat\n" + "a " * 99, encoding="utf-8")  # with the mark that Windows writes
    assert cli.main(["embed", "--file", str(tmp_path / "texts"), *model]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0].endswith("  a cat")
    assert re.fullmatch(r"tinygrad-sm: of 1 of 2 texts, only the first \d+ tokens were read\n", captured.err)
    monkeypatch.setattr("sys.stdin", io.StringIO("a cat\n"))
    assert cli.main(["embed", "--file", "-", "--no-scale", *model]) == 0
    off = pretrained.from_pretrained(bert, scaled=False).encode(["a cat"])[0]
    close(json.loads(capsys.readouterr().out), off, atol=1e-6)


def test_generate(llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["generate", "a cat", "--max-new-tokens", "6", "--model", str(llama)]
    assert cli.main([*command, "--temperature", "0"]) == 0
    expected = pretrained.from_pretrained(llama).generate("a cat", 6, temperature=0)
    assert capsys.readouterr().out == f"a cat{expected}\n"
    seeded = [*command, "--temperature", "9", "--top-p", "1", "--seed", "4"]
    outputs = []
    for _ in range(2):
        assert cli.main(seeded) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert cli.main([*command, "--top-k", "1"]) == 0
    assert capsys.readouterr().out == f"a cat{expected}\n"
    assert cli.main([*command, "--temperature", "-1"]) == 2
    assert capsys.readouterr().out == ""


def test_generate_until_it_is_stopped(llama: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for stop, status in ((KeyboardInterrupt, 130), (BrokenPipeError, 141)):

        def stream(*args: Any, error: type[BaseException] = stop, **options: Any) -> Any:
            yield "b"
            raise error

        monkeypatch.setattr(pretrained.LanguageModel, "stream", stream)
        assert cli.main(["generate", "a", "--model", str(llama)]) == status
        assert capsys.readouterr() == ("ab\n", "")


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_attention(kind: str, request: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = str(request.getfixturevalue(kind)), tmp_path / "page.html"
    for options in ([], ["--no-scale"], ["--compare"]):
        assert cli.main(["attention", "a cat sleeps", "--model", folder, "--out", str(out), *options]) == 0
        assert "2 layers of" in capsys.readouterr().out
        assert "sleeps" in out.read_text(encoding="utf-8")
    assert cli.main(["attention", "a cat " * 14, "--model", folder, "--out", str(out)]) == 0
    assert f"<title>Attention: {'a cat ' * 13}a …" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["embed"], "there is no text"),
        (
            ["embed", *"abcdefghijklmnopqrstu"],
            "there are 21 texts; a table shows at most 20, and --out",
        ),
        (["embed", "a", "--out", "v.csv"], "must end in .npy or .jsonl, not .csv"),
        (["embed", "a", "--out", "nowhere/v.npy"], "embed: there is no directory .*nowhere; create it first"),
        (["embed", "a", "--file", "nowhere.txt"], "nowhere.txt"),
        (["embed", "a", "--file", "latin.txt"], "embed: latin.txt is not a text in UTF-8"),
        (["attention", "a", "--out", "nowhere/a.html"], "attention: there is no directory .*nowhere; create it first"),
        (["attention", "a " * 1100, "--model", "LLAMA"], "the text has [0-9,]+ tokens; a page shows at most 1,024"),
        (["attention", "", "--model", "LLAMA"], "there are 0 tokens; .* Run the model on a longer text"),
        (["embed", "a", "--model", "nowhere"], "there is no folder or file nowhere"),
        (["embed", "a", "--model", "LLAMA"], "embed takes a sentence encoder; .* is a LanguageModel"),
        (["generate", "a", "--model", "BERT"], "generate takes a language model; .* is a SentenceEncoder"),
        (["generate", "a", "--model", "LLAMA", "--temperature", "-1"], "temperature must be"),
        (["generate", "a", "--model", "LLAMA", "--seed", "-1"], "--seed must be 0 or more, not -1"),
        (["generate", "", "--model", "LLAMA"], "the prompt is empty"),
        (
            ["generate", "a", "--model", "LLAMA", "--chat"],
            "--chat writes .* in the form ChatML, which .* no tokens",
        ),
        (["attention", "a", "--model", "BERT", "--compare", "--no-scale"], "leave out --no-scale"),
    ],
)
def test_commands_refuse(command: Any, message: str, bert: Path, llama: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(bert.parent)
    Path("latin.txt").write_bytes(b"caf\xe9")
    paths = {"LLAMA": str(llama), "BERT": str(bert)}
    assert cli.main([paths.get(word, word) for word in command]) == 2
    assert re.search(f"^tinygrad-sm: .*{message}", capsys.readouterr().err)
