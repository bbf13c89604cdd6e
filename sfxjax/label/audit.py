"""The audit: what a random sample of a run's frames, labelled by hand, proves of a way of screening.

The sample is drawn without replacement, each frame with the same probability, and none of its labels is learnt from. Of the
sample's positives, those kept are then as if drawn from all positives, whatever the scores are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from sfxjax.errors import UserError
from sfxjax.evaluation.recall import CONFIDENCE, threshold_for_recall


@dataclass(frozen=True)
class Share:
    """A share of frames with its exact 95 % interval.

    Attributes:
        part: frames of the sample that count.
        whole: frames of the sample that could.
        low: lower end, 0 where there are none.
        high: upper end, 1 where there are none.
    """

    part: int
    whole: int
    low: float
    high: float


@dataclass(frozen=True)
class Audit:
    """What a sample proves.

    Attributes:
        recall: positives that are kept.
        purity: kept frames that are positives.
        hit_rate: frames that are positives.
        threshold: score from which frames are to be kept for the recall asked for, with 95 % confidence; None where the
            sample cannot prove it.
        advice: why not, else empty.
    """

    recall: Share
    purity: Share
    hit_rate: Share
    threshold: float | None
    advice: str


def sample_order(frames: int, seed: int = 0) -> np.ndarray:
    """Return the frames in a random order: the first n are a random sample of n, (frames,)."""
    return np.random.default_rng(seed).permutation(frames)


def share(part: int, whole: int) -> Share:
    """Return a share with its interval.

    References:
        Clopper and Pearson, Biometrika 26:404 (1934); for draws without replacement it is conservative.
    """
    if whole == 0:
        return Share(0, 0, 0.0, 1.0)
    interval = binomtest(part, whole).proportion_ci(CONFIDENCE, method="exact")
    return Share(part, whole, float(interval.low), float(interval.high))


def audit(scores: np.ndarray, positives: np.ndarray, threshold: float, wanted_recall: float = 0.95) -> Audit:
    """Judge a way of screening by a random sample.

    Args:
        scores: (n,) of the sample's frames, from a model that none of their labels was shown to.
        positives: bool (n,), hit or maybe.
        threshold: score from which a frame is kept.
        wanted_recall: for which a threshold is looked for.

    Raises:
        UserError: a recall outside 0 to 1.
    """
    scores, positives = np.asarray(scores, np.float32), np.asarray(positives, bool)
    kept = scores >= np.float32(threshold)
    right = int((kept & positives).sum())
    advised, advice = None, ""
    try:
        advised = threshold_for_recall(scores, positives, wanted_recall).threshold
    except UserError as error:
        if not 0 < wanted_recall < 1:
            raise
        advice = str(error)
    return Audit(
        share(right, int(positives.sum())),
        share(right, int(kept.sum())),
        share(int(positives.sum()), len(scores)),
        advised,
        advice,
    )
