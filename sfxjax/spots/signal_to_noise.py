"""The spot ladder: signal-to-noise ratios of a frame's strongest spots, in falling order.

A frame is positive from four Bragg spots on. So one number decides, the ratio of the fourth strongest spot, and in units
of the noise beside the spot it means the same on every detector, at every beam intensity and anywhere in the frame.
The rungs below it tell crystals that show many faint spots from chance. Low counts of photons are beyond it, as they are
beyond the normalisation: where noise alone reaches the frame's own standard deviation, that divides spots away.

The steps are those of a spot finder such as Cheetah's (Barty et al., J. Appl. Cryst. 47:1118, 2014) or DIALS'
(Winter et al., Acta Cryst. D74:85, 2018), on a frame whose background the contrast normalisation has taken away:

1. The signal of a pixel is the sum over its 3 x 3 neighbourhood, the size of a spot.
2. The noise is the signal's own standard deviation where there are no spots: clipped second moment in blocks
   of 24 x 24 pixels, each pooled with its eight neighbours.
3. The strongest pixel of each block of 8 x 8 is a candidate. The 256 with the highest ratio are looked at closely.
4. A candidate is a spot where no signal in 7 x 7 is higher; the light is not all in one pixel, as in a hot one; the pixel
   stands out of its 11 x 11 neighbourhood, as the rim of a shadow does not; and it is no part of a line: of any two
   places opposite each other, four or five pixels away, one has less than half its signal.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

SPOTS_KEPT = 64
# Ratio from which a spot counts as one, and how soft that step is. Each of the three simulated sets has its hits and
# misses told apart best by a fourth rung of 6.5 to 6.9; measuring the ratio of one spot has an error of 1.
SPOT_THRESHOLD = 6.7
SOFTNESS = 0.5
CANDIDATES = 256
CANDIDATE_BLOCK = 8
NOISE_BLOCK = 24
# Of the 576 sums in nine blocks that do not overlap, as many must be whole to speak of their deviation.
FEWEST_SUMS = 32
# Where the frame is smoother than this share of its median noise, as in a gap between panels, nothing is measured.
LEAST_NOISE = 0.5
CLIP = 2.5
CLIP_ROUNDS = 3
# Standard deviation of a normal variable cut at +-2.5 standard deviations, relative to the whole one's.
CLIPPED_SHARE = 0.9546
# Standard deviation of a normal variable in units of its mean absolute deviation.
OVER_MEAN_DEVIATION = 1.2533
# Of a spot's nine pixels after subtraction of its 5 x 5 mean the middle one holds all if it held two thirds before;
# a hot pixel, alone in its window, comes to one and a half.
MOST_IN_ONE_PIXEL = 1.0
LEAST_OVER_SURROUNDINGS = 2.5
MOST_ALONG_A_LINE = 0.5
_PEAK, _SURROUNDINGS = 3, 5  # half widths of the two windows, pixels


def spot_signal_to_noise(frame: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Signal-to-noise ratios of the 64 strongest spots.

    Spots are bright against the noise they stand in, and noise alone stays below about 5 standard deviations in half a
    million pixels; a frame is a positive where its fourth rung is above about 6.7.

    Args:
        frame: (height, width), multiples of 24.
        valid: bool of that shape, True where a pixel takes part, or None: all do.

    Returns:
        (64,) float32, falling; 0 where there are no more spots.
    """
    if valid is not None:
        frame = jnp.where(valid, frame, 0)
    signal = _sum_of_nine(frame)
    noise = _noise(signal, valid)
    ratio, ss, fs = _candidates(signal, noise)
    spots = _are_spots(frame, valid, signal, ss, fs)
    return jax.lax.top_k(jnp.where(spots, ratio, 0), SPOTS_KEPT)[0]


def soft_spot_counts(frame: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """The spot ladder with each rung a soft step: 1 for what is surely a spot, 0 for what is surely none.

    How bright a spot is tells nothing more once it is seen, and a ratio of 6 or 8 matters while one of 60 or 80 does not.
    So the steps add up to the number of visible spots, which is what experts go by.

    Args:
        frame: as for `spot_signal_to_noise`.
        valid: as there.

    Returns:
        (64,) float32, falling: 1 / (1 + exp((6.7 - ratio) / 0.5)).

    References:
        That what is seen is a matter of signal to noise, with a threshold about 5: Rose, J. Opt. Soc. Am. 38:196 (1948).
    """
    return jax.nn.sigmoid((spot_signal_to_noise(frame, valid) - SPOT_THRESHOLD) / SOFTNESS)


def _sum_of_nine(values: jax.Array) -> jax.Array:
    """Sum over 3 x 3 pixels of the last two axes; outside there are zeros."""
    for axis in (1, 0):
        length = values.shape[axis]
        padded = jnp.pad(values, [(1, 1) if axis == other else (0, 0) for other in (0, 1)])
        first, second, third = (jax.lax.slice_in_dim(padded, k, k + length, axis=axis) for k in range(3))
        values = first + second + third
    return values


def _noise(signal: jax.Array, valid: jax.Array | None) -> jax.Array:
    """Standard deviation of the signal in each block of 24 x 24 pixels, away from spots; 0 where nothing is known."""
    rows, columns = (length // NOISE_BLOCK for length in signal.shape)
    inner = NOISE_BLOCK // 3
    shape = (rows, inner, columns, inner)
    # Sums that share no pixel; all of them would tell little more, and cost nine times as much.
    sums = signal[1::3, 1::3].reshape(shape)
    if valid is None:
        # Made by NumPy: XLA would take seconds to find out that this is constant.
        whole = jnp.asarray(np.ones(shape, bool))
    else:
        whole = valid.reshape(rows * inner, 3, columns * inner, 3).all((1, 3)).reshape(shape)

    def mean(values: jax.Array, kept: jax.Array) -> jax.Array:
        total = jnp.sum(jnp.where(kept, values, 0), (1, 3), keepdims=True)
        return total / jnp.maximum(jnp.sum(kept, (1, 3), keepdims=True), 1)

    kept, middle = whole, mean(sums, whole)
    deviation = OVER_MEAN_DEVIATION * mean(jnp.abs(sums - middle), whole)
    for _ in range(CLIP_ROUNDS):
        kept = whole & (jnp.abs(sums - middle) <= CLIP * deviation)
        middle = mean(sums, kept)
        variance = mean((sums - middle) ** 2, kept)
        deviation = jnp.sqrt(variance) / CLIPPED_SHARE
    count = jnp.sum(kept, (1, 3)).astype(jnp.float32)
    pooled = _sum_of_nine(count)
    squares = _sum_of_nine(variance[:, 0, :, 0] * count)
    known = pooled >= FEWEST_SUMS
    noise = jnp.sqrt(squares / jnp.maximum(pooled, 1)) / CLIPPED_SHARE
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
    ratio, block = jax.lax.top_k(ratio.reshape(-1), CANDIDATES)
    ss, fs = block // columns * edge, block % columns * edge
    place = windows(signal, ss, fs, edge).reshape(CANDIDATES, -1).argmax(-1)
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

    taking_part: Any = np.ones(frame.shape, bool) if valid is None else valid
    pad = np.pad if valid is None else jnp.pad
    wide = windows(jnp.pad(frame, _SURROUNDINGS), ss, fs, edge)
    present = windows(jnp.asarray(pad(taking_part, _SURROUNDINGS)), ss, fs, edge)
    count = jnp.maximum(present.sum((1, 2)), 1)
    mean = wide.sum((1, 2)) / count
    spread = jnp.sqrt(jnp.sum(jnp.where(present, (wide - mean[:, None, None]) ** 2, 0), (1, 2)) / count)
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
