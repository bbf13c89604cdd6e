"""Are single particles found with 200 labels? The training commands on simulated single-particle shots.

    python -m bench.experiments.particles --seeds 1

trains the 2D networks and the 1D CNN on row-wise decompositions on either simulated set with 200 labels, and the 2D networks with
1200 as well, as `python -m train.supervised --task spi` and `train.reduced --task spi` do. A killed experiment goes on with the
same command.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sfxjax.data.set_description import SetDescription
from sfxjax.errors import run_main
from sfxjax.models.stem import plain_base
from sfxjax.simulate.particles import PARTICLE_SETS, Kind, particle_set, read_kinds
from sfxjax.training import reduced, supervised
from sfxjax.training.command import data_of, named_sets, run
from sfxjax.training.config import RunConfig
from sfxjax.training.run import SCORES_FILE
from sfxjax.training.scores import read_scores

from ..paper.plans import RWD
from .record import experiment_parser, last_fifth, markdown_table, mean_and_deviation, read, write

FEW_PARTICLES = 200

PLAIN_CONFIG = replace(supervised.RECIPE, base=plain_base(4))
# Of each network: its recipe, its reduction, and the labels it is trained with; None: 1200 of 2000.
NETWORKS: dict[str, tuple[Any, str | None, tuple[int | None, ...]]] = {
    "2D CNN of spots": (supervised.RECIPE, None, (FEW_PARTICLES, None)),
    "plain 2D CNN": (PLAIN_CONFIG, None, (FEW_PARTICLES, None)),
    "RWD and 1D CNN": (reduced.RECIPE, RWD, (FEW_PARTICLES,)),
}


def plans_of(name: str, described: SetDescription, seed: int, frames: int, runs: Path) -> dict[Path, Any]:
    """List the trainings on a set by their folders, each with the title of its network."""
    found = {}
    for title, (recipe, reduction, amounts) in NETWORKS.items():
        for labels in amounts:
            words = [name, *title.replace(" ", "_").split(), str(labels or "all"), f"seed{seed}"]
            method = "supervised" if reduction is None else "reduced"
            plan = RunConfig(
                method,  # type: ignore[arg-type]  # one of the literals
                name,
                None,
                labels,
                reduction,
                replace(recipe, seed=seed),
                data_of({name: described}),
                frames,
            )
            found[runs / "-".join(words)] = title, plan
    return found


def rejected(folder: Path, name: str, kinds: np.ndarray, threshold: float) -> dict[str, float]:
    """Return the share, per cent, of the last fifth's shots of each other kind that are not taken for single particles."""
    scores = read_scores(folder / SCORES_FILE)[name].scores
    last = np.arange(len(scores)) >= len(scores) * 4 // 5
    return {
        kind.name.lower(): 100 * float(np.mean(scores[last & (kinds == kind)] < threshold))
        for kind in (Kind.NONE, Kind.MULTIPLE)
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    chosen = read(experiment_parser("particles", "Single particles with 200 labels.", seeds=1), arguments)
    found: list[dict[str, Any]] = []
    for name in PARTICLE_SETS:
        described = particle_set(name, chosen.frames)
        kinds = read_kinds(described)
        for seed in range(chosen.seeds):
            for folder, (title, plan) in plans_of(name, described, seed, chosen.frames, chosen.runs).items():
                results = run(plan, named_sets(plan, {name: described}), folder)
                figures = last_fifth(folder, name)
                found.append(
                    {"network": title, "set": name, "seed": seed, "labels": results["labels"]}
                    | {"rejected": rejected(folder, name, kinds, figures["threshold"])}
                    | {"training_seconds": results["training_seconds"], **figures}
                )
    rows = []
    for name, title, labels in dict.fromkeys((c["set"], c["network"], c["labels"]) for c in found):
        some = [c for c in found if (c["set"], c["network"], c["labels"]) == (name, title, labels)]
        rows.append(
            [
                name,
                title,
                str(labels),
                *(
                    mean_and_deviation(c[metric]["percent"] for c in some)
                    for metric in ("recall", "miss_accuracy", "balanced_accuracy")
                ),
                *(mean_and_deviation(c["rejected"][kind] for c in some) for kind in ("multiple", "none")),
                mean_and_deviation((c["area_under_curve"] for c in some), 3),
            ]
        )
    seeds = f"{chosen.seeds} seed{'s' * (chosen.seeds > 1)}"
    text = "\n\n".join(
        [
            f"**Shots with one particle among empty shots and shots with several** (simulated sets of {chosen.frames} frames, "
            f"{seeds}, per cent, on the last fifth of each set; the plain network's frames binned 4x4)",
            markdown_table(
                [
                    "set",
                    "network",
                    "labels",
                    "single found",
                    "others rejected",
                    "balanced",
                    "of several, rejected",
                    "empty, rejected",
                    "area under ROC",
                ],
                rows,
            ),
        ]
    )
    write(chosen.results, "particles", {"simulated": True, "frames": chosen.frames, "cells": found}, text)


if __name__ == "__main__":
    sys.exit(run_main(main))
