"""What the registry writes as the gradient of an op is its gradient: the formulas are evaluated beside the rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import formulas
import numpy as np
import pytest
from formulas import Term, read
from helpers import DIFFERENTIABLE, Case
from latex import as_formula

from tinygrad_sm.inspection.formula import FormulaError, as_text, clauses, parse
from tinygrad_sm.op import REGISTRY

# Formulas in words: these ops move numbers, and where to is what an index or a specification says.
IN_WORDS = {
    "getitem": "adds into the places of an index",
    "embedding": "adds into the rows of an index",
    "pad": "takes what is inside a border",
    "concatenate": "cuts g into parts",
    "rotary": "turns the halves of a vector",
    "einsum": "which indices are summed is an argument",
}
# Options of which the formula in the registry does not speak; `explain` writes them out, and test_explain.py checks it.
UNSPOKEN = {
    name: {"weight", "class_weight", "ignore_index", "label_smoothing", "reduction"}
    for name in ("cross_entropy", "soft_cross_entropy", "nll_loss", "linear_cross_entropy")
}


def spoken(case: Case) -> bool:
    """Tell whether the formula of the op speaks of this sample."""
    return case.op.name not in IN_WORDS and not UNSPOKEN.get(case.op.name, set()) & set(case.sample.kwargs)


# What differs from a formula and has the same value: 1/sign x is sign x, and a condition is no number.
EQUAL = {
    "abs": ["g/sign x (0 at 0)", "g·sign(2·x) (0 at 0)"],
    "where": ["g where 2·c"],
}
KINKED = {"abs", "clip", "max", "maximum", "min", "minimum", "relu"}  # evaluated at ties and corners too


CASES = [p for p in DIFFERENTIABLE if spoken(p.values[0])]


def both(case: Case, terms: list[tuple[str, Term]]) -> Iterator[tuple[Any, Any]]:
    """Yield the gradient by the formula, and by the rule, of each argument that has one."""
    args = case.arguments(seed=1)
    yield from _both(case, terms, args)
    if case.op.name in KINKED:
        yield from _both(case, terms, [np.round(a) if i in case.wanted else a for i, a in enumerate(args)])


def _both(case: Case, terms: list[tuple[str, Term]], args: list[Any]) -> Iterator[tuple[Any, Any]]:
    y = case(*args)
    g = np.random.default_rng(2).normal(size=np.shape(y))
    by_rule = iter(case.first(args, g))
    with np.errstate(all="ignore"):
        arrays = [np.asarray(a) if i in case.wanted else a for i, a in enumerate(args)]
        by_formula = formulas.gradients(case.op, case.sample, arrays, y, g, terms)
    for i, found in enumerate(by_formula):
        if i in case.wanted:
            yield found, next(by_rule)


def agree(case: Case, terms: list[tuple[str, Term]]) -> bool:
    try:
        return all(f is not None and np.allclose(f, r, rtol=1e-9, atol=1e-12) for f, r in both(case, terms))
    except (ValueError, IndexError, KeyError, TypeError):
        return False


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_formula_means_what_the_rule_computes(case: Case) -> None:
    pairs = list(both(case, read(case.op)))
    assert pairs
    for found, expected in pairs:
        assert found is not None, f"{case.op.name} has no formula for an argument"
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_the_latex_means_the_same(case: Case) -> None:
    """Read the LaTeX of the registry as a formula, and evaluate it beside the rule too."""
    own = [(name, parse(text)) for name, text in clauses(as_formula(case.op.latex[1]))]
    own += [(name, parse(text)) for name, text in clauses(as_formula(case.op.latex[0]))[1:] if name]
    terms = [(name, ("or 0", term) if case.op.gradient.endswith("(0 at 0)") else term) for name, term in own]
    assert agree(case, terms), terms


def test_the_lists_of_exceptions_are_not_stale() -> None:
    for name in IN_WORDS:
        with pytest.raises(FormulaError):
            read(REGISTRY[name])
    for name, options in UNSPOKEN.items():
        used = {option for sample in REGISTRY[name].samples for option in sample.kwargs}
        assert options & used
    covered = {p.values[0].op.name for p in CASES}
    assert covered | set(IN_WORDS) == {p.values[0].op.name for p in DIFFERENTIABLE}


# -- a wrong formula fails ------------------------------------------------------------------------


def changed(term: Term) -> Iterator[Term]:
    """Yield the formulas that differ from this one by a sign, a factor, an operation or an index."""
    kind = term[0]
    if kind in RELATIVE:
        yield from (rel for part in ([term] if kind == "rel" else term[1:]) for rel in _other_relations(part, term))
        return
    if term == ("num", "0"):
        return
    yield term[1] if kind == "neg" else ("neg", term)
    yield ("·", ("num", "2"), term)
    swaps = {"+": "−", "−": "+", "·": "/", "/": "·"}
    if kind in swaps:
        yield (swaps[kind], *term[1:])
    if kind == "ᵀ":
        yield term[1]
    for i, part in enumerate(term):
        if isinstance(part, tuple):
            for new in changed(part):
                if not (_even(term) and new == ("neg", part)):
                    yield (*term[:i], new, *term[i + 1 :])
        elif kind == "name" and i == 2 and part in ("ᵢ", "ⱼ"):
            yield (kind, term[1], "ⱼ" if part == "ᵢ" else "ᵢ")


RELATIVE = ("rel", "not")


def _other_relations(part: Term, term: Term) -> Iterator[Term]:
    """Yield a condition with each relation turned round, or without its "not"."""
    opposite = {"=": "≠", "≠": "=", "<": ">", ">": "<", "≤": "≥", "≥": "≤"}
    if term[0] == "not":
        yield part
    else:
        for i, sign in enumerate(term):
            if sign in opposite and i > 1:
                yield (*term[:i], opposite[sign], *term[i + 1 :])


def _even(term: Term) -> bool:
    """Tell whether a term stays as it is if what it holds changes its sign."""
    squared = term[0] == "^" and term[2] == ("num", "2")
    return squared or term[0] == "abs" or (term[0] == "call" and term[1] in ("cos", "φ", "var"))


def mutants(terms: list[tuple[str, Term]]) -> Iterator[tuple[str, list[tuple[str, Term]]]]:
    for n, (name, term) in enumerate(terms):
        for new in changed(term):
            yield f"{name} = {as_text(new)}".removeprefix(" = "), [*terms[:n], (name, new), *terms[n + 1 :]]


@pytest.mark.parametrize("name", sorted({p.values[0].op.name for p in CASES}))
def test_a_wrong_formula_fails(name: str) -> None:
    own = [p.values[0] for p in CASES if p.values[0].op.name == name and not p.marks[0].args[0]]
    if not own:
        pytest.skip("needs SciPy")
    alive = [text for text, terms in mutants(read(own[0].op)) if all(agree(case, terms) for case in own)]
    assert alive == EQUAL.get(name, []), "these wrong gradients pass: add samples, or to EQUAL what is the same"
