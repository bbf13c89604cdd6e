"""Which frames of a serial-crystallography run hold Bragg spots: weakly supervised hit finding in JAX."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Loaded when first used: `import sfxjax.errors` should not start JAX. A function named as its module, such as
# `preprocess`, is imported from there: the module would hide it here.
_EXPORTS = {
    "DomainAdversarialNetwork": "models",
    "HitClassifier": "models",
    "Screener": "screener",
    "TrainedModel": "storage",
    "central_crop": "preprocess",
    "global_contrast_normalize": "preprocess",
    "load_model": "storage",
    "local_contrast_normalize": "preprocess",
    "open_set": "cxidb",
    "preprocess_and_reduce": "reductions",
    "row_wise_decomposition": "reductions",
    "save_model": "storage",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    """Import an exported name from its module."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
