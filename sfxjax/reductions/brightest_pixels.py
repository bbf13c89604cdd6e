"""The brightest pixels of a frame, sorted."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from sfxjax.reductions.block_maxima import largest_in_blocks
from sfxjax.spots.signal_to_noise import windows

BRIGHTEST = 256
# A block of this edge can hold several of the brightest pixels, but no more blocks than pixels are needed.
BRIGHTEST_BLOCK = 8


def brightest_pixels(frame: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """The 256 largest values, in falling order.

    Background scatters into every pixel alike, Bragg spots into a few dozen: spots begin where the sorted values begin to
    fall steeply. Cheetah's simplest hit finder counts the pixels above a threshold; this leaves the threshold to the network.

    Args:
        frame: (height, width), multiples of 8, with at least 256 blocks of 8 x 8.
        valid: bool of that shape, True where a pixel counts, or None: all do.

    Returns:
        (256,); 0 where there are no more valid pixels.

    References:
        Barty et al., J. Appl. Cryst. 47:1118 (2014).
    """
    if valid is not None:
        frame = jnp.where(valid, frame, -jnp.inf)
    # The n largest pixels lie in the n blocks with the largest maxima: sorting these is many times cheaper.
    maxima = largest_in_blocks(frame, BRIGHTEST_BLOCK)
    block = jax.lax.top_k(maxima.reshape(-1), BRIGHTEST)[1]
    ss, fs = (place * BRIGHTEST_BLOCK for place in (block // maxima.shape[1], block % maxima.shape[1]))
    largest = jax.lax.top_k(windows(frame, ss, fs, BRIGHTEST_BLOCK).reshape(-1), BRIGHTEST)[0]
    return jnp.where(largest > -jnp.inf, largest, 0)
