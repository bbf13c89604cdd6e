"""The central crop: its size, and where it lies in a frame. Without JAX, which the processes that read frames do not load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sfxjax.errors import UserError

CROP = 724  # pixels; the paper, section 3.1.1
FRAME = 720  # what is left of it once every 5 x 5 window lies inside


@dataclass(frozen=True)
class Window:
    """Where the crop lies in a frame: `frame[rows, columns]` goes to `crop[to_rows, to_columns]`."""

    rows: slice
    columns: slice
    to_rows: slice
    to_columns: slice

    @property
    def whole(self) -> bool:
        """Whether the frame fills the crop."""
        full = slice(0, CROP)
        return self.to_rows == full and self.to_columns == full


def crop_window(shape: tuple[int, int], centre: tuple[float, float] | None = None) -> Window:
    """Place the 724 x 724 crop.

    Args:
        shape: (ss, fs) of the frame, pixels.
        centre: (x, y) = (fs, ss) of the crop's centre, pixels from the first pixel's corner; None:
            the frame's centre.

    Raises:
        UserError: the crop would hold nothing of the frame.
    """
    spans = []
    for length, at in zip(shape, (None, None) if centre is None else (centre[1], centre[0]), strict=True):
        start = (length - CROP) // 2 if at is None else round(at - CROP / 2)
        first, last = max(start, 0), min(start + CROP, length)
        if last <= first:
            raise UserError(
                f"the beam centre {centre} is too far outside frames of {shape[0]}x{shape[1]} pixels"
            )
        spans.append((slice(first, last), slice(first - start, last - start)))
    (rows, to_rows), (columns, to_columns) = spans
    return Window(rows, columns, to_rows, to_columns)


def central_crop(frames: Any, *, size: int = CROP) -> Any:
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


def padded_crop(frames: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Cut the central crop out of frames (..., ss, fs) of any size, in one type; what they lack is 0."""
    window = crop_window(frames.shape[-2:])
    inner = frames[..., window.rows, window.columns]
    if window.whole:
        return inner.astype(dtype, copy=False)
    crops = np.zeros((*frames.shape[:-2], CROP, CROP), dtype)
    crops[..., window.to_rows, window.to_columns] = inner
    return crops
