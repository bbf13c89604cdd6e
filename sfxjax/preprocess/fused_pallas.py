"""A GPU kernel that gives each row's extent after normalisation: `sfxjax.preprocess.tiled` reading every pixel once.

One program goes down a strip of rows and keeps the sums of the last five in registers, so that nothing but the extents is
written. It is written for Pallas' Triton back end, which jax deprecates from 0.11 on; where that is missing or does not
compile it, `sfxjax.preprocess.fused` takes XLA's code instead.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from sfxjax.preprocess.contrast import WINDOW
from sfxjax.preprocess.tiled import signed_root, sum_and_squares

# Rows of the result that a program gives: four rows more are read, so few would waste loads and many leave the GPU idle.
STRIP = 72
_WARPS = 4


def row_extents(
    crops: jax.Array, pivot: jax.Array, least: jax.Array, *, interpret: bool = False
) -> jax.Array:
    """Return each row's largest normalised value minus its smallest.

    Args:
        crops: (n, height, width), unsigned integers of at most 16 bits, all good.
        pivot: (n,) float32, whole numbers near each crop's mean.
        least: (n,) float32, lower bounds of the windows' sums of squared deviations, above 0.
        interpret: run the kernel in XLA's arithmetic, on any device.

    Returns:
        (n, height - 4) float32.

    Raises:
        ImportError: this version of jax has no such back end.
    """
    from jax.experimental import pallas
    from jax.experimental.pallas import triton

    count, height, width = crops.shape
    rows = height - WINDOW + 1
    strips = -(-rows // STRIP)
    padded = pallas.pallas_call(
        partial(_kernel, width, rows),
        grid=(count, strips),
        out_shape=jax.ShapeDtypeStruct((count, strips * STRIP), jnp.float32),
        compiler_params=triton.CompilerParams(num_warps=_WARPS, num_stages=1),
        interpret=interpret,
        name="row_extents",
    )(crops, pivot, least)
    return padded[:, :rows]


def _kernel(width: int, rows: int, crops: Any, pivots: Any, bounds: Any, out: Any) -> None:
    from jax.experimental import pallas
    from jax.experimental.pallas import triton

    frame, strip = pallas.program_id(0), pallas.program_id(1)
    pivot, least = pivots[frame], bounds[frame]
    # A power of two, as the back end wants.
    column = jnp.arange(pallas.next_power_of_2(width))
    inside = column < width - WINDOW + 1

    def read(row: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Give a row's sums over five columns, their squared deviations, and the pixels in their middle."""
        pixels = [
            triton.load(
                crops.at[frame, jnp.minimum(row, rows + WINDOW - 2), column + shift],
                mask=column + shift < width,
                other=0,
            ).astype(jnp.float32)
            - pivot
            for shift in range(WINDOW)
        ]
        return *sum_and_squares(pixels), pixels[WINDOW // 2]

    def step(row: jax.Array, last: tuple[Any, ...]) -> tuple[Any, ...]:
        window = (*last, read(row + WINDOW - 1))
        sums, squares, _ = zip(*window, strict=True)
        total, between = sum_and_squares(list(sums))
        deviation = WINDOW * WINDOW * window[WINDOW // 2][2] - total
        bound = jnp.maximum(sum(squares[1:], squares[0]) + between / WINDOW, least)
        value = deviation * jnp.abs(deviation) / bound
        largest = jnp.max(jnp.where(inside, value, -jnp.inf))
        smallest = jnp.min(jnp.where(inside, value, jnp.inf))
        out[frame, row] = signed_root(largest) - signed_root(smallest)
        return window[1:]

    first = strip * STRIP
    start = tuple(read(first + row) for row in range(WINDOW - 1))
    jax.lax.fori_loop(first, first + STRIP, step, start)
