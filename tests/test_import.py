"""What `import tinygrad_sm` imports: what training needs, and the rest when it is first asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import tinygrad_sm as sm

HEAVY = [
    "argparse", "concurrent.futures", "dataclasses", "difflib", "graphviz", "html", "importlib.metadata", "json",
    "matplotlib", "numpy.random", "pathlib", "safetensors", "scipy", "secrets", "shutil", "sklearn", "subprocess",
    "tempfile", "torch", "tqdm", "urllib", "zipfile",
]  # fmt: skip
LATER = ["calibration", "cli", "data", "decoding", "graph", "inspection", "io", "naive", "primer", "training", "viz"]


def run(code: str) -> str:
    """Run code in a fresh process, and return what it printed."""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert out.returncode == 0, out.stderr
    return out.stdout.strip()


def test_nothing_heavy_is_imported() -> None:
    """Beyond what NumPy itself, or the start of Python in this environment, has imported."""
    names = [*HEAVY, *(f"tinygrad_sm.{name}" for name in LATER)]
    code = "import sys, numpy; before = set(sys.modules); import tinygrad_sm; print(*set(sys.modules) - before)"
    imported = run(code).split()
    assert "tinygrad_sm.optim" in imported
    assert [name for name in names if name in imported] == []


@pytest.mark.parametrize(
    "use",
    [
        "sm.calibration.reliability", "sm.data.digits", "sm.decoding.greedy",
        "sm.inspection.gradcheck", "sm.naive.softmax", "sm.graph.Graph", "sm.io.load", "sm.viz",
        "sm.Graph", "sm.detect_anomaly", "sm.doctor", "sm.draw", "sm.gradcheck", "sm.gradient_flow", "sm.load",
        "sm.record", "sm.save",
    ],
)  # fmt: skip
def test_the_rest_is_there_at_the_first_use(use: str) -> None:
    run(f"import tinygrad_sm as sm; assert {use} is {use}")


def test_every_public_name_is_there() -> None:
    code = "from tinygrad_sm import *; import tinygrad_sm as sm; print([n for n in sm.__all__ if n not in globals()])"
    assert run(code) == "[]"
    assert set(sm.__all__) <= set(dir(sm))


def test_a_first_gradient_is_the_same_with_and_without_what_comes_later() -> None:
    code = "import tinygrad_sm as sm; {}x = sm.Tensor([1.0, 2.0], requires_grad=True); sm.softmax(x)[0].backward()"
    results = [
        run(f"{code.format(first)}; print(x.grad.tolist())") for first in ("", "sm.draw, sm.data, sm.gradcheck; ")
    ]
    assert results[0] == results[1] != ""


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match=r"'tinygrad_sm' has no attribute 'Variable'$"):
        sm.Variable  # noqa: B018


def test_a_name_that_lives_elsewhere_says_where() -> None:
    for name, home in {"mse_loss": "functional", "Linear": "nn", "AdamW": "optim"}.items():
        with pytest.raises(AttributeError, match=f"no attribute '{name}'; it is tinygrad_sm.{home}.{name}$"):
            getattr(sm, name)
