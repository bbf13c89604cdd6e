"""Reductions of a pre-processed frame to a vector, the input of the one-dimensional networks.

The paper's row-wise decomposition (Xie, Liu et al., Optics Express 31(20):32909, 2023, Eq. 2) keeps of each
row of the 720 x 720 frame its largest value minus its smallest: a Bragg spot lifts it, smooth background does
not.

A reduction is a function (frame, valid) -> (length,) or (length, channels) of one frame (height, width) and a
bool array of its shape, True where a pixel may take part, or None: all may. `REDUCTIONS` names them: those of this
library, and those of a user's file or module once `sfxjax.reductions.user_code.load_reduction` has checked them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sfxjax.crop import FRAME
from sfxjax.errors import UserError
from sfxjax.mapping import map_frames, map_in_threads
from sfxjax.preprocess.contrast import Floor, WindowName, check_options
from sfxjax.preprocess.definition import check_frames, normalize_pixels
from sfxjax.preprocess.tiled import normalize_parts
from sfxjax.preprocess.validity import settle
from sfxjax.reductions.library import (
    block_maxima,
    brightest_pixels,
    local_maximum_counts,
    radial_extremes,
)
from sfxjax.spots.signal_to_noise import soft_spot_counts, spot_signal_to_noise

Reduction = Callable[[jax.Array, jax.Array | None], jax.Array]


def row_wise_decomposition(frame: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Largest minus smallest value of each row (RWD).

    Args:
        frame: (..., height, width).
        valid: bool of that shape, True where a pixel takes part, or None: all do.

    Returns:
        (..., height); 0 for a row without a valid pixel.

    References:
        The paper, section 3.4.2, Eq. 2.
    """
    return _extent(frame, valid, axis=-1)


def column_wise_decomposition(frame: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Largest minus smallest value of each column: `row_wise_decomposition` of the transposed frame.

    Args:
        frame: (..., height, width).
        valid: bool of that shape, True where a pixel takes part, or None: all do.

    Returns:
        (..., width); 0 for a column without a valid pixel.
    """
    return _extent(frame, valid, axis=-2)


def row_and_column_decomposition(frame: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Row-wise and column-wise decomposition of a square frame as two channels.

    A spot lifts a row and a column; noise that lifts a row need not lift a column, and a streak along one of them shows in
    the other channel alone.

    Args:
        frame: (..., edge, edge).
        valid: bool of that shape, True where a pixel takes part, or None: all do.

    Returns:
        (..., edge, 2).
    """
    both = row_wise_decomposition(frame, valid), column_wise_decomposition(frame, valid)
    return jnp.stack(both, axis=-1)


REDUCTIONS: dict[str, Reduction] = {
    reduction.__name__: reduction
    for reduction in (
        row_wise_decomposition,
        column_wise_decomposition,
        row_and_column_decomposition,
        radial_extremes,
        block_maxima,
        brightest_pixels,
        local_maximum_counts,
        spot_signal_to_noise,
        soft_spot_counts,
    )
}
LIBRARY = tuple(REDUCTIONS)
# Vectors of heights in places that mostly hold noise: twice the frame gives twice the vector, and the frame turned by half a
# turn gives it backwards. Networks read them in units of their own noise, and train on them from both ends.
HEIGHTS = frozenset(
    reduction.__name__
    for reduction in (
        row_wise_decomposition,
        column_wise_decomposition,
        row_and_column_decomposition,
        block_maxima,
    )
)
ALIASES = {"rwd": "row_wise_decomposition", "cwd": "column_wise_decomposition"}


def canonical_name(name: str) -> str:
    """Return the full name of a reduction given by a short one, such as "rwd"; any other name as it is."""
    return ALIASES.get(name, name)


def get_reduction(name: str) -> Reduction:
    """Return the reduction of that name.

    Args:
        name: a key of `REDUCTIONS` or of `ALIASES`.

    Raises:
        UserError: there is none; the message lists the known names.
    """
    try:
        return REDUCTIONS[canonical_name(name)]
    except KeyError:
        if ":" in name:
            raise UserError(
                f"the reduction {name!r} is not loaded; call sfxjax.reductions.user_code.load_reduction first"
            ) from None
        raise UserError(
            f"unknown reduction {name!r}; choose one of: {', '.join(LIBRARY)}; or give your own as"
            " file.py:function"
        ) from None


def reduced_shape(name: str) -> tuple[int, ...]:
    """Return the shape of a reduced 720 x 720 frame, (length,) or (length, channels), by tracing.

    Args:
        name: as for `get_reduction`.

    Raises:
        UserError: as `get_reduction`.
    """
    frame = jax.ShapeDtypeStruct((FRAME, FRAME), jnp.float32)
    return jax.eval_shape(lambda frame: get_reduction(name)(frame, None), frame).shape


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
        reduction: a reduction as the module's text defines it. Compiled once per function object, so give a
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
    reduce = partial(_reduce, reduction=reduction, window=window, floor=floor, limit=limit)
    if any(isinstance(array, jax.core.Tracer) for array in (crops, mask)):
        return reduce(crops, mask, 0, count=None)
    crops = jnp.asarray(crops)
    leading = crops.shape[:-2]
    crops = crops.reshape(-1, *crops.shape[-2:])
    mask = None if mask is None else jnp.asarray(mask)
    mask = mask.reshape(-1, *mask.shape[-2:]) if mask is not None and mask.ndim > 2 else mask
    reduced = map_in_threads(lambda first, size: reduce(crops, mask, first, count=size), len(crops))
    return reduced.reshape(*leading, *reduced.shape[1:])


@partial(jax.jit, static_argnames=("count", "reduction", "window", "floor", "limit"))
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

    if count is not None:
        crops = jax.lax.dynamic_slice_in_dim(crops, first, count)
        if mask is not None and mask.ndim > 2:
            mask = jax.lax.dynamic_slice_in_dim(mask, first, count)
    return map_frames(one, crops, mask)


def _extent(frame: jax.Array, valid: jax.Array | None, axis: int) -> jax.Array:
    if valid is None:
        return jnp.max(frame, axis) - jnp.min(frame, axis)
    largest = jnp.max(jnp.where(valid, frame, -jnp.inf), axis)
    smallest = jnp.min(jnp.where(valid, frame, jnp.inf), axis)
    return jnp.where(jnp.any(valid, axis), largest - smallest, 0)
