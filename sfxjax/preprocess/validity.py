"""Which pixels of a frame count: the one rule that pre-processing, training, screening and spot finding share.

A pixel does not count where

1. the mask forbids it;
2. its value is NaN or infinite;
3. it is at or above a limit: that of gaps, dead and saturated pixels, see `sfxjax.pixels.missing_values`;
4. it is exactly 0 in a frame whose mean over the pixels that count is at least 50 photons, see below. Behind a beam stop, in a
   hole or in a gap between panels detectors write 0, and its rim is as sharp as a spot; where the mean is high no live pixel
   reads 0;
5. it is negative, where negative values mean "no value": in frames that come with a mask or of a layout that says so, and where
   next to no pixel has another negative value than -1, -2 and the lowest, as gaps have. Elsewhere a negative pixel counts as 0,
   as Ke et al. (J. Synchrotron Rad. 25:655, 2018) do. But where negative values are noise around a pedestal (more than 5 % of
   the pixels are below 0 and are neither -1 nor -2 nor the lowest value) the frame is raised by eight times their mean, which
   the normalisation does not see, and only what is still negative then does not count;
6. it is one of the few negative values far below all others (`sfxjax.pixels.missing_values.low_values`), or below what is
   measured (`sfxjax.pixels.outlying_values`), which the host replaces by NaN, or by the lowest number of an integer type.

The 50 of rule 4 are of the quantum, of which all values are whole multiples (`sfxjax.pixels.units`): photons times a factor stay
photons. Floats without one, or whose noise is larger, can be of any unit, which the noise tells. Where that is far less or far
more than 1 the frame is scaled by a power of two, so that nothing under- or overflows.

`settle` decides this for one crop; `Pixels` is the outcome, which `sfxjax.preprocess.tiled` reads tile by tile.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.pixels.missing_values import is_below
from sfxjax.pixels.units import are_photons, count_by_one, dim_photon, log2_unit, natural_factor, quantum
from sfxjax.preprocess.statistics import ValueOrigin, count_pixels, find_origin, measure

# So large a fraction of negative pixels is noise around a pedestal, which is then raised by so many times their mean.
NOISE_FRACTION = 0.05
NOISE_DEPTH = 8
# A pixel of exactly 0 in a frame whose mean is at least this, in photons, holds no data.
LEAST_MEAN_WITHOUT_ZEROS = 50.0


# Of frames with gaps of -1, -2 or a lowest value at most this fraction of the negative pixels has another value.
OTHER_NEGATIVES = 0.1
_UNIT_ROWS = 16
# Up to here float32 holds every whole number.
_MOST_COUNTED = 2**24


# NumPy, since no JAX array may be made before several processes are joined.
_NOWHERE = ValueOrigin(np.float32(0), np.float32(1))  # type: ignore[arg-type]


class Pixels(NamedTuple):
    """A crop, and what decides which of its pixels count.

    Attributes:
        values: (height, width), integers or floats; none that counts is negative.
        mask: bool (height, width), False where a pixel does not count whatever its value; None: nowhere.
        above: scalar float32; pixels up to it do not count.
        below: scalar, float32 or a Python number; pixels from it on do not count. None: no such limit.
        origin: near their mean, and the unit of their differences from it.
        variance: of the pixels that count, in that unit squared.
        all_count: bool scalar, True only where every pixel counts; where it is not, each is to be looked at.
    """

    values: jax.Array
    mask: jax.Array | None
    above: jax.Array | None
    below: jax.Array | float | None
    origin: ValueOrigin = _NOWHERE
    variance: jax.Array | float = 0.0
    all_count: jax.Array | bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the crop."""
        height, width = self.values.shape
        return height, width

    def rows(self, start: jax.Array | int, count: int) -> tuple[jax.Array, jax.Array | None]:
        """Read rows.

        Args:
            start: the first one.
            count: how many.

        Returns:
            (count, width) values, and bool of that shape, True where a pixel counts; None: everywhere.
        """
        values = jax.lax.dynamic_slice_in_dim(self.values, start, count)
        valid = None if self.mask is None else jax.lax.dynamic_slice_in_dim(self.mask, start, count)
        if jnp.issubdtype(values.dtype, jnp.floating):
            valid = both(valid, jnp.isfinite(values))
        if self.below is not None:
            valid = both(valid, is_below(values, self.below, jnp))
        if self.above is not None:
            valid = both(valid, values.astype(jnp.float32) > self.above)
        return values, valid

    def every(self, step: int) -> tuple[jax.Array, jax.Array | None]:
        """Read the first of every so many rows, and tell which of their pixels count, as `rows` does."""
        mask = None if self.mask is None else self.mask[::step]
        some = self._replace(values=self.values[::step], mask=mask)
        return some.rows(0, some.shape[0])

    def valid(self) -> jax.Array | None:
        """Return bool (height, width), True where a pixel counts; None: everywhere."""
        return self.rows(0, self.shape[0])[1]


class Facts(NamedTuple):
    """What a crop's pixels tell of the frame, float32 scalars.

    Attributes:
        valid: fraction of the unmasked pixels that count.
        at_largest: fraction of the unmasked pixels with a number that have the highest value.
        largest: that value.
    """

    valid: jax.Array
    at_largest: jax.Array
    largest: jax.Array


def both(first: jax.Array | None, second: jax.Array | None) -> jax.Array | None:
    """Combine two masks, of which None takes all pixels."""
    if first is None or second is None:
        return second if first is None else first
    return first & second


def settle(
    crop: jax.Array,
    mask: jax.Array | None,
    limit: jax.Array | float,
    negatives_invalid: jax.Array | bool,
) -> tuple[Pixels, Facts]:
    """Decide which pixels of a crop count, as the module's text says.

    Args:
        crop: (height, width) in detector units, any real type of at most 32 bits.
        mask: bool of that shape, False where a pixel does not count; or None.
        limit: value from which a pixel is saturated; infinity for none.
        negatives_invalid: whether negative pixels mean "no value", unless they are noise.

    Returns:
        The pixels; and what they tell of the frame.
    """
    crop, limit, unit, least_mean = _in_natural_units(crop, mask, limit)
    values, kept = crop, mask
    limited: jax.Array | float | None = None if isinstance(limit, float) and limit == math.inf else limit
    if not jnp.issubdtype(crop.dtype, jnp.unsignedinteger):
        values, kept = _without_negatives(crop, Pixels(crop, mask, None, limited).valid(), negatives_invalid)
        # A raised frame has other values than its limit is of.
        limited = None
    bare = Pixels(values, kept, None, limited)
    present = Pixels(crop, mask, None, None)
    height, width = crop.shape
    origin = find_origin(bare.every, least_mean)
    moments, highest = measure(bare.rows, present.rows, height, origin)
    zeros_count = moments.mean(origin) < least_mean
    counting = moments.others + jnp.where(zeros_count, moments.zeros, 0)
    pixels = bare._replace(
        above=jnp.where(zeros_count, -1.0, 0.0),
        origin=origin,
        variance=moments.variance(origin, zeros_count),
        # Of more pixels float32 could miss some.
        all_count=counting == height * width if height * width <= _MOST_COUNTED else False,
    )
    unmasked = jnp.float32(height * width) if mask is None else count_pixels(mask)
    numbers = present.valid()
    with_number = unmasked if numbers is None or numbers is mask else count_pixels(numbers)
    # Masked pixels stand for the lowest value, and are at the highest where all others are too.
    at_largest = jnp.where(with_number > 0, jnp.minimum(highest.times / jnp.maximum(with_number, 1), 1), 0)
    facts = Facts(counting / jnp.maximum(unmasked, 1), at_largest, highest.value / unit)
    return pixels, facts


class _Units(NamedTuple):
    """A crop in units near those of a photon, and its limit.

    Attributes:
        crop: multiplied by `factor`.
        limit: likewise.
        factor: a power of two.
        least_mean: from which pixels of 0 hold no data, likewise.
    """

    crop: jax.Array
    limit: jax.Array | float
    factor: jax.Array | float = 1.0
    least_mean: jax.Array | float = LEAST_MEAN_WITHOUT_ZEROS


def _in_natural_units(crop: jax.Array, mask: jax.Array | None, limit: jax.Array | float) -> _Units:
    """Find the unit of a crop, and scale floats of an odd one by a power of two."""
    rows = crop[::_UNIT_ROWS]
    known = is_below(rows, limit, jnp)
    known = known if mask is None else known & mask[::_UNIT_ROWS]
    if jnp.issubdtype(crop.dtype, jnp.integer):

        def told() -> jax.Array:
            floats = rows.astype(jnp.float32)
            step = jnp.fmax(quantum(floats, known & (rows >= 0), jnp), dim_photon(floats, known, jnp))
            return jnp.fmax(step, 1)

        # Most frames count by one, and the others' photon takes as long as all the rest.
        unit = jax.lax.cond(count_by_one(rows, known, jnp), lambda: jnp.float32(1), told)
        return _Units(crop, limit, 1.0, LEAST_MEAN_WITHOUT_ZEROS * unit)
    if crop.dtype != jnp.float32:
        return _Units(crop, limit)
    known &= jnp.isfinite(rows)
    exponent = log2_unit(rows, known, jnp)
    power = natural_factor(exponent, jnp)
    factor = jnp.ldexp(jnp.float32(1), power)
    step = quantum(rows, known & (rows >= 0), jnp)
    photon = jnp.where(are_photons(step, exponent, jnp), jnp.log2(step), exponent)
    photon = jnp.fmax(photon, jnp.log2(dim_photon(rows, known, jnp)))
    endless = isinstance(limit, float) and limit == math.inf
    unit = jnp.exp2(jnp.where(jnp.isfinite(photon), photon + power, 0))
    return _Units(
        crop * factor, limit if endless else limit * factor, factor, LEAST_MEAN_WITHOUT_ZEROS * unit
    )


def _without_negatives(
    crop: jax.Array, valid: jax.Array | None, negatives_invalid: jax.Array | bool
) -> tuple[jax.Array, jax.Array]:
    """Settle what negative pixels mean: no value, 0, or noise around a pedestal, which is raised above 0.

    Args:
        crop: (height, width), signed integers or floats.
        valid: bool of that shape, False where a pixel does not count for another reason; None: nowhere.
        negatives_invalid: whether negative pixels mean nothing, unless they are noise.

    Returns:
        The crop without negative pixels, of an unsigned type if it is of integers; and which pixels count.
    """
    integers = jnp.issubdtype(crop.dtype, jnp.integer)
    dtype = jnp.dtype(f"uint{8 * crop.dtype.itemsize}") if integers else crop.dtype
    values = crop.astype(jnp.float32)
    counting = jnp.ones(crop.shape, bool) if valid is None else valid
    if integers:
        # What `without_low_values` leaves of values that tell nothing.
        counting &= crop != jnp.iinfo(crop.dtype).min

    def settled(counting: jax.Array) -> tuple[jax.Array, jax.Array]:
        sentinel = (values >= -2) & (values == jnp.round(values))
        lowest = jnp.min(jnp.where(counting, values, 0))
        noise = counting & (values < 0) & ~sentinel & (values > lowest)
        noisy = jnp.sum(noise) > NOISE_FRACTION * jnp.sum(counting)
        bottom = NOISE_DEPTH * jnp.sum(jnp.where(noise, values, 0)) / jnp.maximum(jnp.sum(noise), 1)
        bottom = jnp.where(noisy, jnp.floor(bottom) if integers else bottom, 0)
        kept = counting & ((values >= bottom) | ~(noisy | jnp.asarray(negatives_invalid)))
        gaps = counting & (values < 0) & (sentinel | (values == lowest))
        kept &= ~(gaps & ~noisy & (jnp.sum(noise) <= OTHER_NEGATIVES * jnp.sum(gaps)))
        # Integers wrap around and so come out right: the difference is not negative.
        step = (-bottom).astype(jnp.int32).astype(dtype) if integers else -bottom.astype(dtype)
        return jnp.where(values >= bottom, crop.astype(dtype) + step, 0), kept

    def without(counting: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.maximum(crop, 0).astype(dtype), counting

    # Most frames of signed pixels hold no negative one.
    return jax.lax.cond(jnp.min(jnp.where(counting, values, 0)) < 0, settled, without, counting)
