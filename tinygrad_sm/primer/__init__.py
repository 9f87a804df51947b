"""The article "Primer on Softmax", reproduced: every number computed again, every figure drawn, every claim judged.

    sm.primer.write("runs/primer")      # index.html, primer.md, primer.json and the pictures

or `tinygrad-sm primer`. A file here is a section of the article; `parts.py` says what a section is made of.
"""

from .report import chapters, write

__all__ = ["chapters", "write"]
