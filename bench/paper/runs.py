"""Networks as the paper's tables need them, trained: the score of every frame of every set, and what their tests come to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sfxjax.data.labels import MISS
from sfxjax.errors import UserError
from sfxjax.text import plus_minus
from sfxjax.training.config import RunConfig
from sfxjax.training.evaluation import summarize
from sfxjax.training.published import FrameRange, frame_range
from sfxjax.training.run_folder import SCORES_FILE, finished
from sfxjax.training.scores import read_scores

from .plans import Network

METRICS = ("recall", "miss_accuracy", "balanced_accuracy")


@dataclass(frozen=True)
class TrainedRun:
    """A network that was trained and tested.

    Attributes:
        network: which it is.
        record: what the `results.json` of its run holds.
        scores: set -> (frames,) float32.
        classes: set -> (frames,) int8, MISS, MAYBE or HIT.
    """

    network: Network
    record: dict[str, Any]
    scores: dict[str, np.ndarray]
    classes: dict[str, np.ndarray]

    def tested(self, name: str, frames: FrameRange) -> tuple[np.ndarray, np.ndarray]:
        """Return labels (bool, Hit or Maybe) and scores of a range of a set."""
        chosen = frame_range(frames, len(self.scores[name]))
        part = slice(chosen.start, chosen.stop)
        return self.classes[name][part] != MISS, self.scores[name][part]


def read_run(
    network: Network, plan: RunConfig, folder: Path, classes: Mapping[str, np.ndarray]
) -> TrainedRun | None:
    """Read the run of a network; None where it has not ended.

    Args:
        network: which it is.
        plan: how it is trained.
        folder: of the run.
        classes: set -> (frames,) MISS, MAYBE or HIT, as they are now.

    Raises:
        UserError: a file is missing or damaged, or the run is of another plan or of other labels.
    """
    record = finished(plan, folder)
    if record is None:
        return None
    found = read_scores(folder / SCORES_FILE)
    for name, labels in classes.items():
        if name not in found or not np.array_equal(found[name].labels, labels):
            raise UserError(f"{folder} was tested on other labels of {name}; delete it to train it again")
    scores = {name: each.scores for name, each in found.items()}
    return TrainedRun(network, record, scores, dict(classes))


def runs_of(runs: Iterable[TrainedRun], **about: Any) -> list[TrainedRun]:
    """Find the runs whose networks have these values, by source and seed."""
    found = [run for run in runs if about.items() <= vars(run.network).items()]
    return sorted(found, key=lambda run: (run.network.source, run.network.seed))


def labelled_set(method: str, source: str, target: str | None) -> str:
    """Return the set whose labels a method trains on: the target of `transfer`, else the source."""
    return target if method == "transfer" and target else source


def cell_record(run: TrainedRun, tested: str, frames: FrameRange) -> dict[str, Any]:
    """Sum up a run's test on a range of a set.

    Returns:
        JSON-ready: what the run is, `tested`, `first` and `last` frame from 1, and what `sfxjax.training.evaluation.summarize`
        gives: counts, rates with intervals.
    """
    chosen = frame_range(frames, len(run.scores[tested]))
    about = {key: run.record[key] for key in ("method", "source", "target", "labels", "reduction", "seed")}
    more = {key: run.record.get(key) for key in ("simulated", "recipe", "epoch_kept", "device", "jax")}
    where = {"tested": tested, "first": chosen.start + 1, "last": chosen.stop, "split": run.network.split}
    return about | where | summarize(*run.tested(tested, frames)) | more


def figure_of(record: dict[str, Any], metric: str) -> float | None:
    """Return a figure of a record of `cell_record`, None where it cannot be told.

    Args:
        record: of a test.
        metric: `recall`, `miss_accuracy`, `balanced_accuracy`, `precision` or `miss_accuracy_at_95` (or 90, 99), all per
            cent; or `area_under_curve`, at most 1.
    """
    if metric == "area_under_curve":
        return record[metric]
    of_rate, _, recall = metric.partition("_at_")
    return record["miss_accuracy_at_recall"][recall] if recall else record[of_rate]["percent"]


class Mean(float):
    """A mean, written with its standard deviation over seeds if it has one; by a format such as `.1f` without it."""

    deviation: float | None

    def __new__(cls, value: float, deviation: float | None = None) -> Mean:
        """Make one of a mean and its deviation."""
        made = super().__new__(cls, value)
        made.deviation = deviation
        return made

    def __str__(self) -> str:
        return plus_minus(self, self.deviation)


def spread(values: Sequence[float | None]) -> Mean | None:
    """Take mean and sample standard deviation, the latter of two values or more; None of nothing, or if any value is."""
    if not values or None in values:
        return None
    known = np.asarray(values, float)
    return Mean(known.mean(), float(known.std(ddof=1)) if len(known) > 1 else None)
