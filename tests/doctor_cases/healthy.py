"""Healthy models of varied kinds, small enough to train in a test. The doctor must have nothing to say of any."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

import tinygrad_sm as sm
from tinygrad_sm import functional as F
from tinygrad_sm import nn, optim

Loss = Callable[[], Any]


class Task:
    """A model, how its loss is computed, and what it is given (None where it takes more than arrays)."""

    def __init__(self, model: nn.Module, loss: Loss, inputs: Any = None, lr: float = 3e-3) -> None:
        self.model, self.loss, self.inputs = model, loss, inputs
        self.optimizer = optim.AdamW(model.parameters(), lr=lr)

    def train(self, steps: int) -> None:
        """Take some steps."""
        for _ in range(steps):
            loss = self.loss()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()


def cast(model: Any, dtype: Any) -> Any:
    """Return the model with parameters of another dtype."""
    for p in model.parameters():
        p.data = p.data.astype(dtype)
    return model


def points(n: int, d: int, dtype: Any, seed: int = 0) -> tuple[Any, Any]:
    """Return points, and classes that a linear map gives them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    return x.astype(dtype), (x @ rng.normal(size=(d, 5))).argmax(axis=1)


def net(dtype: Any, *sizes: int, activation: Any = nn.ReLU) -> Any:
    """Return linear layers of these sizes, with an activation between each two."""
    layers: list[Any] = []
    for n, m in pairwise(sizes):
        layers += [nn.Linear(n, m), activation()]
    return cast(nn.Sequential(*layers[:-1]), dtype)


def mlp(dtype: Any) -> Task:
    x, y = points(128, 12, dtype)
    model = net(dtype, 12, 32, 32, 5)
    return Task(model, lambda: F.cross_entropy(model(x), y), x)


def smoothed(dtype: Any) -> Task:
    x, y = points(128, 12, dtype)
    model = net(dtype, 12, 32, 5, activation=nn.GELU)
    return Task(
        model, lambda: F.nll_loss(F.log_softmax(model(x)), y) + F.cross_entropy(model(x), y, label_smoothing=0.1)
    )


def text(n: int = 6, t: int = 12, vocab: int = 17) -> Any:
    """Return rows of a sequence with a rule: each token is one more than the last, or a jump."""
    rng = np.random.default_rng(0)
    steps = rng.choice([1, 1, 1, 4], size=(n, t + 1))
    return (rng.integers(0, vocab, (n, 1)) + np.cumsum(steps, axis=1)) % vocab


def language_model(dtype: Any, **options: Any) -> Task:
    tokens = text()
    lm = cast(nn.TransformerLM(17, d_model=16, n_heads=2, n_layers=2, context=12, **options), dtype)
    return Task(lm, lambda: F.cross_entropy(lm(tokens[:, :-1]), tokens[:, 1:]), tokens[:, :-1])


def unit_language_model(dtype: Any) -> Task:
    return language_model(dtype, init="unit", dropout=0.1)


def fused_head(dtype: Any) -> Task:
    tokens = text()
    lm = cast(nn.TransformerLM(17, d_model=16, n_heads=2, n_layers=3, context=12), dtype)
    return Task(lm, lambda: F.linear_cross_entropy(lm.hidden(tokens[:, :-1]), lm.tokens.weight, tokens[:, 1:]) / 4)


class EncoderDecoder(nn.Module):
    """A block that sees all of the source, and one that sees its own past and what the first made of the source."""

    def __init__(self, vocab: int, d: int) -> None:
        self.tokens = nn.Embedding(vocab, d)
        self.positions = nn.Embedding(32, d)
        self.encoder = nn.TransformerBlock(d, 2, causal=False)
        self.decoder = nn.TransformerBlock(d, 2)
        self.query, self.key, self.value, self.proj = (nn.Linear(d, d) for _ in range(4))
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(d, vocab)

    def embed(self, tokens: Any) -> Any:
        return self.tokens(tokens) + self.positions(np.arange(tokens.shape[1]))

    def forward(self, source: Any, target: Any) -> Any:
        seen = source != 0
        memory = self.encoder(self.embed(source), seen[:, None, None, :])
        h = self.decoder(self.embed(target))
        q, k, v = self.query(self.norm(h)), self.key(memory), self.value(memory)
        out = F.scaled_dot_product_attention(q, k, v, mask=seen[:, None, :])
        return self.head(h + self.proj(out))


def encoder_decoder(dtype: Any) -> Task:
    target = text(8, 9)
    source = target[:, 1:][:, ::-1].copy()
    source[::2, -3:] = 0  # padding
    model = cast(EncoderDecoder(17, 16), dtype)
    return Task(model, lambda: F.cross_entropy(model(source, target[:, :-1]), target[:, 1:]), (source, target[:, :-1]))


def distillation(dtype: Any) -> Task:
    x, y = points(64, 12, dtype)
    teacher, student = net(dtype, 12, 64, 5), net(dtype, 12, 16, 5)
    with sm.no_grad():
        q = F.softmax(teacher(x) * 3, temperature=4.0)

    def loss() -> Any:
        z = student(x)
        soft = F.kl_div(F.log_softmax(z, temperature=4.0), q, reduction="batchmean")
        return F.cross_entropy(z, y) + 16.0 * soft

    return Task(student, loss, x)


def soft_targets(dtype: Any) -> Task:
    """A mixture of two examples, with label smoothing, as it is usual for images."""
    x, y = points(64, 12, dtype)
    model, one_hot = net(dtype, 12, 16, 5), np.eye(5, dtype=dtype)[y]
    mixed = (0.7 * one_hot + 0.3 * one_hot[::-1]).astype(dtype)
    given = (0.7 * x + 0.3 * x[::-1]).astype(dtype)
    return Task(model, lambda: F.cross_entropy(model(given), mixed, label_smoothing=0.1))


def regression(dtype: Any) -> Task:
    x, _ = points(64, 6, dtype)
    y = np.sin(x.sum(axis=1, keepdims=True)).astype(dtype)
    model = net(dtype, 6, 32, 1, activation=nn.Tanh)
    return Task(model, lambda: F.mse_loss(model(x), y), x)


def binary(dtype: Any) -> Task:
    x, y = points(64, 6, dtype)
    target, model = (y > 2).astype(dtype), net(dtype, 6, 16, 1)

    def loss() -> Any:
        p = model(x).sigmoid()[:, 0].clip(1e-6, 1 - 1e-6)
        return -(target * p.log() + (1 - target) * (1 - p).log()).mean()

    return Task(model, loss, x)


class Recurrent(nn.Module):
    """A tanh network over time."""

    def __init__(self, dtype: Any) -> None:
        self.embed, self.step, self.head = nn.Embedding(17, 16), nn.Linear(32, 16), nn.Linear(16, 17)
        self.dtype = dtype

    def forward(self, x: Any) -> Any:
        h, out = sm.Tensor(np.zeros((len(x), 16), self.dtype)), []
        for t in range(x.shape[1]):
            h = self.step(sm.concatenate([self.embed(x[:, t]), h], axis=-1)).tanh()
            out.append(self.head(h))
        return sm.stack(out, axis=1)


def recurrent(dtype: Any) -> Task:
    tokens, model = text(8, 10), cast(Recurrent(dtype), dtype)
    return Task(model, lambda: F.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:]), tokens[:, :-1])


def contrastive(dtype: Any) -> Task:
    """Pairs of views in both directions, and one key among queued ones, whose right answer is always at index 0."""
    x, _ = points(48, 12, dtype)
    rng = np.random.default_rng(1)
    model, queue = net(dtype, 12, 32, 8), rng.normal(size=(64, 8)).astype(dtype)

    def unit(h: Any) -> Any:
        return h / ((h * h).sum(axis=1, keepdims=True) + 1e-6) ** 0.5

    def loss() -> Any:
        a, b = unit(model(x)), unit(model(x + (0.1 * rng.normal(size=x.shape)).astype(dtype)))
        z, n = a @ b.T / 0.1, np.arange(len(x))
        against = sm.concatenate([(a * b).sum(axis=1, keepdims=True), a @ queue.T], axis=1) / 0.2
        return F.cross_entropy(z, n) + F.cross_entropy(z.T, n) + F.cross_entropy(against, np.zeros(len(x), int))

    return Task(model, loss)


class Vae(nn.Module):
    """A variational autoencoder that returns its loss."""

    def __init__(self, noise: Any) -> None:
        self.encode, self.decode = nn.Linear(10, 8), nn.Sequential(nn.Linear(4, 16), nn.SiLU(), nn.Linear(16, 10))
        self.noise = noise

    def forward(self, x: Any) -> Any:
        h = self.encode(x)
        mean, log_var = h[:, :4], h[:, 4:]
        out = self.decode(mean + (0.5 * log_var).exp() * self.noise)
        kl = (log_var.exp() + mean * mean - 1 - log_var).sum(axis=1).mean() / 2
        return ((out - x) ** 2).sum(axis=1).mean() + kl


def variational(dtype: Any) -> Task:
    x, _ = points(32, 10, dtype)
    model = cast(Vae(np.random.default_rng(2).normal(size=(32, 4)).astype(dtype)), dtype)
    return Task(model, lambda: model(x), x)


class Masked(nn.Module):
    """Guesses tokens from both sides."""

    def __init__(self) -> None:
        self.tokens, self.positions = nn.Embedding(18, 16), nn.Embedding(12, 16)
        self.block, self.head = nn.TransformerBlock(16, 2, causal=False), nn.Linear(16, 17)

    def forward(self, x: Any) -> Any:
        return self.head(self.block(self.tokens(x) + self.positions(np.arange(x.shape[1]))))


def masked_model(dtype: Any) -> Task:
    """No causal mask, and most targets ignored."""
    tokens, model = text(8, 11), cast(Masked(), dtype)
    hidden = np.random.default_rng(3).uniform(size=tokens.shape) < 0.3
    given, target = np.where(hidden, 17, tokens), np.where(hidden, tokens, -100)
    return Task(model, lambda: F.cross_entropy(model(given), target), given)


class Pooled(nn.Module):
    """Softmax over time pools a sequence, another gates experts."""

    def __init__(self) -> None:
        self.score, self.gate = nn.Linear(6, 2), nn.Linear(6, 4)
        self.experts, self.head = [nn.Linear(6, 8) for _ in range(4)], nn.Linear(16, 3)

    def forward(self, x: Any) -> Any:
        g = F.softmax(self.gate(x))
        h = sum(g[..., i : i + 1] * expert(x) for i, expert in enumerate(self.experts))
        w = F.softmax(self.score(x), axis=1)
        return self.head((w.transpose(0, 2, 1) @ h).reshape(len(x), 16))


def pooled(dtype: Any) -> Task:
    rng = np.random.default_rng(4)
    x, y, model = rng.normal(size=(16, 7, 6)).astype(dtype), rng.integers(0, 3, 16), cast(Pooled(), dtype)
    return Task(model, lambda: F.cross_entropy(model(x), y), x)


def tagger(dtype: Any) -> Task:
    """As many positions as classes, with the classes along axis 1, as PyTorch has them."""
    x = np.random.default_rng(5).normal(size=(8, 5, 6)).astype(dtype)
    y, model = x[..., :5].argmax(axis=2), net(dtype, 6, 16, 5)
    return Task(model, lambda: F.cross_entropy(model(x).swapaxes(1, 2), y, axis=1), x)


def policy(dtype: Any) -> Task:
    x, y = points(64, 6, dtype)
    gain, model = np.random.default_rng(6).normal(size=64).astype(dtype), net(dtype, 6, 16, 5, activation=nn.Tanh)

    def loss() -> Any:
        log_p = F.log_softmax(model(x))
        entropy = -(log_p.exp() * log_p).sum(axis=1).mean()
        return -(log_p[np.arange(64), y] * gain).mean() - 0.01 * entropy

    return Task(model, loss, x)


class Deep(nn.Module):
    """Twelve layers with residual connections."""

    def __init__(self) -> None:
        self.norms, self.layers = [nn.LayerNorm(16) for _ in range(12)], [nn.Linear(16, 16) for _ in range(12)]
        self.head = nn.Linear(16, 5)

    def forward(self, x: Any) -> Any:
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = x + layer(norm(x)).relu()
        return self.head(x)


def deep(dtype: Any) -> Task:
    x, y = points(64, 16, dtype)
    model = cast(Deep(), dtype)
    return Task(model, lambda: F.cross_entropy(model(x), y), x)


class ByHand(nn.Module):
    """Attention of simple ops, divided by √d_k, with −1e9 for the future."""

    def __init__(self) -> None:
        self.tokens, self.positions, self.head = nn.Embedding(17, 16), nn.Embedding(12, 16), nn.Linear(16, 17)
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))

    def forward(self, x: Any) -> Any:
        h = self.tokens(x) + self.positions(np.arange(x.shape[1]))
        future = np.triu(np.full((x.shape[1],) * 2, -1e9, h.dtype), 1)
        p = F.softmax(self.q(h) @ self.k(h).swapaxes(1, 2) / np.sqrt(16) + future)
        return self.head(h + p @ self.v(h))


def by_hand(dtype: Any) -> Task:
    tokens, model = text(), cast(ByHand(), dtype)
    return Task(model, lambda: F.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:]), tokens[:, :-1])


def small_weights_unscaled(dtype: Any) -> Task:
    """Without √d_k, but with weights so small that it does not matter."""
    return language_model(dtype, scaled=False)


class Logistic(nn.Module):
    """Softmax regression."""

    def __init__(self, dtype: Any) -> None:
        self.w = sm.Tensor(np.zeros((12, 5), dtype), requires_grad=True)

    def forward(self, x: Any) -> Any:
        return sm.Tensor(x) @ self.w


def logistic(dtype: Any) -> Task:
    x, y = points(64, 12, dtype)
    model = Logistic(dtype)
    return Task(model, lambda: F.cross_entropy(model(x), y), x)


def sequence_autoencoder(dtype: Any) -> Task:
    """The encoder sees the text that the decoder writes, through one vector, as it is meant to."""
    tokens, model = text(8, 9), cast(EncoderDecoder(17, 16), dtype)
    return Task(model, lambda: F.cross_entropy(model(tokens, tokens[:, :-1]), tokens[:, 1:]), (tokens, tokens[:, :-1]))


def triplets(dtype: Any) -> Task:
    """The nearest other class: inf hides the same class from the minimum."""
    x, y = points(48, 12, dtype)
    model, same = net(dtype, 12, 16, 8), y[:, None] == y

    def loss() -> Any:
        h = model(x)
        d = ((h[:, None] - h) ** 2).sum(axis=-1)
        near = sm.where(same, np.inf, d).min(axis=1)
        return F.relu(1.0 + sm.where(same, d, -np.inf).max(axis=1) - near).mean()

    return Task(model, loss, x)


def focal(dtype: Any) -> Task:
    x, y = points(64, 12, dtype)
    model = net(dtype, 12, 16, 5)

    def loss() -> Any:
        log_p = F.log_softmax(model(x))[np.arange(64), y]
        return -((1 - log_p.exp()) ** 2 * log_p).mean()

    return Task(model, loss, x)


class Gated(nn.Module):
    """Sharp gates over a table, by plain matrix products: a layer, not attention."""

    def __init__(self) -> None:
        self.body, self.head = nn.Linear(12, 16), nn.Linear(16, 5)
        self.gate = sm.Tensor(np.random.default_rng(7).normal(size=(16, 8)).astype(np.float32) * 3, requires_grad=True)
        self.table = sm.Tensor(np.random.default_rng(8).normal(size=(8, 16)).astype(np.float32), requires_grad=True)

    def forward(self, x: Any) -> Any:
        h = self.body(x).relu()
        return self.head(F.softmax(h @ self.gate) @ self.table)


def autoencoder(dtype: Any) -> Task:
    """Behind the narrow middle the points hardly differ: at first a ReLU is 0 for all of them, or for none."""
    rng = np.random.default_rng(0)
    x = np.clip(0.5 + rng.normal(size=(64, 6)) @ rng.normal(size=(6, 64)) * 0.1, 0, 1).astype(dtype)
    model = net(dtype, 64, 32, 8, 32, 64)
    return Task(model, lambda: F.mse_loss(model(x), x), x, lr=1e-3)


def factorization(dtype: Any) -> Task:
    users, items = cast(nn.Embedding(20, 8), dtype), cast(nn.Embedding(30, 8), dtype)
    rng = np.random.default_rng(0)
    u, i = rng.integers(20, size=128), rng.integers(30, size=128)
    rating = (u % 5 - i % 5).astype(dtype)
    model = nn.Sequential(users, items)  # for its parameters
    return Task(model, lambda: F.mse_loss((users(u) * items(i)).sum(axis=-1), rating))


def gated(dtype: Any) -> Task:
    x, y = points(64, 12, dtype)
    model = cast(Gated(), dtype)
    return Task(model, lambda: F.cross_entropy(model(x), y), x)


class Cosine(nn.Module):
    """A head of unit vectors, scaled by 20."""

    def __init__(self) -> None:
        self.body, self.classes = nn.Linear(12, 16), nn.Linear(16, 5, bias=False)

    def forward(self, x: Any) -> Any:
        h, w = self.body(x), self.classes.weight
        h, w = (v / ((v * v).sum(axis=1, keepdims=True) + 1e-6) ** 0.5 for v in (h, w))
        return h @ w.T * 20.0


def cosine_head(dtype: Any) -> Task:
    x, y = points(64, 12, dtype)
    model = cast(Cosine(), dtype)
    return Task(model, lambda: F.cross_entropy(model(x), y), x)


class Transfer(nn.Module):
    """A body that is not trained, and a head that is."""

    def __init__(self) -> None:
        self.body, self.head = nn.Linear(12, 32), nn.Linear(32, 5)

    def forward(self, x: Any) -> Any:
        with sm.no_grad():
            h = self.body(x).relu()
        return self.head(h)


def transfer(dtype: Any) -> Task:
    x, y = points(64, 12, dtype)
    model = cast(Transfer(), dtype)
    task = Task(model, lambda: F.cross_entropy(model(x), y), x)
    task.optimizer = optim.AdamW(model.head.parameters(), lr=3e-3)
    return task


def deep_language_model(dtype: Any) -> Task:
    tokens = text(2)
    lm = cast(nn.TransformerLM(17, d_model=16, n_heads=2, n_layers=16, context=12), dtype)
    return Task(lm, lambda: F.cross_entropy(lm(tokens[:, :-1]), tokens[:, 1:]), tokens[:, :-1], lr=1e-3)


def mixture_density(dtype: Any) -> Task:
    x, _ = points(64, 6, dtype)
    y, model = np.sin(x[:, :1]).astype(dtype), net(dtype, 6, 32, 9, activation=nn.Tanh)

    def loss() -> Any:
        out = model(x)
        log_w, mean, log_std = F.log_softmax(out[:, :3]), out[:, 3:6], out[:, 6:]
        return -sm.logsumexp(log_w - log_std - 0.5 * ((y - mean) / log_std.exp()) ** 2, axis=1).mean()

    return Task(model, loss, x)


def proximal_policy(dtype: Any) -> Task:
    x, y = points(64, 6, dtype)
    gain, model = np.random.default_rng(6).normal(size=64).astype(dtype), net(dtype, 6, 16, 6, activation=nn.Tanh)
    before = F.log_softmax(model(x)[:, :5]).data[np.arange(64), y]

    def loss() -> Any:
        out = model(x)
        log_p, value = F.log_softmax(out[:, :5])[np.arange(64), y], out[:, 5]
        ratio = (log_p - before).exp()
        clipped = sm.minimum(ratio * gain, ratio.clip(0.8, 1.2) * gain)
        return -clipped.mean() + 0.5 * ((value - gain) ** 2).mean()

    return Task(model, loss, x)


TASKS: dict[str, Callable[[Any], Task]] = {
    f.__name__: f
    for f in (
        mlp, smoothed, language_model, unit_language_model, fused_head, encoder_decoder, distillation, soft_targets,
        regression, binary, recurrent, contrastive, variational, masked_model, pooled, tagger, policy, deep, by_hand,
        small_weights_unscaled, logistic, sequence_autoencoder, triplets, focal, gated, cosine_head, transfer,
        deep_language_model, mixture_density, proximal_policy, autoencoder, factorization,
    )
}  # fmt: skip
