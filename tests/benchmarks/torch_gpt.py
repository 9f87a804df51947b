"""The mini Transformer in PyTorch, as its users write it: what ours is measured against, with our weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Pre-norm attention and a two-layer network, on the residual stream."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(approximate="tanh"), nn.Linear(4 * d, d))

    def forward(self, x: Tensor, cache: Tensor | None = None, start: int = 0) -> Tensor:
        """Return the output for x (B, T, d); `cache` (2, B, H, context, d/H) has the keys and values before `start`."""
        b, t, d = x.shape
        q, k, v = self.qkv(self.ln1(x)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        if cache is not None:
            cache[0, :, :, start : start + t], cache[1, :, :, start : start + t] = k, v
            k, v = cache[0, :, :, : start + t], cache[1, :, :, : start + t]
        y = F.scaled_dot_product_attention(q, k, v, is_causal=t > 1)  # several positions come only at the start
        x = x + self.proj(y.transpose(1, 2).reshape(b, t, d))
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    """Tokens (B, T) to logits (B, T, vocabulary); the output layer shares the embedding's weight."""

    def __init__(self, vocab: int, d: int, heads: int, layers: int, context: int) -> None:
        super().__init__()
        self.context, self.shape = context, (heads, d // heads)
        self.tokens, self.positions = nn.Embedding(vocab, d), nn.Embedding(context, d)
        self.blocks = nn.ModuleList(Block(d, heads) for _ in range(layers))
        self.ln = nn.LayerNorm(d)

    def hidden(self, tokens: Tensor, caches: list[Tensor] | None = None, start: int = 0) -> Tensor:
        """Return the normalized output of the last block."""
        x = self.tokens(tokens) + self.positions.weight[start : start + tokens.shape[1]]
        for i, block in enumerate(self.blocks):
            x = block(x, caches[i] if caches else None, start)
        return self.ln(x)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits."""
        return F.linear(self.hidden(tokens), self.tokens.weight)

    @torch.inference_mode()
    def generate(self, prompt: Tensor, n: int, temperature: float = 1.0) -> Tensor:
        """Continue a prompt (B, T), with a cache; when it is full, go on from the later half of the context."""
        tokens, new, start = prompt, prompt, 0
        caches = [torch.empty(2, len(prompt), self.shape[0], self.context, self.shape[1]) for _ in self.blocks]
        for _ in range(n):
            if start == self.context:
                new, start = tokens[:, -max(1, self.context // 2) :], 0
            logits = F.linear(self.hidden(new, caches, start)[:, -1], self.tokens.weight)
            start += new.shape[1]
            if temperature:
                new = torch.multinomial(torch.softmax(logits / temperature, -1), 1)
            else:
                new = logits.argmax(-1, keepdim=True)
            tokens = torch.cat([tokens, new], dim=1)
        return tokens


def from_ours(model: Any, heads: int) -> GPT:
    """Return a GPT with the weights of one of our TransformerLMs."""
    state = {name.replace("mlp.layers.", "mlp.").replace(".attn.", "."): a for name, a in model.state_dict().items()}
    vocab, d = state["tokens.weight"].shape
    gpt = GPT(vocab, d, heads, len(model.blocks), model.context)
    gpt.load_state_dict({name: torch.tensor(a) for name, a in state.items()})
    return gpt
