"""Trained runs as the paper's tables need them: a record and the score of every frame of every set.

A run is a folder with

    results.json   method, source, target, labels, seed, simulated, frames, recipe and what else it tells of itself
    scores.h5      for each set a float32 data set with a score a frame, in the file's order, NaN where a frame was not
                   scored; and `labels/<SET>`, int8: MISS, MAYBE or HIT of `sfxjax.data.labels`
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sfxjax.data.labels import MISS
from sfxjax.errors import UserError, explain_os_error
from sfxjax.training.evaluation import summarize
from sfxjax.training.published import FrameRange, PublishedCell, frame_range

from .run_files import _check_record, _read_scores, _split_of, _training_frames

RESULTS, SCORES = "results.json", "scores.h5"
# What a network differs in from its like in the paper: in nothing, in the units of its frames, in its number of labels.
AS_PUBLISHED, NORMALISED, FEWER = "", "normalised", "fewer"
_RWD = ("row_wise_decomposition", "rwd")
METRICS = ("recall", "miss_accuracy", "balanced_accuracy")


@dataclass(frozen=True)
class TrainedRun:
    """A finished run.

    Attributes:
        folder: where it lies.
        record: what its `results.json` holds.
        split: `full` or `few` of `sfxjax.data.splits`, that the set with labels was cut by.
        published: whether it was given as many labels as the paper's networks: all training frames of its split.
        scores: set -> (frames,) float32, NaN where a frame was not scored.
        classes: set -> (frames,) int8, MISS, MAYBE or HIT.
    """

    folder: Path
    record: dict[str, Any]
    split: str
    published: bool
    scores: dict[str, np.ndarray]
    classes: dict[str, np.ndarray]

    @property
    def method(self) -> str:
        """Name of the method: `supervised`, `transfer`, `reduced`, `dann` or `spot_counter`."""
        return self.record["method"]

    @property
    def source(self) -> str:
        """The set that gives the labels, or, of `transfer`, the base."""
        return self.record["source"]

    @property
    def target(self) -> str | None:
        """The second set trained on, if there is one."""
        return self.record.get("target")

    @property
    def seed(self) -> int:
        """Of the training."""
        return self.record["seed"]

    @property
    def simulated(self) -> bool:
        """Whether any of the frames were simulated."""
        return self.record["simulated"]

    @property
    def quick(self) -> bool:
        """Whether it was trained with fewer frames or epochs than the full comparison."""
        return bool(self.record.get("quick", False))

    @property
    def reduction(self) -> str | None:
        """Name of the reduction, None for whole frames."""
        return self.record.get("reduction")

    @property
    def noise_normalised(self) -> bool:
        """Whether its frames are scaled to their noise; True without a network."""
        return bool(self.record["recipe"].get("base", {}).get("noise_normalised", True))

    @property
    def variant(self) -> str:
        """How it differs from the paper's: `FEWER` labels, frames as `NORMALISED`, or not, `AS_PUBLISHED`."""
        if not self.published:
            return FEWER
        return AS_PUBLISHED if self.noise_normalised else NORMALISED

    @cached_property
    def key(self) -> tuple[Any, ...]:
        """What tells it from every other run."""
        about = (self.method, self.source, self.target, self.record["labels"], self.reduction)
        return (*about, self.noise_normalised, self.split, self.seed)

    def tested(self, name: str, frames: FrameRange) -> tuple[np.ndarray, np.ndarray] | None:
        """Return labels (bool, Hit or Maybe) and scores of a range of a set; None unless all of it was scored."""
        if name not in self.scores:
            return None
        chosen = frame_range(frames, len(self.scores[name]))
        scores = self.scores[name][chosen.start : chosen.stop]
        if np.isnan(scores).any():
            return None
        return self.classes[name][chosen.start : chosen.stop] != MISS, scores


class Spread(NamedTuple):
    """Mean and standard deviation over seeds, per cent; None where there is nothing to take it of."""

    mean: float | None
    deviation: float | None


@dataclass(frozen=True)
class Figures:
    """One cell of ours: a record for every seed, from `cell_record`."""

    records: tuple[dict[str, Any], ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the records."""
        return tuple(record["seed"] for record in self.records)

    def spread(self, metric: str) -> Spread:
        """Mean and deviation over the seeds of `recall`, `miss_accuracy` or `balanced_accuracy`."""
        return spread([record[metric]["percent"] for record in self.records])

    def interval(self, metric: str) -> tuple[float, float] | None:
        """Give the 95 % interval of the only seed; None with several, whose spread tells more."""
        if len(self.records) != 1 or self.records[0][metric]["percent"] is None:
            return None
        return self.records[0][metric]["low"], self.records[0][metric]["high"]


def spread(values: Sequence[float | None]) -> Spread:
    """Take mean and sample standard deviation, the latter of two values or more; None if any value is."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return Spread(None, None)
    return Spread(float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else None)


def read_run(folder: str | Path, *, quick: bool | None = None) -> TrainedRun:
    """Read and check a run.

    Args:
        folder: of the run.
        quick: whether it was trained with fewer frames or epochs than the full comparison; None: as its record says.

    Raises:
        UserError: a file is missing or damaged, or its content is not as the module's text says.
    """
    folder = Path(folder)
    path = folder / RESULTS
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(explain_os_error(error, path) or f"{path}: {error}") from error
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); delete the run to train it again") from error
    _check_record(path, record)
    if quick is not None:
        record["quick"] = quick
    scores, classes = _read_scores(folder / SCORES)
    for name, values in scores.items():
        if record["frames"].get(name) != len(values):
            raise UserError(
                f"{folder}: {SCORES} has {len(values)} frames of {name}, {RESULTS} {record['frames'].get(name)}"
            )
    part = _split_of(path, record)
    published = "split" in record or record["labels"] == _training_frames(path, record, part)
    return TrainedRun(folder, record, part, published, scores, classes)


def check_runs(runs: Iterable[TrainedRun]) -> None:
    """Refuse runs that cannot stand in one table.

    Raises:
        UserError: two runs are of the same training, were tested on other frames or labels, or only one of them is
            simulated or quick.
    """
    seen: dict[tuple[Any, ...], TrainedRun] = {}
    first: TrainedRun | None = None
    classes: dict[str, tuple[np.ndarray, TrainedRun]] = {}
    for run in runs:
        twin = seen.setdefault(run.key, run)
        if twin is not run:
            raise UserError(f"{twin.folder} and {run.folder} are of the same training; name one of them")
        first = first or run
        for what in ("simulated", "quick"):
            if getattr(run, what) != getattr(first, what):
                raise UserError(f"only one of {first.folder} and {run.folder} is {what}; keep them apart")
        for name, values in run.classes.items():
            known, other = classes.setdefault(name, (values, run))
            if not np.array_equal(known, values):
                raise UserError(f"{other.folder} and {run.folder} have different labels of {name}")


def cell_record(run: TrainedRun, tested: str, frames: FrameRange) -> dict[str, Any] | None:
    """Sum up a run's test on a range of a set.

    Args:
        run: the run.
        tested: name of the set.
        frames: name of the range.

    Returns:
        JSON-ready: what the run is, `tested`, `first` and `last` frame from 1, and what `sfxjax.training.evaluation.summarize`
        gives: counts, rates with intervals. None where not all of these frames were scored.
    """
    both = run.tested(tested, frames)
    if both is None:
        return None
    chosen = frame_range(frames, len(run.scores[tested]))
    about = {
        key: run.record.get(key) for key in ("method", "source", "target", "labels", "reduction", "seed")
    }
    more = {key: run.record.get(key) for key in ("simulated", "recipe", "epoch_kept", "device", "jax")}
    return (
        about
        | {"tested": tested, "first": chosen.start + 1, "last": chosen.stop, "split": run.split}
        | summarize(*both, threshold=run.record.get("threshold", 0.5))
        | more
    )


def test_figures(runs: Iterable[TrainedRun], tested: str, frames: FrameRange) -> Figures | None:
    """Sum up the same test of several seeds; None where no run has been tested so."""
    ordered = sorted(runs, key=lambda run: run.seed)
    records = tuple(r for run in ordered if (r := cell_record(run, tested, frames)) is not None)
    return Figures(records) if records else None


def runs_of(runs: Iterable[TrainedRun], cell: PublishedCell) -> list[TrainedRun]:
    """Find the runs that a published cell is compared with, by method, sets, split and input."""
    return [
        run
        for run in runs
        if (run.method, run.source, run.target, run.split)
        == (cell.method, cell.source, cell.target, cell.split)
        and is_as_published(run)
    ]


def is_as_published(run: TrainedRun, variant: str = AS_PUBLISHED) -> bool:
    """Tell whether a run trained on what the paper's method does: RWD if `reduced`, else whole frames.

    Args:
        run: the run.
        variant: what it is to differ in all the same, see `TrainedRun.variant`.
    """
    return run.variant == variant and (
        run.reduction in _RWD if run.method == "reduced" else run.reduction is None
    )


def spot_counter_runs(runs: Iterable[TrainedRun], cell: PublishedCell) -> list[TrainedRun]:
    """Find the spot counters whose threshold was chosen on the labels that a cell's method may use for validation."""
    labelled = cell.target if cell.method == "transfer" else cell.source
    return [r for r in runs if (r.method, r.source, r.split) == ("spot_counter", labelled, cell.split)]


def source_only_runs(runs: Iterable[TrainedRun], cell: PublishedCell) -> list[TrainedRun]:
    """Find the source-only networks of a DANN's source: the 2D CNNs of Table 1."""
    return [
        run
        for run in runs
        if (run.method, run.split, run.source) == ("supervised", "full", cell.source) and is_as_published(run)
    ]
