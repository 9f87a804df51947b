"""The comparison with peers: `python -m tests.benchmarks` from the root of a checkout prints the whole table.

`cases.py` is the table of rows; `losses.py`, `layers.py`, `attention.py`, `mlp.py` and `transformer.py` say what a row
does for each peer. `python -m tests.benchmarks.compare OLD NEW` compares two revisions of ours, and
`python -m tests.benchmarks.growth` draws how time grows with size.
"""
