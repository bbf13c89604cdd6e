"""The largest value of each block of pixels."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from sfxjax.reductions.definition import noise_filled

BLOCK_SIDE = 24


@noise_filled
def block_maxima(frame: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Largest value of each block of 24 x 24 pixels: the coarse image a max-pooling network would see.

    A spot raises one of 900 blocks rather than one of 720 rows, and a block has 576 pixels in which noise may look like a
    spot, a row 720.

    Args:
        frame: (height, width), multiples of 24.
        valid: bool of that shape, True where a pixel counts, or None: all do.

    Returns:
        (blocks,), row by row: 900 of a frame of 720 x 720; 0 for a block without a valid pixel.

    References:
        Max pooling as a step of spot detection: Ke et al., J. Synchrotron Rad. 25:655 (2018).
    """
    largest = largest_in_blocks(frame if valid is None else jnp.where(valid, frame, -jnp.inf), BLOCK_SIDE)
    return jnp.where(largest > -jnp.inf, largest, 0).reshape(-1)


def largest_in_blocks(frame: jax.Array, edge: int) -> jax.Array:
    """Largest value of each square block.

    Args:
        frame: (height, width), multiples of `edge`.
        edge: of the blocks, pixels.

    Returns:
        (height / edge, width / edge).
    """
    height, width = frame.shape
    return frame.reshape(height // edge, edge, width // edge, edge).max((1, 3))
