"""Ways to carry a network to a set without labels: what each asks of the target's frames.

`METHODS` names them. All train on the source's labels; they differ in what they make of the target.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sfxjax.training.loop import Fit, Validation, fit, predict
from sfxjax.training.recipe import Recipe
from sfxjax.training.steps import Domains, Objective

# Target frames are taken at their word, in self-training, where the network is at least this sure.
CONFIDENCE = 0.9


@dataclass(frozen=True)
class Adaptation:
    """One way.

    Attributes:
        title: for tables.
        objective: what the training makes smaller; None where the target is not looked at.
        strength: of the adaptation at the end of its ramp.
        guesses: train a second time, with the labels that the first network is sure of on the target.
    """

    title: str
    objective: Objective | None
    strength: float = 1.0
    guesses: bool = False


METHODS: dict[str, Adaptation] = {
    "carried_over": Adaptation("carried over, untouched", None),
    "target_statistics": Adaptation("the target's own batch statistics", Objective("statistics")),
    "dann": Adaptation("DANN", Objective("dann", joint_statistics=True)),
    "conditional_smooth": Adaptation(
        "conditional DANN, smoothed task loss",
        Objective("conditional", sharpness=0.02, joint_statistics=True),
    ),
    "class_confusion": Adaptation(
        "minimum class confusion", Objective("class_confusion", joint_statistics=True), strength=0.5
    ),
    "self_training": Adaptation(
        "DANN, then self-training", Objective("dann", joint_statistics=True), guesses=True
    ),
}


def adapt(
    recipe: Recipe,
    method: str,
    training: Domains,
    validation: Validation,
    folder: Path | None = None,
    *,
    drawn: np.ndarray | None = None,
    advance: Callable[[int], None] = lambda steps: None,
) -> Fit:
    """Train with one of `METHODS`.

    Args:
        recipe: how to train; the method sets its objective and strength.
        method: key of `METHODS`.
        training: the training data, with the target's frames.
        validation: what each epoch is judged on.
        folder: of the checkpoints, or None to keep none.
        drawn: as for `sfxjax.training.loop.fit`.
        advance: called with the number of steps done.
    """
    way = METHODS[method]
    if way.objective is None:
        training, validation = training._replace(target=None), validation._replace(target=None)
        return fit(recipe, training, validation, folder, drawn=drawn, advance=advance)
    recipe = replace(recipe, objective=way.objective, strength=way.strength)
    first = folder / "first" if folder is not None and way.guesses else folder
    result = fit(recipe, training, validation, first, drawn=drawn, advance=advance)
    if not way.guesses:
        return result
    assert training.target is not None
    guessed = guessed_labels(recipe, result, np.asarray(training.target))
    second = None if folder is None else folder / "second"
    more = fit(recipe, training._replace(guessed=guessed), validation, second, drawn=drawn, advance=advance)
    return more._replace(seconds=result.seconds + more.seconds)


def guessed_labels(recipe: Recipe, result: Fit, target: np.ndarray) -> np.ndarray:
    """Return the labels that a network is sure of, float32 (m,), NaN where it is not.

    Args:
        recipe: the network was trained by.
        result: the training.
        target: (m, ...) maps.
    """
    statistics = result.batch_stats.get("target", result.batch_stats["source"])
    variables = {"params": result.params, "batch_stats": statistics}
    logits = predict(recipe.base, variables, target, recipe.objective)[0]
    sure = np.abs(logits) >= np.log(CONFIDENCE / (1 - CONFIDENCE))
    return np.where(sure, logits > 0, np.nan).astype(np.float32)


def rounds(method: str) -> int:
    """Return how many trainings a method takes."""
    return 2 if METHODS[method].guesses else 1
