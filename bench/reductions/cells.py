"""The trainings behind `bench.reductions`: one cell is one network, tested on frames it has not seen.

Cells are kept as lines of JSON, each flushed when it is done, so that a killed benchmark goes on where it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from sfxjax.data.splits import split
from sfxjax.errors import UserError
from sfxjax.models.checkpoint import TrainedModel
from sfxjax.training.adaptation import adapt
from sfxjax.training.config import TrainingConfig
from sfxjax.training.data import PreparedSet, base_for, from_both_ends
from sfxjax.training.evaluation import logit_bias, map_logits, summarize
from sfxjax.training.loop import TrainingResult, Validation, fit
from sfxjax.training.run import transfer_stages, with_shift
from sfxjax.training.step import Domains

# A draw of few labels holds at least so many of either class, or nothing could be learnt from it.
LEAST_OF_A_CLASS = 2
UNTOUCHED = "carried_over"
# Networks on vectors are small and learn in a third of the full recipe's steps.
RECIPE = TrainingConfig(epochs=4, steps_per_epoch=50)


@dataclass(frozen=True)
class Cell:
    """What one cell is of.

    Attributes:
        kind: "labels" (few labels, tested on the same set), "free_labels" (the same, each frame transposed as well), or
            "adaptation" (all of the source's labels, tested on another set, none of whose labels are used).
        reduction: name; None for whole frames.
        source: the set with labels.
        target: the set tested on.
        labels: how many.
        method: key of `sfxjax.training.adaptation.ADAPTATIONS`.
        seed: of the draw of labels and of the training.
    """

    kind: str
    reduction: str | None
    source: str
    target: str
    labels: int
    method: str
    seed: int


def drawn_labels(positive: np.ndarray, labels: int, seed: int) -> np.ndarray:
    """Draw frames to label, with at least two of each class.

    Args:
        positive: (n,) bool of the frames that may be drawn.
        labels: how many to draw.
        seed: of the draw.

    Returns:
        (labels,) places, rising.

    Raises:
        UserError: there are not that many frames, or not two of each class.
    """
    if labels > len(positive) or labels < 2 * LEAST_OF_A_CLASS:
        raise UserError(f"{labels} labels cannot be drawn; give {2 * LEAST_OF_A_CLASS} to {len(positive)}")
    rng = np.random.default_rng([seed, labels])
    sides = [np.flatnonzero(positive), np.flatnonzero(~positive)]
    if min(map(len, sides)) < LEAST_OF_A_CLASS:
        raise UserError(
            f"the first {len(positive)} frames hold fewer than {LEAST_OF_A_CLASS} of a class; use more frames"
        )
    certain = np.concatenate([rng.choice(side, LEAST_OF_A_CLASS, replace=False) for side in sides])
    others = np.setdiff1d(rng.permutation(len(positive)), certain, assume_unique=True)
    more = rng.choice(others, labels - len(certain), replace=False)
    return np.sort(np.concatenate([certain, more]))


def run_cell(cell: Cell, sets: Mapping[str, PreparedSet], recipe: TrainingConfig = RECIPE) -> dict[str, Any]:
    """Train and test one cell.

    Few labels serve for everything: training, the choice of the epoch and the calibration. No further frame is looked at.

    Args:
        cell: which.
        sets: prepared with the cell's reduction (and for "free_labels" its partner on transposed frames).
        recipe: how to train.

    Returns:
        JSON-ready: the cell's fields, `tested` as `sfxjax.training.evaluation.summarize` gives it, and `training_seconds`.
    """
    recipe = replace(recipe, base=base_for(cell.reduction), seed=cell.seed)
    if cell.kind == "adaptation":
        model, seconds, scored = _adapted(cell, sets, recipe)
    else:
        model, seconds, scored = _train_with_few_labels(cell, sets, recipe)
    prepared = sets[cell.target]
    logits = map_logits(model, prepared.masked[cell.reduction][scored])
    if cell.kind == "free_labels":
        logits = (logits + map_logits(model, prepared.masked[TRANSPOSED[cell.reduction]][scored])) / 2
    tested = summarize(prepared.positives[scored], expit(logits))
    return asdict(cell) | {"tested": tested, "training_seconds": round(seconds, 2)}


# Reductions that give of a frame what the other gives of the transposed frame: free labels, since diffraction has no up.
TRANSPOSED: dict[str | None, str] = {"row_wise_decomposition": "column_wise_decomposition"}


def _train_with_few_labels(
    cell: Cell, sets: Mapping[str, PreparedSet], recipe: TrainingConfig
) -> tuple[TrainedModel, float, np.ndarray]:
    prepared = sets[cell.source]
    few = split("few", len(prepared))
    drawn = drawn_labels(prepared.positives[: few.test.start], cell.labels, cell.seed)
    model, seconds = train_on_few(cell, prepared, recipe, drawn)
    return model, seconds, np.asarray(few.test)


def train_on_few(
    cell: Cell,
    prepared: PreparedSet,
    recipe: TrainingConfig,
    drawn: np.ndarray,
    base: dict[str, Any] | None = None,
) -> tuple[TrainedModel, float]:
    """Train on few labels, which choose the epoch and calibrate as well; returns the network and the seconds it took.

    Args:
        cell: whose reduction and kind count.
        prepared: the set.
        recipe: how to train, with the base for the reduction.
        drawn: (labels,) places of the frames whose labels are used.
        base: variables of another set's network, of `sfxjax.training.run.base_variables`, to transfer; None: trained afresh.
    """
    maps = prepared.training(cell.reduction, np.arange(len(prepared)))
    if cell.kind == "free_labels":
        turned = prepared.training(TRANSPOSED[cell.reduction], np.arange(len(prepared)))
        maps = np.concatenate([maps, turned])
    maps = from_both_ends(cell.reduction, maps)
    times = len(maps) // len(prepared)
    positive, drawn = np.tile(prepared.positives, times), _repeated(drawn, len(prepared), times)
    training = Domains(maps, positive.astype(np.float32), None)
    validation = Validation(maps[drawn], positive[drawn], None)
    seconds, start = 0.0, base
    for stage in [recipe] if base is None else transfer_stages(recipe):
        result = fit(stage, training, validation, start=start, drawn=drawn)
        seconds, start = seconds + result.seconds, result.variables("source")
    return _calibrated(cell, recipe, result, "source", maps[drawn], positive[drawn]), seconds


def _adapted(
    cell: Cell, sets: Mapping[str, PreparedSet], recipe: TrainingConfig
) -> tuple[TrainedModel, float, np.ndarray]:
    source, target = sets[cell.source], sets[cell.target]
    full = split("full", len(source))
    maps = from_both_ends(cell.reduction, source.training(cell.reduction, np.arange(len(source))))
    times = len(maps) // len(source)
    drawn = _repeated(np.asarray(full.train)[: cell.labels], len(source), times)
    held_out = np.asarray(full.validation)
    whole = split("full", len(target))
    training = Domains(
        maps,
        np.tile(source.positives, times).astype(np.float32),
        from_both_ends(cell.reduction, target.training(cell.reduction, whole.train)),
    )
    validation = Validation(
        maps[held_out], source.positives[held_out], target.training(cell.reduction, whole.validation)
    )
    result = adapt(recipe, cell.method, training, validation, drawn=drawn)
    model = _calibrated(
        cell, recipe, result, "target", source.masked[cell.reduction][held_out], source.positives[held_out]
    )
    return model, result.seconds, np.arange(len(target))


def _repeated(drawn: np.ndarray, frames: int, times: int) -> np.ndarray:
    """Find the places of drawn frames where all frames come several times over, one time after the other."""
    return (drawn + frames * np.arange(times)[:, None]).ravel()


def _calibrated(
    cell: Cell,
    recipe: TrainingConfig,
    result: TrainingResult,
    domain: str,
    maps: np.ndarray,
    positive: np.ndarray,
) -> TrainedModel:
    own = TrainedModel(recipe.base, result.variables("source"), reduction=cell.reduction)
    shift = logit_bias(positive, expit(map_logits(own, maps)))
    return TrainedModel(recipe.base, with_shift(result.variables(domain), shift), reduction=cell.reduction)


def read_cells(path: Path) -> dict[Cell, dict[str, Any]]:
    """Read the cells that are done; a last line that a kill cut short is left out.

    Raises:
        UserError: another line is damaged.
    """
    if not path.exists():
        return {}
    lines = path.read_text().splitlines()
    done = {}
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            done[Cell(**{key: record[key] for key in Cell.__dataclass_fields__})] = record
        except (ValueError, KeyError, TypeError) as error:
            if number < len(lines):
                raise UserError(f"{path}: line {number} is damaged; delete the file and run again") from error
    return done


def append_cell(path: Path, record: dict[str, Any]) -> None:
    """Add a cell to the file, on disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            if file.read(1) != b"\n":
                file.write(b"\n")  # of a line that a kill cut short
        file.write(json.dumps(record).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def planned_cells(
    reductions: list[str],
    adapted: list[str],
    methods: list[str],
    names: list[str],
    labels: list[int],
    seeds: int,
    frames: int,
) -> list[Cell]:
    """List the cells of a benchmark.

    Args:
        reductions: names.
        adapted: those of them that the methods are tried on; the others are carried over untouched.
        methods: keys of `sfxjax.training.adaptation.ADAPTATIONS`.
        names: of the sets.
        labels: numbers of labels.
        seeds: 0, 1, ...
        frames: of a set.
    """
    cells = []
    full = len(split("full", frames).train)
    for seed in range(seeds):
        for reduction in reductions:
            for name in names:
                for count in labels:
                    cells.append(Cell("labels", reduction, name, name, count, UNTOUCHED, seed))
                    if reduction in TRANSPOSED and TRANSPOSED[reduction] in reductions:
                        cells.append(Cell("free_labels", reduction, name, name, count, UNTOUCHED, seed))
            ways = methods if reduction in adapted else [UNTOUCHED]
            for source in names:
                for target in names:
                    if source != target:
                        cells += [
                            Cell("adaptation", reduction, source, target, full, method, seed)
                            for method in ways
                        ]
    return cells
