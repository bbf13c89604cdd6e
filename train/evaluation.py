"""Scores of whole sets by a trained model, and their summary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sfxjax.cxidb import FrameSet
from sfxjax.metrics import miss_accuracy_at_recall, summary
from sfxjax.screener import Screener
from sfxjax.storage import TrainedModel

RECALLS = (0.90, 0.95, 0.99)


def score_set(
    model: TrainedModel,
    frame_set: FrameSet,
    indices: Sequence[int] | np.ndarray | range,
    advance: Callable[[int], None] = lambda frames: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Score frames of a set as `sfxjax.screen` would, with the set's mask if it has one.

    Args:
        model: the trained model.
        frame_set: the open set.
        indices: frames to score, 0-based.
        advance: told the number of frames done.

    Returns:
        (n,) probabilities of the positive class, and the (n, k) `sfxjax.frame_statistics`. A frame that cannot be
        scored, such as an empty one, gets the score 0, a miss.
    """
    screener = Screener(model)
    mask = frame_set.mask_crop()
    scores, statistics = [], []
    for _, crops in frame_set.batches(indices, screener.batch_size):
        good = np.ones(crops.shape[1:], bool) if mask is None else mask
        part = screener.score_crops(crops, good)
        scores.append(np.nan_to_num(part.scores, nan=0.0))
        statistics.append(part.statistics)
        advance(len(crops))
    return np.concatenate(scores), np.concatenate(statistics)


def summarize(positive: np.ndarray, scores: np.ndarray, threshold: float = 0.5) -> dict[str, Any]:
    """Sum up scores: `sfxjax.metrics.summary`, and the accuracy on misses at fixed recalls.

    Args:
        positive: (n,) bool labels.
        scores: (n,) probabilities.
        threshold: score from which a frame counts as a hit.

    Returns:
        JSON-ready; `miss_accuracy_at_recall` maps "90", "95" and "99" to per cent.
    """
    labels = np.asarray(positive).astype(int)
    at_recall = {
        f"{100 * recall:.0f}": None if value is None else 100 * value
        for recall in RECALLS
        for value in [miss_accuracy_at_recall(labels, scores, recall)]
    }
    return summary(labels, scores, threshold) | {"miss_accuracy_at_recall": at_recall}


def best_threshold(positive: np.ndarray, scores: np.ndarray) -> float:
    """Choose the threshold of the highest balanced accuracy, on frames whose labels may be used.

    Args:
        positive: (n,) bool labels.
        scores: (n,) probabilities.

    Returns:
        The middle of the gap between scores where balanced accuracy is highest; of equal ones the lowest, since a lost
        positive is the costly error. 0.5 where one class is missing.
    """
    positive = np.asarray(positive, bool)
    if positive.all() or not positive.any():
        return 0.5
    edges = np.unique(np.concatenate([[0.0, 1.0], scores]))
    middles = (edges[:-1] + edges[1:]) / 2
    kept = [(scores[positive] >= t).mean() + (scores[~positive] < t).mean() for t in middles]
    return float(middles[int(np.argmax(kept))])
