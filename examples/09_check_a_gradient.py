"""Is this gradient right? Compare it with differences of the function, and find a slip of a ten-thousandth.

Most wrong gradients still train, only worse, so that nobody looks. Here a rule is off by 1.0001, another is right
but spoils the second derivative, and a loss forgets half of its gradient by a stray `.data`.
"""

import numpy as np

import tinygrad_sm as sm
from tinygrad_sm import nn
from tinygrad_sm.ops.sample import call

rng = np.random.default_rng(0)
x = rng.normal(size=(2, 3))

print("1. Swish, x·σ(x), composed of ops: nothing to get wrong.")
print(sm.gradcheck(lambda x: x * sm.sigmoid(x), x, order=2))


def sigma(x):
    """Return σ(x), for arrays and Tensors."""
    return 1 / (1 + np.exp(-x))


slips = {
    "right": lambda g, y, x: g * (sigma(x) + y * (1 - sigma(x))),
    "off by 1.0001": lambda g, y, x: g * (sigma(x) + y * (1 - sigma(x))) * 1.0001,
    "leaves the Tensors": lambda g, y, x: g * np.asarray(sigma(x) + y * (1 - sigma(x))),
}
print("\n2. The same as an op of one's own, its rule written by hand.")
for what, rule in slips.items():
    swish = sm.Op(lambda x: x * sigma(x), (rule,), name=f"swish, {what}", formula="x·σ(x)", samples=[call((2, 3))])
    for order in (1, 2):
        report = sm.gradcheck(swish, x, order=order, raise_exception=False)
        wrong = [f"wrong: {row.analytic:.6f}, not {row.numeric:.6f}" for row in report.failures]
        print(f"   {what:20} order {order}: {wrong[0] if wrong else 'right'}")
print("\n   What the check of all ops says of them:")
print(sm.ops.check([f"swish, {what}" for what in slips]))

print("\n3. A loss with a stray .data: its value is right, half of its gradient is missing.")
try:
    sm.gradcheck(lambda p, q: (p * sm.log(p / sm.Tensor(q.data))).sum(), (rng.uniform(size=4), rng.uniform(size=4)))
except AssertionError as error:
    print(error)

print("\n4. A whole Transformer block, each of its parameters in float64.")
sm.manual_seed(0)
block = nn.TransformerBlock(4, 2)
print(sm.gradcheck(block, rng.normal(size=(1, 3, 4))))
print("and afterwards its weights are", block.parameters()[0].dtype, "again")
