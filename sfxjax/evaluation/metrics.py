"""Counts, rates and curves of a two-class decision, with confidence intervals.

Positive is what the paper (Xie, Liu et al., Optics Express 31(20):32909, 2023, section 3.2) calls Hit or
Maybe, negative is Miss. Its two figures are the recall (positive frames kept) and the accuracy on Miss
(negative frames rejected, also called specificity).

Everything is NumPy on the host. A rate whose class has no frame has the value None, never NaN, and None is
what `summary` hands to JSON.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sfxjax.errors import UserError


@dataclass(frozen=True)
class Rate:
    """A rate between 0 and 1 and its 95 % confidence interval; all None where nothing was counted."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Counts:
    """The four counts of a two-class decision, in frames."""

    true_positive: int
    false_negative: int
    true_negative: int
    false_positive: int

    @property
    def recall(self) -> Rate:
        """Positive frames called positive, of all positive frames; Wilson interval."""
        return rate(self.true_positive, self.true_positive + self.false_negative)

    @property
    def miss_accuracy(self) -> Rate:
        """Negative frames called negative, of all negative frames (specificity); Wilson interval."""
        return rate(self.true_negative, self.true_negative + self.false_positive)

    @property
    def precision(self) -> Rate:
        """Positive frames among those called positive; Wilson interval."""
        return rate(self.true_positive, self.true_positive + self.false_positive)

    @property
    def balanced_accuracy(self) -> Rate:
        """Mean of recall and miss accuracy; None where either class is empty.

        The interval joins the two Wilson intervals (l, u) around p by the square-and-add method: the lower
        bound lies sqrt((p1 - l1)^2 + (p2 - l2)^2) / 2 below the mean, the upper one likewise above it.

        References:
            Newcombe, Statistics in Medicine 17:873 (1998), method 10.
        """
        rates = (self.recall, self.miss_accuracy)
        below = above = total = 0.0
        for rate in rates:
            if rate.value is None or rate.low is None or rate.high is None:
                return Rate(None, None, None)
            total += rate.value
            below += (rate.value - rate.low) ** 2
            above += (rate.high - rate.value) ** 2
        return Rate(total / 2, (total - math.sqrt(below)) / 2, (total + math.sqrt(above)) / 2)


def count(labels: ArrayLike, scores: ArrayLike, threshold: float = 0.5) -> Counts:
    """Count right and wrong decisions.

    Args:
        labels: (frames,), 1 or True for a positive frame, 0 or False for a negative one.
        scores: (frames,), the larger the more positive; or decisions, 0 and 1.
        threshold: a frame is called positive where its score is at least this.

    Raises:
        UserError: unequal lengths, labels other than 0 and 1, or a score that is not a number.
    """
    positive, scores = _checked(labels, scores)
    called = scores >= threshold
    return Counts(
        true_positive=int(np.sum(positive & called)),
        false_negative=int(np.sum(positive & ~called)),
        true_negative=int(np.sum(~positive & ~called)),
        false_positive=int(np.sum(~positive & called)),
    )


def wilson_interval(successes: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Confidence interval of a binomial proportion by Wilson's score method.

    Args:
        successes: between 0 and `total`.
        total: number of trials; 0 excludes nothing and gives (0, 1).
        confidence: coverage, between 0 and 1.

    Returns:
        The lower and upper bound, within [0, 1].

    Raises:
        UserError: impossible counts or coverage.

    References:
        Wilson, J. Am. Stat. Assoc. 22:209 (1927).
    """
    if not 0 <= successes <= total:
        raise UserError(f"{successes} successes in {total} trials cannot be; give 0 <= successes <= total")
    if not 0 < confidence < 1:
        raise UserError(f"a confidence of {confidence} is not between 0 and 1")
    if total == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    reach = z * math.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2) / (1 + z * z / total)
    # At the ends the bound is 0 or 1 exactly, which rounding would miss.
    low = 0.0 if successes == 0 else centre - reach
    high = 1.0 if successes == total else centre + reach
    return low, high


def rate(successes: int, total: int) -> Rate:
    """Return a rate and its Wilson interval, all None of nothing."""
    if total == 0:
        return Rate(None, None, None)
    return Rate(successes / total, *wilson_interval(successes, total))


def area_under_curve(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Area under the receiver operating characteristic.

    It is the chance that a positive frame scores above a negative one, a tie counting half: from the sum of
    the positive frames' ranks (Mann and Whitney), tied scores sharing their mean rank.

    Args:
        labels: as for `count`.
        scores: as for `count`.

    Returns:
        Between 0 and 1; None where either class is empty.

    Raises:
        UserError: as for `count`.
    """
    positive, scores = _checked(labels, scores)
    positives = int(np.sum(positive))
    negatives = positive.size - positives
    if positives == 0 or negatives == 0:
        return None
    _, which, repeats = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(repeats) - (repeats - 1) / 2
    rank_sum = float(np.sum(mean_rank[which][positive]))
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def threshold_at_recall(labels: ArrayLike, scores: ArrayLike, recall: float) -> float | None:
    """Find the highest threshold, as `count` uses it, that keeps at least this share of the positive frames.

    Args:
        labels: as for `count`.
        scores: as for `count`.
        recall: above 0, at most 1.

    Returns:
        One of the positive frames' scores; None where there is no positive frame.

    Raises:
        UserError: as for `count`, or a recall out of range.
    """
    if not 0 < recall <= 1:
        raise UserError(f"a recall of {recall} is not above 0 and at most 1")
    positive, scores = _checked(labels, scores)
    descending = np.sort(scores[positive])[::-1]
    if descending.size == 0:
        return None
    # 0.07 * 100 is a little over 7: without the margin it would ask for 8 frames.
    kept = math.ceil(recall * descending.size - 1e-9 * descending.size)
    return float(descending[max(kept, 1) - 1])


def miss_accuracy_at_recall(labels: ArrayLike, scores: ArrayLike, recall: float) -> float | None:
    """Miss accuracy at the highest threshold that reaches a recall, which compares methods fairly.

    Args:
        labels: as for `count`.
        scores: as for `count`.
        recall: above 0, at most 1.

    Returns:
        Between 0 and 1; None where either class is empty.

    Raises:
        UserError: as for `threshold_at_recall`.
    """
    threshold = threshold_at_recall(labels, scores, recall)
    return None if threshold is None else count(labels, scores, threshold).miss_accuracy.value


def summary(labels: ArrayLike, scores: ArrayLike, threshold: float = 0.5) -> dict[str, Any]:
    """Sum up a decision in a dictionary that JSON can hold.

    Args:
        labels: as for `count`.
        scores: as for `count`.
        threshold: as for `count`.

    Returns:
        `frames`, `threshold`, `counts` (the fields of `Counts`), `recall`, `miss_accuracy`, `precision` and
        `balanced_accuracy`, each with `percent` and the bounds `low` and `high` of its 95 % interval in
        percent, and `area_under_curve` between 0 and 1. What cannot be told, for want of frames, is None.

    Raises:
        UserError: as for `count`.
    """
    counts = count(labels, scores, threshold)
    rates = {
        name: _in_percent(getattr(counts, name))
        for name in ("recall", "miss_accuracy", "precision", "balanced_accuracy")
    }
    return {
        "frames": sum(asdict(counts).values()),
        "threshold": float(threshold),
        "counts": asdict(counts),
        **rates,
        "area_under_curve": area_under_curve(labels, scores),
    }


def _in_percent(rate: Rate) -> dict[str, float | None]:
    def times_100(value: float | None) -> float | None:
        return None if value is None else 100 * value

    return {"percent": times_100(rate.value), "low": times_100(rate.low), "high": times_100(rate.high)}


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = np.asarray(labels), np.asarray(scores)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise UserError(
            f"labels of shape {labels.shape} and scores of shape {scores.shape} do not match; give one of"
            " each for each frame"
        )
    if not np.all((labels == 0) | (labels == 1)):
        raise UserError("labels must be 0 (miss) or 1 (hit or maybe)")
    scores = scores.astype(np.float64)
    if np.any(np.isnan(scores)):
        raise UserError("a score is not a number (NaN); look for NaN in the frames or in the weights")
    return labels.astype(bool), scores
