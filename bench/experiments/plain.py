"""Do the paper's findings appear with a plain network? Convolutions from the pixels on, on simulated sets.

    python -m bench.experiments.plain --seeds 1 --epochs 10

trains on LN83 and LO19: with 1200 labels, with 200, by transfer and by DANN in both directions. On two busy cores that trained
for 7.5 minutes at the default binning of 4x4 pixels; `--binning 1` reads all pixels, as the paper's networks do.
A killed experiment goes on with the same command.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from sfxjax.errors import run_main
from sfxjax.models.checkpoint import MODEL_FOLDER, load_model
from sfxjax.models.stem import plain_base
from sfxjax.training import dann, supervised, transfer
from sfxjax.training.command import prepared_sets, run
from sfxjax.training.config import RunConfig
from sfxjax.training.data import PreparedSet
from sfxjax.training.evaluation import map_logits, summarize
from sfxjax.training.published import FEW_LABELS, TABLE_1, TABLE_2, TABLE_3, TABLE_5, frame_range

from ..paper.runs import figure_of, spread
from .batch_statistics import with_batch_statistics_of
from .record import experiment_parser, last_fifth, markdown_table, mean_and_deviation, read, write

COMPARED_PAIRS = (("LN83", "LO19"), ("LO19", "LN83"))
NETWORK_TITLES = {
    "many": "1200 labels, own set",
    "few": "200 labels, own set",
    "transfer": "transfer, 200 labels of the target",
    "source_only": "1200 labels of the source, on the target",
    "statistics": "the same, with the target's batch statistics",
    "dann": "DANN, no label of the target",
}
# A loss or gain of recall smaller than this is none, per cent.
LEAST = 1.0


def plans(seed: int, binning: int, epochs: int | None, frames: int, runs: Path) -> dict[Path, RunConfig]:
    """List the trainings of a seed by their folders; those that others start from come first."""

    def recipe(of: Any) -> Any:
        changed = replace(of.RECIPE, base=plain_base(binning), seed=seed)
        return changed if epochs is None else replace(changed, epochs=epochs)

    def folder(*words: str) -> Path:
        return runs / "-".join([*words, f"binning{binning}", f"seed{seed}"])

    found = {}
    for name, _ in COMPARED_PAIRS:
        for title, labels in (("many", None), ("few", FEW_LABELS)):
            found[folder(title, name)] = RunConfig(
                "supervised", name, None, labels, None, recipe(supervised), None, frames
            )
    for source, target in COMPARED_PAIRS:
        found[folder("transfer", source, target)] = RunConfig(
            "transfer",
            source,
            target,
            FEW_LABELS,
            None,
            recipe(transfer),
            None,
            frames,
            base=str(folder("many", source)),
        )
        found[folder("dann", source, target)] = RunConfig(
            "dann", source, target, None, None, recipe(dann), None, frames
        )
    return found


def plain_cells(folder: Path, plan: RunConfig) -> list[dict[str, Any]]:
    """Return the figures of a finished run on the last fifth of the sets that a row of the table is of."""
    word = folder.name.partition("-")[0]
    on = {word: plan.target or plan.source}
    if word == "many":
        on["source_only"] = next(target for source, target in COMPARED_PAIRS if source == plan.source)
    return [
        {
            "row": row,
            "source": plan.source,
            "tested": name,
            "seed": plan.recipe.seed,
            **last_fifth(folder, name),
        }
        for row, name in on.items()
    ]


def with_statistics_cell(folder: Path, plan: RunConfig, target: PreparedSet) -> dict[str, Any]:
    """Return the figures of a network on another set with that set's batch statistics, which need no label.

    What this wins back was lost to the height and spread of the inputs alone, not to what the network looks for.

    Args:
        folder: of the network's finished run.
        plan: of the run.
        target: the other set.
    """
    maps = target.masked[None]
    model = with_batch_statistics_of(load_model(folder / MODEL_FOLDER), maps, plan.recipe.seed)
    last = np.asarray(frame_range("last", len(maps)))
    about = {
        "row": "statistics",
        "source": plan.source,
        "tested": target.name,
        "seed": plan.recipe.seed,
    }
    return about | summarize(target.positives[last], expit(map_logits(model, maps[last])))


def published(row: str) -> tuple[float, float] | None:
    """Return the paper's mean recall and accuracy on misses of the same sets and pairs; None where it has none."""
    pairs = {
        "many": [TABLE_1[source, source] for source, _ in COMPARED_PAIRS],
        "few": [TABLE_2[source] for source, _ in COMPARED_PAIRS],
        "transfer": [TABLE_3[pair] for pair in COMPARED_PAIRS],
        "source_only": [TABLE_1[pair] for pair in COMPARED_PAIRS],
        "statistics": [],
        "dann": [TABLE_5[pair][1] for pair in COMPARED_PAIRS],
    }[row]
    if not pairs:
        return None
    return sum(p.recall for p in pairs) / len(pairs), sum(p.miss_accuracy for p in pairs) / len(pairs)


def mean_figures(found: Sequence[dict[str, Any]], row: str, metric: str = "recall") -> list[float]:
    """Return the mean of a row's figures over its sets, one a seed; see `figure_of`."""
    seeds = sorted({cell["seed"] for cell in found})
    values = [
        [figure_of(cell, metric) for cell in found if (cell["row"], cell["seed"]) == (row, seed)]
        for seed in seeds
    ]
    return [mean for some in values if (mean := spread(some)) is not None]


def plain_findings(found: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Judge the paper's findings by mean recalls; every seed has to agree, or seeds disagree.

    Beside it the same difference of the balanced accuracies: a network that calls nearly all frames positive loses no recall.
    """
    recalls, balanced = (
        {row: mean_figures(found, row, m) for row in NETWORK_TITLES} for m in ("recall", "balanced_accuracy")
    )

    def gains(of: dict[str, list[float]], better: str, worse: str) -> list[float]:
        return [a - b for a, b in zip(of[better], of[worse], strict=True)]

    def judged(claim: str, better: str, worse: str) -> dict[str, str]:
        agree = [gain >= LEAST for gain in gains(recalls, better, worse)]
        verdict = "holds" if all(agree) else "seeds disagree" if any(agree) else "does not hold"
        of_better, of_worse = published(better), published(worse)
        assert of_better is not None and of_worse is not None
        paper = (sum(of_better) - sum(of_worse)) / 2
        return {
            "claim": claim,
            "paper": f"{of_better[0] - of_worse[0]:+.1f}",
            "ours": mean_and_deviation(gains(recalls, better, worse)),
            "verdict": verdict,
            "paper_balanced": f"{paper:+.1f}",
            "ours_balanced": mean_and_deviation(gains(balanced, better, worse)),
        }

    return [
        judged(claim, a, b)
        for claim, a, b in (
            ("recall that 200 labels from scratch lose against 1200", "many", "few"),
            ("recall that transfer wins back with 200 labels", "transfer", "few"),
            ("recall that the source-only network loses on the other set", "many", "source_only"),
            ("recall that DANN wins back on the other set", "dann", "source_only"),
        )
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = experiment_parser("plain", "The paper's findings with a plain network.")
    parser.add_argument("--binning", type=int, default=4, help="of the frames, pixels (default: 4)")
    parser.add_argument("--epochs", type=int, help="of every training (default: those of the commands)")
    chosen = read(parser, arguments)
    names = [source for source, _ in COMPARED_PAIRS]
    base = plain_base(chosen.binning)
    found: list[dict[str, Any]] = []
    for seed in range(chosen.seeds):
        for folder, plan in plans(seed, chosen.binning, chosen.epochs, chosen.frames, chosen.runs).items():
            results = run(plan, lambda: prepared_sets(names, (None,), {}, chosen.frames, base=base), folder)
            cost = {"training_seconds": results["training_seconds"], "epoch_kept": results["epoch_kept"]}
            found += [cell | cost for cell in plain_cells(folder, plan)]
            if folder.name.startswith("many"):
                sets = prepared_sets(names, (None,), {}, chosen.frames, base=base)
                target = next(target for source, target in COMPARED_PAIRS if source == plan.source)
                found.append(with_statistics_cell(folder, plan, sets[target]))
    rows = [
        [
            NETWORK_TITLES[row],
            *(mean_and_deviation(mean_figures(found, row, metric)) for metric in ("recall", "miss_accuracy")),
            mean_and_deviation(mean_figures(found, row, "balanced_accuracy")),
            mean_and_deviation(mean_figures(found, row, "area_under_curve"), 3),
            *(["", ""] if (paper := published(row)) is None else [f"{value:.1f}" for value in paper]),
        ]
        for row in NETWORK_TITLES
    ]
    judged = plain_findings(found)
    seeds = f"{chosen.seeds} seed{'s' * (chosen.seeds > 1)}"
    text = "\n\n".join(
        [
            f"**A plain network, as the paper describes it** (simulated sets LN83 and LO19 of {chosen.frames} frames, binned "
            f"{chosen.binning}x{chosen.binning} pixels, {seeds}, per cent; mean over both directions, on the last fifth of "
            "each set, ± the standard deviation over seeds; the paper's are of the real sets at full size)",
            markdown_table(
                [
                    "network",
                    "recall",
                    "misses",
                    "balanced",
                    "area under ROC",
                    "paper: recall",
                    "paper: misses",
                ],
                rows,
            ),
            markdown_table(
                [
                    "finding",
                    "paper, points",
                    "ours, points",
                    "by recall",
                    "balanced: paper",
                    "balanced: ours",
                ],
                [
                    [f[k] for k in ("claim", "paper", "ours", "verdict", "paper_balanced", "ours_balanced")]
                    for f in judged
                ],
            ),
        ]
    )
    record = {
        "simulated": True,
        "binning": chosen.binning,
        "frames": chosen.frames,
        "base": base.to_json(),
        "findings": judged,
        "cells": found,
    }
    write(chosen.results, "plain" if chosen.binning == 4 else f"plain-binning{chosen.binning}", record, text)


if __name__ == "__main__":
    sys.exit(run_main(main))
