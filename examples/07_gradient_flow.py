"""Where does the gradient vanish? A deep network with sigmoids, with tanh, and with ReLU, layer by layer."""

import numpy as np
from common import output, plt

import tinygrad_sm as sm
from tinygrad_sm import data, nn
from tinygrad_sm import functional as F

x, y, *_ = data.digits(seed=0)
figure, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
print("rms of the weight gradients, from the first layer to the last")
for activation, style in ((nn.Sigmoid, "o-"), (nn.Tanh, "s--"), (nn.ReLU, "^:")):
    sm.manual_seed(0)
    layers = [nn.Linear(64, 32), activation()]
    for _ in range(8):
        layers += [nn.Linear(32, 32), activation()]
    model = nn.Sequential(*layers, nn.Linear(32, 10))
    F.cross_entropy(model(x[:256]), y[:256]).backward()
    flow = sm.gradient_flow(model)
    rms = [row["rms"] for name, row in flow.items() if name.endswith("weight")]
    print(f"{activation.__name__:8}", " ".join(f"{r:8.1e}" for r in rms), f"  first / last = {rms[0] / rms[-1]:.0e}")
    ax.plot(np.arange(len(rms)) + 1, rms, style, label=activation.__name__)
ax.set(yscale="log", xlabel="layer", ylabel="rms gradient of the weights", title="gradient flow in ten layers")
ax.legend()
print("written:", output("07_gradient_flow.png", figure.savefig))
