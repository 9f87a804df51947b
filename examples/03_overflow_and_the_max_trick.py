"""Why softmax subtracts the maximum, and why one takes log_softmax and not the log of softmax.

The naive forms overflow, or take the log of a probability that underflowed to 0; the picture shows where the
first NaN arose on the way back, which a printed gradient does not.
"""

import numpy as np
from common import output

import tinygrad_sm as sm
from tinygrad_sm import functional as F
from tinygrad_sm import naive

np.seterr(all="ignore")  # NumPy would warn of each overflow; here they are the point

print("logits                       naive softmax            softmax")
for row in ([1.0, 2.0, 3.0], [1000.0, 1000.0, 1000.0], [-1000.0, -1000.0, -1000.0], [-1.0, 10.0, 5000.0]):
    x = sm.Tensor(row)
    print(f"{row!s:28} {naive.softmax(x).data.round(3)!s:24} {F.softmax(x).data.round(3)}")

x = sm.Tensor([-1.0, 10.0, 5000.0])
print("\nlog of softmax", naive.log_softmax(x).data, "  log_softmax", F.log_softmax(x).data)

z = sm.Tensor([[-1.0, 10.0, 5000.0]], requires_grad=True, name="logits")
good, bad = F.cross_entropy(z, [1]), naive.cross_entropy(z, [1])
(gradient,), (broken,) = sm.grad(good, z), sm.grad(bad, z)
print("\ncross_entropy, true class 1:", good.item(), "gradient", gradient.tolist())
print("naive cross-entropy:        ", bad.item(), "gradient", broken.tolist())
print("\nwritten:", output("03_where_nan_begins.svg", sm.draw(bad, title="naive cross-entropy of (-1, 10, 5000)").save))
