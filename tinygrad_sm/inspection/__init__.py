"""Looking at gradients: where they flow, and where they stop."""

from .anomaly import AnomalyError, detect_anomaly
from .flow import GradientFlow, attention_stats, gradient_flow, layer_norms
from .gradcheck import gradcheck
from .gradcheck_report import GradcheckError, GradcheckReport
from .watch import record

__all__ = [
    "AnomalyError", "GradcheckError", "GradcheckReport", "GradientFlow", "attention_stats", "detect_anomaly",
    "gradcheck", "gradient_flow", "layer_norms", "record",
]  # fmt: skip
