"""A frame of any detector, whole: as float32 with NaN where a pixel tells nothing, and what kind of noise it has.

A mask is often not at hand. So a pixel is left out where the mask says so; where its value is NaN or infinite; where it is the
largest value of an unsigned type, or the smallest of a signed one; where it is -1 or -2 in a frame of integers with no other
negative values to speak of; where it is 0 in a frame whose pixels are far from 0, or that is cut off at 0; and where it holds
the one value that fills whole areas, as the gaps of assembled panels do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# A frame in which so many pixels are negative, sentinels apart, has noise around 0 there.
NOISE_FRACTION = 0.005
# Zeros are gaps where the typical pixel is at so many standard deviations of Poisson noise from 0.
FAR_FROM_ZERO = 16.0
# A value is a gap's if runs of it make up this share of the frame.
GAP_FRACTION = 0.004
RUN = 12
# So many zeros where nothing is negative and no photons are counted are values cut off, such as of a background taken away.
CLIPPED = 0.1
SAMPLED_ROWS = 5


class FramePixels(NamedTuple):
    """A frame made ready.

    Attributes:
        values: (ss, fs) float32, NaN where a pixel tells nothing; panels lie one below the other, rows of NaN between them.
        counting: whether it counts photons: integers, of which one is one photon.
        integers: whether all values are whole numbers.
    """

    values: np.ndarray
    counting: bool
    integers: bool


def frame_pixels(frame: np.ndarray, mask: np.ndarray | None = None, separator: int = 8) -> FramePixels:
    """Make a frame ready to look for spots in.

    Args:
        frame: (ss, fs) or (panel, ss, fs), any real type.
        mask: bool of that shape, True where a pixel counts; or None.
        separator: rows put between panels.

    Returns:
        `FramePixels`; a pixel's row in it is panel * (ss + separator) + ss.
    """
    sample = frame.reshape(-1, frame.shape[-1])[2::SAMPLED_ROWS]
    integers = frame.dtype.kind in "ui"
    bad: list[float] = []
    if frame.dtype.kind in "ui":
        limits = np.iinfo(frame.dtype)
        if frame.dtype.itemsize > 1:
            bad.append(limits.max)
        if frame.dtype.kind == "i":
            bad.append(limits.min)
    known = np.isfinite(sample) if frame.dtype.kind == "f" else np.ones(sample.shape, bool)
    for value in bad:
        known &= sample != value
    good = sample[known]
    if good.size == 0:
        return FramePixels(np.full(_stacked_shape(frame, separator), np.nan, np.float32), False, integers)
    if not integers:
        integers = bool(np.all(good[:4096] == np.round(good[:4096])) and np.all(good == np.round(good)))
    sentinel = (good == -1) | (good == -2)
    negative = np.mean((good < 0) & ~sentinel)
    noisy = negative > NOISE_FRACTION
    if integers and not noisy and frame.dtype.kind != "u":
        bad += [-1, -2]
        good = good[~sentinel]
    positive = good[good != 0]
    typical = float(np.median(positive)) if positive.size else 0.0
    if not noisy and typical >= FAR_FROM_ZERO and negative < NOISE_FRACTION:
        bad.append(0)
    counting = bool(integers and not noisy and _counts_photons(sample, known, bad))
    if not counting and not noisy and 0 not in bad and not (good < 0).any() and np.mean(good == 0) > CLIPPED:
        bad.append(0)
    gap = _gap_value(sample, bad, typical >= FAR_FROM_ZERO)
    values = _stacked(frame, separator)
    for value in bad:
        values[values == np.float32(value)] = np.nan
    if frame.dtype.kind == "f":
        values[np.isinf(values)] = np.nan
    if gap is not None:
        same = values == np.float32(gap)
        # A live pixel may read as much: only runs are gaps.
        run = same.copy()
        run[:, 2:-2] &= same[:, :-4] & same[:, 4:]
        whole = run.copy()
        for shift in (1, 2):
            whole[:, shift:] |= run[:, :-shift]
            whole[:, :-shift] |= run[:, shift:]
        values[whole & same] = np.nan
    if mask is not None:
        values[~(_stacked(mask.astype(np.float32), separator) > 0)] = np.nan
    return FramePixels(values, counting, integers)


def _counts_photons(sample: np.ndarray, known: np.ndarray, bad: list[float]) -> bool:
    """Tell photon counts, whose variance is their mean, by the differences of neighbouring pixels."""
    values = sample[::2].astype(np.float32)
    fine = known[::2].copy()
    for value in bad:
        fine &= values != value
    pair = fine[:, 1:] & fine[:, :-1]
    if not pair.any():
        return False
    width = 64
    columns = pair.shape[1] // width * width
    if columns == 0:
        return False
    shape = (pair.shape[0], columns // width, width)
    difference = np.where(pair, np.diff(values, axis=1), 0)[:, :columns].reshape(shape)
    total = np.where(pair, values[:, 1:], 0)[:, :columns].reshape(shape)
    count = pair[:, :columns].reshape(shape).sum(-1)
    use = count > width // 2
    variance = 0.5 * np.sum(difference**2, -1)[use]
    mean = np.sum(total, -1)[use]
    lit = mean > 0
    if lit.sum() < 4:
        return True
    # Of dim places and bright ones alike: elsewhere one may come by chance.
    mean, ratio = mean[lit], variance[lit] / mean[lit]
    low, high = np.quantile(mean, [1 / 3, 2 / 3])
    parts = [part for part in (ratio[mean <= low], ratio[mean >= high]) if part.size]
    return all(0.6 < float(np.median(part)) < 1.6 for part in parts)


def _gap_value(sample: np.ndarray, bad: list[float], with_zero: bool) -> float | None:
    """Return the value that fills areas, if there is one besides those known to be bad."""
    if sample.shape[1] < 2 * RUN:
        return None
    ends = sample[:, : -RUN : RUN // 2]
    same = ends == sample[:, RUN :: RUN // 2][:, : ends.shape[1]]
    middle = sample[:, RUN // 2 :: RUN // 2][:, : ends.shape[1]]
    same &= ends == middle
    quarter = sample[:, RUN // 4 :: RUN // 2][:, : ends.shape[1]]
    same &= ends == quarter
    found = ends[same]
    if not with_zero:
        found = found[found != 0]
    if found.size == 0:
        return None
    values, counts = np.unique(found, return_counts=True)
    best = int(counts.argmax())
    if counts[best] < GAP_FRACTION * ends.size or float(values[best]) in bad:
        return None
    # Neighbouring values make areas too where the noise is below a unit.
    close = counts[np.abs(values.astype(float) - float(values[best])) == 1]
    return float(values[best]) if close.size == 0 or counts[best] > 4 * close.max() else None


def _stacked_shape(frame: np.ndarray, separator: int) -> tuple[int, int]:
    if frame.ndim == 2:
        return frame.shape[0], frame.shape[1]
    panels = int(np.prod(frame.shape[:-2]))
    return panels * (frame.shape[-2] + separator), frame.shape[-1]


def _stacked(frame: np.ndarray, separator: int) -> np.ndarray:
    if frame.ndim == 2:
        return frame.astype(np.float32)
    panels = frame.reshape(-1, *frame.shape[-2:])
    values = np.full((len(panels), panels.shape[1] + separator, panels.shape[2]), np.nan, np.float32)
    values[:, : panels.shape[1]] = panels
    return values.reshape(-1, panels.shape[2])
