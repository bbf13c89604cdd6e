"""Simulated spots put into measured frames: hits whose background, noise and defects are the detector's own."""

from __future__ import annotations

import numpy as np

from sfxjax.pixel_values import without_low_values
from sfxjax.simulate.visibility import strength_of
from sfxjax.spots.block_noise import LEAST_COUNTS, RESPONSE_VARIANCE
from sfxjax.spots.candidates import RING_SHARE
from sfxjax.spots.definition import MIN_SNR
from sfxjax.spots.frame_pixels import cleaned_pixels
from sfxjax.spots.natural_units import in_natural_units

SPOTS_INSERTED = 12
# Standard deviations of a spot, pixels.
SIZES = (0.7, 1.4)
# Mean of the exponential tail that the logarithms of the spots' ratios have.
TAIL = 0.5
# Half the edge of what is measured around a place, and of what a spot's light reaches.
_AROUND, _LIGHT_REACH = 12, 5


def with_spots(
    rng: np.random.Generator,
    frame: np.ndarray,
    mask: np.ndarray | None,
    limit: float | None = None,
    strength: float = 1.25,
) -> np.ndarray:
    """Put a crystal's spots into a frame, at random places where the detector is live.

    Args:
        rng: random generator.
        frame: (ss, fs) or (panel, ss, fs), detector units, any real type.
        mask: bool of that shape, True where a pixel counts; or None.
        limit: as for `sfxjax.spots.day_one.find_spots`.
        strength: signal-to-noise ratio of the weakest spot in the noise around it, in units of the threshold of sight.

    Returns:
        A frame of that shape and type.
    """
    natural = in_natural_units(without_low_values(frame), mask, limit)
    if natural.factor != 1:
        made = with_spots(rng, *natural[:3], strength)
        grown = made > natural.frame
        changed = frame.copy()
        changed[grown] = made[grown] / natural.factor
        return changed
    ready = cleaned_pixels(natural, 0)
    values = ready.floats()
    flat = frame.reshape(-1, frame.shape[-1]).astype(np.float64)
    steps = np.arange(-_LIGHT_REACH, _LIGHT_REACH + 1)
    size = rng.uniform(*SIZES)
    added = 0
    for _ in range(20 * SPOTS_INSERTED):
        if added == SPOTS_INSERTED or min(values.shape) <= 2 * _AROUND:
            break
        ss, fs = (int(rng.integers(_AROUND, length - _AROUND)) for length in values.shape)
        around = values[ss - _AROUND : ss + _AROUND + 1, fs - _AROUND : fs + _AROUND + 1]
        known = around[np.isfinite(around)]
        near = values[ss - 2 : ss + 3, fs - 2 : fs + 3]
        if known.size < 0.8 * around.size or not np.isfinite(near).all():
            continue
        away_ss, away_fs = steps[:, None] - rng.uniform(-0.5, 0.5), steps - rng.uniform(-0.5, 0.5)
        shape = np.exp(-0.5 * (away_ss**2 + away_fs**2) / size**2)
        shape /= shape.sum()
        middle = shape[_LIGHT_REACH - 1 : _LIGHT_REACH + 2, _LIGHT_REACH - 1 : _LIGHT_REACH + 2].sum()
        wide = shape[_LIGHT_REACH - 3 : _LIGHT_REACH + 4, _LIGHT_REACH - 3 : _LIGHT_REACH + 4].sum()
        response = (1 + RING_SHARE) * middle - RING_SHARE * wide
        ratio = MIN_SNR * strength * np.exp(rng.exponential(TAIL))
        if ready.counting:
            expected = RESPONSE_VARIANCE * float(np.mean(known)) + LEAST_COUNTS
            light = rng.poisson(strength_of(ratio, expected, 1.0) / response * shape).astype(float)
        else:
            low, high = np.percentile(known, [16, 84])
            noise = max(float(high - low) / 2, 1e-6) * RESPONSE_VARIANCE**0.5
            light = ratio * noise / response * shape
            if ready.integers:
                light = np.floor(light + rng.random(light.shape))
        flat[ss - _LIGHT_REACH : ss + _LIGHT_REACH + 1, fs - _LIGHT_REACH : fs + _LIGHT_REACH + 1] += light
        added += 1
    if frame.dtype.kind in "iu":
        bounds = np.iinfo(frame.dtype)
        # Not to the top, which stands for no value.
        flat = flat.clip(bounds.min, bounds.max)
        grown = flat > frame.reshape(flat.shape)
        flat[grown] = flat[grown].clip(None, bounds.max - 1)
    return flat.astype(frame.dtype).reshape(frame.shape)
