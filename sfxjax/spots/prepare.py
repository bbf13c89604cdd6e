"""A frame made ready to be looked at for spots: checked, in natural units, with its margin. No JAX: processes that read do it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sfxjax.errors import UserError
from sfxjax.pixel_values import is_below, value_limit, without_low_values
from sfxjax.spots.frame_pixels import NOISE_BLOCK, FramePixels, frame_pixels, in_natural_units


class PreparedFrame(NamedTuple):
    """A frame made ready.

    Attributes:
        pixels: what is looked at.
        factor: by which its values were scaled.
        shape: of the frame, (ss, fs) or (panel, ss, fs).
    """

    pixels: FramePixels
    factor: float
    shape: tuple[int, ...]


def prepare_frame(
    frame: np.ndarray,
    mask: np.ndarray | None = None,
    limit: float | None = None,
    into: np.ndarray | None = None,
) -> PreparedFrame:
    """Make a frame ready.

    Args:
        frame: (ss, fs) or (panel, ss, fs), detector units, any real type.
        mask: bool of that shape, True where a pixel counts; or None.
        limit: value from which pixels tell nothing; None: by the frame's own values, see `sfxjax.pixel_values`.
        into: memory for the values, see `sfxjax.spots.frame_pixels.frame_pixels`, with `separator` rows between panels.

    Raises:
        UserError: the mask does not fit.
    """
    check_mask(frame, mask)
    frame = without_low_values(frame)
    limit = value_limit(frame) if limit is None else limit
    scaled, limit, factor = in_natural_units(frame, mask, limit)
    return PreparedFrame(frame_pixels(scaled, mask, separator(frame.shape), limit, into), factor, frame.shape)


def check_mask(frame: np.ndarray, mask: np.ndarray | None) -> None:
    """Refuse a mask that does not fit its frame.

    Raises:
        UserError: it has another shape.
    """
    if mask is not None and mask.shape != frame.shape:
        raise UserError(f"the mask has the shape {mask.shape}, the frame {frame.shape}")


def check_values(frame: np.ndarray, mask: np.ndarray | None, limit: float | None = None) -> None:
    """Check that a frame has pixels that tell something.

    Args:
        frame: (..., ss, fs).
        mask: of its shape, True where a pixel counts, or None.
        limit: value from which pixels tell nothing, or None.

    Raises:
        UserError: none has a number below the limit.
    """
    # Nearly every frame passes by a thousandth of its pixels.
    for step in (997, 1):
        some = frame.reshape(-1)[::step]
        told = np.isfinite(some)
        if limit is not None:
            told &= is_below(some, limit)
        if mask is not None:
            told &= mask.reshape(-1)[::step]
        if told.any():
            return
    raise UserError("no pixel has a value that counts")


def separator(shape: tuple[int, ...]) -> int:
    """Return how many rows are put between panels of frames of a shape, so that no block of noise is of two."""
    return NOISE_BLOCK - shape[-2] % NOISE_BLOCK
