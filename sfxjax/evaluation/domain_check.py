"""Warns when a run's frames are unlike those a model was trained on.

Compared are statistics of pre-processed frames that differ between detectors but not between hits and misses: the noise of the
background, its correlation and its distribution over the frame. They are quantiles, which some hundred Bragg spots, a
thousandth of the pixels, hardly change.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.order import at_place
from sfxjax.preprocess.tiled import LATTICE_COLUMNS, LATTICE_ROWS

NAMES = (
    "median_magnitude",
    "upper_quartile_to_median",
    "row_extent_to_median",
    "correlation_fast",
    "correlation_slow",
    "inner_to_outer_noise",
)

STRIDE = LATTICE_COLUMNS
# A frame is unlike the training frames in one statistic where it lies outside their range, widened by this fraction of its
# width on either side; a run is, where more than UNLIKE_FRACTION of its frames are.
RANGE_MARGIN = 0.5
UNLIKE_FRACTION = 0.25


def lattice_statistics(extents: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Compute a frame's statistics from every fourth row and every twelfth column.

    Args:
        extents: (720,) largest minus smallest value of each row.
        rows: (180, 720), every fourth row of the frame.
        columns: (720, 60), every twelfth column of it.

    Returns:
        (6,) float32 in the order of `NAMES`: the median of |x|; the upper quartile of |x| and the first decile
        of the rows' extents, both over that median; the correlation of neighbours along fast and slow scan, and the mean of |x|
        in the inner half of the frame over that in the outer, all three of values clipped at three medians, so that spots
        hardly count. Invalid pixels, which are 0, are left out; a frame of invalid pixels gives zeros.
    """
    # A sort of all pixels would cost more than the network. Without a barrier a CPU reads the rows once for every number.
    rows, columns, extents = jax.lax.optimization_barrier((rows[:: STRIDE // LATTICE_ROWS], columns, extents))
    sample = jnp.abs(columns[::STRIDE])
    height, width = sample.shape
    median, upper = _quantiles(sample, (0.5, 0.75))
    # The normalisation's scale is the whole frame's, which strong spots raise: only the first statistic keeps it.
    scale = jnp.where(median > 0, median, 1)

    def clipped(values: jax.Array) -> jax.Array:
        return jnp.clip(values, -3 * median, 3 * median)

    fast = _correlation(clipped(rows[:, :-1]), clipped(rows[:, 1:]))
    slow = _correlation(clipped(columns[:-1]), clipped(columns[1:]))
    ss, fs = jnp.arange(height)[:, None], jnp.arange(width)[None, :]
    inner = (jnp.abs(ss - height / 2) < height / 2**1.5) & (jnp.abs(fs - width / 2) < width / 2**1.5)
    limited = jnp.minimum(sample, 3 * median)
    outer_mean = _mean_of_valid(limited, (sample > 0) & ~inner)
    return jnp.stack(
        [
            median,
            upper / scale,
            _quantiles(extents, (0.1,))[0] / scale,
            fast,
            slow,
            _mean_of_valid(limited, (sample > 0) & inner) / jnp.where(outer_mean > 0, outer_mean, 1),
        ]
    )


def summarize_domains(statistics: np.ndarray) -> dict[str, Any]:
    """Describe the statistics of the training frames, ready for JSON.

    Args:
        statistics: (n, 6), from `lattice_statistics`.

    Returns:
        `names`, and for each: `mean`, `standard_deviation`, `low` and `high`, the 1st and 99th percentile.

    Raises:
        ValueError: there are no finite statistics.
    """
    values = np.asarray(statistics, np.float64).reshape(-1, len(NAMES))
    values = values[np.isfinite(values).all(axis=1)]
    if not len(values):
        raise ValueError("no frames to summarize")
    low, high = np.percentile(values, [1, 99], axis=0)
    columns = {
        "mean": values.mean(0),
        "standard_deviation": values.std(0),
        "low": low,
        "high": high,
    }
    return {"names": list(NAMES), **{key: [float(x) for x in column] for key, column in columns.items()}}


def compare_domains(statistics: np.ndarray, trained: dict[str, Any]) -> list[str]:
    """Say in which statistics a run's frames are unlike the training frames.

    Args:
        statistics: (n, 6) of the run's frames.
        trained: what `summarize` gave for the training frames.

    Returns:
        One line for each statistic in which more than a quarter of the run's frames lie outside the training
        frames' range (1st to 99th percentile, widened by half its width on either side); usually none.
    """
    values = np.asarray(statistics, np.float64).reshape(-1, len(NAMES))
    values = values[np.isfinite(values).all(axis=1)]
    lines: list[str] = []
    if not len(values):
        return lines
    for name, low, high in zip(trained["names"], trained["low"], trained["high"], strict=True):
        if name not in NAMES:
            continue
        column = values[:, NAMES.index(name)]
        margin = RANGE_MARGIN * max(high - low, 1e-3)
        outside = float(np.mean((column < low - margin) | (column > high + margin)))
        if outside > UNLIKE_FRACTION:
            lines.append(
                f"{name.replace('_', ' ')}: {100 * outside:.0f} % of the frames lie outside what the "
                f"training frames had, {low:.3g} to {high:.3g} (median here {np.median(column):.3g})"
            )
    return lines


def _quantiles(values: jax.Array, fractions: tuple[float, ...]) -> list[jax.Array]:
    """Return quantiles of the values above 0; 0 where there are none."""
    count = (values > 0).sum()
    above = jnp.where(values > 0, values, jnp.inf)
    places = [jnp.clip((part * (count - 1)).astype(jnp.int32), 0, values.size - 1) for part in fractions]
    return [jnp.where(count > 0, at_place(above, place), 0) for place in places]


def _mean_of_valid(values: jax.Array, valid: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(valid, values, 0)) / jnp.maximum(valid.sum(), 1)


def _correlation(first: jax.Array, second: jax.Array) -> jax.Array:
    both = ((first != 0) & (second != 0)).astype(jnp.float32)
    power = 0.5 * jnp.sum((first**2 + second**2) * both)
    return jnp.sum(first * second * both) / jnp.where(power > 0, power, 1)
