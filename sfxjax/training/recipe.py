"""How a network is trained: everything that decides what the training ends in, but the data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any

import jax
import optax

from sfxjax.models.config import BaseConfig
from sfxjax.training.steps import DANN, Objective

FROZEN, TRAINED = "frozen", "trained"


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        base: shape of the convolutional base.
        objective: what is made smaller, and which part of the network moves.
        epochs: passes of `steps_per_epoch` steps.
        steps_per_epoch: optimiser steps an epoch.
        batch: source frames a step, and as many target frames.
        learning_rate: at its highest; it rises for 15 % of the steps and falls as a cosine to nothing.
        weight_decay: of AdamW.
        strength: of the gradient reversal, or of another adaptation, at the end of its ramp.
        seed: of the weights, the draws and dropout.
    """

    base: BaseConfig = field(default_factory=BaseConfig)
    objective: Objective = DANN
    epochs: int = 16
    steps_per_epoch: int = 40
    batch: int = 32
    learning_rate: float = 5e-3
    weight_decay: float = 1e-4
    strength: float = 2.0
    seed: int = 0

    def optimizer(self) -> optax.GradientTransformation:
        """Build the optimiser of this recipe, the same object for recipes that differ in their seed alone."""
        return _optimizer(replace(self, seed=0))

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self) | {"base": self.base.to_json()}


@cache
def _optimizer(recipe: Recipe) -> optax.GradientTransformation:
    steps = recipe.epochs * recipe.steps_per_epoch
    schedule = optax.cosine_onecycle_schedule(steps, recipe.learning_rate, pct_start=0.15)
    moving = optax.adamw(schedule, weight_decay=recipe.weight_decay)
    if not recipe.objective.frozen:
        return moving
    return optax.partition(
        {TRAINED: moving, FROZEN: optax.set_to_zero()}, lambda params: parts(params, recipe)
    )


def parts(params: Any, recipe: Recipe) -> Any:
    """Label every parameter `FROZEN` or `TRAINED`, as the objective's `frozen` says.

    Args:
        params: of `DomainAdversarialNetwork`.
        recipe: of the training.

    Returns:
        A tree of the shape of `params` with a label for each leaf.
    """
    last = len(recipe.base.channels)

    def level(module: str) -> int:
        number = module.rpartition("_")[2]
        return int(number) if number.isdigit() else last

    def label(path: tuple[Any, ...], leaf: Any) -> str:
        part, module = path[0].key, path[1].key
        return FROZEN if part == "base" and level(module) < recipe.objective.frozen else TRAINED

    return jax.tree_util.tree_map_with_path(label, params)
