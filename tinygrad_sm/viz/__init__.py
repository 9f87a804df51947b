"""Pictures: `dot.py` draws a graph with Graphviz, from the cards of `cards.py`; `render.py` finds a renderer.

`figures.py` draws what a softmax does, `flow_figures.py` gradients and Jacobians, `beam.py` a beam search, with
matplotlib, in the style of `plot.py`.
"""

from .beam import beam
from .figures import attention, distribution, softmax_contour
from .flow_figures import jacobian

__all__ = ["attention", "beam", "distribution", "jacobian", "softmax_contour"]
