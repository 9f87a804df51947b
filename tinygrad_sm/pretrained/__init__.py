"""Real Transformers in the library's own blocks: a sentence encoder and a language model, with their weights.

`load.py` opens packages, folders and files; `gguf.py` and `weights.py` read them and trust nothing, `storage.py` knows
how numbers are stored; `config.py` says what a setting means, and `fill.py` which tensor is which parameter. The models
are `nn.TransformerEncoder` and `nn.TransformerLM`; `sentences.py` and `language.py` add the tokenizer.
"""

from .language import LanguageModel
from .load import from_pretrained, minilm, smollm2
from .sentences import SentenceEncoder

__all__ = ["LanguageModel", "SentenceEncoder", "from_pretrained", "minilm", "smollm2"]
