"""A frame made ready to be looked at for spots: checked, in natural units, with its margin. No JAX: processes that read do it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sfxjax.errors import UserError
from sfxjax.pixel_values import value_limit, without_low_values
from sfxjax.spots.frame_pixels import NOISE_BLOCK, FramePixels, cleaned_pixels, in_natural_units, never


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
        UserError: the mask does not fit, or no pixel has a value that counts.
    """
    check_mask(frame, mask)
    frame = without_low_values(frame)
    limit = value_limit(frame) if limit is None else limit
    scaled, limit, factor = in_natural_units(frame, mask, limit)
    pixels = cleaned_pixels(scaled, mask, separator(frame.shape), limit, into)
    _refuse_without_values(pixels)
    return PreparedFrame(pixels, factor, frame.shape)


def check_mask(frame: np.ndarray, mask: np.ndarray | None) -> None:
    """Refuse a mask that does not fit its frame.

    Raises:
        UserError: it has another shape.
    """
    if mask is not None and mask.shape != frame.shape:
        raise UserError(f"the mask has the shape {mask.shape}, the frame {frame.shape}")


def _refuse_without_values(pixels: FramePixels) -> None:
    """Refuse a frame none of whose pixels counts, which would pass for one without spots.

    Raises:
        UserError: it is one.
    """
    # Nearly every frame passes by a thousandth of its pixels.
    for step in (997, 1):
        some = pixels.values.reshape(-1)[::step]
        told = np.isfinite(some) if some.dtype.kind == "f" else some != never(some.dtype)
        for value in pixels.invalid[np.isfinite(pixels.invalid)]:
            told &= some != value
        if told.any():
            return
    raise UserError("no pixel has a value that counts")


def separator(shape: tuple[int, ...]) -> int:
    """Return how many rows are put between panels of frames of a shape, so that no block of noise is of two."""
    return NOISE_BLOCK - shape[-2] % NOISE_BLOCK
