"""Pages of the API that are made when the site is built, from docstrings; op_pages.py makes those of the ops.

`names()` is the list of all public names, by page; tests/test_api_docs.py compares it with what the package exports.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import op_pages

import tinygrad_sm as sm
from tinygrad_sm import calibration, data, decoding, functional, inspection, io, naive, nn, optim, primer, viz
from tinygrad_sm.graph import Edge, Node
from tinygrad_sm.inspection.doctor import Finding, Report
from tinygrad_sm.inspection.explain import Explanation
from tinygrad_sm.inspection.opcheck import OpsReport
from tinygrad_sm.op import Op
from tinygrad_sm.optimizer import Optimizer
from tinygrad_sm.viz.compare import Comparison, Difference
from tinygrad_sm.viz.draw import Drawing
from tinygrad_sm.viz.page import Interactive

SEEING = ["Graph", "compare", "doctor", "draw", "explain", "gradient_flow", "record", "detect_anomaly"]
DERIVATIVES = ["grad", "vjp", "jvp", "jacobian", "hessian", "hvp", "gradcheck", "Op"]
RESULTS = {  # what the functions return, and what the optimisers share
    "seeing": [Drawing, Interactive, Comparison, Difference, Explanation, Report, Finding, Node, Edge],
    "derivatives": [OpsReport],
    "optim": [Optimizer],
}
SETTINGS = [
    "Tensor", "set_default_dtype", "manual_seed", "no_grad", "enable_grad", "set_num_threads", "get_num_threads",
]  # fmt: skip
MODULES = {
    "nn": ("Layers", nn, "`from tinygrad_sm import nn`. Modules find their parameters by walking attributes."),
    "optim": ("Optimisers", optim, "`from tinygrad_sm import optim`: update rules, schedules, clipping."),
    "data": ("Data", data, "`sm.data`: real data without downloads, and batches."),
    "viz": (
        "Figures",
        viz,
        "`sm.viz`: figures of what a softmax does, which need matplotlib, and the page of attention.",
    ),
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
        "derivatives": [(f"tinygrad_sm.{name}", getattr(sm, name)) for name in DERIVATIVES]
        + [("tinygrad_sm.ops.check", sm.ops.check)],
        "seeing": [(f"tinygrad_sm.{name}", getattr(sm, name)) for name in SEEING],
        "functional": [(f"tinygrad_sm.functional.{name}", getattr(functional, name)) for name in functional.__all__],
        "files": [(f"tinygrad_sm.{name}", getattr(io, name)) for name in ("save", "load")],
    }
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
    for key, classes in RESULTS.items():
        pages[key] += [(f"{each.__module__}.{each.__name__}", each) for each in classes]
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
            text.append("These are ops: their pages have the gradient, an example and a picture.\n")
            text += [*_table(ops), ""]
        text += [_directive(name, thing) for name, thing in things if not isinstance(thing, Op)]
        (folder / f"{key}.md").write_text("\n".join(text), encoding="utf-8")
    toc = "\n".join(pages)
    lines = "\n".join(f"- [{TITLES[key][0]}]({key}.md): {TITLES[key][1]}" for key in pages)
    index = f"# API\n\nEvery public name, from its docstring.\n\n{lines}\n\n```{{toctree}}\n:hidden:\n\n{toc}\n```\n"
    (folder / "index.md").write_text(index, encoding="utf-8")


def _directive(name: str, thing: Any) -> str:
    kind = "class" if inspect.isclass(thing) else "function"
    more = "\n   :members:" if kind == "class" else ""
    if hasattr(thing, "_fields"):  # of a tuple: their own docstrings are "Alias for field number 0"
        more += f"\n   :exclude-members: {', '.join(thing._fields)}"
    fields = "".join(f"- `{field}`: {about}\n" for field, about in _fields(thing))
    return f"```{{eval-rst}}\n.. auto{kind}:: {name}{more}\n```\n" + (
        f"\nFields whose name does not say it all:\n\n{fields}" if fields else ""
    )


def _fields(thing: Any) -> list[tuple[str, str]]:
    """Return the fields of a class of data, with the comments that stand beside them."""
    if not (is_dataclass(thing) or (inspect.isclass(thing) and issubclass(thing, tuple))):
        return []
    found = re.findall(r"^    ([a-z]\w*): [^#\n]*?  # (.*)$", inspect.getsource(thing), re.M)
    return [(name, about[0].upper() + about[1:]) for name, about in found if not about.startswith("type:")]


def _table(ops: list[tuple[str, Any]]) -> list[str]:
    rows = []
    for name, op in ops:
        link = f"[`{name.removeprefix('tinygrad_sm.')}{op_pages.options(op)}`]({op_pages.address(op, '../ops/')})"
        rows.append(f"| {link} | {op_pages.formula(op.latex[0])} |")
    return ["| op | computes |", "|---|---|", *rows]
