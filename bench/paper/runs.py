"""Trained runs as the paper's tables need them: a record and the score of every frame of every set.

A run is a folder with

    results.json   method, source, target, labels, seed, simulated, frames, recipe and what else it tells of itself
    scores.h5      for each set a float32 data set with a score a frame, in the file's order, NaN where a frame was not
                   scored; and `labels/<SET>`, int8: MISS, MAYBE or HIT of `sfxjax.data.labels`
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sfxjax.data.labels import HIT, MISS
from sfxjax.data.splits import SPLIT_NAMES, labelled_split, split
from sfxjax.errors import UserError, explain_os_error
from sfxjax.json_files import checked_number, read_json
from sfxjax.training.evaluation import summarize
from sfxjax.training.published import SETS, FrameRange, frame_range
from sfxjax.training.run_folder import RESULTS, SCORES_FILE
from sfxjax.training.scores import read_scores, write_scores

# What a network differs in from its like in the paper: nothing, the units of its frames, its number of labels, or its input,
# which is row-wise decompositions for the 1D CNN and whole frames for the others.
AS_PUBLISHED, NORMALISED, FEWER, OTHER_INPUT = "", "normalised", "fewer", "other_input"
RWD = "row_wise_decomposition"
METRICS = ("recall", "miss_accuracy", "balanced_accuracy")
_NEEDED = dict(method=str, source=str, labels=int, seed=int, simulated=bool, frames=dict, recipe=dict)


@dataclass(frozen=True)
class TrainedRun:
    """A finished run.

    Attributes:
        folder: where it lies.
        record: what its `results.json` holds.
        split: `full` or `few` of `sfxjax.data.splits`, that the set with labels was cut by.
        variant: what it differs in from the paper's network: `AS_PUBLISHED`, `NORMALISED`, `FEWER` or `OTHER_INPUT`.
        scores: set -> (frames,) float32, NaN where a frame was not scored.
        classes: set -> (frames,) int8, MISS, MAYBE or HIT.
        method, source, target, seed, simulated: as its record tells.
        quick: whether it was trained with fewer frames or epochs than the full comparison.
    """

    folder: Path
    record: dict[str, Any]
    split: str
    variant: str
    scores: dict[str, np.ndarray]
    classes: dict[str, np.ndarray]
    method: str
    source: str
    target: str | None
    seed: int
    simulated: bool
    quick: bool

    def tested(self, name: str, frames: FrameRange) -> tuple[np.ndarray, np.ndarray] | None:
        """Return labels (bool, Hit or Maybe) and scores of a range of a set; None unless all of it was scored."""
        if name not in self.scores:
            return None
        chosen = frame_range(frames, len(self.scores[name]))
        part = slice(chosen.start, chosen.stop)
        scores = self.scores[name][part]
        return None if np.isnan(scores).any() else (self.classes[name][part] != MISS, scores)


def labelled_set(method: str, source: str, target: str | None) -> str:
    """Return the set whose labels a method trains on: the target of `transfer`, else the source."""
    return target if method == "transfer" and target else source


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
        record = read_json(path)
    except OSError as error:
        raise UserError(explain_os_error(error, path) or f"{path}: {error}") from error
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); delete the run to train it again") from error
    try:
        part, variant = _check_record(record)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from error
    found = read_scores(folder / SCORES_FILE)
    for name, each in found.items():
        _check_scores(f"{folder}: {name}", each.scores, each.labels)
        if (told := record["frames"].get(name)) != len(each.scores):
            raise UserError(
                f"{folder}: {SCORES_FILE} has {len(each.scores)} frames of {name}, {RESULTS} {told}"
            )
    return TrainedRun(
        folder,
        record,
        part,
        variant,
        scores={name: each.scores for name, each in found.items()},
        classes={name: each.labels for name, each in found.items()},
        quick=bool(record.get("quick", False) if quick is None else quick),
        **{key: record.get(key) for key in ("method", "source", "target", "seed", "simulated")},
    )


def _check_record(record: Any) -> tuple[str, str]:
    """Check a record; return the names of its split and its variant."""
    if not isinstance(record, dict):
        raise UserError("not a run's record; delete the run to train it again")
    for key, kind in _NEEDED.items():
        if type(record.get(key)) is not kind:
            raise UserError(f"`{key}` must be {kind.__name__}, not {record.get(key)!r}")
    try:
        checked_number(record.get("threshold", 0.5), "threshold", 0, 1)
    except ValueError as error:
        raise UserError(str(error)) from error
    method, source, target = record["method"], record["source"], record.get("target")
    if source not in SETS or target not in (None, *SETS) or target == source:
        raise UserError(f"no such pair of sets: {source!r}, {target!r}")
    if method in ("transfer", "dann") and target is None:
        raise UserError(f"{method} needs a target")
    labels, labelled = record["labels"], labelled_set(method, source, target)
    frames = record["frames"].get(labelled)
    part = record.get("split")
    if part is not None and part not in SPLIT_NAMES:
        raise UserError(f"`split` is one of {', '.join(SPLIT_NAMES)}, not {part!r}")
    if part is None and not isinstance(frames, int):
        raise UserError(f"`frames` does not tell the length of {labelled}")
    published = part is not None
    if part is None:
        try:
            part = labelled_split(labels, frames).name
        except UserError as error:
            raise UserError(f"{labels} labels are more than the paper's training frames, or none") from error
        published = labels == len(split(part, frames).train)
    if record.get("reduction") != (RWD if method == "reduced" else None):
        return part, OTHER_INPUT
    if not published:
        return part, FEWER
    return part, AS_PUBLISHED if record["recipe"].get("base", {}).get(
        "noise_normalised", True
    ) else NORMALISED


def write_test_scores(
    path: str | Path, scores: Mapping[str, np.ndarray], classes: Mapping[str, np.ndarray]
) -> None:
    """Check a run's scores and write its `scores.h5`, whole or not at all.

    Args:
        path: of the file.
        scores: set -> (frames,) in [0, 1], NaN where a frame was not scored.
        classes: set -> (frames,) MISS, MAYBE or HIT, for the same sets.

    Raises:
        UserError: the two do not fit each other, or hold other values.
    """
    for name in sorted({*scores, *classes}):
        if name not in scores or name not in classes:
            raise UserError(f"{name} has scores or labels, not both")
        _check_scores(name, scores[name], classes[name])
    write_scores(Path(path), scores, classes)


def _check_scores(name: str, scores: np.ndarray, labels: np.ndarray) -> None:
    if scores.ndim != 1 or scores.shape != labels.shape or not len(scores):
        raise UserError(
            f"{name}: {scores.shape} scores and {labels.shape} labels; give one of each for each frame"
        )
    if scores.dtype.kind != "f" or np.any((scores < 0) | (scores > 1)):
        raise UserError(f"{name}: scores are floats from 0 to 1, or NaN")
    if labels.dtype.kind not in "iu" or labels.min() < MISS or labels.max() > HIT:
        raise UserError(f"{name}: labels are {MISS}, {MISS + 1} and {HIT}")


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
        about = (run.method, run.source, run.target, run.record["labels"], run.record.get("reduction"))
        twin = seen.setdefault((*about, run.variant, run.split, run.seed), run)
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


def runs_of(runs: Iterable[TrainedRun], **about: Any) -> list[TrainedRun]:
    """Find the runs whose attributes have these values, by source and seed."""
    found = [run for run in runs if all(getattr(run, key) == value for key, value in about.items())]
    return sorted(found, key=lambda run: (run.source, run.seed))


def cell_record(run: TrainedRun, tested: str, frames: FrameRange) -> dict[str, Any] | None:
    """Sum up a run's test on a range of a set.

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


def cell_records(runs: Iterable[TrainedRun], tested: str, frames: FrameRange | None) -> list[dict[str, Any]]:
    """Sum up the tests of several runs on a range of a set, if there is one, without those that were not tested so."""
    records = (cell_record(run, tested, frames) for run in runs if frames)
    return [record for record in records if record is not None]


class Spread(NamedTuple):
    """Mean and standard deviation over seeds, per cent; None where there is nothing to take it of."""

    mean: float | None
    deviation: float | None


def spread(values: Sequence[float | None]) -> Spread:
    """Take mean and sample standard deviation, the latter of two values or more; None if any value is."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return Spread(None, None)
    return Spread(float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else None)
