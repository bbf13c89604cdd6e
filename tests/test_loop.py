"""The training loop: resuming, choosing an epoch, refusing what does not fit."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from sfxjax.errors import UserError
from sfxjax.models.checkpoint import write_checkpoint
from sfxjax.models.networks import DomainAdversarialNetwork, HitClassifier
from sfxjax.models.stem import BaseConfig
from sfxjax.training import loop
from sfxjax.training.config import TrainingConfig
from sfxjax.training.loop import (
    TrainingResult,
    Validation,
    fit,
    fraction_to_draw,
    is_eligible,
    newest_checkpoint,
    validate,
)
from sfxjax.training.step import Domains, LossConfig

RECIPE = TrainingConfig(
    base=BaseConfig(channels=(3, 4), features=5), epochs=4, steps_per_epoch=3, batch=8, learning_rate=1e-2
)


def data() -> tuple[Domains, Validation]:
    rng = np.random.default_rng(0)
    positive = np.arange(32) % 2 == 0
    source = (rng.normal(size=(32, 12, 12, 2)) + positive[:, None, None, None]).astype(jnp.bfloat16)
    target = (0.7 * rng.normal(size=(32, 12, 12, 2))).astype(jnp.bfloat16)
    return (
        Domains(source[:20], positive[:20].astype(np.float32), target[:20]),
        Validation(source[20:], positive[20:], target[20:]),
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[TrainingResult, Path]:
    """An uninterrupted run of RECIPE, and the folder of its checkpoints."""
    folder = tmp_path_factory.mktemp("finished")
    return fit(RECIPE, *data(), folder), folder


class Stopped(Exception):
    """Stands for a kill between two epochs."""


def test_a_stopped_run_ends_where_an_uninterrupted_one_does(tmp_path, monkeypatch, finished) -> None:
    training, validation = data()
    whole, folder = finished

    def stop(record) -> None:
        if record["epoch"] == 2:
            raise Stopped

    with pytest.raises(Stopped):
        fit(RECIPE, training, validation, tmp_path / "resumed", report=stop)
    done = []
    resumed = fit(RECIPE, training, validation, tmp_path / "resumed", advance=done.append)
    assert done[0] == 2 * RECIPE.steps_per_epoch
    assert sum(done) == RECIPE.epochs * RECIPE.steps_per_epoch
    jax.tree.map(np.testing.assert_array_equal, resumed.params, whole.params)
    jax.tree.map(np.testing.assert_array_equal, resumed.batch_stats, whole.batch_stats)
    assert resumed.history == whole.history
    assert resumed.epoch == whole.epoch
    # A finished run is not trained again.
    with monkeypatch.context() as patch:
        patch.setattr("sfxjax.training.loop.mapped_steps", None)
        again = fit(RECIPE, training, validation, folder)
    jax.tree.map(np.testing.assert_array_equal, again[:2], whole[:2])
    assert again.seconds == whole.seconds


def test_classes_are_drawn_by_the_share_found_in_the_target(monkeypatch) -> None:
    drawn = []
    draw_epoch = loop.draw_epoch

    def draw(*arguments, **options):
        drawn.append(options["fraction"])
        return draw_epoch(*arguments, **options)

    monkeypatch.setattr(loop, "draw_epoch", draw)
    plain = fit(RECIPE, *data())
    assert drawn == [0.5] * RECIPE.epochs
    drawn.clear()
    matched = fit(dataclasses.replace(RECIPE, objective=LossConfig(matched_classes=True)), *data())
    assert drawn == [fraction_to_draw(matched.history[:epoch]) for epoch in range(RECIPE.epochs)]
    # The first epoch is drawn alike.
    assert matched.history[0] == plain.history[0]


def test_the_share_drawn_lies_halfway_to_the_median_of_the_last_estimates() -> None:
    records = [{"target_fraction": share} for share in (0.9, 0.9, 0.9, 0.2, 0.7, 0.3, 0.9, 0.2)]
    assert fraction_to_draw(records) == pytest.approx(0.4)
    assert fraction_to_draw(records[:4]) == pytest.approx(0.7)
    assert fraction_to_draw([]) == 0.5


@pytest.mark.slow
def test_the_kept_epoch_has_the_lowest_source_loss_of_the_last_quarter(tmp_path) -> None:
    training, validation = data()
    recipe = dataclasses.replace(RECIPE, epochs=8)
    result = fit(recipe, training, validation, tmp_path)
    last = [record for record in result.history if record["epoch"] > 6]
    assert result.epoch == min(last, key=lambda record: record["label_loss"])["epoch"]
    kept = validate(recipe.base, result.params, result.batch_stats, validation)
    assert kept["label_loss"] == pytest.approx(result.history[result.epoch - 1]["label_loss"], rel=1e-6)
    assert [epoch for epoch in range(1, 9) if is_eligible(epoch, 8)] == [7, 8]


def test_another_recipe_does_not_go_on_with_old_checkpoints(finished) -> None:
    training, validation = data()
    with pytest.raises(UserError, match="other settings"):
        fit(dataclasses.replace(RECIPE, learning_rate=1e-3), training, validation, finished[1])


def test_a_damaged_checkpoint_is_named(tmp_path, finished) -> None:
    training, validation = data()
    folder = shutil.copytree(finished[1], tmp_path / "damaged")
    newest = newest_checkpoint(folder)
    for file in (newest / "weights").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with pytest.raises(UserError, match="damaged"):
        fit(RECIPE, training, validation, folder)


def test_a_failed_checkpoint_leaves_the_older_one(tmp_path) -> None:
    write_checkpoint(tmp_path / "epoch_0001", {"weights": np.arange(3.0)}, {"epoch": 1})
    with pytest.raises(ValueError, match="Out of range float"):
        write_checkpoint(tmp_path / "epoch_0001", {"weights": np.arange(4.0)}, {"epoch": float("nan")})
    assert newest_checkpoint(tmp_path) == tmp_path / "epoch_0001"
    assert '"epoch": 1' in (tmp_path / "epoch_0001" / "model.json").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["epoch_0001"]


def test_source_of_one_class_and_odd_batches_are_refused(tmp_path) -> None:
    training, validation = data()
    with pytest.raises(UserError, match="one class"):
        fit(RECIPE, training._replace(positive=np.zeros(20, np.float32)), validation, tmp_path)
    with pytest.raises(UserError, match="multiple of"):
        fit(dataclasses.replace(RECIPE, batch=7), training, validation, tmp_path)
    assert newest_checkpoint(tmp_path) is None


def test_validation_against_numpy(finished) -> None:
    _, validation = data()
    result, _ = finished
    network = DomainAdversarialNetwork(RECIPE.base)

    def heads(domain, maps):
        variables = {"params": result.params, "batch_stats": result.batch_stats[domain]}
        return (np.asarray(logits, np.float64) for logits in network.apply(variables, maps))

    label, from_source = heads("source", validation.source)
    _, from_target = heads("target", validation.target)
    truth = validation.positive

    def loss(logits, sides):
        return -np.log(1 / (1 + np.exp(-np.where(sides, logits, -logits))))

    got = validate(RECIPE.base, result.params, result.batch_stats, validation)
    losses = loss(label, truth)
    assert got["label_loss"] == pytest.approx((losses[truth].mean() + losses[~truth].mean()) / 2, rel=1e-4)
    hits, misses = np.mean(label[truth] >= 0), np.mean(label[~truth] <= 0)
    assert got["label_accuracy"] == pytest.approx((hits + misses) / 2)
    domain_loss = (loss(from_source, False).mean() + loss(from_target, True).mean()) / 2
    assert got["domain_loss"] == pytest.approx(domain_loss, rel=1e-4)
    right = (np.mean(from_source <= 0) + np.mean(from_target >= 0)) / 2
    assert got["domain_accuracy"] == pytest.approx(right)

    found, _ = heads("source", validation.target)
    recall, alarms, called = (expit(x).mean() for x in (label[truth], label[~truth], found))
    expected = np.clip((called - alarms) / (recall - alarms), 0.1, 0.9) if recall - alarms >= 0.3 else 0.5
    assert got["target_fraction"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_the_targets_share_of_positives_is_found_whatever_its_own_statistics(finished) -> None:
    _, validation = data()
    rng = np.random.default_rng(4)
    few = rng.normal(size=(400, 12, 12, 2)) + (np.arange(400) % 5 == 0)[:, None, None, None]
    training, _ = data()
    training = training._replace(target=np.asarray(few[:200], jnp.bfloat16))
    validation = validation._replace(target=np.asarray(few[200:], jnp.bfloat16))
    recipe = dataclasses.replace(RECIPE, epochs=12, steps_per_epoch=10, strength=0.1)
    result = fit(recipe, training, validation)
    assert result.history[-1]["target_fraction"] == pytest.approx(0.2, abs=0.1)


def test_variables_are_those_of_the_hit_classifier_for_the_domain_asked(tmp_path, finished) -> None:
    training, validation = data()
    result, _ = finished
    network, classifier = DomainAdversarialNetwork(RECIPE.base), HitClassifier(RECIPE.base)
    maps = jnp.asarray(validation.target)
    logits = {}
    for domain in ("source", "target"):
        both = {"params": result.params, "batch_stats": result.batch_stats[domain]}
        logits[domain] = classifier.apply(result.variables(domain), maps)
        np.testing.assert_allclose(logits[domain], network.apply(both, maps)[0], rtol=1e-5)
    assert not np.allclose(logits["source"], logits["target"])

    alone = fit(
        dataclasses.replace(RECIPE, epochs=1),
        training._replace(target=None),
        validation._replace(target=None),
        tmp_path / "source_only",
    )
    assert set(alone.batch_stats) == {"source"}
    assert "domain_loss" not in alone.history[0]
    jax.tree.map(np.testing.assert_array_equal, alone.variables("target"), alone.variables("source"))
