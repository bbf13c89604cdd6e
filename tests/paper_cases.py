"""What the tests of the paper's tables and report share: made-up runs of every method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.paper import report
from bench.paper.plans import AS_PUBLISHED, FEWER, NORMALISED, RWD, Network
from bench.paper.runs import TrainedRun
from bench.paper.spots import spot_counters
from bench.paper.table_layout import NOT_RUN, Table
from sfxjax.page import render_page
from sfxjax.training.published import PAIRS, SETS

FRAMES = 200
LAST = slice(160, 200)  # the last fifth
AFTER_FEW = slice(40, 200)
# Labels of a set of 2000 frames, by split and variant.
LABELS = {
    ("full", AS_PUBLISHED): 1200,
    ("full", NORMALISED): 1200,
    ("few", AS_PUBLISHED): 200,
    ("few", FEWER): 25,
}


def classes(frames: int = FRAMES) -> dict[str, np.ndarray]:
    """Labels of the three sets, all classes in each fifth."""
    rng = np.random.default_rng(7)
    return {name: rng.choice(3, frames, p=[0.6, 0.1, 0.3]).astype(np.int8) for name in SETS}


def make_run(
    method: str,
    source: str,
    target: str | None = None,
    *,
    split: str = "full",
    variant: str = AS_PUBLISHED,
    seed: int = 0,
    skill: float = 1.5,
    simulated: bool = True,
) -> TrainedRun:
    """Make a run with random scores that tell hits from misses the better the greater the skill."""
    labels = LABELS[split, variant]
    rng = np.random.default_rng([seed, labels, *map(ord, f"{method}{source}{target}")])
    truth = classes()
    scores = {
        name: (1 / (1 + np.exp(-rng.normal(skill * np.where(label > 0, 1, -1), 1.0)))).astype(np.float32)
        for name, label in truth.items()
    }
    record = {
        "method": method,
        "source": source,
        "target": target,
        "labels": labels * FRAMES // 2000,
        "reduction": RWD if method == "reduced" else None,
        "seed": seed,
        "simulated": simulated,
        "recipe": {"epochs": 2},
        "epoch_kept": 1,
        "training_seconds": 10.0 + seed,
        "device": "cpu",
        "jax": "0",
    }
    return TrainedRun(Network(method, split, source, target, variant, seed), record, scores, truth)


def exact_run(
    method: str,
    source: str,
    target: str | None = None,
    *,
    lost: float,
    abroad: float | None = None,
    **options: Any,
) -> TrainedRun:
    """Make a run that rejects every miss and loses this share of the positives of each fifth of each set.

    `abroad` is the share on other sets than the source, by default the same.
    """
    run = make_run(method, source, target, **options)
    for name, label in run.classes.items():
        run.scores[name] = np.where(label > 0, 0.9, 0.1).astype(np.float32)
        for fifth in np.split(np.arange(FRAMES), 5):
            positive = fifth[label[fifth] > 0]
            share = lost if abroad is None or name == source else abroad
            run.scores[name][positive[: round(share * len(positive))]] = 0.2
    return run


def every_run(seeds: int = 2) -> list[TrainedRun]:
    """One run of every method, set, pair and seed that the tables ask for."""
    made = []
    few, fewer, normalised = {"split": "few"}, {"split": "few", "variant": FEWER}, {"variant": NORMALISED}
    for seed in range(seeds):
        for name in SETS:
            made.append(make_run("supervised", name, seed=seed, skill=2.0))
            made.append(make_run("supervised", name, seed=seed, skill=0.6, **few))
            made.append(make_run("reduced", name, seed=seed, **few))
            made.append(make_run("supervised", name, seed=seed, skill=0.3, **fewer))
            made.append(make_run("supervised", name, seed=seed, skill=1.2, **normalised))
        for pair in PAIRS:
            made.append(make_run("transfer", *pair, seed=seed, skill=1.8, **few))
            made.append(make_run("transfer", *pair, seed=seed, skill=1.5, **fewer))
            made.append(make_run("dann", *pair, seed=seed, skill=1.8))
            made.append(make_run("dann", *pair, seed=seed, skill=1.1, **normalised))
    return [*made, *counters()]


def one(
    runs: list[TrainedRun],
    method: str,
    source: str,
    target: str | None = None,
    split: str = "full",
    seed: int = 0,
) -> TrainedRun:
    """The only run of these."""
    wanted = Network(method, split, source, target, AS_PUBLISHED, seed)
    (run,) = [run for run in runs if run.network == wanted]
    return run


def counters() -> list[TrainedRun]:
    """Spot counters of counts that rise with the class."""
    rng = np.random.default_rng(3)
    truth = classes()
    counts = {name: rng.poisson(np.array([2.0, 6.0, 20.0])[label]).tolist() for name, label in truth.items()}
    return spot_counters(counts, truth, simulated=True)


def to_html(table: Table) -> str:
    """Return a table as the page shows it."""
    template = Path(report.__file__).with_name("table.html")
    return render_page(template, table=table, not_run=NOT_RUN)
