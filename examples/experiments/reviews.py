"""Snippets of movie reviews with people's mean rating, read from the archive that they are published in.

10,605 snippets of Rotten Tomatoes (Pang and Lee), each rated by some 20 people from −4, most negative, to 4 (Hutto and
Gilbert 2014, VADER; MIT licence). They stand in the source package of vaderSentiment, which is not installed:

    pip download --no-deps --no-binary :all: vaderSentiment==3.3.2

The archive is read in memory, and nothing of it is written to the disk or run.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import tarfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

VARIABLE = "TINYGRAD_SM_MOVIE_REVIEWS"  # the environment variable that names the archive
INNER, TABLE = "hutto_ICWSM_2014.tar.gz", "movieReviewSnippets_GroundTruth.txt"
LARGEST = 2**26  # bytes of an archive, packed or not: the outer one has 3 MB unpacked, the inner one 8 MB
CLEAR = 0.4  # a mean nearer to 0 is left out: people do not agree on its sign


class Review(NamedTuple):
    """One snippet: its number, the mean rating, and the text."""

    number: int
    rating: float
    text: str


class Split(NamedTuple):
    """Three parts, of which no two share a snippet or a text."""

    train: list[Review]
    held: list[Review]
    test: list[Review]


def read(path: str | os.PathLike[str] | None = None) -> list[Review]:
    """Return all snippets of the archive at `path`, or that which the environment variable names.

    Raises FileNotFoundError if there is none, with what to do, and ValueError if it is damaged or another file.
    """
    place = Path(path or os.environ.get(VARIABLE) or "vaderSentiment-3.3.2.tar.gz")
    if not place.is_file():
        raise FileNotFoundError(
            f"there is no file {place}: get it by `pip download --no-deps --no-binary :all: vaderSentiment==3.3.2`, "
            f"and name it by --data FILE or the environment variable {VARIABLE}"
        )
    if place.stat().st_size > LARGEST:
        raise ValueError(f"{place.name} has {place.stat().st_size:,} bytes; at most {LARGEST:,} are read")
    try:
        members = unpacked(place.read_bytes())
        if INNER in members:
            members = unpacked(members[INNER])
        if TABLE not in members:
            raise ValueError(f"there is no {TABLE} in it")
        return parsed(members[TABLE].decode("utf-8"))
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        raise ValueError(f"cannot read {place.name}: {error}") from None


def unpacked(packed: bytes) -> dict[str, bytes]:
    """Return those files of a .tar.gz that are wanted here, by name without folders."""
    with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"it unpacks to more than {LARGEST:,} bytes")
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
        for member in archive:
            name = member.name.rpartition("/")[2]
            if name not in (INNER, TABLE):
                continue
            if not member.isreg() or member.issparse() or member.size > len(content) or name in found:
                raise ValueError(f"its {name} is not one plain file")
            file_of = archive.extractfile(member)
            assert file_of is not None
            found[name] = file_of.read()
            if len(found[name]) < member.size:
                raise ValueError(f"its {name} is cut short")
    return found


def parsed(text: str) -> list[Review]:
    """Return the snippets of a table of three columns: number, mean rating, text."""
    reviews, seen = [], set()
    for i, line in enumerate(text.splitlines(), 1):
        cells = line.split("\t")
        try:
            number, rating, words = int(cells[0]), float(cells[1]), cells[2].strip()
        except (ValueError, IndexError):
            raise ValueError(f"line {i} of {TABLE} is not a number, a rating and a text: {line[:60]!r}") from None
        if len(cells) != 3 or not words or not math.fabs(rating) <= 4 or number in seen:
            raise ValueError(f"line {i} of {TABLE} has no text, a rating beyond ±4 or a number twice: {line[:60]!r}")
        seen.add(number)
        reviews.append(Review(number, rating, words))
    return reviews


def split(reviews: list[Review]) -> Split:
    """Return the three parts, chosen by the last digit of the number: 0 and 1 for the test, 2 held out, the rest.

    Snippets whose mean rating is within ±0.4 are left out, and so is a text that stood before. Each part is in an
    order drawn once, since the numbers of the positive snippets come first.
    """
    parts, seen = Split([], [], []), set()
    for review in sorted(reviews):
        key = " ".join(review.text.lower().split())
        if abs(review.rating) >= CLEAR and key not in seen:
            digit = review.number % 10
            (parts.test if digit < 2 else parts.held if digit == 2 else parts.train).append(review)
        seen.add(key)
    return Split(*([part[i] for i in np.random.default_rng(0).permutation(len(part))] for part in parts))


def made_up(n: int = 120) -> list[Review]:
    """Return sentences after a pattern, which stand in for the reviews where they are not installed."""
    good, bad = ("a joy", "superb", "moving", "a triumph"), ("a bore", "dreadful", "clumsy", "a mess")
    what = ("The film", "Its plot", "The lead", "This sequel", "The score")
    rated = [(2.0, word) for word in good] + [(-2.0, word) for word in bad]
    texts = [(rating, f"{w} is {word}, take {k}.") for k in range(n) for w in what for rating, word in rated]
    return [Review(i, *pair) for i, pair in enumerate(texts[:n], 1)]
