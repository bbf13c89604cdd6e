"""From a crop and its valid pixels to the normalised frame, or to its rows' or its blocks' extremes, tile by tile.

It gives what `sfxjax.preprocess.contrast.normalize_crop` gives with the box window, for windows of valid pixels only. That makes
it cheap: no window's sums are weighted, and an invalid pixel, which becomes NaN, spoils just the windows that hold it.

With x the crop, S the sum over a 5 x 5 window of x and V the sum of its squared deviations from the window's mean,

    out = (25 x - S) / (5 sqrt(max(V, 25 (floor std(x))^2)))

and the extremes of a row or a block are those of the signed square, (25 x - S) |25 x - S| / max(...), whose root is
taken once a row or block. V is the sum of the columns' squared deviations from their own means, plus the columns' sums'
squared deviations from theirs, over 5. Both are formed of differences of neighbouring pixels, which float32 holds exactly
for integers of 16 bits, so that no bright background costs accuracy; the difference of the mean square and the squared
mean would lose what noise there is on it.

The frame's own mean and deviation take one read of the crop, the windows a second one. On a CPU tiles of a few rows stay in
its cache between the steps; elsewhere the compiler sees the whole frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.fusion import fusion_barrier
from sfxjax.mapping import on_cpu
from sfxjax.preprocess.box_filter import sums_within
from sfxjax.preprocess.contrast import HALF_WINDOW, WINDOW, window_shifts
from sfxjax.preprocess.statistics import count_pixels, largest_divisor, subtract
from sfxjax.preprocess.validity import Pixels

Part = Literal["rows", "blocks", "frame", "window_valid", "lattice"]

# The part "lattice" holds every so many rows, and every so many columns.
LATTICE_ROWS = 4
LATTICE_COLUMNS = 12

_PIXELS = WINDOW * WINDOW
# At most so many rows a tile. Small ones stay in a core's cache; and XLA shares the work on larger ones between cores, some
# hundred times a frame, which can take longer than the work.
_TILE = 12
# The extremes of a row are first those of every so many columns, where its length is a multiple: a processor compares so many at
# a time.
_LANES = 16


class _Windows(NamedTuple):
    """Of each 5 x 5 window: 25 times the deviation of its middle pixel, and the sum of the squared deviations."""

    deviation: jax.Array
    squares: jax.Array


def normalize_parts(
    pixels: Pixels,
    parts: tuple[Part, ...],
    *,
    block: int = 8,
    floor: float = 1.0,
    spot: int = 1,
) -> tuple[Any, ...]:
    """Normalise a crop's contrast (GCN and LCN, box window) and keep parts of the result.

    Only windows without an invalid pixel count. For a batch, map it with `sfxjax.mapping.map_leading`.

    Args:
        pixels: at least 5 x 5, as `sfxjax.preprocess.validity.settle` gives them.
        parts: which to return, in this order: "rows", each row's largest value minus its smallest, 0 without a valid window,
            (height - 4,); "blocks", each square block's largest value and minus its smallest, taking 0 for windows that do not
            count, (rows / block, columns / block, 2); "frame", (height - 4, width - 4), 0 where a window holds an invalid pixel;
            "window_valid", bool of that shape, True where it holds none; "lattice", a pair of every fourth row and every
            twelfth column of "frame", (ceil(rows / 4), columns) and (rows, ceil(columns / 12)), for rows in multiples of 4.
        block: edge of the blocks, which divides height - 4 and width - 4.
        floor: lower bound of the divisor in units of the frame's standard deviation, above 0.
        spot: edge of the squares whose sums "blocks" are the extremes of, see `sfxjax.preprocess.box_filter`.

    Returns:
        The parts, float32 but for "window_valid"; zeros where all valid pixels are equal or there is none.

    References:
        Ke et al., J. Synchrotron Rad. 25:655 (2018); Xie, Liu et al., Optics Express 31(20):32909 (2023), sections 3.1.1
        and 3.4.2, Eq. 2.
    """
    height = pixels.shape[0]
    least = _bound(jnp.asarray(pixels.variance), floor)
    rows = height - WINDOW + 1
    multiple = math.lcm(block if "blocks" in parts else 1, LATTICE_ROWS if "lattice" in parts else 1)
    tile = largest_divisor(rows, _TILE, multiple)
    # Sums are of values, not of their signed squares.
    rooted = "frame" in parts or spot > 1
    margin = spot // 2 if "blocks" in parts else 0
    true = jnp.isfinite(pixels.variance) if on_cpu() else None

    def one(start: Any) -> tuple[Any, ...]:
        # Rows of other tiles that the sums reach into; at the frame's first and last rows as many more of its inside.
        more = min(2 * margin, rows - tile)
        first = jnp.clip(start - margin, 0, rows - tile - more)
        read = partial(pixels.rows, first, tile + more + WINDOW - 1)

        def own(values: jax.Array) -> jax.Array:
            return jax.lax.dynamic_slice_in_dim(values, start - first, tile) if margin else values

        def tile_parts(values: jax.Array, valid: jax.Array | None) -> tuple[Any, ...]:
            def load() -> jax.Array:
                deviation = subtract(values, pixels.origin)
                return deviation if valid is None else jnp.where(valid, deviation, jnp.nan)

            windows = _windows(load, true)
            bound = jnp.maximum(windows.squares, least)
            if rooted:
                result = windows.deviation / (WINDOW * jnp.sqrt(bound))
            else:
                result = windows.deviation * jnp.abs(windows.deviation) / bound
            present = None if valid is None else ~jnp.isnan(result)
            spread = result if present is None else jnp.where(present, result, 0)
            if margin:
                spread = jnp.pad(spread, ((margin, margin), (0, 0)))
                spread = sums_within(
                    jax.lax.dynamic_slice_in_dim(spread, start - first, tile + 2 * margin), spot
                )
            inner = own(result), None if present is None else own(present)
            return tuple(
                _part(
                    part,
                    spread if part == "blocks" else inner[0],
                    None if part == "blocks" else inner[1],
                    block,
                )
                for part in parts
            )

        def all_here() -> jax.Array:
            valid = read()[1]
            # Counted, which takes a processor half as long as `valid.all()`.
            return jnp.asarray(True) if valid is None else count_pixels(valid) == valid.size

        if not on_cpu() or read()[1] is None:
            return tile_parts(*read())
        # In most frames, and in most tiles of the others, every pixel counts; those are cheaper.
        clean = jax.lax.cond(pixels.all_count, lambda: jnp.asarray(True), all_here)
        return jax.lax.cond(clean, lambda: tile_parts(read()[0], None), lambda: tile_parts(*read()))

    if tile == rows:
        results = one(0)
    else:
        stacked = jax.lax.map(one, jnp.arange(0, rows, tile))
        results = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), stacked)
    return tuple(_finish(part, result, rooted) for part, result in zip(parts, results, strict=True))


def _bound(variance: jax.Array, floor: float) -> jax.Array:
    # Where nothing varies all deviations are 0, and any bound above 0 makes zeros of them.
    return jnp.maximum(_PIXELS * floor**2 * variance, jnp.finfo(jnp.float32).tiny)


def _part(part: Part, values: jax.Array, present: jax.Array | None, block: int) -> Any:
    if part == "window_valid":
        return jnp.ones(values.shape, bool) if present is None else present
    if part == "rows":
        if present is None:
            return jnp.stack(_extremes(values), -1)
        return jnp.stack(
            [jnp.where(present, values, -jnp.inf).max(1), jnp.where(present, values, jnp.inf).min(1)], -1
        )
    if present is not None:
        values = jnp.where(present, values, 0)
    if part == "frame":
        return values
    if part == "lattice":
        return values[::LATTICE_ROWS], values[:, ::LATTICE_COLUMNS]
    rows, columns = values.shape
    split = values.reshape(rows // block, block, columns)
    largest, smallest = (
        reduce(reduce(split, axis=1).reshape(rows // block, columns // block, block), axis=2)
        for reduce in (jnp.max, jnp.min)
    )
    return jnp.stack([largest, smallest], -1)


def _extremes(values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the largest and the smallest value of each row; none of them is NaN."""
    rows, columns = values.shape
    if on_cpu() and columns % _LANES == 0:
        values = values.reshape(rows, columns // _LANES, _LANES)
        # By comparisons, since `jnp.max` would look for NaN.
        largest = jax.lax.reduce(values, -np.inf, lambda a, b: jnp.where(a > b, a, b), (1,))
        smallest = jax.lax.reduce(values, np.inf, lambda a, b: jnp.where(a < b, a, b), (1,))
        return largest.max(1), smallest.min(1)
    return values.max(1), values.min(1)


def _finish(part: Part, result: Any, rooted: bool) -> Any:
    """Make of largest and smallest signed squares, or of values, what the part promises."""
    if part in ("frame", "window_valid"):
        return result
    if not rooted:
        result = jax.tree.map(_signed_root, result)
    if part == "lattice":
        return result
    if part == "blocks":
        return result * jnp.asarray([1, -1], result.dtype)
    return jnp.where(result[..., 0] >= result[..., 1], result[..., 0] - result[..., 1], 0)


def _signed_root(values: jax.Array) -> jax.Array:
    """Turn signed squares of 25 times the deviation, over their bounds, to normalised values."""
    return jnp.sign(values) * jnp.sqrt(jnp.abs(values)) / WINDOW


def _windows(load: Callable[[], jax.Array], true: jax.Array | None) -> _Windows:
    """Go over the 5 x 5 windows of a tile: columns first, then rows of them.

    Args:
        load: gives the tile's values, (rows + 4, columns + 4).
        true: see `sfxjax.fusion`; without such steps a CPU takes twice as long.
    """

    def columns(values: jax.Array) -> tuple[jax.Array, jax.Array]:
        pixels = window_shifts(values, 0)
        return _sum(pixels), _sum_and_squares(pixels)[1]

    values = fusion_barrier(true, load)
    sums, squares = fusion_barrier(true, columns, values)
    total, between = _sum_and_squares(window_shifts(sums, 1))
    middle = values[HALF_WINDOW:-HALF_WINDOW, HALF_WINDOW:-HALF_WINDOW]
    return _Windows(_PIXELS * middle - total, _sum(window_shifts(squares, 1)) + between / WINDOW)


def _sum_and_squares(terms: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Return the sum of five terms and the sum of their squared deviations from their mean.

    By differences from the middle one: exact where those are.
    """
    middle = terms[HALF_WINDOW]
    differences = [term - middle for place, term in enumerate(terms) if place != HALF_WINDOW]
    total = _sum(differences)
    squares = _sum([difference * difference for difference in differences])
    return WINDOW * middle + total, squares - total * total / WINDOW


def _sum(terms: list[jax.Array]) -> jax.Array:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
