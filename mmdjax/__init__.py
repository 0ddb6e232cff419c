"""mmdjax: multimodal diffusion in JAX."""

__version__ = "0.1.0"


def __getattr__(name: str):
    if name == "Imputer":  # importing mmdjax alone stays quick
        from mmdjax.serving.imputer import Imputer

        return Imputer
    raise AttributeError(f"module 'mmdjax' has no attribute {name!r}")
