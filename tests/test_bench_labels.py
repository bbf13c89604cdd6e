"""Labels needed: curves, what is read of other records, and what the table says first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.labels import curves
from bench.labels.adapted import adapted_table as adapted_table
from bench.labels.answers import Answers
from bench.labels.curves import ACTIVE, day_one_curve, first_tested, fitted_models
from bench.labels.page import draw, labels_table, shortfalls, summarized
from bench.labels.recorded import DAY_ONE, MEAN, NETWORK, RANDOM, SCRATCH, TAUGHT, earlier
from bench.reductions.cells import Cell
from sfxjax.data.labels import HIT, MAYBE, MISS
from sfxjax.training.data import PreparedSet

COUNTS = (0, 5, 25)


def answers(shift: float) -> Answers:
    """A model that is right about the order of frames, and wrong by `shift` about where hits begin."""
    rng = np.random.default_rng(0)
    odds = rng.normal(0, 4, 600)
    inputs = np.column_stack([odds / 4, odds / 4, np.log1p(np.exp(odds / 4)), np.zeros(600)])
    return Answers(inputs, odds > shift)


@pytest.mark.parametrize("choice", [RANDOM, ACTIVE])
def test_labels_mend_a_threshold_and_no_label_leaves_it(choice: str) -> None:
    curve = day_one_curve(answers(3.0), COUNTS, choice, 0)
    assert [point["labels"] for point in curve] == list(COUNTS)
    assert curve[0]["frames"] == 600 - first_tested(600)
    figures = [point["balanced_accuracy"]["percent"] for point in curve]
    assert figures[-1] > figures[0] + 5
    again = day_one_curve(answers(3.0), COUNTS, choice, 0)
    assert [point["counts"] for point in again] == [point["counts"] for point in curve]


def test_the_network_is_taught_by_the_model_and_by_the_labels_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    known = answers(3.0)
    start, frames = first_tested(600), 600
    # Were the truth of a frame without a label read, it would show: here it is a maybe, of which nobody called any.
    truth = np.where(known.positives, MAYBE, MISS).astype(np.int8)
    maps: dict[str | None, np.ndarray] = {None: known.inputs}
    prepared = PreparedSet("LN83", True, truth, np.zeros((frames, 6)), maps, maps)
    ((_, model, labelled),) = fitted_models(known, (25,), ACTIVE, 0)
    given = []

    def train(cell: Cell, taught: PreparedSet, recipe: object, drawn: np.ndarray) -> tuple[None, float]:
        given.append((taught.labels[:start], drawn))
        return None, 1.0

    monkeypatch.setattr(curves, "train_on_few", train)
    monkeypatch.setattr(curves, "map_logits", lambda network, maps: 8 * maps[:, 0] - 6.0)
    (point,) = curves.taught_curve(prepared, known, (25,), 0)
    ((labels, drawn),) = given
    assert drawn.tolist() == list(range(start)) and set(labels.tolist()) == {HIT, MISS}
    assert labelled.sum() == 25
    np.testing.assert_array_equal(labels[labelled] > MISS, known.positives[:start][labelled])
    called = model.probability(known.inputs[:start]) >= model.threshold
    np.testing.assert_array_equal((labels > MISS)[~labelled], called[~labelled])
    # Odds of 3 are those at which hits begin, as the network made up here says.
    assert point["frames"] == frames - start and point["balanced_accuracy"]["percent"] == 100


def test_figures_of_other_benchmarks_are_those_of_their_records() -> None:
    found = summarized(earlier(Path("bench/results")))
    # Tables 2 (98.0, 97.1 and 97.0 of the three sets) and the summary of bench/results/paper/tables.md; reductions.md.
    assert found[MEAN, SCRATCH, RANDOM, 200][0] == pytest.approx((98.0 + 97.1 + 97.0) / 3, abs=0.06)
    assert found[MEAN, SCRATCH, RANDOM, 25] == (93.4, 0.4)
    mean, deviation = found[MEAN, NETWORK, RANDOM, 25]
    assert (mean, deviation) == (pytest.approx(91.6, abs=0.06), pytest.approx(2.9, abs=0.06))


def test_the_table_says_first_what_does_not_hold(tmp_path: Path) -> None:
    def point(method: str, choice: str, labels: int, percent: float) -> dict[str, object]:
        return {"set": "LN83", "method": method, "choice": choice, "seed": 0, "labels": labels} | {
            "balanced_accuracy": {"percent": percent}
        }

    points = [
        point(SCRATCH, RANDOM, 200, 97.0),
        point(DAY_ONE, ACTIVE, 25, 96.0),
        point(DAY_ONE, RANDOM, 0, 95.0),
    ]
    text = labels_table({"points": points})
    assert "25 active labels has 96.0, 2D CNN from scratch with 200 random ones 97.0" in text
    assert text.index("does not hold") < text.index("| method |")
    points[1] = point(DAY_ONE, ACTIVE, 25, 98.0)
    assert "nothing" in shortfalls(summarized(points))[0]
    (line,) = shortfalls(summarized([*points, point(TAUGHT, ACTIVE, 25, 96.5)]))
    assert "fitted day-one model, with 25 active labels has 96.5, 2D CNN from scratch" in line
    draw({"points": points}, tmp_path / "labels.png")
    assert (tmp_path / "labels.png").stat().st_size > 10_000


def test_a_run_made_worse_stands_above_the_table() -> None:
    before = {"recall": 90.0, "accuracy_on_misses": 90.0, "hidden_found": 0}
    run = {"condition": "noisy areas", "detector": "counting", "kept": True, "why": "w", "before": before}
    run |= {"hits": 30, "hidden": 10}
    after = {"recall": 90.0, "accuracy_on_misses": 86.0, "hidden_found": 4}
    text = adapted_table([{**run, "after": after}, {**run, "kept": False, "after": before}], 80, 240)
    # Of 40 hits 27 are found before and 31 after.
    assert (
        "- Balanced accuracy: worse by more than 0.5 points: none; on average of all +1.50, of those adapted +3.0."
        in text
    )
    assert (
        "as it is alone: worse by more than 0.5 points: noisy areas (-2.0); on average of all -1.00" in text
    )
    assert "| 67.5 / 90.0 | 77.5 / 86.0 | +3.0 (-2.0) | w |" in text
