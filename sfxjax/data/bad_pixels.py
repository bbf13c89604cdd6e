"""Pixels that never change over a run's first frames though those around them do, or that outshine those in every one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy import ndimage

# Frames looked at for pixels that never change or always saturate, and how few tell nothing.
BAD_PIXEL_FRAMES = 32
FEWEST_FRAMES = 16
# A pixel may stay as it is by chance with this probability.
BY_CHANCE = 1e-6
# A hot pixel always reads more than the eight around it ever do, by so many times what these differ: less is a spot that stays.
OUTSHINES = 8
_STRIP = 64


def find_bad_pixels(
    frames: Iterable[np.ndarray], good: np.ndarray | None = None, *, only_hot: bool = False
) -> tuple[np.ndarray | None, str]:
    """Find pixels that never change over a run's first frames though those around them do, and single hot ones.

    How often the neighbouring pixels stay as they are tells how often chance keeps a live one: always, where photons are rare,
    and hardly ever elsewhere. So gaps of any size are found, and dark areas of counting detectors are not. A hot pixel need not
    stay as it is: it reads far more than all around it in every frame, and a few raise the noise in which spots are looked for.

    Args:
        frames: of one shape, (..., ss, fs), and any real types; the first `BAD_PIXEL_FRAMES` are used, and equal or empty ones
            count once.
        good: bool of that shape, pixels already known; None: all good.
        only_hot: whether a mask tells which pixels never change, so that hot ones alone are looked for.

    Returns:
        bool of that shape, True where a pixel is bad, or None where nothing was found or the frames cannot tell; and a line for
        the user, empty if nothing was found.
    """
    first: np.ndarray | None = None
    equal = np.zeros((), np.uint8)
    lowest = highest = np.zeros(())
    seen: set[bytes] = set()
    for frame, _ in zip(frames, range(BAD_PIXEL_FRAMES), strict=False):
        if not frame.any() or (frame.dtype.kind == "f" and not np.isfinite(frame).any()):
            continue
        sample = frame[..., ::16, ::16].tobytes()
        if sample in seen:
            continue
        seen.add(sample)
        if first is None:
            first, equal = frame.copy(), np.zeros(frame.shape, np.uint8)
            lowest, highest = frame.copy(), frame.copy()
        else:
            equal += frame == first
            # Files of one run may differ in type.
            both = np.result_type(lowest, frame)
            lowest, highest = (part.astype(both, copy=False) for part in (lowest, highest))
            np.minimum(lowest, frame, out=lowest)
            np.maximum(highest, frame, out=highest)
    if first is None or len(seen) < FEWEST_FRAMES:
        return None, ""
    again = len(seen) - 1
    usable = np.ones(first.shape, bool) if good is None else good
    constant = (equal == again) & usable
    rows = (-1, first.shape[-1])
    bad = np.zeros(first.shape, bool)
    if constant.any() and not only_hot:
        bad = _unlike_neighbours(
            constant.reshape(rows),
            (usable & ~constant).reshape(rows),
            equal.reshape(rows) / np.float32(again),
            again,
        ).reshape(first.shape)
    hot = outshining(lowest.reshape(rows), highest.reshape(rows)).reshape(first.shape) & usable & ~bad
    if not (bad.any() or hot.any()):
        return None, ""
    top = np.iinfo(first.dtype).max if first.dtype.kind in "iu" else np.inf
    saturated = int((bad & (first == top)).sum())
    if only_hot:
        return hot, (
            f"{int(hot.sum())} pixels read far more than all around them in each of the first {len(seen)} frames: masked"
        )
    more = f", and {int(hot.sum())} read far more than all around them in every one" if hot.any() else ""
    line = f"{int(bad.sum()) - saturated} pixels never change and {saturated} always saturate over the first {len(seen)} frames"
    return bad | hot, f"{line}{more}: masked"


def outshining(lowest: np.ndarray, highest: np.ndarray) -> np.ndarray:
    """Tell which pixels always read far more than the eight around them ever do.

    Args:
        lowest: (rows, fs), the lowest value that each pixel had.
        highest: the highest, likewise.

    Returns:
        Bool of that shape.
    """
    above = np.zeros(lowest.shape, bool)
    rows = len(lowest)
    # In strips, which fit into a processor's cache.
    for top in range(0, rows, _STRIP):
        around = np.clip(np.arange(top - 1, min(top + _STRIP, rows) + 1), 0, rows - 1)
        low, high = (
            np.pad(part[around].astype(np.float32), ((0, 0), (1, 1)), mode="edge")
            for part in (lowest, highest)
        )
        most = _over_ring(np.maximum, high)
        least = _over_ring(np.minimum, low)
        # NaN, which tells nothing, is no more than anything.
        with np.errstate(invalid="ignore", over="ignore"):
            above[top : top + _STRIP] = low[1:-1, 1:-1] - most > OUTSHINES * (most - least)
    return above


def _over_ring(combine: np.ufunc, values: np.ndarray) -> np.ndarray:
    """Combine the eight values around each inner one."""
    rows, columns = (length - 2 for length in values.shape)
    outer = combine(combine(values[:, :-2], values[:, 1:-1]), values[:, 2:])
    sides = combine(values[1:-1, :columns], values[1:-1, 2:])
    ring: np.ndarray = combine(combine(outer[:rows], outer[2:]), sides)
    return ring


def _unlike_neighbours(constant: np.ndarray, live: np.ndarray, stays: np.ndarray, again: int) -> np.ndarray:
    """Tell which areas of constant pixels lie among live ones that would not stay so by chance.

    Args:
        constant: bool (rows, fs).
        live: bool of that shape, pixels to compare with.
        stays: how often each pixel is as in the first frame, 0 to 1.
        again: frames compared with the first.
    """
    areas, count = ndimage.label(constant, np.ones((3, 3)))
    near = np.where(live, ndimage.maximum_filter(areas, 3), 0).ravel()
    pixels = np.bincount(near, minlength=count + 1)
    overall = float(stays[live].mean()) if live.any() else 1.0
    sums = np.bincount(near, stays.ravel(), count + 1)
    average = np.where(pixels > 0, sums / np.maximum(pixels, 1), overall)
    bad: np.ndarray = (average**again < BY_CHANCE)[areas] & constant
    return bad
