"""The table and the figure of labels needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sfxjax.files import atomic_write_bytes
from sfxjax.screen.pictures import png_of_figure

from .answers import RUNS
from .curves import ACTIVE
from .recorded import (
    DAY_ONE,
    MEAN,
    NETWORK,
    RANDOM,
    RECORDED_SETS,
    SCRATCH,
    SCRATCH_ALONE,
    TAUGHT,
    TRANSFER,
    TRANSFER_ALONE,
    VALIDATION_LABELS,
)

PAPER_METHODS = (SCRATCH, SCRATCH_ALONE, TRANSFER, TRANSFER_ALONE, NETWORK)
LABEL_METHODS = (*PAPER_METHODS, DAY_ONE, TAUGHT)
FEW, MANY = 25, 200

Summary = dict[tuple[str, str, str, int], tuple[float, float | None]]


def summarized(points: Sequence[Mapping[str, Any]]) -> Summary:
    """Return mean and standard deviation of the balanced accuracy over seeds, %, by set, method, choice and labels.

    The set `MEAN` stands for the mean of LN83, LN84 and LO19, taken for each seed first; one seed has no deviation.
    """
    groups: dict[tuple[str, str, str, int], dict[int | None, list[float]]] = {}
    for point in points:
        percent = point["balanced_accuracy"]["percent"]
        if percent is not None:
            about = point["set"], point["method"], point["choice"], point["labels"]
            groups.setdefault(about, {}).setdefault(point["seed"], []).append(percent)
    found = {
        key: _mean_and_deviation([float(np.mean(own)) for own in seeds.values()])
        for key, seeds in groups.items()
    }
    for point in points:
        # Of a mean that was recorded alone.
        if point.get("deviation") is not None:
            key = point["set"], point["method"], point["choice"], point["labels"]
            found[key] = found[key][0], point["deviation"]
    for method, choice, labels in {key[1:] for key in groups}:
        own = [groups.get((name, method, choice, labels)) for name in RECORDED_SETS]
        if all(each is not None for each in own):
            seeds = set.intersection(*(set(each) for each in own if each is not None))
            means = [
                float(np.mean([np.mean(each[seed]) for each in own if each is not None])) for seed in seeds
            ]
            if means:
                found[MEAN, method, choice, labels] = _mean_and_deviation(means)
    return found


def _mean_and_deviation(values: list[float]) -> tuple[float, float | None]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def labels_table(record: Mapping[str, Any]) -> str:
    """Lay a record out as Markdown, what does not hold first."""
    found = summarized(record["points"])
    counts = sorted({key[3] for key in found})
    parts = [
        f"Simulated frames. Balanced accuracy, per cent, ± the standard deviation over seeds; frames before the test part "
        "alone are labelled (of a run all of them, so that active choice is the same for every seed). The 2D CNN and transfer "
        f"choose their epoch on {VALIDATION_LABELS} labels more, but where the row says otherwise; transfer's base has learnt "
        "from 1200 labels of another set. Empty: not measured.",
        "",
        "**What does not hold**",
        "",
        *(f"- {line}" for line in shortfalls(found)),
    ]
    for name in (MEAN, *RECORDED_SETS, *RUNS):
        title = {MEAN: "mean of LN83, LN84 and LO19"}.get(name, name)
        about = "" if name not in RUNS else ", a run of a condition beyond what the day-one model learnt from"
        head = " | ".join(f"{count} labels" for count in counts)
        parts += [
            "",
            f"**{title}**{about}",
            "",
            f"| method | choice | {head} |",
            "|---|---|" + "---|" * len(counts),
        ]
        for method in LABEL_METHODS:
            for choice in (RANDOM, ACTIVE):
                cells = [_cell(found.get((name, method, choice, count))) for count in counts]
                if any(cells):
                    parts.append(f"| {method} | {choice} | " + " | ".join(cells) + " |")
    return "\n".join(parts) + "\n"


def shortfalls(found: Summary) -> list[str]:
    """Say where what 25 labels give falls short of the paper's methods with 200, and where labels do harm."""
    lines = []
    for name in (*RECORDED_SETS, *RUNS):
        rivals = {
            method: found[name, method, RANDOM, MANY]
            for method in PAPER_METHODS
            if (name, method, RANDOM, MANY) in found
        }
        for title, method in (("the day-one model", DAY_ONE), (f"the {TAUGHT},", TAUGHT)):
            own = found.get((name, method, ACTIVE, FEW))
            if own is None:
                continue
            for rival, (mean, _) in rivals.items():
                if own[0] < mean:
                    lines.append(
                        f"{name}: {title} with {FEW} active labels has {own[0]:.1f}, "
                        f"{rival} with {MANY} random ones {mean:.1f}."
                    )
            none = found.get((name, DAY_ONE, RANDOM, 0))
            if none is not None and none[0] > own[0]:
                lines.append(
                    f"{name}: {title} with {FEW} active labels has {own[0]:.1f}, without any {none[0]:.1f}."
                )
        random, active = (found.get((name, DAY_ONE, choice, FEW)) for choice in (RANDOM, ACTIVE))
        if random is not None and active is not None and random[0] > active[0]:
            lines.append(
                f"{name}: with {FEW} labels random choice gives {random[0]:.1f}, active choice {active[0]:.1f}."
            )
    return lines or ["nothing of what was asked: see the figures"]


def _cell(value: tuple[float, float | None] | None) -> str:
    if value is None:
        return ""
    return f"{value[0]:.1f}" + ("" if value[1] is None else f" ± {value[1]:.1f}")


def draw(record: Mapping[str, Any], path: Path) -> None:
    """Draw labels against balanced accuracy, a panel a set."""
    from matplotlib.figure import Figure

    found = summarized(record["points"])
    names = (MEAN, *RECORDED_SETS, *RUNS)
    figure = Figure(figsize=(14, 7), layout="constrained")
    panels = figure.subplots(2, 4).ravel()
    for panel, name in zip(panels, names, strict=False):
        for place, method in enumerate(LABEL_METHODS):
            for choice, style in ((RANDOM, "--"), (ACTIVE, "-")):
                points = sorted(
                    (key[3], value) for key, value in found.items() if key[:3] == (name, method, choice)
                )
                if points:
                    panel.errorbar(
                        [max(count, 2) for count, _ in points],
                        [mean for _, (mean, _) in points],
                        [deviation or 0.0 for _, (_, deviation) in points],
                        marker="o",
                        markersize=4,
                        capsize=2,
                        color=f"C{place}",
                        linestyle=style,
                        label=f"{method}, {choice}",
                    )
        panel.set_xscale("log")
        panel.set_xticks([2, 5, 10, 25, 50, 100, 200], ["0", "5", "10", "25", "50", "100", "200"])
        panel.minorticks_off()
        panel.set_title("mean of LN83, LN84, LO19" if name == MEAN else name, fontsize=10)
        panel.grid(alpha=0.3)
        panel.set_xlabel("labels")
        panel.set_ylabel("balanced accuracy (%)")
    handles, labels = panels[0].get_legend_handles_labels()
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    panels[-1].legend(handles, labels, loc="center", fontsize=9)
    figure.suptitle("Labels needed: simulated frames; bars: standard deviation over seeds", fontsize=11)
    atomic_write_bytes(path, png_of_figure(figure, 100))
