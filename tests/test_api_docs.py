"""The API on the site has every public name once, and each has a docstring; the pages of the ops have every op."""

from __future__ import annotations

import inspect
import re
from dataclasses import is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

import tinygrad_sm as sm
from tinygrad_sm.op import REGISTRY, Op
from tinygrad_sm.ops.method_docs import METHODS

DOCS = Path(__file__).parent.parent / "docs"
PROPERTIES = (property, cached_property)


@pytest.fixture(scope="module")
def generate() -> Any:
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(DOCS))
    import generate

    yield generate
    patch.undo()


@pytest.fixture(scope="module")
def op_pages(generate: Any) -> Any:
    return generate.op_pages


def test_every_public_name_stands_on_one_page(generate: Any) -> None:
    things = [thing for page in generate.names().values() for _, thing in page]
    assert len({id(thing) for thing in things}) == len(things)
    for module in (sm, sm.functional, *(module for _, module, _ in generate.MODULES.values())):
        for name in getattr(module, "__all__", generate.public(module)):
            thing = getattr(module, name)
            if callable(thing) and not repr(thing).startswith("numpy.random"):  # Seed is a type in words
                assert any(thing is one for one in things), f"{module.__name__}.{name}"


def test_each_has_a_docstring_with_an_example(generate: Any) -> None:
    """The examples are run as doctests; those of ops stand on the ops' pages."""
    for page in generate.names().values():
        for name, thing in page:
            text = (thing.__doc__ if isinstance(thing, Op) else inspect.getdoc(thing)) or ""
            assert len(text) > 8, name
            assert ">>>" in text or isinstance(thing, Op), name


CALLED_BY_OTHERS = {  # methods that no example has to call
    "forward",  # of a Module: the example of its class calls the module itself
    "pull",  # of an Op: the backward pass calls it
}


def test_each_method_has_a_docstring_and_an_example(generate: Any) -> None:
    """Its own example, or that of its class or of a base, calls it or writes it; properties have a docstring."""
    missing = []
    for page in generate.names().values():
        for name, thing in page:
            for method, member in vars(thing).items() if inspect.isclass(thing) else ():
                if method.startswith("_") or not (inspect.isroutine(member) or isinstance(member, PROPERTIES)):
                    continue
                text = inspect.getdoc(getattr(thing, method)) or ""
                assert len(text) > 8, f"{name}.{method} has no docstring"
                if isinstance(member, PROPERTIES) or method in CALLED_BY_OTHERS or ">>>" in text:
                    continue
                bases = thing.__mro__[:-1]
                texts = [inspect.getdoc(each) or "" for base in bases for each in (base, getattr(base, method, None))]
                if not re.search(rf"^(>>>|\.\.\.) .*(\.|def ){method}\b", "\n".join(texts), re.M):
                    missing.append(f"{name}.{method}")
    assert not missing, "each needs an example in its docstring, or a call in that of its class"


def test_the_methods_of_tensor_say_what_their_op_does() -> None:
    """Formula and gradient of the op, what is to say besides, and the example, which doctest finds in METHODS."""
    assert sm.Tensor.sum.__doc__.startswith(REGISTRY["sum"].__doc__)
    for name, (text, example) in METHODS.items():
        doc = getattr(sm.Tensor, name).__doc__
        assert text in doc
        assert doc.endswith(example), name


PLAIN = {"x", "axis", "keepdims", "a", "b", "args", "inputs"}  # what needs no word, or only catches errors
ELSEWHERE = re.compile(r"(parameters, |arguments\s+and\s+)errors", re.I)  # "are those of" another function


def test_each_docstring_names_every_parameter(generate: Any) -> None:
    """In prose or under Parameters; or it says whose parameters they are. Results, which users don't make, need not."""
    missing = []
    for page in generate.names().values():
        for name, thing in page:
            text = (inspect.getdoc(thing) or "").partition(">>>")[0]
            made_here = inspect.isclass(thing) and (issubclass(thing, (Exception, tuple)) or is_dataclass(thing))
            if isinstance(thing, Op) or made_here or ELSEWHERE.search(text):
                continue
            for parameter in inspect.signature(thing).parameters.values():
                known = parameter.name in PLAIN or re.search(rf"\b{parameter.name}\b", text)
                if parameter.kind is not parameter.VAR_KEYWORD and not known:
                    missing.append(f"{name}: {parameter.name}")
    assert not missing


def test_the_example_of_each_op_differentiates_and_prints(op_pages: Any) -> None:
    for members in op_pages.families().values():
        for op in members:
            called = hasattr(sm, op.name) or op.name in op_pages.op_examples.CALLS
            assert called, f"how {op.name} is called should stand in CALLS of docs/op_examples.py"
            code, printed = op_pages.op_examples.example(op)
            assert ".backward(" in code
            assert printed.strip(), op.name


def test_the_pages_of_the_ops_have_every_op_and_its_picture(op_pages: Any, tmp_path: Path) -> None:
    op_pages.ops(tmp_path)
    index = (tmp_path / "index.md").read_text(encoding="utf-8")
    for op in REGISTRY.values():
        if op.vjp is not None and op.home.startswith("tinygrad_sm.ops."):
            assert f"[{op.name}](" in index
            assert (tmp_path / f"{op.name}.svg").exists()
            assert (tmp_path / f"{op.name}-definition.svg").exists() == (op.definition is not None)
    for page in tmp_path.glob("*.md"):
        for picture in re.findall(r'src="([^"]+)"', page.read_text(encoding="utf-8")):
            assert (tmp_path / picture).exists()
