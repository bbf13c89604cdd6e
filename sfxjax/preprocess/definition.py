"""Pre-processing of detector frames: central crop, bad pixels, global and local contrast normalisation.

The paper (Xie, Liu et al., Optics Express 31(20):32909, 2023, section 3.1.1) crops the central 724 x 724
pixels and normalises the contrast as Ke et al. (J. Synchrotron Rad. 25:655, 2018) do, see `sfxjax.preprocess.contrast`,
which leaves 720 x 720.

Masked pixels, NaN, infinities and pixels at or above `saturation` are bad: they take no part in any mean or
deviation and come out as 0. Negative pixels are bad where a mask is given; without one they are set to 0, as
Ke et al. do. A frame without a good pixel, or whose good pixels are all equal, gives zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from sfxjax.crop import CROP
from sfxjax.errors import UserError
from sfxjax.preprocess.contrast import (
    WINDOW,
    Array,
    Floor,
    WindowName,
    check_options,
    combined,
    finite,
    global_contrast_normalize,
    grown_mask,
    local_contrast_normalize,
    normalize_crop,
    storable,
)
from sfxjax.preprocess.tiled import normalize_parts

__all__ = [
    "CROP",
    "FRAME",
    "WINDOW",
    "central_crop",
    "crop_and_check",
    "global_contrast_normalize",
    "grown_mask",
    "local_contrast_normalize",
    "map_frames",
    "preprocess",
    "preprocess_crop",
    "usable_pixels",
    "without_negatives",
]

FRAME = CROP - WINDOW + 1


def central_crop(frames: Array, size: int = CROP) -> Array:
    """Cut the central `size` x `size` pixels out of frames.

    Args:
        frames: (..., height, width), a NumPy or a JAX array; a NumPy array gives a view, without a copy.
        size: side of the square in pixels.

    Returns:
        (..., size, size). Where the margin is odd, its larger part is after the square.

    Raises:
        UserError: the frames have no two axes or are smaller than the square.
    """
    if frames.ndim < 2 or min(frames.shape[-2:]) < size:
        raise UserError(
            f"a frame of shape {tuple(frames.shape)} is smaller than the {size} x {size} pixels to be cut"
            " from its centre; give frames of at least that size"
        )
    if frames.shape[-2:] == (size, size):
        return frames  # A slice of a JAX array is a copy, also where it is the whole.
    top, left = ((length - size) // 2 for length in frames.shape[-2:])
    return frames[..., top : top + size, left : left + size]


def preprocess(
    frames: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    window: WindowName = "box",
    floor: Floor = 1.0,
    saturation: float | None = None,
    return_valid: bool = False,
) -> Any:
    """Crop, GCN and LCN of one frame or of a batch, as the module's text defines them.

    Args:
        frames: (..., height, width) in detector units, any real dtype, at least 724 x 724. Values beyond
            float32's range count as infinite.
        mask: bool, True = good; the shape of one frame or of its 724 x 724 crop, or one of these for each
            frame. None: no masked pixels, and negative pixels count as 0.
        window: see `local_contrast_normalize`.
        floor: see `local_contrast_normalize`, in units of the frame's standard deviation.
        saturation: pixels at or above this value are bad.
        return_valid: also return where all 25 pixels of a window are good.

    Returns:
        (..., 720, 720) float32; with `return_valid` a pair of it and a bool array of its shape.

    Raises:
        UserError: frames too small or not of real numbers, a mask of another shape or not bool, or an
            unknown option.

    References:
        The paper, section 3.1.1; Ke et al. (2018); Jarrett et al. (2009).
    """
    frames, mask = crop_and_check(frames, mask)
    check_options(window, floor)
    return _preprocess(frames, mask, window, floor, saturation, return_valid)


def crop_and_check(frames: ArrayLike, mask: ArrayLike | None = None) -> tuple[Array, Array | None]:
    """Check frames and mask and cut the central 724 x 724 pixels out of both, on the host where they are.

    Args:
        frames: as for `preprocess`.
        mask: as for `preprocess`.

    Returns:
        frames (..., 724, 724), of a dtype that JAX keeps; mask (724, 724) or (..., 724, 724), or None.

    Raises:
        UserError: as for `preprocess`.
    """
    frames = frames if isinstance(frames, jax.Array) else np.asarray(frames)
    shape = frames.shape
    frames = central_crop(frames)
    if not (jnp.issubdtype(frames.dtype, jnp.integer) or jnp.issubdtype(frames.dtype, jnp.floating)):
        raise UserError(f"frames of dtype {frames.dtype} are not real numbers; give integers or floats")
    frames = storable(frames)
    if mask is None:
        return frames, None
    mask = mask if isinstance(mask, jax.Array) else np.asarray(mask)
    if mask.dtype != bool:
        raise UserError(f"a mask of dtype {mask.dtype} is ambiguous; give bool, True = good")
    if mask.shape[-2:] not in (shape[-2:], (CROP, CROP)) or mask.shape[:-2] not in ((), shape[:-2]):
        raise UserError(
            f"a mask of shape {mask.shape} does not fit frames of shape {shape}; give the shape of one frame,"
            f" of its {CROP} x {CROP} crop, or one of these for each frame"
        )
    return frames, central_crop(mask)


def preprocess_crop(
    crop: jax.Array,
    mask: jax.Array | None = None,
    *,
    window: WindowName = "box",
    floor: Floor = 1.0,
    saturation: float | None = None,
) -> tuple[jax.Array, jax.Array | None]:
    """Normalise one cropped frame; `preprocess` without the crop, the checks and the batch.

    Args:
        crop: (height, width), usually 724 x 724.
        mask: bool of the same shape, True = good, or None.
        window: see `local_contrast_normalize`.
        floor: see `local_contrast_normalize`, in units of the frame's standard deviation.
        saturation: pixels at or above this value are bad.

    Returns:
        (height - 4, width - 4) float32, and which pixels of `crop` are good; None: all are.
    """
    good = usable_pixels(crop, mask, saturation)
    crop = without_negatives(crop)
    if good is None and window == "box" and not isinstance(floor, str) and floor > 0:
        return normalize_parts(crop, None, ("frame",), floor=floor)[0], None
    return normalize_crop(crop, good, window=window, floor=floor), good


def usable_pixels(
    crop: jax.Array, mask: jax.Array | None = None, saturation: float | None = None
) -> jax.Array | None:
    """Tell which pixels are good, as the module's text says.

    Args:
        crop: (height, width), any real dtype of at most 32 bits.
        mask: bool of the same shape, True = good, or None.
        saturation: pixels at or above this value are bad.

    Returns:
        bool of that shape, or None: all are.
    """
    good = combined(mask, finite(crop))
    if saturation is not None:
        good = combined(good, _below(crop, saturation))
    if mask is not None and not jnp.issubdtype(crop.dtype, jnp.unsignedinteger):
        good = combined(good, crop >= 0)
    return good


def without_negatives(crop: jax.Array) -> jax.Array:
    """Set negative pixels to 0, in an array that can have some."""
    return crop if jnp.issubdtype(crop.dtype, jnp.unsignedinteger) else jnp.maximum(crop, 0)


def map_frames(function: Callable[..., Any], frames: jax.Array, mask: jax.Array | None = None) -> Any:
    """Apply a function of one frame and its mask to every frame, in the way that suits the device.

    On a CPU one frame after the other, so that intermediates stay in its cache: all at once takes two to
    three times as long for 32 frames. Elsewhere all at once.

    Args:
        function: (frame, mask) -> any tree of arrays.
        frames: (..., height, width).
        mask: (height, width), shared by all frames; (..., height, width), one for each; or None.

    Returns:
        `function`'s tree with the frames' leading axes before each of its arrays' axes.
    """
    leading = frames.shape[:-2]
    if not leading:
        return function(frames, mask)
    arguments: tuple[jax.Array, ...] = (frames.reshape(-1, *frames.shape[-2:]),)
    if mask is not None and mask.ndim > 2:
        arguments += (mask.reshape(-1, *mask.shape[-2:]),)

    def one(arguments: tuple[jax.Array, ...]) -> Any:
        return function(arguments[0], arguments[1] if len(arguments) > 1 else mask)

    if jax.default_backend() == "cpu":
        results = jax.lax.map(one, arguments)
    else:
        results = jax.vmap(one)(arguments)
    return jax.tree.map(lambda leaf: leaf.reshape(*leading, *leaf.shape[1:]), results)


@partial(jax.jit, static_argnames=("window", "floor", "saturation", "return_valid"))
def _preprocess(
    frames: jax.Array,
    mask: jax.Array | None,
    window: WindowName,
    floor: Floor,
    saturation: float | None,
    return_valid: bool,
) -> Any:
    def one(crop: jax.Array, mask: jax.Array | None) -> Any:
        normalized, good = preprocess_crop(crop, mask, window=window, floor=floor, saturation=saturation)
        if not return_valid:
            return normalized
        return normalized, jnp.ones(normalized.shape, bool) if good is None else grown_mask(good)

    return map_frames(one, frames, mask)


def _below(values: jax.Array, limit: float) -> jax.Array:
    if jnp.issubdtype(values.dtype, jnp.floating):
        return values < limit
    # Compared as integers: float32 cannot tell neighbouring integers above 2^24 apart.
    bounds = jnp.iinfo(values.dtype)
    if limit > bounds.max:
        return jnp.ones(values.shape, bool)
    return values < jnp.asarray(max(math.ceil(limit), bounds.min), values.dtype)
