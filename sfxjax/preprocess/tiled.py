"""Crop to normalised frame, to its rows' or its blocks' extremes, strip by strip, for frames with bad pixels or without.

It gives what `sfxjax.preprocess.contrast.normalize_crop` gives with the box window, for windows of good pixels only. That makes
it cheap: no window's sums are weighted, and a bad pixel, which becomes NaN, spoils just the windows that hold it.

With x the crop, S the sum over a 5 x 5 window of x and V the sum of its squared deviations from the window's mean,

    out = (25 x - S) / (5 sqrt(max(V, 25 (floor std(x))^2)))

and the extremes of a row or a block are those of the signed square, (25 x - S) |25 x - S| / max(...), whose root is
taken once a row or block. V is the sum of the columns' squared deviations from their own means, plus the columns' sums'
squared deviations from theirs, over 5. Both are formed of differences of neighbouring pixels, which float32 holds exactly
for integers of 16 bits, so that no bright background costs accuracy; the difference of the mean square and the squared
mean would lose what noise there is on it.

The frame's own mean and deviation take one read of the crop, the windows a second one. On a CPU strips of rows stay in
its cache between the steps; elsewhere the compiler sees the whole frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from sfxjax.fusion import separately
from sfxjax.preprocess.box_filter import sums_within
from sfxjax.preprocess.contrast import WINDOW, finite

Part = Literal["rows", "blocks", "frame", "whole"]

# Gives so many rows from a place on, (rows, width), and which of their pixels are good, bool of that shape or None: all.
Read = Callable[[Any, int], tuple[jax.Array, jax.Array | None]]

_HALF = WINDOW // 2
_PIXELS = WINDOW * WINDOW
# At most so many rows a strip, for windows and for sums. Small ones stay in a core's cache; and XLA shares the work on
# larger ones between cores, some hundred times a frame, which can take longer than the work.
_STRIP = 12
_SUM_STRIP = 16
# The mean of every so many rows is near enough to the frame's to subtract from all pixels, if enough of them are good.
_SAMPLE = 64
_LEAST_SAMPLE = 1 / 64


class _Origin(NamedTuple):
    """What is subtracted from pixels, whole for integers, and the factor of floats after that."""

    pivot: jax.Array
    scale: jax.Array


class _Windows(NamedTuple):
    """Of each 5 x 5 window: 25 times the deviation of its middle pixel, and the sum of the squared deviations."""

    deviation: jax.Array
    squares: jax.Array


def normalize_parts(
    crop: jax.Array,
    good: jax.Array | None,
    parts: tuple[Part, ...],
    *,
    block: int = 8,
    floor: float = 1.0,
    spot: int = 1,
    index: jax.Array | None = None,
) -> tuple[jax.Array, ...]:
    """Normalise a crop's contrast (GCN and LCN, box window) and keep parts of the result.

    Only windows without a bad pixel count. For a batch, map it with `sfxjax.preprocess.definition.map_frames`.

    Args:
        crop: (height, width), any real dtype of at most 32 bits, at least 5 x 5.
        good: bool of that shape, True = good, for no NaN or infinity; None takes all finite pixels.
        parts: which to return, in this order: "rows", each row's largest value minus its smallest, 0 without a whole window,
            (height - 4,); "blocks", each square block's largest value and minus its smallest, taking 0 for pixels that do not
            count, (rows / block, columns / block, 2); "frame", (height - 4, width - 4), 0 where a window holds a bad pixel;
            "whole", bool of that shape, True where it holds none.
        block: edge of the blocks, which divides height - 4 and width - 4.
        floor: lower bound of the divisor in units of the frame's standard deviation, above 0.
        spot: edge of the squares whose sums "blocks" are the extremes of, see `sfxjax.preprocess.box_filter`.
        index: place of the crop where `crop` is a batch (n, height, width) of integers, and `good` None: loops over a batch
            read it in place so, where a CPU would first copy each crop.

    Returns:
        The parts, float32 but for "whole"; zeros where all good pixels are equal or there is none.

    References:
        Ke et al., J. Synchrotron Rad. 25:655 (2018); Xie, Liu et al., Optics Express 31(20):32909 (2023), sections 3.1.1
        and 3.4.2, Eq. 2.
    """
    if good is None and index is None:
        good = finite(crop)

    def read(start: Any, rows: int) -> tuple[jax.Array, jax.Array | None]:
        if index is not None:
            return jax.lax.dynamic_slice(crop, (index, start, 0), (1, rows, crop.shape[-1]))[0], None
        values = jax.lax.dynamic_slice_in_dim(crop, start, rows)
        return values, None if good is None else jax.lax.dynamic_slice_in_dim(good, start, rows)

    return _parts(read, crop.shape[-2], parts, block, floor, spot)


def _parts(
    read: Read, height: int, parts: tuple[Part, ...], block: int, floor: float, spot: int
) -> tuple[jax.Array, ...]:
    origin, variance = _statistics(read, height)
    least = _bound(variance, floor)
    rows = height - WINDOW + 1
    on_cpu = jax.default_backend() == "cpu"
    strip = _divisor(rows, _STRIP, block if "blocks" in parts else 1)
    # Sums are of values, not of their signed squares.
    rooted = "frame" in parts or spot > 1
    margin = spot // 2 if "blocks" in parts else 0

    def one(start: Any) -> tuple[jax.Array, ...]:
        # Rows of other strips that the sums reach into; at the frame's first and last rows as many more of its inside.
        more = min(2 * margin, rows - strip)
        first = jnp.clip(start - margin, 0, rows - strip - more)

        def load() -> jax.Array:
            values, good = read(first, strip + more + WINDOW - 1)
            values = _subtract(values, origin)
            return values if good is None else jnp.where(good, values, jnp.nan)

        windows = _windows(load, jnp.isfinite(variance) if on_cpu else None)
        bound = jnp.maximum(windows.squares, least)
        if rooted:
            values = windows.deviation / (WINDOW * jnp.sqrt(bound))
        else:
            values = windows.deviation * jnp.abs(windows.deviation) / bound
        present = None if _like(read)[1] is None else ~jnp.isnan(values)
        if not margin:
            return tuple(_part(part, values, present, block) for part in parts)

        def own(values: jax.Array) -> jax.Array:
            return jax.lax.dynamic_slice_in_dim(values, start - first, strip)

        spread = values if present is None else jnp.where(present, values, 0)
        spread = jnp.pad(spread, ((margin, margin), (0, 0)))
        spread = jax.lax.dynamic_slice_in_dim(spread, start - first, strip + 2 * margin)
        return tuple(
            _part(part, sums_within(spread, spot), None, block)
            if part == "blocks"
            else _part(part, own(values), None if present is None else own(present), block)
            for part in parts
        )

    if strip == rows:
        results = one(0)
    else:
        stacked = jax.lax.map(one, jnp.arange(0, rows, strip))
        results = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), stacked)
    return tuple(_finish(part, result, rooted) for part, result in zip(parts, results, strict=True))


def _like(read: Read) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct | None]:
    """Return the shapes and dtypes of what one row has."""
    return jax.eval_shape(lambda: read(0, 1))


def bound_of_squares(crop: jax.Array, floor: float) -> tuple[jax.Array, jax.Array]:
    """Return what a crop's windows are compared with.

    Args:
        crop: (height, width) integers of at most 16 bits, all good.
        floor: as for `normalize_parts`.

    Returns:
        A whole number near the mean, and the lower bound of the windows' sums of squared deviations; float32 both.
    """

    def read(start: Any, rows: int) -> tuple[jax.Array, None]:
        return jax.lax.dynamic_slice_in_dim(crop, start, rows), None

    origin, variance = _statistics(read, len(crop))
    return origin.pivot, _bound(variance, floor)


def _bound(variance: jax.Array, floor: float) -> jax.Array:
    # Where nothing varies all deviations are 0, and any bound above 0 makes zeros of them.
    return jnp.maximum(_PIXELS * floor**2 * variance, jnp.finfo(jnp.float32).tiny)


def _part(part: Part, values: jax.Array, present: jax.Array | None, block: int) -> jax.Array:
    if part == "whole":
        return jnp.ones(values.shape, bool) if present is None else present
    if part == "rows":
        if present is None:
            return jnp.stack([values.max(1), values.min(1)], -1)
        return jnp.stack(
            [jnp.where(present, values, -jnp.inf).max(1), jnp.where(present, values, jnp.inf).min(1)], -1
        )
    if present is not None:
        values = jnp.where(present, values, 0)
    if part == "frame":
        return values
    rows, columns = values.shape
    split = values.reshape(rows // block, block, columns)
    largest, smallest = (
        reduce(reduce(split, axis=1).reshape(rows // block, columns // block, block), axis=2)
        for reduce in (jnp.max, jnp.min)
    )
    return jnp.stack([largest, smallest], -1)


def _finish(part: Part, result: jax.Array, rooted: bool) -> jax.Array:
    """Make of largest and smallest signed squares, or of values, what the part promises."""
    if part in ("frame", "whole"):
        return result
    if not rooted:
        result = signed_root(result)
    if part == "blocks":
        return result * jnp.asarray([1, -1], result.dtype)
    return jnp.where(result[..., 0] >= result[..., 1], result[..., 0] - result[..., 1], 0)


def signed_root(values: jax.Array) -> jax.Array:
    """Turn signed squares of 25 times the deviation, over their bounds, to normalised values."""
    return jnp.sign(values) * jnp.sqrt(jnp.abs(values)) / WINDOW


def _divisor(length: int, most: int, multiple: int = 1) -> int:
    """Return the largest divisor up to `most`, of multiples of `multiple`; on GPUs and their like all of it."""
    if jax.default_backend() != "cpu":
        return length
    fitting = [size for size in range(multiple, most + 1, multiple) if length % size == 0]
    return max(fitting, default=multiple)


def _windows(load: Callable[[], jax.Array], true: jax.Array | None) -> _Windows:
    """Go over the 5 x 5 windows of a strip: columns first, then rows of them.

    Args:
        load: gives the strip's values, (rows + 4, columns + 4).
        true: see `sfxjax.fusion`; without such steps a CPU takes twice as long.
    """

    def columns(values: jax.Array) -> tuple[jax.Array, jax.Array]:
        pixels = _shifts(values, 0)
        return _sum(pixels), sum_and_squares(pixels)[1]

    values = separately(true, load)
    sums, squares = separately(true, columns, values)
    total, between = sum_and_squares(_shifts(sums, 1))
    middle = values[_HALF:-_HALF, _HALF:-_HALF]
    return _Windows(_PIXELS * middle - total, _sum(_shifts(squares, 1)) + between / WINDOW)


def _shifts(values: jax.Array, axis: int) -> list[jax.Array]:
    length = values.shape[axis] - WINDOW + 1
    return [jax.lax.slice_in_dim(values, k, k + length, axis=axis) for k in range(WINDOW)]


def sum_and_squares(terms: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Return the sum of five terms and the sum of their squared deviations from their mean.

    By differences from the middle one: exact where those are.
    """
    middle = terms[_HALF]
    differences = [term - middle for place, term in enumerate(terms) if place != _HALF]
    total = _sum(differences)
    squares = _sum([difference * difference for difference in differences])
    return WINDOW * middle + total, squares - total * total / WINDOW


def _sum(terms: list[jax.Array]) -> jax.Array:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _statistics(read: Read, height: int) -> tuple[_Origin, jax.Array]:
    """Choose what to subtract from the pixels, and return the variance of the good ones in its units.

    Where all are equal it is exactly 0.
    """
    origin = _origin(read, height)

    def terms(values: jax.Array, good: jax.Array | None) -> list[jax.Array]:
        deviation = _subtract(values, origin)
        if good is None:
            return [deviation, deviation * deviation]
        deviation = jnp.where(good, deviation, 0)
        return [deviation, deviation * deviation, good.astype(jnp.float32)]

    total, square, *counts = (term.sum() for term in _sum_over_strips(read, height, terms))
    count = jnp.maximum(counts[0], 1) if counts else height * _like(read)[0].shape[1]
    mean = total / count
    return origin, jnp.maximum(square / count - mean * mean, 0)


def _sum_over_strips(read: Read, height: int, terms: Callable[..., list[jax.Array]]) -> list[jax.Array]:
    """Add arrays made of each strip, element by element."""
    rows = _divisor(height, _SUM_STRIP)
    if rows == height:
        return terms(*read(0, height))
    zeros = [jnp.zeros(term.shape, term.dtype) for term in jax.eval_shape(lambda: terms(*read(0, rows)))]

    def body(place: jax.Array, sums: list[jax.Array]) -> list[jax.Array]:
        return [old + new for old, new in zip(sums, terms(*read(place * rows, rows)), strict=True)]

    return jax.lax.fori_loop(0, height // rows, body, zeros)


def _origin(read: Read, height: int) -> _Origin:
    """Choose what to subtract: near the mean of the good pixels, and their own value where all are equal."""

    def of(values: jax.Array, good: jax.Array | None) -> _Origin:
        integers = jnp.issubdtype(values.dtype, jnp.integer)
        single = values.astype(jnp.float32)
        if values.dtype.itemsize < 4:
            values = single
        # Each value is divided before the sum, which large ones would overflow.
        if good is None:
            mean, lowest, highest = (single / values.size).sum(), values.min(), values.max()
        else:
            bounds = (jnp.iinfo if jnp.issubdtype(values.dtype, jnp.integer) else jnp.finfo)(values.dtype)
            mean = jnp.where(good, single / jnp.maximum(_count(good), 1), 0).sum()
            lowest = jnp.where(good, values, jnp.asarray(bounds.max, values.dtype)).min()
            highest = jnp.where(good, values, jnp.asarray(bounds.min, values.dtype)).max()
        pivot = jnp.clip((jnp.round(mean) if integers else mean).astype(values.dtype), lowest, highest)
        if integers:
            return _Origin(pivot, jnp.float32(1))
        # A power of two that brings these values to a millionth: no square overflows nor vanishes, whatever the unit.
        exponent = jnp.frexp(jnp.maximum(jnp.abs(lowest), jnp.abs(highest)).astype(jnp.float32))[1]
        return _Origin(pivot, jnp.ldexp(jnp.float32(1), jnp.clip(-exponent - 20, -126, 126)))

    def of_all() -> _Origin:
        return of(*read(0, height))

    if jax.default_backend() != "cpu":
        return of_all()
    pieces = [read(start, 1) for start in range(0, height, _SAMPLE)]
    values = jnp.concatenate([values for values, _ in pieces])
    usable = [good for _, good in pieces if good is not None]
    if not usable:
        return of(values, None)
    good = jnp.concatenate(usable)
    enough = _count(good) >= _LEAST_SAMPLE * good.size
    return jax.lax.cond(enough, lambda: of(values, good), of_all)


def _count(good: jax.Array) -> jax.Array:
    return good.astype(jnp.float32).sum()


def _subtract(values: jax.Array, origin: _Origin) -> jax.Array:
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
