"""Crop and contrast normalisation of detector frames."""

from sfxjax.preprocess.definition import (
    central_crop,
    global_contrast_normalize,
    local_contrast_normalize,
    preprocess,
)

__all__ = ["central_crop", "global_contrast_normalize", "local_contrast_normalize", "preprocess"]
