"""The training loop: epochs, validation, checkpoints, and which epoch is kept."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit

from sfxjax.data.batches import filled
from sfxjax.errors import UserError
from sfxjax.models.checkpoint import read_checkpoint, write_checkpoint
from sfxjax.models.stem import BaseConfig
from sfxjax.training.config import TrainingConfig
from sfxjax.training.distributed import check_same_start, wait_for_all
from sfxjax.training.evaluation import positive_fraction
from sfxjax.training.losses import cross_entropy
from sfxjax.training.mapping import first_replica, mapped_steps, replicate, split_over_devices
from sfxjax.training.sampling import draw_epoch
from sfxjax.training.step import DANN, Array, Domains, LossConfig, TrainState, new_state

EVALUATION_BATCH = 64
CHECKPOINTS_KEPT = 2
# Epochs over which the fraction of positives in the target is estimated.
FRACTION_EPOCHS = 3


class Validation(NamedTuple):
    """What each epoch is judged on.

    Attributes:
        source: (n, ...) maps of source frames that are not trained on.
        positive: (n,) bool, their labels.
        target: (m, ...) maps of target frames that are not trained on, or None. They carry no labels.
    """

    source: np.ndarray
    positive: np.ndarray
    target: np.ndarray | None


class TrainingResult(NamedTuple):
    """A trained network.

    Attributes:
        params: of `DomainAdversarialNetwork`, of the epoch kept.
        batch_stats: its batch statistics, by domain: `source`, and `target` where there was one.
        epoch: the epoch kept, counted from 1.
        history: one JSON-ready record an epoch.
        seconds: spent training, over all the sittings.
    """

    params: Any
    batch_stats: dict[str, Any]
    epoch: int
    history: list[dict[str, Any]]
    seconds: float

    def variables(self, domain: str) -> dict[str, Any]:
        """Return Flax variables of `HitClassifier` for a domain; the source's where it was not trained on."""
        statistics = self.batch_stats.get(domain, self.batch_stats["source"])
        params = {part: tree for part, tree in self.params.items() if part != "domain_head"}
        return {
            "params": params,
            "batch_stats": {part: statistics[part] for part in params if part in statistics},
        }


def predict(
    config: BaseConfig, variables: dict[str, Any], maps: np.ndarray, objective: LossConfig = DANN
) -> tuple[np.ndarray, np.ndarray]:
    """Return the (n,) label and (n,) domain logits of (n, ...) maps, batch by batch."""
    label, domain = [], []
    for start in range(0, len(maps), EVALUATION_BATCH):
        batch = maps[start : start + EVALUATION_BATCH]
        a, b = _predict(config, variables, filled(batch, EVALUATION_BATCH), objective)
        label.append(np.asarray(a)[: len(batch)])
        domain.append(np.asarray(b)[: len(batch)])
    return np.concatenate(label), np.concatenate(domain)


def _predict_batch(
    config: BaseConfig, variables: Any, maps: jax.Array, objective: LossConfig
) -> tuple[jax.Array, jax.Array]:
    return objective.network(config).apply(variables, maps)  # type: ignore[return-value]


_predict = jax.jit(_predict_batch, static_argnums=(0, 3))


def validate(
    config: BaseConfig,
    params: Any,
    batch_stats: dict[str, Any],
    data: Validation,
    objective: LossConfig = DANN,
) -> dict[str, float]:
    """Measure both heads on frames that are not trained on (the paper's Fig. 10).

    Args:
        config: the network's base.
        params: of `DomainAdversarialNetwork`.
        batch_stats: its batch statistics, by domain.
        data: the frames.
        objective: what the network was trained for.

    Returns:
        `label_loss` (class-balanced cross entropy, nats, as trained on) and `label_accuracy` (balanced) on the source, and
        where there is a target `domain_loss` and `domain_accuracy`, both domains weighing the same, and `target_fraction`, the
        fraction of positives found in it. That is found with the source's batch statistics: by its own ones a target with few
        positives looks like one with many.
    """

    def heads(statistics: str, maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return predict(config, {"params": params, "batch_stats": batch_stats[statistics]}, maps, objective)

    label, domain = heads("source", data.source)
    classes = [label[data.positive], -label[~data.positive]]
    classes = [logits for logits in classes if len(logits)]
    result = {
        "label_loss": float(np.mean([cross_entropy(logits, np.ones(len(logits))) for logits in classes])),
        "label_accuracy": float(np.mean([np.mean(logits >= 0) for logits in classes])),
    }
    if data.target is not None:
        found, target = heads("source", data.target)
        if "target" in batch_stats:
            _, target = heads("target", data.target)
        told = label[data.positive], label[~data.positive], found
        known = all(map(len, told))
        result["target_fraction"] = (
            positive_fraction(*(float(expit(x).mean()) for x in told)) if known else 0.5
        )
        sides = [-domain, target]
        result["domain_loss"] = float(np.mean([cross_entropy(x, np.ones(len(x))) for x in sides]))
        result["domain_accuracy"] = float(np.mean([np.mean(x >= 0) for x in sides]))
    return result


def is_eligible(epoch: int, epochs: int) -> bool:
    """Tell whether an epoch, counted from 1, may be the one kept: those of the last quarter.

    By then the reversal is at its full strength and the learning rate is falling. Among them the lowest label loss on
    the source's validation frames decides, which uses no label of the target.
    """
    return epoch > epochs - max(1, math.ceil(epochs / 4))


def fraction_to_draw(history: Sequence[Mapping[str, Any]]) -> float:
    """Return the fraction of positives to draw from the source, halfway from one half to that estimated of the target.

    A network that overlooks faint hits underestimates their fraction, and would be confirmed in it by what is drawn; a lost hit
    costs more than a false one. The median of a few epochs, since early estimates jump.

    Args:
        history: records of the epochs done.
    """
    estimates = [record["target_fraction"] for record in history[-FRACTION_EPOCHS:]]
    return float((0.5 + np.median(estimates)) / 2) if estimates else 0.5


def check_batch(batch: int, devices: int) -> None:
    """Raise a UserError unless devices can share a batch, each with as many positives as negatives."""
    if batch % (2 * devices):
        among = "one device" if devices == 1 else f"{devices} devices"
        raise UserError(f"a batch of {batch} cannot be shared by {among}; take a multiple of {2 * devices}")


def check_classes(positive: Array) -> None:
    """Raise a UserError unless (n,) labels hold both classes."""
    flags = np.asarray(positive) > 0
    if flags.all() or not flags.any():
        raise UserError("the source's training frames are all of one class; use more frames")


def fit(
    recipe: TrainingConfig,
    training: Domains,
    validation: Validation,
    folder: Path | None = None,
    *,
    start: dict[str, Any] | None = None,
    drawn: np.ndarray | None = None,
    devices: list[jax.Device] | None = None,
    report: Callable[[dict[str, Any]], None] = lambda record: None,
    advance: Callable[[int], None] = lambda steps: None,
) -> TrainingResult:
    """Train a network, or go on where a killed run of the same recipe stopped.

    Every epoch ends in a checkpoint under `folder` that holds the state, the epoch kept so far and the history. All
    randomness comes from the seed, the epoch and the step, so that a resumed run ends where an uninterrupted one does.

    Args:
        recipe: how to train.
        training: the training data, on the host.
        validation: what each epoch is judged on.
        folder: of the checkpoints; None keeps none, for trainings of seconds.
        start: Flax variables to begin with in place of fresh ones: any of `base`, `label_head` and `domain_head` under
            `params`, and `batch_stats`, which all domains begin with.
        drawn: (k,) places in the source that are trained on; None: all of it. Trainings on other frames of the same data
            then share one compiled program.
        devices: to train on, by default those of all processes, which then train one network together: every process
            gives the same data, and reads the checkpoints that process 0 writes. Their number divides the batch.
        report: called with each epoch's record, also with those of earlier sittings.
        advance: called with the number of steps done.

    Raises:
        UserError: `folder` holds checkpoints of another recipe, the batch cannot be shared between the devices, or the
            source has frames of one class only.
    """
    devices = devices or jax.devices()
    drawn = np.arange(len(training.source)) if drawn is None else np.asarray(drawn, np.int32)
    positive = np.asarray(training.positive)[drawn] > 0
    check_batch(recipe.batch, len(devices))
    check_classes(positive)
    optimizer = recipe.optimizer()
    own = training.target is not None and not recipe.objective.joint_statistics
    domains = ("source", "target") if own else ("source",)
    example = jnp.asarray(training.source[:1])
    state = new_state(recipe.base, optimizer, example, recipe.seed, domains, recipe.objective)
    if start is not None:
        state = state.replace(
            params=state.params | start["params"],
            batch_stats={domain: stats | start["batch_stats"] for domain, stats in state.batch_stats.items()},
        )
    kept = {"params": state.params, "batch_stats": state.batch_stats}
    fingerprint = json.loads(
        json.dumps(asdict(recipe) | {"source": len(positive), "adversarial": training.target is not None})
    )
    progress: dict[str, Any] = {
        "recipe": fingerprint,
        "epoch": 0,
        "kept_epoch": 0,
        "history": [],
        "seconds": 0.0,
    }
    newest = None if folder is None else newest_checkpoint(folder)
    if newest is not None:
        tree, progress = read_checkpoint(newest, {"state": state, "kept": kept})
        state, kept = tree["state"], tree["kept"]
        if progress["recipe"] != fingerprint:
            raise UserError(
                f"{folder} holds a run with other settings; name another --out, or delete that folder"
            )
        for record in progress["history"]:
            report(record)
        advance(progress["epoch"] * recipe.steps_per_epoch)
    check_same_start(progress["epoch"])
    if progress["epoch"] < recipe.epochs:
        data = replicate(jax.tree.map(jnp.asarray, training), devices)
        state = replicate(state, devices)
        run = mapped_steps(recipe.base, optimizer, devices, objective=recipe.objective)
    key = jax.random.key(recipe.seed)

    for epoch in range(progress["epoch"], recipe.epochs):
        began = time.monotonic()
        matched = recipe.objective.matched_classes and training.target is not None
        fraction = fraction_to_draw(progress["history"]) if matched else 0.5
        draw = draw_epoch(
            positive,
            0 if training.target is None else len(training.target),
            epoch=epoch,
            epochs=recipe.epochs,
            steps=recipe.steps_per_epoch,
            batch=recipe.batch,
            strength=recipe.strength,
            seed=recipe.seed,
            fraction=fraction,
        )
        draw = draw._replace(source=drawn[draw.source].astype(np.int32))
        state, losses = run(state, data, split_over_devices(draw, len(devices)), key, advance)
        host: TrainState = first_replica(state)
        record = {
            "epoch": epoch + 1,
            "train_label_loss": float(np.mean(losses.label)),
            "train_domain_loss": float(np.mean(losses.domain)),
            **validate(recipe.base, host.params, host.batch_stats, validation, recipe.objective),
        }
        if not all(math.isfinite(value) for value in record.values()):
            raise UserError(f"training diverged in epoch {epoch + 1}; use a lower --learning-rate")
        history = [*progress["history"], record]
        best = [r for r in history if is_eligible(r["epoch"], recipe.epochs)]
        if not best or min(best, key=lambda r: r["label_loss"]) is record:
            kept = {"params": host.params, "batch_stats": host.batch_stats}
            progress["kept_epoch"] = epoch + 1
        progress |= {
            "epoch": epoch + 1,
            "history": history,
            "seconds": progress["seconds"] + time.monotonic() - began,
        }
        if folder is not None and jax.process_index() == 0:
            write_checkpoint(folder / f"epoch_{epoch + 1:04d}", {"state": host, "kept": kept}, progress)
            for old in sorted(folder.glob("epoch_[0-9]*"))[:-CHECKPOINTS_KEPT]:
                shutil.rmtree(old, ignore_errors=True)
        report(record)
    wait_for_all("the end of a training")
    return TrainingResult(
        **kept, epoch=progress["kept_epoch"], history=progress["history"], seconds=progress["seconds"]
    )


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the last whole checkpoint under a folder, or None."""
    whole = sorted(path for path in folder.glob("epoch_[0-9]*") if path.is_dir())
    return whole[-1] if whole else None
