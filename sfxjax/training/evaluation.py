"""Scores of maps in memory and what they come to: their summary, and the calibration of a network's logits."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.data.batches import filled
from sfxjax.evaluation.metrics import miss_accuracy_at_recall, summary
from sfxjax.models.checkpoint import TrainedModel
from sfxjax.models.stem import BaseConfig

SCORE_BATCH = 64
RECALLS = (0.90, 0.95, 0.99)
# A network whose recall exceeds its false alarms by less says nothing about the fraction of positives.
LEAST_DIFFERENCE = 0.3


def summarize(positive: np.ndarray, scores: np.ndarray, threshold: float = 0.5) -> dict[str, Any]:
    """Sum up scores: `sfxjax.evaluation.metrics.summary`, and the accuracy on misses at fixed recalls.

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


def at_chance(tested: Mapping[str, Any]) -> bool:
    """Tell whether a network may be no better than a coin: 50 % balanced accuracy lies within its 95 % interval, or above.

    Args:
        tested: of `summarize`; without frames of both classes nothing can be told, and it is not.
    """
    low = tested["balanced_accuracy"]["low"]
    return low is not None and low <= 50


def logit_bias(positive: np.ndarray, scores: np.ndarray) -> float:
    """Find the shift of the logits that suits frames whose labels may be used.

    A network that normalises by a batch's statistics in training and by running ones afterwards answers a little higher or
    lower than it was trained to. One number mends that, the minimum of the class-balanced cross entropy (Platt
    scaling with its slope held at one), after which a score of 0.5 means even odds.

    Args:
        positive: (n,) bool labels.
        scores: (n,) probabilities.

    Returns:
        What to add to the logits, within +-8; 0 where one class is missing.
    """
    from scipy.optimize import minimize_scalar

    positive = np.asarray(positive, bool)
    if positive.all() or not positive.any():
        return 0.0
    values = logits(scores)

    def loss(shift: float) -> float:
        hits = np.logaddexp(0.0, -(values[positive] + shift)).mean()
        return float(hits + np.logaddexp(0.0, values[~positive] + shift).mean())

    return float(minimize_scalar(loss, bounds=(-8.0, 8.0), method="bounded").x)


def positive_fraction(recall: float, false_alarms: float, called: float) -> float:
    """Estimate the fraction of positives among frames without labels, from how often a network calls frames positive.

    Args:
        recall: fraction of labelled positives called positive, or their mean probability.
        false_alarms: the same of labelled negatives.
        called: the same of the frames without labels.

    Returns:
        Fraction from 0.1 to 0.9; 0.5 where the network hardly tells the classes apart.

    References:
        Lipton et al., ICML 2018, for two classes.
    """
    if recall - false_alarms < LEAST_DIFFERENCE:
        return 0.5
    return float(np.clip((called - false_alarms) / (recall - false_alarms), 0.1, 0.9))


def logits(scores: np.ndarray) -> np.ndarray:
    """Return the log odds of probabilities, float64, kept finite."""
    clipped = np.clip(np.asarray(scores, np.float64), 1e-9, 1.0 - 1e-7)
    return np.log(clipped) - np.log1p(-clipped)


def map_logits(model: TrainedModel, maps: np.ndarray) -> np.ndarray:
    """Return the (n,) logits of (n, ...) maps held in memory, batch by batch."""
    parts = []
    for start in range(0, len(maps), SCORE_BATCH):
        batch = maps[start : start + SCORE_BATCH]
        logits = _map_logits(model.variables, filled(batch, SCORE_BATCH), model.config)
        parts.append(np.asarray(logits)[: len(batch)])
    return np.concatenate(parts)


@partial(jax.jit, static_argnames="config")
def _map_logits(variables: dict[str, Any], maps: jax.Array, config: BaseConfig) -> jax.Array:
    return TrainedModel(config, variables).map_logits(maps.astype(jnp.float32))
