"""Methods side by side: which runs stand for a method on a set, and means over sets, pairs and seeds, ours and the paper's.

All methods are compared on the last fifth of the tested set (frames 1601-2000 of 2000), where no network of any table was
trained or validated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from sfxjax.text import plus_minus
from sfxjax.toml_files import read_toml
from sfxjax.training.published import SETS, FrameRange, Pair, PublishedCell, cells

from .runs import AS_PUBLISHED, FEWER, METRICS, TrainedRun, cell_records, labelled_set, runs_of, spread

# Tables of trained networks; Table 6 is of three methods, measured apart.
TABLES = (1, 2, 3, 4, 5, 7)
MEASURED_TABLE = 6
MEASURED_METHODS = ("transfer", "reduced", "dann")
TEST_FRAMES: FrameRange = "last"


@dataclass(frozen=True)
class Method:
    """A way to get scores for a set, a part of `methods.toml`.

    Attributes:
        title: for readers.
        method: of the runs.
        split: of the runs.
        colour: in the pictures.
        labels: what it needs from the tested set.
        variant: of the runs, see `bench.paper.runs.TrainedRun.variant`.
    """

    title: str
    method: str
    split: str
    colour: str
    labels: str = "none"
    variant: str = AS_PUBLISHED

    @property
    def own(self) -> bool:
        """Whether it is tested on the set its labels are from, or on another one."""
        return self.labels != "none"

    def fits(self, of: TrainedRun | PublishedCell, tested: str) -> bool:
        """Tell whether a run's or a cell's network is of this method, and to be tested on a set."""
        own = labelled_set(of.method, of.source, of.target) == tested
        same = (of.method, of.split, own) == (self.method, self.split, self.own)
        # Of several sets a DANN is tested on its own target alone.
        return same and (own or of.target in (None, tested))


METHODS = {key: Method(**about) for key, about in read_toml(Path(__file__).with_suffix(".toml")).items()}


@dataclass(frozen=True)
class Mean:
    """A mean over sets, pairs and seeds.

    Attributes:
        value: the mean.
        deviation: standard deviation over seeds of the mean over sets and pairs; None with one seed.
        sets: tested on.
        seeds: how many seeds all cells have.
        runs: how many runs it is of.
    """

    value: float
    deviation: float | None
    sets: tuple[str, ...]
    seeds: int
    runs: int

    def __str__(self) -> str:
        """Return the value with its deviation, per cent."""
        return rate_text(self.value, self.deviation)


def rate_text(value: float | None, deviation: float | None = None) -> str:
    """Write a rate, per cent, with its deviation over seeds if there is one."""
    return "no frames" if value is None else plus_minus(value, deviation)


def figure_of(record: dict[str, Any], metric: str) -> float | None:
    """Return a figure of a record of `bench.paper.runs.cell_record`, None where it cannot be told.

    Args:
        record: of a test.
        metric: `recall`, `miss_accuracy`, `balanced_accuracy`, `precision` or `miss_accuracy_at_95` (or 90, 99), all per
            cent; or `area_under_curve`, at most 1.
    """
    if metric == "area_under_curve":
        return record[metric]
    of_rate, _, recall = metric.partition("_at_")
    return record["miss_accuracy_at_recall"][recall] if recall else record[of_rate]["percent"]


def runs_of_method(runs: Iterable[TrainedRun], method: Method, tested: str) -> list[TrainedRun]:
    """Find a method's runs that are to be tested on a set."""
    return [run for run in runs_of(runs, variant=method.variant) if method.fits(run, tested)]


def mean_of(
    runs: Sequence[TrainedRun],
    method: Method,
    metric: str,
    sets: Sequence[str] = SETS,
    frames: FrameRange = TEST_FRAMES,
) -> Mean | None:
    """Take the mean of a metric of `figure_of` of a method: over a set's pairs, then over sets, then over seeds.

    Returns:
        None where a set has no run, no seed is common to all pairs, or the figure cannot be told for one of them.
    """
    # tested set -> (source, target) -> seed -> figure
    by_set: dict[str, dict[tuple[str, str | None], dict[int, float]]] = {tested: {} for tested in sets}
    for tested, pairs in by_set.items():
        for record in cell_records(runs_of_method(runs, method, tested), tested, frames):
            figure = figure_of(record, metric)
            if figure is None:
                return None
            pairs.setdefault((record["source"], record["target"]), {})[record["seed"]] = figure
    if not all(by_set.values()):
        return None
    by_pair = [by_seed for pairs in by_set.values() for by_seed in pairs.values()]
    common = sorted(set.intersection(*map(set, by_pair)))
    of_seeds = [
        float(np.mean([np.mean([by_seed[seed] for by_seed in pairs.values()]) for pairs in by_set.values()]))
        for seed in common
    ]
    mean, deviation = spread(of_seeds)
    return None if mean is None else Mean(mean, deviation, tuple(sets), len(common), sum(map(len, by_pair)))


def means_of_methods(runs: Sequence[TrainedRun]) -> dict[str, dict[str, Any]]:
    """Take the means of every method and metric, JSON-ready.

    Returns:
        By method and metric, where every set has runs: `value`, `deviation` and the values of the `sets`, per cent.
    """
    means: dict[str, dict[str, Any]] = {key: {} for key in METHODS}
    for (key, method), metric in product(METHODS.items(), METRICS):
        mean = mean_of(runs, method, metric)
        of_sets = {name: mean_of(runs, method, metric, (name,)) for name in SETS}
        if mean is not None:
            sets = {name: each.value for name, each in of_sets.items() if each is not None}
            means[key][metric] = {"value": mean.value, "deviation": mean.deviation, "sets": sets}
    return means


def published_pairs(method: Method, tested: str) -> list[Pair]:
    """Find the paper's figures of a method on a set; with fewer labels it has none."""
    # The 2D networks of Table 7 are those of Table 1.
    tables = [number for number in TABLES if (number, method.method) != (7, "supervised")]
    found = [cell for number in tables for cell in cells(number) if cell.tested == tested]
    return [cell.published for cell in found if method.fits(cell, tested) and method.variant != FEWER]


def published_mean(method: Method, metric: str) -> float | None:
    """Take the mean of one of METRICS of the paper's, first over a set's pairs, then over sets; None where it has none."""

    def figure(pair: Pair) -> float:
        return sum(pair) / 2 if metric == "balanced_accuracy" else getattr(pair, metric)

    by_set = [[figure(pair) for pair in published_pairs(method, name)] for name in SETS]
    return float(np.mean([np.mean(values) for values in by_set])) if all(by_set) else None
