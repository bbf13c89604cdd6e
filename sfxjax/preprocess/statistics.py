"""What one read of a crop tells: its mean and variance, its highest value, and how many of its pixels count.

The variance is that of differences from a pivot near the mean, which float32 holds exactly for integers of 16 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sfxjax.mapping import on_cpu

# Gives so many rows from a place on: (rows, width) values; and bool of that shape, True where a pixel counts, or None:
# everywhere.
ReadRows = Callable[[Any, int], tuple[jax.Array, jax.Array | None]]
# Gives the first of every so many rows, likewise.
ReadEvery = Callable[[int], tuple[jax.Array, jax.Array | None]]

# At most so many rows at a time on a CPU.
_BLOCK = 8
# Pixels other than 0 are counted by 1 and those of 0 by this, in one sum.
_ZERO = 2**16
# The mean of every so many rows is near enough to the frame's to subtract from all pixels, if enough of them count.
_SAMPLE = 64
_LEAST_SAMPLE = 1 / 64
# A GPU cannot choose between the sample and all rows for each frame of a batch, it would compute both: more rows are as many
# as it ever takes.
_SAMPLE_ON_GPU = 8


class ValueOrigin(NamedTuple):
    """What is subtracted from pixels, whole for integers, and the factor of floats after that."""

    pivot: jax.Array
    scale: jax.Array


class Moments(NamedTuple):
    """Sums over the pixels of a crop that count, of their differences from an origin; float32 scalars.

    Attributes:
        others: number of pixels other than 0.
        total: of their differences.
        squares: of their squared differences.
        zeros: number of pixels of exactly 0.
    """

    others: jax.Array
    total: jax.Array
    squares: jax.Array
    zeros: jax.Array

    def mean(self, origin: ValueOrigin) -> jax.Array:
        """Return the mean of the pixels, those of 0 with them, in detector units."""
        pivot = origin.pivot.astype(jnp.float32)
        total = self.total / origin.scale - self.zeros * pivot
        return pivot + total / jnp.maximum(self.others + self.zeros, 1)

    def variance(self, origin: ValueOrigin, with_zeros: jax.Array) -> jax.Array:
        """Return the variance in units of the origin's scale; exactly 0 where all pixels are equal.

        Args:
            origin: that the differences are from.
            with_zeros: whether pixels of 0 count.
        """
        zeros = jnp.where(with_zeros, self.zeros, 0)
        zero = subtract(jnp.zeros((), origin.pivot.dtype), origin)
        count = jnp.maximum(self.others + zeros, 1)
        mean = (self.total + zeros * zero) / count
        return jnp.maximum((self.squares + zeros * zero * zero) / count - mean * mean, 0)


class Highest(NamedTuple):
    """The highest value of a crop, and how many pixels have it; float32 scalars."""

    value: jax.Array
    times: jax.Array


def measure(
    read: ReadRows, read_present: ReadRows, height: int, origin: ValueOrigin
) -> tuple[Moments, Highest]:
    """Read a crop once.

    Args:
        read: gives its pixels, and which of them count.
        read_present: gives its pixels, and which of them the highest value is sought among.
        height: of the crop.
        origin: near the mean.
    """
    if not on_cpu():
        return _measure_at_once(*read(0, height), *read_present(0, height), origin)

    def terms(start: Any, rows: int) -> tuple[list[jax.Array], jax.Array]:
        values, valid = read(start, rows)
        kinds = jnp.where(values == 0, _ZERO, 1)
        kinds = (kinds if valid is None else jnp.where(valid, kinds, 0)).astype(jnp.int32)
        deviation = jnp.where(kinds == 1, subtract(values, origin), 0)
        numbers_present, present = read_present(start, rows)
        candidates = numbers_present
        if numbers_present.dtype.itemsize > 2:
            candidates = candidates.astype(jnp.float32)
        if present is not None:
            candidates = jnp.where(present, candidates, _lowest(candidates.dtype))
        return [kinds, deviation, deviation * deviation], candidates

    def scalars(
        sums: list[jax.Array], highest: jax.Array, times: jax.Array | float
    ) -> tuple[Moments, Highest]:
        largest = highest.max()
        count = jnp.where(highest == largest, times, 0).astype(jnp.float32).sum()
        kinds, total, squares = sums
        zeros = kinds // _ZERO
        moments = Moments(_total(kinds - zeros * _ZERO), total.sum(), squares.sum(), _total(zeros))
        return moments, Highest(largest.astype(jnp.float32), count)

    tiles = height // _BLOCK
    rest = scalars(*terms(tiles * _BLOCK, height - tiles * _BLOCK), 1.0) if height > tiles * _BLOCK else None
    if not tiles:
        assert rest is not None
        return rest
    shapes, candidate = jax.eval_shape(lambda: terms(0, _BLOCK))
    zeros = [jnp.zeros(term.shape, term.dtype) for term in shapes]
    lowest = jnp.full(candidate.shape, _lowest(candidate.dtype), candidate.dtype)

    def body(place: jax.Array, carry: Any) -> Any:
        sums, highest, times = carry
        new, candidates = terms(place * _BLOCK, _BLOCK)
        times = jnp.where(candidates > highest, 1, times + (candidates == highest).astype(times.dtype))
        return [a + b for a, b in zip(sums, new, strict=True)], jnp.maximum(highest, candidates), times

    moments, highest = scalars(
        *jax.lax.fori_loop(0, tiles, body, (zeros, lowest, jnp.zeros(lowest.shape, jnp.uint16)))
    )
    if rest is None:
        return moments, highest
    value = jnp.maximum(highest.value, rest[1].value)
    times = [jnp.where(part.value == value, part.times, 0) for part in (highest, rest[1])]
    return Moments(*(a + b for a, b in zip(moments, rest[0], strict=True))), Highest(
        value, times[0] + times[1]
    )


def _measure_at_once(
    values: jax.Array,
    valid: jax.Array | None,
    numbers_present: jax.Array,
    present: jax.Array | None,
    origin: ValueOrigin,
) -> tuple[Moments, Highest]:
    """`measure` in one reduction of all that is sought, for which a GPU reads the crop once."""
    counts = jnp.ones(values.shape, bool) if valid is None else valid
    zero = values == 0
    deviation = jnp.where(counts & ~zero, subtract(values, origin), 0)
    candidates = numbers_present.astype(jnp.float32)
    if present is not None:
        candidates = jnp.where(present, candidates, -jnp.inf)
    terms = (
        (counts & ~zero).astype(jnp.float32),
        deviation,
        deviation * deviation,
        (counts & zero).astype(jnp.float32),
        candidates,
        jnp.ones(values.shape, jnp.float32),
    )
    start = [jnp.float32(value) for value in (0, 0, 0, 0, -jnp.inf, 0)]

    def join(first: tuple[jax.Array, ...], second: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        sums = [a + b for a, b in zip(first[:4], second[:4], strict=True)]
        highest = jnp.maximum(first[4], second[4])
        times = [jnp.where(part[4] == highest, part[5], 0) for part in (first, second)]
        return *sums, highest, times[0] + times[1]

    # Along rows first: sums of sums are closer than one long sum.
    by_row = jax.lax.reduce(terms, tuple(start), join, (1,))
    *sums, highest, times = jax.lax.reduce(by_row, tuple(start), join, (0,))
    return Moments(*sums), Highest(highest, times)


def find_origin(read_every: ReadEvery, least_mean_without_zeros: jax.Array | float) -> ValueOrigin:
    """Choose what to subtract: near the mean of the pixels that count, and their own value where all are equal.

    Args:
        read_every: gives the crop's rows, and which of their pixels count.
        least_mean_without_zeros: pixels of 0 are left out where the mean with them is at least this.
    """

    def of(values: jax.Array, valid: jax.Array | None) -> ValueOrigin:
        integers = jnp.issubdtype(values.dtype, jnp.integer)
        single = values.astype(jnp.float32)
        if values.dtype.itemsize < 4:
            values = single
        valid = jnp.ones(values.shape, bool) if valid is None else valid

        def mean(valid: jax.Array) -> jax.Array:
            # Each value is divided before the sum, which large ones would overflow.
            return jnp.where(valid, single / jnp.maximum(count_pixels(valid), 1), 0).sum()

        valid = valid & ((values != 0) | (mean(valid) < least_mean_without_zeros))
        bounds = (jnp.iinfo if jnp.issubdtype(values.dtype, jnp.integer) else jnp.finfo)(values.dtype)
        lowest = jnp.where(valid, values, jnp.asarray(bounds.max, values.dtype)).min()
        highest = jnp.where(valid, values, jnp.asarray(bounds.min, values.dtype)).max()
        middle = mean(valid)
        pivot = jnp.clip((jnp.round(middle) if integers else middle).astype(values.dtype), lowest, highest)
        if integers:
            return ValueOrigin(pivot, jnp.float32(1))
        # A power of two that brings these values to a millionth: no square overflows nor vanishes, whatever the unit.
        exponent = jnp.frexp(jnp.maximum(jnp.abs(lowest), jnp.abs(highest)).astype(jnp.float32))[1]
        return ValueOrigin(pivot, jnp.ldexp(jnp.float32(1), jnp.clip(-exponent - 20, -126, 126)))

    values, valid = read_every(_SAMPLE if on_cpu() else _SAMPLE_ON_GPU)
    if valid is None or not on_cpu():
        return of(values, valid)
    enough = count_pixels(valid) >= _LEAST_SAMPLE * valid.size
    return jax.lax.cond(enough, lambda: of(values, valid), lambda: of(*read_every(1)))


def subtract(values: jax.Array, origin: ValueOrigin) -> jax.Array:
    """Subtract the pivot, exactly where float32 can hold the result, and scale floats."""
    pivot, scale = origin
    if not jnp.issubdtype(values.dtype, jnp.integer):
        return (values.astype(jnp.float32) - pivot.astype(jnp.float32)) * scale
    if values.dtype.itemsize < 4:
        return values.astype(jnp.float32) - pivot
    # The upper 20 bits and the lower 12 apart, each exact in float32.
    upper = (values >> 12).astype(jnp.int32) - (pivot >> 12).astype(jnp.int32)
    lower = (values & 0xFFF).astype(jnp.int32) - (pivot & 0xFFF).astype(jnp.int32)
    return upper.astype(jnp.float32) * 4096 + lower.astype(jnp.float32)


def largest_divisor(length: int, most: int, multiple: int = 1) -> int:
    """Return the largest divisor up to `most`, of multiples of `multiple`; on GPUs and their like all of it."""
    if not on_cpu():
        return length
    fitting = [size for size in range(multiple, most + 1, multiple) if length % size == 0]
    return max(fitting, default=multiple)


def _total(counts: jax.Array) -> jax.Array:
    return counts.astype(jnp.float32).sum()


def _lowest(dtype: Any) -> Any:
    return jnp.iinfo(dtype).min if jnp.issubdtype(dtype, jnp.integer) else -jnp.inf


def count_pixels(valid: jax.Array) -> jax.Array:
    """Count pixels; in float32, exact for so few, and on a CPU twice as fast as integers."""
    return jnp.sum(valid.astype(jnp.float32))
