"""Row-wise decomposition, the paper's reduction, and the same along columns.

Of each row it keeps the largest value minus the smallest (Xie, Liu et al., Optics Express 31(20):32909, 2023, section 3.4.2,
Eq. 2): a Bragg spot raises it, smooth background does not.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from sfxjax.reductions.definition import noise_filled


@noise_filled
def row_wise_decomposition(frame: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Largest minus smallest value of each row (RWD).

    Args:
        frame: (..., height, width).
        valid: bool of that shape, True where a pixel counts, or None: all do.

    Returns:
        (..., height); 0 for a row without a valid pixel.

    References:
        The paper, section 3.4.2, Eq. 2.
    """
    return _extent(frame, valid, axis=-1)


@noise_filled
def column_wise_decomposition(frame: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Largest minus smallest value of each column: `row_wise_decomposition` of the transposed frame.

    Args:
        frame: (..., height, width).
        valid: bool of that shape, True where a pixel counts, or None: all do.

    Returns:
        (..., width); 0 for a column without a valid pixel.
    """
    return _extent(frame, valid, axis=-2)


@noise_filled
def row_and_column_decomposition(frame: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Row-wise and column-wise decomposition of a square frame as two channels.

    A spot raises a row and a column. Noise that raises a row need not raise a column, and a streak along one of them shows
    in the other channel alone.

    Args:
        frame: (..., edge, edge).
        valid: bool of that shape, True where a pixel counts, or None: all do.

    Returns:
        (..., edge, 2).
    """
    both = row_wise_decomposition(frame, valid), column_wise_decomposition(frame, valid)
    return jnp.stack(both, axis=-1)


def _extent(frame: jax.Array, valid: jax.Array | None, axis: int) -> jax.Array:
    if valid is None:
        return jnp.max(frame, axis) - jnp.min(frame, axis)
    largest = jnp.max(jnp.where(valid, frame, -jnp.inf), axis)
    smallest = jnp.min(jnp.where(valid, frame, jnp.inf), axis)
    return jnp.where(jnp.any(valid, axis), largest - smallest, 0)
