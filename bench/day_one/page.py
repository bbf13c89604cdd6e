"""Table and pictures of the day-one model's conditions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from sfxjax.files import atomic_write_bytes
from sfxjax.screen.pictures import png_of_figure
from sfxjax.simulate.artefacts import LIGHT, READING

from .measure import CLEAR, STRONG, example

_TABLE_COLUMNS = (
    "condition",
    "clear hits",
    "recall",
    "clear misses",
    "accuracy on misses",
    "accuracy, all frames",
    "calibration error",
    "strong spots found",
    "false spots a blank frame",
    "centroid error, pixels",
)


def table(rows: dict[str, dict[str, Any]], everything: dict[str, Any]) -> str:
    """Lay the conditions out as Markdown."""
    lines = [
        f"Simulated frames. Clear hits: the fourth strongest spot is {CLEAR:g} times the threshold of sight or stronger; clear "
        f"misses: it is the threshold over {CLEAR:g} or weaker. Strong spots: {STRONG:g} times the threshold. Rates in per cent.",
        "",
        f"| {' | '.join(_TABLE_COLUMNS)} |",
        f"|{' --- |' * len(_TABLE_COLUMNS)}",
    ]
    for name, row in [*rows.items(), ("**all**", everything)]:
        cells = (
            str(row["hits"]),
            _percent(row["recall"]),
            str(row["misses"]),
            _percent(row["accuracy_on_misses"]),
            _percent(row["accuracy"]),
            f"{row['calibration_error']:.3f}",
            _percent(row["strong_spots_found"]),
            _rounded(row["false_spots_a_blank"]),
            _rounded(row["centroid_error"]),
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def _rounded(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def draw_calibration(path: Path, everything: dict[str, Any]) -> None:
    """Draw how often a score comes true, over all conditions."""
    figure = Figure(figsize=(5, 4.4), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    rows = np.array(everything["reliability"])
    above.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    above.plot(rows[:, 0], rows[:, 1], "o-", color="tab:blue")
    above.set(ylabel="share that are hits", xlim=(0, 1), ylim=(0, 1))
    above.set_title(f"simulated frames: calibration error {everything['calibration_error']:.3f}", fontsize=10)
    below.bar(rows[:, 0], rows[:, 2], width=0.03, color="0.5")
    below.set(xlabel="score: probability of a hit", ylabel="frames", yscale="log")
    atomic_write_bytes(path, png_of_figure(figure, 110))


def draw_parts(path: Path) -> None:
    """Draw a frame for every artefact of the simulation."""
    names = [*LIGHT, *READING]
    columns = 6
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(2 * columns, 2.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns).ravel()
    for place in axes:
        place.set_axis_off()
    for place, name in zip(axes, names, strict=False):
        values = example(name).values.astype(float)
        low, high = np.percentile(values, [1, 99.6])
        place.imshow(values, cmap="gray_r", vmin=low, vmax=max(high, low + 1))
        place.set_title(name.replace("_", " "), fontsize=9)
    figure.suptitle("Simulated frames with eight spots and one artefact each", fontsize=11)
    atomic_write_bytes(path, png_of_figure(figure, 80))
