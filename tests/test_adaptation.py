"""What adaptation asks of target frames: each loss against its equations, each way through the training."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sfxjax.models.networks import DomainAdversarialNetwork
from sfxjax.models.stem import BaseConfig
from sfxjax.training.adaptation import ADAPTATIONS, adapt, find_pseudo_labels, rounds
from sfxjax.training.config import FROZEN, TRAINED, TrainingConfig, parts
from sfxjax.training.loop import Validation
from sfxjax.training.losses import class_confusion, pseudo_label_loss
from sfxjax.training.step import BatchIndices, Domains, LossConfig, new_state, training_step

CONFIG = BaseConfig(dimensions=1, channels=(3, 4), features=5, dropout=0.0)
RECIPE = TrainingConfig(base=CONFIG, epochs=2, steps_per_epoch=4, batch=8, learning_rate=1e-2)
KEY = jax.random.key(7)


def domains(count: int = 24) -> Domains:
    rng = np.random.default_rng(0)
    positive = np.arange(count) % 3 == 0
    source = rng.normal(size=(count, 24, 1)) + 2 * positive[:, None, None]
    target = 0.6 * rng.normal(size=(count, 24, 1)) + 0.3
    return Domains(source.astype(np.float32), positive.astype(np.float32), target.astype(np.float32))


def one_draw(strength: float = 0.7) -> BatchIndices:
    return BatchIndices(np.arange(8), np.arange(8, 16), np.int32(0), np.float32(strength))


def test_class_confusion_against_its_equations() -> None:
    logits = np.random.default_rng(0).normal(scale=3, size=20)
    positive = 1 / (1 + np.exp(-logits / 2.5))
    classes = np.stack([1 - positive, positive], axis=1)
    certainty = 1 + np.exp(np.sum(classes * np.log(classes), axis=1))
    weights = len(logits) * certainty / certainty.sum()
    confusion = np.zeros((2, 2))
    for row, weight in zip(classes, weights, strict=True):
        confusion += weight * np.outer(row, row)
    confusion /= confusion.sum(axis=1, keepdims=True)
    expected = (confusion[0, 1] + confusion[1, 0]) / 2
    assert float(class_confusion(jnp.asarray(logits))) == pytest.approx(expected, rel=1e-5)
    sure = class_confusion(jnp.array([40.0, -40.0, 40.0]))
    torn = class_confusion(jnp.array([0.1, -0.1, 0.0]))
    assert float(sure) < 1e-3 < 0.4 < float(torn)


def test_pseudo_labels_weigh_both_classes_alike_and_unknown_frames_nothing() -> None:
    logits = jnp.array([2.0, -1.0, 0.5, 3.0, -4.0])
    pseudo_labels = jnp.array([1.0, 0.0, np.nan, 1.0, np.nan])
    expected = (np.mean([np.log1p(np.exp(-2.0)), np.log1p(np.exp(-3.0))]) + np.log1p(np.exp(-1.0))) / 2
    assert float(pseudo_label_loss(logits, pseudo_labels)) == pytest.approx(expected, rel=1e-5)
    slopes = jax.grad(pseudo_label_loss)(logits, pseudo_labels)
    assert np.all(np.isfinite(slopes))
    np.testing.assert_array_equal(np.asarray(slopes)[[2, 4]], 0)
    assert float(pseudo_label_loss(logits, jnp.full(5, np.nan))) == 0


def test_joint_statistics_are_those_of_one_batch_of_both_domains() -> None:
    data, draw = domains(), one_draw()
    objective = LossConfig("dann", joint_statistics=True)
    state = new_state(CONFIG, optax.sgd(0.1), data.source[:1], 1, ("source",), objective)
    step = jax.jit(training_step(CONFIG, optax.sgd(0.1), objective=objective))
    after, losses = step(state, data, draw, KEY)
    assert set(after.batch_stats) == {"source"}
    both = np.concatenate([data.source[draw.source], data.target[draw.target]])
    network = DomainAdversarialNetwork(CONFIG)
    variables = {"params": state.params, "batch_stats": state.batch_stats["source"]}
    (logits, _), changed = network.apply(variables, both, train=True, mutable=["batch_stats"])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        after.batch_stats["source"],
        changed["batch_stats"],
    )
    truth = data.positive[draw.source]
    expected = optax.sigmoid_binary_cross_entropy(logits[:8], truth).mean()
    assert float(losses.label) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("frozen", [1, 2, 3])
def test_levels_that_rest_stay_bit_identical(frozen: int) -> None:
    """Parameters and batch statistics of the frozen levels after steps with weight decay; all others move."""
    recipe = replace(RECIPE, objective=LossConfig(frozen=frozen), weight_decay=0.1)
    # High enough that the untrained blocks, which rest at first, let something through.
    data = domains()._replace(source=20 * domains().source, target=None)
    optimizer = recipe.optimizer()
    state = new_state(CONFIG, optimizer, data.source[:1], 1, ("source",), recipe.objective)
    step = jax.jit(training_step(CONFIG, optimizer, objective=recipe.objective))
    after = state
    for _ in range(3):
        after, _ = step(after, data, one_draw(), KEY)
    labels = parts(state.params, recipe)
    rests = {
        f"{kind}_{level}" for kind in ("convolution", "normalization") for level in range(min(frozen, 2))
    }
    if frozen == 3:
        rests |= {"normalization_counts", "features"}
    assert set(jax.tree.leaves(labels)) == {FROZEN, TRAINED}
    for module, tree in state.params["base"].items():
        assert all(
            label == (FROZEN if module in rests else TRAINED)
            for label in jax.tree.leaves(labels["base"][module])
        )
        for before, now in zip(
            jax.tree.leaves(tree), jax.tree.leaves(after.params["base"][module]), strict=True
        ):
            assert np.array_equal(before, now) == (module in rests), module
    for module, tree in state.batch_stats["source"]["base"].items():
        for before, now in zip(
            jax.tree.leaves(tree), jax.tree.leaves(after.batch_stats["source"]["base"][module]), strict=True
        ):
            assert np.array_equal(before, now) == (module in rests), module
    assert not np.array_equal(
        state.params["label_head"]["logit"]["kernel"], after.params["label_head"]["logit"]["kernel"]
    )


@pytest.mark.parametrize(
    "method",
    [
        name if name in ("dann", "self_training") else pytest.param(name, marks=pytest.mark.slow)
        for name in ADAPTATIONS
    ],
)
def test_every_way_trains_and_goes_on_from_its_checkpoints(method: str, tmp_path) -> None:
    data = domains()
    validation = Validation(data.source, data.positive > 0, data.target)
    done: list[int] = []
    result = adapt(RECIPE, method, data, validation, tmp_path, advance=done.append)
    assert sum(done) == rounds(method) * RECIPE.epochs * RECIPE.steps_per_epoch
    assert ("domain_loss" in result.history[0]) == (method != "carried_over")
    assert "target" not in result.batch_stats
    again = adapt(RECIPE, method, data, validation, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, result.params, again.params)


def test_self_training_takes_only_what_the_network_is_sure_of() -> None:
    data = domains()
    validation = Validation(data.source, data.positive > 0, data.target)
    recipe = replace(RECIPE, objective=ADAPTATIONS["self_training"].objective, epochs=6, steps_per_epoch=20)
    result = adapt(recipe, "dann", data, validation)
    pseudo_labels = find_pseudo_labels(recipe, result, np.asarray(data.source))
    variables = {"params": result.params, "batch_stats": result.batch_stats["source"]}
    logits, _ = DomainAdversarialNetwork(CONFIG).apply(variables, data.source)
    probability = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    sure = np.abs(probability - 0.5) >= 0.4
    assert sure.any(), "some frames must be clear for this test to mean anything"
    np.testing.assert_array_equal(np.isfinite(pseudo_labels), sure)
    np.testing.assert_array_equal(pseudo_labels[sure], probability[sure] > 0.5)
