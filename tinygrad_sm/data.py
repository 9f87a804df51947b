"""Real data with no download, and batching.

The text is the reference manual that every Python ships for `help()`; the pictures, in `images.py`, are scikit-learn's
digits, and Fashion-MNIST where it is installed. A held-out part only measures generalization if it does not occur in
the training part, so a text goes through

    topics = unique_paragraphs(python_docs())         # or unique_paragraphs(chunks(text))
    train, held_out = split_topics(topics)
    overlap(train, held_out)                          # what is left, to be printed
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .images import digits, fashion_mnist
from .ops.options import count
from .random import default_rng
from .tensor import Array

__all__ = [
    "Seed", "Vocabulary", "all_windows", "batches", "chunks", "digits", "fashion_mnist", "overlap", "python_docs",
    "split_topics", "unique_paragraphs", "windows",
]  # fmt: skip

Seed = np.random.Generator | int | None  # an int makes a new generator; None is the library's own
BLANK_LINES = re.compile(r"\n\s*\n")
SMALLEST_CHUNK = 50


def _generator(rng: Seed) -> np.random.Generator:
    return default_rng() if rng is None else np.random.default_rng(rng)


# -- text ------------------------------------------------------------------------------------


def python_docs() -> dict[str, str]:
    """Return the topics of Python's reference manual, name to text, sorted by name: about 460,000 characters.

    The text is that of `help("assert")` and the like, so it differs a little between Python versions. It repeats
    itself: pass it through `unique_paragraphs` before a split. Raises ImportError if this Python lacks the
    module `pydoc_data`.

    >>> from tinygrad_sm.data import python_docs
    >>> python_docs()["assert"].splitlines()[0]
    'The "assert" statement'
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise ImportError(
            "python_docs: this Python has no module pydoc_data.topics. On Debian and Ubuntu install it with "
            "`apt install libpython3-stdlib`, or train on a text of your own with `--text FILE`"
        ) from None
    return dict(sorted(topics.items()))


def chunks(text: str, size: int = 2000) -> dict[str, str]:
    r"""Cut one text into consecutive "topics" of about size/2 to size characters, which can be split as topics can.

    The cuts are at blank lines if there are any, else at line ends, at spaces, or anywhere. A text of less than
    20 × `size` characters is cut finer, down to 50 characters, so that there is enough to choose from. Raises
    ValueError if the text is too short for two chunks.

    >>> from tinygrad_sm.data import chunks
    >>> {name: len(chunk) for name, chunk in chunks("Twinkle, twinkle, little star.\n" * 5).items()}
    {'chunk 0': 30, 'chunk 1': 30, 'chunk 2': 30, 'chunk 3': 30, 'chunk 4': 30}
    """
    if size < 2:
        raise ValueError(f"chunks: size must be at least 2 characters, not {size}")
    text = text.strip()
    size = min(size, max(SMALLEST_CHUNK, len(text) // 20))
    if len(text) < 2 * size:
        raise ValueError(
            f"chunks: a text of {len(text)} characters is too short to hold a part of it out; "
            f"it takes at least {2 * size}, and many times more to learn from"
        )
    pieces, start = [], 0
    while len(text) - start > size:
        found = (text.rfind(mark, start + size // 2, start + size) for mark in ("\n\n", "\n", " "))
        cut = next((i for i in found if i >= 0), start + size)
        pieces.append(text[start:cut])
        start = cut
    pieces = [piece.strip("\n") for piece in (*pieces, text[start:]) if piece.strip()]
    width = len(str(len(pieces) - 1))
    return {f"chunk {i:0{width}}": piece for i, piece in enumerate(pieces)}


def unique_paragraphs(texts: Mapping[str, str], min_line: int = 40) -> dict[str, str]:
    r"""Drop what has occurred before in `texts` (topic to text), in an earlier topic or the same one.

    That is every paragraph (they are separated by blank lines), and within the others every line of at least
    `min_line` characters: sentences said twice and the ruled lines of tables. Both are compared with white space
    folded. Topics that become empty are dropped.

    >>> from tinygrad_sm.data import unique_paragraphs
    >>> unique_paragraphs({"a": "One.\n\nTwo.\n\nOne.", "b": "Two.", "c": "Two.\n\nThree."})
    {'a': 'One.\n\nTwo.', 'c': 'Three.'}
    """
    paragraphs: set[str] = set()
    lines: set[str] = set()
    kept = {name: "\n\n".join(_new_paragraphs(text, paragraphs, lines, min_line)) for name, text in texts.items()}
    return {name: text for name, text in kept.items() if text}


def _new_paragraphs(text: str, paragraphs: set[str], lines: set[str], min_line: int) -> Iterator[str]:
    """Yield the paragraphs of `text` without what is in `paragraphs` and `lines`, and add to both."""
    for paragraph in BLANK_LINES.split(text):
        folded = " ".join(paragraph.split())
        if not folded or folded in paragraphs:
            continue
        paragraphs.add(folded)
        fresh = []
        for line in paragraph.strip("\n").split("\n"):
            key = " ".join(line.split())
            if len(key) < min_line or key not in lines:
                fresh.append(line)
                lines.add(key)
        if fresh:
            yield "\n".join(fresh)


def split_topics(texts: Mapping[str, str], held_out: float = 0.1, seed: int = 0) -> tuple[str, str]:
    r"""Hold out whole topics, about the share `held_out` of all characters; return training and held-out text.

    The topics are visited in a random order (of `seed`), and one is held out if that brings the share closer to
    the one asked for. Each part keeps the order of `texts`, joined by blank lines, and has at least one topic.
    Raises ValueError if there are fewer than two topics.

    >>> from tinygrad_sm.data import split_topics
    >>> split_topics({"a": "One.", "b": "Two.", "c": "Six."}, held_out=0.3)
    ('One.\n\nTwo.', 'Six.')
    """
    if not 0 < held_out < 1:
        raise ValueError(f"split_topics: held_out is a share between 0 and 1, not {held_out}")
    sizes = {name: len(text) for name, text in texts.items() if text.strip()}
    if len(sizes) < 2:
        raise ValueError(
            f"split_topics: {len(sizes)} topic(s) of {sum(sizes.values())} characters cannot be split; it takes at "
            "least 2. A single text is cut into topics by chunks(text), from 100 characters on that do not repeat"
        )
    names, wanted = list(sizes), held_out * sum(sizes.values())
    visited = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    chosen, total = set(), 0
    for name in visited[:-1]:  # the last one is always for training
        if abs(total + sizes[name] - wanted) < abs(total - wanted):
            chosen.add(name)
            total += sizes[name]
    if not chosen:  # every topic is larger than twice the share
        chosen.add(min(visited, key=sizes.__getitem__))
    train, held = ([texts[n] for n in names if (n in chosen) is part] for part in (False, True))
    return "\n\n".join(train), "\n\n".join(held)


def overlap(train: str, held_out: str, window: int = 50) -> float:
    """Return the share of the windows of `window` characters of `held_out` that occur word for word in `train`.

    A `held_out` shorter than that is one window. Raises ValueError if it is empty.

    >>> from tinygrad_sm.data import overlap
    >>> overlap("to be or not to be", "or not to bee", window=12)      # "or not to be" and "r not to bee"
    0.5
    """
    if window < 1:
        raise ValueError(f"overlap: window must be at least 1 character, not {window}")
    if not held_out:
        raise ValueError("overlap: nothing is held out; see split_topics")
    window = min(window, len(held_out))
    held = [held_out[i : i + window] for i in range(len(held_out) - window + 1)]
    found = set(held).intersection(train[i : i + window] for i in range(len(train) - window + 1))
    return sum(piece in found for piece in held) / len(held)


def _code_points(text: str) -> Array:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


@dataclass(frozen=True)
class Vocabulary:
    """The characters of a text in sorted order; the code of a character is its place among them.

    `unknown` is the character, one of the vocabulary, that stands for every other one; with None those are an
    error. Raises ValueError if `characters` are not sorted and different, or `unknown` is not one of them.

    >>> from tinygrad_sm.data import Vocabulary
    >>> vocabulary = Vocabulary.from_text("abracadabra")
    >>> len(vocabulary), vocabulary.encode("cab")
    (5, array([2, 0, 1]))
    >>> vocabulary.decode([1, 4, 0])
    'bra'
    """

    characters: str
    unknown: str | None = None

    def __post_init__(self) -> None:
        if not self.characters or list(self.characters) != sorted(set(self.characters)):
            raise ValueError("Vocabulary: needs at least one character, all different and sorted; see from_text")
        if self.unknown is not None and self.unknown not in list(self.characters):
            raise ValueError(f"Vocabulary: unknown={self.unknown!r} must be one character of the vocabulary")

    @classmethod
    def from_text(cls, text: str, unknown: str | None = None) -> Vocabulary:
        """Collect the characters of a text, and `unknown`.

        >>> from tinygrad_sm.data import Vocabulary
        >>> Vocabulary.from_text("to be", unknown="?")
        Vocabulary(characters=' ?beot', unknown='?')
        """
        return cls("".join(sorted({*text, *(unknown or "")})), unknown)

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> Array:
        """Return the codes of a text, int64 of shape (len(text),).

        Raises ValueError naming the characters that are not in the vocabulary, unless there is an `unknown`.

        >>> from tinygrad_sm.data import Vocabulary
        >>> Vocabulary("?ab", unknown="?").encode("abc")
        array([1, 2, 0])
        """
        if not isinstance(text, str):
            raise TypeError(f"Vocabulary.encode takes text, not a {type(text).__name__}")
        points, known = _code_points(text), _code_points(self.characters)
        codes = np.searchsorted(known, points).clip(max=len(known) - 1)
        other = known[codes] != points
        if other.any():
            if self.unknown is None:
                names = sorted({chr(p) for p in points[other]})
                raise ValueError(
                    f"Vocabulary.encode: not among its {len(self)} characters: {', '.join(map(repr, names[:20]))}. "
                    "Build it from a text that has them, or with from_text(text, unknown='?')"
                )
            codes[other] = self.characters.index(self.unknown)
        return codes.astype(np.int64, copy=False)

    def decode(self, codes: Any) -> str:
        """Return the text of codes: a Tensor, an array of any shape, a list or an integer.

        Raises TypeError if they are not integers, IndexError if one is out of range.

        >>> from tinygrad_sm.data import Vocabulary
        >>> Vocabulary("ab").decode([1, 0, 0])
        'baa'
        """
        codes = np.asarray(codes).ravel()
        if codes.size and codes.dtype.kind not in "iu":
            raise TypeError(f"Vocabulary.decode: codes are integers, not {codes.dtype}")
        wrong = codes[(codes < 0) | (codes >= len(self))]
        if wrong.size:
            raise IndexError(f"Vocabulary.decode: code {wrong[0]} is out of range for {len(self)} characters")
        return "".join([self.characters[c] for c in codes.tolist()])


# -- batches ---------------------------------------------------------------------------------


def batches(
    *arrays: Any, batch_size: int, rng: Seed = None, shuffle: bool = True, drop_last: bool = False
) -> Iterator[tuple[Array, ...]]:
    """Cut arrays of equal length into batches: one pass over all rows, in random order unless `shuffle=False`.

    Parameters
    ----------
    *arrays : array_like, each (N, ...)
        Row i of each belongs together, as pictures (N, 64) and their labels (N,).
    batch_size : int
        Rows of a batch. The last batch has what is left, or is left out with `drop_last`.
    rng : numpy.random.Generator or int, optional
        Where the order comes from; an int seeds a new generator, None takes the one of `manual_seed`.

    Returns
    -------
    iterator of tuples
        One array per argument, of shape (batch_size, ...). None at all if there are no rows.

    Raises
    ------
    ValueError
        At once, not at the first batch, for unequal lengths or a batch size below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygrad_sm.data import batches
    >>> for x, y in batches(np.arange(5), np.arange(5) ** 2, batch_size=2, rng=0):
    ...     print(x, y)
    [2 4] [ 4 16]
    [3 0] [9 0]
    [1] [1]
    """
    for i, a in enumerate(arrays):
        if isinstance(a, tuple) and not all(np.isscalar(item) for item in a):
            raise TypeError(
                f"batches: argument {i} is a tuple; give the arrays one by one: batches(x, y, batch_size=…)"
            )
    data = [np.asarray(a) for a in arrays]
    shapes = [a.shape for a in data]
    if not data or () in shapes or len({s[0] for s in shapes}) != 1:
        raise ValueError(f"batches: the arrays must have the same number of rows; their shapes are {shapes}")
    count(batch_size, "batch_size", "batches")
    n = shapes[0][0]
    order = _generator(rng).permutation(n) if shuffle else np.arange(n)
    end = n - n % batch_size if drop_last else n
    return (tuple(a[order[i : i + batch_size]] for a in data) for i in range(0, end, batch_size))


def _check_tokens(tokens: Any, context: int, caller: str) -> Array:
    if isinstance(tokens, str):
        raise TypeError(f"{caller}: tokens are integers, not text; encode it first: Vocabulary.from_text(t).encode(t)")
    tokens = np.asarray(tokens)
    if tokens.ndim != 1:
        raise ValueError(f"{caller}: tokens must have one axis, not shape {tokens.shape}")
    count(context, "context", caller)
    if len(tokens) < context + 1:
        raise ValueError(
            f"{caller}: {len(tokens)} tokens are too few for context={context}, which takes {context + 1}: "
            "the context and the token after it. Use a longer text or a shorter context"
        )
    return tokens


def windows(tokens: Any, context: int, batch_size: int, rng: Seed = None) -> tuple[Array, Array]:
    """Draw a batch of windows at random places: x of shape (batch_size, context), and y, the token after each.

    `tokens` has shape (N,); raises ValueError if N < context + 1. `rng` is as in `batches`.

    >>> import numpy as np
    >>> from tinygrad_sm.data import windows
    >>> x, y = windows(np.arange(100), context=4, batch_size=2, rng=0)
    >>> x.tolist(), y.tolist()
    ([[81, 82, 83, 84], [61, 62, 63, 64]], [[82, 83, 84, 85], [62, 63, 64, 65]])
    """
    tokens = _check_tokens(tokens, context, "windows")
    count(batch_size, "batch_size", "windows")
    places = _generator(rng).integers(len(tokens) - context, size=(batch_size, 1)) + np.arange(context)
    return tokens[places], tokens[places + 1]


def all_windows(tokens: Any, context: int) -> tuple[Array, Array]:
    """Cut tokens (N,) into consecutive windows, for evaluation: x and y, both ((N − 1) // context, context).

    Row by row, x is the text, and y the same text one token on; what is left at the end is dropped. Raises
    ValueError if N < context + 1.

    >>> import numpy as np
    >>> from tinygrad_sm.data import all_windows
    >>> x, y = all_windows(np.arange(8), context=3)
    >>> x.tolist(), y.tolist()
    ([[0, 1, 2], [3, 4, 5]], [[1, 2, 3], [4, 5, 6]])
    """
    tokens = _check_tokens(tokens, context, "all_windows")
    end = (len(tokens) - 1) // context * context
    return tokens[:end].reshape(-1, context), tokens[1 : end + 1].reshape(-1, context)
