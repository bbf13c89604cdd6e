"""What the candidates of a frame tell of each other, and the errors that they share."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

from sfxjax.spots.day_one import RATIO_BIAS, RATIO_NOISE, count_visible, load_weights
from sfxjax.spots.frame_context import among_others
from sfxjax.training.day_one_frames import JudgedFrames, fit_frame_context

RNG = np.random.default_rng(5)


def candidates(weights, count):
    features = weights["sum_kernel"].shape[0] - 2
    hidden, logits = RNG.normal(size=(count, features)), RNG.normal(size=count)
    return tuple(jnp.asarray(part, jnp.float32) for part in (hidden, logits, RNG.uniform(3, 12, count)))


def test_the_order_of_candidates_and_places_without_any_change_nothing():
    weights = load_weights()
    hidden, logits, ratio = candidates(weights, 12)
    corrected, error = among_others(weights, hidden, logits, ratio)
    order = np.concatenate([RNG.permutation(12), np.full(3, 12)])
    padded = [jnp.pad(part, [(0, 1)] + [(0, 0)] * (part.ndim - 1)) for part in (hidden, logits, ratio)]
    again, error_again = among_others(weights, *(part[order] for part in padded))
    np.testing.assert_allclose(again[:12], corrected[order[:12]], atol=1e-4)
    assert float(error_again) == pytest.approx(float(error), rel=1e-4)
    # What lies beside it does: of other candidates the first is told otherwise.
    other, _ = among_others(weights, hidden.at[1:].multiply(-1), logits, ratio)
    assert abs(float(other[0] - corrected[0])) > 1e-3


@pytest.mark.parametrize("error", [0.0, 0.7])
def test_the_number_of_visible_spots_is_that_of_candidates_whose_odds_err_together(error):
    logits, ratio = RNG.normal(size=6), RNG.uniform(4, 9, 6)
    counts, expected = count_visible(jnp.asarray(logits), jnp.asarray(error), jnp.asarray(ratio), 6.0)
    seen = norm.cdf((ratio - RATIO_BIAS - 6) / RATIO_NOISE)
    steps = np.linspace(-6, 6, 2001)
    shares = norm.pdf(steps) / norm.pdf(steps).sum()
    reference = np.zeros(7)
    for step, share in zip(steps, shares, strict=True):
        here = np.array([1.0])
        for p in expit(logits + error * step) * seen:
            here = np.convolve(here, [1 - p, p])
        reference += share * here
    np.testing.assert_allclose(counts[:7], reference, atol=2e-4)
    assert float(expected) == pytest.approx(reference @ np.arange(7), abs=1e-3)


def test_what_comes_in_numbers_is_learnt_to_be_no_spot():
    frames, places = 64, 40
    many = np.arange(frames) % 2 == 1
    number = np.where(many, places, 6)
    there = np.arange(places) < number[:, None]
    truth = np.where(many[:, None], 0, there).astype(np.float32)
    judged = JudgedFrames(
        np.zeros((frames, places, 4), np.float16),
        np.zeros((frames, places), np.float32),
        np.where(there, 10, 0).astype(np.float32),
        np.where(there, 10, 0).astype(np.float32),
        truth,
        truth.sum(1),
    )
    weights = fit_frame_context(judged, seed=0, steps=400)
    with jax.default_matmul_precision("highest"):
        logits, _ = jax.vmap(lambda *parts: among_others(weights, *parts))(*judged[:3])
    assert np.all(np.asarray(logits)[there & many[:, None]] < -1)
    assert np.all(np.asarray(logits)[there & ~many[:, None]] > 1)
