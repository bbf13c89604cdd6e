"""Which frames of a serial-crystallography run hold Bragg spots: weakly supervised hit finding in JAX."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sfxjax.starting import end_quietly_while_starting

end_quietly_while_starting("sfxjax")

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sfxjax.crop import central_crop
    from sfxjax.data.sets import open_set
    from sfxjax.models.checkpoint import TrainedModel, load_model, save_model
    from sfxjax.models.networks import DomainAdversarialNetwork, HitClassifier
    from sfxjax.preprocess.contrast import global_contrast_normalize, local_contrast_normalize
    from sfxjax.reductions.reduce import preprocess_and_reduce
    from sfxjax.reductions.row_wise import row_wise_decomposition
    from sfxjax.screen.scorer import Screener
    from sfxjax.spots.day_one import FrameSpots, find_spots
    from sfxjax.spots.many_frames import BatchFinder

# Loaded when first used: `import sfxjax.errors` should not start JAX. The function `preprocess` is imported from
# `sfxjax.preprocess`: the package would hide it here.
_EXPORTS = {
    "BatchFinder": "spots.many_frames",
    "DomainAdversarialNetwork": "models.networks",
    "FrameSpots": "spots.day_one",
    "HitClassifier": "models.networks",
    "Screener": "screen.scorer",
    "TrainedModel": "models.checkpoint",
    "central_crop": "crop",
    "find_spots": "spots.day_one",
    "global_contrast_normalize": "preprocess.contrast",
    "load_model": "models.checkpoint",
    "local_contrast_normalize": "preprocess.contrast",
    "open_set": "data.sets",
    "preprocess_and_reduce": "reductions.reduce",
    "row_wise_decomposition": "reductions.row_wise",
    "save_model": "models.checkpoint",
}

__all__ = [  # noqa: RUF022
    "__version__",
    "BatchFinder",
    "DomainAdversarialNetwork",
    "FrameSpots",
    "HitClassifier",
    "Screener",
    "TrainedModel",
    "central_crop",
    "find_spots",
    "global_contrast_normalize",
    "load_model",
    "local_contrast_normalize",
    "open_set",
    "preprocess_and_reduce",
    "row_wise_decomposition",
    "save_model",
]


def __getattr__(name: str) -> Any:
    """Import an exported name from its module."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
