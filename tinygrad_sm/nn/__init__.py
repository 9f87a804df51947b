"""Layers and models. A Module is a function with parameters; see `module.py`."""

from .attention import Cache, MultiHeadAttention
from .layers import (
    GELU,
    CrossEntropyLoss,
    Dropout,
    Embedding,
    LayerNorm,
    Linear,
    LogSoftmax,
    MSELoss,
    NLLLoss,
    ReLU,
    RMSNorm,
    Sequential,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
)  # fmt: skip
from .module import Module
from .transformer import TransformerBlock, TransformerLM

__all__ = [
    "GELU", "Cache", "CrossEntropyLoss", "Dropout", "Embedding", "LayerNorm", "Linear", "LogSoftmax", "MSELoss",
    "Module", "MultiHeadAttention", "NLLLoss", "RMSNorm", "ReLU", "Sequential", "SiLU", "Sigmoid", "Softmax", "Tanh",
    "TransformerBlock", "TransformerLM",
]  # fmt: skip
