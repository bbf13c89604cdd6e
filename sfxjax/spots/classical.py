"""A classical spot finder: counts what stands out from its surroundings, without training, for networks to be compared with.

Every sum below runs over the valid pixels of a window (`sfxjax.preprocess.validity`):

    d = x - mean of x in 11 x 11                           height above the background
    s = sum of d over 3 x 3                                strength
    n = sqrt(pi / 2) * mean of |s| in 21 x 21 without the inner 13 x 13
    q = s / n                                              signal to noise

A spot is a pixel where q is above a threshold and the largest of its 7 x 7; where the d of the brightest of its 3 x 3 is
above 2.5 times the root mean square of d over 11 x 11; and where that pixel carries at most 0.7 of s, which a hot pixel or a
cosmic ray exceeds. n is the standard deviation of normal noise; being made of magnitudes, not of squares, it stays low
among other spots. The noise is that of the frame itself, so neither a gain nor an offset changes the count.

Such local-contrast finders are what beamlines use, for example Cheetah (Barty et al., J. Appl. Cryst. 47:1118, 2014) and
DIALS (Winter et al., Acta Cryst. D 74:85, 2018); this one is neither of them.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from sfxjax.data.batches import READ_BATCH, filled
from sfxjax.data.sets import FrameSet
from sfxjax.errors import UserError
from sfxjax.mapping import map_frames
from sfxjax.preprocess.definition import check_frames
from sfxjax.preprocess.validity import settle

# The least signal to noise. On the first 400 frames of each simulated set 6.5 to 7.5 tell hits from misses equally well.
SPOT_THRESHOLD = 7.0

# Half widths of the windows, pixels.
_BACKGROUND = 5
# A spot lowers d over its own 11 x 11: the noise is measured outside of that.
_NOISE_OUTER, _NOISE_INNER = 10, 6
_SEPARATION = 3
_LEAST_CONTRAST = 2.5
_SPIKE_FRACTION = 0.7
# Noise below this share of the background is rounding, as around masked pixels of a constant frame.
_ROUNDING = 1e-5


def count_spots(
    frames: ArrayLike, mask: ArrayLike | None = None, *, threshold: float = SPOT_THRESHOLD
) -> jax.Array:
    """Count the spots in the central 724 x 724 pixels of frames.

    Args:
        frames: (..., height, width) in detector units, at least 724 x 724, as for `sfxjax.preprocess.preprocess`.
        mask: as there. A spot has nine pixels that count.
        threshold: least signal to noise.

    Returns:
        (...) int32.

    Raises:
        UserError: frames too small or not of real numbers, or a mask of another shape or not bool.
    """
    crops, mask, limit = check_frames(frames, mask)
    return _count_spots(crops, mask, limit, jnp.float32(threshold))


def spot_strengths(
    crop: jax.Array,
    mask: jax.Array | None = None,
    threshold: float | jax.Array = SPOT_THRESHOLD,
    limit: float = math.inf,
) -> jax.Array:
    """Find the spots of one frame.

    Args:
        crop: (height, width) in detector units, any real dtype.
        mask: bool of that shape, True = valid; None: no masked pixels, and negative ones count as 0.
        threshold: least signal to noise.
        limit: value from which a pixel is saturated.

    Returns:
        (height, width) float32: a spot's signal to noise at its middle, 0 elsewhere.
    """
    pixels, _ = settle(crop, mask, limit, mask is not None)
    valid = pixels.valid()
    valid = jnp.ones(pixels.shape, bool) if valid is None else valid
    weights = valid.astype(jnp.float32)
    values = jnp.where(valid, pixels.values.astype(jnp.float32), 0)

    near = jnp.maximum(_window_sum(weights, _BACKGROUND), 1)
    background = _window_sum(values, _BACKGROUND) / near
    height = (values - background) * weights
    spread = jnp.sqrt(_window_sum(height**2, _BACKGROUND) / near)

    window_valid = _window_sum(weights, 1) > 8.5
    strength = jnp.where(window_valid, _window_sum(height, 1), 0)
    ring = jnp.maximum(_ring_sum(window_valid.astype(jnp.float32)), 1)
    noise = math.sqrt(math.pi / 2) * _ring_sum(jnp.abs(strength)) / ring
    judged = window_valid & (noise > _ROUNDING * 9 * background)
    ratio = jnp.where(judged, strength / jnp.where(judged, noise, 1), -jnp.inf)

    brightest = _window_largest(height, 1)
    spot = (ratio > threshold) & (ratio == _window_largest(ratio, _SEPARATION))
    spot &= brightest > _LEAST_CONTRAST * spread
    spot &= brightest <= _SPIKE_FRACTION * strength
    return jnp.where(spot, ratio, 0)


def count_set(
    frame_set: FrameSet,
    indices: Sequence[int] | np.ndarray | range,
    advance: Callable[[int], None] = lambda frames: None,
) -> np.ndarray:
    """Count the spots in frames of a set, with the set's mask if it has one.

    Args:
        frame_set: the open set.
        indices: of the frames, 0-based.
        advance: told the number of frames done, batch by batch.

    Returns:
        (n,) int32.
    """
    counts = [np.empty(0, np.int32)]
    for batch in frame_set.batches(indices, READ_BATCH):
        # One compiled shape.
        crops, count = filled(batch.crops, READ_BATCH), len(batch.crops)
        mask = batch.mask if batch.mask is None or batch.mask.ndim == 2 else filled(batch.mask, READ_BATCH)
        counts.append(np.asarray(count_spots(crops, mask))[:count])
        advance(count)
    return np.concatenate(counts)


def choose_threshold(counts: ArrayLike, positive: ArrayLike) -> int:
    """Choose the number of spots from which on a frame is called positive, on labelled frames.

    Args:
        counts: (n,) spots of each frame.
        positive: (n,) bool, Hit or Maybe.

    Returns:
        The threshold, at least 1, with the highest balanced accuracy; of equals the lowest, since recall comes first.

    Raises:
        UserError: the lengths differ, or one of the classes has no frame.
    """
    counts, positive = np.asarray(counts), np.asarray(positive, bool)
    if counts.ndim != 1 or counts.shape != positive.shape:
        raise UserError(f"{counts.shape} counts and {positive.shape} labels; give one of each for each frame")
    if positive.all() or not positive.any():
        raise UserError("a threshold is chosen on frames of both classes; label a hit or maybe, and a miss")
    # Only a threshold just above the count of some frame differs from the next lower one.
    thresholds = np.unique(np.concatenate([[1], counts + 1]))
    lost = np.searchsorted(np.sort(counts[positive]), thresholds)
    rejected = np.searchsorted(np.sort(counts[~positive]), thresholds)
    # The balanced accuracy times both class sizes, but for constants: whole numbers, so that equals are equal.
    gain = rejected * int(positive.sum()) - lost * int((~positive).sum())
    return int(thresholds[np.argmax(gain)])


def count_scores(counts: ArrayLike, threshold: int) -> np.ndarray:
    """Turn counts into scores in (0, 1) that keep their order and reach 0.5 at the threshold.

    Args:
        counts: (n,) spots of each frame.
        threshold: number of spots, at least 1.

    Returns:
        (n,) float32: (count + 1/2) / (count + 1/2 + threshold).

    Raises:
        UserError: the threshold is below 1.
    """
    if threshold < 1:
        raise UserError(f"a threshold of {threshold} spots is below 1")
    shifted = np.asarray(counts, np.float64) + 0.5
    return (shifted / (shifted + threshold)).astype(np.float32)


@partial(jax.jit, static_argnums=2)
def _count_spots(crops: jax.Array, mask: jax.Array | None, limit: float, threshold: jax.Array) -> jax.Array:
    def one(crop: jax.Array, mask: jax.Array | None) -> jax.Array:
        return jnp.sum(spot_strengths(crop, mask, threshold, limit) > 0, dtype=jnp.int32)

    return map_frames(one, crops, mask)


def _window_sum(values: jax.Array, half: int) -> jax.Array:
    """Sum over the (2 half + 1)^2 pixels around each; pixels outside the frame count as 0."""
    return _over_window(values, half, operator.add, 0.0)


def _window_largest(values: jax.Array, half: int) -> jax.Array:
    return _over_window(values, half, jnp.maximum, -jnp.inf)


def _ring_sum(values: jax.Array) -> jax.Array:
    return _window_sum(values, _NOISE_OUTER) - _window_sum(values, _NOISE_INNER)


def _over_window(
    values: jax.Array, half: int, join: Callable[[jax.Array, jax.Array], jax.Array], outside: float
) -> jax.Array:
    for axis in (1, 0):
        length = values.shape[axis]
        margins = [(half, half) if axis == along else (0, 0) for along in (0, 1)]
        padded = jnp.pad(values, margins, constant_values=outside)
        shifted = partial(jax.lax.slice_in_dim, padded, axis=axis)
        values = reduce(join, [shifted(k, k + length) for k in range(2 * half + 1)])
    return values
