"""Labels needed: curves, what is read of other records, and what the table says first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.labels.adapted import adapted_table as adapted_table
from bench.labels.answers import Answers
from bench.labels.curves import ACTIVE, day_one_curve, first_tested
from bench.labels.page import draw, labels_table, shortfalls, summarized
from bench.labels.recorded import DAY_ONE, MEAN, NETWORK, RANDOM, SCRATCH, earlier

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
    draw({"points": points}, tmp_path / "labels.png")
    assert (tmp_path / "labels.png").stat().st_size > 10_000


def test_a_run_made_worse_stands_above_the_table() -> None:
    rates = {"recall": 90.0, "accuracy_on_misses": 90.0, "balanced": 90.0}
    run = {"condition": "noisy areas", "detector": "counting", "kept": True, "why": "w", "before": rates}
    text = adapted_table([{**run, "after": {**rates, "balanced": 88.0}}, {**run, "after": rates}], 80)
    assert (
        "Worse by more than 0.5 points: noisy areas (-2.0). Adapted: 2 of 2 runs; on average of all -1.0"
        in text
    )
