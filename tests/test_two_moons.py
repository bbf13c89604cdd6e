"""The rotated two moons of Ganin et al. (2016, section 5.1.1): plain training fails on the target, DANN must not.

The training is the library's own, with a fully connected base in place of the convolutional one.
"""

from __future__ import annotations

from dataclasses import dataclass

import flax.linen as nn
import numpy as np
import pytest
from sklearn.datasets import make_moons

from sfxjax.models.gradient_reversal import gradient_reversal
from sfxjax.models.stem import BaseConfig
from sfxjax.training.config import TrainingConfig
from sfxjax.training.loop import Validation, fit, predict
from sfxjax.training.step import Domains, LossConfig

ROTATION = np.deg2rad(35)
POINTS = 300


class Points(nn.Module):
    """Their shallow network: 15 sigmoid units on points of a plane, both classifiers linear (section 4)."""

    @nn.compact
    def __call__(self, points, strength=1.0, *, train: bool = False):
        features = nn.sigmoid(nn.Dense(15)(points[..., 0]))
        label = nn.Dense(1)(features)[..., 0]
        return label, nn.Dense(1)(gradient_reversal(features, strength))[..., 0]


@dataclass(frozen=True)
class OnPoints(LossConfig):
    """The objective, for that network."""

    def network(self, config: BaseConfig, axis_name: str | None = None) -> nn.Module:
        return Points()


def moons(seed: int, turned: bool) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 2, 1) about the moons' centre, and their classes."""
    points, classes = make_moons(POINTS, noise=0.05, random_state=seed)
    points = points - [0.5, 0.25]
    if turned:
        cosine, sine = np.cos(ROTATION), np.sin(ROTATION)
        points = points @ np.array([[cosine, sine], [-sine, cosine]])
    return points[..., None].astype(np.float32), classes > 0


def accuracy_on_target(adapted: bool, seed: int) -> float:
    source, positive = moons(1, False)
    target, truth = moons(2, True)
    recipe = TrainingConfig(
        base=BaseConfig(dimensions=1, noise_normalised=False),
        objective=OnPoints("dann"),
        epochs=40,
        steps_per_epoch=50,
        batch=100,
        learning_rate=5e-2,
        strength=3.0,
        seed=seed,
    )
    training = Domains(source, positive.astype(np.float32), target if adapted else None)
    result = fit(recipe, training, Validation(source, positive, target if adapted else None))
    logits, _ = predict(recipe.base, {"params": result.params}, target, recipe.objective)
    on_source, _ = predict(recipe.base, {"params": result.params}, source, recipe.objective)
    assert np.mean((on_source > 0) == positive) > 0.9, "the source must have been learnt"
    return float(np.mean((logits > 0) == truth))


@pytest.mark.slow
def test_plain_training_fails_on_the_turned_moons_and_dann_does_not() -> None:
    plain = [accuracy_on_target(False, seed) for seed in range(3)]
    adapted = [accuracy_on_target(True, seed) for seed in range(3)]
    assert np.mean(plain) < 0.78
    assert np.mean(adapted) > 0.84
    assert min(adapted) > max(plain)
