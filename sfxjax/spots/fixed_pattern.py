"""What a detector shows in every frame of a run, learnt from frames without labels: its pattern, and places that show spots.

The pattern is what is left of the frames' mean when what is smooth over `SMOOTH` pixels is taken away: pixels that respond more
than others, rims, rings and steps that stay where they are. Crystals' spots come and go, so the brightest values of each
pixel are left out of the mean. Photons that are counted one by one are left as they are: their noise tells more.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import uniform_filter

from sfxjax.errors import UserError
from sfxjax.files import atomic_write_bytes
from sfxjax.spots.binning import binned_frame, binned_shape, unbinned_spots
from sfxjax.spots.frame_pixels import frame_pixels

if TYPE_CHECKING:
    from sfxjax.spots.day_one import FrameSpots

PATTERN_FILE = "fixed_pattern.npz"
# Edge of the square over which a pixel's surroundings are averaged.
SMOOTH_OVER = 11
# Share of each pixel's values that the mean is of, from the lowest on.
KEPT_VALUES = 0.9
# A pixel's value is known where this share of the frames know it.
LEAST_KNOWN = 0.5
# Frames' levels are brought to one another where they differ by less than this factor.
LEVELS_ALIKE = 5.0


@dataclass(frozen=True)
class FixedPattern:
    """What is done to each frame of a run before its spots are counted: what stays put is taken out, pixels may be summed.

    Attributes:
        places: bool (ss, fs), panels below one another, True where pixels are left out.
        pattern: float32 of that shape, detector units, NaN where nothing is known or subtracted; None: it is nowhere.
        level: typical value of a frame that the pattern suits, and scales with; 0: it does not scale.
        binned: edge of the squares of pixels that are summed in the end; 1: none are.
    """

    places: np.ndarray
    pattern: np.ndarray | None = None
    level: float = 0.0
    binned: int = 1

    def taken_out(
        self, pixels: np.ndarray, mask: np.ndarray | None, limit: float
    ) -> tuple[np.ndarray, np.ndarray | None, float]:
        """Return a frame so treated: pixels, mask and limit as `sfxjax.spots.day_one.find_spots` takes them.

        Args:
            pixels: (ss, fs) or (panel, ss, fs).
            mask: bool of that shape, True where a pixel counts; or None.
            limit: value from which pixels tell nothing.

        Raises:
            UserError: the frame has another shape.
        """
        if (pixels.size, pixels.shape[-1]) != (self.places.size, self.places.shape[1]):
            raise UserError(f"the model was adapted to frames of {self.places.shape}, not of {pixels.shape}")
        if self.places.any():
            good = ~self.places.reshape(pixels.shape)
            mask = good if mask is None else mask & good
        without = self._subtracted(pixels, mask, limit)
        return without if self.binned == 1 else binned_frame(*without, self.binned)

    def shape_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape that `taken_out` gives a frame of `shape`."""
        return shape if self.binned == 1 else binned_shape(shape, self.binned)

    def in_frame(self, spots: FrameSpots, shape: tuple[int, ...]) -> FrameSpots:
        """Return the spots of what `taken_out` gave with their places in the frame, of `shape`, that it was given."""
        return spots if self.binned == 1 else unbinned_spots(spots, shape, self.binned)

    def _subtracted(
        self, pixels: np.ndarray, mask: np.ndarray | None, limit: float
    ) -> tuple[np.ndarray, np.ndarray | None, float]:
        if self.pattern is None:
            return pixels, mask, limit
        values = frame_pixels(pixels, mask, 0, limit).floats()
        scale = float(np.nanmedian(values)) / self.level if self.level and np.isfinite(values).any() else 1.0
        # A pixel that most frames cut off at 0 has no pattern, and yet shows spots.
        known = np.nan_to_num(self.pattern)
        return (values - scale * known).reshape(pixels.shape).astype(np.float32), mask, np.inf

    def save(self, folder: Path) -> None:
        """Write it into a folder."""
        pattern = np.zeros((0, 0), np.float32) if self.pattern is None else self.pattern
        content = io.BytesIO()
        np.savez_compressed(
            content,
            places=self.places,
            pattern=pattern,
            level=np.float64(self.level),
            binned=np.int64(self.binned),
        )
        atomic_write_bytes(folder / PATTERN_FILE, content.getvalue())


def load_pattern(folder: Path) -> FixedPattern | None:
    """Read what `FixedPattern.save` wrote; None where there is none.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / PATTERN_FILE
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            places, pattern, level = stored["places"], stored["pattern"], float(stored["level"])
            # Folders of earlier versions do not say it.
            binned = int(stored["binned"]) if "binned" in stored.files else 1
        fits = places.dtype == bool and places.ndim == 2 and pattern.dtype == np.float32
        if not fits or (pattern.size and pattern.shape != places.shape) or not np.isfinite(level):
            raise ValueError("its arrays do not belong together")
        if not 1 <= binned <= min(places.shape):
            raise ValueError(f"sums of {binned} pixels")
    except Exception as error:  # Archives and headings that are damaged raise many kinds.
        raise UserError(f"{path}: damaged ({error}); adapt again with the same --out") from error
    return FixedPattern(places, pattern if pattern.size else None, level, binned)


def mean_pattern(frames: Sequence[np.ndarray]) -> tuple[np.ndarray, float]:
    """Find the pattern of frames.

    Args:
        frames: (ss, fs) float32 each, NaN where a pixel tells nothing.

    Returns:
        (ss, fs) float32, NaN where nothing is known, and the level it suits, 0 where it does not scale with it.
    """
    levels = np.array([np.nanmedian(frame) if np.isfinite(frame).any() else 0.0 for frame in frames])
    scales = bool(levels.min() > 0 and levels.max() < LEVELS_ALIKE * levels.min())
    level = float(np.median(levels)) if scales else 0.0
    factors = level / levels if scales else np.ones(len(frames))
    mean = np.empty(frames[0].shape, np.float32)
    step = max(1, 2**22 // (len(frames) * frames[0].shape[1]))
    for top in range(0, len(mean), step):
        values = np.stack(
            [frame[top : top + step] * factor for frame, factor in zip(frames, factors, strict=True)]
        )
        mean[top : top + step] = _low_mean(values)
    known = np.isfinite(mean)
    share = uniform_filter(known.astype(np.float32), SMOOTH_OVER)
    smooth = uniform_filter(np.where(known, mean, 0), SMOOTH_OVER) / np.maximum(share, 1e-6)
    return np.where(known, mean - smooth, np.nan).astype(np.float32), level


def _low_mean(values: np.ndarray) -> np.ndarray:
    """Return the mean of the lowest `KEPT_VALUES` of known values along the first axis, NaN where few are known."""
    known = np.isfinite(values).sum(0)
    ordered = np.sort(values, axis=0)  # NaN last
    count = np.ceil(KEPT_VALUES * known).astype(int)
    use = np.arange(len(values)).reshape(-1, *[1] * (values.ndim - 1)) < count
    total = np.where(use, ordered, 0).sum(0, dtype=np.float64)
    return np.where(known >= LEAST_KNOWN * len(values), total / np.maximum(count, 1), np.nan)
