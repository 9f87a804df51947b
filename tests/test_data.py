import sys
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_sm as sm
from tinygrad_sm.data import (
    Vocabulary,
    all_windows,
    batches,
    chunks,
    digits,
    overlap,
    python_docs,
    split_topics,
    unique_paragraphs,
    windows,
)

TEXTS = st.text("ab \n.", max_size=400)


# -- text: where it comes from ---------------------------------------------------------------


def test_python_docs():
    pytest.importorskip("pydoc_data.topics")
    docs = python_docs()
    assert list(docs) == sorted(docs)
    assert len(docs) > 50
    assert sum(map(len, docs.values())) > 300_000
    assert "assert_stmt" in docs["assert"]


def test_python_docs_are_sorted(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data", types.ModuleType("pydoc_data"))
    module = types.SimpleNamespace(topics={"b": "2", "c": "3", "a": "1"})
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", module)
    assert list(python_docs().items()) == [("a", "1"), ("b", "2"), ("c", "3")]


def test_python_docs_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(ImportError, match=r"libpython3-stdlib.*--text FILE"):
        python_docs()


def test_honest_split_of_the_docs():
    pytest.importorskip("pydoc_data.topics")
    docs = python_docs()
    honest = unique_paragraphs(docs)
    assert 0.5 < sum(map(len, honest.values())) / sum(map(len, docs.values())) < 0.95
    for seed in range(3):
        train, held_out = split_topics(honest, seed=seed)
        assert 0.08 < len(held_out) / (len(train) + len(held_out)) < 0.12
        assert overlap(train, held_out) < 0.02 < 0.1 < overlap(*split_topics(docs, seed=seed))


# -- chunks ----------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(TEXTS, st.integers(2, 120))
def test_chunks_lose_nothing_and_have_the_size(text, size):
    try:
        pieces = chunks(text, size)
    except ValueError:
        assert len(text.strip()) < 2 * max(size, 2)
        return
    limit = min(size, max(50, len(text) // 20))
    assert "".join("".join(pieces.values()).split()) == "".join(text.split())
    assert list(pieces) == sorted(pieces)
    assert len(pieces) >= 2
    assert all(0 < len(piece) <= limit and piece.strip() for piece in pieces.values())


def test_chunks_cut_where_the_text_does():
    paragraph = "word " * 9 + "end"  # 48 characters
    for mark in ("\n\n", "\n"):
        pieces = chunks(mark.join([paragraph] * 60), 110).values()
        assert len(pieces) == 30
        assert set(pieces) == {mark.join([paragraph] * 2)}
    pieces = chunks(" ".join([paragraph] * 60), 110).values()
    assert {word for piece in pieces for word in piece.split()} == {"word", "end"}


def test_chunks_of_a_text_without_spaces():
    assert [len(c) for c in chunks("x" * 1000, 400).values()] == [50] * 20


def test_chunks_keep_indentation_and_order():
    text = "\n\n".join(f"    def f{i:02}(): return {i:02}" for i in range(40))
    assert "\n\n".join(chunks(text, 100).values()) == text.strip()


@pytest.mark.parametrize("text", ["", "   \n\n", "x" * 99])
def test_chunks_of_too_little(text):
    with pytest.raises(ValueError, match=f"chunks: a text of {len(text.strip())} characters .* at least 100"):
        chunks(text)


def test_chunks_size():
    with pytest.raises(ValueError, match="at least 2"):
        chunks("x" * 1000, 1)


# -- unique_paragraphs -----------------------------------------------------------------------


def test_repeated_paragraphs_are_dropped_in_order():
    texts = {"b": "One.\n\nTwo\nlines.", "a": "Two \t lines.\n \nThree.\n\n\n\nThree.", "c": "One.", "d": " \n\n "}
    assert unique_paragraphs(texts) == {"b": "One.\n\nTwo\nlines.", "a": "Three."}
    assert list(unique_paragraphs(texts)) == ["b", "a"]


def test_repeated_long_lines_are_dropped_within_paragraphs():
    rule = "+" + "-" * 60 + "+"
    table = f"{rule}\n| a |\n{rule}\n| a |"
    assert unique_paragraphs({"t": table}) == {"t": f"{rule}\n| a |\n| a |"}
    assert unique_paragraphs({"t": table}, min_line=63) == {"t": table}
    # a paragraph of which nothing is left leaves no blank lines behind
    assert unique_paragraphs({"t": f"{rule}\nx", "u": f"y\n\n{rule}\n{rule}\n\nz"})["u"] == "y\n\nz"


def test_indentation_is_kept():
    assert unique_paragraphs({"t": "If:\n\n   x = 1\n     y"})["t"] == "If:\n\n   x = 1\n     y"


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from("abcd"), TEXTS))
def test_what_is_unique_stays_so(texts):
    once = unique_paragraphs(texts)
    assert unique_paragraphs(once) == once
    paragraphs = [" ".join(p.split()) for t in once.values() for p in t.split("\n\n")]
    assert len(paragraphs) == len(set(paragraphs))
    assert all(paragraphs)


# -- split_topics ----------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 100), min_size=2, max_size=30),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32),
)
def test_split_holds_out_whole_topics_in_order(sizes, share, seed):
    texts = {f"{i}": f"<{i}>" + "x" * n for i, n in enumerate(sizes)}
    parts = [part.split("\n\n") for part in split_topics(texts, share, seed)]
    assert all(parts)
    assert sorted(parts[0] + parts[1]) == sorted(texts.values())
    for part in parts:
        assert part == sorted(part, key=list(texts.values()).index)
    assert split_topics(texts, share, seed) == ("\n\n".join(parts[0]), "\n\n".join(parts[1]))


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.5])
def test_split_comes_close_to_the_share(share):
    rng = np.random.default_rng(0)
    texts = {f"{i}": "x" * n for i, n in enumerate(rng.integers(100, 4000, 200).tolist())}
    for seed in range(5):
        train, held_out = split_topics(texts, share, seed)
        assert abs(len(held_out) / (len(train) + len(held_out)) - share) < 0.01


def test_split_depends_on_the_seed():
    texts = {f"{i}": f"topic {i}" for i in range(30)}
    assert len({split_topics(texts, seed=seed)[1] for seed in range(10)}) > 5


def test_split_of_tiny_texts():
    assert sorted(split_topics({"a": "long" * 100, "b": "x"}, 0.01, seed=1)) == ["long" * 100, "x"]
    assert all(split_topics(chunks("It is a tiny text. " * 6)))
    for texts in ({}, {"a": "text"}, {"a": "text", "b": " \n "}):
        with pytest.raises(ValueError, match=r"it takes at least 2.*from 100 characters"):
            split_topics(texts)


@pytest.mark.parametrize("share", [0, 1, -0.1, 10])
def test_split_share(share):
    with pytest.raises(ValueError, match=f"between 0 and 1, not {share}"):
        split_topics({"a": "x", "b": "y"}, share)


# -- overlap ---------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(train=st.text("ab", max_size=40), held_out=st.text("ab", min_size=4, max_size=20), window=st.integers(1, 4))
def test_overlap_is_the_share_of_windows(train, held_out, window):
    count = len(held_out) - window + 1
    assert overlap(train, held_out, window) == sum(held_out[i : i + window] in train for i in range(count)) / count


def test_overlap_extremes():
    text = "".join(map(str, range(200)))
    assert overlap(text, text) == 1
    assert overlap("", text) == 0
    assert overlap(text.swapcase() + "x", "y" * 50) == 0


def test_overlap_of_little_text():
    assert overlap("abcd", "bc") == 1  # shorter than the window: one window
    assert overlap("abcd", "ca") == 0
    with pytest.raises(ValueError, match="nothing is held out"):
        overlap("abc", "")
    with pytest.raises(ValueError, match="at least 1 character, not 0"):
        overlap("abc", "abc", 0)


# -- Vocabulary ------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(), min_size=1))  # with surrogates and characters beyond 16 bits
def test_vocabulary_round_trip(text):
    vocabulary = Vocabulary.from_text(text)
    codes = vocabulary.encode(text)
    assert codes.dtype == np.int64
    assert codes.shape == (len(text),)
    assert codes.tolist() == [sorted(set(text)).index(c) for c in text]
    assert vocabulary.decode(codes) == text
    assert len(vocabulary) == len(set(text))


def test_vocabulary_is_data():
    assert Vocabulary.from_text("hello") == Vocabulary("ehlo")
    assert hash(Vocabulary.from_text("hello")) == hash(Vocabulary("ehlo"))
    with pytest.raises(AttributeError):
        Vocabulary("ab").characters = "c"


def test_vocabulary_unknown_characters():
    with pytest.raises(ValueError, match=r"not among its 2 characters: 'c', 'é'\. "):
        Vocabulary("ab").encode("abéca")
    vocabulary = Vocabulary.from_text("ab", unknown="�")
    assert vocabulary.decode(vocabulary.encode("abéca")) == "ab��a"
    assert Vocabulary.from_text("ab", unknown="a") == Vocabulary("ab", "a")


def test_vocabulary_of_nothing_to_encode():
    assert Vocabulary("ab").encode("").shape == (0,)
    assert Vocabulary("ab").decode([]) == ""


def test_vocabulary_decodes_what_a_model_gives():
    vocabulary = Vocabulary("abc")
    assert vocabulary.decode(sm.Tensor([2, 0])) == "ca"
    assert vocabulary.decode(np.array([[0, 1]], np.uint8)) == "ab"
    assert vocabulary.decode(1) == "b"


@pytest.mark.parametrize(("codes", "kind", "message"), [
    ([0, 3], IndexError, "code 3 is out of range for 3"),
    ([-1], IndexError, "code -1"),
    ([0.0], TypeError, "not float64"),
    ([True], TypeError, "not bool"),
])  # fmt: skip
def test_vocabulary_wrong_codes(codes, kind, message):
    with pytest.raises(kind, match=message):
        Vocabulary("abc").decode(codes)


@pytest.mark.parametrize("characters", ["", "ba", "aab"])
def test_vocabulary_wrong_characters(characters):
    with pytest.raises(ValueError, match="all different and sorted"):
        Vocabulary(characters)


@pytest.mark.parametrize("unknown", ["", "c", "ab"])
def test_vocabulary_wrong_unknown(unknown):
    with pytest.raises(ValueError, match="must be one character"):
        Vocabulary("ab", unknown)


# -- batches ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 6, 7])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("drop_last", [True, False])
def test_batches_visit_every_row_once(n, shuffle, drop_last):
    x, y = np.arange(n), np.arange(2.0 * n).reshape(n, 2)
    got = list(batches(x, y, batch_size=3, rng=1, shuffle=shuffle, drop_last=drop_last))
    sizes = [3] * (n // 3) + ([n % 3] if n % 3 and not drop_last else [])
    assert [(a.shape, b.shape) for a, b in got] == [((m,), (m, 2)) for m in sizes]
    for a, b in got:
        assert (y[a] == b).all()
    seen = [i for a, _ in got for i in a.tolist()]
    assert len(set(seen)) == len(seen) == sum(sizes)
    if not shuffle:
        assert seen == list(range(sum(sizes)))


def test_batches_are_seeded():
    def order(rng):
        return [int(i) for (x,) in batches(range(20), batch_size=6, rng=rng) for i in x]

    assert order(3) == order(3) == order(np.random.default_rng(3)) != list(range(20))
    assert order(3) != order(4)
    rng = np.random.default_rng(3)
    assert order(rng) != order(rng)  # the next epoch has another order
    sm.manual_seed(5)
    first = order(None)
    sm.manual_seed(5)
    assert order(None) == first == order(5)


def test_batches_take_tensors_and_lists():
    ((x, y),) = batches(sm.Tensor([[1.0], [2.0]]), ["a", "b"], batch_size=5, shuffle=False)
    assert type(x) is np.ndarray
    assert (x.tolist(), y.tolist()) == ([[1.0], [2.0]], ["a", "b"])


@pytest.mark.parametrize("arrays", [(), (np.zeros(3), np.zeros(4)), (np.zeros(3), np.float32(1))])
def test_batches_of_unequal_lengths_fail_at_once(arrays):
    with pytest.raises(ValueError, match="same number of rows"):
        batches(*arrays, batch_size=2)


def test_batches_size():
    with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
        batches(np.zeros(3), batch_size=0)


# -- windows ---------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(n=st.integers(2, 40), context=st.integers(1, 39), batch=st.integers(1, 5), seed=st.integers(0, 99))
def test_windows_are_pieces_of_the_text(n, context, batch, seed):
    tokens = np.arange(n)
    if n < context + 1:
        for call in (lambda: windows(tokens, context, batch, seed), lambda: all_windows(tokens, context)):
            with pytest.raises(ValueError, match=f"{n} tokens are too few for context={context}.* {context + 1}"):
                call()
        return
    x, y = windows(tokens, context, batch, seed)
    assert x.shape == y.shape == (batch, context)
    assert (y == x + 1).all()
    assert (np.diff(x) == 1).all()
    x, y = all_windows(tokens, context)
    assert x.shape == y.shape == ((n - 1) // context, context)
    assert x.ravel().tolist() == list(range(x.size))
    assert (y == x + 1).all()


def test_windows_reach_both_ends():
    x, y = windows(np.arange(6), 4, 200, 0)
    assert (set(x[:, 0].tolist()), y.max()) == ({0, 1}, 5)


def test_windows_are_seeded():
    tokens = np.arange(1000)
    sm.manual_seed(7)
    first = windows(tokens, 3, 4)[0]
    assert (first == windows(tokens, 3, 4, rng=7)[0]).all()
    assert (first != windows(tokens, 3, 4)[0]).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: windows(np.arange(9), 0, 1), "windows: context must be at least 1, not 0"),
        (lambda: windows(np.arange(9), 2, 0), "windows: batch_size must be at least 1, not 0"),
        (lambda: all_windows(np.zeros((2, 9)), 2), r"all_windows: tokens must have one axis, not shape \(2, 9\)"),
    ],
)
def test_windows_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# -- digits ----------------------------------------------------------------------------------


def test_digits():
    pytest.importorskip("sklearn")
    x_train, y_train, x_test, y_test = digits()
    assert (x_train.shape, y_train.shape, x_test.shape, y_test.shape) == ((1438, 64), (1438,), (359, 64), (359,))
    assert (x_train.dtype, y_train.dtype) == (np.float32, np.int64)
    assert (x_train.min(), x_train.max()) == (0, 1)
    assert set(y_test.tolist()) == set(range(10))
    # the parts are one permutation of the whole, and pictures keep their labels
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    whole = sorted((*x, y) for x, y in zip((pixels / 16).tolist(), labels.tolist(), strict=True))
    ours = zip(np.concatenate([x_train, x_test]).tolist(), np.concatenate([y_train, y_test]).tolist(), strict=True)
    assert sorted((*x, y) for x, y in ours) == whole
    assert all((a == b).all() for a, b in zip(digits(), (x_train, y_train, x_test, y_test), strict=True))
    assert (digits(seed=1)[3] != y_test).any()
    assert len(digits(held_out=0.5)[0]) == 899


def test_digits_without_sklearn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install scikit-learn"):
        digits()


def test_digits_share():
    with pytest.raises(ValueError, match="between 0 and 1, not 1"):
        digits(held_out=1)
