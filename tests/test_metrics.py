"""Metrics against SciPy, scikit-learn and published figures."""

from __future__ import annotations

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as reference

from sfxjax.errors import UserError
from sfxjax.evaluation.metrics import (
    Counts,
    Rate,
    area_under_curve,
    count,
    miss_accuracy_at_recall,
    summary,
    threshold_at_recall,
    wilson_interval,
)

NOTHING = Rate(None, None, None)


def random_decision(seed: int, levels: int = 12, size: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores that carry some truth and many ties."""
    rng = np.random.default_rng(seed)
    labels = rng.random(size) < 0.3
    scores = np.round(np.clip(rng.normal(0.35 + 0.3 * labels, 0.2), 0, 1) * levels) / levels
    return labels, scores


@pytest.mark.parametrize("threshold", [0.25, 0.5, 2 / 3])
def test_counts_against_scikit_learn(threshold: float) -> None:
    labels, scores = random_decision(0)
    called = scores >= threshold
    counts = count(labels, scores, threshold)
    (true_negative, false_positive), (false_negative, true_positive) = reference.confusion_matrix(
        labels, called
    )
    assert counts == Counts(true_positive, false_negative, true_negative, false_positive)
    assert counts.recall.value == pytest.approx(reference.recall_score(labels, called))
    assert counts.miss_accuracy.value == pytest.approx(reference.recall_score(~labels, ~called))
    assert counts.precision.value == pytest.approx(reference.precision_score(labels, called))
    assert counts.balanced_accuracy.value == pytest.approx(reference.balanced_accuracy_score(labels, called))
    assert count(labels, called) == counts
    assert count(jnp.asarray(labels.astype(int)), list(scores), threshold) == counts


def test_a_score_at_the_threshold_is_positive() -> None:
    assert count([1, 0], [0.5, 0.5]) == Counts(1, 0, 0, 1)


@pytest.mark.parametrize(
    ("successes", "total"), [(0, 10), (10, 10), (1, 1), (7, 9), (168, 329), (1268, 1271)]
)
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_interval_against_scipy(successes: int, total: int, confidence: float) -> None:
    expected = binomtest(successes, total).proportion_ci(confidence, method="wilson")
    low, high = wilson_interval(successes, total, confidence)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= low <= successes / total <= high <= 1


def test_wilson_interval_of_nothing_and_of_the_impossible() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
    for successes, total in ((2, 1), (-1, 3)):
        with pytest.raises(UserError, match="cannot be"):
            wilson_interval(successes, total)
    with pytest.raises(UserError, match="confidence"):
        wilson_interval(1, 2, 95)


def test_each_rate_has_its_wilson_interval() -> None:
    counts = Counts(90, 10, 45, 5)
    assert counts.recall == Rate(0.9, *wilson_interval(90, 100))
    assert counts.miss_accuracy == Rate(0.9, *wilson_interval(45, 50))
    assert counts.precision == Rate(90 / 95, *wilson_interval(90, 95))


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((10, 10), (0, 10), 0.6075, 1.0000),
    ],
)
def test_balanced_accuracy_against_newcombes_examples(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    # Newcombe (1998), Table II, method 10, prints differences p1 - p2. With p2 the share of false alarms,
    # recall and miss accuracy add up to 1 + p1 - p2.
    counts = Counts(first[0], first[1] - first[0], second[1] - second[0], second[0])
    rate = counts.balanced_accuracy
    assert rate.low is not None and rate.high is not None
    assert (2 * rate.low - 1, 2 * rate.high - 1) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("levels", [1, 3, 12, 10**6])
def test_area_under_curve_against_scikit_learn(levels: int) -> None:
    for seed in range(5):
        labels, scores = random_decision(seed, levels)
        expected = reference.roc_auc_score(labels, scores)
        assert area_under_curve(labels, scores) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("levels", [3, 12, 10**6])
@pytest.mark.parametrize("recall", [0.01, 0.5, 0.9, 0.95, 1.0])
def test_miss_accuracy_at_recall_against_scikit_learn(levels: int, recall: float) -> None:
    for seed in range(5):
        labels, scores = random_decision(seed, levels)
        false_alarms, recalls, _ = reference.roc_curve(labels, scores, drop_intermediate=False)
        expected = 1 - false_alarms[recalls >= recall - 1e-9].min()
        assert miss_accuracy_at_recall(labels, scores, recall) == pytest.approx(expected)


def test_threshold_at_recall_is_the_highest_that_reaches_it() -> None:
    labels, scores = random_decision(1)
    threshold = threshold_at_recall(labels, scores, 0.9)
    assert threshold is not None
    reached = count(labels, scores, threshold).recall.value
    beyond = count(labels, scores, np.nextafter(threshold, 2)).recall.value
    assert reached is not None and beyond is not None
    assert beyond < 0.9 <= reached


def test_recall_times_frames_is_not_rounded_up_by_floating_point() -> None:
    scores = np.arange(100) / 100
    assert 0.07 * 100 > 7
    assert threshold_at_recall(np.ones(100), scores, 0.07) == 0.93


@pytest.mark.parametrize("recall", [0.0, 1.1, -0.5])
def test_impossible_recalls_are_refused(recall: float) -> None:
    with pytest.raises(UserError, match="recall"):
        miss_accuracy_at_recall([0, 1], [0.1, 0.9], recall)


def test_summary_is_plain_json() -> None:
    labels, scores = random_decision(2)
    result = json.loads(json.dumps(summary(labels, scores, np.float32(0.5)), allow_nan=False))
    counts = count(labels, scores)
    assert result["frames"] == 300
    assert result["threshold"] == 0.5
    assert Counts(**result["counts"]) == counts
    for name in ("recall", "miss_accuracy", "precision", "balanced_accuracy"):
        rate = getattr(counts, name)
        assert result[name] == {
            "percent": pytest.approx(100 * rate.value),
            "low": pytest.approx(100 * rate.low),
            "high": pytest.approx(100 * rate.high),
        }
    assert result["area_under_curve"] == pytest.approx(reference.roc_auc_score(labels, scores))


@pytest.mark.parametrize("labels", [[], [0, 0], [1, 1]])
def test_empty_classes_give_none(labels: list[int]) -> None:
    scores = [0.2] * len(labels)
    counts = count(labels, scores)
    assert (counts.recall == NOTHING) == (1 not in labels)
    assert (counts.miss_accuracy == NOTHING) == (0 not in labels)
    assert counts.precision == NOTHING
    assert counts.balanced_accuracy == NOTHING
    assert area_under_curve(labels, scores) is None
    assert miss_accuracy_at_recall(labels, scores, 0.9) is None
    result = json.loads(json.dumps(summary(labels, scores), allow_nan=False))
    assert result["precision"] == {"percent": None, "low": None, "high": None}
    assert result["frames"] == len(labels)


def test_wrong_input_is_refused() -> None:
    for labels, scores, message in (
        ([0, 1], [0.5], "do not match"),
        ([[0, 1]], [[0.5, 0.5]], "do not match"),
        ([0, 2], [0.5, 0.5], "must be 0"),
        ([0, 1], [0.5, np.nan], "NaN"),
    ):
        with pytest.raises(UserError, match=message):
            count(labels, scores)


@pytest.mark.parametrize(
    ("name", "cut", "recall", "miss_accuracy", "area"),
    [("LN83", 15, 85.1, 99.8, 0.997), ("LN84", 30, 69.3, 99.5, 0.987), ("LO19", 50, 80.8, 100.0, 0.982)],
)
def test_the_spot_counts_of_the_published_annotations(
    shared: Path, name: str, cut: int, recall: float, miss_accuracy: float, area: float
) -> None:
    """DIALS' spot counts as scores, on the paper's test frames 401-2000, give the figures known for them."""
    folder = shared / "data" / "cxidb76" / name
    experts = (folder / "expert_annotation.txt").read_text().split("\n")
    labels = np.array([line.split()[-1] != "MISS" for line in experts if line.strip()])
    spots = np.zeros(2000)
    for line in (folder / "dials_annotation.txt").read_text().split("\n"):
        words = line.split()
        if len(words) == 3 and words[0].isdigit():
            spots[int(words[0]) - 1] = int(words[1])
    result = summary(labels[400:], spots[400:], cut)
    assert result["area_under_curve"] == pytest.approx(area, abs=6e-4)
    assert round(result["recall"]["percent"], 1) == recall
    assert round(result["miss_accuracy"]["percent"], 1) == miss_accuracy
