"""Ways to carry a network to a set without labels: what each asks of the target's frames.

`ADAPTATIONS` names them. All train on the source's labels; they differ in what they make of the target.
Batch statistics of the target alone (Li et al. 2017) and conditional DANN with a smoothed task loss (Long et al. 2018,
Rangwani et al. 2022) are not among them: both did worse than carrying over untouched, see `bench/results/reductions.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sfxjax.training.config import TrainingConfig
from sfxjax.training.loop import TrainingResult, Validation, fit, predict
from sfxjax.training.step import Domains, LossConfig

# Target frames are taken at their word, in self-training, where the network is at least this sure.
PSEUDO_LABEL_CONFIDENCE = 0.9


@dataclass(frozen=True)
class Adaptation:
    """One way.

    Attributes:
        title: for tables.
        objective: what the training makes smaller; None where the target is not looked at.
        strength: of the adaptation at the end of its ramp.
        pseudo_labelling: train a second time, with the labels that the first network is sure of on the target.
    """

    title: str
    objective: LossConfig | None
    strength: float = 1.0
    pseudo_labelling: bool = False


ADAPTATIONS: dict[str, Adaptation] = {
    "carried_over": Adaptation("carried over, untouched", None),
    "dann": Adaptation("DANN", LossConfig("dann", joint_statistics=True)),
    "class_confusion": Adaptation(
        "minimum class confusion", LossConfig("class_confusion", joint_statistics=True), strength=0.5
    ),
    "self_training": Adaptation(
        "DANN, then self-training", LossConfig("dann", joint_statistics=True), pseudo_labelling=True
    ),
}


def adapt(
    recipe: TrainingConfig,
    method: str,
    training: Domains,
    validation: Validation,
    folder: Path | None = None,
    *,
    drawn: np.ndarray | None = None,
    advance: Callable[[int], None] = lambda steps: None,
) -> TrainingResult:
    """Train with one of `ADAPTATIONS`.

    Args:
        recipe: how to train; the method sets its objective and strength.
        method: key of `ADAPTATIONS`.
        training: the training data, with the target's frames.
        validation: what each epoch is judged on.
        folder: of the checkpoints, or None to keep none.
        drawn: as for `sfxjax.training.loop.fit`.
        advance: called with the number of steps done.
    """
    way = ADAPTATIONS[method]
    if way.objective is None:
        training, validation = training._replace(target=None), validation._replace(target=None)
        return fit(recipe, training, validation, folder, drawn=drawn, advance=advance)
    recipe = replace(recipe, objective=way.objective, strength=way.strength)
    first = folder / "first" if folder is not None and way.pseudo_labelling else folder
    result = fit(recipe, training, validation, first, drawn=drawn, advance=advance)
    if not way.pseudo_labelling:
        return result
    assert training.target is not None
    pseudo_labels = find_pseudo_labels(recipe, result, np.asarray(training.target))
    second = None if folder is None else folder / "second"
    more = fit(
        recipe,
        training._replace(pseudo_labels=pseudo_labels),
        validation,
        second,
        drawn=drawn,
        advance=advance,
    )
    return more._replace(seconds=result.seconds + more.seconds)


def find_pseudo_labels(recipe: TrainingConfig, result: TrainingResult, target: np.ndarray) -> np.ndarray:
    """Return the labels that a network is sure of, float32 (m,), NaN where it is not.

    Args:
        recipe: the network was trained by.
        result: the training.
        target: (m, ...) maps.
    """
    statistics = result.batch_stats.get("target", result.batch_stats["source"])
    variables = {"params": result.params, "batch_stats": statistics}
    logits = predict(recipe.base, variables, target, recipe.objective)[0]
    sure = np.abs(logits) >= np.log(PSEUDO_LABEL_CONFIDENCE / (1 - PSEUDO_LABEL_CONFIDENCE))
    return np.where(sure, logits > 0, np.nan).astype(np.float32)


def rounds(method: str) -> int:
    """Return how many trainings a method takes."""
    return 2 if ADAPTATIONS[method].pseudo_labelling else 1
