"""Pictures of all methods side by side: precision-recall curves, and ours beside the published figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sfxjax.data.labels import MISS
from sfxjax.training.published import SETS, Pair, frame_range

from .drawing import new_figure, save
from .methods import (
    METHODS,
    TEST_FRAMES,
    Method,
    precision_curve,
    published_mean,
    published_pairs,
    published_precision,
    records_of_method,
)
from .runs import AS_PUBLISHED, METRICS, TrainedRun
from .tables import describe

DRAWN_RECALLS = np.linspace(0.45, 1, 221)
_LOWEST_PRECISION = 0.5

# One colour a kind of network; dashed where no label of the tested set is used.
_COLOURS = {
    "supervised": "#1b5fa8",
    "supervised_few": "#63aee6",
    "transfer": "#7b3fa0",
    "reduced": "#2e8b57",
    "spots": "#444444",
    "dann": "#d1342f",
    "source_only": "#1b5fa8",
    "reduced_carried": "#2e8b57",
    "spots_carried": "#444444",
    "supervised_fewer": "#a9cfe8",
    "transfer_fewer": "#c7a6dd",
    "reduced_fewer": "#93cfa9",
    "reduced_normalised": "#b8b04a",
    "reduced_carried_normalised": "#b8b04a",
    "supervised_normalised": "#9a9a9a",
    "dann_normalised": "#e8a33d",
    "source_only_normalised": "#9a9a9a",
}
_METRIC_TITLES = {
    "recall": "recall on hits and maybes (%)",
    "miss_accuracy": "accuracy on misses (%)",
    "balanced_accuracy": "balanced accuracy (%)",
}

_FIGURES: dict[str, Callable[[Pair], float]] = {
    "recall": lambda pair: pair.recall,
    "miss_accuracy": lambda pair: pair.miss_accuracy,
    "balanced_accuracy": lambda pair: (pair.recall + pair.miss_accuracy) / 2,
}


def draw_precision_recall(runs: Sequence[TrainedRun], path: Path) -> None:
    """Draw precision against recall of every method of the paper, one panel a set, with the paper's figures as points.

    A curve is the mean over a method's pairs and seeds, on frames 1601-2000 of the set. The paper gives no precision: its
    points are the precision that its recall and its accuracy on misses have among the frames the curves are of.

    Args:
        runs: all there are.
        path: of the PNG.
    """
    figure = new_figure(14, 6.3)
    panels = figure.subplots(1, len(SETS), sharex=True, sharey=True)
    handles: dict[str, Any] = {}
    for axis, tested in zip(panels, SETS, strict=True):
        classes = _class_counts(runs, tested)
        for key, method in METHODS.items():
            if method.variant != AS_PUBLISHED:
                continue
            look = {"color": _COLOURS[key], "linestyle": "-" if method.own else "--"}
            curve = precision_curve(runs, method, tested, DRAWN_RECALLS)
            if curve is not None:
                (handles[method.title],) = axis.plot(100 * DRAWN_RECALLS, 100 * curve, linewidth=1.5, **look)
                at = _operating_point(runs, method, tested)
                axis.plot(
                    *at, "o", color=_COLOURS[key], markersize=6, fillstyle="full" if method.own else "none"
                )
            if classes is not None:
                for pair, _ in published_pairs(method, tested):
                    precision = 100 * published_precision(pair, *classes)
                    axis.plot(
                        pair.recall,
                        precision,
                        "D",
                        markersize=5,
                        markerfacecolor="none",
                        markeredgecolor=_COLOURS[key],
                    )
        axis.set_title(tested, fontsize=11)
        axis.set_xlabel("recall (%)")
        axis.grid(alpha=0.25)
        axis.set(xlim=(100 * DRAWN_RECALLS[0], 100.4), ylim=(100 * _LOWEST_PRECISION, 100.8))
    panels[0].set_ylabel("precision (%)")
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize=9)
    figure.suptitle(
        f"{describe(runs)}: precision and recall, last fifth of each set. Dots: ours at its threshold. Diamonds: the paper, "
        "on CXIDB 76.\nDashed: no label of the tested set.",
        fontsize=11,
    )
    save(figure, path)


def draw_overview(record: Mapping[str, Any], path: Path) -> None:
    """Draw recall, accuracy on misses and balanced accuracy of every method beside the paper's means.

    Small dots are sets, large ones their mean with the standard deviation over seeds, all on frames 1601-2000.

    Args:
        record: from `bench.paper.record`.
        path: of the PNG.
    """
    figure = new_figure(13, 5.4)
    panels = figure.subplots(1, len(METRICS), sharey=True)
    places = np.arange(len(METHODS))[::-1]
    lowest = 100.0
    for axis, metric in zip(panels, METRICS, strict=True):
        for place, (key, method) in zip(places, METHODS.items(), strict=True):
            mean, paper = record["means"][key].get(metric), published_mean(method, _FIGURES[metric])
            if mean is not None:
                look = {"color": _COLOURS[key], "markersize": 8, "capsize": 3, "zorder": 3}
                of_sets = list(mean["sets"].values())
                axis.plot(of_sets, [place] * len(of_sets), ".", color=_COLOURS[key], alpha=0.55, markersize=7)
                if mean["value"] is not None:
                    axis.errorbar(mean["value"], place, xerr=mean["deviation"], fmt="o", **look)
                lowest = min([lowest, *of_sets, mean["value"] or lowest])
            if paper is not None:
                look = {"markerfacecolor": "white", "markeredgecolor": "black", "markersize": 6, "zorder": 4}
                axis.plot(paper, place + 0.28, "D", **look)
                lowest = min(lowest, paper)
        axis.set_xlabel(_METRIC_TITLES[metric])
        axis.grid(axis="x", alpha=0.25)
        axis.axhline(sum(not method.own for method in METHODS.values()) - 0.5, color="0.75", linewidth=0.8)
    for axis in panels:
        axis.set(xlim=(max(0.0, lowest - 3), 101), ylim=(-0.7, len(METHODS) - 0.3))
    panels[0].set_yticks(places, [method.title for method in METHODS.values()])
    figure.suptitle(
        f"{record['data']}, last fifth of each set: dots are ours (small: one set each), white diamonds the paper on CXIDB 76.\n"
        "Above the line labels of the tested set are used, below it none.",
        fontsize=11,
    )
    save(figure, path)


def _operating_point(runs: Sequence[TrainedRun], method: Method, tested: str) -> tuple[float, float]:
    records = records_of_method(runs, method, tested)
    recall, precision = (
        np.mean(
            [record[key]["percent"] for record in records if record[key]["percent"] is not None] or [np.nan]
        )
        for key in ("recall", "precision")
    )
    return float(recall), float(precision)


def _class_counts(runs: Sequence[TrainedRun], tested: str) -> tuple[int, int] | None:
    for run in runs:
        if tested in run.classes:
            chosen = frame_range(TEST_FRAMES, len(run.classes[tested]))
            positive = run.classes[tested][chosen.start : chosen.stop] != MISS
            return int(positive.sum()), int((~positive).sum())
    return None
