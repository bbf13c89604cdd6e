"""Pixels that never change over a run's first frames though those around them do."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy import ndimage

# Frames looked at for pixels that never change or always saturate, and how few tell nothing.
BAD_PIXEL_FRAMES = 32
FEWEST_FRAMES = 16
# A pixel may stay as it is by chance with this probability.
BY_CHANCE = 1e-6


def find_bad_pixels(
    frames: Iterable[np.ndarray], good: np.ndarray | None = None
) -> tuple[np.ndarray | None, str]:
    """Find pixels that never change over a run's first frames though those around them do.

    How often the neighbouring pixels stay as they are tells how often chance keeps a live one: always, where photons are rare,
    and hardly ever elsewhere. So gaps of any size are found, and dark areas of counting detectors are not.

    Args:
        frames: of one shape, (..., ss, fs); the first `BAD_PIXEL_FRAMES` are used, and equal or empty frames count once.
        good: bool of that shape, pixels already known; None: all good.

    Returns:
        bool of that shape, True where a pixel is bad, or None where nothing was found or the frames cannot tell; and a line for
        the user, empty if nothing was found.
    """
    first: np.ndarray | None = None
    equal = np.zeros((), np.uint8)
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
        else:
            equal += frame == first
    if first is None or len(seen) < FEWEST_FRAMES:
        return None, ""
    again = len(seen) - 1
    usable = np.ones(first.shape, bool) if good is None else good
    constant = (equal == again) & usable
    if not constant.any():
        return None, ""
    rows = (-1, first.shape[-1])
    bad = _unlike_neighbours(
        constant.reshape(rows),
        (usable & ~constant).reshape(rows),
        equal.reshape(rows) / np.float32(again),
        again,
    ).reshape(first.shape)
    if not bad.any():
        return None, ""
    top = np.iinfo(first.dtype).max if first.dtype.kind in "iu" else np.inf
    saturated = int((bad & (first == top)).sum())
    return bad, (
        f"{int(bad.sum()) - saturated} pixels never change and {saturated} always saturate over the first "
        f"{len(seen)} frames: masked"
    )


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
