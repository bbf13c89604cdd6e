"""The report of a screening: one HTML file with its pictures inside, and the mean image of each class."""

from __future__ import annotations

import html
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from sfxjax.crop import CROP
from sfxjax.files import atomic_write, atomic_write_text
from sfxjax.screen.lists import ERROR, HIT, MISS
from sfxjax.screen.pictures import data_address, flattened, frame_picture, png_of_figure, png_of_pixels
from sfxjax.text import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sfxjax.screen.pipeline import Screening

# Frames averaged for a class, evenly spaced over the run; all of them in shorter runs.
MEAN_FRAMES = 200
PICTURES = 6
BLOCKS = 100


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


def rates_by_block(labels: np.ndarray, blocks: int = BLOCKS) -> list[dict[str, Any]]:
    """Return the hit rate in consecutive blocks of frames.

    Args:
        labels: (n,) HIT, MISS or ERROR.
        blocks: at most so many, of at least 10 frames each.

    Returns:
        For each block `first` and `last` frame, `hits`, `errors` and `rate`, None where all are errors.
    """
    size = max(10, -(-len(labels) // blocks))
    rates = []
    for first in range(0, len(labels), size):
        block = labels[first : first + size]
        hits, errors = int(np.sum(block == HIT)), int(np.sum(block == ERROR))
        scored = len(block) - errors
        rate = hits / scored if scored else None
        rates.append(
            {"first": first, "last": first + len(block) - 1, "hits": hits, "errors": errors, "rate": rate}
        )
    return rates


def evenly(places: np.ndarray, count: int) -> np.ndarray:
    """Choose at most `count` of increasing places, evenly spaced."""
    if len(places) <= count:
        return places
    return places[np.linspace(0, len(places) - 1, count).round().astype(int)]


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
    with atomic_write(path) as temporary, h5py.File(temporary, "w") as file:
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
    parts = [f"<h1>{escaped(findings.title)}</h1>"]
    parts += [f'<p class="warning">{escaped(line)}</p>' for line in findings.warnings]
    rows = "".join(
        f"<tr><th>{escaped(key)}</th><td>{escaped(value)}</td></tr>" for key, value in findings.facts
    )
    parts += [f"<table>{rows}</table>", "<h2>Hit rate over the run</h2>", rate_image(findings)]
    parts += ["<h2>Scores</h2>", image(_histogram(findings), _histogram_words(findings))]
    if means:
        parts.append("<h2>Mean images</h2><div>")
        for label, (mean, frames) in means.items():
            of_class = int(np.sum(findings.labels == label))
            of_all = "" if frames == of_class else f" of {of_class}, evenly spaced over the run"
            parts.append(_crop_picture(mean, np.isfinite(mean), f"{label}: mean of {frames}{of_all}"))
        parts.append("</div>")
    for heading, places in chosen_frames(findings):
        if len(places):
            parts.append(f"<h2>{heading}</h2><div>")
            for place, (crop, good) in zip(places, screening.crops(places), strict=True):
                stack, number = screening.run.frame(int(place))
                where = f"{Path(stack.file).name} {stack.event(number)}"
                score = f"{findings.labels[place]}, score {findings.scores[place]:.4f}"
                caption = f"frame {place}, {where}: {score}"
                parts.append(_crop_picture(flattened(crop, good), good, caption))
            parts.append("</div>")
    if findings.reasons:
        parts.append("<h2>Frames that could not be screened</h2><table>")
        for reason, count in findings.reasons.most_common(20):
            parts.append(f"<tr><td>{count}</td><td>{escaped(reason)}</td></tr>")
        parts.append("</table>")
    atomic_write_text(path, page(findings.title, "\n".join(parts), NOTE))


def chosen_frames(findings: Findings) -> list[tuple[str, np.ndarray]]:
    """Choose the frames to show: (heading, their numbers)."""
    scores = findings.scores
    scored = np.flatnonzero(~np.isnan(scores))
    hits = scored[findings.labels[scored] == HIT]
    strongest = hits[np.argsort(-scores[hits], kind="stable")][:PICTURES]
    # Doubt is measured in log odds: near 0 and 1 the score itself hardly moves.
    odds = _log_odds(scores[scored]) - _log_odds(np.array([findings.threshold]))
    doubtful = scored[np.argsort(np.abs(odds), kind="stable")][:PICTURES]
    return [("Strongest hits", strongest), ("Most doubtful frames, nearest to the threshold", doubtful)]


def _log_odds(scores: np.ndarray) -> np.ndarray:
    clipped = np.clip(scores.astype(np.float64), 1e-9, 1 - 1e-9)
    return np.log(clipped / (1 - clipped))


def figure_axes(width: float, height: float) -> tuple[Figure, Any]:
    """Return a figure of so many inches and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def rate_figure(findings: Findings) -> Figure:
    """Draw the hit rate over the run."""
    figure, axes = figure_axes(9, 3)
    rates = rates_by_block(findings.labels)
    known = [block for block in rates if block["rate"] is not None]
    middles = [(block["first"] + block["last"]) / 2 for block in known]
    axes.plot(
        middles, [100 * block["rate"] for block in known], "o-", markersize=3, label="hits in each block"
    )
    scored = np.cumsum(findings.labels != ERROR)
    running = 100 * np.cumsum(findings.labels == HIT) / np.maximum(scored, 1)
    shown = evenly(np.arange(len(running)), 1000)
    axes.plot(shown, running[shown], color="grey", label="hits so far")
    axes.set(xlabel="frame", ylabel="hits (%)", ylim=(-3, 103), xlim=(0, max(len(running) - 1, 1)))
    axes.legend(loc="best")
    return figure


def _histogram(findings: Findings) -> Figure:
    figure, axes = figure_axes(9, 3)
    scores = findings.scores[~np.isnan(findings.scores)]
    axes.hist(scores, bins=np.linspace(0, 1, 51), color="tab:blue")
    axes.axvline(findings.threshold, color="tab:red", label=f"threshold {findings.threshold:.4g}")
    axes.set(xlabel="score: probability of a hit", ylabel="frames", xlim=(0, 1))
    if len(scores):
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7)
    axes.legend(loc="upper center")
    return figure


def _crop_picture(crop: np.ndarray, good: np.ndarray, caption: str) -> str:
    address, text = data_address(png_of_pixels(frame_picture(crop, good))), escaped(caption)
    return f'<figure><img src="{address}" alt="{text}"><figcaption>{text}</figcaption></figure>'


def image(figure: Figure, words: str) -> str:
    """Return a figure as an HTML image.

    Args:
        figure: a plot.
        words: what it shows, for those who do not see it.
    """
    return f'<img class="plot" src="{data_address(png_of_figure(figure))}" alt="{escaped(words)}">'


def rate_image(findings: Findings) -> str:
    """Return the hit rate over the run as an HTML image."""
    known = [100 * block["rate"] for block in rates_by_block(findings.labels) if block["rate"] is not None]
    between = f", between {min(known):.0f} and {max(known):.0f} % in blocks of frames" if known else ""
    scored = int(np.sum(findings.labels != ERROR))
    share = 100 * int(np.sum(findings.labels == HIT)) / max(scored, 1)
    return image(rate_figure(findings), f"Hit rate over the run: {share:.1f} % of {scored} frames{between}.")


def _histogram_words(findings: Findings) -> str:
    scores = findings.scores[~np.isnan(findings.scores)]
    above = int(np.sum(scores >= np.float32(findings.threshold)))
    return (
        f"Histogram of the scores of {len(scores)} frames: {above} are at or above the threshold, "
        f"{findings.threshold:.4g}, {int(np.sum((scores > 0.1) & (scores < 0.9)))} lie between 0.1 and 0.9."
    )


def escaped(text: str) -> str:
    """Return text as HTML shows it."""
    return html.escape(printable(text))


def page(title: str, body: str, note: str) -> str:
    """Return an HTML page that needs no other file.

    Args:
        title: of the page, plain text.
        body: HTML.
        note: what to know of the pictures, HTML.
    """
    return _TEMPLATE.format(title=escaped(title), body=body, note=note)


NOTE = "In the pictures dark is bright, and blue is masked; in those of frames the smooth background is subtracted."
_TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1160px; padding: 0 1em; color: #222; }}
h1 {{ font-size: 1.5em; }} h2 {{ font-size: 1.15em; margin-top: 1.8em; }}
table {{ border-collapse: collapse; }} th, td {{ text-align: left; padding: .2em 1em .2em 0; vertical-align: top; }}
th {{ font-weight: 600; white-space: nowrap; }} td {{ overflow-wrap: anywhere; }}
.warning {{ background: #fff3cd; border-left: 4px solid #d39e00; padding: .5em 1em; }}
.plot {{ max-width: 100%; }}
figure {{ display: inline-block; margin: 0 .8em 1em 0; width: 362px; max-width: 100%; }}
figure img, figure svg {{ width: 100%; image-rendering: pixelated; }} figcaption {{ font-size: .9em; color: #555; }}
</style>
</head>
<body>
{body}
<p>{note}
A frame's place in its file stands in frames.csv.</p>
</body>
</html>
"""
