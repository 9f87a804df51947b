"""Text that goes on: a Llama-shaped language model with its tokenizer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import functional as F
from ..mode import no_grad
from ..nn import Module, TransformerLM
from ..ops.options import count
from ..tensor import Array
from . import tokens as tokenizing

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"  # what SmolLM2 was trained with


class LanguageModel(Module):
    """A language model for text: what it writes, how likely it finds a text, and where it looks.

    `sm.pretrained.smollm2()` and `sm.pretrained.from_pretrained(path)` make it.

    Parameters
    ----------
    model : TransformerLM
        From tokens to the logits of the next ones.
    tokenizer : tokenizers.Tokenizer
        From text to tokens and back.
    ends : tuple of int
        Tokens that end a text; they are not part of it.

    Examples
    --------
    >>> import tinygrad_sm as sm
    >>> lm = sm.pretrained.smollm2()                                    # doctest: +SKIP
    >>> lm.generate("The capital of France is", 2, temperature=0)       # doctest: +SKIP
    ' Paris.'
    """

    def __init__(self, model: TransformerLM, tokenizer: Any, ends: tuple[int, ...] = ()) -> None:
        self.model, self.tokenizer, self.ends = model, tokenizer, ends

    def encode(self, text: str) -> Array:
        """Return the tokens (T,) of a text, with those that the tokenizer puts around it, such as a first one."""
        return np.array(self._encoding(text).ids, np.int64)

    def _encoding(self, text: str) -> Any:
        if not isinstance(text, str):
            raise TypeError(f"encode takes a text, not a {type(text).__name__}")
        return tokenizing.encoded(self.tokenizer, [tokenizing.readable(text, "encode")])[0]

    def decode(self, tokens: Any) -> str:
        """Return the text of tokens (T,); those that are no text, such as an end, are left out."""
        return str(self.tokenizer.decode([int(t) for t in tokens], skip_special_tokens=True))

    def forward(self, tokens: Any) -> Any:
        """Return the logits (B, T, vocab_size) of the tokens that follow each of `tokens` (B, T)."""
        return self.model(tokens)

    def generate(self, prompt: str, max_new_tokens: int = 100, **options: Any) -> str:
        """Return what the model writes after a prompt; see `stream`."""
        return "".join(self.stream(prompt, max_new_tokens, **options))

    def stream(
        self, prompt: str, max_new_tokens: int = 100, *, temperature: float = 1.0, top_k: int | None = None,
        top_p: float | None = None, rng: np.random.Generator | None = None,
    ) -> Iterator[str]:  # fmt: skip
        """Yield what the model writes after a prompt, piece by piece, until it ends or has written so many tokens.

        Parameters
        ----------
        prompt : str
            What comes before; `chat` makes one of a message.
        max_new_tokens, temperature, top_k, top_p, rng
            As in `TransformerLM.stream`; temperature 0 always takes the likeliest token.
        """
        tokens = self.encode(prompt)
        if not len(tokens):
            raise ValueError("stream: the prompt is empty; there must be a token to go on from")
        options: Any = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "rng": rng}
        new: list[int] = []
        written = ""
        for (token,) in self.model.stream(tokens, max_new_tokens, **options):
            if int(token) in self.ends:
                break
            new.append(int(token))
            text = self.decode(new)
            if not text.endswith("\ufffd"):  # else the bytes of a character are still to come
                yield text[len(written) :]
                written = text
        if len(text := self.decode(new)) > len(written):
            yield text[len(written) :]

    def chat(self, message: str, system: str = SYSTEM) -> str:
        """Return the prompt after which a model trained on chats in the form ChatML, as SmolLM2, answers a message."""
        return f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{message}<|im_end|>\n<|im_start|>assistant\n"

    def perplexity(self, text: str, *, context: int = 512) -> float:
        """Return exp of the mean loss in nats of each token of a text but the first of each stretch of `context`.

        Long texts are cut into stretches, each read without what came before.
        """
        tokens, context = self.encode(text), min(count(context, "context", "perplexity", 2), self.model.context)
        if len(tokens) < 2:
            raise ValueError(f"perplexity: the text must have two tokens or more, not {len(tokens)}")
        total, n = 0.0, 0
        with no_grad(), self.evaluating():
            for start in range(0, len(tokens) - 1, context):
                part = tokens[start : start + context]
                if len(part) > 1:
                    total += F.cross_entropy(
                        self.model(part[None, :-1]), part[None, 1:], axis=-1, reduction="sum"
                    ).item()
                    n += len(part) - 1
        return math.exp(total / n)

    def attention(self, text: str) -> tuple[list[str], list[Array]]:
        """Return the pieces of a text, T of them, and the attention weights (H, T, T) of each block.

        `sm.viz.attention_page` takes both. Some characters are several tokens, which are called "猫 1/3" and so on.
        """
        encoding = self._encoding(text)
        weights = self.model.attention_weights(np.array([encoding.ids], np.int64))
        return self._pieces(text, encoding), [w[0] for w in weights]

    def _pieces(self, text: str, encoding: Any) -> list[str]:
        """Return what each token of a text stands for."""
        pieces = [self.decode([t]) or self.tokenizer.id_to_token(t) for t in encoding.ids]
        parts: dict[int, list[int]] = {}  # of characters whose bytes are in several tokens, by where they end
        for i, (piece, (_, end)) in enumerate(zip(pieces, encoding.offsets, strict=True)):
            if "\ufffd" in piece:
                parts.setdefault(end, []).append(i)
        for rows in parts.values():
            for number, i in enumerate(rows, 1):
                start, end = encoding.offsets[i]
                pieces[i] = text[start:end] + (f" {number}/{len(rows)}" if len(rows) > 1 else "")
        return pieces
