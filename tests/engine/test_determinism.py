"""Run after run, the same bits: whatever the hash seed, and however many threads BLAS has."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

TRAIN = """
import hashlib
import numpy as np, tinygrad_sm as sm
import tinygrad_sm.functional as F

def show(name, arrays):
    digest = hashlib.sha256()
    for a in arrays:
        digest.update(np.ascontiguousarray(a).tobytes())
    print(name, digest.hexdigest())

sm.manual_seed(0)
lm = sm.nn.TransformerLM(31, d_model=32, n_heads=4, n_layers=2, context=16, dropout=0.1)
optimizer = sm.optim.AdamW(lm.parameters(), lr=1e-2)
tokens = np.random.default_rng(0).integers(0, 31, (8, 17))
for step in range(3):
    optimizer.zero_grad()
    loss = sm.cross_entropy(lm(tokens[:, :-1]), tokens[:, 1:], label_smoothing=0.1)
    loss.backward()
    norm = sm.optim.clip_grad_norm_(lm.parameters(), 1.0)
    optimizer.step()
    show(f"gradients of step {step}", [p.grad.data for p in lm.parameters()])
show("weights", [p.data for p in lm.parameters()])
show("text", [lm.generate(tokens[0, :4], 8)])
"""
BLAS = """
sizes, rng = (8, 31, 32, 96, 128), np.random.default_rng(1)
for dtype in (np.float32, np.float64):
    products = [a.T @ b if flip else np.ascontiguousarray(a.T) @ b for n in sizes for m in sizes for k in sizes
                for a, b in [(rng.normal(size=(k, n)).astype(dtype), rng.normal(size=(k, m)).astype(dtype))]
                for flip in (False, True)]
    show(f"BLAS alone, {dtype.__name__}", products)
"""
KERNELS = """
def gradients(name, f, *arrays):
    leaves = [sm.Tensor(a, requires_grad=True) for a in arrays]
    y = f(*leaves)
    show(name, [y.data, *(g.data for g in sm.grad(y, leaves))])
    show(name + ", recorded", [g.data for g in sm.grad(y, leaves, create_graph=True)])

rng = np.random.default_rng(0)
for dtype in (np.float32, np.float64):
    z = rng.normal(size=(100, 3000)).astype(dtype)
    target, gain = rng.integers(0, 3000, 100), rng.uniform(0.5, 2.0, 3000).astype(dtype)
    gradients("softmax", lambda a: (F.softmax(a) ** 2).sum(), z)
    gradients("log_softmax", lambda a: (F.log_softmax(a) ** 2).mean(), z)
    gradients("logsumexp", lambda a: F.logsumexp(a, axis=0).sum(), z)
    gradients("cross_entropy", lambda a: F.cross_entropy(a, target), z)
    gradients("smoothed cross_entropy", lambda a: F.cross_entropy(a, target, label_smoothing=0.1, weight=gain), z)
    gradients("soft cross_entropy", lambda a: F.cross_entropy(a, F.softmax(z)), z)
    gradients("layer_norm", lambda a, b: (F.layer_norm(a, 3000, b, b) ** 3).sum(), z, gain)
    gradients("rms_norm", lambda a, b: (F.rms_norm(a, 3000, b) ** 3).sum(), z, gain)
    gradients("gelu", lambda a: F.gelu(a).sum(), z)
    gradients("embedding", lambda a: (F.embedding(target[:, None] % 100, a) ** 2).sum(), z)
    q, k, v = rng.normal(size=(3, 2, 4, 96, 32)).astype(dtype)
    gradients("attention", lambda *a: (F.scaled_dot_product_attention(*a, is_causal=True) ** 2).sum(), q, k, v)
"""
WITHOUT_BLAS = (
    "softmax", "log_softmax", "logsumexp", "cross_entropy", "soft cross_entropy", "layer_norm", "rms_norm", "gelu",
    "embedding",
)  # fmt: skip


def run(code: str, *, hash_seed: str = "0", threads: str = "1") -> str:
    """Run in a fresh process; return what it prints, a line with a hash for each result."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, **dict.fromkeys(names, threads)}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert out.returncode == 0, out.stderr
    return out.stdout


@pytest.fixture(scope="module")
def first() -> str:
    return run(TRAIN + BLAS + KERNELS)


def test_runs_agree_to_the_bit_whatever_the_hash_seed(first: str) -> None:
    assert len(set(first.splitlines())) == len(first.splitlines()) > 40
    assert run(TRAIN + BLAS + KERNELS, hash_seed="1") == first


def test_thread_counts_agree_to_the_bit(first: str) -> None:
    """Kernels of ours never ask how many cores there are; BLAS does, and may split a large sum differently.

    So this holds for all that needs no matrix product, and for the rest as far as it holds for BLAS itself.
    """
    one, two = first.splitlines(), run(TRAIN + BLAS + KERNELS, threads="2").splitlines()
    if [line for line in one if line.startswith("BLAS")] != [line for line in two if line.startswith("BLAS")]:
        one, two = ([line for line in lines if line.startswith(WITHOUT_BLAS)] for lines in (one, two))
    assert len(one) > 20
    assert one == two
