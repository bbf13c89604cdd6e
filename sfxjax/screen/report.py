"""The report of a screening: one HTML file with its pictures inside, and the mean image of each class."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sfxjax.crop import CROP
from sfxjax.data.new_hdf5 import NewHDF5
from sfxjax.files import atomic_write, atomic_write_text
from sfxjax.page import render_page
from sfxjax.screen.lists import ERROR, HIT, MISS
from sfxjax.screen.pictures import data_address, flattened, frame_picture, png_of_figure, png_of_pixels
from sfxjax.screen.run import evenly
from sfxjax.screen.summary import rates_by_block

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sfxjax.screen.pipeline import Screening

# Frames averaged for a class, evenly spaced over the run; all of them in shorter runs.
MEAN_FRAMES = 200
MOST_PICTURES = 6


@dataclass(frozen=True)
class Findings:
    """What the report tells.

    Attributes:
        title: of the page.
        threshold: score from which a frame is a hit.
        scores: (n,), NaN for errors.
        labels: (n,), HIT, MISS or ERROR.
        facts: rows of the first table.
        warnings: what the reader must know first.
        reasons: why frames are errors.
    """

    title: str
    threshold: float
    scores: np.ndarray
    labels: np.ndarray
    facts: list[tuple[str, str]]
    warnings: list[str]
    reasons: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Plot:
    """A figure below its heading.

    Attributes:
        heading: above it.
        figure: what is drawn.
        words: what it shows, for those who do not see it.
    """

    heading: str
    figure: Figure
    words: str

    @property
    def address(self) -> str:
        """The address that holds the figure inside a page."""
        return data_address(png_of_figure(self.figure))


class Picture(NamedTuple):
    """A picture of pixels: the address that holds it inside a page, and its caption."""

    address: str
    caption: str


def class_means(screening: Screening, labels: np.ndarray) -> dict[str, tuple[np.ndarray, int]]:
    """Average frames of each class.

    Args:
        screening: reads them.
        labels: of the run's frames.

    Returns:
        For HIT and MISS, the mean crop float32 (724, 724), NaN where no frame has a good pixel, and how many
        frames were averaged: at most 200, evenly spaced over the run.
    """
    means = {}
    for label in (HIT, MISS):
        places = evenly(np.flatnonzero(labels == label), MEAN_FRAMES)
        total, count = np.zeros((CROP, CROP)), np.zeros((CROP, CROP), np.int64)
        for crop, good in screening.crops(places):
            usable = good & np.isfinite(crop)
            total += np.where(usable, crop, 0)
            count += usable
        if len(places):
            mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
            means[label] = (mean.astype(np.float32), len(places))
    return means


def write_class_means(path: Path, means: dict[str, tuple[np.ndarray, int]]) -> None:
    """Write mean images as `/HIT/mean` and `/HIT/frames`, and the same for `MISS`."""
    with atomic_write(path) as temporary, NewHDF5(temporary) as file:
        for label, (mean, frames) in means.items():
            file.create_dataset(f"{label}/mean", data=mean, compression="gzip")
            file[f"{label}/frames"] = frames


def write_report(
    path: Path, screening: Screening, findings: Findings, means: dict[str, tuple[np.ndarray, int]]
) -> None:
    """Write the report.

    Args:
        path: of the HTML file.
        screening: reads the frames shown.
        findings: what to tell.
        means: see `class_means`.
    """
    groups = [("Mean images", [_mean_picture(findings, label, *mean) for label, mean in means.items()])]
    shown = replace(findings, scores=np.where(screening.run.there(), findings.scores, np.float32(np.nan)))
    for heading, places in chosen_frames(shown):
        crops = zip(places, screening.crops(places), strict=True)
        pictures = [_frame_picture(screening, findings, int(place), *crop) for place, crop in crops]
        groups.append((heading, pictures))
    page = render_page(
        Path(__file__).with_suffix(".html"),
        title=findings.title,
        warnings=findings.warnings,
        facts=findings.facts,
        plots=[rate_plot(findings.labels), _score_plot(findings)],
        groups=groups,
        reasons=findings.reasons.most_common(20),
    )
    atomic_write_text(path, page)


def chosen_frames(findings: Findings) -> list[tuple[str, np.ndarray]]:
    """Choose the frames to show: (heading, their numbers)."""
    scores = findings.scores
    scored = np.flatnonzero(~np.isnan(scores))
    hits = scored[findings.labels[scored] == HIT]
    strongest = hits[np.argsort(-scores[hits], kind="stable")][:MOST_PICTURES]
    # Doubt is measured in log odds: near 0 and 1 the score itself hardly moves.
    odds = _log_odds(scores[scored]) - _log_odds(np.array([findings.threshold]))
    doubtful = scored[np.argsort(np.abs(odds), kind="stable")][:MOST_PICTURES]
    return [("Strongest hits", strongest), ("Most doubtful frames, nearest to the threshold", doubtful)]


def _log_odds(scores: np.ndarray) -> np.ndarray:
    clipped = np.clip(scores.astype(np.float64), 1e-9, 1 - 1e-9)
    return np.log(clipped / (1 - clipped))


def figure_axes(width: float, height: float) -> tuple[Figure, Any]:
    """Return a figure of so many inches and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def rate_plot(labels: np.ndarray) -> Plot:
    """Draw the hit rate over the run.

    Args:
        labels: (n,) HIT, MISS or ERROR.
    """
    figure, axes = figure_axes(9, 3)
    known = [block for block in rates_by_block(labels) if block["rate"] is not None]
    middles = [(block["first"] + block["last"]) / 2 for block in known]
    percent = [100 * block["rate"] for block in known]
    axes.plot(middles, percent, "o-", markersize=3, label="hits in each block")
    scored, hits = labels != ERROR, labels == HIT
    running = 100 * np.cumsum(hits) / np.maximum(np.cumsum(scored), 1)
    shown = evenly(np.arange(len(running)), 1000)
    axes.plot(shown, running[shown], color="grey", label="hits so far")
    axes.set(xlabel="frame", ylabel="hits (%)", ylim=(-3, 103), xlim=(0, max(len(running) - 1, 1)))
    axes.legend(loc="best")
    between = f", between {min(percent):.0f} and {max(percent):.0f} % in blocks of frames" if known else ""
    share = 100 * hits.sum() / max(scored.sum(), 1)
    words = f"Hit rate over the run: {share:.1f} % of {scored.sum()} frames{between}."
    return Plot("Hit rate over the run", figure, words)


def _score_plot(findings: Findings) -> Plot:
    figure, axes = figure_axes(9, 3)
    scores = findings.scores[~np.isnan(findings.scores)]
    axes.hist(scores, bins=np.linspace(0, 1, 51), color="tab:blue")
    axes.axvline(findings.threshold, color="tab:red", label=f"threshold {findings.threshold:.4g}")
    axes.set(xlabel="score: probability of a hit", ylabel="frames", xlim=(0, 1))
    if len(scores):
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7)
    axes.legend(loc="upper center")
    above = int(np.sum(scores >= np.float32(findings.threshold)))
    words = (
        f"Histogram of the scores of {len(scores)} frames: {above} are at or above the threshold, "
        f"{findings.threshold:.4g}, {int(np.sum((scores > 0.1) & (scores < 0.9)))} lie between 0.1 and 0.9."
    )
    return Plot("Scores", figure, words)


def _mean_picture(findings: Findings, label: str, mean: np.ndarray, frames: int) -> Picture:
    of_class = int(np.sum(findings.labels == label))
    of_all = "" if frames == of_class else f" of {of_class}, evenly spaced over the run"
    return _picture(mean, np.isfinite(mean), f"{label}: mean of {frames}{of_all}")


def _frame_picture(
    screening: Screening, findings: Findings, place: int, crop: np.ndarray, good: np.ndarray
) -> Picture:
    stack, number = screening.run.frame(place)
    where = f"frame {place}, {Path(stack.file).name} {stack.event(number)}"
    caption = f"{where}: {findings.labels[place]}, score {findings.scores[place]:.4f}"
    return _picture(flattened(crop, good), good, caption)


def _picture(pixels: np.ndarray, good: np.ndarray, caption: str) -> Picture:
    return Picture(data_address(png_of_pixels(frame_picture(pixels, good))), caption)
