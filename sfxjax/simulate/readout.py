"""What detectors make of photons: the values that they read, and those that a file holds."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from sfxjax.simulate.artefacts import Reading


def read_out(
    still: np.random.Generator,
    each: np.random.Generator,
    counts: np.ndarray,
    background: np.ndarray,
    detector: str,
    spread: float,
    read: float,
    level: float,
) -> tuple[np.ndarray, float, float, float, str]:
    """Return the values read, those of a photon, of a typical pixel's noise and without light, and the type of a file.

    Args:
        still: random generator of what all frames of a run share.
        each: of what differs from frame to frame.
        counts: (ss, fs) photons.
        background: those expected without spots.
        detector: one of `sfxjax.simulate.conditions.DETECTORS`.
        spread: standard deviation of the point spread, pixels.
        read: noise of reading, photons.
        level: typical background, photons a pixel.
    """
    shape = counts.shape
    noise = float(np.sqrt(level + read**2))
    if detector == "counting":
        return counts, 1.0, max(noise, 0.5), 0.0, str(still.choice(["int32", "uint16", "uint32"]))
    if detector == "integrating":
        removed: np.ndarray | float = 0.0
        gain, offset = 10 ** still.uniform(-0.5, 0.6), still.uniform(0, 100)
        if still.random() < 0.2:
            # A background taken away, so that what is below it is stored as 0.
            removed = gain * background * still.uniform(0.3, 1.0)
            offset = gain * noise * still.uniform(-0.3, 1)
        values = (
            gaussian_filter(counts, spread, truncate=3) * gain
            + offset
            - removed
            + gain * read * each.normal(size=shape)
        )
        return (
            values,
            gain,
            gain * noise * 0.6,
            max(offset, 0.0),
            str(still.choice(["uint16", "int16", "int32"])),
        )
    fixed = still.normal(size=shape) * still.uniform(0, 0.3)
    values = counts + read * each.normal(size=shape) + fixed * read
    if detector == "photons":
        if still.random() < 0.3:
            return np.maximum(np.round(values), 0), 1.0, max(noise, 0.5), 0.0, "uint16"
        return values, 1.0, noise, 0.0, "float32"
    gain = 10 ** still.uniform(0.5, 1.6)
    if detector == "eight_bit":
        values = counts + read * each.normal(size=shape)
        scale = still.uniform(2, 12) / noise
        offset = still.uniform(0, 30)
        return values * scale + offset, scale, noise * scale, offset, "uint8"
    return values * gain, gain, noise * gain, 0.0, str(still.choice(["float32", "int16", "int32"]))


def stored(rng: np.random.Generator, reading: Reading, dtype: str, gap: str) -> np.ndarray:
    """Return the values as a file holds them.

    Args:
        rng: random generator.
        reading: what was read.
        dtype: of the file.
        gap: what pixels without a detector hold, one of `sfxjax.simulate.conditions.GAPS`.
    """
    values = reading.values
    if dtype != "float32":
        limits = np.iinfo(dtype)
        lowest = limits.min if limits.min < 0 and rng.random() < 0.5 else 0
        values = np.clip(np.round(values), lowest, limits.max)
        if rng.random() < 0.2:
            limit = float(rng.choice([4095, 16383, 32767]))
            # No run is taken where the background reaches the limit.
            if limit > 1.5 * np.quantile(values[reading.live], 0.99):
                values = np.minimum(values, limit)
    values = values.astype(dtype)
    if gap == "none":
        return values
    fill: float = 0.0
    if gap == "minus_one" and dtype not in ("uint8", "uint16", "uint32"):
        fill = float(rng.choice([-1, -2]))
    if gap == "largest" and dtype not in ("uint8", "float32"):
        fill = float(np.iinfo(dtype).max)
    if gap == "largest" and dtype == "float32":
        fill = np.nan
    if gap == "constant":
        fill = float(np.round(np.median(reading.values) * rng.uniform(0, 2)))
    values[~reading.live] = np.asarray(fill).astype(dtype)
    return values
