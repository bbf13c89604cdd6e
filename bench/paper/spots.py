"""The spot counter as runs beside the trained ones: counted once a set, with a threshold for every set and split."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sfxjax.data.labels import MISS
from sfxjax.data.sets import open_set
from sfxjax.data.splits import SPLIT_NAMES, split
from sfxjax.files import atomic_folder, atomic_write_json
from sfxjax.json_files import read_json
from sfxjax.progress import progress
from sfxjax.spots.classical import SPOT_THRESHOLD, choose_threshold, count_scores, count_set
from sfxjax.training.run_folder import RESULTS, SCORES_FILE

from .runs import write_test_scores


def run_spot_counter(
    data: str | Path, names: Sequence[str], runs: str | Path, *, quick: bool = False
) -> list[Path]:
    """Count the spots of every frame and leave a run for each set and split, unless that is done.

    Args:
        data: folder of CXIDB 76 or of simulated sets.
        names: of the sets.
        runs: folder of all runs.
        quick: mark the runs as quick.

    Returns:
        The runs' folders, which are named `spot_counter-<SET>-<split>`.

    Raises:
        UserError: a set is missing or damaged, or the validation frames of a split are all of one class.
    """
    with ExitStack() as opened:
        sets = {name: opened.enter_context(open_set(data, name)) for name in names}
        frames = {name: len(each) for name, each in sets.items()}
        about = {
            "frames": frames,
            "simulated": any(each.simulated for each in sets.values()),
            "quick": quick,
            "recipe": {"least_signal_to_noise": SPOT_THRESHOLD},
        }
        folders = [Path(runs) / f"spot_counter-{name}-{part}" for name in names for part in SPLIT_NAMES]
        if all(_is_of(folder, about) for folder in folders):
            return folders
        start = time.monotonic()
        with progress("counting spots", sum(frames.values())) as advance:
            counts = {name: count_set(each, range(len(each)), advance) for name, each in sets.items()}
        rate = sum(frames.values()) / max(time.monotonic() - start, 1e-9)
        classes = {name: each.labels for name, each in sets.items()}
    return write_spot_counters(Path(runs), counts, classes, about | {"frames_per_second": round(rate, 1)})


def write_spot_counters(
    runs: Path, counts: Mapping[str, np.ndarray], classes: Mapping[str, np.ndarray], about: Mapping[str, Any]
) -> list[Path]:
    """Choose a threshold on the validation frames of every set and split, and write each as a run.

    Args:
        runs: folder of the runs.
        counts: set -> (frames,) spots.
        classes: set -> (frames,) MISS, MAYBE or HIT.
        about: what else the records tell: `frames`, `simulated`, `recipe` and the like.

    Returns:
        The runs' folders.

    Raises:
        UserError: the validation frames of a split are all of one class.
    """
    folders = []
    for name, part in ((name, part) for name in counts for part in SPLIT_NAMES):
        chosen = np.asarray(split(part, len(counts[name])).validation)
        threshold = choose_threshold(counts[name][chosen], classes[name][chosen] != MISS)
        record = {
            "method": "spot_counter",
            "source": name,
            "target": None,
            "labels": len(chosen),
            "split": part,
            "reduction": None,
            "seed": 0,
            "spot_count_threshold": threshold,
            "device": jax.local_devices()[0].device_kind,
            "jax": jax.__version__,
            **about,
        }
        folders.append(runs / f"spot_counter-{name}-{part}")
        with atomic_folder(folders[-1]) as whole:
            scores = {key: count_scores(values, threshold) for key, values in counts.items()}
            write_test_scores(whole / SCORES_FILE, scores, classes)
            atomic_write_json(whole / RESULTS, record)
    return folders


def _is_of(folder: Path, about: Mapping[str, Any]) -> bool:
    try:
        record = read_json(folder / RESULTS)
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and about.items() <= record.items()
