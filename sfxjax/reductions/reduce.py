"""Frames to vectors in one call: pre-processing and a reduction, frame by frame."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sfxjax.compilation import jit_for_device
from sfxjax.mapping import map_frames, map_in_threads, map_leading
from sfxjax.preprocess.contrast import Floor, WindowName, check_options
from sfxjax.preprocess.definition import check_frames, normalize_pixels
from sfxjax.preprocess.tiled import normalize_parts
from sfxjax.preprocess.validity import settle
from sfxjax.reductions.definition import Reduction
from sfxjax.reductions.row_wise import row_wise_decomposition


def preprocess_and_reduce(
    frames: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    reduction: Reduction = row_wise_decomposition,
    window: WindowName = "box",
    floor: Floor = 1.0,
    limit: float | None = None,
) -> jax.Array:
    """Pre-process frames and reduce each at once, so that no batch of float frames is kept.

    Args:
        frames: (..., height, width), as for `sfxjax.preprocess.preprocess`.
        mask: as there.
        reduction: see `sfxjax.reductions.definition`. Compiled once per function object, so give a
            named function and not a new lambda at each call.
        window: as there.
        floor: as there.
        limit: as there.

    Returns:
        (..., length) or (..., length, channels).

    Raises:
        UserError: as there.
    """
    crops, mask, limit = check_frames(frames, mask, limit)
    check_options(window, floor)
    options: dict[str, Any] = {"reduction": reduction, "window": window, "floor": floor, "limit": limit}
    if any(isinstance(array, jax.core.Tracer) for array in (crops, mask)):
        return _reduce_within(crops, mask, 0, count=None, **options)
    crops = jnp.asarray(crops)
    leading = crops.shape[:-2]
    crops = crops.reshape(-1, *crops.shape[-2:])
    mask = None if mask is None else jnp.asarray(mask)
    mask = mask.reshape(-1, *mask.shape[-2:]) if mask is not None and mask.ndim > 2 else mask
    reduced = map_in_threads(
        lambda first, size: _reduce_compiled(crops, mask, first, count=size, **options), len(crops)
    )
    return reduced.reshape(*leading, *reduced.shape[1:])


def _reduce(
    crops: jax.Array,
    mask: jax.Array | None,
    first: jax.Array | int,
    *,
    count: int | None,
    reduction: Reduction,
    window: WindowName,
    floor: Floor,
    limit: float,
) -> jax.Array:
    """Reduce `count` crops of a batch from the first one on, or all of them."""

    def one(crop: jax.Array, mask: jax.Array | None) -> jax.Array:
        pixels, _ = settle(crop, mask, limit, mask is not None)
        if (
            reduction is row_wise_decomposition
            and window == "box"
            and not isinstance(floor, str)
            and floor > 0
        ):
            return normalize_parts(pixels, ("rows",), floor=floor)[0]
        return reduction(*normalize_pixels(pixels, window=window, floor=floor))

    if count is None or count == len(crops):
        return map_frames(one, crops, mask)

    def at(place: jax.Array) -> jax.Array:
        return one(crops[place], mask[place] if mask is not None and mask.ndim > 2 else mask)

    # One by one, since the part of the batch would be copied as a whole.
    return map_leading(at, first + jnp.arange(count))


_STATIC = ("count", "reduction", "window", "floor", "limit")
# In another program options of the compiler are that program's.
_reduce_within = jax.jit(_reduce, static_argnames=_STATIC)
_reduce_compiled = jit_for_device(_reduce, static_argnames=_STATIC)
