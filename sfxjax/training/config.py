"""The frozen configurations of a training: how a network is trained, and what a run is to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any, Literal

import jax
import optax

from sfxjax.errors import UserError
from sfxjax.models.stem import BaseConfig
from sfxjax.training.step import DANN, LossConfig

FROZEN, TRAINED = "frozen", "trained"


@dataclass(frozen=True)
class TrainingConfig:
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
    objective: LossConfig = DANN
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
def _optimizer(recipe: TrainingConfig) -> optax.GradientTransformation:
    steps = recipe.epochs * recipe.steps_per_epoch
    schedule = optax.cosine_onecycle_schedule(steps, recipe.learning_rate, pct_start=0.15)
    moving = optax.adamw(schedule, weight_decay=recipe.weight_decay)
    if not recipe.objective.frozen:
        return moving
    return optax.partition(
        {TRAINED: moving, FROZEN: optax.set_to_zero()}, lambda params: parts(params, recipe)
    )


def parts(params: Any, recipe: TrainingConfig) -> Any:
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


MethodName = Literal["supervised", "reduced", "transfer", "dann", "adapt"]
TITLES: dict[str, str] = {
    "supervised": "2D CNN",
    "reduced": "1D CNN",
    "transfer": "transfer learning",
    "dann": "DANN",
    "adapt": "adaptation without labels",
}


@dataclass(frozen=True)
class RunConfig:
    """One run.

    Attributes:
        method: "supervised" (whole frames) and "reduced" (vectors) train on the source alone; "transfer" starts from a network
            of the source and trains on labels of the target; "dann" and "adapt" train on labels of the source and frames of
            the target without labels.
        source: name of the first set.
        target: name of the second, or None.
        labels: labelled training frames, of the target in transfer and else of the source; None: all of the paper's
            training part.
        reduction: name of a reduction, or None for whole frames.
        recipe: how the network is trained.
        data: by name what each set that is not simulated consists of, as `SetDescription.to_json` gives it; None:
            all are simulated.
        frames: of each simulated set.
        base: folder of the run that transfer starts from, or None.
        adaptation: key of `sfxjax.training.adaptation.ADAPTATIONS` for "adapt", else None.
    """

    method: MethodName
    source: str
    target: str | None
    labels: int | None
    reduction: str | None
    recipe: TrainingConfig
    data: Any = None
    frames: int = 2000
    base: str | None = None
    adaptation: str | None = None

    def __post_init__(self) -> None:
        if self.source == self.target:
            raise UserError("--source and --target are the same set; name two")

    @property
    def labelled(self) -> str:
        """Name of the set whose labels are trained on."""
        return self.target if self.method == "transfer" and self.target else self.source

    @property
    def unlabelled(self) -> str | None:
        """Name of the set whose frames are trained on without labels, if any."""
        return self.target if self.method in ("dann", "adapt") else None

    @property
    def sets(self) -> list[str]:
        """Names of the sets that the run needs."""
        return [self.source] if self.target is None else [self.source, self.target]

    def title(self) -> str:
        """Name the network for people."""
        what = TITLES[self.method] if self.reduction is None else f"{TITLES[self.method]} on {self.reduction}"
        if self.recipe.base.plain:
            what += ", plain network"
        return f"{what}, {self.source}" + ("" if self.target is None else f" -> {self.target}")

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {key: getattr(self, key) for key in self.__dataclass_fields__} | {
            "recipe": self.recipe.to_json()
        }


def folder_name(reduction: str) -> str:
    """Return a reduction's name as part of a folder's: `mine.py:bright` becomes `bright`."""
    return reduction.rpartition(":")[2]
