"""The command `tinygrad-sm`."""

from __future__ import annotations

import argparse
import os
import runpy
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from . import __version__, ops, training
from .op import REGISTRY, Op
from .pretrained import commands as pretrained
from .runs import read_config
from .text import visible


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(visible(message))  # it repeats what was typed, or what a script passed on


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="tinygrad-sm", description="A small autograd engine on NumPy, with softmax at its centre.")
    parser.add_argument("--version", action="version", version=f"tinygrad_sm {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    train = commands.add_parser(
        "train",
        help="train a character Transformer from scratch on real text",
        description="Train nn.TransformerLM character by character on the text that Python ships with (or --text), "
        "and write the curve, the weights, the metrics and the graph of one block into runs/NAME/.",
    )
    train.add_argument("--name", default=None, help="folder of the run in runs/ (default: demo, long or compare)")
    train.add_argument("--text", metavar="FILE", help="train on this text file instead")
    train.add_argument("--no-scale", dest="scaled", action="store_false", help="do not divide the scores by √d_k")
    train.add_argument("--compare", action="store_true", help="train with and without √d_k, and draw both")
    train.add_argument(
        "--init", choices=("unit", "gpt2"),
        help="unit: q and k of variance 1 and one head (default of --compare); gpt2: small weights (default otherwise)",
    )  # fmt: skip
    train.add_argument("--long", action="store_true", help="a larger model for about ten minutes")
    train.add_argument("--resume", action="store_true", help="go on from the saved state, with the same numbers")
    shape = train.add_argument_group("size of the model and of the run")
    for name, kind, text in (
        ("steps", int, "training steps"),
        ("seed", int, "of the split, the weights and the batches"),
        ("batch-size", int, "windows of text per step"),
        ("context", int, "characters the model sees"),
        ("d-model", int, "width"),
        ("n-heads", int, "heads per block"),
        ("n-layers", int, "blocks"),
        ("lr", float, "largest learning rate"),
        ("dropout", float, "share of activations dropped in training"),
        ("eval-every", int, "steps between evaluations"),
    ):
        shape.add_argument(f"--{name}", type=kind, metavar="N" if kind is int else "X", help=text)
    train.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where runs are kept")
    checks = commands.add_parser(
        "check",
        help="check the gradients of the registered ops, one's own among them",
        description="Compare every gradient of every op with differences, raw rules with recorded ones, fused ops with "
        "their definitions (sm.ops.check). The exit status is 1 if an op fails, or none is checked.",
    )
    checks.add_argument(
        "what", nargs="*", metavar="OP | FILE.py",
        help="the name of an op, or a file to run, whose ops are checked (default: all ops of the library)",
    )  # fmt: skip
    checks.add_argument("--order", type=int, default=2, metavar="N", help="up to which derivative (default: 2)")
    checks.add_argument("--seed", type=int, default=0, metavar="N", help="of the arguments (default: 0)")
    primer = commands.add_parser(
        "primer",
        help='reproduce the article "Primer on Softmax": its numbers, figures and claims, each with a verdict',
        description="Compute every number of the article again, draw every figure, and judge every claim, without a "
        "network. DIR/index.html holds all of it; the pictures, primer.md and primer.json lie beside it.",
    )
    primer.add_argument("--out", type=Path, default=Path("runs/primer"), metavar="DIR", help="default: runs/primer")
    doctor = commands.add_parser(
        "doctor",
        help="run a training script, and report what is wrong with each loss that it sends backward",
        description="Run a script under sm.record(), and examine each loss that it sends backward (sm.doctor), once "
        "for each source line, the worst first. The exit status is 1 if there are errors.",
    )
    doctor.add_argument(
        "--silence", action="append", default=[], metavar="RULE", help="leave out a rule; may be repeated"
    )
    doctor.add_argument("script", type=Path, metavar="SCRIPT.py", help="the file to run")
    doctor.add_argument("args", nargs=argparse.REMAINDER, metavar="...", help="what the script is given")
    pretrained.add(commands)
    return parser


def _said(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options of a run that were given on the command line."""
    return {name: getattr(args, name) for name in training.DEFAULT if getattr(args, name) is not None}


def _check_same(said: dict[str, Any], config: Path) -> None:
    """Refuse options that differ from those of the run to resume, which go on to hold."""
    began = read_config(config, training.DEFAULT) if config.exists() else said
    differ = [f"{k} was {began[k]}" for k, v in said.items() if began[k] != v and (k, v) != ("scaled", True)]
    if differ:
        raise ValueError(f"--resume goes on with the options that the run began with: {', '.join(differ)}")


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """Lay what the user said over the preset that fits."""
    options = dict(training.DEFAULT)
    if args.long:
        options |= training.LONG
    if (args.init or ("unit" if args.compare else "gpt2")) == "unit":
        options |= training.UNIT
    said = _said(args)
    if args.compare and not args.scaled:
        raise ValueError("--compare trains with and without √d_k; leave out --no-scale")
    if said.get("seed", 0) < 0:
        raise ValueError(f"--seed must be 0 or more, not {said['seed']}")
    for option, value in said.items():
        if option not in ("text", "seed", "scaled", "init", "lr", "dropout") and value < 1:
            raise ValueError(f"--{option.replace('_', '-')} must be 1 or more, not {value}")
    return options | said


def _ops_of(path: Path) -> list[Op]:
    """Run a file and return the ops that it registered. What it guards with `__name__ == "__main__"` is left out."""
    before = dict(REGISTRY)
    sys.path.insert(0, str(path.resolve().parent))  # where it finds the modules beside it
    try:
        runpy.run_path(str(path), run_name=path.stem)
    except (Exception, SystemExit) as error:
        if not isinstance(error, SystemExit) or error.code:
            lines = [step.lineno for step in traceback.extract_tb(error.__traceback__) if step.filename == str(path)]
            at = f", line {lines[-1]}" if lines else ""
            raise ValueError(f"{path}{at}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    new = [op for name, op in REGISTRY.items() if op is not before.get(name)]
    if not new:
        raise ValueError(f"{path} registers no op: sm.Op(forward, rules, name=...) does")
    return new


def _check(args: argparse.Namespace) -> int:
    """Print the table of checked ops; return 1 if one failed."""
    chosen: list[Any] = []
    for what in args.what:
        chosen += _ops_of(Path(what)) if what.endswith(".py") else [what]
    report = ops.check(chosen or None, order=args.order, seed=args.seed)
    print(report)
    return 0 if report else 1


def _doctor(args: argparse.Namespace) -> int:
    """Print what was found in each loss of a script; return 1 if there are errors, 2 if the script failed."""
    from .inspection.doctor import checked_ids
    from .inspection.scripts import examine

    silence = checked_ids(args.silence, "--silence")
    if not args.script.is_file():
        raise ValueError(f"{args.script} is no file to run")
    reports, failure = examine(args.script, args.args, silence)
    if not reports and not failure:
        raise ValueError(f"{args.script} sends no loss backward: nothing was examined")
    print(*reports, sep="\n\n")
    if failure:
        raise ValueError(failure)
    return 1 if any(report.errors for report in reports) else 0


def _primer(args: argparse.Namespace) -> int:
    """Write the report."""
    from . import primer

    print(f"written: {primer.write(args.out, print)}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a console that cannot show √ prints ? and goes on
    args = _parser().parse_args(argv)
    try:
        status = COMMANDS[args.command](args)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader has gone, as `| head -1` does after a line
        with suppress(OSError):  # what is left in the buffer has nowhere to go
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError, ImportError, MemoryError) as error:
        print("tinygrad-sm:", visible(str(error) or type(error).__name__, keep="\n"), file=sys.stderr)
        return 2


def _train(args: argparse.Namespace) -> int:
    """Train as the options say."""
    if args.name is not None and (Path(args.name).name != args.name or args.name == ".."):
        print(f"tinygrad-sm: --name is the name of a folder in {args.runs}, not a path: {args.name!r}", file=sys.stderr)
        return 2
    name = args.name or ("compare" if args.compare else "long" if args.long else "demo")
    job = training.compare if args.compare else training.train
    if args.resume:
        _check_same(_said(args), args.runs / name / ("scaled" if args.compare else "") / "config.json")
    job(args.runs / name, _options(args), resume=args.resume)
    return 0


COMMANDS = {
    "attention": pretrained.attention, "check": _check, "doctor": _doctor, "embed": pretrained.embed,
    "generate": pretrained.generate, "primer": _primer, "train": _train,
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
