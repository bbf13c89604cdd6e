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
# Dim frames have zeros beside so many of the other pixels; of lone ones, between two zeros, there are at least so many, and half
# as many as by chance. So few of them are below the range of one photon, and so many in it.
_BESIDE_ZEROS, _FEWEST_LONE, _OF_CHANCE = 0.1, 16, 0.5
_MOST_SMALLER, _FEWEST_SINGLE, _SPREAD = 0.02, 0.3, 0.4
# Of so many rows integers are told to have a quantum of 1, if so many pixels differ from their neighbour by 1.
QUANTUM_ROWS, COMMON_STEPS = 32, 0.02
# Frames with fewer zeros are not dim. Of frames counted one by one at least so many pixels are 1 for each that is 0.
DIM_ZEROS, ONES_BESIDE_ZEROS = 0.03, 0.01
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
    first = _middle(xp.min(xp.where(taken, steps, xp.inf), axis=1, initial=xp.inf), xp)
    # Of floats the smallest step is the least exact one.
    step = steps.sum() / xp.maximum(xp.round(steps / first).sum(), 1)
    step = xp.where(taken.any(), step, 1)
    off, away = (xp.abs(part / step - xp.round(part / step)) for part in (steps, small))
    whole = (taken & (off < _NEARLY_WHOLE)).sum() >= _WHOLE_STEPS * taken.sum()
    whole &= (known & (away < _NEARLY_WHOLE)).sum() >= _WHOLE_VALUES * known.sum()
    return xp.where(whole & (taken.sum() >= _FEWEST_STEPS), xp.ldexp(step, exponent), xp.nan)


def count_by_one(stored: Any, known: Any, xp: Any = np) -> Any:
    """Tell whether integers have a quantum of 1, as most frames do.

    Many pixels differ from their neighbour by 1, and where pixels are 0 some are 1: photons times a factor, rounded, are not.

    Args:
        stored: integers (n, fs) of a frame, none beside one another.
        known: bool of that shape, True where a pixel tells something.
        xp: `numpy` or `jax.numpy`.
    """
    thin = max(1, len(stored) // QUANTUM_ROWS)
    some, known = stored[::thin], known[::thin] & (stored[::thin] >= 0)
    # Of columns first, as floats, which a processor counts several of at a time.
    zeros, ones, alike = (
        xp.count_nonzero(one) if xp is np else one.astype(xp.float32).sum(0).sum()
        for one in (
            known & (some == 0),
            known & (some == 1),
            (xp.abs(xp.diff(some.astype(float))) == 1) & known[:, 1:] & known[:, :-1],
        )
    )
    without_ones = (zeros >= DIM_ZEROS * known.size) & (ones < ONES_BESIDE_ZEROS * zeros)
    return (alike > COMMON_STEPS * known.size) & ~xp.asarray(without_ones)


def dim_photon(rows: Any, known: Any, xp: Any = np) -> Any:
    """Find the photon of a dim frame without a quantum, whose pixels have gains of their own, or whose values were corrected.

    Its zeros lie among the other pixels, not in areas, and lone pixels between two of them hold one photon as a rule: values
    near each other, with next to none between them and 0. Noise that was cut off at 0 comes down to 0 instead.

    Args:
        rows: floats (n, fs) of a frame, none beside one another.
        known: bool of that shape, True where a pixel tells something.
        xp: `numpy` or `jax.numpy`.

    Returns:
        One photon, NaN where that cannot be told.
    """
    zero, lit = known & (rows == 0), known & (rows > 0)
    inner, before, behind = lit[:, 1:-1], zero[:, :-2], zero[:, 2:]
    lone, values = inner & before & behind, rows[:, 1:-1]
    lowest = _middle(xp.min(xp.where(lone, values, xp.inf), axis=1, initial=xp.inf), xp)
    # At the same scale, so that no sum overflows.
    relative = xp.where(lone, values, 0) / lowest
    near = (relative > 1 - _SPREAD) & (relative < 1 + 1.5 * _SPREAD)
    photon = xp.where(near, relative, 0).sum() / xp.maximum(near.sum(), 1)
    count = lone.sum()
    single = (xp.abs(relative - photon) < _SPREAD * photon).sum()
    below = (lone & (relative <= (1 - _SPREAD) * photon)).sum()
    beside = (inner & before).sum() / xp.maximum(inner.sum(), 1)
    told = (count >= _FEWEST_LONE) & (beside >= _BESIDE_ZEROS)
    told &= count >= _OF_CHANCE * beside * beside * inner.sum()
    told &= (single >= _FEWEST_SINGLE * count) & (below <= _MOST_SMALLER * count)
    return xp.where(told, photon * lowest, xp.nan)


def _middle(values: Any, xp: Any) -> Any:
    """Return the median of those (n,) values that are finite, 1 where none is."""
    ordered, count = xp.sort(values), xp.isfinite(values).sum()
    return xp.where(count > 0, ordered[xp.maximum(count - 1, 0) // 2], 1)


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
