"""sm.explain: the steps are those of the engine, derivations have the numbers of the loss, text is harmless."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import formulas
import numpy as np
import pytest
from formulas import Scope
from helpers import DIFFERENTIABLE, NEEDS_SCIPY, leaf, normal

import tinygrad_sm as sm
import tinygrad_sm.functional as F
from tinygrad_sm import Graph, Tensor, nn
from tinygrad_sm.inspection.derive_loss import loss_texts, read_loss, softmax_rows
from tinygrad_sm.inspection.document import WIDTH
from tinygrad_sm.inspection.formula import clauses, parse
from tinygrad_sm.inspection.naming import short_names
from tinygrad_sm.inspection.op_card import find_op
from tinygrad_sm.inspection.op_notes import NOTES
from tinygrad_sm.inspection.steps import rule_of
from tinygrad_sm.op import REGISTRY
from tinygrad_sm.ops.loss import SAMPLE_OPTIONS, SAMPLE_TARGET


def named(name: str, data: Any) -> Tensor:
    return Tensor(np.array(data, float), requires_grad=True, name=name)


def squared_error() -> Tensor:
    w, b = named("w", 2.0), named("b", 1.0)
    err = w * Tensor(3.0, name="x") + b - Tensor(5.0, name="target")
    err.name = "err"
    return err * err


def mlp() -> Tensor:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    return F.cross_entropy(model(Tensor(normal(4, 2, dtype=np.float32), name="x")), [0, 1, 1, 0])


def attention(**options: Any) -> Tensor:
    q, k, v = (named(n, normal(2, 3, 4, seed=i)) for i, n in enumerate("qkv"))
    return (F.scaled_dot_product_attention(q, k, v, **options) * normal(2, 3, 4, seed=9)).sum()


def norms() -> Tensor:
    x, w, b = named("x", normal(3, 4)), named("w", normal(4, seed=1)), named("b", normal(4, seed=2))
    return (F.rms_norm(F.layer_norm(x, 4, w, b), 4, w) ** 2).mean()


def activations() -> Tensor:
    x = named("x", normal(2, 3))
    y = F.gelu(x) * F.silu(x) + F.sigmoid(x) / (1 + x.exp()) - (x * x + 1).sqrt() + F.relu(x) ** 3
    return (y.std(axis=1) + F.softmax(x, temperature=2.0).max(axis=1) + F.logsumexp(x)).prod()


LOSSES = [squared_error, mlp, attention, lambda: attention(is_causal=True), norms, activations]


# -- the steps ------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", LOSSES)
def test_formulas_in_the_names_of_the_graph_give_the_shares_of_the_engine(make: Any) -> None:
    """Evaluate each formula that a step prints, with what its names stand for in the graph."""
    graph = Graph(make())
    names = short_names(graph, graph)
    assert len(set(names.values())) == len(graph)
    values: dict[str, Any] = {names[node.id]: node.value.astype(float) for node in graph}
    values |= {f"d{names[node.id]}": node.grad.astype(float) for node in graph if node.grad is not None}
    checked = 0
    for node in graph.backward_order():
        if node.op is None or node.op == "cross_entropy":
            continue
        rule = rule_of(graph, node, names)
        first = graph[graph.edges_into(node)[0].source]
        last = node.op in ("softmax", "layer_norm", "rms_norm", "logsumexp")
        axis = -1 if last else node.constants.get("axis")
        axes = tuple(range(first.value.ndim)) if axis is None else (axis,)
        inner = dict(rule.defined)
        inner["mask"] = formulas.additive_mask(3, 3, {"causal": node.constants.get("causal", False)})
        scope = {**values, **inner}
        if node.op in formulas.REDUCTIONS:
            for key in (names[node.id], f"d{names[node.id]}"):
                scope[key] = formulas._kept(values[key], first.shape, axes, REGISTRY[node.op])
        indexed = node.op in ("softmax", "prod")
        scope["classes"] = first.shape[-1] if first.shape else 1
        for edge in graph.edges_into(node):
            if edge.share is None:
                continue
            term, _ = rule.backward[edge.position]
            if node.op == "transpose" and isinstance(term, str):  # axes in another order have no formula
                continue
            assert isinstance(term, tuple)
            found = formulas.evaluate(term, Scope(scope, axes, "ᵀ" in node.gradient, indexed))
            found = found[..., 0] if indexed and np.ndim(found) > len(edge.share.shape) else found
            close = formulas.summed_to(found, edge.share.shape)
            np.testing.assert_allclose(close, edge.share, rtol=1e-5, atol=1e-6, err_msg=f"{node.op}: {term}")
            checked += 1
    assert checked >= 4


def test_each_step_of_a_small_graph_stands_in_the_order_of_the_engine() -> None:
    loss = squared_error()
    text = str(sm.explain(loss))
    ops = [node.op for node in Graph(loss).backward_order() if node.op is not None]
    assert re.findall(r"^Step \d+: (\w+),", text, re.M) == ops == ["mul", "sub", "add", "mul"]
    assert "goes out    dw = dt1·x = 4·3 = 12" in text
    assert "sum         derr = 2 + 2 = 4" in text


def test_ops_of_many_arguments_and_indices_are_written_with_their_names() -> None:
    a, b = named("a", [[1.0, 2.0]]), named("b", [[3.0, 4.0]])
    joined = sm.concatenate([a, b], axis=0)
    text = str(sm.explain((sm.einsum("ij,kj->ik", joined, a) * joined[[0, 0, 1], [0, 1, 1]][:2]).sum()))
    assert "= [a, b] joined along axis 0" in text
    assert "= einsum ij,kj->ik of t1, a" in text
    assert "t1[[0, 0, 1], [0, 1, 1]]" in text
    assert re.search(r"db = dt1 cut into the parts = ", text)


@pytest.mark.parametrize("case", DIFFERENTIABLE)
def test_every_op_can_stand_in_a_graph(case: Any) -> None:
    inputs, _ = case.boxed(case.arguments(seed=1))
    y = case(*inputs)
    explanation = sm.explain(y.sum() if y.shape else y)
    assert f"{case.op.name}, " in str(explanation)
    assert all(map(balanced, re.findall(r"\$\$\n(.*?)\n\$\$", explanation.markdown(), re.S)))


def test_no_gradient_is_touched() -> None:
    x = named("x", [1.0, 2.0])
    sm.explain((x * x).sum())
    assert x.grad is None


def test_variables_and_lines_are_named_under_record() -> None:
    w = named("w", 2.0)
    with sm.record():
        half = w * 0.5
        out = half.exp()
    text = str(sm.explain(out))
    assert "half = w·0.5" in text
    assert "test_explain.py" in text
    assert str(Path(__file__).parent) not in text


def test_leaves_get_the_sum_of_their_paths() -> None:
    x = named("x", [1.0, 2.0])
    text = str(sm.explain((x * x + x.exp() * 3).sum()))
    assert "x gets 3 contributions" in text
    assert "sum         dx = (1) + (2) + (3) = [10.15  26.17]" in text


def test_a_stretched_argument_says_that_its_gradient_is_summed() -> None:
    x, b = named("x", np.ones((2, 3))), named("b", [1.0, 2.0, 3.0])
    text = str(sm.explain((x + b).sum()))
    assert "db = Σ dt (over the axes along which it was stretched) = [2  2  2]" in text


def test_a_graph_that_starts_from_a_gradient() -> None:
    x = named("x", [1.0, 2.0])
    text = str(sm.explain(Graph(x * x, np.array([1.0, 10.0]))))
    assert "dt = [ 1  10]" in text
    assert "dx = (1) + (2) = [ 2  40]" in text


def test_numbers_are_shown_as_far_as_is_asked_for() -> None:
    z = named("z", normal(6, 6))
    loss = (z * z).sum()
    assert "float64 (6, 6), RMS" in str(sm.explain(loss))
    assert "float64" not in str(sm.explain(loss, numbers=36))
    bare = str(sm.explain(loss, numbers=False))
    assert "dz += dt·z" in bare
    assert "RMS" not in bare.partition("The gradients of the leaves")[0]


# -- losses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("options", SAMPLE_OPTIONS)
def test_the_derivation_has_the_gradient_for_all_options(options: dict[str, Any], smoothing: float) -> None:
    z = named("z", normal(3, 4))
    loss = F.cross_entropy(z, SAMPLE_TARGET, label_smoothing=smoothing, **options)
    g = np.array([1.0, -2.0, 3.0]) if loss.shape else None
    graph = Graph(loss, g)
    node = graph.roots[0]
    read = read_loss(graph, node)
    z_rows, q = (np.stack([row(n) for n in range(3)]) for row in (read.logits, read.compared))
    p, scale = softmax_rows(z_rows), read.divisor
    total = q.sum(axis=1, keepdims=True)
    values = {"p": p, "q": q, "Q": total, "D": scale, "N": scale, "g": node.grad if g is None else g[:, None],
              "z": z_rows, "y": np.eye(4)[read.y], "classes": 4}  # fmt: skip
    formula, gradient = loss_texts(graph, node)
    found = formulas.evaluate(parse(clauses(gradient)[0][1]), Scope(values, (-1,), False, False))
    np.testing.assert_allclose(found, graph.find("z")[0].grad, rtol=1e-12, atol=1e-15)
    if not read.plain:
        body = formulas.evaluate(parse("−Σⱼ qⱼ·log pⱼ"), Scope(values, (-1,), False, False))[:, 0]
        value = body if loss.shape else body.sum() / scale
        np.testing.assert_allclose(value, loss.data, rtol=1e-12)
        assert formula.startswith("−(")
    rule = rule_of(graph, node, short_names(graph, graph))
    name, term = next((n, t) for n, t in rule.defined if n in ("y", "q"))
    given = {"target": np.array(SAMPLE_TARGET)[:, None], "w": read.weight, "classes": 4}
    compared = formulas.evaluate(term, Scope(given, (-1,), False, False))  # what p is compared with, as the step says
    np.testing.assert_allclose(compared, values["q"], atol=1e-15, err_msg=name)
    text = str(sm.explain(graph))
    gap = float(re.search(r"The engine has the same row, up to ([\d.e-]+)\.", text)[1])  # type: ignore[index]
    assert gap < 1e-15


@pytest.mark.parametrize("weight", [None, [1.0, 0.5, 2.0, 0.0]])
def test_the_derivation_of_probabilities(weight: Any) -> None:
    q = np.array([[0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 1.0, 0.0]])
    text = str(sm.explain(F.cross_entropy(named("z", normal(2, 4)), q, weight=weight, label_smoothing=0.2)))
    assert "whose target is the row t of probabilities" in text
    assert float(re.search(r"up to ([\d.e-]+)\.", text)[1]) < 1e-15  # type: ignore[index]


def test_cross_entropy_is_derived_for_the_true_class_and_for_the_others() -> None:
    text = str(sm.explain(F.cross_entropy(named("z", [[2.0, 1.0, 0.0]]), [0])))
    for line in ("i = y       ∂ℓ/∂zᵢ = pᵢ − 1", "i ≠ y       ∂ℓ/∂zᵢ = pᵢ − 0 = pᵢ", "together    ∂ℓ/∂z = p − y",
                 "gradient    p − y = [-0.3348   0.2447  0.09003]"):  # fmt: skip
        assert line in text


def test_log_softmax_and_nll_loss_become_p_minus_y() -> None:
    text = str(sm.explain(F.nll_loss(F.log_softmax(named("z", normal(2, 3))), [0, 1])))
    assert "which is p − y, the gradient of cross-entropy" in text
    assert "−[i = y]/2 + pᵢ/2 = (pᵢ − [i = y])/2" in text


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"scale": 1.0}, {"mask": np.tri(3, dtype=bool)}])
def test_attention_has_its_five_gradients(options: dict[str, Any]) -> None:
    loss = attention(**options)
    text = str(sm.explain(loss))
    graph = Graph(loss)
    for name in ("dv = pᵀ·g", "dp = g·vᵀ", "ds = p∘(dp − Σⱼ p∘dp)", "·ds·k" if "scale" not in options else "ds·k"):
        assert name in text
    first = graph.find("v")[0].grad[0]
    assert f"{first[0, 0]:.4g}" in text  # of the first head


def test_layer_norm_has_its_three_terms() -> None:
    x = named("x", [[1.0, 2.0, 6.0]])
    text = str(sm.explain((F.layer_norm(x, 3) * np.array([1.0, 0.0, 0.0])).sum()))
    assert "∂x̂ᵢ/∂xⱼ = ([i = j] − 1/n − x̂ᵢ·x̂ⱼ/n)/σ" in text
    row = Graph((F.layer_norm(x, 3) * np.array([1.0, 0.0, 0.0])).sum()).find("x")[0].grad[0]
    together = next(line for line in text.splitlines() if line.startswith("  together"))
    assert [f"{v:.4g}" for v in row] == together.partition("[")[2].rstrip("]").split()


# -- large graphs ---------------------------------------------------------------------------------


def language_model(layers: int = 4) -> Tensor:
    model = nn.TransformerLM(11, d_model=8, n_heads=2, n_layers=layers, context=6)
    tokens = np.random.default_rng(0).integers(0, 11, (2, 7))
    return F.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:])


def test_a_large_graph_is_written_by_module() -> None:
    loss = language_model()
    text = str(sm.explain(loss))
    assert "blocks.0 to 3 (TransformerBlock, 4 equal ones" in text
    assert 'look inside sm.explain(loss, expand="blocks.3")' in text
    assert len(re.findall(r"^Step", text, re.M)) < 12
    sizes = next(line for line in text.splitlines() if line.startswith("  each"))
    assert len(sizes.split(",")) - 1 == 4
    inside = str(sm.explain(loss, expand="blocks.3"))
    assert "blocks.3.attn (MultiHeadAttention" in inside
    assert "o4 = p·v4" in str(sm.explain(loss, expand=["blocks.*", "attn"]))
    assert len(re.findall(r"^Step", str(sm.explain(loss, depth=1)), re.M)) == 2


def test_sizes_of_a_module_are_those_of_the_gradients() -> None:
    graph = Graph(language_model(2))
    text = str(sm.explain(graph, expand="blocks.1"))
    weight = next(n for n in graph if n.name == "blocks.1.ln2.weight")
    section = text.partition("blocks.1.ln2")[2]
    size = np.sqrt((weight.grad.astype(float) ** 2).mean())  # type: ignore[union-attr]
    assert f"weight {size:.4g}" in section


def test_a_fused_op_opens_into_its_definition() -> None:
    loss = F.cross_entropy(named("z", normal(2, 3)), [0, 1])
    text = str(sm.explain(loss, expand=["cross_entropy", "log_softmax"]))
    assert re.findall(r"^Step \d+: (\w+)", text, re.M) == ["nll_loss", "sub", "log", "sum", "exp", "sub"]


def test_a_large_graph_without_modules() -> None:
    x = named("x", [0.5])
    y = x
    for _ in range(60):
        y = (y * 1.01).tanh()
    text = str(sm.explain(y.sum()))
    assert len(text.splitlines()) < 40
    assert "comes in    dloss = 1\n" in text
    assert f"dx: (1,), RMS {Graph(y.sum()).find('x')[0].grad.item():.4g}" in text


# -- cards ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_op_has_a_card(name: str) -> None:
    if name in NEEDS_SCIPY:
        pytest.importorskip("scipy")
    op = REGISTRY[name]
    text = str(sm.explain(name))
    assert text.startswith(f"The op {name}\n")
    if op.vjp is None:
        assert "piecewise constant" in text
    else:
        assert "backward" in text
        assert "A small example" in text
    assert "/" not in "".join(re.findall(r"(?:forward|backward): (/\S*)", text))


def test_notes_are_of_ops_that_there_are() -> None:
    assert set(NOTES) <= set(REGISTRY)


def test_the_example_of_a_card_is_computed() -> None:
    text = str(sm.explain(F.softmax))
    j = sm.jacobian(F.softmax, np.array([1.0, 2.0, 3.0])).data
    for row in j:
        assert "  ".join(f"{v:.4g}".rjust(8) for v in row) in text
    p = F.softmax(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(j, np.diag(p) - np.outer(p, p))


def test_sources_lead_to_the_function() -> None:
    text = str(sm.explain("softmax"))
    root = Path(sm.__file__).parents[1]
    for kind, name in (("forward", "_softmax_forward"), ("backward", "_softmax_vjp")):
        file, line = re.search(rf"{kind}: (\S+):(\d+)", text).groups()  # type: ignore[union-attr]
        assert f"def {name}(" in (root / file).read_text(encoding="utf-8").splitlines()[int(line) - 1]


@pytest.mark.parametrize(
    ("what", "name"),
    [(F.softmax, "softmax"), ("attention", "attention"), (F.scaled_dot_product_attention, "attention"), (np.exp, "exp"),
     (np.sum, "sum"), (sm.exp, "exp"), (sm.mean, "mean"), (Tensor.relu, "relu"), (F.linear, "linear")],
)  # fmt: skip
def test_an_op_is_found_by_name_and_by_function(what: Any, name: str) -> None:
    assert find_op(what).name == name


def test_an_op_of_ones_own(registry: Any) -> None:
    cube = sm.Op(lambda x: x**3, (lambda g, y, x: g * 3 * x**2,), name="cube", formula="x³", gradient="g·3x²")
    text = str(sm.explain(cube))
    assert "dx = g·3x²" in text
    assert "test_explain.py:" in text
    assert str(Path(__file__).parent) not in text
    x = named("x", 2.0)
    assert "dx = dloss·3x² = 1·3·2² = 12" in str(sm.explain(cube(x)))
    words = sm.Op(lambda x: x + 0, (lambda g, y, x: g,), name="odd", formula="x, as it were", gradient="just g")
    assert "dx = just dloss" in str(sm.explain(words(x)))
    bare = sm.Op(lambda x: x + 0, (lambda g, y, x: g,), name="bare")
    assert "bare" in str(sm.explain(bare(x)))
    assert "bare" in str(sm.explain(bare))


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "kind", "message"),
    [
        (np.ones(3), TypeError, "explain: an array does not know what made it"),
        (nn.Linear(2, 2), TypeError, r"explain: a Linear is explained by a loss made with it: explain\(loss\)"),
        (nn.Linear, TypeError, "explain: a Linear is explained by a loss"),
        ("sofmax", ValueError, "there is no op 'sofmax'; did you mean 'softmax'"),
        ("\x1b[31m", ValueError, r"there is no op '\\\\x1b\[31m'; sm.op.REGISTRY lists all"),
        (F.mse_loss, ValueError, "mse_loss is made of sub, square and mean"),
        (Tensor([1.0], requires_grad=True), ValueError, r"nothing made this tensor of shape \(1,\)"),
        (3.0, TypeError, "explain takes a Tensor, a Graph, an op, its name or its function, not a float"),
        ([], ValueError, "the sequence holds no tensor"),
        ([1.0], TypeError, "explain: the sequence must hold Tensors, not a float"),
        (Tensor([1.0, 2.0], requires_grad=True) * 2, ValueError, r"no gradient to start from at .* shape \(2,\)"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(what: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind, match=message):
        sm.explain(what)


def test_a_tensor_made_without_recording_says_so() -> None:
    with sm.no_grad():
        y = leaf([1.0]) * 2
    with pytest.raises(ValueError, match=r"computed under sm\.no_grad"):
        sm.explain(y)


def test_options_that_mean_nothing_here() -> None:
    loss = squared_error()
    with pytest.raises(ValueError, match=r"explain: .*'blocks'"):
        sm.explain(loss, expand="blocks")
    with pytest.raises(ValueError, match="depth"):
        sm.explain(loss, depth=0)
    with pytest.raises((TypeError, ValueError), match="numbers"):
        sm.explain(loss, numbers="all")  # type: ignore[arg-type]


# -- writing --------------------------------------------------------------------------------------

EVERYTHING = [*LOSSES, language_model, lambda: F.cross_entropy(named("z", normal(3, 9)), [0, 1, 2])]


@pytest.mark.parametrize("make", EVERYTHING)
def test_text_fits_a_terminal(make: Any) -> None:
    for line in str(sm.explain(make())).splitlines():
        assert len(line) <= WIDTH + 5, line
        assert line.isprintable() or not line


def balanced(latex: str) -> bool:
    depth = 0
    for c in re.sub(r"\\[{}]", "", latex):
        depth += (c == "{") - (c == "}")
        if depth < 0:
            return False
    return depth == 0


@pytest.mark.parametrize("make", EVERYTHING)
def test_latex_is_balanced(make: Any) -> None:
    explanation = sm.explain(make())
    pieces = re.findall(r"\$\$\n(.*?)\n\$\$", explanation.markdown(), re.S)
    assert pieces
    assert all(map(balanced, pieces))
    assert balanced(explanation.latex())
    for piece in pieces:
        outside = re.sub(r"\\text\{[^{}]*\}", "", piece)
        assert outside.isascii(), outside


HOSTILE = [r"\end{document}$$<script>alert(1)</script>`|*_#", "a\x1b[31m\u202eb\n# x", "]]>&amp;", "x" * 500]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_harmless(name: str, tmp_path: Path) -> None:
    x, y = named(name, [1.0, 2.0]), named("y", [1.0, 1.0])
    h = x * y
    h.name = name
    explanation = sm.explain((h * h).sum())
    assert all(line.isprintable() for line in str(explanation).splitlines() if line)
    page = explanation.html()
    assert "<script" not in page
    assert "\x1b" not in page
    markdown = explanation.markdown()
    assert "<script" not in re.sub(r"`[^`]*`", "", markdown)
    assert all(map(balanced, re.findall(r"\$\$\n(.*?)\n\$\$", markdown, re.S)))
    assert r"\end{document}" not in explanation.latex()
    explanation.save(tmp_path / "x.tex")
    assert (tmp_path / "x.tex").read_text(encoding="utf-8").count(r"\end{document}") == 1


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_modules_are_harmless(name: str) -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            self.w = Tensor(np.ones(2), requires_grad=True)

        def forward(self, x: Any) -> Any:
            for _ in range(40):
                x = x * self.w
            return x

    class Outer(nn.Module):
        def __init__(self) -> None:
            self.parts = {name: Inner()}

        def forward(self, x: Any) -> Any:
            return self.parts[name](x)

    explanation = sm.explain(Outer()(Tensor([1.0, 2.0])).sum())
    assert all(line.isprintable() for line in str(explanation).splitlines() if line)
    assert "<script" not in explanation.html()
    assert balanced(explanation.latex())
    assert all(map(balanced, re.findall(r"\$\$\n(.*?)\n\$\$", explanation.markdown(), re.S)))


def test_files(tmp_path: Path) -> None:
    explanation = sm.explain(F.cross_entropy(named("z", [[2.0, 1.0, 0.0]]), [0]))
    for ending in ("txt", "md", "html", "tex"):
        path = explanation.save(tmp_path / f"x.{ending}")
        text = path.read_text(encoding="utf-8")
        assert "cross_entropy" in text or r"cross\_entropy" in text
    assert (tmp_path / "x.txt").read_text(encoding="utf-8") == f"{explanation}\n"
    assert (tmp_path / "x.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert "http" not in (tmp_path / "x.html").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match=r"must end in one of .txt, .md, .html, .tex; got 'x.doc'"):
        explanation.save(tmp_path / "x.doc")


def test_a_notebook_gets_markdown() -> None:
    explanation = sm.explain(squared_error())
    assert explanation._repr_markdown_() == explanation.markdown()
    assert not hasattr(explanation, "_repr_html_")
    assert r"\bar{w} = \overline{t_{1}}\,x = 4 \cdot 3 = 12" in explanation.markdown()
    assert repr(explanation) == str(explanation)


def test_a_model_inside_of_others_is_opened_as_far_as_it_tells_something() -> None:
    class Wrap(sm.nn.Module):
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def forward(self, x: Any) -> Any:
            return self.inner(x)

    rng = np.random.default_rng(0)
    blocks = sm.nn.Sequential(*(sm.nn.TransformerBlock(8, 2, rng=rng) for _ in range(8)))
    x = rng.normal(size=(1, 3, 8)).astype(np.float32)
    plain = str(sm.explain((blocks(x) ** 2).sum()))
    wrapped = str(sm.explain((Wrap(Wrap(Wrap(Wrap(blocks))))(x) ** 2).sum()))
    assert "7 equal ones" in plain
    assert "7 equal ones" in wrapped
    assert wrapped.count("\nStep ") == plain.count("\nStep ")
    assert str(sm.explain((Wrap(Wrap(blocks))(x) ** 2).sum(), depth=1)).count("\nStep ") < plain.count("\nStep ")
