"""Pretrained models beside transformers and sentence-transformers: `python -m tests.benchmarks.pretrained`.

In one run: how far the outputs differ, how long both take by turns in one process, and what a process of each needs at
its peak, from its start on, when it loads the model and does the work once. It needs PyTorch, transformers,
sentence-transformers, gguf, accelerate, and the packages of weights (`make weights`); nothing is downloaded.
`--write` writes docs/results/pretrained.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_sm as sm
from tinygrad_sm.pretrained import gguf, packages, tokens

from .memory import resident
from .timing import compare, set_threads

ROOT = Path(__file__).resolve().parents[2]
SENTENCES, PROMPT, NEW = 200, 32, 64


@lru_cache
def sentences(n: int) -> list[str]:
    """Return n real sentences of the language reference that Python ships, of 3 to 60 words, evenly spaced."""
    from pydoc_data.topics import topics

    text = " ".join(" ".join(topics[name].split()) for name in sorted(topics))
    found = [s.strip() + "." for s in text.split(". ") if 3 <= len(s.split()) <= 60]
    return found[:: len(found) // n][:n]


def minilm_folder() -> Path:
    """Return where the weights of MiniLM are."""
    return packages.folder(packages.MINILM, "benchmarks") / "model"


def smollm2_file() -> Path:
    """Return where the weights of SmolLM2 are."""
    (file,) = packages.folder(packages.SMOLLM2, "benchmarks").glob("*.gguf")
    return file


def prompt() -> Any:
    """Return the tokens that generation starts from."""
    tokenizer = tokens.from_gguf(gguf.read(smollm2_file())[0], "benchmarks")
    return np.array(tokenizer.encode(" ".join(sentences(60))).ids[:PROMPT])


def _ours_encode() -> Any:
    model, texts = sm.pretrained.minilm(), sentences(SENTENCES)
    return lambda: model.encode(texts)


def _theirs_encode() -> Any:
    from sentence_transformers import SentenceTransformer

    model, texts = SentenceTransformer(str(minilm_folder()), device="cpu"), sentences(SENTENCES)
    return lambda: model.encode(texts)


def _ours_decode() -> Any:
    model, start = sm.pretrained.smollm2().model, prompt()
    return lambda: model.generate(start, NEW, temperature=0)


def theirs_smollm2() -> Any:
    """Return SmolLM2 of transformers, of the same file, in float32."""
    import torch
    import transformers

    file = smollm2_file()
    options: Any = {"gguf_file": file.name, "dtype": torch.float32}
    return transformers.AutoModelForCausalLM.from_pretrained(file.parent, **options).eval()


def _theirs_decode() -> Any:
    import torch

    start, model = torch.tensor(prompt()[None]), theirs_smollm2()
    options: Any = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False}
    return lambda: model.generate(start, **options)[0].numpy()


TASKS = {
    f"MiniLM: {SENTENCES} sentences": (_ours_encode, _theirs_encode, "sentence-transformers", SENTENCES, 1.25),
    f"SmolLM2: {NEW} greedy tokens after {PROMPT}": (_ours_decode, _theirs_decode, "transformers", NEW, 1.0),
}


def _peak(task: str, side: int) -> float:
    """Return the peak in MB of a process that loads a model and does the work once."""
    code = f"from tests.benchmarks.pretrained import once; once({task!r}, {side})"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return float(run.stdout.split()[-1])


def once(task: str, side: int) -> None:
    """Load, work once, and print the peak of this process in MB."""
    TASKS[task][side]()()
    print(resident("VmHWM") / 1e6)  # ru_maxrss would begin with that of the process which started this one


def measured(task: str, rounds: int) -> dict[str, Any]:
    """Return one row: times, speeds, ratio, difference and memory."""
    ours, theirs, peer, units, bar = TASKS[task]
    steps = ours(), theirs()
    difference = float(np.abs(np.subtract(*(np.asarray(step(), np.float64) for step in steps))).max())
    times = compare(*steps, rounds=rounds)
    return {
        "task": task, "peer": peer, "ours": round(units / times.ours, 1), "theirs": round(units / times.theirs, 1),
        "ratio": round(1 / times.ratio, 2), "low": round(1 / times.high, 2), "high": round(1 / times.low, 2),
        "least": round(1 / bar, 2), "difference": difference,
        "memory": round(_peak(task, 0)), "their memory": round(_peak(task, 1)),
    }  # fmt: skip


def main() -> None:
    """Measure, print the rows, and write them if asked to."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.pretrained", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="how often the two take turns (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of each library (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="write docs/results/pretrained.json")
    o = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    set_threads(o.threads, ("torch",))
    rows = []
    for task in TASKS:
        row = measured(task, o.rounds)
        rows.append(row)
        print(
            f"{task}: {row['ours']} a second, {row['peer']} {row['theirs']}: {row['ratio']} of its speed "
            f"({row['low']} to {row['high']}; wanted: {row['least']} or more), peak {row['memory']:,} MB, theirs "
            f"{row['their memory']:,} MB; outputs differ by {row['difference']:.1e}",
            flush=True,
        )
    if o.write:
        import torch
        import transformers

        versions = {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__,
                    "transformers": transformers.__version__}  # fmt: skip
        content = {"command": "python -m tests.benchmarks.pretrained --write", "versions": versions,
                   "threads": o.threads, "table": rows}  # fmt: skip
        path = ROOT / "docs/results/pretrained.json"
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
