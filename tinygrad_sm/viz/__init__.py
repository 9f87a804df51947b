"""Pictures: `dot.py` draws a graph with Graphviz, from the cards of `cards.py`; `render.py` finds a renderer.

`figures.py` draws what a softmax does, `flow_figures.py` gradients and Jacobians, with matplotlib, in the style of
`plot.py`.
"""

from .figures import attention, distribution, softmax_contour
from .flow_figures import jacobian

__all__ = ["attention", "distribution", "jacobian", "softmax_contour"]
