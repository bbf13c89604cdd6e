"""Pre-processing of detector frames: central crop, valid pixels, global and local contrast normalisation.

The paper (Xie, Liu et al., Optics Express 31(20):32909, 2023, section 3.1.1) crops the central 724 x 724
pixels and normalises the contrast as Ke et al. (J. Synchrotron Rad. 25:655, 2018) do, see `sfxjax.preprocess.contrast`,
which leaves 720 x 720.

Which pixels count is said in `sfxjax.preprocess.validity`. Those that do not take no part in any mean or deviation, and a window
of 5 x 5 pixels that holds one comes out as 0: the edge of a masked area, such as a beam stop's rim, would look like a spot. A
frame without a valid pixel, or whose valid pixels are all equal, gives zeros.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from sfxjax.crop import CROP, central_crop
from sfxjax.errors import UserError
from sfxjax.mapping import map_frames
from sfxjax.pixels.missing_values import marked, type_limit
from sfxjax.preprocess.contrast import (
    Array,
    Floor,
    WindowName,
    check_options,
    grown_mask,
    normalize_crop,
    storable,
)
from sfxjax.preprocess.tiled import normalize_parts
from sfxjax.preprocess.validity import Pixels, settle


def preprocess(
    frames: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    window: WindowName = "box",
    floor: Floor = 1.0,
    limit: float | None = None,
    return_valid: bool = False,
) -> Any:
    """Crop, GCN and LCN of one frame or of a batch, as the module's text defines them.

    Args:
        frames: (..., height, width) in detector units, any real dtype, at least 724 x 724. Values beyond
            float32's range count as infinite.
        mask: bool, True = valid; the shape of one frame or of its 724 x 724 crop, or one of these for each
            frame. None: no masked pixels, and negative pixels count as 0.
        window: see `local_contrast_normalize`.
        floor: see `local_contrast_normalize`, in units of the frame's standard deviation.
        limit: pixels at or above this value do not count. None: by the type and, of arrays on the host, by each frame's own
            values, as `sfxjax.pixels.missing_values` says; infinity: no limit.
        return_valid: also return where all 25 pixels of a window are valid.

    Returns:
        (..., 720, 720) float32; with `return_valid` a pair of it and a bool array of its shape.

    Raises:
        UserError: frames too small or not of real numbers, a mask of another shape or not bool, or an
            unknown option.

    References:
        The paper, section 3.1.1; Ke et al. (2018); Jarrett et al. (2009).
    """
    crops, mask, limit = check_frames(frames, mask, limit)
    check_options(window, floor)
    return _preprocess(crops, mask, window, floor, limit, return_valid)


def check_frames(
    frames: ArrayLike, mask: ArrayLike | None = None, limit: float | None = None
) -> tuple[Array, Array | None, float]:
    """Check frames and mask and cut the central 724 x 724 pixels out of both, on the host where they are.

    Args:
        frames: as for `preprocess`.
        mask: as for `preprocess`.
        limit: as for `preprocess`.

    Returns:
        frames (..., 724, 724), of a dtype that JAX keeps; mask (724, 724) or (..., 724, 724), or None; and the value from
        which a pixel is saturated.

    Raises:
        UserError: as for `preprocess`.
    """
    frames = frames if isinstance(frames, jax.Array) else np.asarray(frames)
    shape = frames.shape
    crops = central_crop(frames)
    if not (jnp.issubdtype(frames.dtype, jnp.integer) or jnp.issubdtype(frames.dtype, jnp.floating)):
        raise UserError(f"frames of dtype {frames.dtype} are not real numbers; give integers or floats")
    if limit is None and not isinstance(crops, jax.Array):
        crops = marked(crops)
    limit = type_limit(crops.dtype) if limit is None else float(limit)
    crops = storable(crops)
    if mask is None:
        return crops, None, limit
    mask = mask if isinstance(mask, jax.Array) else np.asarray(mask)
    if mask.dtype != bool:
        raise UserError(f"a mask of dtype {mask.dtype} is ambiguous; give bool, True = valid")
    if mask.shape[-2:] not in (shape[-2:], (CROP, CROP)) or mask.shape[:-2] not in ((), shape[:-2]):
        raise UserError(
            f"a mask of shape {mask.shape} does not fit frames of shape {shape}; give the shape of one frame,"
            f" of its {CROP} x {CROP} crop, or one of these for each frame"
        )
    return crops, central_crop(mask), limit


def normalize_pixels(
    pixels: Pixels, *, window: WindowName = "box", floor: Floor = 1.0
) -> tuple[jax.Array, jax.Array]:
    """Normalise the contrast of one crop; `preprocess` without the crop, the checks and the batch.

    Args:
        pixels: of the crop, (height, width).
        window: see `local_contrast_normalize`.
        floor: see `local_contrast_normalize`, in units of the frame's standard deviation.

    Returns:
        (height - 4, width - 4) float32, 0 where a window holds a pixel that does not count; bool of that shape, True where
        it holds none.
    """
    if window == "box" and not isinstance(floor, str) and floor > 0:
        frame, window_valid = normalize_parts(pixels, ("frame", "window_valid"), floor=floor)
        return frame, window_valid
    valid = pixels.valid()
    frame = normalize_crop(pixels.values, valid, window=window, floor=floor)
    if valid is None:
        return frame, jnp.ones(frame.shape, bool)
    window_valid = grown_mask(valid)
    return jnp.where(window_valid, frame, 0), window_valid


@partial(jax.jit, static_argnames=("window", "floor", "limit", "return_valid"))
def _preprocess(
    crops: jax.Array,
    mask: jax.Array | None,
    window: WindowName,
    floor: Floor,
    limit: float,
    return_valid: bool,
) -> Any:
    def one(crop: jax.Array, mask: jax.Array | None) -> Any:
        pixels, _ = settle(crop, mask, limit, mask is not None)
        frame, window_valid = normalize_pixels(pixels, window=window, floor=floor)
        return (frame, window_valid) if return_valid else frame

    return map_frames(one, crops, mask)
