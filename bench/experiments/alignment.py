"""Does the gradient reversal make the features of two sets alike (the paper's Figs. 9 and 10)?

    python -m bench.experiments.alignment --seeds 1

trains LN83 alone, and LN83 -> LO19 with the reversal and with its strength 0, and measures how well a linear classifier tells the
sets apart by the features of each class. A killed experiment goes on with the same command.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sfxjax.data.labels import LABEL_WORDS
from sfxjax.errors import run_main
from sfxjax.training import dann, supervised
from sfxjax.training.command import prepared_sets, run
from sfxjax.training.config import RunConfig
from sfxjax.training.published import frame_range
from sfxjax.training.scores import read_log

from ..paper.feature_figures import last_features, told_apart
from .record import experiment_parser, last_fifth, markdown_table, mean_and_deviation, read, write

ALIGNED_PAIR = ("LN83", "LO19")
ALONE, REVERSED, WITHOUT = "source-only CNN", "DANN", "DANN, strength 0"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    chosen = read(
        experiment_parser("alignment", "Whether the reversal makes features alike.", seeds=1), arguments
    )
    source, target = ALIGNED_PAIR
    cells: list[dict[str, Any]] = []
    for seed in range(chosen.seeds):
        adapted = replace(dann.RECIPE, seed=seed)
        plans = {
            ALONE: RunConfig("supervised", source, None, None, None, replace(supervised.RECIPE, seed=seed)),
            REVERSED: RunConfig("dann", source, target, None, None, adapted),
            WITHOUT: RunConfig("dann", source, target, None, None, replace(adapted, strength=0.0)),
        }
        for number, (title, plan) in enumerate(plans.items()):
            plan = replace(plan, frames=chosen.frames)
            folder = chosen.runs / f"{plan.method}{number}-seed{seed}"
            sets = prepared_sets(ALIGNED_PAIR, (None,), {}, chosen.frames)
            results = run(plan, lambda sets=sets: sets, folder)  # type: ignore[misc]  # bound now, called at once
            places = {name: np.asarray(frame_range("last", len(each))) for name, each in sets.items()}
            features = last_features(plan, sets, folder)
            apart = {
                word.lower(): told_apart(
                    *(features[name][sets[name].labels[places[name]] == label] for name in ALIGNED_PAIR)
                )
                for label, word in enumerate(LABEL_WORDS)
            }
            keys = ("epoch", "label_loss", "label_accuracy", "domain_loss", "domain_accuracy")
            log = [{key: line[key] for key in keys if key in line} for line in read_log(folder)]
            about = {"network": title, "seed": seed, "told_apart": apart, "epochs": log}
            cells.append(about | {"epoch_kept": results["epoch_kept"], "target": last_fifth(folder, target)})
    rows = []
    for title in (ALONE, REVERSED, WITHOUT):
        some = [cell for cell in cells if cell["network"] == title]
        row = [mean_and_deviation(cell["told_apart"][word.lower()] for cell in some) for word in LABEL_WORDS]
        rows.append(
            [
                title,
                *row,
                *(
                    mean_and_deviation(c["target"][m]["percent"] for c in some)
                    for m in ("recall", "miss_accuracy")
                ),
            ]
        )
    words = [f"{word.lower()}: told apart" for word in LABEL_WORDS]
    text = "\n\n".join(
        [
            f"**How well a linear classifier tells {source} and {target} apart by a network's features** (simulated sets of "
            f"{chosen.frames} frames, {chosen.seeds} seed{'s' * (chosen.seeds > 1)}, last fifth of each, per cent; 50 is perfect "
            "overlap)",
            markdown_table(["network", *words, f"recall on {target}", "misses"], rows),
        ]
    )
    record = {"simulated": True, "pair": ALIGNED_PAIR, "frames": chosen.frames, "cells": cells}
    write(chosen.results, "alignment", record, text)


if __name__ == "__main__":
    sys.exit(run_main(main))
