"""What is wrong with this training? A small classifier with five faults, none of which raises an error.

It learns something, as such programs do, and so nobody looks. The doctor reads the graph of one step and names the
faults with their lines; then the repaired program.
"""

from typing import Any

import numpy as np

import tinygrad_sm as sm
from tinygrad_sm import functional as F
from tinygrad_sm import nn, optim

rng = np.random.default_rng(0)
x = rng.normal(size=(64, 8))  # float64, as NumPy makes it
y = x[:, :4].argmax(axis=1)


class Classifier(nn.Module):
    """Two layers and a softmax; a third layer is forgotten."""

    def __init__(self) -> None:
        self.first, self.second, self.head = nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 4)

    def forward(self, x: np.ndarray) -> sm.Tensor:
        """Return probabilities, which cross_entropy does not take."""
        return F.softmax(self.head(F.relu(self.first(x))))


class Repaired(Classifier):
    """Three layers, and logits."""

    def forward(self, x: np.ndarray) -> sm.Tensor:
        """Return logits."""
        return self.head(F.relu(self.second(F.relu(self.first(x)))))


def train(model: nn.Module, x: np.ndarray, lr: float, divide: bool) -> tuple[Any, float]:
    """Return what the doctor says of the first step, and the accuracy after some steps."""
    optimizer, report = optim.Adam(model.parameters(), lr=lr), None
    for _ in range(100):
        with sm.record():
            loss = F.cross_entropy(model(x), y)
            if divide:
                loss = loss / len(x)
        if report is None:
            report = sm.doctor(loss, model, optimizer=optimizer, inputs=x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return report, np.mean(model(x).data.argmax(axis=1) == y)


sm.manual_seed(0)
report, accuracy = train(Classifier(), x, lr=1.0, divide=True)
print(report)
print(f"\naccuracy {accuracy:.2f}")

report, accuracy = train(Repaired(), x.astype(np.float32), lr=1e-2, divide=False)
print(f"\n{report}")
print(f"\naccuracy {accuracy:.2f}")
