"""Pages of the ops that are made when the site is built, from the registry: one for each family, and a table of all."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import op_examples

import tinygrad_sm as sm
from tinygrad_sm import functional
from tinygrad_sm.call import brief
from tinygrad_sm.inspection.arrays import FULL
from tinygrad_sm.inspection.document_html import block_html
from tinygrad_sm.inspection.mathml import mathml
from tinygrad_sm.inspection.op_card import ALIASES, COMPOSED
from tinygrad_sm.inspection.op_names import arguments_of
from tinygrad_sm.op import REGISTRY, Op

FAMILIES = {
    "softmax": "Softmax", "cross_entropy": "Cross-entropy", "linear_cross_entropy": "A linear layer with its loss",
    "loss": "Other losses", "attention": "Attention", "norm": "Normalisation", "activation": "Activations",
    "rotary": "Rotary positions",
    "arithmetic": "Arithmetic", "reduction": "Reductions", "linalg": "Products of matrices",
    "indexing": "Indexing", "shape": "Shapes",
}  # fmt: skip


def families() -> dict[str, list[Op]]:
    """Return the library's ops that have a gradient, by the file they stand in."""
    found: dict[str, list[Op]] = {name: [] for name in FAMILIES}
    for op in REGISTRY.values():
        if op.vjp is not None and op.home.startswith("tinygrad_sm.ops."):
            found.setdefault(_family(op), []).append(op)
    return found


def ops(folder: Path) -> None:
    """Write a page for each family of ops that have a gradient, and a table of all."""
    folder.mkdir(exist_ok=True)
    for family, members in families().items():
        text = [f"# {FAMILIES.get(family, family)}\n", f"From `tinygrad_sm/ops/{family}.py`.\n"]
        for op in members:
            text += _section(op, folder)
        (folder / f"{family}.md").write_text("\n".join(text), encoding="utf-8")
    (folder / "index.md").write_text("\n".join(_index()), encoding="utf-8")


def address(op: Op, before: str = "") -> str:
    """Return where the section of an op stands."""
    return f"{before}{_family(op)}.md#{op.name.replace('_', '-')}"


def formula(latex: str) -> str:
    """Return LaTeX as MathML that may stand in a cell of a table, with a line for each of several formulas."""
    return "<br>".join(mathml(part) for part in latex.split(r",\;") if part).replace("|", "&#124;")


def options(op: Op) -> str:
    """Return the arguments of an op in brackets: "(x, axis=None, keepdims=False)"."""
    if isinstance(op.forward, np.ufunc):
        return f"({', '.join(arguments_of(op))})"
    found = _arguments(inspect.signature(op.forward))
    return found.replace(", keepdims", ", *, ddof=0, keepdims") if op.name in ("var", "std") else found


def method_options(method: Any) -> str | None:
    """Return the arguments of a method that calls an op, which its own signature hides; None for others."""
    defaults = [
        *(getattr(method, "__kwdefaults__", None) or {}).values(),
        *(getattr(method, "__defaults__", None) or ()),
    ]
    op = next((value for value in defaults if isinstance(value, Op)), None)
    if op is None:
        return None
    return f"({options(op)[1:-1].partition(', ')[2]})"


def _family(op: Op) -> str:
    return str(op.home).rpartition(".")[2]


# -- the table ------------------------------------------------------------------------------------


def _index() -> Iterator[str]:
    yield "# Ops\n"
    yield (
        "What every op computes and how its gradient is made, from the registry, which also feeds the pictures, "
        "`sm.explain` and the tests. $g$ is the gradient that comes back for the result $y$, and a bar marks the "
        "gradient of an argument. Fused ops are marked with ◆: they are one fast kernel, and their section shows the "
        "same function in simple ops.\n".replace("$g$", formula("g")).replace("$y$", formula("y"))
    )
    for family, members in families().items():
        yield f"## {FAMILIES.get(family, family)}\n"
        yield "| op | computes | gradient |\n|---|---|---|"
        for op in members:
            fused = " ◆" if op.definition is not None else ""
            cells = [f"[{op.name}]({address(op)}){fused}", *map(formula, op.latex)]
            yield f"| {' | '.join(cells)} |"
        yield ""
    yield "## Functions that call them\n"
    yield "| function | is made of |\n|---|---|"
    for name, other in sorted(ALIASES.items()):
        yield f"| {_role(name)} | [{other}]({address(REGISTRY[other])}) |"
    for name, made in sorted(COMPOSED.items()):
        yield f"| {_role(name)} | {made} |"
    constant = [op.name for op in REGISTRY.values() if op.vjp is None and op.home.startswith("tinygrad_sm.ops.")]
    yield "\n## Ops without a gradient\n"
    yield (
        "They are piecewise constant: their slope is 0 wherever there is one, so no gradient goes through them. "
        f"{', '.join(f'`{name}`' for name in constant)}.\n"
    )
    yield "```{toctree}\n:hidden:\n\n" + "\n".join(families()) + "\n```\n"


def _role(name: str) -> str:
    return f"{{py:func}}`~tinygrad_sm.functional.{name}`"


# -- the section of an op -------------------------------------------------------------------------


def _section(op: Op, folder: Path) -> Iterator[str]:
    """Yield how an op is called, its card, an example, its definition and pictures of a small call."""
    yield f"## {op.name}\n"
    yield f"{_called(op)}\n"
    blocks = [block for block in sm.explain(op).blocks if block.kind != "title"]
    card = "".join(block_html(block, FULL).replace("h2>", "h3>") for block in blocks).replace("</ul><ul>", "")
    yield f'```{{raw}} html\n<div class="card">{card}{_samples(op)}</div>\n```\n'
    if (found := op_examples.example(op)) is not None:
        yield f"```python\n{found[0]}```\n\n```\n{found[1]}```\n"
    if op.definition is not None:
        code = _source(op.definition)
        yield f"It is fused. Its definition, which second derivatives go through:\n\n```python\n{code}```\n"
    for name, about in _pictures(op, folder):
        yield f'<img src="{name}" alt="{escape(about)}" class="graph">\n'


def _source(definition: Any) -> str:
    """Return the code of a definition; of a lambda that calls another function, that function's."""
    code = textwrap.dedent(inspect.getsource(definition))
    if made := re.match(r"definition=lambda .*?: (_\w+)\(", code):
        code = textwrap.dedent(inspect.getsource(definition.__globals__[made[1]]))
    return re.sub(r"^definition=(lambda .*),$", r"\1", code)


def _called(op: Op) -> str:
    names = [name for name, other in ALIASES.items() if other == op.name]
    if hasattr(functional, op.name) and not isinstance(getattr(functional, op.name), Op):
        names.insert(0, op.name)
    calls = [f"`sm.{op.name}{options(op)}`"] if isinstance(getattr(sm, op.name, None), Op) else []
    calls += ["`x[index]`"] if op.name == "getitem" else []
    calls += [_role(name) for name in names]
    calls += [f"`x.{op.name}`"] if hasattr(sm.Tensor, op.name) else []
    calls += [f"`{op_examples.CALLS[op.name]}`"] if not calls and op.name not in op_examples.NO_NAME else []
    return f"Called as {', '.join(calls)}." if calls else "Other ops and gradients are made of it."


def _arguments(signature: inspect.Signature) -> str:
    """Write a signature without types, options that only catch errors, and NumPy's that no op takes."""
    kept = []
    for p in signature.parameters.values():
        if p.kind is not p.VAR_KEYWORD and p.name not in ("out", "where", "kind", "order", "stable", "op"):
            default = False if p.default is np._NoValue else p.default
            kept.append(p.replace(annotation=p.empty, default=default))
    return str(inspect.Signature(kept))


def _samples(op: Op) -> str:
    """Return the shapes of the calls that the tests check, with the interval that their numbers come from."""
    lines = []
    for sample in op.samples:
        args = sample.draw(op.domain)
        try:
            with np.errstate(all="ignore"):
                result = op(*map(_tensor, args), **sample.kwargs)
        except ImportError:
            return ""
        given = ", ".join([*map(_shape, args), *(f"{k}={brief(v)}" for k, v in sample.kwargs.items())])
        lines.append(f"{given} → {result.shape}")
    low, high = op.domain
    items = "".join(f"<li><code>{escape(line)}</code></li>" for line in dict.fromkeys(lines))
    about = f"Shapes and options that the tests check, of numbers from {low:g} to {high:g}".replace("-", "−")
    return f"<details><summary>{about}</summary><ul>{items}</ul></details>" if lines else ""


def _tensor(a: Any) -> Any:
    return sm.Tensor(a) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a


def _shape(a: Any) -> str:
    if not isinstance(a, np.ndarray):
        return brief(a)
    return str(a.shape) if a.dtype.kind == "f" else f"{a.dtype.name} {a.shape}"


def _pictures(op: Op, folder: Path) -> Iterator[tuple[str, str]]:
    """Draw a sample call with values and gradients, and of a fused op its definition; yield file names."""
    if not op.samples:
        return
    sample = op.samples[0]
    arguments = sample.draw(op.domain)
    letters = [*arguments_of(op), *"cdefgh"]
    for i in sample.wanted:
        arguments[i] = sm.Tensor(np.round(arguments[i], 2), requires_grad=True, name=letters[i])
    with np.errstate(all="ignore"):
        try:
            result = op(*arguments, **sample.kwargs)
        except ImportError:  # an extra that is not installed
            return
        pictures = {"": result}
        if op.definition is not None:
            pictures["-definition"] = op.definition(*arguments, **sample.kwargs)
        for suffix, end in pictures.items():
            g = np.linspace(0.5, 1.5, end.size).reshape(end.shape) if end.shape else None
            title = op.name + (", its definition" if suffix else "")
            name = f"{op.name}{suffix}.svg"
            sm.draw(sm.Graph(end, g), title=title).save(folder / name)
            yield name, f"The graph of {title}, of a small array"
