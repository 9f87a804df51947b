"""Bad input to layers, modules, optimisers, schedules, batching and draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from row import Row

import tinygrad_sm as sm
from tinygrad_sm import Tensor, data, nn, optim

V, K, I = ValueError, TypeError, IndexError  # noqa: E741


def ones(*shape: int) -> Tensor:
    return Tensor(np.ones(shape, np.float32), requires_grad=True)


def lm(**options: Any) -> nn.TransformerLM:
    return nn.TransformerLM(**{"vocab_size": 11, "d_model": 8, "n_heads": 2, "n_layers": 1, "context": 5, **options})


def sgd() -> optim.SGD:
    return optim.SGD([ones(3)], lr=0.1)


def bag(**members: Any) -> nn.Module:
    module = nn.Module()
    for name, value in members.items():
        setattr(module, name, value)
    return module


def step_after_new_data() -> None:
    p = ones(3)
    optimizer = optim.SGD([p], lr=0.1)
    p.grad = Tensor(np.ones(3, np.float32))
    p.data = np.ones(4, np.float32)
    optimizer.step()


def step_with_old_buffers() -> None:
    p = ones(3)
    optimizer = optim.Adam([p])
    p.grad = Tensor(np.ones(3, np.float32))
    optimizer.step()
    p.grad, p.data = None, np.ones(1, np.float32)
    p.grad = Tensor(np.ones(1, np.float32))
    optimizer.step()


def in_place_on_data() -> None:
    p = ones(3)
    p.data -= 0.1 * Tensor(np.ones(3, np.float32))


def twice() -> optim.SGD:
    p = ones(2)
    return optim.SGD([p, p])


def filled() -> Any:
    layer = nn.Linear(2, 1)
    layer(ones(1, 2)).sum().backward()
    return sm.gradient_flow(layer)


LINEAR = nn.Linear(4, 3)
MLP = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(4, 2))
WEIGHTS = {"weight": np.ones((3, 4)), "bias": np.ones(3)}

LAYERS = [
    Row("Linear, width", lambda: LINEAR(ones(2, 3)), V, r"^Linear\(4, 3\) takes x of shape \(…, 4\), not \(2, 3\)"),
    Row("Linear in a model", lambda: MLP(ones(5, 4)), V, r"^layers\.2: Linear takes x of shape \(…, 4\), not \(5, 3\)"),
    Row("Linear of a scalar", lambda: LINEAR(ones()), V, r"^Linear\(4, 3\) takes .* not \(\)"),
    Row("Linear, no bias", lambda: nn.Linear(4, 3, bias="no"), K, "^Linear: bias must be True or False, not 'no'"),
    Row("Linear, negative", lambda: nn.Linear(-1, 3), V, "^Linear: in_features must be at least 0, not -1"),
    Row("Linear, float", lambda: nn.Linear(4, 3.0), K, "^Linear: out_features must be an integer, not 3.0"),
    Row("Linear of None", lambda: LINEAR(None), K, "real numbers or bools, not dtype object"),
    Row("Linear of a list of tensors", lambda: LINEAR([ones(4)]), K, r"sm\.stack or sm\.concatenate"),
    Row("Embedding, floats", lambda: nn.Embedding(4, 3)([0.5]), K, "^embedding: indices must be integers, not float"),
    Row("Embedding, one-hot", lambda: nn.Embedding(4, 3)(np.eye(4)), K, "^embedding: indices must be integers"),
    Row("Embedding, range", lambda: nn.Embedding(4, 3)([0, 4]), I, "^embedding: index 4 is not in 0 … 3"),
    Row("Embedding, negative", lambda: nn.Embedding(4, 3)([-1]), I, "^embedding: index -1 is not in 0 … 3"),
    Row("Embedding, size", lambda: nn.Embedding(4.0, 3), K, "^Embedding: num_embeddings must be an integer, not 4.0"),
    Row("Embedding, width", lambda: nn.Embedding(4, -3), V, "^Embedding: embedding_dim must be at least 0, not -3"),
    Row("LayerNorm", lambda: nn.LayerNorm(4)(ones(2, 3)), V, r"normalized_shape \(4,\) .* \(2, 3\) ends"),
    Row("LayerNorm, float", lambda: nn.LayerNorm(4.0), K, "^LayerNorm: normalized_shape must be an integer, not 4.0"),
    Row("LayerNorm, negative", lambda: nn.LayerNorm(-4), V, "^LayerNorm: normalized_shape must be at least 1, not -4"),
    Row("LayerNorm, eps", lambda: nn.LayerNorm(4, eps=-1.0), V, r"^LayerNorm: eps must be in \[0, inf\), not -1.0"),
    Row("LayerNorm, bias as eps", lambda: nn.LayerNorm(4, False), K, "^LayerNorm: eps must be one number, not False"),
    Row("RMSNorm", lambda: nn.RMSNorm((2, 4))(ones(2, 3)), V, r"normalized_shape \(2, 4\) .* \(2, 3\) ends"),
    Row("RMSNorm, eps", lambda: nn.RMSNorm(4, eps=np.nan), V, r"^RMSNorm: eps must be in \[0, inf\), not nan"),
    Row("Dropout, one", lambda: nn.Dropout(1.0), V, r"^Dropout: p must be in \[0, 1\), not 1.0"),
    Row("Dropout, NaN", lambda: nn.Dropout(np.nan), V, r"^Dropout: p must be in \[0, 1\), not nan"),
    Row("Dropout, negative", lambda: nn.Dropout(-1), V, r"^Dropout: p must be in \[0, 1\), not -1"),
    Row("Dropout, text", lambda: nn.Dropout("a"), K, "^Dropout: p must be one number, not 'a'"),
    Row("Sequential, class", lambda: nn.Sequential(LINEAR, nn.ReLU), K, r"layer 1 is the class ReLU; .*ReLU\(…\)"),
    Row("Sequential, list", lambda: nn.Sequential([LINEAR]), K, r"layer 0 is a list.*Sequential\(\*layers\)"),
    Row("Sequential, None", lambda: nn.Sequential(None), K, "layer 0 is a NoneType, not a layer or a function"),
    Row("Sequential, index", lambda: MLP[3], I, "index out of range"),
    Row("nn.ReLU(x)", lambda: nn.ReLU(ones(2)), K, r"^ReLU takes no options, and no tensors: .*ReLU\(\)\(x\)"),
    Row("nn.GELU(x)", lambda: nn.GELU(ones(2)), K, r"^GELU takes options, not tensors: .*GELU\(\)\(x\)"),
    Row("nn.Softmax(x)", lambda: nn.Softmax(ones(2)), K, r"^Softmax takes options, not tensors"),
    Row("nn.LogSoftmax(x)", lambda: nn.LogSoftmax(np.ones(2)), K, r"^LogSoftmax takes options, not tensors"),
    Row("nn.CrossEntropyLoss(z, y)", lambda: nn.CrossEntropyLoss(ones(2, 3), [1, 2]), K,
        r"^CrossEntropyLoss takes options, not tensors: .*CrossEntropyLoss\(\)\(logits, target\)"),
    Row("nn.NLLLoss(z, y)", lambda: nn.NLLLoss(ones(2, 3), [1, 2]), K, r"^NLLLoss takes options, not tensors"),
    Row("nn.MSELoss(x)", lambda: nn.MSELoss(ones(2)), K, "^MSELoss takes options, not tensors"),
    Row("CrossEntropyLoss, option", lambda: nn.CrossEntropyLoss(reductoin="sum"), K,
        "^CrossEntropyLoss: there is no argument .reductoin.; it takes .*reduction"),
    Row("NLLLoss, option", lambda: nn.NLLLoss(label_smoothing=0.1), K, "^NLLLoss: .*no argument .label_smoothing."),
    Row("NLLLoss, positional option", lambda: nn.NLLLoss("sum"), K, "^NLLLoss: options have names"),
    Row("MSELoss, reduction", lambda: nn.MSELoss("avg"), V, "^MSELoss: reduction must be .* not 'avg'"),
    Row("TransformerLM, layers", lambda: lm(n_layers=-1), V, "^TransformerLM: n_layers must be at least 0, not -1"),
    Row("TransformerLM, context", lambda: lm(context=0), V, "^TransformerLM: context must be at least 1, not 0"),
    Row("TransformerLM, vocabulary", lambda: lm(vocab_size=2.0), K, "^TransformerLM: vocab_size must be an integer"),
    Row("TransformerLM, dropout", lambda: lm(dropout=1.0), V, r"dropout|p must be in \[0, 1\), not 1.0"),
    Row("TransformerLM, too long", lambda: lm()(np.zeros((1, 6), int)), V, r"^TransformerLM: .*time ≤ 5\), not \(1,"),
    Row("TransformerLM, one axis", lambda: lm()([1, 2]), V, r"^TransformerLM: tokens must be \(batch, .* not \(2,\)"),
    Row("TransformerLM, token", lambda: lm()([[11]]), I, "^embedding: index 11 is not in 0 … 10"),
    Row("TransformerLM, floats", lambda: lm()(np.zeros((1, 2))), K, "^embedding: indices must be integers"),
    Row("TransformerBlock, d_ff", lambda: nn.TransformerBlock(8, 2, d_ff=-1), V, "^TransformerBlock: d_ff must be"),
    Row("generate, negative", lambda: lm().generate([1], -1), V, "^generate: max_new_tokens must be at least 0"),
    Row("generate, float", lambda: lm().generate([1], 2.5), K, "^generate: max_new_tokens must be an integer, not 2.5"),
    Row("generate, text", lambda: lm().generate("hi", 2), V, "^generate: the prompt must be integers"),
    Row("generate, nothing", lambda: lm().generate([], 2), V, "^generate: the prompt must be integers"),
    Row("generate, temperature", lambda: lm().generate([1], 2, temperature=-1), V, "^generate: temperature .* not -1"),
    Row("generate, top_k", lambda: lm().generate([1], 2, top_k=0), V, "^generate: top_k must be 1 or more, not 0"),
]  # fmt: skip

MODULES = [
    Row("Module(parameter)", lambda: nn.Module(ones(2)), K, "^Module takes no options"),
    Row("no forward", lambda: nn.Module()(ones(2)), K, "^Module has no forward method"),
    Row("a class, not a module", lambda: nn.Linear.eval(), K, "missing 1 required positional argument: 'self'"),
    Row("train, text", lambda: LINEAR.train("yes"), K, "^train: mode must be True or False, not 'yes'"),
    Row("load, path", lambda: LINEAR.load_state_dict("a.npz"), K, r"^Linear.*dict of arrays.*str; .*sm\.load\(path\)"),
    Row("load, module", lambda: LINEAR.load_state_dict(LINEAR), K, r"^Linear.*not a Linear; pass its \.state_dict\(\)"),
    Row("load, None", lambda: LINEAR.load_state_dict(None), K, "^Linear.*dict of arrays by name, not a NoneType"),
    Row("load, list", lambda: LINEAR.load_state_dict([1]), K, "^Linear.*dict of arrays by name, not a list"),
    Row("load, names", lambda: LINEAR.load_state_dict({"w": 1}), V, "(?s)^Linear.*missing: weight.*unexpected: w"),
    Row("load, shape", lambda: LINEAR.load_state_dict({**WEIGHTS, "bias": np.ones(4)}), V, r"bias: .*\(3,\).*\(4,\)"),
    Row("load, ragged", lambda: LINEAR.load_state_dict({**WEIGHTS, "bias": [[1], [1, 2]]}), V, "bias is no array"),
    Row("load, text", lambda: LINEAR.load_state_dict({**WEIGHTS, "bias": ["a"] * 3}), K, "bias must be numbers"),
    Row("two equal paths", lambda: bag(a={"b.c": ones(1), "b": {"c": ones(2)}}).state_dict(), V, "the path 'a.b.c'"),
    Row("two equal keys", lambda: bag(a={1: ones(1), "1": ones(2)}).state_dict(), V, "^Module: two .* the path 'a.1'"),
    Row("load, two equal paths", lambda: bag(a={1: ones(1), "1": ones(2)}).load_state_dict({"a.1": np.ones(2)}), V,
        "the path 'a.1'"),
]  # fmt: skip


def group_of(name: str, make: Callable[..., Any]) -> list[Row]:
    """Return the rows that hold for every optimiser, and for clip_grad_norm_."""
    return [
        Row(f"{name}(model)", lambda: make(LINEAR), K, rf"^{name} takes .*not a Linear: .*model\.parameters\(\)"),
        Row(f"{name}(sequential)", lambda: make(MLP), K, rf"^{name} takes parameters, not a Sequential"),
        Row(f"{name}, method", lambda: make(LINEAR.parameters), K, rf"^{name}: .* call it: model\.parameters\(\)"),
        Row(f"{name}, tensor", lambda: None if name == "clip_grad_norm_" else make(ones(2)), K,
            rf"^{name} takes a list of parameters, such as \[w, b\], not a Tensor"),
        Row(f"{name}, array", lambda: make([np.ones(2)]), K, rf"^{name}.*Tensor"),
        Row(f"{name}, None", lambda: make(None), K, rf"^{name} takes a list of parameters.*not a NoneType"),
        Row(f"{name}, names", lambda: make(LINEAR.named_parameters()), K, rf"^{name}.*'weight'"),
        Row(f"{name}, state", lambda: make(LINEAR.state_dict()), K, rf"^{name} takes a list .* not a dict"),
    ]  # fmt: skip


OPTIMISERS = [
    *group_of("SGD", optim.SGD),
    *group_of("AdamW", optim.AdamW),
    *[r for r in group_of("clip_grad_norm_", lambda p: optim.clip_grad_norm_(p, 1.0)) if "tensor" not in r.name],
    Row("SGD, nothing", lambda: optim.SGD([]), V, "^SGD: no parameters given"),
    Row("SGD, twice", twice, V, r"^SGD: a parameter \(shape \(2,\)\) is given twice"),
    Row("SGD, inner tensor", lambda: optim.SGD([ones(2) * 2]), K, "^SGD: .* is not a leaf Tensor"),
    Row("SGD, nothing to move", lambda: optim.SGD([Tensor([1.0])]), V, "^SGD: no parameter has requires_grad=True"),
    Row("SGD, one group", lambda: optim.SGD({"params": [ones(2)]}), K, r'^SGD .*\[\{"params": …\}\], not a dict'),
    Row("SGD, model in a group", lambda: optim.SGD([{"params": LINEAR}]), K, "^SGD takes parameters, not a Linear"),
    Row("lr, negative", lambda: optim.SGD([ones(2)], lr=-1), V, r"^SGD: lr=-1 must be in \[0, inf\)"),
    Row("lr, NaN", lambda: optim.Adam([ones(2)], lr=np.nan), V, "^Adam: lr=nan must be in"),
    Row("lr, text", lambda: optim.SGD([ones(2)], lr="0.1"), K, "^SGD: lr must be one number, not '0.1'"),
    Row("lr, None", lambda: optim.SGD([ones(2)], lr=None), K, "^SGD: lr must be one number, not None"),
    Row("lr, list", lambda: optim.SGD([ones(2)], lr=[0.1]), K, r"^SGD: lr must be one number, not \[0.1\]"),
    Row("momentum, one", lambda: optim.SGD([ones(2)], momentum=1.0), V, r"^SGD: momentum=1.0 must be in \[0, 1\)"),
    Row("betas, one number", lambda: optim.Adam([ones(2)], betas=0.9), K, "^Adam: betas must be two numbers.* not 0.9"),
    Row("betas, three", lambda: optim.Adam([ones(2)], betas=(0.9,) * 3), K, "^Adam: betas must be two numbers"),
    Row("betas, NaN", lambda: optim.Adam([ones(2)], betas=(0.9, np.nan)), V, "^Adam: betas=.*nan.* must be in"),
    Row("betas, text", lambda: optim.Adam([ones(2)], betas=("a", "b")), K, "^Adam: betas must be one number, not 'a'"),
    Row("Adam, momentum", lambda: optim.Adam([ones(2)], momentum=0.9), K, "'momentum'"),
    Row("load, path", lambda: sgd().load_state_dict("a.npz"), K, r"^SGD.*dict of arrays.* str; .*sm\.load\(path\)"),
    Row("load, optimiser", lambda: sgd().load_state_dict(sgd()), K, r"^SGD.* pass its \.state_dict\(\)"),
    Row(
        "step, new data",
        step_after_new_data,
        V,
        r"^SGD.step: parameter 0 now has shape \(4,\), but its gradient \(3,\)",
    ),
    Row("step, old buffers", step_with_old_buffers, V, r"^Adam.step: .* shape \(1,\), but its buffer \(3,\)"),
    Row("p.data -= Tensor", in_place_on_data, K, r"^np\.subtract with out= "),
    Row(
        "clip, negative",
        lambda: optim.clip_grad_norm_([ones(2)], -1.0),
        V,
        "^clip_grad_norm_: max_norm must be above 0",
    ),
    Row("clip, zero", lambda: optim.clip_grad_norm_([ones(2)], 0), V, "^clip_grad_norm_: max_norm must be above 0"),
    Row("clip, NaN", lambda: optim.clip_grad_norm_([ones(2)], np.nan), V, "^clip_grad_norm_: max_norm must be above 0"),
    Row(
        "clip, text", lambda: optim.clip_grad_norm_([ones(2)], "1"), K, "^clip_grad_norm_: max_norm must be one number"
    ),
    Row("cosine, total", lambda: optim.CosineSchedule(sgd(), 0), V, "^CosineSchedule: total must be at least 1, not 0"),
    Row("cosine, float", lambda: optim.CosineSchedule(sgd(), 9.5), K, "^CosineSchedule: total must be an integer"),
    Row("cosine, warmup", lambda: optim.CosineSchedule(sgd(), 9, warmup=10), V, "need warmup ≤ total; got 10 and 9"),
    Row(
        "cosine, floor",
        lambda: optim.CosineSchedule(sgd(), 9, floor=-1),
        V,
        r"^CosineSchedule: floor .*\[0, 1\], not -1",
    ),
    Row("cosine, swapped", lambda: optim.CosineSchedule(9, sgd()), K, "^CosineSchedule: the optimiser comes first"),
    Row("cosine, parameters", lambda: optim.CosineSchedule([ones(2)], 9), K, "the optimiser comes first, not a list"),
    Row("steps, zero", lambda: optim.StepSchedule(sgd(), 0), V, "^StepSchedule: step_size must be at least 1, not 0"),
    Row("steps, float", lambda: optim.StepSchedule(sgd(), 1.5), K, "^StepSchedule: step_size must be an integer"),
    Row("steps, gamma", lambda: optim.StepSchedule(sgd(), 1, gamma=np.nan), V, "^StepSchedule: gamma .* not nan"),
    Row(
        "steps, model",
        lambda: optim.StepSchedule(LINEAR, 1),
        K,
        "^StepSchedule: the optimiser comes first, not a Linear",
    ),
    Row("steps, state", lambda: optim.StepSchedule(sgd(), 1).load_state_dict("a"), K, "^StepSchedule.*dict of arrays"),
]

DATA = [
    Row("batches, zero", lambda: data.batches(np.ones(3), batch_size=0), V, "^batches: batch_size must be at least 1"),
    Row("batches, float", lambda: data.batches(np.ones(3), batch_size=1.5), K, "^batches: batch_size must be an int"),
    Row("batches, lengths", lambda: data.batches(np.ones(3), np.ones(4), batch_size=1), V, r"^batches: .*3,\), \(4,"),
    Row("batches, nothing", lambda: data.batches(batch_size=1), V, "^batches: the arrays must have the same number"),
    Row("batches, scalar", lambda: data.batches(1.0, batch_size=1), V, r"^batches: .* their shapes are \[\(\)\]"),
    Row("batches, tuple", lambda: data.batches((np.ones((3, 2)), np.ones(3)), batch_size=1), K,
        r"^batches: argument 0 is a tuple; .*batches\(x, y, batch_size=…\)"),
    Row("batches, no size", lambda: data.batches(np.ones(3)), K, "'batch_size'"),
    Row("windows, size", lambda: data.windows(np.arange(9), 3, 0), V, "^windows: batch_size must be at least 1, not 0"),
    Row("windows, context", lambda: data.windows(np.arange(9), 2.5, 1), K, "^windows: context must be an integer"),
    Row("windows, long context", lambda: data.windows(np.arange(9), 9, 1), V, "^windows: 9 tokens are too few"),
    Row("windows, text", lambda: data.windows("hello", 2, 1), K, r"^windows: .* not text; .*Vocabulary"),
    Row("all_windows, text", lambda: data.all_windows("hello", 2), K, r"^all_windows: .* not text"),
    Row("vocabulary, unknown", lambda: data.Vocabulary("ab").encode("c"), V, r"^Vocabulary\.encode: .*'c'"),
    Row("vocabulary, codes", lambda: data.Vocabulary("ab").encode([1]), K, r"^Vocabulary\.encode takes text, not a"),
    Row("vocabulary, range", lambda: data.Vocabulary("ab").decode([2]), I, r"^Vocabulary\.decode: code 2"),
]  # fmt: skip

DRAW = [
    Row("draw(a, b)", lambda: sm.draw(ones(2), ones(2)), K, r"several in a tuple: draw\(\(a, b\)\)"),
    Row("draw, file", lambda: sm.draw(ones(2), "x.svg"), K, r"^draw takes no file name; .*draw\(t\)\.save\('x\.svg'\)"),
    Row("draw, array", lambda: sm.draw(np.ones(2)), K, "^draw: an array does not know what made it"),
    Row("draw, array among tensors", lambda: sm.draw([ones(2), np.ones(2)]), K, "^draw: an array does not know"),
    Row("draw, model", lambda: sm.draw(LINEAR), K, r"^draw: a Linear .*draw\(model, x\)"),
    Row("draw, number", lambda: sm.draw(3), K, "^draw takes a Tensor.* not a int"),
    Row("draw, nothing", lambda: sm.draw([]), V, "^draw: the sequence holds no tensor"),
    Row("draw, show", lambda: sm.draw(ones(2), show="values"), V, "^draw: show takes 'value', .*; got 'values'"),
    Row("draw, show a number", lambda: sm.draw(ones(2), show=3), V, "^draw: show takes .*; got 3"),
    Row("draw, direction", lambda: sm.draw(ones(2), direction="down"), V, "^draw: direction must be .* not 'down'"),
    Row("draw, max_nodes", lambda: sm.draw(ones(2), max_nodes="a"), K, "^draw: max_nodes must be an integer"),
    Row(
        "draw, too large",
        lambda: sm.draw(ones(2).sum(), max_nodes=1),
        V,
        "^draw: this graph has 2 nodes, of which 2 cannot be folded",
    ),
]

FLOW = [
    Row("flow, tensor", lambda: sm.gradient_flow(ones(2)), K, r"^gradient_flow takes a model .*not a Tensor.*t\.grad"),
    Row(
        "flow, list",
        lambda: sm.gradient_flow([LINEAR]),
        K,
        r"^gradient_flow takes a model \(an nn.Module\), not a list",
    ),
    Row("flow, class", lambda: sm.gradient_flow(nn.ReLU), K, "^gradient_flow takes .*, not the class ReLU: call"),
    Row("flow, since", lambda: sm.gradient_flow(LINEAR, since={}), K, "^gradient_flow: since takes .*, not a dict"),
    Row("flow, since a model", lambda: sm.gradient_flow(LINEAR, LINEAR), K, "^gradient_flow: since .*, not a Linear"),
    Row("flow, another model", lambda: sm.gradient_flow(LINEAR, since=sm.gradient_flow(MLP)), V, "a Sequential; begin"),
    Row(
        "flow, series",
        lambda: sm.gradient_flow(LINEAR).series("wieght"),
        V,
        "^series: .*'wieght'; there are weight, bias",
    ),
    Row(
        "flow, statistic", lambda: sm.gradient_flow(LINEAR).series("bias", "std"), V, "^series: what .*rms.* not 'std'"
    ),
    Row("flow, plot by", lambda: sm.gradient_flow(LINEAR).plot(by="layer"), V, "^plot: by must be .* not 'layer'"),
    Row("flow, plot what", lambda: sm.gradient_flow(LINEAR).plot(what="std"), V, "^plot: what must .* not 'std'"),
    Row(
        "flow, plot nothing", lambda: sm.gradient_flow(LINEAR).plot(), V, r"^plot: .*: no gradient: call loss\.backward"
    ),
    Row("flow, plot one update", lambda: filled().plot(what="update"), V, r"^plot: an update needs .*since=flow"),
]

ROWS = LAYERS + MODULES + OPTIMISERS + DATA + DRAW + FLOW
