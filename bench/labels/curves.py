"""Balanced accuracy against the number of labels: the day-one model fitted to them, and networks.

The 1D CNN on row-wise decompositions and the 2D CNN, from scratch or from another set's base, learn from the labels; the 2D CNN
also from what the fitted day-one model calls frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import expit

from sfxjax.data.labels import HIT, MISS
from sfxjax.label.choice import next_frame
from sfxjax.models.inputs import base_for
from sfxjax.spots.recalibration import Recalibration, fit_recalibration
from sfxjax.training import supervised, transfer
from sfxjax.training.config import TrainingConfig
from sfxjax.training.data import PreparedSet
from sfxjax.training.evaluation import map_logits, summarize

from ..reductions.cells import RECIPE, UNTOUCHED, Cell, drawn_labels, train_on_few
from .answers import Answers
from .recorded import RANDOM

ACTIVE = "active"
ROW_WISE = "row_wise_decomposition"
# The frames before the test, as the paper's split for few labels has them of 2000, at most half of a run.
BEFORE_TEST = 400
# Share of them that may be labelled: another draw for every seed.
POOL_SHARE = 0.75


def first_tested(frames: int) -> int:
    """Return the number of the first frame that is tested on."""
    return min(BEFORE_TEST, frames // 2)


def fitted_models(
    answers: Answers, counts: Sequence[int], choice: str, seed: int
) -> Iterator[tuple[int, Recalibration, np.ndarray]]:
    """Fit the day-one model to more and more labels of the frames before the test part.

    Args:
        answers: of the set.
        counts: numbers of labels, rising.
        choice: RANDOM, or ACTIVE: as the page chooses, a frame at a time.
        seed: of the draw of frames that may be labelled, and of their order.

    Returns:
        For each of `counts` it, the model, whose threshold is for the frames before the test, and which of these have labels,
        bool.
    """
    inputs, positives = answers.inputs, answers.positives
    start = first_tested(len(positives))
    rng = np.random.default_rng(seed)
    pool = rng.permutation(start)[: max(int(POOL_SHARE * start), max(counts))]
    allowed: np.ndarray = np.zeros(start, bool)
    allowed[pool] = True
    labelled = np.zeros_like(allowed)
    model, order = Recalibration(), list(pool)
    before = slice(0, start)
    for count in range(max(counts) + 1):
        if count:
            if choice == RANDOM:
                place: int | None = int(order[count - 1])
            else:
                place = next_frame(model.probability(inputs[before]), inputs[before], labelled, allowed)
            assert place is not None
            labelled[place] = True
            if choice == ACTIVE or count in counts:
                chosen = np.flatnonzero(labelled)
                model = fit_recalibration(inputs[chosen], positives[chosen], inputs[before])
        if count in counts:
            yield count, model, labelled.copy()


def day_one_curve(answers: Answers, counts: Sequence[int], choice: str, seed: int) -> list[dict[str, Any]]:
    """Fit the day-one model to more and more labels, see `fitted_models`; returns what it is tested to on the test frames."""
    test = slice(first_tested(len(answers.positives)), None)
    found = []
    for count, model, _ in fitted_models(answers, counts, choice, seed):
        scores = model.probability(answers.inputs[test])
        found.append({"labels": count, **summarize(answers.positives[test], scores, model.threshold)})
    return found


def taught_curve(
    prepared: PreparedSet, answers: Answers, counts: Sequence[int], seed: int
) -> list[dict[str, Any]]:
    """Train the 2D CNN on the frames before the test part, called by the fitted day-one model where they have no label.

    Args:
        prepared: the set, as whole frames.
        answers: of the set, for the same frames from the first on.
        counts: numbers of labels above 0, rising, chosen as the page does.
        seed: of the draw of frames that may be labelled, and of the training.
    """
    frames = len(answers.positives)
    start = first_tested(frames)
    recipe = replace(supervised.RECIPE, seed=seed)
    found = []
    for count, model, labelled in fitted_models(answers, counts, ACTIVE, seed):
        called = model.probability(answers.inputs[:start]) >= model.threshold
        called[labelled] = answers.positives[:start][labelled]
        labels = prepared.labels.copy()
        labels[:start] = np.where(called, HIT, MISS)
        cell = Cell("labels", None, prepared.name, prepared.name, start, UNTOUCHED, seed)
        taught = replace(prepared, labels=labels)
        network, seconds = train_on_few(cell, taught, recipe, np.arange(start))
        scores = expit(map_logits(network, prepared.masked[None][start:frames]))
        tested = summarize(answers.positives[start:], scores)
        found.append({"labels": count, "training_seconds": round(seconds, 2), **tested})
    return found


def network_curve(
    prepared: PreparedSet,
    counts: Sequence[int],
    choice: str,
    seed: int,
    reduction: str | None = ROW_WISE,
    base: dict[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Train a network on more and more labels, which choose the epoch and calibrate as well.

    Args:
        prepared: the set, with what the network reads.
        counts: numbers of labels above 0, rising.
        choice: RANDOM, or ACTIVE: the first number is drawn, then come frames whose score is nearest to one half.
        seed: of the draw of labels and of the training.
        reduction: that the 1D CNN reads; None: whole frames, for the 2D CNN.
        base: of another set's 2D CNN, to transfer; None: trained afresh.
    """
    start = first_tested(len(prepared))
    recipe = _recipe(reduction, base is not None, seed)
    positives = prepared.positives
    before, test = prepared.masked[reduction][:start], np.arange(start, len(positives))
    found: list[dict[str, Any]] = []
    drawn: np.ndarray = np.zeros(0, int)
    model = None
    for count in counts:
        if choice == RANDOM or model is None:
            drawn = drawn_labels(positives[:start], count, seed)
        else:
            doubt = -np.abs(map_logits(model, before))
            doubt[drawn] = -np.inf
            drawn = np.sort(np.concatenate([drawn, np.argsort(-doubt)[: count - len(drawn)]]))
        cell = Cell("labels", reduction, prepared.name, prepared.name, count, UNTOUCHED, seed)
        model, seconds = train_on_few(cell, prepared, recipe, drawn, base)
        tested = summarize(positives[test], expit(map_logits(model, prepared.masked[reduction][test])))
        found.append({"labels": count, "training_seconds": round(seconds, 2), **tested})
    return found


def _recipe(reduction: str | None, transferred: bool, seed: int) -> TrainingConfig:
    if reduction is not None:
        return replace(RECIPE, base=base_for(reduction), seed=seed)
    return replace(transfer.RECIPE if transferred else supervised.RECIPE, seed=seed)
