"""Train a small network on real handwritten digits (8 × 8 pixels, from scikit-learn), and look at its mistakes."""

import numpy as np
from common import output, plt

import tinygrad_sm as sm
from tinygrad_sm import data, nn, optim
from tinygrad_sm import functional as F

rng = sm.manual_seed(0)
x_train, y_train, x_test, y_test = data.digits(seed=0)
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
optimizer = optim.Adam(model.parameters(), lr=1e-2)

losses = []
for _epoch in range(30):
    for x, y in data.batches(x_train, y_train, batch_size=64):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

with sm.no_grad():
    probabilities = F.softmax(model(x_test))
predicted = probabilities.argmax(axis=1)
print(f"training loss {losses[0]:.3f} → {losses[-1]:.4f}")
print(f"accuracy on {len(y_test)} held-out digits: {100 * np.mean(predicted == y_test):.1f} %")

wrong = np.flatnonzero(predicted != y_test)[:5]
figure, axes = plt.subplots(1, 6, figsize=(11, 2.2), layout="constrained")
axes[0].plot(losses, color="#2662A8", lw=0.8)
axes[0].set(title="training loss", xlabel="step", yscale="log")
for ax, i in zip(axes[1:], wrong, strict=False):
    ax.imshow(x_test[i].reshape(8, 8), cmap="gray_r")
    ax.set_title(f"{y_test[i]}, taken for {predicted.data[i]}\np = {probabilities.data[i].max():.2f}", fontsize=9)
for ax in axes[1:]:
    ax.axis("off")
print("written:", output("04_digits.png", figure.savefig))
