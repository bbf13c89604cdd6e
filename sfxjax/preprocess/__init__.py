"""Crop and contrast normalisation of detector frames."""

from sfxjax.crop import central_crop
from sfxjax.preprocess.contrast import global_contrast_normalize, local_contrast_normalize
from sfxjax.preprocess.definition import preprocess

__all__ = ["central_crop", "global_contrast_normalize", "local_contrast_normalize", "preprocess"]
