"""Scores of whole sets: the shift that calibrates them, and their summary."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, log_loss, roc_curve

from sfxjax.models.checkpoint import TrainedModel
from sfxjax.models.networks import HitClassifier
from sfxjax.models.stem import BaseConfig
from sfxjax.training.config import RunConfig, TrainingConfig
from sfxjax.training.evaluation import logit_bias, logits, map_logits, positive_fraction, summarize
from sfxjax.training.result_table import next_steps
from sfxjax.training.run import with_shift


def frames(seed: int, count: int = 60, digits: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping scores of both classes; with few digits many are equal."""
    rng = np.random.default_rng(seed)
    positive = rng.random(count) < 0.3
    positive[:2] = True, False
    scores = 1 / (1 + np.exp(-rng.normal(np.where(positive, 1.0, -1.0), 1.2)))
    return positive, np.round(scores, digits)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def shifted(scores: np.ndarray, shift: float) -> np.ndarray:
    return sigmoid(logits(scores) + shift)


@pytest.mark.parametrize("seed", range(4))
def test_calibration_has_the_lowest_loss_of_all_shifts(seed: int) -> None:
    positive, scores = frames(seed)
    values = np.log(scores / (1 - scores)) + 2.5
    weight = np.where(positive, 1 / positive.sum(), 1 / (~positive).sum())
    tried = np.linspace(-6, 6, 12001)
    losses = [log_loss(positive, sigmoid(values + shift), sample_weight=weight) for shift in tried[::100]]
    near = tried[::100][int(np.argmin(losses))]
    fine = tried[np.abs(tried - near) < 0.11]
    losses = [log_loss(positive, sigmoid(values + shift), sample_weight=weight) for shift in fine]
    assert logit_bias(positive, sigmoid(values)) == pytest.approx(fine[np.argmin(losses)], abs=2e-3)


def test_calibrated_classes_err_alike() -> None:
    """Where the loss is lowest, hits lack on average what misses have too much."""
    positive, scores = frames(3, count=400)
    calibrated = shifted(scores, logit_bias(positive, scores))
    assert 1 - calibrated[positive].mean() == pytest.approx(calibrated[~positive].mean(), abs=1e-5)


def test_calibration_of_separate_classes_and_of_certain_scores_is_finite() -> None:
    positive = np.array([False, False, True, True])
    for scores in (np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 0.0, 1e-3, 2e-3])):
        shift = logit_bias(positive, scores)
        assert -8 <= shift <= 8
        assert np.all((shifted(scores, shift) >= 0.5) == positive)


@pytest.mark.parametrize("value", [True, False])
def test_one_class_is_not_calibrated(value: bool) -> None:
    assert logit_bias(np.full(5, value), np.linspace(0, 1, 5)) == 0.0


def test_a_shift_moves_every_logit_of_a_model_by_as_much() -> None:
    config = BaseConfig(dimensions=1, channels=(3, 4), features=5)
    maps = 20 * np.random.default_rng(0).normal(size=(70, 24, 1)).astype(np.float32)
    variables = HitClassifier(config).init(jax.random.key(0), maps)
    before = map_logits(TrainedModel(config, variables), maps)
    after = map_logits(TrainedModel(config, with_shift(variables, 1.5)), maps)
    assert before.shape == (70,)
    assert before.std() > 1e-4
    np.testing.assert_allclose(after - before, 1.5, atol=1e-5)


def test_summary_against_scikit_learn() -> None:
    positive, scores = frames(9, count=200)
    result = summarize(positive, scores, threshold=0.4)
    json.dumps(result, allow_nan=False)
    assert result["threshold"] == 0.4
    expected = 100 * balanced_accuracy_score(positive, scores >= 0.4)
    assert result["balanced_accuracy"]["percent"] == pytest.approx(expected)
    false_rate, recall, _ = roc_curve(positive, scores, drop_intermediate=False)
    assert set(result["miss_accuracy_at_recall"]) == {"90", "95", "99"}
    for name, value in result["miss_accuracy_at_recall"].items():
        reached = recall >= int(name) / 100 - 1e-12
        assert value == pytest.approx(100 * (1 - false_rate[reached].min())), name


def test_summary_without_positives_tells_what_it_can() -> None:
    result = summarize(np.zeros(4, bool), np.array([0.1, 0.2, 0.7, 0.3]))
    assert result["recall"]["percent"] is None
    assert result["miss_accuracy"]["percent"] == 75
    assert set(result["miss_accuracy_at_recall"].values()) == {None}


@pytest.mark.parametrize("share", [0.15, 0.5, 0.8])
def test_a_share_is_found_without_labels_by_a_network_that_errs(share: float) -> None:
    """Plain counting would be far off: three frames in ten are called wrongly, and the network is biased."""
    rng = np.random.default_rng(int(100 * share))

    def called(positive: np.ndarray) -> np.ndarray:
        return sigmoid(rng.normal(np.where(positive, 0.5, -0.5), 1.0) - 0.2) >= 0.5

    here, there = np.arange(40000) % 4 == 0, rng.random(40000) < share
    labelled = called(here)
    found = positive_fraction(labelled[here].mean(), labelled[~here].mean(), called(there).mean())
    assert found == pytest.approx(there.mean(), abs=0.04)
    assert abs(called(there).mean() - there.mean()) > 0.03


def test_no_share_is_told_by_a_network_that_knows_nothing() -> None:
    assert positive_fraction(0.6, 0.5, 0.2) == 0.5
    assert positive_fraction(0.99, 0.01, 0.0) == 0.1
    assert positive_fraction(0.99, 0.01, 1.0) == 0.9


def plan(reduction: str | None = None) -> RunConfig:
    return RunConfig("dann", "LN83", "LO19", None, reduction, TrainingConfig())


def test_a_network_at_chance_is_not_recommended() -> None:
    rng = np.random.default_rng(0)
    positive = rng.random(400) < 0.3
    chance = summarize(positive, rng.random(400))
    for tested in (chance, summarize(positive, np.ones(400)), summarize(positive, np.zeros(400))):
        said = next_steps(Path("out"), plan(), {"LN83": summarize(positive, positive + 0.0), "LO19": tested})
        assert "not better than chance" in said[0] and not any("--model" in line for line in said)
    # The source's figure decides nothing where the target's is known; untested, the model is all there is.
    learnt = summarize(positive, np.where(positive, 0.8, 0.3))
    for tested in ({"LN83": chance, "LO19": learnt}, {}):
        assert "--model out " in next_steps(Path("out"), plan(), tested)[0]


def test_the_next_step_runs_as_printed_where_names_hold_spaces_and_code_is_the_users() -> None:
    (line,) = next_steps(Path("my runs/a"), plan("my code/r.py:f"), {})
    words = shlex.split(line.removeprefix("next: "))
    assert words[0].endswith("python") and words[1:3] == ["-m", "sfxjax.screen"]
    assert words[4:] == ["--model", "my runs/a", "--reduction", "my code/r.py:f", "--out", "DIR"]
