"""Which frames each step sees: drawn on the host from the seed and the epoch alone, so that a resumed run draws the same."""

from __future__ import annotations

import numpy as np

from sfxjax.models.networks import ORIENTATIONS
from sfxjax.training.step import BatchIndices


def reversal_strength(progress: np.ndarray, full: float) -> np.ndarray:
    """Ramp of the gradient reversal, from 0 to nearly `full` (Ganin et al. 2016, section 5.2.2).

    Args:
        progress: fraction of the training done, 0 to 1.
        full: strength at the end.
    """
    return full * (2.0 / (1.0 + np.exp(-10.0 * progress)) - 1.0)


def draw_epoch(
    positive: np.ndarray,
    targets: int,
    *,
    epoch: int,
    epochs: int,
    steps: int,
    batch: int,
    strength: float,
    seed: int,
    fraction: float = 0.5,
) -> BatchIndices:
    """Draw the frames of an epoch's batches: from the source with a given fraction of positives, the target evenly.

    Frames are taken from shuffled passes over each class, so that all of them come equally often.

    Args:
        positive: (n,) bool, the source's labels.
        targets: number of target frames; 0 without a target.
        epoch: counted from 0.
        epochs: of the whole training, for the reversal's ramp.
        steps: in this epoch.
        batch: source frames a step, and as many target frames.
        strength: of the reversal at the end.
        seed: of the run.
        fraction: of positives among the source frames, above 0 and below 1.
    """
    rng = np.random.default_rng([seed, epoch])

    def passes(pool: np.ndarray, count: int) -> np.ndarray:
        rounds = -(-count // max(len(pool), 1))
        return np.concatenate([rng.permutation(pool) for _ in range(rounds)])[:count]

    # Rounded so that the whole epoch has the fraction, and each step nearly so.
    bounds = np.floor(np.arange(steps + 1) * batch * fraction + 1e-9).astype(int)
    counts = np.diff(bounds)
    hits = passes(np.flatnonzero(positive), bounds[-1])
    misses = passes(np.flatnonzero(~positive), steps * batch - bounds[-1])
    # Evenly spread over a step, so that every device has its share of either class.
    places = np.arange(batch + 1)
    is_hit = np.diff(np.ceil(places * counts[:, None] / batch - 1e-9), axis=1) > 0
    source = np.empty((steps, batch), int)
    source[is_hit], source[~is_hit] = hits, misses
    target = passes(np.arange(targets), steps * batch) if targets else np.zeros(steps * batch)
    progress = (epoch * steps + np.arange(steps)) / (epochs * steps)
    return BatchIndices(
        source=source.astype(np.int32),
        target=target.reshape(steps, batch).astype(np.int32),
        orientation=rng.integers(0, ORIENTATIONS, steps).astype(np.int32),
        strength=reversal_strength(progress, strength).astype(np.float32),
        fraction=np.full(steps, fraction, np.float32),
    )
