"""How wide the spots of a run are: the standard deviation of a Gaussian spot, from the strongest spots of its frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sfxjax.spots.day_one import SPOT_PROBABILITY, FrameSpots

# Spots that are looked at have at least this ratio; of a frame at most so many.
STRONG_RATIO, MOST_OF_A_FRAME = 10.0, 10
# Fewer spots, or spots of fewer frames, tell nothing.
FEWEST_MEASURED, FEWEST_OF_FRAMES = 20, 4
# Half the edge of what is looked at around a spot, pixels, and the sizes that are tried.
PATCH_REACH = 14
SIZES_TRIED = np.exp(np.linspace(np.log(0.4), np.log(8.0), 61))
# Share of the pixels around a spot that must be known.
LEAST_AROUND = 0.8
# Values of a place in the spots are brought within these percentiles of them, so that no neighbour widens all.
CLIPPED_TO = (10, 90)
_MIDDLE = (slice(PATCH_REACH - 2, PATCH_REACH + 3),) * 2


def spot_size(frames: Sequence[np.ndarray], found: Sequence[FrameSpots]) -> tuple[float | None, int]:
    """Fit a Gaussian and a constant to the mean of the strong spots of frames.

    Args:
        frames: (ss, fs) float each, panels below one another, NaN where a pixel tells nothing.
        found: their spots.

    Returns:
        The size, pixels, None where too few spots tell; and of how many spots.
    """
    stack: list[np.ndarray] = []
    of_frames = 0
    for frame, spots in zip(frames, found, strict=True):
        of_frame = _patches(frame, spots)
        stack += of_frame
        of_frames += bool(of_frame)
    if len(stack) < FEWEST_MEASURED or of_frames < FEWEST_OF_FRAMES:
        return None, len(stack)
    patches = np.array(stack)
    mean = np.nanmean(patches.clip(*np.nanpercentile(patches, CLIPPED_TO, axis=0)), axis=0)
    steps = np.arange(-PATCH_REACH, PATCH_REACH + 1)
    squared = (steps[:, None] ** 2 + steps**2).ravel()
    known = np.isfinite(mean.ravel())
    squared, mean = squared[known], mean.ravel()[known]
    best, size = np.inf, None
    for tried in SIZES_TRIED:
        design = np.column_stack([np.exp(-0.5 * squared / tried**2), np.ones(len(squared))])
        fitted = np.linalg.lstsq(design, mean, rcond=None)[0]
        left = float(((design @ fitted - mean) ** 2).sum())
        if fitted[0] > 0 and left < best:
            best, size = left, float(tried)
    return size, len(stack)


def _patches(frame: np.ndarray, spots: FrameSpots) -> list[np.ndarray]:
    """Cut out the strongest spots of a frame, less the median around them, the middle brought to 1."""
    strong = (spots.probability >= SPOT_PROBABILITY) & (spots.signal_to_noise >= STRONG_RATIO)
    patches = []
    for place in np.flatnonzero(strong)[:MOST_OF_A_FRAME]:
        ss, fs = (round(float(where[place])) for where in (spots.ss, spots.fs))
        if (
            min(ss, fs) < PATCH_REACH
            or ss + PATCH_REACH >= frame.shape[0]
            or fs + PATCH_REACH >= frame.shape[1]
        ):
            continue
        patch = frame[ss - PATCH_REACH : ss + PATCH_REACH + 1, fs - PATCH_REACH : fs + PATCH_REACH + 1]
        if np.isfinite(patch).mean() < LEAST_AROUND or not np.isfinite(patch[_MIDDLE]).any():
            continue
        patch = patch - np.nanmedian(patch)
        height = float(np.nanmean(patch[_MIDDLE]))
        if height > 0:
            patches.append(patch / height)
    return patches
