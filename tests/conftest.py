"""What holds for every test: a seeded generator, a quiet Hypothesis, and the markers."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from helpers import own_ops
from hypothesis import HealthCheck, settings

import tinygrad_sm as sm

settings.register_profile(
    "repeatable",
    max_examples=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")

collect_ignore_glob = [] if find_spec("mpmath") else ["accuracy/*"]  # what is exact, mpmath knows
collect_ignore = [] if find_spec("torch") else ["benchmarks/torch_gpt.py"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "torch: compares with PyTorch; skipped where it is not installed")


@pytest.fixture
def registry() -> Iterator[dict[str, sm.Op]]:
    """Give the table of ops; those that the test registers are forgotten after it."""
    with own_ops() as table:
        yield table


@pytest.fixture(autouse=True)
def _seeded() -> None:
    sm.manual_seed(0)
