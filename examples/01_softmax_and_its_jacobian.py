"""Softmax turns logits into probabilities; its Jacobian is diag(p) − p·pᵀ.

The engine knows softmax's backward rule only as a vector product. Row by row, `sm.jacobian` makes the whole
matrix of it, and it equals the formula.
"""

import numpy as np
from common import output, plt

import tinygrad_sm as sm

logits = sm.Tensor([1.0, 2.0, 3.0], name="logits")
p = sm.softmax(logits)
print("logits        ", logits.tolist())
print("probabilities ", p.data.round(4), " sum", p.data.sum())
print("horse : cat   ", f"{p.data[2] / p.data[0]:.2f} times as likely, for a logit 2 higher: e² = {np.exp(2):.2f}")

jacobian = sm.jacobian(sm.softmax, logits).data
formula = np.diag(p.data) - np.outer(p.data, p.data)
print("\nJacobian by the engine\n", jacobian.round(4))
print("largest difference from diag(p) − p·pᵀ:", np.abs(jacobian - formula).max())
print("each row sums to 0, since the probabilities always sum to 1:", jacobian.sum(axis=1).round(7))

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
for temperature, colour in ((0.5, "#6D2A73"), (1.0, "#2662A8"), (5.0, "#DD6B20")):
    flat = sm.softmax(logits, temperature=temperature)
    left.plot(["cat", "dog", "horse"], flat.data, "o-", color=colour, label=f"temperature {temperature}")
left.set(title="softmax of (1, 2, 3)", ylabel="probability", ylim=(0, 1))
left.legend()
bound = np.abs(jacobian).max()
image = right.imshow(jacobian, cmap="PuOr_r", vmin=-bound, vmax=bound)
for i, j in np.ndindex(3, 3):
    right.text(j, i, f"{jacobian[i, j]:.3f}", ha="center", va="center")
right.set(title="∂pᵢ/∂zⱼ = pᵢ·([i = j] − pⱼ)", xlabel="j", ylabel="i", xticks=range(3), yticks=range(3))
figure.colorbar(image, ax=right)
print("\nwritten:", output("01_softmax_and_its_jacobian.png", figure.savefig))
