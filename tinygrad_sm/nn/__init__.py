"""Layers and models. A Module is a function with parameters; see `module.py`."""

from .attention import Cache, CrossAttention, MultiHeadAttention
from .block import SwiGLU, TransformerBlock
from .encoder import TransformerEncoder
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
from .lora import LoRA, add_lora, merge_lora
from .module import Module
from .seq2seq import Transformer, TransformerDecoderBlock
from .transformer import TransformerLM

__all__ = [
    "GELU", "Cache", "CrossAttention", "CrossEntropyLoss", "Dropout", "Embedding", "LayerNorm", "Linear", "LoRA",
    "LogSoftmax", "MSELoss", "Module", "MultiHeadAttention", "NLLLoss", "RMSNorm", "ReLU", "Sequential", "SiLU",
    "Sigmoid", "Softmax", "SwiGLU", "Tanh", "Transformer", "TransformerBlock", "TransformerDecoderBlock",
    "TransformerEncoder", "TransformerLM", "add_lora", "merge_lora",
]  # fmt: skip
