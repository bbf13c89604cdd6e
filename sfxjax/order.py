"""Numbers at a place of the sorted order, without sorting, which takes several times as long for the few that are asked for."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from sfxjax.mapping import on_cpu


def at_place(values: jax.Array, place: jax.Array | int) -> jax.Array:
    """Return the value at a place of the rising order.

    It is the largest number that at most `place` of them are below. The bits of floats that are not negative rise with them, and
    the digits of that number are found one after the other: to base 2 on a CPU, which counts as many numbers below one as fast
    as memory gives them, and to base 16 elsewhere, where each step takes a while.

    Args:
        values: float32 of any shape, none negative, none NaN.
        place: from 0 on, below their number.
    """
    numbers = jax.lax.bitcast_convert_type(values.ravel(), jnp.uint32)
    bits = 1 if on_cpu() else 4
    digits = jnp.arange(1, 2**bits, dtype=jnp.uint32)

    def next_digit(turn: jax.Array, found: jax.Array) -> jax.Array:
        shift = jnp.uint32(32 - bits) - jnp.uint32(bits) * turn.astype(jnp.uint32)
        below = jnp.sum((numbers[:, None] < found + (digits << shift)).astype(jnp.int32), axis=0)
        return found + (jnp.sum(below <= place).astype(jnp.uint32) << shift)

    found = jax.lax.fori_loop(0, 32 // bits, next_digit, jnp.uint32(0))
    return jax.lax.bitcast_convert_type(found, jnp.float32)


def median_of_known(values: jax.Array) -> jax.Array:
    """Return the median of the values that are not NaN, none of which is negative; NaN where there are none."""
    known = ~jnp.isnan(values)
    count = jnp.sum(known.astype(jnp.int32))
    filled = jnp.where(known, values, jnp.inf)
    middle = 0.5 * (at_place(filled, jnp.maximum(count - 1, 0) // 2) + at_place(filled, count // 2))
    return jnp.where(count > 0, middle, jnp.nan)


def highest_of_each(values: jax.Array, places: Sequence[int]) -> jax.Array:
    """Return values at places of each row's falling order.

    The one at place p is the smallest that at most p others exceed.

    Args:
        values: (n, m) float32, none NaN.
        places: from 0 on, below m.

    Returns:
        (n, number of places).
    """
    columns = values.T

    def count(place: jax.Array, exceeding: jax.Array) -> jax.Array:
        return exceeding + (columns[place] > columns)

    exceeding = jax.lax.fori_loop(
        0, len(columns), count, jnp.zeros(columns.shape, jnp.float32), unroll=min(9, len(columns))
    )
    return jnp.stack(
        [jnp.min(jnp.where(exceeding <= place, columns, jnp.inf), axis=0) for place in places], axis=-1
    )
