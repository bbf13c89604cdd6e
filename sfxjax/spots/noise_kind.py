"""What some rows of a frame tell of all: whether it counts photons, and whether its zeros mean "nothing". In NumPy or in JAX."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sfxjax.pixels.missing_values import is_below

# Zeros are gaps where the typical pixel is at so many standard deviations of Poisson noise from 0.
FAR_FROM_ZERO = 16.0
# Of a dark frame's pixels this share is 0, and of the others between two zeros this share is 1; of fewer nothing is told.
MOSTLY_ZERO, MOSTLY_ONE, FEWEST_LONE = 0.5, 0.6, 16
# Or this share, and so many times that of those that are 2, beside areas that count by themselves.
MANY_ONES, MORE_ONES = 0.25, 3
# So many zeros where nothing is negative and no photons are counted are values cut off, such as of a background taken away.
CLIPPED = 0.1
# Poisson noise is told in pieces of rows of so many pixels, if so many pieces are lit, by its variance over its mean.
_PIECE, _FEWEST_PIECES, _LIKE_POISSON = 64, 4, (0.6, 1.6)
# Of large frames one row in so many is one of some hundred.
COMPARED_ROWS = 100


class NoiseKind(NamedTuple):
    """What a frame's values are.

    Attributes:
        counting: whether it counts photons: integers, of which one is one photon.
        zeros_tell_nothing: whether pixels of 0 are gaps, or values that were cut off.
        zeros_fill: whether areas of zeros may be gaps.
    """

    counting: Any
    zeros_tell_nothing: Any
    zeros_fill: Any


def noise_kind(
    sample: Any, known: Any, *, whole: bool, noisy: bool, unit: float = 1.0, xp: Any = np
) -> NoiseKind:
    """Tell what a frame's values are.

    Args:
        sample: (n, fs), some of its rows.
        known: bool of that shape, True where a pixel tells something.
        whole: whether all its values are whole numbers.
        noisy: whether there is noise around 0.
        unit: what one photon is; 1 where that is not known.
        xp: `numpy` or `jax.numpy`.
    """
    zero = known & (sample == 0)
    zeros, pixels = xp.count_nonzero(zero), xp.count_nonzero(known)
    # Of those that are not 0 at most half.
    below = xp.count_nonzero(known & is_below(sample, FAR_FROM_ZERO * unit, xp)) - zeros
    far = (2 * below <= pixels - zeros) & (zeros < pixels)
    single = whole and not noisy and _single_photons(sample, known, zero, xp)
    fill = far & ~xp.asarray(single)
    bad = fill & (not noisy)
    counting = xp.asarray(single)
    if whole and not noisy:
        counting = counting | _counts_photons(sample, known, bad, xp)
    clipped = (zeros > CLIPPED * pixels) & (zeros < pixels) & ~counting & (not noisy)
    if sample.dtype.kind != "u":
        clipped &= ~xp.any(known & (sample < 0))
    return NoiseKind(counting, bad | clipped, fill)


def _single_photons(sample: Any, known: Any, zero: Any, xp: Any) -> Any:
    """Tell a dark frame, most of whose pixels are 0 and most of whose lone other ones are 1: photons one by one.

    Hot pixels and noisy areas may then hold most of what is counted, and tell nothing of the rest.
    """
    dark = xp.count_nonzero(zero) >= MOSTLY_ZERO * xp.count_nonzero(known)
    # Arrays of JAX cannot be asked before they are there.
    if xp is np and not dark:
        return dark
    lone = known[:, 1:-1] & ~zero[:, 1:-1] & zero[:, :-2] & zero[:, 2:]
    ones, twos = (xp.count_nonzero(lone & (sample[:, 1:-1] == value)) for value in (1, 2))
    count = xp.count_nonzero(lone)
    mostly = (ones > MOSTLY_ONE * count) | ((ones > MANY_ONES * count) & (ones > MORE_ONES * twos))
    return dark & (count >= FEWEST_LONE) & mostly


def compared(rows: int) -> int:
    """Return of how many rows one is compared with its neighbours: some hundred tell what noise there is."""
    return max(1, rows // COMPARED_ROWS)


def _counts_photons(sample: Any, known: Any, without_zeros: Any, xp: Any) -> Any:
    """Tell photon counts, whose variance is their mean, by the differences of neighbouring pixels."""
    step = max(2, compared(len(sample)))
    rows, fine = sample[::step], known[::step]
    fine = xp.where(without_zeros, fine & (rows != 0), fine)
    values = xp.where(fine, rows, xp.asarray(0, rows.dtype)).astype(xp.float32)
    columns = (values.shape[1] - 1) // _PIECE * _PIECE
    pair = (fine[:, 1:] & fine[:, :-1])[:, :columns]
    shape = (pair.shape[0], columns // _PIECE, _PIECE)
    own, before = values[:, 1 : columns + 1], values[:, :columns]
    difference = xp.where(pair, own - before, 0).reshape(shape)
    mean = xp.where(pair, own, 0).reshape(shape).sum(-1).ravel()
    variance = 0.5 * xp.einsum("rbw,rbw->rb", difference, difference).ravel()
    lit = (xp.count_nonzero(pair.reshape(shape), axis=-1).ravel() > _PIECE // 2) & (mean > 0)
    ratio = variance / xp.where(lit, mean, 1)
    # Of dim places and bright ones alike: elsewhere one may come by chance.
    ordered, count = xp.sort(xp.where(lit, mean, xp.inf)), xp.count_nonzero(lit)
    low, high = (_between(ordered, (xp.maximum(count, 1) - 1) * share, xp) for share in (1 / 3, 2 / 3))
    medians = [_median(ratio, lit & part, xp) for part in (mean <= low, mean >= high)]
    alike = [(median > _LIKE_POISSON[0]) & (median < _LIKE_POISSON[1]) for median in medians]
    return xp.any(pair) & ((count < _FEWEST_PIECES) | (alike[0] & alike[1]))


def _median(values: Any, which: Any, xp: Any) -> Any:
    ordered, count = xp.sort(xp.where(which, values, xp.inf)), xp.count_nonzero(which)
    return _between(ordered, (xp.maximum(count, 1) - 1) / 2, xp)


def _between(ordered: Any, place: Any, xp: Any) -> Any:
    """Return what lies at a place of rising values, between two of them as well; those that are infinite are not asked for."""
    if not ordered.size:
        return xp.inf
    values = xp.where(xp.isfinite(ordered), ordered, 0)
    before = xp.floor(place).astype(int)
    first, second = values[before], values[xp.minimum(before + 1, len(values) - 1)]
    return first + (second - first) * (place - before)
