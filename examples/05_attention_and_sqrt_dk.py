"""Why attention divides by √d_k: without it, long vectors saturate the softmax, and its gradient vanishes.

If the entries of q and k have mean 0 and variance 1, q·k has mean 0 and variance d_k. (The article says the mean
is 1, and its code divides q and k *each* by √d, so its scores shrink by d; here only the toggle differs.)
"""

import numpy as np
from common import output, plt

import tinygrad_sm as sm
from tinygrad_sm import functional as F
from tinygrad_sm.inspection import attention_stats

rng = np.random.default_rng(0)
widths = [4, 16, 64, 256, 1024, 4096]
rows = {"scaled": [], "unscaled": []}
print("d_k    variance of q·k   entropy / log n      gradient of the scores (median norm)")
print("                         scaled unscaled      scaled    unscaled")
for d_k in widths:
    q, k = (sm.Tensor(rng.normal(size=(64, d_k)), requires_grad=True) for _ in "qk")
    v = sm.Tensor(rng.normal(size=(64, 8)))
    for name, scale in (("scaled", None), ("unscaled", 1.0)):
        factor = 1 / np.sqrt(d_k) if scale is None else scale
        scores = (q @ k.T) * factor  # what the softmax sees
        weights = F.softmax(scores)
        (g,) = sm.grad(((weights @ v) ** 2).mean() * 100, scores)
        rows[name].append((attention_stats(weights.data)["entropy"], np.median(np.linalg.norm(g.data, axis=1))))
    (on, g_on), (off, g_off) = rows["scaled"][-1], rows["unscaled"][-1]
    print(f"{d_k:5d} {(q @ k.T).data.var():15.1f} {on:10.3f} {off:8.3f} {g_on:11.2e} {g_off:11.2e}")

out, weights = F.scaled_dot_product_attention(q, k, v, return_weights=True)
same, _ = F.scaled_dot_product_attention(q, k, v, scale=1.0, return_weights=True)
print(f"\nd_k = 4096: the toggle is scale=1.0; largest weight of row 0 {weights.data[0].max():.3f} with √d_k")

figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
titles = ("entropy of the weights / log n", "median gradient norm of the scores")
for i, (ax, title) in enumerate(zip(axes, titles, strict=True)):
    for (name, values), style in zip(rows.items(), ("o-", "s--"), strict=True):
        ax.plot(widths, [v[i] for v in values], style, label=name, color="#2662A8" if i == 0 else "#DD6B20")
    ax.set(xscale="log", xlabel="d_k", title=title)
    ax.legend()
axes[1].set_yscale("log")
print("written:", output("05_attention_and_sqrt_dk.png", figure.savefig))
