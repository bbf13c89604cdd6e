"""A convolution of width 3 and the pooling of its output over cells of width 2, in one step.

The places of a cell become channels: one convolution of width 4 and stride 2 puts a cell's 2 (or 2 x 2) values side by side.
With the few channels of the networks here that is two to ten times faster on a CPU than a convolution of width 3, and the
values of a cell are neighbours in memory.

Between convolution and pooling stands the batch normalisation, which is linear in each channel. The maximum of a rising line is
the line at the maximum, that of a falling line the line at the minimum. So pooling comes first, and a quarter of the values are
left to normalise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from sfxjax.fusion import fusion_barrier

# Layouts by the number of axes of places, as `jax.lax.conv_general_dilated` names them.
_LAYOUTS = {1: ("NHC", "HIO", "NHC"), 2: ("NHWC", "HWIO", "NHWC")}
# With more channels than this the planes of `_planes_product` take longer to make than they save.
_FEW_CHANNELS = 4


def pooled_convolution(values: jax.Array, kernel: jax.Array, rising: jax.Array) -> jax.Array:
    """Convolve, padding with zeros, and keep the extreme value of each 2-wide cell; a last odd row is dropped.

    Args:
        values: (n, ..., channels in) with one or two axes of places.
        kernel: (3, ..., channels in, channels), of the same dtype.
        rising: bool (channels,), True for the largest value of a cell, False for the smallest.

    Returns:
        (n, ..., channels), each axis of places halved.
    """
    sign = jnp.where(rising, 1, -1).astype(kernel.dtype)
    halves = [length // 2 for length in values.shape[1:-1]]
    return _largest(_cells(values, kernel * sign, halves), len(sign)) * sign


def pooled_convolution_and_moments(
    values: jax.Array, kernel: jax.Array, rising: jax.Array, *, batch_last: bool = False
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """As `pooled_convolution`, and the mean and the variance of the convolution before pooling, for training.

    Args:
        values: as there.
        kernel: as there.
        rising: as there.
        batch_last: how the axes of the first result lie, see `suits_batch_last`.

    Returns:
        (n, ..., channels), or (channels, ..., n); float32 (channels,) means; (channels,) variances, both over everything but
        channels.
    """
    sign = jnp.where(rising, 1, -1).astype(kernel.dtype)
    pooled, mean, variance = _largest_and_moments(values, kernel * sign)
    if batch_last != suits_batch_last(values):
        pooled = with_batch_last(pooled) if batch_last else with_channels_last(pooled)
    return pooled * along_channels(sign, pooled, batch_last), mean * sign, variance


def suits_batch_last(values: jax.Array) -> bool:
    """Tell whether training is faster with what comes of (n, ..., channels) values as (channels, ..., n).

    On a CPU, with few channels: loops then run over long rows, and what is summed over all but channels lies together.
    """
    even = all(length % 2 == 0 for length in values.shape[1:-1])
    return jax.default_backend() == "cpu" and values.shape[-1] <= _FEW_CHANNELS and even


def with_batch_last(values: jax.Array) -> jax.Array:
    """Turn (n, ..., channels) into (channels, ..., n)."""
    return jnp.moveaxis(values, (-1, 0), (0, -1))


def with_channels_last(values: jax.Array) -> jax.Array:
    """Undo `with_batch_last`."""
    return jnp.moveaxis(values, (0, -1), (-1, 0))


def along_channels(numbers: jax.Array, values: jax.Array, batch_last: bool) -> jax.Array:
    """Shape (channels,) numbers so that they meet the channels of values, (channels, ..., n) or (n, ..., channels)."""
    return numbers.reshape(-1, *[1] * (values.ndim - 1)) if batch_last else numbers


@jax.custom_vjp
def _largest_and_moments(values: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    return _forward(values, kernel)[0]


def _forward(values: jax.Array, kernel: jax.Array) -> tuple[Any, Any]:
    if suits_batch_last(values):
        convolved = _planes_product(values, kernel)
        mean, square = (part.mean(2).mean(0) for part in _powers(convolved))
        largest = fusion_barrier(jnp.isfinite(square).all(), _largest_of_planes, convolved)
        n, *places, _ = values.shape
        pooled = largest.reshape(-1, *(length // 2 for length in places), n)
    else:
        convolved = _convolve(values, kernel)
        largest = pooled = _largest(_beside(convolved), kernel.shape[-1])
        mean, square = (part.mean(tuple(range(part.ndim - 1))) for part in _powers(convolved))
    variance = jnp.maximum(square - mean * mean, 0)
    return (pooled, mean, variance), (values, kernel, convolved, largest, mean)


def _backward(kept: Any, cotangents: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    values, kernel, convolved, largest, mean = kept
    pooled, to_mean, to_variance = cotangents
    count = convolved.size // len(mean)
    constant, slope = to_mean / count, 2 * to_variance / count
    if suits_batch_last(values):
        same = convolved == largest
        steps = jnp.where(same, pooled.reshape(largest.shape) / same.sum(0), 0)
        steps = steps + constant[:, None] + slope[:, None] * (convolved - mean[:, None])
        # A zero that XLA cannot tell in advance: else it would keep the planes from the forward pass, and the arrays of a
        # step outgrow what the C library reuses from step to step (32 MB), which costs more than making the planes anew.
        again = values + 0 * pooled.ravel()[0]
        return jax.vjp(_planes_product, again, kernel)[1](steps.astype(convolved.dtype))
    cells = _beside(convolved)
    cells = cells.reshape(*cells.shape[:-1], -1, len(mean))
    same = cells == largest[..., None, :]
    steps = _apart(jnp.where(same, (pooled / same.sum(-2))[..., None, :], 0), convolved.shape)
    steps = (steps + constant + slope * (convolved - mean)).astype(convolved.dtype)
    axes = tuple(range(kernel.ndim - 2))
    to_values = _convolve(steps, jnp.flip(kernel, axes).swapaxes(-1, -2))
    to_kernel = jax.vjp(lambda kernel: _unpooled(values, kernel), kernel)[1](steps)[0]
    return to_values, to_kernel


_largest_and_moments.defvjp(_forward, _backward)


def _powers(values: jax.Array) -> tuple[jax.Array, jax.Array]:
    values = values.astype(jnp.float32)
    return values, values * values


def _unpooled(values: jax.Array, kernel: jax.Array) -> jax.Array:
    axes = values.ndim - 2
    return jax.lax.conv_general_dilated(values, kernel, (1,) * axes, "SAME", dimension_numbers=_LAYOUTS[axes])


def _convolve(values: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve as `_unpooled` does, by way of cells."""
    places = values.shape[1:-1]
    cells = _cells(values, kernel, [-(-length // 2) for length in places])
    even = (len(values), *(length + length % 2 for length in places), kernel.shape[-1])
    whole = _apart(cells, even)
    for axis, length in enumerate(places):
        whole = jax.lax.slice_in_dim(whole, 0, length, axis=axis + 1)
    return whole


def _cells(values: jax.Array, kernel: jax.Array, halves: Sequence[int]) -> jax.Array:
    """Convolve for whole cells, `halves` along each axis: (n, half ..., cell * channels)."""
    axes = values.ndim - 2
    padding = [(1, 2 * half + 1 - length) for half, length in zip(halves, values.shape[1:-1], strict=True)]
    return jax.lax.conv_general_dilated(
        values, _four_wide(kernel), (2,) * axes, padding, dimension_numbers=_LAYOUTS[axes]
    )


def _four_wide(kernel: jax.Array) -> jax.Array:
    """Return the kernel (4, ..., channels in, cell * channels) that convolves for every place of a cell."""
    moved = [
        jnp.pad(kernel, [*((place, 1 - place) for place in places), (0, 0), (0, 0)])
        for places in itertools.product((0, 1), repeat=kernel.ndim - 2)
    ]
    return jnp.stack(moved, -2).reshape(*moved[0].shape[:-1], -1)


def _largest(cells: jax.Array, channels: int) -> jax.Array:
    """Take the maximum over the places of cells (n, half ..., cell * channels)."""
    while cells.shape[-1] > channels:
        half = cells.shape[-1] // 2
        cells = jnp.maximum(cells[..., :half], cells[..., half:])
    return cells


def _beside(convolved: jax.Array) -> jax.Array:
    """Put the places of each cell side by side: (n, ..., channels) to (n, half ..., cell * channels)."""
    n, *places, channels = convolved.shape
    for axis, length in enumerate(places):
        convolved = jax.lax.slice_in_dim(convolved, 0, length // 2 * 2, axis=axis + 1)
    convolved = convolved.reshape(n, *(size for length in places for size in (length // 2, 2)), channels)
    axes = range(len(places))
    order = (0, *(1 + 2 * axis for axis in axes), *(2 + 2 * axis for axis in axes), 2 * len(places) + 1)
    return convolved.transpose(order).reshape(n, *(length // 2 for length in places), -1)


def _apart(cells: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Undo `_beside`, to an array of `shape`, with zeros where a last odd row was dropped."""
    n, *places, channels = shape
    axes = range(len(places))
    cells = cells.reshape(n, *(length // 2 for length in places), *(2 for _ in places), channels)
    order = (0, *(1 + axis + step * len(places) for axis in axes for step in (0, 1)), 2 * len(places) + 1)
    cells = cells.transpose(order).reshape(n, *(length // 2 * 2 for length in places), channels)
    return jnp.pad(cells, [(0, 0), *((0, length % 2) for length in places), (0, 0)])


def _planes_product(values: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve for whole cells by one product of matrices: (cell, channels, half * ... * n).

    The batch comes last, so that all loops run over long rows, however few the channels.
    """
    n, *places, channels = values.shape
    axes = len(places)
    padded = jnp.pad(with_batch_last(values), [(0, 0), *((1, 1) for _ in places), (0, 0)])
    planes = [
        padded[
            (
                slice(None),
                *(slice(first, first + length - 1, 2) for first, length in zip(start, places, strict=True)),
            )
        ]
        for start in itertools.product(range(4), repeat=axes)
    ]
    rows = 4**axes * channels
    product = jax.lax.dot_general(
        _four_wide(kernel).reshape(rows, -1),
        jnp.concatenate(planes).reshape(rows, -1),
        (((0,), (0,)), ((), ())),
    )
    return product.reshape(2**axes, kernel.shape[-1], math.prod(places) // 2**axes * n)


def _largest_of_planes(planes: jax.Array) -> jax.Array:
    largest = planes[0]
    for plane in planes[1:]:
        largest = jnp.maximum(largest, plane)
    return largest
