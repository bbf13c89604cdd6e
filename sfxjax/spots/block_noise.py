"""The noise of a frame in blocks of 24 x 24 pixels, with or without the light of its spots, and significance in it.

What is known of a frame's pixels is summed in cells of 4 x 4, so that the noise can be measured again without those cells that
spots reach: where spots crowd, they make most of the noise around them, and would hide each other.
"""

from __future__ import annotations

from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sfxjax.order import median_of_known
from sfxjax.spots.frame_pixels import NOISE_BLOCK
from sfxjax.spots.signal_to_noise import OVER_MEAN_DEVIATION

SUM_CELL = 4
# Variance of the response over that of a pixel, of pixels that vary independently.
RESPONSE_VARIANCE = 9 + 81 / 40
# Least background counted with, photons in 3 x 3 pixels.
LEAST_COUNTS = 0.1
# Live pixels that a block needs for its noise to be known, of all its pixels.
LEAST_LIVE = 0.1
# A spot changes the response of places so many pixels from its centre: three of the window, and two of its own.
REACH = 5


class Cells(NamedTuple):
    """Sums over the live pixels of cells of 4 x 4 pixels, (rows, columns) each.

    Attributes:
        live: number of live pixels.
        total: of their values, detector units.
        size: of the absolute responses at all places.
    """

    live: jax.Array
    total: jax.Array
    size: jax.Array


class BlockNoise(NamedTuple):
    """The noise of a frame, in blocks of 24 x 24 pixels; (rows, columns) unless stated.

    Attributes:
        mean: of the live pixels, detector units; of the neighbours' where there are few.
        own: noise of the response by the block alone, NaN where too few pixels tell.
        noise: the same by the nine blocks around, at least what photon statistics give.
        photon: detector units of one photon, of the whole frame, ().
    """

    mean: jax.Array
    own: jax.Array
    noise: jax.Array
    photon: jax.Array


def noise_of_blocks(cells: Cells, counting: jax.Array | bool, integers: jax.Array | bool) -> BlockNoise:
    """Measure the noise of the response; `sfxjax.spots.candidates` says how.

    Args:
        cells: of the frame.
        counting: whether it counts photons.
        integers: whether all its values are whole numbers.
    """
    live, total, size = (in_blocks(part) for part in cells)
    mean, level, _ = block_levels(total, live)
    enough = live > LEAST_LIVE * NOISE_BLOCK**2
    least = jnp.where(integers, 0.29, 1e-6)
    own = jnp.where(enough, OVER_MEAN_DEVIATION * size / jnp.maximum(live, 1), jnp.nan)
    noise = median_of_nine(own)
    typical = jnp.nan_to_num(median_of_known(own), nan=1.0)
    pixel = noise / jnp.sqrt(RESPONSE_VARIANCE)
    photon = median_of_known(jnp.where(enough & (mean > 0), pixel**2 / jnp.maximum(mean, 1e-9), jnp.nan))
    photon = jnp.clip(jnp.nan_to_num(photon, nan=1e-3), 1e-3, jnp.maximum(typical / 3.3, 1e-3))
    photon = jnp.where(counting, 1.0, photon)
    noise = jnp.where(jnp.isnan(noise), typical, noise)
    poisson = jnp.sqrt(RESPONSE_VARIANCE * photon * jnp.maximum(jnp.nan_to_num(level), 0))
    floor = jnp.where(
        counting, jnp.maximum(poisson, jnp.sqrt(LEAST_COUNTS)), jnp.maximum(0.3 * typical, 3.3 * least)
    )
    noise = jnp.maximum(noise, floor)
    return BlockNoise(mean, own, noise, photon)


def without_spots(cells: Cells, ss: jax.Array, fs: jax.Array, spots: jax.Array) -> Cells:
    """Leave out the cells that spots reach.

    Args:
        cells: of a frame.
        ss: (n,) rows, pixels.
        fs: (n,) columns.
        spots: bool (n,), which of these places are spots.
    """
    rows, columns = cells.live.shape
    most = -(-REACH // SUM_CELL)
    offset = jnp.arange(-most, most + 1)
    row = jnp.floor(ss / SUM_CELL).astype(jnp.int32)[:, None, None] + offset[:, None]
    column = jnp.floor(fs / SUM_CELL).astype(jnp.int32)[:, None, None] + offset
    half = (SUM_CELL - 1) / 2
    # From the nearest of a cell's pixels.
    away_ss = jnp.maximum(jnp.abs(row * SUM_CELL + half - ss[:, None, None]) - half, 0)
    away_fs = jnp.maximum(jnp.abs(column * SUM_CELL + half - fs[:, None, None]) - half, 0)
    near = spots[:, None, None] & (jnp.maximum(away_ss, away_fs) < REACH)
    # A negative index would count from the end, one past the end is dropped.
    row = jnp.where(near & (row >= 0) & (column >= 0), row, rows)
    covered = jnp.zeros((rows, columns), bool).at[row, column].set(True, mode="drop")
    return jax.tree.map(lambda part: jnp.where(covered, 0, part), cells)


def in_blocks(cells: jax.Array) -> jax.Array:
    """Sum over the cells of each block of noise."""
    n = NOISE_BLOCK // SUM_CELL
    rows, columns = cells.shape
    # Row by row: a CPU adds many columns at a time.
    return reduce(jnp.add, [cells[k::n] for k in range(n)]).reshape(rows // n, columns // n, n).sum(2)


def block_levels(total: jax.Array, live: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the mean of each block's live pixels, the level of the nine blocks around, and the share of these that is live.

    Args:
        total: sum of each block's live pixels, (rows, columns).
        live: their number.

    Returns:
        Means, of the neighbours' pixels where a block has few; medians of the means of nine blocks, NaN where nothing is
        known; shares from 0 to 1.
    """
    mean, around = _filled_mean(total, live)
    return mean, median_of_nine(jnp.where(live > LEAST_LIVE * NOISE_BLOCK**2, mean, jnp.nan)), around


def _filled_mean(total: jax.Array, live: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean of each block's live pixels, of its neighbours' where it has few; and the live share of the nine blocks."""
    both = jnp.pad(jnp.stack([total, live]), ((0, 0), (1, 1), (1, 1)))
    rows, columns = live.shape
    nine: Any = sum(both[:, i : i + rows, j : j + columns] for i in range(3) for j in range(3))
    frame = total.sum() / jnp.maximum(live.sum(), 1)
    wide = jnp.where(nine[1] > 0, nine[0] / jnp.maximum(nine[1], 1), frame)
    own = total / jnp.maximum(live, 1)
    return jnp.where(live >= 0.25 * NOISE_BLOCK**2, own, wide), nine[1] / (9 * NOISE_BLOCK**2)


def median_of_nine(values: jax.Array) -> jax.Array:
    """Median over each block's 3 x 3 neighbourhood of what is known; NaN where nothing is."""
    rows, columns = values.shape
    padded = jnp.pad(jnp.where(jnp.isnan(values), jnp.inf, values), 1, constant_values=jnp.inf)
    nine = [padded[i : i + rows, j : j + columns] for i in range(3) for j in range(3)]
    known: Any = sum(jnp.isfinite(part).astype(jnp.int32) for part in nine)
    # Sorted by exchanges of neighbours (odd-even transposition), which is many times as fast as a general sort.
    for turn in range(9):
        for k in range(turn % 2, 8, 2):
            nine[k], nine[k + 1] = jnp.minimum(nine[k], nine[k + 1]), jnp.maximum(nine[k], nine[k + 1])
    ordered = jnp.stack(nine)
    places = jnp.stack([jnp.maximum(known - 1, 0) // 2, known // 2])
    middle = jnp.take_along_axis(ordered, places, 0).mean(0)
    return jnp.where(known > 0, middle, jnp.nan)


def significance(signal: jax.Array, noise: jax.Array, photon: jax.Array | float) -> jax.Array:
    """Return the signal-to-noise ratio of a response; `sfxjax.spots.candidates` has the equation.

    Args:
        signal: response, detector units.
        noise: its standard deviation, above 0.
        photon: detector units of one photon, above 0.
    """
    counts = (noise / photon) ** 2
    ratio = jnp.maximum(signal, 0) * photon / noise**2
    # The exact form loses all digits at small ratios.
    large = 2 * counts * ((1 + ratio) * jnp.log1p(ratio) - ratio)
    small = counts * ratio**2 * (1 - ratio / 3)
    return jnp.sqrt(jnp.maximum(jnp.where(ratio < 1e-2, small, large), 0))
