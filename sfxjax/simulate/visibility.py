"""How far a simulated spot stands out: the significance of its 3 x 3 middle pixels, by `sfxjax.spots.candidates`, without chance.

The noise is that of sums of 3 x 3 pixels around the spot: of photons, of reading, and of what else differs from pixel to pixel
there (speckle, coarse powder, defects of the detector).
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.ndimage import gaussian_filter, median_filter, uniform_filter

from sfxjax.spots.candidates import RING_SHARE
from sfxjax.spots.frame_pixels import NOISE_BLOCK
from sfxjax.spots.signal_to_noise import OVER_MEAN_DEVIATION


def responses(values: np.ndarray) -> np.ndarray:
    """Return the sum of 3 x 3 pixels less what the 40 around them would give, for every pixel of (ss, fs)."""
    inner, outer = (9 * uniform_filter(values, 3), 49 * uniform_filter(values, 7))
    return np.asarray((1 + RING_SHARE) * inner - RING_SHARE * outer)


def noise_of(response: np.ndarray) -> np.ndarray:
    """Return the noise of a response, as a finder would measure it in blocks of 24 x 24 pixels, for every pixel of (ss, fs)."""
    height, width = response.shape
    padding = [(0, -height % NOISE_BLOCK), (0, -width % NOISE_BLOCK)]
    size = np.pad(np.abs(response), padding, mode="reflect")
    blocks = size.reshape(len(size) // NOISE_BLOCK, NOISE_BLOCK, -1, NOISE_BLOCK).mean((1, 3))
    noise = OVER_MEAN_DEVIATION * median_filter(blocks, 3, mode="nearest")
    return noise.repeat(NOISE_BLOCK, 0).repeat(NOISE_BLOCK, 1)[:height, :width]


@cache
def response_variance(spread: float) -> float:
    """Return the variance of the response to light of one photon a pixel that a point spread blurs.

    Args:
        spread: standard deviation of the point spread, pixels.
    """
    kernel = np.zeros((21, 21))
    kernel[7:14, 7:14] = -RING_SHARE
    kernel[9:12, 9:12] = 1.0
    return float(np.sum((gaussian_filter(kernel, spread) if spread else kernel) ** 2))


def ratio_of(signal: np.ndarray | float, expected: np.ndarray | float, photon: float) -> np.ndarray:
    """Return the significance of a response, with the equation of `sfxjax.spots.candidates`.

    Args:
        signal: response.
        expected: its variance.
        photon: response to one photon.
    """
    counts, more = np.asarray(expected) / photon**2, np.maximum(signal, 0) / photon
    return np.asarray(np.sqrt(np.maximum(2 * ((counts + more) * np.log1p(more / counts) - more), 0)))


def strength_of(ratio: float, expected: float, photon: float) -> float:
    """Return the response that has a significance, by bisection; arguments as those of `ratio_of`."""
    counts = expected / photon**2
    low, high = 0.0, photon * (ratio**2 * 4 + 10 * ratio * np.sqrt(counts) + 10)
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if ratio_of(middle, expected, photon) < ratio else (low, middle)
    return low
