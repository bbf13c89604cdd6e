"""Simulated spots put into measured frames: hits whose background, noise and defects are the detector's own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import minimum_filter, uniform_filter

from sfxjax.pixels.missing_values import without_low_values
from sfxjax.simulate.visibility import noise_of, responses, strength_of
from sfxjax.spots.block_noise import LEAST_COUNTS, RESPONSE_VARIANCE
from sfxjax.spots.candidates import RING_SHARE
from sfxjax.spots.frame_pixels import cleaned_pixels
from sfxjax.spots.natural_units import in_natural_units

# Spots of a frame differ in size by so much of it.
SIZE_SPREAD = 0.15
# Half the edge of what a small spot's light reaches, pixels; of a larger one, so many times its size.
_LEAST_LIGHT_REACH, _LIGHT_REACH = 5, 3
# Places that are tried for each spot.
_TRIES = 20
# Edge of the square whose mean noise stands for that of places without any, pixels.
_AROUND = 49


def moving_noise(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the noise of responses around each pixel, without what stays put: of the difference of two frames.

    Args:
        one: (ss, fs) float, detector units, NaN where a pixel tells nothing.
        other: of the same run and the same light.

    Returns:
        (ss, fs), as `sfxjax.simulate.visibility.noise_of` gives it.
    """
    difference = (one - other) / 2**0.5
    known = np.isfinite(difference)
    response = np.abs(responses(np.where(known, difference, 0)))
    whole = minimum_filter(known, 7)
    # A median would be drawn to 0 by gaps.
    share = uniform_filter(whole.astype(np.float64), _AROUND)
    near = uniform_filter(np.where(whole, response, 0.0), _AROUND) / np.maximum(share, 1e-9)
    everywhere = float(response[whole].mean()) if whole.any() else 0.0
    return noise_of(np.where(whole, response, np.where(share > 1e-6, near, everywhere)))


def with_spots(
    rng: np.random.Generator,
    frame: np.ndarray,
    mask: np.ndarray | None,
    limit: float | None,
    ratios: Sequence[float],
    size: float,
    noise: np.ndarray,
) -> np.ndarray:
    """Put a crystal's spots into a frame, at random places where the detector is live.

    Args:
        rng: random generator.
        frame: (ss, fs) or (panel, ss, fs), detector units, any real type.
        mask: bool of that shape, True where the detector is live; None: where pixels tell something.
        limit: as for `sfxjax.spots.day_one.find_spots`.
        ratios: signal-to-noise ratios of the spots.
        size: standard deviation of a typical spot, pixels.
        noise: of responses around each pixel, (rows, fs) float, panels below one another, as `moving_noise` gives it; where
            photons are counted their own is taken.

    Returns:
        A frame of that shape and type; spots for which no place is found are left out.
    """
    natural = in_natural_units(without_low_values(frame), mask, limit)
    if natural.factor != 1:
        made = with_spots(rng, *natural[:3], ratios, size, noise * natural.factor)
        grown = made > natural.frame
        changed = frame.copy()
        changed[grown] = made[grown] / natural.factor
        return changed
    ready = cleaned_pixels(natural, 0)
    values = ready.floats()
    live = np.isfinite(values) if mask is None else mask.reshape(values.shape)
    flat = frame.reshape(-1, frame.shape[-1]).astype(np.float64)
    reach = max(_LEAST_LIGHT_REACH, int(np.ceil(_LIGHT_REACH * size)))
    steps = np.arange(-reach, reach + 1)
    left = list(ratios)
    for _ in range(_TRIES * len(left)):
        if not left or min(values.shape) <= 2 * reach:
            break
        ss, fs = (int(rng.integers(reach, length - reach)) for length in values.shape)
        if not live[ss - 1 : ss + 2, fs - 1 : fs + 2].all():
            continue
        own = size * rng.uniform(1 - SIZE_SPREAD, 1 + SIZE_SPREAD)
        away_ss, away_fs = steps[:, None] - rng.uniform(-0.5, 0.5), steps - rng.uniform(-0.5, 0.5)
        shape = np.exp(-0.5 * (away_ss**2 + away_fs**2) / own**2)
        shape /= shape.sum()
        inner, outer = (shape[reach - n : reach + n + 1, reach - n : reach + n + 1].sum() for n in (1, 3))
        response = (1 + RING_SHARE) * inner - RING_SHARE * outer
        ratio = left.pop()
        around = np.s_[ss - reach : ss + reach + 1, fs - reach : fs + reach + 1]
        if ready.counting:
            expected = RESPONSE_VARIANCE * _known_mean(values[ss - 3 : ss + 4, fs - 3 : fs + 4])
            strength = strength_of(ratio, expected + LEAST_COUNTS, 1.0)
            light = rng.poisson(strength / response * shape).astype(float)
        else:
            light = ratio * float(noise[ss, fs]) / response * shape
            if ready.integers:
                light = np.floor(light + rng.random(light.shape))
        flat[around] += np.where(live[around], light, 0)
    if frame.dtype.kind in "iu":
        bounds = np.iinfo(frame.dtype)
        # Not to the top, which stands for no value.
        flat = flat.clip(bounds.min, bounds.max)
        grown = flat > frame.reshape(flat.shape)
        flat[grown] = flat[grown].clip(None, bounds.max - 1)
    return flat.astype(frame.dtype).reshape(frame.shape)


def _known_mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else 0.0
