"""One training run from frames in memory to a folder with a model, its scores of every frame, and its results.

A folder holds `settings.json`, `checkpoints/`, `log.jsonl` (one line an epoch), `model/`, `scores.h5` (the score and the
label of every frame of every set that was given) and `results.json`, which is written last.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.special import expit

from sfxjax.data.splits import labelled_split, split
from sfxjax.errors import UserError
from sfxjax.evaluation.domain_check import summarize_domains as summarize_statistics
from sfxjax.files import atomic_write_json, atomic_write_text
from sfxjax.models.checkpoint import MODEL_FOLDER, TrainedModel, load_model, save_model
from sfxjax.training.adaptation import adapt, rounds
from sfxjax.training.config import RunConfig, TrainingConfig
from sfxjax.training.data import PreparedSet, from_both_ends
from sfxjax.training.distributed import wait_for_all, writes
from sfxjax.training.evaluation import logit_bias, map_logits, summarize
from sfxjax.training.loop import TrainingResult, Validation, check_classes, fit
from sfxjax.training.run_folder import RESULTS, SCORES_FILE, begun
from sfxjax.training.scores import LOG, write_scores
from sfxjax.training.step import Domains


class RunResult(NamedTuple):
    """What a run ends in.

    Attributes:
        models: the trained model for each set, which may differ in its batch statistics.
        fit: the training.
        shift: added to the logits by the calibration on labelled validation frames.
    """

    models: dict[str, TrainedModel]
    fit: TrainingResult
    shift: float


def total_steps(plan: RunConfig) -> int:
    """Return the optimiser steps of a run."""
    steps = sum(recipe.epochs * recipe.steps_per_epoch for recipe in stages(plan))
    return steps if plan.adaptation is None else steps * rounds(plan.adaptation)


def stages(plan: RunConfig) -> list[TrainingConfig]:
    """Return the recipes of a run one after the other."""
    return transfer_stages(plan.recipe) if plan.method == "transfer" else [plan.recipe]


def transfer_stages(recipe: TrainingConfig) -> list[TrainingConfig]:
    """Return the two recipes of transfer learning (the paper's Fig. 3).

    First the base rests, its batch statistics too, while a fresh classifier learns; then all but the lowest block move, at a
    tenth of the rate.
    """
    levels = len(recipe.base.channels) + 1
    first = dataclasses.replace(recipe.objective, frozen=levels)
    second = dataclasses.replace(recipe.objective, frozen=levels - 2)
    return [
        dataclasses.replace(recipe, objective=first),
        dataclasses.replace(recipe, objective=second, learning_rate=recipe.learning_rate / 10),
    ]


def training_data(plan: RunConfig, sets: Mapping[str, PreparedSet]) -> tuple[Domains, Validation]:
    """Choose the frames that a run trains on, and those it is judged on.

    Args:
        plan: of the run.
        sets: the prepared sets.
    """
    for each in sets.values():
        each.check(plan.recipe.base, plan.reduction)

    def trained_on(prepared: PreparedSet, indices: range | np.ndarray) -> np.ndarray:
        return from_both_ends(plan.reduction, prepared.training(plan.reduction, indices))

    labelled = sets[plan.labelled]
    frames = labelled_frames(labelled)
    ranges = labelled_split(plan.labels, len(frames))
    target = validation_target = None
    if plan.unlabelled is not None:
        other = sets[plan.unlabelled]
        whole = split("full", len(other))
        target = trained_on(other, whole.train)
        validation_target = other.training(plan.reduction, whole.validation)
    train, validation = frames[ranges.train], frames[ranges.validation]
    source = trained_on(labelled, train)
    truth = labelled.positives[train].astype(np.float32)
    return (
        Domains(source, np.tile(truth, len(source) // len(truth)), target),
        Validation(
            labelled.training(plan.reduction, validation),
            labelled.positives[validation],
            validation_target,
        ),
    )


def train(
    plan: RunConfig,
    sets: Mapping[str, PreparedSet],
    checkpoints: Path | None = None,
    advance: Callable[[int], None] = lambda steps: None,
) -> RunResult:
    """Train and calibrate a network.

    Args:
        plan: of the run.
        sets: the prepared sets.
        checkpoints: folder to keep them in, or None.
        advance: called with the number of steps done.

    Raises:
        UserError: see `sfxjax.training.loop.fit`.
    """
    training, validation = training_data(plan, sets)
    if plan.adaptation is not None:
        adapted = adapt(plan.recipe, plan.adaptation, training, validation, checkpoints, advance=advance)
        return calibrated(plan, sets, adapted)
    start = None if plan.base is None else base_variables(plan)
    history: list[dict[str, Any]] = []
    seconds = 0.0
    recipes = stages(plan)
    for number, recipe in enumerate(recipes, start=1):
        folder = checkpoints if checkpoints is None or len(recipes) == 1 else checkpoints / f"step_{number}"
        result = fit(recipe, training, validation, folder, start=start, advance=advance)
        start = result.variables("source")
        more = {} if len(recipes) == 1 else {"stage": number}
        history += [more | record for record in result.history]
        seconds += result.seconds
    result = result._replace(history=history, seconds=seconds)
    return calibrated(plan, sets, result)


def calibrated(plan: RunConfig, sets: Mapping[str, PreparedSet], result: TrainingResult) -> RunResult:
    """Shift a network's logits to suit the labelled validation frames, and make its models.

    Args:
        plan: of the run.
        sets: the prepared sets.
        result: the training.
    """
    labelled = sets[plan.labelled]
    frames = labelled_frames(labelled)
    validation = frames[labelled_split(plan.labels, len(frames)).validation]
    own = TrainedModel(plan.recipe.base, result.variables("source"), reduction=plan.reduction)
    shift = logit_bias(
        labelled.positives[validation],
        expit(map_logits(own, labelled.masked[plan.reduction][validation])),
    )
    models = {}
    for name in sets:
        variables = result.variables("target" if name == plan.unlabelled else "source")
        models[name] = dataclasses.replace(own, variables=with_shift(variables, shift))
    return RunResult(models, result, shift)


def base_variables(plan: RunConfig) -> dict[str, Any]:
    """Read the base that transfer starts from, without its classifier."""
    assert plan.base is not None
    model = load_model(plan.base)
    if model.config != plan.recipe.base or model.reduction != plan.reduction:
        raise UserError(f"the network in {plan.base} has another shape or reduction; name another --base")
    return {
        "params": {"base": model.variables["params"]["base"]},
        "batch_stats": model.variables["batch_stats"],
    }


def with_shift(variables: dict[str, Any], shift: float) -> dict[str, Any]:
    """Return a network's variables with its logit's bias moved by `shift`."""
    params = variables["params"]
    head = params["label_head"]
    last = head["logit"] | {"bias": head["logit"]["bias"] + np.float32(shift)}
    return variables | {"params": params | {"label_head": head | {"logit": last}}}


def train_and_test(
    plan: RunConfig,
    sets: Mapping[str, PreparedSet],
    out: Path,
    advance: Callable[[int], None] = lambda steps: None,
) -> dict[str, Any]:
    """Do a run, or go on where a killed one stopped, and leave its folder. Of several processes one writes.

    Args:
        plan: of the run.
        sets: the prepared sets; the plan's, and any others to score.
        out: the run's folder.
        advance: called with the number of steps done.

    Returns:
        What `results.json` holds.

    Raises:
        UserError: the folder is of another run, or the data cannot be trained on.
    """
    check_classes(training_data(plan, sets)[0].positive)
    # Only now, so that data found wanting can be mended without another --out.
    with begun(plan, out):
        return _train_and_test(plan, sets, out, advance)


def _train_and_test(
    plan: RunConfig, sets: Mapping[str, PreparedSet], out: Path, advance: Callable[[int], None]
) -> dict[str, Any]:
    outcome = train(plan, sets, out / "checkpoints", advance)

    logits = {
        name: map_logits(model, sets[name].masked[plan.reduction]) for name, model in outcome.models.items()
    }
    scores = {name: expit(values) for name, values in logits.items()}
    main = plan.target or plan.source
    trained = sets[main]
    labelled = sets[plan.labelled]
    frames = labelled_frames(labelled)
    ranges = labelled_split(plan.labels, len(frames))
    # Bounds on recall need many positives, so all held-out labelled frames are kept.
    held_out = frames[ranges.validation.start :]
    model = dataclasses.replace(
        outcome.models[main],
        trained_on={
            "network": plan.method,
            "source": plan.source,
            "target": plan.target,
            "labels": len(ranges.train),
            "simulated": any(sets[name].simulated for name in plan.sets),
            "simulated_sets": [name for name in plan.sets if sets[name].simulated],
            "frames": [len(sets[name]) for name in plan.sets],
            "recipe": plan.recipe.to_json(),
            "epoch": outcome.fit.epoch,
            "validation": {
                "scores": [round(float(score), 6) for score in scores[plan.labelled][held_out]],
                "positives": [bool(value) for value in labelled.positives[held_out]],
            },
            "frame_statistics": summarize_statistics(trained.statistics),
        },
    )
    results = {
        "method": plan.method,
        "source": plan.source,
        "target": plan.target,
        "labels": len(ranges.train),
        "reduction": plan.reduction,
        "adaptation": plan.adaptation,
        "seed": plan.recipe.seed,
        "simulated": any(each.simulated for each in sets.values()),
        "simulated_sets": [name for name, each in sets.items() if each.simulated],
        "frames": {name: len(each) for name, each in sets.items()},
        "recipe": plan.recipe.to_json(),
        "epoch_kept": outcome.fit.epoch,
        "training_seconds": round(outcome.fit.seconds, 1),
        "logit_bias": outcome.shift,
        "tested": {name: tested(plan, sets[name], scores[name]) for name in sets if len(sets[name].labelled)},
        "device": jax.local_devices()[0].device_kind,
        "devices": jax.device_count(),
        "jax": jax.__version__,
    }
    if writes():
        atomic_write_text(out / LOG, "".join(json.dumps(record) + "\n" for record in outcome.fit.history))
        save_model(out / MODEL_FOLDER, model)
        write_scores(out / SCORES_FILE, scores, {name: sets[name].labels for name in sets})
        atomic_write_json(out / RESULTS, results)
    wait_for_all("the end of a run")
    return results


def tested(plan: RunConfig, prepared: PreparedSet, scores: np.ndarray) -> dict[str, Any]:
    """Sum up the scores of a set's labelled frames: the test frames where its labels were trained on, else all."""
    frames = prepared.labelled
    first = labelled_split(plan.labels, len(frames)).test.start if prepared.name == plan.labelled else 0
    return {"first_frame": first} | summarize(prepared.positives[frames[first:]], scores[frames[first:]])


def labelled_frames(prepared: PreparedSet) -> np.ndarray:
    """Return the numbers of the frames whose labels can be trained on.

    Raises:
        UserError: the set has none.
    """
    if not len(prepared.labelled):
        raise UserError(
            f"the set {prepared.name} has no labels to train on; name a file of them: --set {prepared.name}=FILES labels=FILE"
        )
    return prepared.labelled
