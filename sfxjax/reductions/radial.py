"""Of each ring around the beam, its brightest pixel and how far that stands out."""

from __future__ import annotations

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

RING_CLIP = 3.0
RING_CLIP_ROUNDS = 3
# A ring is stored as pieces of so many pixels, so that the table of all rings has few empty places.
PIECE = 128


def radial_extremes(
    frame: jax.Array, valid: jax.Array | None = None, *, centre: tuple[float, float] | None = None
) -> jax.Array:
    """Of each ring around the beam, its largest value, and how far that lies above the ring's other pixels.

    Solvent, air and powders scatter alike in all directions around the beam; Bragg spots do not. The mean and standard
    deviation of a ring leave out, three times, what lies more than three standard deviations from the mean, as pyFAI's
    sigma clipping does.

    Args:
        frame: (height, width).
        valid: bool of that shape, True where a pixel counts, or None: all do.
        centre: of the rings, (ss, fs) in pixels from the middle of the frame's first pixel; by default the frame's middle.

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
    kept = counted = ~jnp.isnan(pixels)

    def sums(values: jax.Array) -> jax.Array:
        return jax.ops.segment_sum(values.sum(-1), ring, rings, indices_are_sorted=True)

    def moments(kept: jax.Array) -> tuple[jax.Array, jax.Array]:
        count = jnp.maximum(sums(kept.astype(jnp.float32)), 1)
        mean = sums(jnp.where(kept, pixels, 0)) / count
        squares = sums(jnp.where(kept, (pixels - mean[ring][:, None]) ** 2, 0))
        return mean, jnp.sqrt(squares / count)

    mean, deviation = moments(kept)
    for _ in range(RING_CLIP_ROUNDS):
        kept = counted & (jnp.abs(pixels - mean[ring][:, None]) <= RING_CLIP * deviation[ring][:, None])
        mean, deviation = moments(kept)
    pieces = jnp.max(jnp.where(counted, pixels, -jnp.inf), -1)
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
