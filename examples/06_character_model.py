"""A character model in a few seconds: a Transformer learns to spell from the text that Python ships.

The first half minute of such training is a plateau near the bigram model's 2.4 nats; a small model at a high rate,
as here, only begins to leave it. `tinygrad-sm train` goes on.
"""

from common import output, plt

import tinygrad_sm as sm
from tinygrad_sm import data, nn, optim
from tinygrad_sm import functional as F

rng = sm.manual_seed(0)
train_text, held_out_text = data.split_topics(data.unique_paragraphs(data.python_docs()))
vocabulary = data.Vocabulary.from_text(train_text + held_out_text)
train, held_out = vocabulary.encode(train_text), vocabulary.encode(held_out_text)
print(f"{len(train):,} characters to train on, {len(held_out):,} held out, {len(vocabulary)} different ones")

model = nn.TransformerLM(len(vocabulary), d_model=64, n_heads=2, n_layers=2, context=32)
steps = 300
optimizer = optim.AdamW(model.parameters(), lr=4e-3)
schedule = optim.CosineSchedule(optimizer, steps, warmup=20)
x_test, y_test = (a[:200] for a in data.all_windows(held_out, 32))
curve = []
for step in range(steps):
    x, y = data.windows(train, 32, 16)
    loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optim.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    if step % 50 == 49:
        with sm.no_grad():
            curve.append((step + 1, loss.item(), F.cross_entropy(model(x_test), y_test).item()))
        print("step {:4d}  training {:.3f}  held out {:.3f} nats a character".format(*curve[-1]))

print("\n" + vocabulary.decode(model.generate(vocabulary.encode("The "), 150, temperature=0.7, rng=rng)))
figure, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
for i, (label, colour) in enumerate((("training batch", "#2662A8"), ("held out", "#DD6B20")), 1):
    ax.plot([row[0] for row in curve], [row[i] for row in curve], "o-", color=colour, label=label)
ax.set(xlabel="step", ylabel="nats a character", title="a character model learns")
ax.legend()
print("\nwritten:", output("06_character_model.png", figure.savefig))
