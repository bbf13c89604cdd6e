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

from sfxjax.toml_files import read_toml
from sfxjax.training.published import SETS, FrameRange, Pair, PublishedCell, cells

from .plans import AS_PUBLISHED, FEWER, TABLES, Network
from .runs import METRICS, Mean, TrainedRun, cell_record, figure_of, labelled_set, runs_of, spread

TEST_FRAMES: FrameRange = "last"


@dataclass(frozen=True)
class Method:
    """A way to get scores for a set, a part of `methods.toml`.

    Attributes:
        title: for readers.
        method: of the networks.
        split: of the networks.
        colour: in the pictures.
        labels: what it needs from the tested set.
        variant: of the networks, see `bench.paper.plans.Network`.
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

    def fits(self, of: Network | PublishedCell, tested: str) -> bool:
        """Tell whether a network, or a cell's, is of this method but for the variant, and to be tested on a set."""
        own = labelled_set(of.method, of.source, of.target) == tested
        same = (of.method, of.split, own) == (self.method, self.split, self.own)
        # Of several sets a DANN is tested on its own target alone.
        return same and (own or of.target in (None, tested))


METHODS = {key: Method(**about) for key, about in read_toml(Path(__file__).with_suffix(".toml")).items()}


def runs_of_method(runs: Iterable[TrainedRun], method: Method, tested: str) -> list[TrainedRun]:
    """Find a method's runs that are to be tested on a set."""
    return [run for run in runs_of(runs, variant=method.variant) if method.fits(run.network, tested)]


def mean_of(
    runs: Sequence[TrainedRun],
    method: Method,
    metric: str,
    sets: Sequence[str] = SETS,
    frames: FrameRange = TEST_FRAMES,
) -> Mean | None:
    """Take the mean of a metric of `figure_of` of a method: over a set's pairs, then over sets, then over seeds.

    Returns:
        None where a set has no run, no seed is common to all sets, or the figure cannot be told for one of them.
    """
    by_set: list[dict[int, list[float | None]]] = []
    for tested in sets:
        by_seed: dict[int, list[float | None]] = {}
        for run in runs_of_method(runs, method, tested):
            figure = figure_of(cell_record(run, tested, frames), metric)
            by_seed.setdefault(run.network.seed, []).append(figure)
        by_set.append(by_seed)
    common = sorted(set.intersection(*map(set, by_set)))
    return spread([spread([spread(of_set[seed]) for of_set in by_set]) for seed in common])


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
            sets = {name: float(each) for name, each in of_sets.items() if each is not None}
            means[key][metric] = {"value": float(mean), "deviation": mean.deviation, "sets": sets}
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
