"""What holds for every test: a seeded generator, a quiet Hypothesis, and the markers."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
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


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "torch: compares with PyTorch; skipped where it is not installed")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    sm.manual_seed(0)
