"""The scores of every frame of every set that a run was tested on, with the labels, in one small HDF5 file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from sfxjax.data.new_hdf5 import NewHDF5
from sfxjax.errors import UserError
from sfxjax.files import atomic_write

LOG = "log.jsonl"


class SetScores(NamedTuple):
    """Scores of one set, in the order of its frames.

    Attributes:
        scores: float32 (n,), probability of a positive.
        labels: int8 (n,): MISS, MAYBE or HIT of `sfxjax.data.labels`.
    """

    scores: np.ndarray
    labels: np.ndarray


def write_scores(path: Path, scores: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]) -> None:
    """Write scores and labels by the name of the set, as `atomic_write` does.

    Args:
        path: of the file; it holds `SET` and `labels/SET`.
        scores: (n,) by set.
        labels: (n,) by set.
    """
    with atomic_write(path) as temporary, NewHDF5(temporary) as file:
        for name, values in scores.items():
            file[name] = np.asarray(values, np.float32)
            file[f"labels/{name}"] = np.asarray(labels[name], np.int8)


def read_scores(path: Path) -> dict[str, SetScores]:
    """Read what `write_scores` wrote.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        with h5py.File(path) as file:
            sets = {name: SetScores(file[name][:], file["labels"][name][:]) for name in file["labels"]}
    except (OSError, KeyError) as error:
        raise UserError(f"{path} cannot be read ({error}); delete its folder and run it again") from error
    if any(len(each.scores) != len(each.labels) for each in sets.values()):
        raise UserError(f"{path} is damaged; delete its folder and run it again")
    return sets


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the records of a run's epochs, from its `log.jsonl`.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = folder / LOG
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); delete its folder and run it again") from error
