"""Pictures of all methods side by side: precision-recall curves, and ours beside the published figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sfxjax.evaluation.metrics import count, threshold_at_recall
from sfxjax.training.published import SETS, Pair

from .drawing import new_figure, save
from .methods import METHODS, TEST_FRAMES, Method, mean_of, published_mean, published_pairs, runs_of_method
from .plans import AS_PUBLISHED
from .runs import TrainedRun

DRAWN_RECALLS = np.linspace(0.45, 1, 221)
_LOWEST_PRECISION = 0.5

_METRIC_TITLES = {
    "recall": "recall on hits and maybes (%)",
    "miss_accuracy": "accuracy on misses (%)",
    "balanced_accuracy": "balanced accuracy (%)",
}


def draw_precision_recall(runs: Sequence[TrainedRun], data: str, path: Path) -> None:
    """Draw precision against recall of every method of the paper, one panel a set, with the paper's figures as points.

    A curve is the mean over a method's pairs and seeds, on frames 1601-2000 of the set. The paper gives no precision: its
    points are the precision that its recall and its accuracy on misses have among the frames the curves are of. `data` says
    in words what the runs are of.
    """
    figure = new_figure(14, 6.3)
    panels = figure.subplots(1, len(SETS), sharex=True, sharey=True)
    handles: dict[str, Any] = {}
    for axis, tested in zip(panels, SETS, strict=True):
        labels = runs[0].tested(tested, TEST_FRAMES)[0]
        for method in METHODS.values():
            if method.variant != AS_PUBLISHED:
                continue
            colour = method.colour
            curve = precision_curve(runs, method, tested, DRAWN_RECALLS)
            if curve is not None:
                line, fill = ("-", "full") if method.own else ("--", "none")
                style = {"linestyle": line, "linewidth": 1.5, "color": colour}
                (handles[method.title],) = axis.plot(100 * DRAWN_RECALLS, 100 * curve, **style)
                means = [mean_of(runs, method, metric, (tested,)) for metric in ("recall", "precision")]
                at = [np.nan if mean is None else mean for mean in means]
                axis.plot(*at, "o", color=colour, markersize=6, fillstyle=fill)
            for pair in published_pairs(method, tested):
                precision = 100 * published_precision(pair, int(labels.sum()), int((~labels).sum()))
                style = {"markersize": 5, "markerfacecolor": "none", "markeredgecolor": colour}
                axis.plot(pair.recall, precision, "D", **style)
        axis.set_title(tested, fontsize=11)
        axis.grid(alpha=0.25)
        limits = {"xlim": (100 * DRAWN_RECALLS[0], 100.4), "ylim": (100 * _LOWEST_PRECISION, 100.8)}
        axis.set(xlabel="recall (%)", **limits)
    panels[0].set_ylabel("precision (%)")
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize=9)
    title = (
        f"{data}: precision and recall, last fifth of each set. Dots: ours at its threshold. Diamonds: the paper, on CXIDB 76.\n"
        "Dashed: no label of the tested set."
    )
    save(figure, title, path)


def precision_curve(
    runs: Iterable[TrainedRun], method: Method, tested: str, recalls: np.ndarray
) -> np.ndarray | None:
    """Return the precision at each recall, the mean over a method's runs on a set; None where there is none."""
    both = [run.tested(tested, TEST_FRAMES) for run in runs_of_method(runs, method, tested)]
    curves = [precision_at_recall(*pair, recalls) for pair in both if pair[0].any()]
    return np.mean(curves, axis=0) if curves else None


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


def published_precision(pair: Pair, positives: int, negatives: int) -> float:
    """Tell the precision that recall and accuracy on Miss would give among so many positive and negative frames."""
    kept, wrong = pair.recall * positives, (100 - pair.miss_accuracy) * negatives
    return kept / (kept + wrong) if kept + wrong else 1.0


def draw_overview(record: Mapping[str, Any], path: Path) -> None:
    """Draw recall, accuracy on misses and balanced accuracy of every method beside the paper's means.

    Small dots are sets, large ones their mean with the standard deviation over seeds, all on frames 1601-2000.
    """
    figure = new_figure(13, 5.4)
    panels = figure.subplots(1, len(_METRIC_TITLES), sharey=True)
    places = np.arange(len(METHODS))[::-1]
    lowest = 100.0
    for axis, (metric, title) in zip(panels, _METRIC_TITLES.items(), strict=True):
        for place, (key, method) in zip(places, METHODS.items(), strict=True):
            colour, mean = method.colour, record["means"][key].get(metric)
            paper = published_mean(method, metric)
            if mean is not None:
                of_sets = list(mean["sets"].values())
                axis.plot(of_sets, [place] * len(of_sets), ".", color=colour, alpha=0.55, markersize=7)
                look = {"color": colour, "markersize": 8, "capsize": 3, "zorder": 3}
                axis.errorbar(mean["value"], place, xerr=mean["deviation"], fmt="o", **look)
                lowest = min([lowest, *of_sets])
            if paper is not None:
                look = {"markerfacecolor": "white", "markeredgecolor": "black", "markersize": 6, "zorder": 4}
                axis.plot(paper, place + 0.28, "D", **look)
                lowest = min(lowest, paper)
        axis.set_xlabel(title)
        axis.grid(axis="x", alpha=0.25)
        axis.axhline(sum(not method.own for method in METHODS.values()) - 0.5, color="0.75", linewidth=0.8)
    for axis in panels:
        axis.set(xlim=(max(0.0, lowest - 3), 101), ylim=(-0.7, len(METHODS) - 0.3))
    panels[0].set_yticks(places, [method.title for method in METHODS.values()])
    title = (
        f"{record['data']}, last fifth of each set: dots are ours (small: one set each), white diamonds the paper on CXIDB 76.\n"
        "Above the line labels of the tested set are used, below it none."
    )
    save(figure, title, path)
