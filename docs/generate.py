"""Pages that are made when the site is built: of the ops, from the registry, and of the API, from docstrings.

`names()` is the list of all public names, by page; tests/test_api_docs.py compares it with what the package exports.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_sm as sm
from tinygrad_sm import calibration, data, decoding, functional, inspection, io, naive, nn, optim, primer, viz
from tinygrad_sm.inspection.arrays import FULL
from tinygrad_sm.inspection.document_html import block_html
from tinygrad_sm.op import REGISTRY, Op

# -- the API --------------------------------------------------------------------------------------

SEEING = ["Graph", "compare", "doctor", "draw", "explain", "gradient_flow", "record", "detect_anomaly"]
DERIVATIVES = ["grad", "vjp", "jvp", "jacobian", "hessian", "hvp", "gradcheck", "Op"]
SETTINGS = [
    "Tensor", "set_default_dtype", "manual_seed", "no_grad", "enable_grad", "set_num_threads", "get_num_threads",
]  # fmt: skip
MODULES = {
    "nn": ("Layers", nn, "`from tinygrad_sm import nn`. Modules find their parameters by walking attributes."),
    "optim": ("Optimisers", optim, "`from tinygrad_sm import optim`: update rules, schedules, clipping."),
    "data": ("Data", data, "`sm.data`: real data without downloads, and batches."),
    "viz": ("Figures", viz, "`sm.viz`: figures of what a softmax does; they need matplotlib."),
    "inspection": ("Inspection", inspection, "`sm.inspection`: what the functions for seeing are made of."),
    "calibration": ("Calibration", calibration, "`sm.calibration`: is a model as often right as it is sure?"),
    "decoding": ("Decoding", decoding, "`sm.decoding`: greedy and beam search, and error rates."),
    "naive": ("What goes wrong", naive, "`sm.naive`: softmax and its losses as their formulas stand."),
    "primer": ("The primer", primer, "`sm.primer`: the article reproduced."),
}


def names() -> dict[str, list[tuple[str, Any]]]:
    """Return the public objects of each page of the API, with their full names; each stands on one page only."""
    pages = {
        "tensor": [(f"tinygrad_sm.{name}", getattr(sm, name)) for name in SETTINGS],
        "derivatives": [(f"tinygrad_sm.{name}", getattr(sm, name)) for name in [*DERIVATIVES]],
        "seeing": [(f"tinygrad_sm.{name}", getattr(sm, name)) for name in SEEING],
        "functional": [(f"tinygrad_sm.functional.{name}", getattr(functional, name)) for name in functional.__all__],
        "files": [(f"tinygrad_sm.{name}", getattr(io, name)) for name in ("save", "load")],
    }
    pages["derivatives"].append(("tinygrad_sm.ops.check", sm.ops.check))
    seen = {id(thing) for page in pages.values() for _, thing in page}
    more = [(f"tinygrad_sm.{name}", getattr(sm, name)) for name in sm.__all__]
    pages["functional"] += [
        (name, thing) for name, thing in more if id(thing) not in seen and not inspect.ismodule(thing)
    ]
    seen |= {id(thing) for _, thing in pages["functional"]}
    for key, (_, module, _) in MODULES.items():
        found = [(f"{module.__name__}.{name}", getattr(module, name)) for name in public(module)]
        pages[key] = [(name, thing) for name, thing in found if id(thing) not in seen]
        seen |= {id(thing) for _, thing in pages[key]}
    return pages


def public(module: Any) -> list[str]:
    """Return what a module exports: `__all__`, or the functions and classes that are defined in it."""
    if hasattr(module, "__all__"):
        return sorted(name for name in module.__all__ if callable(getattr(module, name)))
    own = [name for name, thing in vars(module).items() if getattr(thing, "__module__", "") == module.__name__]
    return sorted(name for name in own if not name.startswith("_") and callable(getattr(module, name)))


TITLES = {
    "tensor": ("Tensor and settings", "`import tinygrad_sm as sm`."),
    "derivatives": ("Derivatives, checks, own ops", "Of any order, touching no `.grad`; and whether they are right."),
    "functional": ("Functions", "`tinygrad_sm.functional`, or `F`; most are `sm.…` too, and many methods of Tensor."),
    "seeing": ("Seeing", "Pictures, explanations, the doctor, and what they read."),
    "files": ("Files", "npz and safetensors; nothing in a file is executed."),
    **{key: (title, about) for key, (title, _, about) in MODULES.items()},
}  # fmt: skip


def api(folder: Path) -> None:
    """Write the pages of the API."""
    folder.mkdir(exist_ok=True)
    pages = names()
    for key, things in pages.items():
        title, about = TITLES[key]
        text = [f"# {title}\n", f"{about}\n"]
        ops = [(name, thing) for name, thing in things if isinstance(thing, Op)]
        if ops:
            text.append("Ops; [their pages](../ops/index.md) have gradients and pictures:\n")
            text += [*_table(ops), ""]
        text += [_directive(name, thing) for name, thing in things if not isinstance(thing, Op)]
        (folder / f"{key}.md").write_text("\n".join(text), encoding="utf-8")
    toc = "\n".join(pages)
    index = f"# API\n\nEvery public name, from its docstring.\n\n```{{toctree}}\n:maxdepth: 1\n\n{toc}\n```\n"
    (folder / "index.md").write_text(index, encoding="utf-8")


def _directive(name: str, thing: Any) -> str:
    kind = "class" if inspect.isclass(thing) else "function"
    more = "\n   :members:" if kind == "class" else ""
    return f"```{{eval-rst}}\n.. auto{kind}:: {name}{more}\n```\n"


def _table(ops: list[tuple[str, Any]]) -> list[str]:
    rows = [f"| `{name.removeprefix('tinygrad_sm.')}` | {_cell(op.formula)} |" for name, op in ops]
    return ["| op | computes |", "|---|---|", *rows]


def _cell(text: str) -> str:
    return f"`{text}`".replace("|", "\\|") if text else ""


# -- the ops --------------------------------------------------------------------------------------


def ops(folder: Path) -> None:
    """Write a page for each family of ops that have a gradient, and a table of all."""
    folder.mkdir(exist_ok=True)
    families: dict[str, list[Op]] = {}
    for op in REGISTRY.values():
        if op.vjp is not None and op.home.startswith("tinygrad_sm.ops."):
            families.setdefault(op.home.rpartition(".")[2], []).append(op)
    about = (
        "Formula and gradient of every op that differentiates, from the registry, which also feeds the pictures, "
        "`sm.explain` and the tests. `g` is the gradient that comes back.\n"
    )
    index = ["# Ops\n", about, "| op | computes | gradient |", "|---|---|---|"]
    for family, members in families.items():
        text = [f"# The family {family.replace('_', ' ')}\n", f"From `tinygrad_sm/ops/{family}.py`.\n"]
        for op in members:
            text += _page(op, folder)
            link = f"[{op.name}]({family}.md#{op.name.replace('_', '-')})"
            index.append(f"| {link} | {_cell(op.formula)} | {_cell(op.gradient)} |")
        (folder / f"{family}.md").write_text("\n".join(text), encoding="utf-8")
    toc = "\n".join(families)
    index.append(f"\n```{{toctree}}\n:hidden:\n\n{toc}\n```\n")
    (folder / "index.md").write_text("\n".join(index), encoding="utf-8")


def _page(op: Op, folder: Path) -> Iterator[str]:
    """Yield the section of an op: how it is called, its card, and pictures of a small call."""
    yield f"## {op.name}\n"
    places = [("F", functional), ("sm", sm)]
    called = [f"`{short}.{op.name}`" for short, module in places if hasattr(module, op.name)]
    called += [f"`x.{op.name}`"] if hasattr(sm.Tensor, op.name) else []
    yield (f"Called as {', '.join(called)}.\n" if called else "")
    blocks = [block for block in sm.explain(op).blocks if block.kind != "title"]
    card = "".join(block_html(block, FULL).replace("h2>", "h4>") for block in blocks).replace("</ul><ul>", "")
    yield f'```{{raw}} html\n<div class="card">{card}</div>\n```\n'
    for name, about in _pictures(op, folder):
        yield f'<img src="{name}" alt="{escape(about)}" width="330">\n'


def _pictures(op: Op, folder: Path) -> Iterator[tuple[str, str]]:
    """Draw a sample call with values and gradients, and of a fused op its definition; yield file names."""
    if not op.samples:
        return
    sample = op.samples[0]
    arguments = sample.draw(op.domain)
    letters = iter("xyzwuv")
    for i in sample.wanted:
        arguments[i] = sm.Tensor(np.round(arguments[i], 2), requires_grad=True, name=next(letters))
    with np.errstate(all="ignore"):
        try:
            result = op(*arguments, **sample.kwargs)
        except ImportError:  # an extra that is not installed
            return
        loss = result if result.size == 1 else (result * np.linspace(0.5, 1.5, result.size).reshape(result.shape)).sum()
        kinds = {"": ()} if op.definition is None else {"": (), "-definition": (op.name,)}
        for suffix, expand in kinds.items():
            name = f"{op.name}{suffix}.svg"
            sm.draw(loss, title=op.name + (", its definition" if suffix else ""), expand=expand).save(folder / name)
            yield name, f"The graph of {op.name} of a small array{', opened into its definition' if suffix else ''}"
