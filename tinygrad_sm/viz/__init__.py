"""Pictures: `dot.py` draws a graph with Graphviz, from the cards of `cards.py`; `render.py` finds a renderer."""
