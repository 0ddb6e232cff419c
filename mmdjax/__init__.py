"""mmdjax: multimodal diffusion in JAX."""

import importlib

__version__ = "0.1.0"


def __getattr__(name: str) -> type:
    if name in ("Imputer", "ConversationImputer"):  # the latter is the former's name in old code
        # Importing mmdjax alone stays quick.
        return importlib.import_module("mmdjax.serving.imputer").Imputer
    raise AttributeError(f"module 'mmdjax' has no attribute {name!r}")
