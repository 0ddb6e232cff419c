"""mmdjax: multimodal diffusion in JAX."""

import importlib

__version__ = "0.1.0"


def __getattr__(name: str):
    places = {"Imputer": "imputer", "ConversationImputer": "conversations"}
    if name in places:  # importing mmdjax alone stays quick
        return getattr(importlib.import_module(f"mmdjax.serving.{places[name]}"), name)
    raise AttributeError(f"module 'mmdjax' has no attribute {name!r}")
