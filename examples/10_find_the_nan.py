"""Where did the inf begin? The same network, with log(softmax) by hand and with cross_entropy, in steps too large."""

import numpy as np

import tinygrad_sm as sm
from tinygrad_sm import functional as F
from tinygrad_sm import nn

rng = np.random.default_rng(0)
x = rng.normal(size=(64, 8)).astype(np.float32)
target = x[:, :3].argmax(axis=1)


def by_hand(logits: sm.Tensor) -> sm.Tensor:
    """Return −mean log p[y]; a probability that rounds to 0 has no log."""
    return -F.softmax(logits).log()[np.arange(len(target)), target].mean()


def train(loss_function, steps: int = 20) -> float:
    """Return the last loss of a few steps with a learning rate of 50, or the first that is not finite."""
    sm.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 3))
    sgd = sm.optim.SGD(model.parameters(), lr=50.0)
    for step in range(steps):
        model.zero_grad()
        loss = loss_function(model(x))
        loss.backward()
        sgd.step()
        if not np.isfinite(loss.item()):
            print(f"  step {step}: the loss is {loss.item()}")
            break
    return loss.item()


print("log(softmax) by hand:")
with np.errstate(all="ignore"):
    train(by_hand)
print("the same under sm.detect_anomaly():")
try:
    with sm.detect_anomaly():
        train(by_hand)
except FloatingPointError as error:
    print(*(f"  {line}" for line in str(error).splitlines()), sep="\n")
print(f"cross_entropy of the logits stays finite: {train(lambda logits: F.cross_entropy(logits, target)):.3f} nats")
