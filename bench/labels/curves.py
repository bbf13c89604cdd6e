"""Balanced accuracy against the number of labels: the day-one model fitted to them, and the 1D CNN on row-wise decompositions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import expit

from sfxjax.label.choice import next_frame
from sfxjax.models.inputs import base_for
from sfxjax.spots.recalibration import Recalibration, fit_recalibration
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


def day_one_curve(answers: Answers, counts: Sequence[int], choice: str, seed: int) -> list[dict[str, Any]]:
    """Fit the day-one model to more and more labels; returns what it is tested to, on the split's test frames.

    The share of hits, from which the threshold follows, is estimated on the frames before the test part.

    Args:
        answers: of the set.
        counts: numbers of labels, rising.
        choice: RANDOM, or ACTIVE: as the page chooses, a frame at a time.
        seed: of the draw of frames that may be labelled, and of their order.
    """
    inputs, positives = answers.inputs, answers.positives
    start = first_tested(len(positives))
    rng = np.random.default_rng(seed)
    pool = rng.permutation(start)[: max(int(POOL_SHARE * start), max(counts))]
    allowed: np.ndarray = np.zeros(start, bool)
    allowed[pool] = True
    labelled = np.zeros_like(allowed)
    model, order, found = Recalibration(), list(pool), []
    test = np.arange(start, len(positives))
    for count in range(max(counts) + 1):
        if count:
            if choice == RANDOM:
                place: int | None = int(order[count - 1])
            else:
                before = slice(0, start)
                place = next_frame(model.probability(inputs[before]), inputs[before], labelled, allowed)
            assert place is not None
            labelled[place] = True
            if choice == ACTIVE or count in counts:
                chosen = np.flatnonzero(labelled)
                model = fit_recalibration(inputs[chosen], positives[chosen], inputs[:start])
        if count in counts:
            scores = model.probability(inputs[test])
            found.append({"labels": count, **summarize(positives[test], scores, model.threshold)})
    return found


def network_curve(
    prepared: PreparedSet, counts: Sequence[int], choice: str, seed: int
) -> list[dict[str, Any]]:
    """Train the 1D CNN on more and more labels.

    Args:
        prepared: the set, with row-wise decompositions.
        counts: numbers of labels above 0, rising.
        choice: RANDOM, or ACTIVE: the first number is drawn, then come frames whose score is nearest to one half.
        seed: of the draw of labels and of the training.
    """
    start = first_tested(len(prepared))
    recipe = replace(RECIPE, base=base_for(ROW_WISE), seed=seed)
    positives = prepared.positives
    before, test = prepared.masked[ROW_WISE][:start], np.arange(start, len(positives))
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
        cell = Cell("labels", ROW_WISE, prepared.name, prepared.name, count, UNTOUCHED, seed)
        model, seconds = train_on_few(cell, prepared, recipe, drawn)
        tested = summarize(positives[test], expit(map_logits(model, prepared.masked[ROW_WISE][test])))
        found.append({"labels": count, "training_seconds": round(seconds, 2), **tested})
    return found
