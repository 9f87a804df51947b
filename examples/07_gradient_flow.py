"""Where does the gradient vanish? Ten layers with sigmoids, tanh or ReLU: by layer at first, then over training."""

import numpy as np
from common import output, plt

import tinygrad_sm as sm
from tinygrad_sm import data, nn, optim
from tinygrad_sm import functional as F

x, y, *_ = data.digits(seed=0)
figure, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
flows = {}
print("rms of the weight gradients before training, from the first layer to the last")
for activation, style in ((nn.Sigmoid, "o-"), (nn.Tanh, "s--"), (nn.ReLU, "^:")):
    sm.manual_seed(0)
    layers = [nn.Linear(64, 32), activation()]
    for _ in range(8):
        layers += [nn.Linear(32, 32), activation()]
    model = nn.Sequential(*layers, nn.Linear(32, 10))
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    flow = None  # each model has a flow of its own
    for _ in range(4):
        for x_batch, y_batch in data.batches(x, y, batch_size=64):
            loss = F.cross_entropy(model(x_batch), y_batch)
            optimizer.zero_grad()
            loss.backward()
            flow = sm.gradient_flow(model, since=flow)
            optimizer.step()
    name = activation.__name__
    flows[name] = flow
    rms = [flow.series(path, "rms")[0] for path in flow if path.endswith("weight")]
    print(f"{name:8}", " ".join(f"{r:8.1e}" for r in rms), f"  first / last = {rms[0] / rms[-1]:.0e}")
    ax.plot(np.arange(len(rms)) + 1, rms, style, label=name)
ax.set(yscale="log", xlabel="layer", ylabel="rms gradient of the weights", title="gradient flow in ten layers")
ax.legend()
print("written:", output("07_gradient_flow.png", figure.savefig))

for name, flow in flows.items():
    print(f"\n{name}, after {len(flow.history)} steps of Adam, by layer")
    print(flow.modules)
    title = f"{name}: rms of the gradient by layer and step"
    print("written:", output(f"07_{name.lower()}_flow.png", flow.plot(by="module", title=title).save))
