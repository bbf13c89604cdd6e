"""Reductions beside the paper's: rings, blocks, brightest pixels and counts of local maxima.

Each is a reduction as `sfxjax.reductions.registry` defines it. After the contrast normalisation background is near 0 with a noise
of a few hundredths to a few tenths, and a Bragg spot is one to three pixels wide and up to 4.8 high.
"""

from __future__ import annotations

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.spots.signal_to_noise import windows

BLOCK = 24
BRIGHTEST = 256
# A block of this edge can hold several of the brightest pixels, but no more blocks than pixels are needed.
BRIGHTEST_BLOCK = 8
THRESHOLDS = tuple(float(value) for value in np.geomspace(0.1, 4, 16).round(3))
CLIP = 3.0
CLIP_ROUNDS = 3
# Rings are cut into pieces of so many pixels, so that a table of them is nearly full.
PIECE = 128


def radial_extremes(
    frame: jax.Array, valid: jax.Array | None = None, *, centre: tuple[float, float] | None = None
) -> jax.Array:
    """Of each ring around the beam its maximum, and how far that stands out of the ring.

    Solvent and air scatter evenly around the beam, and so does a powder: at one distance from it all pixels are alike,
    but for Bragg spots. The ring's mean and standard deviation are those left after three rounds of
    dropping what lies more than three standard deviations from the mean, in the manner of pyFAI's sigma clipping.

    Args:
        frame: (height, width).
        valid: bool of that shape, True where a pixel takes part, or None: all do.
        centre: of the rings, pixels (ss, fs) from the middle of the first; by default the middle of the frame.

    Returns:
        (rings, 2), a ring being one pixel wide: maximum; maximum minus mean, in standard deviations. 0 for rings without
        a valid pixel; of a frame of 720 x 720 there are 509 rings.

    References:
        Kieffer et al., J. Appl. Cryst. 58:138 (2025), on sigma clipping in azimuth to tell Bragg peaks.
    """
    if valid is not None:
        frame = jnp.where(valid, frame, jnp.nan)
    height, width = frame.shape
    middle = ((height - 1) / 2, (width - 1) / 2) if centre is None else (float(centre[0]), float(centre[1]))
    index, filled, ring = _pieces((height, width), middle)
    rings = int(ring[-1]) + 1
    pixels = jnp.asarray(frame).reshape(-1).at[index].get(mode="promise_in_bounds")
    pixels = jnp.where(filled, pixels, jnp.nan)
    kept = present = ~jnp.isnan(pixels)

    def sums(values: jax.Array) -> jax.Array:
        return jax.ops.segment_sum(values.sum(-1), ring, rings, indices_are_sorted=True)

    def moments(kept: jax.Array) -> tuple[jax.Array, jax.Array]:
        count = jnp.maximum(sums(kept.astype(jnp.float32)), 1)
        mean = sums(jnp.where(kept, pixels, 0)) / count
        squares = sums(jnp.where(kept, (pixels - mean[ring][:, None]) ** 2, 0))
        return mean, jnp.sqrt(squares / count)

    mean, deviation = moments(kept)
    for _ in range(CLIP_ROUNDS):
        kept = present & (jnp.abs(pixels - mean[ring][:, None]) <= CLIP * deviation[ring][:, None])
        mean, deviation = moments(kept)
    pieces = jnp.max(jnp.where(present, pixels, -jnp.inf), -1)
    largest = jax.ops.segment_max(pieces, ring, rings, indices_are_sorted=True)
    some = largest > -jnp.inf
    excess = jnp.where(some & (deviation > 0), (largest - mean) / jnp.where(deviation > 0, deviation, 1), 0)
    return jnp.stack([jnp.where(some, largest, 0), excess], axis=-1)


@lru_cache(maxsize=8)
def _pieces(shape: tuple[int, int], centre: tuple[float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut a frame's rings into pieces.

    Args:
        shape: of the frame, pixels (ss, fs).
        centre: of the rings, pixels (ss, fs).

    Returns:
        (pieces, 128) int32 places in the frame; bool of that shape, False behind a ring's last pixel; (pieces,) int32
        ring of each piece, rising.
    """
    ss, fs = np.indices(shape)
    radius = np.hypot(ss - centre[0], fs - centre[1]).astype(np.int32).ravel()
    order = np.argsort(radius, kind="stable")
    # Rings are numbered from the centre even where a centre outside the frame leaves the first ones empty.
    count = np.bincount(radius)
    pieces = np.maximum(-(-count // PIECE), 1)
    ring = np.repeat(np.arange(len(count)), pieces)
    begins = PIECE * (np.cumsum(pieces) - pieces)
    within = np.arange(radius.size) - np.repeat(np.cumsum(count) - count, count)
    place = np.repeat(begins, count) + within
    index, filled = np.zeros(len(ring) * PIECE, np.int32), np.zeros(len(ring) * PIECE, bool)
    index[place], filled[place] = order, True
    return index.reshape(-1, PIECE), filled.reshape(-1, PIECE), ring.astype(np.int32)


def block_maxima(frame: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Largest value of each block of 24 x 24 pixels.

    A spot lifts one block of 900 and not one row of 720, and in a block the noise has 576 chances to look
    like a spot, not 720: more room for spots, less for chance. It is the coarse image a max-pooling network would see.

    Args:
        frame: (height, width), multiples of 24.
        valid: bool of that shape, True where a pixel takes part, or None: all do.

    Returns:
        (blocks,), row by row: 900 of a frame of 720 x 720; 0 for a block without a valid pixel.

    References:
        Max pooling as a step of spot detection: Ke et al., J. Synchrotron Rad. 25:655 (2018).
    """
    largest = _block_maxima(frame if valid is None else jnp.where(valid, frame, -jnp.inf), BLOCK)
    return jnp.where(largest > -jnp.inf, largest, 0).reshape(-1)


def brightest_pixels(frame: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """The 256 largest values, in falling order.

    Background scatters into every pixel alike, Bragg spots into a few dozen: where the sorted values begin to fall
    steeply, spots begin. It is what Cheetah's simplest hit finder, a count of pixels above a threshold,
    leaves when the threshold is left open.

    Args:
        frame: (height, width), multiples of 8, with at least 256 blocks of 8 x 8.
        valid: bool of that shape, True where a pixel takes part, or None: all do.

    Returns:
        (256,); 0 where there are no more valid pixels.

    References:
        Barty et al., J. Appl. Cryst. 47:1118 (2014).
    """
    if valid is not None:
        frame = jnp.where(valid, frame, -jnp.inf)
    # The n largest pixels lie in the n blocks with the largest maxima: sorting these is many times cheaper.
    maxima = _block_maxima(frame, BRIGHTEST_BLOCK)
    block = jax.lax.top_k(maxima.reshape(-1), BRIGHTEST)[1]
    ss, fs = (place * BRIGHTEST_BLOCK for place in (block // maxima.shape[1], block % maxima.shape[1]))
    largest = jax.lax.top_k(windows(frame, ss, fs, BRIGHTEST_BLOCK).reshape(-1), BRIGHTEST)[0]
    return jnp.where(largest > -jnp.inf, largest, 0)


def local_maximum_counts(frame: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """How many local maxima of 3 x 3 pixels exceed each of 16 thresholds.

    Experts and spot finders alike call a frame by its number of spots, and a spot is a local maximum: the count at a
    threshold is the simplest spot finder, and 16 of them leave open how bright a spot must be.

    Args:
        frame: (height, width), both even.
        valid: bool of that shape, True where a pixel takes part, or None: all do.

    Returns:
        (16,) float32 counts, falling, above `THRESHOLDS`, from 0.1 to 4 at equal ratios. Of equal neighbours the
        first counts.

    References:
        The local-maximum search and the spot counts of Cheetah (Barty et al., J. Appl. Cryst. 47:1118, 2014).
    """
    if valid is not None:
        frame = jnp.where(valid, frame, -jnp.inf)
    padded = jnp.pad(frame, 1, constant_values=-jnp.inf)
    left, right = padded[1:-1, :-2], padded[1:-1, 2:]
    three = jnp.maximum(jnp.maximum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
    highest = (frame > jnp.maximum(three[:-2], left)) & (frame >= jnp.maximum(three[2:], right))
    # No two of four pixels that touch can be maxima.
    maxima = _block_maxima(jnp.where(highest, frame, -jnp.inf), 2)
    above = maxima.reshape(1, -1) > jnp.asarray(THRESHOLDS)[:, None]
    return above.sum(-1).astype(jnp.float32)


def _block_maxima(frame: jax.Array, edge: int) -> jax.Array:
    height, width = frame.shape
    return frame.reshape(height // edge, edge, width // edge, edge).max((1, 3))
