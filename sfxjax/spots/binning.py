"""Frames in sums of several pixels, in which wide spots are as wide as the day-one model knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sfxjax.spots.frame_pixels import frame_pixels

if TYPE_CHECKING:
    from sfxjax.spots.day_one import FrameSpots


def binned_shape(shape: tuple[int, ...], edge: int) -> tuple[int, ...]:
    """Return the shape of `binned_frame` of a frame of `shape`, (ss, fs) or (panel, ss, fs)."""
    return (*shape[:-2], shape[-2] // edge, shape[-1] // edge)


def binned_frame(
    pixels: np.ndarray, mask: np.ndarray | None, limit: float, edge: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Sum a frame over squares of pixels; rows and columns at the end that fill no square are left out.

    Args:
        pixels: (ss, fs) or (panel, ss, fs), detector units.
        mask: bool of that shape, True where a pixel counts; or None.
        limit: value from which pixels tell nothing.
        edge: of the squares, pixels.

    Returns:
        Frame, mask and limit as `sfxjax.spots.day_one.find_spots` takes them; a square counts where each of its pixels does.
    """
    ready = frame_pixels(pixels, mask, 0, limit)
    *panels, height, width = binned_shape(pixels.shape, edge)
    values = ready.floats().reshape(pixels.shape)[..., : height * edge, : width * edge]
    squares = values.reshape(*panels, height, edge, width, edge)
    known = np.isfinite(squares).all((-3, -1))
    sums = np.where(known, squares.sum((-3, -1)), 0)
    # Whole numbers stay so, since photons are known by that.
    whole = ready.integers and np.abs(sums).max(initial=0) < 2**31
    return sums.astype(np.int32 if whole else np.float32), known, np.inf


def unbinned_spots(spots: FrameSpots, shape: tuple[int, ...], edge: int) -> FrameSpots:
    """Return spots of `binned_frame` with their places in the frame as it was.

    Args:
        spots: of the sums; `ss` of panels as `FrameSpots` has it.
        shape: of the frame as it was, (ss, fs) or (panel, ss, fs).
        edge: of the squares, pixels.
    """
    rows = binned_shape(shape, edge)[-2]
    panel = np.floor((spots.ss + 0.5) / rows) if len(shape) > 2 else np.zeros(len(spots.ss))
    middle = (edge - 1) / 2
    ss = (spots.ss - panel * rows) * edge + middle + panel * shape[-2]
    return spots._replace(ss=ss.astype(spots.ss.dtype), fs=(spots.fs * edge + middle).astype(spots.fs.dtype))
