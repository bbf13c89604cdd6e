"""Global and local contrast normalisation of frames, with bad pixels left out.

With x a frame and box5 the mean over a 5 x 5 window that lies inside the frame:

    z   = (x - mean(x)) / std(x)                          global contrast normalisation (GCN)
    m   = box5(z),  v = box5((z - m)^2)
    out = (z - m) / max(sqrt(v), floor)                   local contrast normalisation (LCN), 724 -> 720

The paper (Xie, Liu et al., Optics Express 31(20):32909, 2023, section 3.1.1) takes both from Ke et al.
(J. Synchrotron Rad. 25:655, 2018), where the floor is the constant 1, in units of the frame's own standard
deviation. Jarrett et al. (ICCV 2009), whom both papers cite, weight the window by a Gaussian and use the
floor mean(sqrt(v)) over the frame.

Bad pixels take no part in any mean or deviation: a window's mean is the sum over its good pixels divided by
their number. The output at a bad pixel is 0. NaN and infinities are always bad.

Every function works on the last two axes (slow scan, fast scan), under `jax.jit` and under `jax.vmap`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from sfxjax.errors import UserError
from sfxjax.preprocess.validity import both

WINDOW = 5
GAUSSIAN_SIGMA = 1.0

WindowName = Literal["box", "gaussian"]
Floor = float | Literal["mean"]
Array = jax.Array | np.ndarray

HALF_WINDOW = WINDOW // 2


def _gaussian_taps() -> tuple[float, ...]:
    """Weights of a Gaussian that are exact in float32 and add up to exactly 1.

    Rounded one by one they would add up to 1 + 1e-7, and a smooth background z would leave z * 1e-7.
    """
    side = [math.exp(-0.5 * (k / GAUSSIAN_SIGMA) ** 2) for k in range(HALF_WINDOW, 0, -1)]
    total = 1 + 2 * sum(side)
    side = [round(tap / total * 2**24) / 2**24 for tap in side]
    return (*side, 1 - 2 * sum(side), *reversed(side))


# Weights along one axis, both windows being separable. The code divides by their sum.
_WINDOWS = {"box": (1.0,) * WINDOW, "gaussian": _gaussian_taps()}


def global_contrast_normalize(frame: ArrayLike, good: ArrayLike | None = None) -> jax.Array:
    """Shift and scale each frame to mean 0 and standard deviation 1 over its good pixels.

    Args:
        frame: (..., height, width), any real dtype.
        good: bool, broadcastable to `frame`, True = good; None takes all pixels. NaN and infinities are
            never good.

    Returns:
        float32 of the frame's shape, 0 at bad pixels; zeros where all good pixels are equal.

    References:
        Ke et al. (2018); the paper, section 3.1.1.
    """
    deviation, spread = _deviations(*_prepared(frame, good))
    return deviation / jnp.where(spread > 0, spread, 1)


def local_contrast_normalize(
    frame: ArrayLike,
    good: ArrayLike | None = None,
    *,
    window: WindowName = "box",
    floor: Floor = 1.0,
) -> jax.Array:
    """Subtract each pixel's 5 x 5 window mean and divide by the window's standard deviation.

    Args:
        frame: (..., height, width), any real dtype, usually the output of `global_contrast_normalize`.
        good: bool, broadcastable to `frame`, True = good; None takes all pixels. NaN and infinities are
            never good.
        window: "box" weights all 25 pixels alike (Ke et al.), "gaussian" by a Gaussian with a standard
            deviation of 1 pixel (Jarrett et al.).
        floor: lower bound of the divisor in units of `frame`, or "mean": the mean of the windows' standard
            deviations over the frame's good pixels (Jarrett et al.).

    Returns:
        float32, (..., height - 4, width - 4): windows lie inside the frame. 0 at bad pixels.

    Raises:
        UserError: an unknown window, a negative floor, or a frame smaller than the window.

    References:
        Ke et al. (2018); Jarrett et al. (2009), section 2.1; the paper, section 3.1.1.
    """
    check_options(window, floor)
    values, usable = _prepared(frame, good)
    if values.ndim < 2 or min(values.shape[-2:]) < WINDOW:
        raise UserError(
            f"a frame of shape {values.shape} is smaller than the window of {WINDOW} x {WINDOW} pixels;"
            " give a larger one"
        )
    values = values.astype(jnp.float32)
    if usable is not None:
        values = jnp.where(usable, values, 0)
    return _normalize_windows(values, usable, window, floor)


def grown_mask(good: ArrayLike) -> jax.Array:
    """Tell which 5 x 5 windows hold good pixels only.

    Args:
        good: (..., height, width) bool, True = good.

    Returns:
        (..., height - 4, width - 4) bool: the bad pixels grown by the window's half width, 2.
    """
    good = jnp.asarray(good, bool)
    for axis in (-1, -2):
        shifted = window_shifts(good, axis)
        good = shifted[0]
        for other in shifted[1:]:
            good = good & other
    return good


def normalize_crop(
    values: jax.Array, good: jax.Array | None, *, window: WindowName = "box", floor: Floor = 1.0
) -> jax.Array:
    """GCN and LCN of one frame in one pass.

    LCN of the frame itself with the floor `floor * std(frame)` is LCN of the normalised frame with `floor`.

    Args:
        values: (height, width), any real dtype of at most 32 bits.
        good: bool of that shape, True = good; None takes all pixels, which must then be finite.
        window: see `local_contrast_normalize`.
        floor: see `local_contrast_normalize`, in units of the frame's standard deviation.

    Returns:
        (height - 4, width - 4) float32; zeros where all good pixels are equal or there is none.
    """
    deviation, spread = _deviations(values, good)

    def normalize(deviation: jax.Array, good: jax.Array | None, spread: jax.Array) -> jax.Array:
        least: Floor | jax.Array = floor if isinstance(floor, str) else spread * floor
        return _normalize_windows(deviation, good, window, least)

    def zeros(deviation: jax.Array, good: jax.Array | None, spread: jax.Array) -> jax.Array:
        return jnp.zeros_like(_inner(deviation))

    # The branch also keeps XLA from computing the deviations anew for each pixel of a window: masked frames
    # take twice as long on a CPU without it.
    return jax.lax.cond(spread[0, 0] > 0, normalize, zeros, deviation, good, spread)


def check_options(window: str, floor: object) -> None:
    """Refuse unknown options.

    Args:
        window: see `local_contrast_normalize`.
        floor: see `local_contrast_normalize`.

    Raises:
        UserError: an unknown window, or a floor that is neither "mean" nor a number of at least 0.
    """
    if window not in _WINDOWS:
        raise UserError(f"unknown window {window!r}; choose one of: {', '.join(_WINDOWS)}")
    if floor != "mean" and not (isinstance(floor, (int, float)) and floor >= 0):
        raise UserError(f"the floor {floor!r} is neither a number of at least 0 nor 'mean'")


def storable(frames: Array) -> Array:
    """Give frames a dtype that JAX keeps: 64 bits become float32, and bytes the machine's order.

    JAX would wrap 64-bit integers to 32 bits and refuses foreign byte orders.

    Args:
        frames: any real array.
    """
    if frames.dtype.itemsize == 8:
        with np.errstate(over="ignore"):
            return frames.astype(np.float32)
    return (
        frames.astype(frames.dtype.newbyteorder("="), copy=False)
        if isinstance(frames, np.ndarray)
        else frames
    )


def _prepared(frame: ArrayLike, good: ArrayLike | None) -> tuple[jax.Array, jax.Array | None]:
    values = jnp.asarray(storable(frame if isinstance(frame, jax.Array) else np.asarray(frame)))
    finite = jnp.isfinite(values) if jnp.issubdtype(values.dtype, jnp.floating) else None
    return values, both(None if good is None else jnp.asarray(good, bool), finite)


def _deviations(values: jax.Array, good: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Subtract each frame's mean, in float32 but without losing what a large mean would cost.

    Args:
        values: (..., height, width).
        good: bool, broadcastable to `values`, or None: all are good.

    Returns:
        The deviations, 0 at bad pixels, and their standard deviation (..., 1, 1). Floats come in units of a
        power of two near the largest value, so that no square overflows: only ratios of the two have meaning.
    """
    single = values.astype(jnp.float32)
    weights = None
    if good is not None:
        good = jnp.broadcast_to(good, values.shape)
        weights = good.astype(jnp.float32)
        single = jnp.where(good, single, 0)
    if jnp.issubdtype(values.dtype, jnp.floating):
        single = _scaled(single)
    pivot = _mean(single, weights)
    if jnp.issubdtype(values.dtype, jnp.floating):
        deviation = single - pivot
    elif values.dtype.itemsize < 4:
        deviation = single - jnp.round(pivot)
    else:
        deviation = _subtract_whole(values, jnp.round(pivot))
    # Equal pixels are told by comparing them: the rounding error of a mean would pass for a variance.
    varies = _extreme(jnp.max, deviation, good, -jnp.inf) > _extreme(jnp.min, deviation, good, jnp.inf)
    # The first mean carries the rounding error of a sum as large as the values; the second is near 0.
    deviation = (deviation - _mean(deviation, weights)) * varies
    if weights is not None:
        deviation = deviation * weights
    return deviation, jnp.sqrt(_mean(deviation * deviation, weights))


def _scaled(values: jax.Array) -> jax.Array:
    exponent = jnp.frexp(jnp.max(jnp.abs(values), (-2, -1), keepdims=True))[1]
    return values * jnp.ldexp(jnp.float32(1), jnp.clip(-exponent, -126, 126))


def _subtract_whole(values: jax.Array, pivot: jax.Array) -> jax.Array:
    """Subtract a whole number from 32-bit integers, exactly but for the rounding of the result.

    The upper 20 bits and the lower 12 are subtracted apart, each exact in float32.
    """
    upper, lower = (values >> 12).astype(jnp.int32), (values & 0xFFF).astype(jnp.int32)
    upper_pivot = jnp.floor(pivot / 4096)
    lower_pivot = pivot - upper_pivot * 4096
    return (upper.astype(jnp.float32) - upper_pivot) * 4096 + (lower.astype(jnp.float32) - lower_pivot)


def _extreme(
    reduce: Callable[..., jax.Array], values: jax.Array, good: jax.Array | None, neutral: float
) -> jax.Array:
    return reduce(values if good is None else jnp.where(good, values, neutral), (-2, -1), keepdims=True)


def _mean(values: jax.Array, weights: jax.Array | None) -> jax.Array:
    """Weighted mean of each frame, keeping both axes; 0 where all weights are 0."""
    if weights is None:
        return jnp.mean(values, (-2, -1), keepdims=True)
    total = jnp.sum(values * weights, (-2, -1), keepdims=True)
    return total / jnp.maximum(jnp.sum(weights, (-2, -1), keepdims=True), 1)


def _normalize_windows(
    values: jax.Array, good: jax.Array | None, window: WindowName, floor: Floor | jax.Array
) -> jax.Array:
    """LCN of float32 values that are 0 at bad pixels; `floor` may be an array (..., 1, 1)."""
    weights = None if good is None else jnp.broadcast_to(good, values.shape).astype(jnp.float32)
    mean, variance = _window_statistics(values, weights, _WINDOWS[window])
    deviation = jnp.sqrt(variance)
    inner_weights = None if weights is None else _inner(weights)
    least = _mean(deviation, inner_weights) if isinstance(floor, str) else floor
    divisor = jnp.maximum(deviation, least)
    normalized = (_inner(values) - mean) / jnp.where(divisor > 0, divisor, 1)
    return normalized if inner_weights is None else normalized * inner_weights


def _inner(values: jax.Array) -> jax.Array:
    return values[..., HALF_WINDOW:-HALF_WINDOW, HALF_WINDOW:-HALF_WINDOW]


def window_shifts(values: jax.Array, axis: int) -> list[jax.Array]:
    """Views of the window's pixels along one axis: entry k holds pixel i + k at i."""
    length = values.shape[axis] - WINDOW + 1
    return [jax.lax.slice_in_dim(values, k, k + length, axis=axis) for k in range(WINDOW)]


def _weighted_sum(terms: Sequence[Any], taps: Sequence[float]) -> Any:
    total = terms[0] * taps[0]
    for term, tap in zip(terms[1:], taps[1:], strict=True):
        total = total + term * tap
    return total


def _reciprocal(count: Any) -> Any:
    return 1 / count if isinstance(count, float) else 1 / jnp.where(count > 0, count, 1)


def _window_statistics(
    values: jax.Array, weights: jax.Array | None, taps: Sequence[float]
) -> tuple[jax.Array, jax.Array]:
    """Mean and variance over the good pixels of every window: first along its rows, then over them.

    The variance of a window is the mean of its rows' variances plus the variance of its rows' means. Both are
    sums of squares, where mean(z^2) - mean(z)^2 would cancel in float32 on a bright, smooth background. Rows
    come first because XLA's CPU code for the other order is several times slower.

    Args:
        values: (..., height, width), 0 at bad pixels.
        weights: of that shape, 1 at good pixels and 0 at bad ones, or None: all are good.
        taps: the window's weights along one axis.

    Returns:
        Both (..., height - 4, width - 4), 0 where a window has no good pixel.
    """
    pixels = window_shifts(values, -1)
    present: Sequence[Any] = [1.0] * WINDOW if weights is None else window_shifts(weights, -1)
    row_count = _weighted_sum(present, taps)
    row_mean = _weighted_sum(pixels, taps) * _reciprocal(row_count)
    # At a bad pixel both terms are 0.
    squares = [(pixel - here * row_mean) ** 2 for pixel, here in zip(pixels, present, strict=True)]

    row_means, row_squares = window_shifts(row_mean, -2), window_shifts(_weighted_sum(squares, taps), -2)
    row_counts = [row_count] * WINDOW if weights is None else window_shifts(row_count, -2)
    scale = _reciprocal(_weighted_sum(row_counts, taps))
    mean = _weighted_sum([n * row for n, row in zip(row_counts, row_means, strict=True)], taps) * scale
    terms = [
        inside + n * (row - mean) ** 2
        for inside, n, row in zip(row_squares, row_counts, row_means, strict=True)
    ]
    return mean, _weighted_sum(terms, taps) * scale
