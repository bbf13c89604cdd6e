"""Units of a frame's values: the quantum that all are whole multiples of, and what one photon is.

Photons that were multiplied by a factor tell what they told before, so that no number by itself decides which pixels count.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

# So few steps between neighbouring pixels tell nothing.
_FEWEST_STEPS = 8
# Steps may differ from whole multiples by so much, of the quantum; so large a share of them must be such, and of the values.
_NEARLY_WHOLE, _WHOLE_STEPS, _WHOLE_VALUES = 0.05, 0.99, 0.5
# The noise of photons that are counted is at most that of units of so many quanta.
_NOISE_OF_PHOTONS = 2.0
# Of the unit of floats the exponents of 2 that are taken as they are.
NATURAL_UNITS = (-2, 8)


def quantum(rows: Any, known: Any, xp: Any = np) -> Any:
    """Find the quantum of a frame: the smallest step between values, if next to all steps are whole multiples of it.

    It is sought between neighbouring pixels, in every row by itself, so that neither a gap of any value nor single pixels that
    are no such multiples hide it.

    Args:
        rows: floats (n, fs) of a frame, none beside one another.
        known: bool of that shape, True where a pixel tells something.
        xp: `numpy` or `jax.numpy`.

    Returns:
        The quantum, NaN where there is none.
    """
    exponent = xp.frexp(xp.max(xp.where(known, xp.abs(rows), 0)))[1]
    # At most 1, so that nothing overflows, by a power of two, which is exact.
    small = xp.ldexp(xp.where(known, rows, 0), -exponent)
    pairs = known[:, 1:] & known[:, :-1]
    steps = xp.where(pairs, xp.abs(small[:, 1:] - small[:, :-1]), 0)
    taken = steps > 0
    least = xp.sort(xp.min(xp.where(taken, steps, xp.inf), axis=1, initial=xp.inf))
    rows_with = xp.isfinite(least).sum()
    first = least[xp.maximum(rows_with - 1, 0) // 2]
    first = xp.where(rows_with > 0, first, 1)
    # Of floats the smallest step is the least exact one.
    step = steps.sum() / xp.maximum(xp.round(steps / first).sum(), 1)
    step = xp.where(rows_with > 0, step, 1)
    off, away = (xp.abs(part / step - xp.round(part / step)) for part in (steps, small))
    whole = (taken & (off < _NEARLY_WHOLE)).sum() >= _WHOLE_STEPS * taken.sum()
    whole &= (known & (away < _NEARLY_WHOLE)).sum() >= _WHOLE_VALUES * known.sum()
    return xp.where(whole & (taken.sum() >= _FEWEST_STEPS), xp.ldexp(step, exponent), xp.nan)


def log2_unit(rows: Any, known: Any, xp: Any = np) -> Any:
    """Estimate the unit of floats, that of one photon: the variance over the mean, from differences of neighbouring pixels.

    Args:
        rows: (n, fs) of a frame, none beside one another.
        known: bool of that shape, True where a pixel tells something; those of 0 are left out.
        xp: `numpy` or `jax.numpy`.

    Returns:
        Its logarithm to base 2, not finite where nothing is known. Where pixels that are not 0 do not differ, their value is the
        unit.
    """
    known = known & (rows != 0)
    top = xp.max(xp.where(known, xp.abs(rows), 0))
    # Near 1, so that no square vanishes or overflows.
    near_one = xp.where(known, rows, 0) / xp.where(top > 0, top, 1)
    pairs = known[:, 1:] & known[:, :-1]
    steps = xp.where(pairs, xp.abs(near_one[:, 1:] - near_one[:, :-1]), 0)
    deviation = xp.sum(steps) / xp.maximum(pairs.sum(), 1) * (math.sqrt(math.pi) / 2)
    mean = xp.sum(xp.abs(near_one)) / xp.maximum(known.sum(), 1)
    positive = xp.where(mean > 0, mean, 1)
    unit = xp.where(deviation > 0, deviation * deviation / positive, positive)
    return xp.where(mean > 0, xp.log2(unit) + xp.log2(xp.where(top > 0, top, 1)), xp.nan)


def are_photons(step: Any, exponent: Any, xp: Any = np) -> Any:
    """Tell whether a frame's quantum is one photon: its noise is not larger than that of photons.

    Of dim frames `log2_unit`, which leaves zeros out, gives less than the photon.

    Args:
        step: of `quantum`.
        exponent: of `log2_unit`.
        xp: `numpy` or `jax.numpy`.
    """
    return xp.isfinite(step) & ~(exponent > xp.log2(_NOISE_OF_PHOTONS * xp.where(step > 0, step, 1)))


def natural_factor(exponent: Any, xp: Any = np, most: int = 120) -> Any:
    """Return the power of 2, as its exponent, that brings floats of an odd unit to units of about 1; 0 for others.

    Args:
        exponent: of `log2_unit`.
        xp: `numpy` or `jax.numpy`.
        most: at most, of either sign.
    """
    rounded = xp.round(exponent)
    odd = xp.isfinite(exponent) & ((rounded < NATURAL_UNITS[0]) | (rounded > NATURAL_UNITS[1]))
    return xp.where(odd, xp.clip(-rounded, -most, most), 0).astype("int32")
