"""Methods side by side: which runs stand for a method on a set, means over sets, pairs and seeds, and curves.

All methods are compared on the last fifth of the tested set (frames 1601-2000 of 2000), where no network of any table was
trained or validated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np

from sfxjax.evaluation.metrics import count, threshold_at_recall
from sfxjax.training.published import SETS, FrameRange, Pair, PublishedCell, cells

from .runs import AS_PUBLISHED, FEWER, NORMALISED, TrainedRun, cell_record, is_as_published, spread

TEST_FRAMES: FrameRange = "last"
PUBLISHED_RECALLS = ("90", "95", "99")


@dataclass(frozen=True)
class Method:
    """A way to get scores for a set.

    Attributes:
        key: for file names and look-ups.
        title: for readers.
        method: of the runs.
        split: of the runs.
        own: whether it is tested on the set its labels are from, or on another one.
        labels: what it needs from the tested set.
        variant: of the runs, see `bench.paper.runs.TrainedRun.variant`.
    """

    key: str
    title: str
    method: str
    split: str
    own: bool
    labels: str
    variant: str = AS_PUBLISHED


def _method(
    key: str, title: str, method: str, split: str, labels: str = "none", variant: str = AS_PUBLISHED
) -> Method:
    told = ", LCN units" if variant == NORMALISED else ""
    return Method(key, title + told, method, split, labels != "none", labels, variant)


_CNN, _RWD = "2D CNN", "RWD and 1D CNN"
METHODS = {
    method.key: method
    for method in (
        _method("supervised", f"{_CNN}, 1200 labels", "supervised", "full", "1200 + 400"),
        _method("supervised_few", f"{_CNN}, 200 labels", "supervised", "few", "200 + 200"),
        _method("transfer", "transfer, 200 labels", "transfer", "few", "200 + 200"),
        _method("reduced", f"{_RWD}, 200 labels", "reduced", "few", "200 + 200"),
        _method("spots", "spot counter, threshold from the set", "spot_counter", "few", "200"),
        _method("supervised_fewer", f"{_CNN}, 25 labels", "supervised", "few", "25 + 200", FEWER),
        _method("transfer_fewer", "transfer, 25 labels", "transfer", "few", "25 + 200", FEWER),
        _method("reduced_fewer", f"{_RWD}, 25 labels", "reduced", "few", "25 + 200", FEWER),
        _method(
            "supervised_normalised", f"{_CNN}, 1200 labels", "supervised", "full", "1200 + 400", NORMALISED
        ),
        _method("reduced_normalised", f"{_RWD}, 200 labels", "reduced", "few", "200 + 200", NORMALISED),
        _method("dann", "DANN", "dann", "full"),
        _method("source_only", "source-only 2D CNN, carried over", "supervised", "full"),
        _method("dann_normalised", "DANN", "dann", "full", variant=NORMALISED),
        _method("source_only_normalised", "source-only 2D CNN", "supervised", "full", variant=NORMALISED),
        _method("reduced_carried", f"{_RWD}, carried over", "reduced", "few"),
        _method("reduced_carried_normalised", f"{_RWD}, carried over", "reduced", "few", variant=NORMALISED),
        _method("spots_carried", "spot counter, threshold from another set", "spot_counter", "full"),
    )
}


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


def runs_of_method(runs: Iterable[TrainedRun], method: Method, tested: str) -> list[TrainedRun]:
    """Find a method's runs that are to be tested on a set.

    Args:
        runs: to choose from.
        method: the method.
        tested: name of the set.
    """

    def fits(run: TrainedRun) -> bool:
        if (run.method, run.split) != (method.method, method.split) or not is_as_published(
            run, method.variant
        ):
            return False
        labelled = run.target if run.method == "transfer" else run.source
        if method.own:
            return labelled == tested
        return labelled != tested and run.target in (None, tested)

    return sorted((run for run in runs if fits(run)), key=lambda run: (run.source, run.seed))


def published_pairs(method: Method, tested: str) -> list[tuple[Pair, FrameRange]]:
    """Find the paper's figures of a method on a set, and the range of frames each is of; with fewer labels it has none."""
    if method.variant == FEWER:
        return []

    def fits(cell: PublishedCell) -> bool:
        labelled = cell.target if cell.method == "transfer" else cell.source
        return (
            (cell.method, cell.split, cell.tested) == (method.method, method.split, tested)
            and (labelled == tested) == method.own
            # The 2D networks of Table 7 are those of Table 1.
            and (cell.table, cell.method) != (7, "supervised")
        )

    return [(c.published, c.frames) for table in (1, 2, 3, 4, 5, 7) for c in cells(table) if fits(c)]


def published_mean(
    method: Method, figure: Callable[[Pair], float], sets: Sequence[str] = SETS
) -> float | None:
    """Take the mean of the paper's figures, first over a set's pairs, then over sets; None where it has none."""
    means = []
    for tested in sets:
        values = [figure(pair) for pair, _ in published_pairs(method, tested)]
        if not values:
            return None
        means.append(np.mean(values))
    return float(np.mean(means)) if means else None


def records_of_method(
    runs: Iterable[TrainedRun], method: Method, tested: str, frames: FrameRange = TEST_FRAMES
) -> list[dict[str, Any]]:
    """Sum up every run of a method on a set, see `bench.paper.runs.cell_record`."""
    found = [cell_record(run, tested, frames) for run in runs_of_method(runs, method, tested)]
    return [record for record in found if record is not None]


def mean_of(
    runs: Sequence[TrainedRun],
    method: Method,
    value: Callable[[dict[str, Any]], float | None],
    sets: Sequence[str] = SETS,
    frames: FrameRange = TEST_FRAMES,
) -> Mean | None:
    """Take the mean of a figure of a method: over a set's pairs, then over sets, then over seeds.

    Args:
        runs: to choose from.
        method: the method.
        value: the figure of a record, see `bench.paper.runs.cell_record`.
        sets: tested on.
        frames: range of the test frames.

    Returns:
        None where a set has no run, or the figure cannot be told for one of them.
    """
    # (set, source, target) -> seed -> figure
    cells_of: dict[tuple[Any, ...], dict[int, float]] = {}
    for tested in sets:
        records = records_of_method(runs, method, tested, frames)
        if not records:
            return None
        for record in records:
            figure = value(record)
            if figure is None:
                return None
            cells_of.setdefault((tested, record["source"], record["target"]), {})[record["seed"]] = figure
    if not cells_of:
        return None

    def over_sets(of_cell: Callable[[dict[int, float]], float]) -> float:
        means = [
            np.mean([of_cell(by_seed) for key, by_seed in cells_of.items() if key[0] == tested])
            for tested in sets
        ]
        return float(np.mean(means))

    number = sum(map(len, cells_of.values()))
    common = sorted(set.intersection(*map(set, cells_of.values())))
    if not common:
        return Mean(
            over_sets(lambda by_seed: float(np.mean(list(by_seed.values())))), None, tuple(sets), 0, number
        )
    mean, deviation = spread([over_sets(itemgetter(seed)) for seed in common])
    assert mean is not None
    return Mean(mean, deviation, tuple(sets), len(common), number)


def percent(metric: str) -> Callable[[dict[str, Any]], float | None]:
    """Return the function that takes `recall`, `miss_accuracy` or `balanced_accuracy` from a record, per cent."""
    return lambda record: record[metric]["percent"]


def at_recall(recall: str) -> Callable[[dict[str, Any]], float | None]:
    """Return the function that takes the miss accuracy at a recall, one of `RECALLS`, from a record, per cent."""
    return lambda record: record["miss_accuracy_at_recall"][recall]


def sets_of(
    runs: Sequence[TrainedRun], methods: Iterable[Method], frames: FrameRange = TEST_FRAMES
) -> tuple[str, ...]:
    """Return the sets that all these methods have been tested on."""
    wanted = list(methods)
    return tuple(s for s in SETS if all(records_of_method(runs, m, s, frames) for m in wanted))


def precision_at_recall(labels: np.ndarray, scores: np.ndarray, recalls: np.ndarray) -> np.ndarray:
    """Return the precision at the highest threshold that reaches each recall.

    Args:
        labels: (frames,) bool, with at least one positive frame.
        scores: (frames,).
        recalls: (n,), above 0, at most 1.

    Returns:
        (n,) between 0 and 1.
    """
    thresholds = [threshold_at_recall(labels, scores, float(recall)) for recall in recalls]
    counts = [count(labels, scores, threshold) for threshold in thresholds if threshold is not None]
    return np.array([found.precision.value for found in counts], np.float64)


def precision_curve(
    runs: Iterable[TrainedRun],
    method: Method,
    tested: str,
    recalls: np.ndarray,
    frames: FrameRange = TEST_FRAMES,
) -> np.ndarray | None:
    """Return the precision at each recall, the mean over a method's runs on a set; None where there is none."""
    both = [run.tested(tested, frames) for run in runs_of_method(runs, method, tested)]
    curves = [precision_at_recall(*pair, recalls) for pair in both if pair is not None and pair[0].any()]
    return np.mean(curves, axis=0) if curves else None


def published_precision(pair: Pair, positives: int, negatives: int) -> float:
    """Tell the precision that recall and accuracy on Miss would give among so many positive and negative frames."""
    kept, wrong = pair.recall * positives, (100 - pair.miss_accuracy) * negatives
    return kept / (kept + wrong) if kept + wrong else 1.0
