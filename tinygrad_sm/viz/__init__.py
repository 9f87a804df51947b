"""Pictures: `dot.py` draws a graph with Graphviz, from the cards of `cards.py`; `render.py` finds a renderer.

`figures.py` draws what a softmax does, `flow_figures.py` gradients and Jacobians, `beam.py` a beam search, with
matplotlib, in the style of `plot.py`. `attention_page.py` writes a page with the attention of every layer and head.
"""

from .attention_page import attention_page
from .beam import beam
from .figures import attention, distribution, softmax_contour
from .flow_figures import jacobian

__all__ = ["attention", "attention_page", "beam", "distribution", "jacobian", "softmax_contour"]
