"""Pictures: `dot.py` draws a graph with Graphviz, from the cards of `cards.py`; `render.py` finds a renderer.

`figures.py` draws what a softmax does, in the style of `plot.py`, with matplotlib.
"""

from .figures import attention, distribution, softmax_contour

__all__ = ["attention", "distribution", "softmax_contour"]
