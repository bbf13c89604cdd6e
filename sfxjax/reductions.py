"""Reductions of a pre-processed frame to a vector, the input of the one-dimensional networks.

The paper's row-wise decomposition (Xie, Liu et al., Optics Express 31(20):32909, 2023, Eq. 2) keeps of each
row of the 720 x 720 frame its largest value minus its smallest: a Bragg spot lifts it, smooth background does
not.

A reduction is a function (frame, valid) -> (length,) or (length, channels) of one frame (height, width) and a
bool array of its shape, True where a pixel may take part, or None: all may. `REDUCTIONS` names them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sfxjax import preprocess as pre
from sfxjax.contrast import Floor, WindowName, check_options
from sfxjax.errors import UserError

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


REDUCTIONS: dict[str, Reduction] = {
    "row_wise_decomposition": row_wise_decomposition,
    "column_wise_decomposition": column_wise_decomposition,
}


def get_reduction(name: str) -> Reduction:
    """Return the reduction of that name.

    Args:
        name: a key of `REDUCTIONS`.

    Raises:
        UserError: there is none; the message lists the known names.
    """
    try:
        return REDUCTIONS[name]
    except KeyError:
        raise UserError(f"unknown reduction {name!r}; choose one of: {', '.join(REDUCTIONS)}") from None


def preprocess_and_reduce(
    frames: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    reduction: Reduction = row_wise_decomposition,
    window: WindowName = "box",
    floor: Floor = 1.0,
    saturation: float | None = None,
) -> jax.Array:
    """Pre-process frames and reduce each at once, so that no batch of float frames is kept.

    Pixels whose 5 x 5 window holds a bad pixel take no part in the reduction: the edge of a masked area, such
    as a beam stop's rim, looks like a spot to the normalisation.

    Args:
        frames: (..., height, width), as for `sfxjax.preprocess.preprocess`.
        mask: as there.
        reduction: a reduction as the module's text defines it. Compiled once per function object, so give a
            named function and not a new lambda at each call.
        window: as there.
        floor: as there.
        saturation: as there.

    Returns:
        (..., length) or (..., length, channels).

    Raises:
        UserError: as there.
    """
    frames, mask = pre.crop_and_check(frames, mask)
    check_options(window, floor)
    return _preprocess_and_reduce(frames, mask, reduction, window, floor, saturation)


@partial(jax.jit, static_argnames=("reduction", "window", "floor", "saturation"))
def _preprocess_and_reduce(
    frames: jax.Array,
    mask: jax.Array | None,
    reduction: Reduction,
    window: WindowName,
    floor: Floor,
    saturation: float | None,
) -> jax.Array:
    def one(crop: jax.Array, mask: jax.Array | None) -> jax.Array:
        frame, good = pre.preprocess_crop(crop, mask, window=window, floor=floor, saturation=saturation)
        return reduction(frame, None if good is None else pre.grown_mask(good))

    return pre.map_frames(one, frames, mask)


def _extent(frame: jax.Array, valid: jax.Array | None, axis: int) -> jax.Array:
    if valid is None:
        return jnp.max(frame, axis) - jnp.min(frame, axis)
    largest = jnp.max(jnp.where(valid, frame, -jnp.inf), axis)
    smallest = jnp.min(jnp.where(valid, frame, jnp.inf), axis)
    return jnp.where(jnp.any(valid, axis), largest - smallest, 0)
