"""Whether scores are probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

BINS = 10


def reliability(labels: ArrayLike, scores: ArrayLike, bins: int = BINS) -> list[tuple[float, float, int]]:
    """Compare scores with how often they come true, in bins of equal width.

    Args:
        labels: (n,) bool, True for positives.
        scores: (n,) probabilities.
        bins: how many.

    Returns:
        Of each bin that holds frames: mean score, share of positives, number of frames.
    """
    truth, given = np.asarray(labels, bool), np.asarray(scores, float)
    place = np.minimum((given * bins).astype(int), bins - 1)
    groups = [(given[place == k], truth[place == k]) for k in range(bins)]
    return [(float(score.mean()), float(true.mean()), len(score)) for score, true in groups if len(score) > 0]


def expected_calibration_error(labels: ArrayLike, scores: ArrayLike, bins: int = BINS) -> float:
    """Return the mean difference of a frame's bin's score and share of positives (Guo et al., ICML 2017, eq. 5).

    Args:
        labels: (n,) bool, True for positives; n is at least 1.
        scores: (n,) probabilities.
        bins: how many, of equal width.
    """
    rows = reliability(labels, scores, bins)
    total = sum(count for _, _, count in rows)
    return sum(count * abs(score - share) for score, share, count in rows) / total
