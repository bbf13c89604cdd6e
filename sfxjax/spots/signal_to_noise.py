"""Spots of a normalised frame and their signal-to-noise ratios, as arrays of fixed size for the reductions.

The steps are those of a spot finder such as Cheetah's (Barty et al., J. Appl. Cryst. 47:1118, 2014) or DIALS'
(Winter et al., Acta Cryst. D74:85, 2018), on a frame whose background the contrast normalisation has taken away:

1. The signal of a pixel is the sum over its 3 x 3 neighbourhood, the size of a spot.
2. The noise is the standard deviation of the signal away from spots: the sigma-clipped second moment in blocks of 24 x 24
   pixels, each pooled with its eight neighbours.
3. The strongest pixel of each block of 8 x 8 is a candidate. The 256 with the highest ratio are examined.
4. A candidate is a spot if no signal in 7 x 7 is higher; if the light is not all in one pixel, as in a hot one; if the pixel
   exceeds its 11 x 11 neighbourhood, as the rim of a shadow does not; and if it is no part of a line: of any two pixels
   opposite each other, four or five pixels away, one has less than half its signal.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.spots.frame_pixels import NOISE_BLOCK

MOST_SUMS = 256
CANDIDATE_BLOCK = 8
# Of the 576 disjoint sums in nine blocks, as many must be valid for their standard deviation to be trusted.
FEWEST_SUMS = 32
# Where the frame is smoother than this fraction of its median noise, as in a gap between panels, nothing is measured.
LEAST_NOISE = 0.5
CLIP = 2.5
CLIP_ROUNDS = 3
# Standard deviation of a normal variable clipped at +-2.5 standard deviations, relative to that of the unclipped one.
CLIPPED_DEVIATION = 0.9546
# Standard deviation of a normal variable in units of its mean absolute deviation.
OVER_MEAN_DEVIATION = 1.2533
# Largest fraction of a spot's signal in its middle pixel. After subtraction of the 5 x 5 mean a spot reaches 1 if two thirds
# of its light fell into that pixel; a hot pixel reaches one and a half.
MOST_IN_ONE_PIXEL = 1.0
LEAST_OVER_SURROUNDINGS = 2.5
MOST_ALONG_A_LINE = 0.5
_PEAK, _SURROUNDINGS = 3, 5  # half widths of the two windows, pixels


def spot_ratios(frame: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Signal-to-noise ratios of the candidates of a frame that are spots.

    Args:
        frame: (height, width), multiples of 24.
        valid: bool of that shape, True where a pixel counts, or None: all do.

    Returns:
        (256,) float32, falling but for the candidates that are no spots, which have 0.
    """
    if valid is not None:
        frame = jnp.where(valid, frame, 0)
    signal = _sum_of_nine(frame)
    ratio, ss, fs = _candidates(signal, _noise(signal, valid))
    return jnp.where(_are_spots(frame, valid, signal, ss, fs), ratio, 0)


def _sum_of_nine(values: jax.Array) -> jax.Array:
    """Sum over 3 x 3 pixels of the last two axes; outside there are zeros."""
    for axis in (1, 0):
        length = values.shape[axis]
        padded = jnp.pad(values, [(1, 1) if axis == other else (0, 0) for other in (0, 1)])
        first, second, third = (jax.lax.slice_in_dim(padded, k, k + length, axis=axis) for k in range(3))
        values = first + second + third
    return values


def _noise(signal: jax.Array, valid: jax.Array | None) -> jax.Array:
    """Standard deviation of the signal in each block of 24 x 24 pixels, away from spots; 0 without valid pixels."""
    rows, columns = (length // NOISE_BLOCK for length in signal.shape)
    inner = NOISE_BLOCK // 3
    shape = (rows, inner, columns, inner)
    # Sums that share no pixel; all of them would tell little more, and cost nine times as much.
    sums = signal[1::3, 1::3].reshape(shape)
    if valid is None:
        # Made by NumPy: XLA would take seconds to find out that this is constant.
        valid_sums = jnp.asarray(np.ones(shape, bool))
    else:
        valid_sums = valid.reshape(rows * inner, 3, columns * inner, 3).all((1, 3)).reshape(shape)

    def mean(values: jax.Array, kept: jax.Array) -> jax.Array:
        total = jnp.sum(jnp.where(kept, values, 0), (1, 3), keepdims=True)
        return total / jnp.maximum(jnp.sum(kept, (1, 3), keepdims=True), 1)

    kept, middle = valid_sums, mean(sums, valid_sums)
    deviation = OVER_MEAN_DEVIATION * mean(jnp.abs(sums - middle), valid_sums)
    for _ in range(CLIP_ROUNDS):
        kept = valid_sums & (jnp.abs(sums - middle) <= CLIP * deviation)
        middle = mean(sums, kept)
        variance = mean((sums - middle) ** 2, kept)
        deviation = jnp.sqrt(variance) / CLIPPED_DEVIATION
    count = jnp.sum(kept, (1, 3)).astype(jnp.float32)
    pooled = _sum_of_nine(count)
    squares = _sum_of_nine(variance[:, 0, :, 0] * count)
    known = pooled >= FEWEST_SUMS
    noise = jnp.sqrt(squares / jnp.maximum(pooled, 1)) / CLIPPED_DEVIATION
    typical = jnp.nan_to_num(jnp.nanmedian(jnp.where(known, noise, jnp.nan)))
    return jnp.where(known, jnp.maximum(noise, LEAST_NOISE * typical), typical)


def _candidates(signal: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Signal-to-noise ratio, ss and fs, (256,) each, of the strongest pixels of the strongest blocks."""
    edge = CANDIDATE_BLOCK
    rows, columns = (length // edge for length in signal.shape)
    each = NOISE_BLOCK // edge
    largest = signal.reshape(rows, edge, columns, edge).max((1, 3))
    largest = largest.reshape(rows // each, each, columns // each, each)
    ratio = largest * jnp.where(noise > 0, 1 / noise, 0)[:, None, :, None]
    ratio, block = jax.lax.top_k(ratio.reshape(-1), MOST_SUMS)
    ss, fs = block // columns * edge, block % columns * edge
    place = windows(signal, ss, fs, edge).reshape(MOST_SUMS, -1).argmax(-1)
    return ratio, ss + place // edge, fs + place % edge


def _are_spots(
    frame: jax.Array, valid: jax.Array | None, signal: jax.Array, ss: jax.Array, fs: jax.Array
) -> jax.Array:
    """Tell which of the pixels (ss, fs) are the middle of a spot."""
    edge = 2 * _SURROUNDINGS + 1
    around = windows(jnp.pad(signal, _SURROUNDINGS), ss, fs, edge)
    here = around[:, _SURROUNDINGS, _SURROUNDINGS]
    away = np.abs(np.indices((edge, edge)) - _SURROUNDINGS).max(0)
    near = away <= _PEAK
    # Of equal neighbours the first counts.
    before = near & (np.arange(edge * edge).reshape(edge, edge) < edge * edge // 2)
    highest = jnp.max(jnp.where(near, around, -jnp.inf), (1, 2)) <= here
    highest &= jnp.max(jnp.where(before, around, -jnp.inf), (1, 2)) < here
    on_both_sides = jnp.minimum(around, around[:, ::-1, ::-1])
    along = jnp.max(jnp.where(near, -jnp.inf, on_both_sides), (1, 2))
    lonely = along < MOST_ALONG_A_LINE * here

    counted: Any = np.ones(frame.shape, bool) if valid is None else valid
    pad = np.pad if valid is None else jnp.pad
    wide = windows(jnp.pad(frame, _SURROUNDINGS), ss, fs, edge)
    inside = windows(jnp.asarray(pad(counted, _SURROUNDINGS)), ss, fs, edge)
    count = jnp.maximum(inside.sum((1, 2)), 1)
    mean = wide.sum((1, 2)) / count
    spread = jnp.sqrt(jnp.sum(jnp.where(inside, (wide - mean[:, None, None]) ** 2, 0), (1, 2)) / count)
    pixel = wide[:, _SURROUNDINGS, _SURROUNDINGS]
    spread_out = pixel < MOST_IN_ONE_PIXEL * here
    return highest & lonely & spread_out & (pixel > LEAST_OVER_SURROUNDINGS * spread)


def windows(frame: jax.Array, ss: jax.Array, fs: jax.Array, edge: int) -> jax.Array:
    """Cut squares out of a frame.

    Args:
        frame: (height, width).
        ss: (n,) int, first row of each square.
        fs: (n,) int, first column.
        edge: of the squares, pixels; they lie inside the frame.

    Returns:
        (n, edge, edge).
    """
    steps = jnp.arange(edge)
    rows, columns = ss[:, None, None] + steps[:, None], fs[:, None, None] + steps
    return jnp.asarray(frame).at[rows, columns].get(mode="promise_in_bounds")
