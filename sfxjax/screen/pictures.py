"""Pictures of frames that show spots a pixel or two wide, and pictures inside HTML pages."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Side of the square over which the background of a frame is smoothed, pixels.
SMOOTH = 25
BAD_PIXELS = (150, 190, 220)


def flattened(crop: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Subtract the smooth background, the mean of the good pixels around each pixel but those in spots.

    Args:
        crop: (height, width).
        good: bool of that shape, True = good.

    Returns:
        float64 of that shape, 0 at bad pixels.
    """
    from scipy.ndimage import uniform_filter

    usable = good & np.isfinite(crop)
    values = np.where(usable, crop, 0).astype(np.float64)
    share = np.maximum(uniform_filter(usable.astype(np.float64), SMOOTH), 1e-9)
    background = uniform_filter(values, SMOOTH) / share
    above = values - background
    spots = usable & (above > 4 * np.median(np.abs(above[usable]))) if usable.any() else ~usable
    background = uniform_filter(np.where(spots, background, values), SMOOTH) / share
    return np.where(usable, values - background, 0)


def largest_of_blocks(values: np.ndarray, side: int) -> np.ndarray:
    """Return the largest of each block of (side, side) of (height, width) values; what fills no block is left out."""
    height, width = (length // side for length in values.shape)
    return values[: height * side, : width * side].reshape(height, side, width, side).max((1, 3))


def frame_picture(frame: np.ndarray, good: np.ndarray, shrink: int = 2) -> np.ndarray:
    """Draw a frame dark on light: the brighter the darker, bad pixels in blue.

    Args:
        frame: (height, width).
        good: bool of that shape, True = good.
        shrink: so many pixels along each axis become one, the largest of them: a mean would hide small spots.

    Returns:
        (height // shrink, width // shrink, 3) uint8.
    """
    values = np.where(good & np.isfinite(frame), frame.astype(np.float64), -np.inf)
    small = largest_of_blocks(values, shrink)
    shown = np.isfinite(small)
    low, high = np.percentile(small[shown], [1, 99.7]) if shown.any() else (0.0, 1.0)
    if shown.any():
        # Noise stays pale, so that spots stand out.
        high = max(high, 3 * np.percentile(small[shown], 90) - 2 * np.median(small[shown]))
    grey = 1 - np.clip((np.where(shown, small, low) - low) / max(high - low, 1e-9), 0, 1)
    colours = np.repeat((255 * grey).round().astype(np.uint8)[..., None], 3, axis=-1)
    colours[~shown] = BAD_PIXELS
    return colours


def png_of_pixels(colours: np.ndarray) -> bytes:
    """Encode (height, width, 3) uint8 pixels as a PNG."""
    from matplotlib import image

    stream = io.BytesIO()
    image.imsave(stream, colours, format="png")
    return stream.getvalue()


def jpeg_of_pixels(colours: np.ndarray) -> bytes:
    """Encode (height, width, 3) uint8 pixels as a JPEG, which takes a fifth of a PNG where there is noise."""
    from matplotlib import image

    stream = io.BytesIO()
    image.imsave(stream, colours, format="jpeg", pil_kwargs={"quality": 80})
    return stream.getvalue()


def png_of_figure(figure: Figure, dots_per_inch: int = 100) -> bytes:
    """Draw a matplotlib figure as a PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dots_per_inch)
    return stream.getvalue()


def data_address(picture: bytes, kind: str = "png") -> str:
    """Return the address that holds a picture, a PNG or else a "jpeg", inside an HTML page."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
