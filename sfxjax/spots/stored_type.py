"""Types that frames are held in where spots are found, which JAX has, and each of which has a value for "nothing"."""

from __future__ import annotations

from typing import Any

import numpy as np


def never(dtype: np.dtype) -> Any:
    """Return the value of a type of `FramePixels.values` that tells nothing in any frame."""
    if dtype.kind == "f":
        return np.nan
    limits = np.iinfo(dtype)
    return np.asarray(limits.max if dtype.kind == "u" else limits.min, dtype)


def stored_type(dtype: np.dtype) -> np.dtype:
    """Return the type of `FramePixels.values` of frames of a type: one that JAX has and that has a value for "nothing"."""
    if dtype.kind in "ui" and dtype.itemsize == 1:
        return np.dtype(f"{dtype.kind}2")
    if dtype.kind in "ui" and dtype.itemsize < 8:
        return dtype.newbyteorder("=")
    return np.dtype(np.float32)


def is_integer_of_jax(dtype: np.dtype) -> bool:
    """Tell whether frames of a type are of integers that JAX holds as they are."""
    return dtype.kind in "iu" and dtype.itemsize <= 4
