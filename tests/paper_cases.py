"""What the tests of the paper's tables and report share: made-up runs of every method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from bench.paper import report
from bench.paper.runs import AS_PUBLISHED, TrainedRun, read_run, write_test_scores
from bench.paper.spots import write_spot_counters
from bench.paper.table_layout import NOT_RUN, Table
from sfxjax.page import render_page
from sfxjax.training.published import PAIRS, SETS

FRAMES = 200
LAST = slice(160, 200)  # the last fifth
AFTER_FEW = slice(40, 200)


def classes(frames: int = FRAMES) -> dict[str, np.ndarray]:
    """Labels of the three sets, all classes in each fifth."""
    rng = np.random.default_rng(7)
    return {name: rng.choice(3, frames, p=[0.6, 0.1, 0.3]).astype(np.int8) for name in SETS}


def make_run(
    runs: Path,
    method: str,
    source: str,
    target: str | None = None,
    *,
    labels: int = 1200,
    seed: int = 0,
    skill: float = 1.5,
    reduction: str | None = None,
    frames: int = FRAMES,
    noise_normalised: bool = True,
    more: dict[str, Any] | None = None,
) -> Path:
    """Leave a run with random scores that tell hits from misses the better the greater the skill.

    `labels` are those of a set of 2000 frames.
    """
    heights = "" if noise_normalised else "-normalised"
    folder = runs / f"{method}-{source}-{target}-{labels}{heights}-seed{seed}"
    folder.mkdir(parents=True)
    rng = np.random.default_rng([seed, labels, *map(ord, f"{method}{source}{target}")])
    truth = classes(frames)
    scores = {
        name: (1 / (1 + np.exp(-rng.normal(skill * np.where(label > 0, 1, -1), 1.0)))).astype(np.float32)
        for name, label in truth.items()
    }
    write_test_scores(folder / "scores.h5", scores, truth)
    record = {
        "method": method,
        "source": source,
        "target": target,
        "labels": labels * frames // 2000,
        "reduction": reduction,
        "seed": seed,
        "simulated": True,
        "frames": dict.fromkeys(SETS, frames),
        "recipe": {"epochs": 2} | ({} if noise_normalised else {"base": {"noise_normalised": False}}),
        "epoch_kept": 1,
        "training_seconds": 10.0 + seed,
        "device": "cpu",
        "jax": "0",
    }
    (folder / "results.json").write_text(json.dumps(record | (more or {})))
    return folder


def exact_run(
    runs: Path,
    method: str,
    source: str,
    target: str | None = None,
    *,
    lost: float,
    abroad: float | None = None,
    **options: Any,
) -> Path:
    """Leave a run that rejects every miss and loses this share of the positives of each fifth of each set.

    `abroad` is the share on other sets than the source, by default the same.
    """
    folder = make_run(runs, method, source, target, **options)
    truth = classes()
    scores = {}
    for name, label in truth.items():
        scores[name] = np.where(label > 0, 0.9, 0.1).astype(np.float32)
        for fifth in np.split(np.arange(FRAMES), 5):
            positive = fifth[label[fifth] > 0]
            share = lost if abroad is None or name == source else abroad
            scores[name][positive[: round(share * len(positive))]] = 0.2
    write_test_scores(folder / "scores.h5", scores, truth)
    return folder


def every_run(runs: Path, seeds: int = 2) -> list[TrainedRun]:
    """One run of every method, set, pair and seed that the tables ask for."""
    folders = []
    for seed in range(seeds):
        for name in SETS:
            folders.append(make_run(runs, "supervised", name, seed=seed, skill=2.0))
            folders.append(make_run(runs, "supervised", name, labels=200, seed=seed, skill=0.6))
            folders.append(
                make_run(runs, "reduced", name, labels=200, seed=seed, reduction="row_wise_decomposition")
            )
            folders.append(make_run(runs, "supervised", name, labels=25, seed=seed, skill=0.3))
            folders.append(make_run(runs, "supervised", name, seed=seed, skill=1.2, noise_normalised=False))
        for source, target in PAIRS:
            folders.append(make_run(runs, "transfer", source, target, labels=200, seed=seed, skill=1.8))
            folders.append(make_run(runs, "transfer", source, target, labels=25, seed=seed, skill=1.5))
            folders.append(make_run(runs, "dann", source, target, seed=seed, skill=1.8))
            folders.append(
                make_run(runs, "dann", source, target, seed=seed, skill=1.1, noise_normalised=False)
            )
    return [read_run(folder) for folder in [*folders, *spot_counters(runs)]]


def one(
    runs: list[TrainedRun],
    method: str,
    source: str,
    target: str | None = None,
    split: str = "full",
    seed: int = 0,
) -> TrainedRun:
    """The only run of these."""
    key = (method, source, target, split, seed)
    (run,) = [
        r
        for r in runs
        if r.variant == AS_PUBLISHED and (r.method, r.source, r.target, r.split, r.seed) == key
    ]
    return run


def spot_counters(runs: Path, frames: int = FRAMES) -> list[Path]:
    """Spot counters of counts that rise with the class."""
    rng = np.random.default_rng(3)
    truth = classes(frames)
    counts = {name: rng.poisson(np.array([2.0, 6.0, 20.0])[label]) for name, label in truth.items()}
    about = {"frames": dict.fromkeys(truth, frames), "simulated": True, "recipe": {}}
    return write_spot_counters(runs, counts, truth, about)


def to_html(table: Table) -> str:
    """Return a table as the page shows it."""
    template = Path(report.__file__).with_name("table.html")
    return render_page(template, table=table, not_run=NOT_RUN)
