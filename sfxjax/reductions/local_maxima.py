"""Numbers of local maxima above several thresholds."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.reductions.block_maxima import largest_in_blocks

THRESHOLDS = tuple(float(value) for value in np.geomspace(0.1, 4, 16).round(3))


def local_maximum_counts(frame: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """How many local maxima of 3 x 3 pixels exceed each of 16 thresholds.

    Experts and spot finders alike judge a frame by its number of spots, and a spot is a local maximum. The count above a
    threshold is the simplest spot finder; 16 of them leave open how bright a spot must be.

    Args:
        frame: (height, width), both even.
        valid: bool of that shape, True where a pixel counts, or None: all do.

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
    maxima = largest_in_blocks(jnp.where(highest, frame, -jnp.inf), 2)
    above = maxima.reshape(1, -1) > jnp.asarray(THRESHOLDS)[:, None]
    return above.sum(-1).astype(jnp.float32)
