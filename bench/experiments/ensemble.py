"""What an ensemble of weak networks is worth (the paper's outlook, its reference 33).

    python -m bench.experiments.ensemble --seeds 2

trains five 1D CNNs, each on another reduction, with 200 labels of each of two simulated sets, and lets them vote with the mean of
their probabilities. A killed experiment goes on with the same command.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from sfxjax.data.labels import MISS
from sfxjax.errors import run_main
from sfxjax.evaluation.calibration import expected_calibration_error
from sfxjax.training import reduced
from sfxjax.training.command import prepared_sets, run
from sfxjax.training.config import RunConfig
from sfxjax.training.data import base_for
from sfxjax.training.evaluation import summarize
from sfxjax.training.published import frame_range
from sfxjax.training.run import SCORES_FILE
from sfxjax.training.scores import read_scores

from .record import experiment_parser, markdown_table, mean_and_deviation, read, write

VOTER_LABELS = 200
VOTED_SETS = ("LN83", "LO19")
# Chosen before anything was measured: all that a 1D CNN can be trained on, but those that count spots.
MEMBERS = (
    "row_wise_decomposition",
    "column_wise_decomposition",
    "radial_extremes",
    "block_maxima",
    "brightest_pixels",
)
VOTE = "the five together"


def area_for_errors(doubt: np.ndarray, wrong: np.ndarray) -> float | None:
    """Return the area under the ROC curve of a doubt that is to find the frames called wrong; None without both kinds."""
    return float(roc_auc_score(wrong, doubt)) if wrong.any() and not wrong.all() else None


def judge_voters(scores: Mapping[str, np.ndarray], truth: np.ndarray) -> list[dict[str, Any]]:
    """Judge every member and their vote.

    Args:
        scores: (n,) probabilities of a positive, by member.
        truth: (n,) bool.

    Returns:
        A record each: `summarize`'s figures, `calibration_error`, `own_doubt` and, of the vote, `disagreement`: the areas under
        the ROC curve with which nearness to 1/2, and the standard deviation over the members, find the frames called wrong.
    """
    each = np.stack([scores[name] for name in scores])
    found = []
    for name, values in [*scores.items(), (VOTE, each.mean(0))]:
        wrong = (values >= 0.5) != truth
        record = {"network": name, **summarize(truth, values)}
        record["calibration_error"] = 100 * expected_calibration_error(truth, values)
        record["own_doubt"] = area_for_errors(-abs(values - 0.5), wrong)
        if name == VOTE:
            record["disagreement"] = area_for_errors(each.std(0), wrong)
        found.append(record)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = experiment_parser("ensemble", "Five weak networks that vote.")
    sets = ",".join(VOTED_SETS)
    parser.add_argument("--sets", default=sets, help=f"simulated sets (default: {sets})")
    chosen = read(parser, arguments)
    names = chosen.sets.split(",")
    cells: list[dict[str, Any]] = []
    for seed in range(chosen.seeds):
        for name in names:
            scores, seconds = {}, {}
            for reduction in MEMBERS:
                plan = RunConfig(
                    "reduced",
                    name,
                    None,
                    VOTER_LABELS,
                    reduction,
                    replace(reduced.RECIPE, base=base_for(reduction, reduced.RECIPE.base), seed=seed),
                    None,
                    chosen.frames,
                )
                folder = chosen.runs / f"{name}-{reduction}-seed{seed}"
                results = run(plan, partial(prepared_sets, [name], MEMBERS, {}, chosen.frames), folder)
                scores[reduction], labels = read_scores(folder / SCORES_FILE)[name]
                seconds[reduction] = results["training_seconds"]
            tested = frame_range("after_few", len(labels))
            part = slice(tested.start, tested.stop)
            of_members = {key: values[part] for key, values in scores.items()}
            for record in judge_voters(of_members, labels[part] != MISS):
                cost = seconds.get(record["network"], sum(seconds.values()))
                cells.append({"set": name, "seed": seed, "training_seconds": cost, **record})
    columns = ["network", "recall", "misses", "balanced", "area under ROC", "calibration error"]
    columns += ["own doubt finds errors", "disagreement finds errors"]
    rows = []
    for network in dict.fromkeys(cell["network"] for cell in cells):
        some = [cell for cell in cells if cell["network"] == network]

        def over_seeds(value: Any, digits: int = 1, some: Sequence[dict[str, Any]] = some) -> str:
            by_seed = [[value(c) for c in some if c["seed"] == seed] for seed in range(chosen.seeds)]
            return mean_and_deviation(
                (sum(values) / len(values) for values in by_seed if None not in values), digits
            )

        rates = [
            over_seeds(lambda c, metric=metric: c[metric]["percent"])
            for metric in ("recall", "miss_accuracy", "balanced_accuracy")
        ]
        rows.append(
            [
                network,
                *rates,
                over_seeds(lambda c: c["area_under_curve"], 4),
                over_seeds(lambda c: c["calibration_error"]),
                over_seeds(lambda c: c["own_doubt"], 2),
                over_seeds(lambda c: c.get("disagreement"), 2),
            ]
        )
    text = "\n\n".join(
        [
            f"**Five weak networks and their vote** (simulated {' and '.join(names)} of {chosen.frames} frames, "
            f"{VOTER_LABELS} labels, {chosen.seeds} seed{'s' * (chosen.seeds > 1)}, frames 401-2000; per cent, areas from 0 to "
            "1; mean over the sets, ± the standard deviation over seeds; the vote takes five reductions and trainings)",
            markdown_table(columns, rows),
        ]
    )
    write(chosen.results, "ensemble", {"simulated": True, "frames": chosen.frames, "cells": cells}, text)


if __name__ == "__main__":
    sys.exit(run_main(main))
