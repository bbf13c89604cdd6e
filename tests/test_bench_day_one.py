"""The matrix of conditions: what counts as found, and the error of calibration."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from bench.day_one.measure import MATRIX, judge_simulated, simulate, summarize_condition
from bench.day_one.page import table
from sfxjax.evaluation.calibration import expected_calibration_error, reliability


def test_reliability_is_that_of_scikit_learn_and_the_error_its_weighted_mean():
    rng = np.random.default_rng(0)
    scores = rng.random(3000)
    labels = rng.random(3000) < scores**2
    rows = np.array(reliability(labels, scores))
    share, mean = calibration_curve(labels, scores, n_bins=10)
    np.testing.assert_allclose(rows[:, 0], mean)
    np.testing.assert_allclose(rows[:, 1], share)
    weighted = np.average(np.abs(share - mean), weights=rows[:, 2])
    assert expected_calibration_error(labels, scores) == pytest.approx(weighted)
    assert expected_calibration_error([True, False], [1.0, 0.0]) == 0


def test_a_condition_is_summed_up_with_every_frame_in_it():
    frames = [judge_simulated(simulate("counting 3", number)) for number in range(8)]
    row = summarize_condition(frames)
    assert [frame["blank"] for frame in frames[::4]] == [True, True]
    deciding = np.array([frame["deciding"] for frame in frames])
    assert row["hits"] == np.sum(deciding >= 7.5) and row["misses"] == np.sum(deciding < 4.8)
    assert row["accuracy"] == np.mean([(f["score"] >= 0.5) == (f["deciding"] >= 6) for f in frames])
    text = table(dict.fromkeys(MATRIX, row), row)
    assert all(f"| {name} |" in text for name in MATRIX)
