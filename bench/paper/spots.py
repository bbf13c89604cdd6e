"""The spot counter as runs beside the trained ones: counted once a set, with a threshold for every set and split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sfxjax.data.labels import MISS
from sfxjax.data.sets import open_set
from sfxjax.data.splits import SPLIT_NAMES, split
from sfxjax.progress import progress
from sfxjax.spots.classical import SPOT_THRESHOLD, choose_threshold, count_scores, count_set
from sfxjax.training.published import SETS

from .plans import Network
from .runs import TrainedRun


def count_sets(data: Path, frames: int) -> dict[str, Any]:
    """Count the spots of every frame of the sets in a folder, so many each.

    Returns:
        JSON-ready: `spots`, the counts by set; `simulated`, whether a set is.
    """
    spots: dict[str, list[int]] = {}
    simulated = False
    with progress("counting spots", len(SETS) * frames) as advance:
        for name in SETS:
            with open_set(data, name) as frame_set:
                spots[name] = count_set(frame_set, range(frames), advance).tolist()
                simulated |= frame_set.simulated
    return {"spots": spots, "simulated": simulated}


def spot_counters(
    spots: Mapping[str, Sequence[int]], classes: dict[str, np.ndarray], simulated: bool
) -> list[TrainedRun]:
    """Choose a threshold on the validation frames of every set and split, and return each as a run.

    Args:
        spots: set -> spot counts of its frames.
        classes: set -> (frames,) MISS, MAYBE or HIT.
        simulated: whether a set is.

    Raises:
        UserError: the validation frames of a split are all of one class.
    """
    counts = {name: np.asarray(each) for name, each in spots.items()}
    runs = []
    for name, part in product(counts, SPLIT_NAMES):
        chosen = np.asarray(split(part, len(counts[name])).validation)
        threshold = choose_threshold(counts[name][chosen], classes[name][chosen] != MISS)
        record = {
            "method": "spot_counter",
            "source": name,
            "target": None,
            "labels": len(chosen),
            "reduction": None,
            "seed": 0,
            "spot_count_threshold": threshold,
            "recipe": {"least_signal_to_noise": SPOT_THRESHOLD},
            "device": jax.local_devices()[0].device_kind,
            "jax": jax.__version__,
            "simulated": simulated,
        }
        scores = {key: count_scores(values, threshold).astype(np.float32) for key, values in counts.items()}
        runs.append(TrainedRun(Network("spot_counter", part, name), record, scores, classes))
    return runs
