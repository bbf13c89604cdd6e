"""A frame made ready to be looked at for spots: checked, in natural units, with its margin. No JAX: processes that read do it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sfxjax.errors import UserError
from sfxjax.pixels.missing_values import is_below, with_limit, without_low_values
from sfxjax.spots.frame_pixels import NOISE_BLOCK, FramePixels, cleaned_pixels
from sfxjax.spots.natural_units import in_natural_units
from sfxjax.spots.stored_type import never, stored_type

NO_VALUE = "no pixel has a value that counts"


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
        limit: value from which pixels tell nothing; None: by the frame's own values, see `sfxjax.pixels.missing_values`.
        into: memory for the values, see `sfxjax.spots.frame_pixels.cleaned_pixels`, with `separator` rows between panels.

    Raises:
        UserError: the mask does not fit, or no pixel has a value that counts.
    """
    check_mask(frame, mask)
    natural = in_natural_units(without_low_values(frame), mask, limit)
    pixels = cleaned_pixels(natural, separator(frame.shape), into)
    _refuse_without_values(pixels)
    return PreparedFrame(pixels, natural.factor, frame.shape)


def settle_frame(
    frame: np.ndarray,
    mask: np.ndarray | None = None,
    limit: float | None = None,
    into: np.ndarray | None = None,
) -> np.ndarray:
    """Mark what tells nothing in a frame that an accelerator is to make ready, see `sfxjax.spots.prepare_on_accelerator`.

    Args:
        frame: (ss, fs) or (panel, ss, fs), detector units, integers.
        mask: bool of that shape, True where a pixel counts; or None.
        limit: value from which pixels tell nothing; None: by the frame's own values, see `sfxjax.pixels.missing_values`.
        into: memory of that shape and of `stored_type`; None: new memory.

    Returns:
        The frame, `never` where the mask or the limit says that a pixel tells nothing.

    Raises:
        UserError: the mask does not fit, or no pixel has a value that counts.
    """
    check_mask(frame, mask)
    frame = without_low_values(frame)
    frame, limit = with_limit(frame, mask=mask) if limit is None else (frame, limit)
    dtype = stored_type(frame.dtype)
    values = np.empty(frame.shape, dtype) if into is None else into
    np.copyto(values, frame)
    if frame.size and not frame.max() < limit:
        np.copyto(values, never(dtype), where=~is_below(frame, limit))
    if mask is not None:
        np.copyto(values, never(dtype), where=~mask)
    if not _any_told(values, []):
        raise UserError(NO_VALUE)
    return values


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
    if not _any_told(pixels.values, pixels.invalid[np.isfinite(pixels.invalid)].tolist()):
        raise UserError(NO_VALUE)


def _any_told(values: np.ndarray, invalid: list[float]) -> bool:
    # Nearly every frame passes by a thousandth of its pixels.
    for step in (997, 1):
        some = values.reshape(-1)[::step]
        told = np.isfinite(some) if some.dtype.kind == "f" else some != never(some.dtype)
        for value in invalid:
            told &= some != value
        if told.any():
            return True
    return False


def separator(shape: tuple[int, ...]) -> int:
    """Return how many rows are put between panels of frames of a shape, so that no block of noise is of two."""
    return NOISE_BLOCK - shape[-2] % NOISE_BLOCK
