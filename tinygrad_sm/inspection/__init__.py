"""Looking at gradients: where they flow, and where they stop."""

from .flow import attention_stats, gradient_flow, layer_norms

__all__ = ["attention_stats", "gradient_flow", "layer_norms"]
