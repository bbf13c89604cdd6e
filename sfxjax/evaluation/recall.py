"""A threshold that keeps a wanted fraction of the positives, with a stated confidence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import beta

from sfxjax.errors import UserError

CONFIDENCE = 0.95


@dataclass(frozen=True)
class RecallThreshold:
    """A threshold from labelled frames.

    Attributes:
        threshold: score from which a frame is a hit.
        recall: of the positives among the labelled frames.
        bound: lower bound of the recall on all frames like these, at the confidence asked for.
        kept: fraction of all labelled frames at or above the threshold.
        positives: how many labelled positives there were.
    """

    threshold: float
    recall: float
    bound: float
    kept: float
    positives: int


def recall_bound(found: int, positives: int, confidence: float = CONFIDENCE) -> float:
    """Return the one-sided Clopper-Pearson lower bound of a recall.

    Args:
        found: positives at or above the threshold.
        positives: all of them.
        confidence: probability that the bound holds.

    References:
        Clopper and Pearson, Biometrika 26:404, 1934. For a threshold that is itself the j-th smallest score of n
        positives, the bound is exact too: the recall then follows Beta(n - j + 1, j).
    """
    return 0.0 if found == 0 else float(beta.ppf(1 - confidence, found, positives - found + 1))


def threshold_for_recall(
    scores: np.ndarray, positives: np.ndarray, recall: float, confidence: float = CONFIDENCE
) -> RecallThreshold:
    """Find the highest threshold whose recall is at least `recall` with the given confidence.

    Args:
        scores: (n,) of labelled frames that the model was not trained on.
        positives: bool (n,).
        recall: wanted, between 0 and 1.
        confidence: probability that the recall holds on frames like these.

    Raises:
        UserError: a recall outside 0 to 1, or too few positives to prove it.
    """
    if not 0 < recall < 1:
        raise UserError(f"a recall of {recall} cannot be promised; give one between 0 and 1")
    scores, positives = np.asarray(scores, np.float32), np.asarray(positives, bool)
    own = np.sort(scores[positives])
    count = len(own)
    needed = math.ceil(math.log(1 - confidence) / math.log(recall))
    if count < needed:
        most = f"; with these --recall {(1 - confidence) ** (1 / count):.3f} can be" if count else ""
        raise UserError(
            f"a recall of {recall} cannot be promised with {100 * confidence:.0f} % confidence from {count} labelled "
            f"positives ({needed} are needed){most}"
        )
    # The bound falls with every positive that is lost: lose as many as the wanted recall allows.
    found_by = count - np.arange(count)
    lost = int(np.sum(beta.ppf(1 - confidence, found_by, count - found_by + 1) >= recall)) - 1
    threshold = float(own[lost])
    found = int(np.sum(own >= threshold))
    return RecallThreshold(
        threshold,
        found / count,
        recall_bound(found, count, confidence),
        float(np.mean(scores >= np.float32(threshold))),
        count,
    )


def validation_frames(trained_on: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return (scores, positives) of the frames a model was validated on.

    Raises:
        UserError: the model has none, or they are damaged.
    """
    validation = trained_on.get("validation")
    if not isinstance(validation, dict):
        raise UserError(
            "this model keeps no labelled validation frames, which --recall needs; give --threshold"
        )
    try:
        scores = np.asarray(validation["scores"], np.float32)
        positives = np.asarray(validation["positives"], bool)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"the model's validation frames are damaged ({error}); train it again") from error
    if scores.ndim != 1 or scores.shape != positives.shape or not np.isfinite(scores).all():
        raise UserError("the model's validation frames are damaged; train it again")
    return scores, positives
