"""docs/performance.md: the machine, the tables, how they were measured, growth, and the machine's limits."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import numpy as np

from . import growth, limits, startup
from .measure import Result, Settings
from .memory import ROOT
from .report import summary, table
from .row import PEERS
from .timing import TURN

PAGE = ROOT / "docs" / "performance.md"
GENERATED = [path.relative_to(ROOT).as_posix() for path in (PAGE, growth.FIGURE)]
HOW = """## How it is measured

`python -m tests.benchmarks --write` prints the tables and writes this page; `pip install -e ".[bench]"` brings the
peers, and one that is not there is left out. `--threads` chooses, and without `--write` also `--only`,
`--peers` and `--quick`; `python -m tests.benchmarks.compare OLD` compares a revision of ours with the working tree.

- Ours and a peer run in one process with equally many threads, and take turns: calls one by one, or, where they are
  short, as many as fill {turn:.0f} ms, after one that is not counted. Times are medians of one unit of work, after
  warm-up; the ratio and its quartiles are those of the ratios of the turns. The garbage collector is on.
- Ours is timed anew beside each peer, and so has several times in the tables, and alone in the table of the limits.
- A unit of work is forward and backward unless the row says otherwise, in float32, from the same inputs. Gradients
  start at None, so that outputs and gradients are fresh, as in training. In training, batches change from step to
  step.
- Before timing, outputs and gradients are compared with the peer's; in training, the losses of two successive steps. A
  row whose results differ says so, and meets no bar. Not compared are dropout and generating, which are random, and
  the rows against our plain form, which computes something else.
- PyTorch runs eagerly, with its fused attention and its optimisers' default settings. HIPS autograd and MyGrad have
  an Adam by hand, in place; MyGrad's memory guard is off. `jax.jit` compiles the whole unit of work, optimiser
  included; tinygrad's TinyJit too, and it writes into the same outputs at every call. Compilation is not counted.
  Against these two there is no bar.
- A row "against our plain form" compares cross-entropy with an option to cross-entropy without.
- The embedding row looks 2048 indices up in a table of 8192 rows of 512, so its dense gradient has four times the
  size of its output. Generating samples at temperature 1, one token at a time, with a key-value cache on both sides.
- Peak memory is what the second call in a fresh process needs at its peak, outputs included, beyond what was there
  before it (inputs, parameters, the optimiser's state). Freed blocks are given back to the system first, on both
  sides. Differences below 1 MB are not counted.
"""
WHY = """## What limits the rest

NumPy makes one pass over a block for each operation, where PyTorch's kernels keep a row in registers. What that costs
depends on what else there is to do.

- **Wide rows** (cross_entropy, softmax with tens of thousands of classes): per 262,144 logits in the cache, the largest
  takes 17 µs, the exponentials 119, their sum 17, scaling 25. The largest is not subtracted where it lies in [0, 16]
  in all rows of a block, as exp cannot overflow there. More than half is arithmetic that nobody can avoid, and PyTorch
  moves more memory; so ours wins. On one thread, forward and backward of cross_entropy (2048, 32000) take 79 ms, of
  which the exponentials, written into fresh memory, are 55 (31 in memory that is already there), argmax 9, sum and
  scaling about 13: it stands at what these passes cost.
- **Label smoothing** needs the shifted logits as well, which adds three passes (the shift, their sum, subtracting ε/V):
  1.35 to 1.45 times the plain form. Summing the logits unshifted was tried; it gained nothing on two threads, and lost
  digits.
- **Rows of 512** (softmax, layer_norm): an operation between a block and one number per row takes 56 µs per 262,144
  numbers, where one without takes 26 to 32: 50 to 60 ns a row. softmax needs argmax 25, exp 118, sum 17, scale 56
  forward, and shift 56, dot 27, shift 56, product 32 backward: 3.1 ms for (8192, 512) on two cores, if nothing else
  cost anything. PyTorch takes 2.2 to 3.9 ms from run to run, so passes of NumPy do not reach the bar at the accuracy
  that is kept. layer_norm makes about seventeen passes in all.
- **Small arrays** (the small networks, cross_entropy (128, 10), the chain): a NumPy call on a few numbers takes 0.4 to
  1 µs, an op of ours 1.5 µs more forward and 2 µs backward, all of it the interpreter. The step of the smallest
  network makes about 90 such calls: 45 µs forward (the layers 17, the loss 28, of which its checks 8), 60 backward, 22
  in Adam. MyGrad's has no checks of targets and no stable rest of a sum, HIPS autograd's wrappers cost more than ours.
- **Attention**: seven products of matrices, whose inner length is 64, run at 75 to 97 GFLOP/s on one core, and take
  three quarters of the time; what is left are the exponentials. Blocks of 32 to 256 rows were tried: none is faster
  than 128.
- **A few blocks** (cross_entropy (1024, 1000)): two blocks of 510 µs each (argmax 56, exponentials 234, sum 39, scaling
  about 90, numbers by row 60); the second core begins 50 to 100 µs late, when it has been woken.
- **embedding**: of 1.0 ms backward, the repeated rows take 0.2, writing the others 0.2, and the rest is the system
  clearing the pages of a new table of 16 MB as they are touched.
- **The larger TransformerLM**: two thirds of 127 ms alone are matrix products and attention, at the speed of BLAS; what
  is left are copies that join the heads, gelu and layer_norm.
- **generate**: of 470 µs a token about 100 are NumPy's arithmetic; the rest is the interpreter, in 30 ops and 28 calls
  of modules, with their checks. A second forward pass on bare arrays would be faster, and a second truth.
- **Memory of log_softmax**: a block of 2 MB for each thread, in which the exponentials are made.
- **Memory of training**: PyTorch drops what an op has saved as soon as the backward pass has used it. Here the graph
  stays whole until its loss goes, so that `backward` can run again, and pictures can show it.
"""


def processor() -> str:
    """Return the processor's name and second-level cache, as far as the system tells."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    cache = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")
    size = f", {cache.read_text(encoding='ascii').strip()} second-level cache a core" if cache.exists() else ""
    return f"{name}, {os.cpu_count()} cores{size}"


def memory() -> str:
    """Return how much memory there is, or nothing where the system does not tell."""
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names:
        return ""
    return f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GB of memory"


def blas() -> str:
    """Return the name and version of NumPy's BLAS."""
    found = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[index, call-overload]
    return f"{found['name']} {found['version']}"


def revision(root: Path = ROOT) -> str:
    """Return the commit of a checkout, and whether it was changed since, apart from what `write` itself writes."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False).stdout.strip()

    apart = [f":!{name}" for name in GENERATED]
    dirty = git("status", "--porcelain", "--untracked-files=no", "--", ".", *apart)
    return (git("describe", "--always") or "unknown") + ("-dirty" if dirty else "")


def machine(settings: Settings) -> str:
    """Return the machine and the versions as a list."""
    peers = [f"{p} {version(p)}" for p in settings.peers if p != "plain"]
    absent = [name for p, name in PEERS.items() if p not in settings.peers]
    lines = [
        f"- {processor()}{memory()}; {platform.system()} {platform.release()}; load before: {settings.load:.1f}",
        f"- Python {platform.python_version()}, NumPy {np.__version__} with {blas()}; {', '.join(peers)}",
        f"- {settings.threads} threads; revision {revision()}",
    ]
    return "\n".join(lines + ([f"- Not installed here, and so not measured: {', '.join(absent)}"] if absent else []))


def text(results: list[Result], settings: Settings, parts: tuple[str, str, str]) -> str:
    """Return the page, of the results and of what `startup`, `growth` and `limits` reported."""
    start, grows, limit = parts
    return "\n".join([
        "# Performance", "",
        "Median times of ours and of peers, side by side. A ratio below 1 means that ours is faster.",
        "A bar is the share of the peer's time, or of its peak memory, that we set out to need at most.", "",
        machine(settings), "", f"{summary(results)} {start}", "",
        "## Against peers", "", table(results), HOW.format(turn=1e3 * TURN), "## Growth", "",
        "Slopes on logarithmic axes, fitted to the upper half of the sizes. Where they are not 1 or 2: beyond the",
        "caches, the tensors of a chain's ops are in main memory, so a longer one takes more time per op; and at short",
        "lengths the fixed costs of a call of attention weigh, so that it grows more slowly than T².", "",
        "![Time and memory against size, on logarithmic axes](images/growth.svg)", "", grows, "",
        "## How far from the machine's limit", "",
        "What these kernels need at the least, at the rates that the machine reached in the same run. Cross-entropy",
        "reads each logit and writes a new gradient once, and takes an exponential of each, which arithmetic units can",
        "do while memory moves. Attention makes two products forward and five backward of the visible half of T × T,",
        "and exponentials in both; these share the arithmetic units.", "", limit, "", WHY.rstrip(), "",
    ])  # fmt: skip


def write(results: list[Result], settings: Settings) -> None:
    """Measure what the page has beside the table, and write it."""
    parts = startup.report(), growth.main(settings.threads), limits.report(settings.threads)
    PAGE.write_text(text(results, settings, parts), encoding="utf-8")
    print(f"written: {PAGE}")
