"""The main job: train a character language model on real text, look inside, and write down what happened.

`train` makes one run and `compare` two, with and without √d_k. A run is a folder:

    config.json          the options it was made with
    metrics.jsonl        one line per evaluation: losses, gradient norms and attention per layer
    result.json          the losses at the end, held out over all of the held-out part
    weights.safetensors  the trained model
    state.npz            all that `resume` needs: weights, optimiser, schedule, random state
    curve.png            losses, attention entropy and gradient norms over the steps
    block.svg            the compute graph of one block's training step
    block.html           the same as a page, in which one steps through the backward pass
"""

from __future__ import annotations

import importlib.util
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from . import data, io, nn, optim
from . import functional as F
from .inspection.flow import attention_stats, layer_norms
from .mode import no_grad
from .random import get_state, manual_seed, set_state
from .runs import read_config, read_losses, read_metrics, read_text, to_json, write_json
from .tensor import Array
from .text import visible
from .viz import plot
from .viz.draw import draw

DEFAULT: dict[str, Any] = {
    "text": None, "seed": 0, "steps": 700, "batch_size": 16, "context": 64, "d_model": 128, "n_heads": 4,
    "n_layers": 2, "lr": 2e-3, "dropout": 0.0, "scaled": True, "init": "gpt2", "eval_every": 50,
}  # fmt: skip
LONG: dict[str, Any] = {"steps": 1800, "context": 128, "n_layers": 4, "dropout": 0.1, "eval_every": 100}
UNIT: dict[str, Any] = {"n_heads": 1, "init": "unit"}  # one head of d_k = 128: the article's assumption
EVAL_WINDOWS = 64
Say = Callable[[str], None]


def tell(text: str) -> None:
    """Print text, with the control characters visible that names of files and a model's text may have."""
    print(visible(text, keep="\n\t"))


def prepare(text: str | None, seed: int) -> dict[str, Any]:
    """Read the text, drop repeated paragraphs, hold out whole topics, and turn characters into numbers."""
    raw = data.python_docs() if text is None else data.chunks(read_text(text))
    unique = data.unique_paragraphs(raw)
    train, held_out = data.split_topics(unique, held_out=0.1, seed=seed)
    vocabulary = data.Vocabulary.from_text(train + held_out)
    return {
        "characters": sum(len(t) for t in raw.values()),
        "kept": sum(len(t) for t in unique.values()),
        "overlap": data.overlap(train, held_out),
        "vocabulary": vocabulary,
        "train": vocabulary.encode(train),
        "held_out": vocabulary.encode(held_out),
    }


def bigram_loss(train: Array, held_out: Array, n: int) -> float:
    """Return the held-out loss in nats of counting pairs of characters, with one count added to each pair."""
    counts = np.ones((n, n))
    np.add.at(counts, (train[:-1], train[1:]), 1)
    log_p = np.log(counts / counts.sum(axis=1, keepdims=True))
    return float(-log_p[held_out[:-1], held_out[1:]].mean())


class Run:
    """A model in training with all its state: what `train` steps, saves, and resumes."""

    def __init__(self, options: dict[str, Any], corpus: dict[str, Any]) -> None:
        self.options, self.corpus, self.step = options, corpus, 0
        rng = manual_seed(options["seed"])
        shape = {k: options[k] for k in ("d_model", "n_heads", "n_layers", "context", "scaled", "dropout", "init")}
        self.model = nn.TransformerLM(len(corpus["vocabulary"]), **shape, rng=rng)
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        vectors = [p for p in self.model.parameters() if p.ndim == 1]  # biases and gains are not decayed
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = optim.AdamW(groups, lr=options["lr"], betas=(0.9, 0.99))
        warmup = min(100, options["steps"] // 10)
        self.schedule = optim.CosineSchedule(self.optimizer, options["steps"], warmup=warmup, floor=0.05)
        self.losses: list[float] = []  # training losses since the last evaluation
        self.norms: dict[str, float] = {}

    def advance(self) -> None:
        """Make one training step."""
        o = self.options
        x, y = data.windows(self.corpus["train"], o["context"], o["batch_size"])
        loss = F.cross_entropy(self.model(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.step += 1
        if self.due():
            self.norms = layer_norms(self.model)
        optim.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.losses.append(loss.item())

    def due(self) -> bool:
        """Tell whether this step ends with an evaluation."""
        return self.step % self.options["eval_every"] == 0 or self.step == self.options["steps"]

    def evaluate(self, windows: int | None = EVAL_WINDOWS) -> float:
        """Return the held-out loss in nats a character, over evenly spaced windows, or all of them (None)."""
        x, y = data.all_windows(self.corpus["held_out"], self.options["context"])
        if windows is not None and len(x) > windows:
            chosen = np.linspace(0, len(x) - 1, windows).astype(int)
            x, y = x[chosen], y[chosen]
        with no_grad(), self.model.evaluating():
            total = sum(F.cross_entropy(self.model(a), b, reduction="sum").item() for a, b in _chunks(x, y, 32))
        return total / y.size

    def attention(self) -> list[dict[str, float]]:
        """Return the entropy and the largest weight of each block's attention on held-out text."""
        x, _ = data.all_windows(self.corpus["held_out"], self.options["context"])
        with self.model.evaluating():
            return [attention_stats(w, causal=True) for w in self.model.attention_weights(x[:8])]

    def measure(self) -> dict[str, Any]:
        """Return one line of metrics, and start the next mean of training losses."""
        row = {
            "step": self.step, "train_loss": float(np.mean(self.losses)), "held_out_loss": self.evaluate(),
            "lr": self.optimizer.param_groups[0]["lr"], "grad_norms": self.norms, "attention": self.attention(),
        }  # fmt: skip
        self.losses = []
        return row

    def sample(self, length: int, seed: int = 0, temperature: float = 0.8) -> str:
        """Return text that the model writes after "The ", or after a character of its own text."""
        vocabulary = self.corpus["vocabulary"]
        start = "The " if set("The ") <= set(vocabulary.characters) else vocabulary.decode(self.corpus["held_out"][:1])
        rng = np.random.default_rng(seed)
        return vocabulary.decode(
            self.model.generate(vocabulary.encode(start), length, temperature=temperature, rng=rng)
        )

    def save(self, folder: Path) -> None:
        """Write the state for `resume`."""
        state = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        state |= {f"optimizer.{k}": v for k, v in self.optimizer.state_dict().items()}
        state |= {f"schedule.{k}": v for k, v in self.schedule.state_dict().items()}
        state |= {"step": np.asarray(self.step), "random": get_state(), "losses": np.asarray(self.losses)}
        io.save(folder / "state.npz", state)

    def load(self, folder: Path) -> None:
        """Go on from the saved state, as if there had been no break; raise ValueError if it does not fit."""
        state = io.load(folder / "state.npz")

        def part(prefix: str) -> dict[str, Array]:
            return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}

        try:
            step, losses, random = (state[key] for key in ("step", "losses", "random"))
            if step.shape or step.dtype.kind not in "iu" or not 0 <= step <= self.options["steps"]:
                raise ValueError(f"step is {step}, of {self.options['steps']} steps")
            if losses.ndim != 1 or losses.dtype.kind != "f" or random.shape != (6,) or random.dtype != np.uint64:
                raise ValueError(f"losses are {losses.dtype}{losses.shape}, random is {random.dtype}{random.shape}")
            self.model.load_state_dict(part("model."))
            self.optimizer.load_state_dict(part("optimizer."))
            self.schedule.load_state_dict(part("schedule."))
            set_state(random)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(
                f"{visible(folder)}/state.npz does not fit the run that config.json tells of: {error}"
            ) from None
        self.step, self.losses = int(step), [float(v) for v in losses]

    def draw_block(self, path: Path) -> None:
        """Draw the compute graph of one training step through the first block only, on a few characters."""
        model, tokens = self.model, self.corpus["held_out"][: min(9, self.options["context"] + 1)]
        x = model.tokens(tokens[None, :-1]) + model.positions(np.arange(len(tokens) - 1))
        logits = F.linear(model.ln(model.blocks[0](x)), model.tokens.weight)
        loss = F.cross_entropy(logits, tokens[None, 1:])
        x.name, logits.name, loss.name = "x", "logits", "loss"
        draw(loss, title="One training step through one block").save(path)


def _chunks(x: Array, y: Array, size: int) -> Iterator[tuple[Array, Array]]:
    return ((x[i : i + size], y[i : i + size]) for i in range(0, len(x), size))


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Turn Ctrl-C into an event, so that the step under way can end; a second Ctrl-C interrupts at once."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed
        return

    def handler(*_: Any) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, handler)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _progress(total: int, done: int, label: str, say: Say) -> Iterator[tuple[Callable[[float], None], Say]]:
    """Give a function to call after each step, and one that prints a line, with a progress bar if tqdm is there."""
    try:
        from tqdm import tqdm
    except ImportError:
        say("no progress bar: it needs tqdm (pip install tqdm)")
        yield lambda loss: None, say
        return
    with tqdm(total=total, initial=done, desc=label, unit="step", dynamic_ncols=True, leave=False, disable=None) as bar:

        def tick(loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update()

        yield tick, bar.write


def _perplexity(loss: float) -> str:
    return f"{math.exp(loss) if loss < 700 else math.inf:.2f}"


def train(folder: Path, options: dict[str, Any], *, resume: bool = False, say: Say = tell) -> list[dict[str, Any]]:
    """Train one model, write its folder, and return its metrics; `options` as in `DEFAULT`.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C, when the state has been saved.
    ValueError
        If the text is too short or not text, and if there is nothing to resume, or what is there is damaged.
    """
    started = time.perf_counter()
    if resume:
        if not (folder / "state.npz").exists():
            raise ValueError(f"nothing to resume in {folder}: there is no state.npz")
        options = read_config(folder / "config.json", DEFAULT)
        size = 4 * options["d_model"] * (12 * options["n_layers"] * options["d_model"] + options["context"])  # bytes
        if size > (folder / "state.npz").stat().st_size:  # before memory is set aside for such a model
            raise ValueError(f"{visible(folder)}: config.json tells of a larger model than state.npz holds")
    corpus = prepare(options["text"], options["seed"])
    for part in ("train", "held_out"):
        data.all_windows(corpus[part], options["context"])  # raises if the text is too short for the context
    run = Run(options, corpus)
    folder.mkdir(parents=True, exist_ok=True)
    metrics: list[dict[str, Any]] = []
    if resume:
        run.load(folder)
        metrics = [row for row in read_metrics(folder) if row["step"] <= run.step]
        if run.step == options["steps"] and not metrics:
            raise ValueError(f"{visible(folder)} holds a finished run, but its metrics.jsonl is missing or empty")
    else:  # what an earlier run left here must never be taken for this one's
        if (folder / "state.npz").exists():
            say(f"replacing the earlier run in {folder}")
        for name in (
            "state.npz", "metrics.jsonl", "result.json", "weights.safetensors", "weights.npz", "curve.png", "block.svg",
            "block.html",
        ):  # fmt: skip
            (folder / name).unlink(missing_ok=True)
    write_json(folder / "config.json", options, indent=1)
    write_json(folder / "metrics.jsonl", *metrics)  # what came after the saved state is made again
    bigram = bigram_loss(corpus["train"], corpus["held_out"], len(corpus["vocabulary"]))
    _introduce(run, bigram, say)

    bar = _progress(options["steps"], run.step, visible(folder.name), say)
    with interruptible() as interrupted, bar as (tick, note), (folder / "metrics.jsonl").open("a") as log:
        while run.step < options["steps"] and not interrupted.is_set():
            run.advance()
            tick(run.losses[-1])
            if not math.isfinite(run.losses[-1]):
                raise ValueError(
                    f"training diverged: the loss is {run.losses[-1]} at step {run.step}. A lower --lr may help; "
                    f"what {folder} holds is from the last evaluation"
                )
            if run.due():
                metrics.append(run.measure())
                log.write(to_json(metrics[-1]) + "\n")
                log.flush()
                run.save(folder)
                note("step {step:5d}  training {train_loss:.3f}  held out {held_out_loss:.3f}".format(**metrics[-1]))
        run.save(folder)
    if run.step < options["steps"]:
        say(f"\nstopped at step {run.step}; state saved. Go on with --resume (folder {folder})")
        raise KeyboardInterrupt
    _finish(run, folder, metrics, bigram, say)
    say(f"time: {time.perf_counter() - started:.0f} s")
    return metrics


def _introduce(run: Run, bigram: float, say: Say) -> None:
    c, o = run.corpus, run.options
    source = o["text"] or "pydoc_data.topics, the language reference that Python ships"
    say(
        f"text: {source}: {c['characters']:,} characters, {c['kept']:,} without repeated paragraphs; "
        f"{len(c['train']):,} to train on, {len(c['held_out']):,} held out in whole topics\n"
        f"  {100 * c['overlap']:.1f} % of the held-out 50-character windows occur word for word in the training part\n"
        f"model: {o['n_layers']} blocks, d_model {o['d_model']}, {o['n_heads']} heads of d_k = "
        f"{o['d_model'] // o['n_heads']}, context {o['context']}, {len(c['vocabulary'])} characters, "
        f"{sum(p.size for p in run.model.parameters()):,} parameters; init {o['init']}, "
        f"scores {'divided by √d_k' if o['scaled'] else 'NOT divided by √d_k'}\n"
        f"yardstick: a bigram model has {bigram:.3f} nats a character on the held-out part"
    )


def _finish(run: Run, folder: Path, metrics: list[dict[str, Any]], bigram: float, say: Say) -> None:
    """Write the weights and the pictures, and print what came out."""
    last, written = metrics[-1], ["metrics.jsonl", "result.json", "state.npz"]
    for name, write in (
        ("weights.safetensors" if _installed("safetensors") else "weights.npz", lambda path: io.save(path, run.model)),
        ("curve.png", lambda path: plot.curve(metrics, path, bigram)),
        ("block.svg", run.draw_block),
        ("block.html", run.draw_block),
    ):
        try:
            write(folder / name)
            written.append(name)
        except (ImportError, RuntimeError) as error:  # an extra, or the program `dot`, is not installed
            say(f"not written: {name}\n  {error}")
    final = run.evaluate(None)
    result = {"steps": run.step, "train_loss": last["train_loss"], "held_out_loss": final}
    write_json(folder / "result.json", result)
    say("\nblock  attention entropy / log n  largest weight  gradient norm")
    for i, a in enumerate(last["attention"]):
        norm = last["grad_norms"].get(f"blocks.{i}", math.nan)
        say(f"{i:5d}  {a['entropy']:25.3f}  {a['largest']:14.3f}  {norm:13.4f}")
    others = {k: v for k, v in last["grad_norms"].items() if not k.startswith("blocks")}
    say("gradient norms of the rest: " + ", ".join(f"{k} {v:.4f}" for k, v in others.items()))
    say(f"\nthe model writes:\n{_indented(run.sample(300))}")
    say(
        f"\ntraining loss {last['train_loss']:.3f} nats a character (perplexity {_perplexity(last['train_loss'])}); "
        f"held-out loss {final:.3f} (perplexity {_perplexity(final)}), over the whole held-out part"
    )
    say(f"written to {folder}/: {', '.join(written)}")


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _indented(text: str) -> str:
    return "\n".join("  | " + line for line in text.splitlines())


def compare(folder: Path, options: dict[str, Any], *, resume: bool = False, say: Say = tell) -> None:
    """Train with and without √d_k from the same seed, and draw both in one picture."""
    runs = {}
    if resume:
        if not (folder / "scaled" / "config.json").exists():
            raise ValueError(f"nothing to resume in {folder}: there is no scaled/config.json")
        options = read_config(folder / "scaled" / "config.json", DEFAULT)
    for name, scaled in (("scaled", True), ("unscaled", False)):
        say(f"\n--- {name}: scores {'divided by √d_k' if scaled else 'left as q·k'} ---")
        going = resume and (folder / name / "state.npz").exists()
        runs[name] = train(folder / name, {**options, "scaled": scaled}, resume=going, say=say)
    on, off = runs["scaled"][-1], runs["unscaled"][-1]
    d_k = options["d_model"] // options["n_heads"]
    final = {name: read_losses(folder / name / "result.json")["held_out_loss"] for name in runs}
    gap = final["unscaled"] - final["scaled"]
    title = f"√d_k on and off: init {options['init']}, d_k = {d_k}, seed {options['seed']}"
    runs = {"divided by √d_k": runs["scaled"], "not divided": runs["unscaled"]}
    try:
        plot.compare(runs, folder / "compare.png", title)
        say(f"\nwritten: {folder / 'compare.png'}")
    except ImportError as error:
        say(f"\nnot written: compare.png. {error}")
    say(f"\n{title}\n               held-out loss  attention entropy  largest weight")
    for name, row, loss in (("divided", on, final["scaled"]), ("not divided", off, final["unscaled"])):
        entropy, largest = (np.mean([a[key] for a in row["attention"]]) for key in ("entropy", "largest"))
        say(f"  {name:12s} {loss:13.3f}  {entropy:17.3f}  {largest:14.3f}")
    say(_verdict(gap, options["init"], d_k))


def _verdict(gap: float, init: str, d_k: int) -> str:
    cost = "cost" if gap > 0 else "gained"
    setting = (
        f"q and k start with entries of variance 1, so q·k has variance d_k = {d_k}, as the argument for √d_k assumes."
        if init == "unit"
        else "GPT-2's small weights make q·k small at the start, whatever d_k is, against the argument's assumption."
    )
    return (
        f"Leaving √d_k out {cost} {abs(gap):.3f} nats a character here (one seed). {setting} "
        f"Try --init {'gpt2' if init == 'unit' else 'unit'} for the other case."
    )
