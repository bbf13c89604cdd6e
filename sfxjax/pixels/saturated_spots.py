"""Spots whose hearts are saturated: they hold the value of gaps, but lie in small places whose flank rises towards them.

A gap or a dead pixel has no flank: the pixels beside it read what others around it do. The heart of a bright spot, in which the
detector reached its highest value, is surrounded by pixels that read far more than those some pixels away. What it would have
read is not known, but more than its flank, and most in its middle.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

# Edge of the largest heart, pixels.
LARGEST = 16
# Pixels that tell the background lie so far from the heart.
_NEAR, _FAR = 4, 8
# Of the pixels beside a heart this share is known, and this share of those stands out.
_KNOWN, _RISEN = 0.8, 0.9
# The background's upper quartile is to be passed by so many times its distance from the median.
_ABOVE = 3
# A heart rises by this share of its flank's highest value a pixel, and stays by this share below the limit.
_RISE, _BELOW = 0.5, 0.001


class _Spot(NamedTuple):
    """A saturated spot in a window of a panel: rows, columns, bool of their shape, and the values of the pixels that it takes."""

    rows: slice
    columns: slice
    pixels: np.ndarray
    values: np.ndarray


def with_saturated_spots(frame: np.ndarray, limit: float, mask: np.ndarray | None = None) -> np.ndarray:
    """Give the hearts of saturated spots values above those of their flanks, so that they count.

    All stay below the limit: where that leaves no room, the flank is scaled down with its heart, and the spot keeps its shape.

    Args:
        frame: (..., ss, fs), any real type.
        limit: value from which pixels tell nothing.
        mask: bool of that shape, True where a pixel counts; or None.

    Returns:
        The same array where there are none; else a copy.
    """
    if not np.isfinite(limit) or frame.ndim < 2 or frame.size == 0 or frame.dtype.kind not in "iuf":
        return frame
    highest = frame.max()
    # NaN where one value is.
    if highest < limit:
        return frame
    if frame.dtype.kind != "f":
        # In the frame's own type, which compares several times as fast.
        limit = frame.dtype.type(max(math.ceil(limit), np.iinfo(frame.dtype).min))
    panels = frame.reshape(-1, *frame.shape[-2:])
    masks = [None] * len(panels) if mask is None else mask.reshape(panels.shape)
    found = [
        (number, spot)
        for number, (panel, good) in enumerate(zip(panels, masks, strict=True))
        for spot in _saturated_spots(panel, good, limit)
    ]
    if not found:
        return frame
    filled = panels.copy()
    for number, spot in found:
        filled[number, spot.rows, spot.columns][spot.pixels] = spot.values
    return filled.reshape(frame.shape)


def _saturated_spots(panel: np.ndarray, good: np.ndarray | None, limit: Any) -> list[_Spot]:
    with np.errstate(invalid="ignore"):
        held, told = panel >= limit, panel < limit
    if good is not None:
        held &= good
        told &= good
    spots: list[_Spot] = []
    done: set[tuple[int, int]] = set()
    for row, column in _short_runs(panel, held, told):
        if (row, column) in done:
            continue
        margin = LARGEST + _FAR
        rows = slice(max(row - margin, 0), row + margin + 1)
        columns = slice(max(column - margin, 0), column + margin + 1)
        areas, _ = ndimage.label(held[rows, columns], np.ones((3, 3)))
        pixels = areas == areas[row - rows.start, column - columns.start]
        places = np.argwhere(pixels)
        done.update((row + rows.start, column + columns.start) for row, column in places.tolist())
        found = _filled(panel[rows, columns], told[rows, columns], pixels, places, float(limit))
        if found is not None:
            spots.append(_Spot(rows, columns, *found))
    return spots


def _short_runs(panel: np.ndarray, held: np.ndarray, told: np.ndarray) -> list[tuple[int, int]]:
    """Find where short runs along fs begin that have a flank on either side, and do not go on far along ss."""
    height, width = panel.shape
    places = np.flatnonzero(held)
    if places.size == 0 or width < 2 * _FAR:
        return []
    begins = np.flatnonzero(np.diff(places, prepend=-2) != 1)
    first, last = places[begins], places[np.append(begins[1:], places.size) - 1]
    row, left, right = first // width, first % width - 1, last % width + 1
    use = (last // width == row) & (right - left <= LARGEST + 1) & (left >= 0) & (right < width)
    above, below = np.maximum(row - LARGEST, 0), np.minimum(row + LARGEST, height - 1)
    use &= ~(held[above, left + 1] & held[below, left + 1])
    row, left, right = row[use], left[use], right[use]
    use = told[row, left] & told[row, right]
    row, left, right = row[use], left[use], right[use]
    away = np.arange(_NEAR - 1, _FAR)
    columns = np.concatenate([left[:, None] - away, right[:, None] + away], 1)
    inside = (columns >= 0) & (columns < width)
    columns = columns.clip(0, width - 1)
    known = inside & told[row[:, None], columns]
    around = np.where(known, panel[row[:, None], columns].astype(np.float64), np.nan)
    flank = np.minimum(panel[row, left].astype(np.float64), panel[row, right].astype(np.float64))
    risen = np.zeros(len(row), bool)
    enough = np.isfinite(around).sum(1) >= _NEAR
    if enough.any():
        risen[enough] = flank[enough] > _threshold(around[enough])
    return list(zip(row[risen].tolist(), (left[risen] + 1).tolist(), strict=True))


def _threshold(around: np.ndarray) -> np.ndarray:
    """Return what a flank is above, of the pixels around it along the last axis, NaN where they tell nothing."""
    ordered = np.sort(around, axis=-1)  # NaN last.
    last = np.isfinite(ordered).sum(-1, keepdims=True) - 1
    middle, upper = (
        np.take_along_axis(ordered, np.ceil(share * last).astype(int), -1)[..., 0] for share in (0.5, 0.75)
    )
    return np.asarray(upper + _ABOVE * (upper - middle))


def _filled(
    panel: np.ndarray, known: np.ndarray, heart: np.ndarray, places: np.ndarray, limit: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return which pixels of a window a saturated spot takes, and their values; None where the heart is none."""
    if max(np.ptp(places, axis=0)) >= LARGEST:
        return None
    grown = ndimage.binary_dilation(heart)
    beside = grown & ~heart
    if not 0 < _KNOWN * beside.sum() <= (beside & known).sum():
        return None
    next_but_one = ndimage.binary_dilation(grown) & ~grown & known
    top, left = np.maximum(places.min(0) - _FAR, 0)
    bottom, right = places.max(0) + _FAR + 1
    around = np.zeros(heart.shape, bool)
    around[top:bottom, left:right] = True
    whole = ndimage.binary_dilation(grown, iterations=_NEAR - 2)
    around &= known & ~whole
    if not around.any() or not next_but_one.any():
        return None
    values = panel.astype(np.float64)
    flank = values[beside & known]
    risen = flank > _threshold(values[around])
    if risen.mean() < _RISEN or not np.median(flank) > np.median(values[next_but_one]):
        return None
    background = float(np.median(values[around]))
    inward = ndimage.distance_transform_edt(heart)
    heights = np.where(heart, (flank.max() - background) * (1 + _RISE * (inward - 1)), values - background)
    room = (1 - _BELOW) * limit - 1 * (panel.dtype.kind != "f") - background
    taken = heart | (whole & known)
    scaled = background + heights[taken] * min(1.0, room / heights[heart].max())
    return taken, scaled if panel.dtype.kind == "f" else np.round(scaled)
