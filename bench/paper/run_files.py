"""Checks of the files of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sfxjax.data.labels import HIT, MISS
from sfxjax.data.splits import SPLIT_NAMES, split
from sfxjax.errors import UserError
from sfxjax.training.published import SETS
from sfxjax.training.scores import read_scores
from sfxjax.training.scores import write_scores as _write_scores

_WITH_TARGET = ("transfer", "dann")
_NEEDED = {
    "method": str,
    "source": str,
    "labels": int,
    "seed": int,
    "simulated": bool,
    "frames": dict,
    "recipe": dict,
}


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
    checked = {name: _checked(name, scores, classes) for name in sorted({*scores, *classes})}
    _write_scores(
        Path(path),
        {name: pair[0] for name, pair in checked.items()},
        {name: pair[1] for name, pair in checked.items()},
    )


def _checked(
    name: str, scores: Mapping[str, np.ndarray], classes: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    if name not in scores or name not in classes:
        raise UserError(f"{name} has scores or labels, not both")
    score, label = np.asarray(scores[name]), np.asarray(classes[name])
    if score.ndim != 1 or score.shape != label.shape or not len(score):
        raise UserError(
            f"{name}: {score.shape} scores and {label.shape} labels; give one of each for each frame"
        )
    if score.dtype.kind != "f" or np.any((score < 0) | (score > 1)):
        raise UserError(f"{name}: scores are floats from 0 to 1, or NaN")
    if label.dtype.kind not in "iu" or label.min() < MISS or label.max() > HIT:
        raise UserError(f"{name}: labels are {MISS}, {MISS + 1} and {HIT}")
    return score.astype(np.float32), label.astype(np.int8)


def _read_scores(path: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    read = read_scores(path)
    scores = {name: pair.scores for name, pair in read.items()}
    classes = {name: pair.labels for name, pair in read.items()}
    try:
        checked = {name: _checked(name, scores, classes) for name in read}
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return {name: pair[0] for name, pair in checked.items()}, {
        name: pair[1] for name, pair in checked.items()
    }


def _check_record(path: Path, record: Any) -> None:
    if not isinstance(record, dict):
        raise UserError(f"{path}: not a run's record; delete the run to train it again")
    for key, kind in _NEEDED.items():
        if not isinstance(record.get(key), kind) or (kind is int and isinstance(record[key], bool)):
            raise UserError(f"{path}: `{key}` must be {kind.__name__}, not {record.get(key)!r}")
    if not isinstance(record.get("threshold", 0.5), (int, float)) or not math.isfinite(
        record.get("threshold", 0.5)
    ):
        raise UserError(f"{path}: `threshold` must be a number, not {record['threshold']!r}")
    target = record.get("target")
    if record["source"] not in SETS or target not in (None, *SETS) or target == record["source"]:
        raise UserError(f"{path}: no such pair of sets: {record['source']!r}, {target!r}")
    if record["method"] in _WITH_TARGET and target is None:
        raise UserError(f"{path}: {record['method']} needs a target")


def _split_of(path: Path, record: dict[str, Any]) -> str:
    """Tell the split by its name in the record, or by the number of labels as `sfxjax.data.splits.labelled_split` does."""
    named = record.get("split")
    if named is not None:
        if named not in SPLIT_NAMES:
            raise UserError(f"{path}: `split` is one of {', '.join(SPLIT_NAMES)}, not {named!r}")
        return named
    for name in reversed(SPLIT_NAMES):
        if 1 <= record["labels"] <= _training_frames(path, record, name):
            return name
    raise UserError(f"{path}: {record['labels']} labels are more than the paper's training frames, or none")


def _training_frames(path: Path, record: dict[str, Any], name: str) -> int:
    labelled = record["target"] if record["method"] == "transfer" else record["source"]
    frames = record["frames"].get(labelled)
    if not isinstance(frames, int):
        raise UserError(f"{path}: `frames` does not tell the length of {labelled}")
    return len(split(name, frames).train)
