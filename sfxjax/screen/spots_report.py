"""The report of a count of spots: one HTML file with the frames that tell most, their spots circled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sfxjax.files import atomic_write_text
from sfxjax.screen.doubtful import doubtful_spots
from sfxjax.screen.lists import ERROR, HIT, MISS
from sfxjax.screen.pictures import data_address, flattened, frame_picture, jpeg_of_pixels
from sfxjax.screen.report import PICTURES, Findings, escaped, figure_axes, image, page, rate_image
from sfxjax.screen.spot_lists import hit_rate, hit_rate_line, next_commands
from sfxjax.spots.frame_pixels import frame_pixels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sfxjax.screen.found_spots import CountedFrame
    from sfxjax.screen.sources import Sources

# Longest side of a picture, pixels.
SIDE = 700
# Frames of which the largest value of each pixel is shown.
POWDER_FRAMES = 50


def write_spots_report(
    path: Path, sources: Sources, frames: list[CountedFrame], min_snr: float, min_spots: int
) -> None:
    """Write the report.

    Args:
        path: of the HTML file.
        sources: reads the frames shown, and tells what was left out.
        frames: of the run, in order.
        min_snr: signal-to-noise ratio from which spots are visible.
        min_spots: visible spots from which a frame is a hit.
    """
    labels = np.array([frame.label for frame in frames])
    scores = np.array([np.nan if frame.spots is None else frame.spots.score for frame in frames])
    expected = np.array([np.nan if frame.spots is None else frame.spots.expected for frame in frames])
    hits, errors = int(np.sum(labels == HIT)), int(np.sum(labels == ERROR))
    resolved = _resolutions(sources, frames)
    facts = [
        ("Result", hit_rate_line(hit_rate(frames))),
        ("A hit", f"probably shows {min_spots} spots or more of signal to noise {min_snr:g}"),
        ("Files", ", ".join(dict.fromkeys(Path(frame.stack.file).name for frame in frames))[:300]),
        *(("Masks", line) for line in sources.run.masks[:6]),
        *(("Values left out", line) for line in sources.run.value_lines()),
        *((("Bad pixels", sources.run.bad_pixels),) if sources.run.bad_pixels else ()),
        *((("Resolution", _resolution_line(resolved)),) if len(resolved) else ()),
        *(("Note", note) for note in sources.notes[:10]),
    ]
    if errors:
        facts.append(("Not read", f"{errors} frames; frames.csv says why"))
    if hits:
        facts += [
            ("Index the hits", line) for line in next_commands(path.parent, sources.reader.options.geometry)
        ]
    findings = Findings("Spots of a run", 0.5, scores, labels, facts, doubtful_spots(frames))
    rows = "".join(f"<tr><th>{escaped(key)}</th><td>{escaped(value)}</td></tr>" for key, value in facts)
    parts = [f"<h1>{findings.title}</h1>"]
    parts += [f'<p class="warning">{escaped(line)}</p>' for line in findings.warnings]
    parts.append(f"<table>{rows}</table>")
    parts += ["<h2>Hit rate over the run</h2>", rate_image(findings)]
    parts += [
        "<h2>Spots a frame</h2>",
        image(_spots_figure(expected, labels), _spots_words(expected, labels)),
    ]
    if len(resolved):
        parts += [
            "<h2>Resolution of the spots of hits</h2>",
            image(_resolution_figure(resolved), _resolution_line(resolved)),
        ]
    pictures = []
    for heading, places in _chosen(scores, expected, labels):
        if len(places):
            pictures.append(f'<div class="group"><h2>{heading}</h2>')
            pictures += [_frame_picture(sources, frames[place], place) for place in places]
            pictures.append("</div>")
    gallery = Path(__file__).with_name("gallery.html").read_text()
    # The script looks for the pictures, so these come first.
    controls, script = gallery.split("<script>")
    parts += [controls, *pictures, f"<script>{script}"]
    powder = _powder(sources, frames)
    if powder is not None:
        parts.append(f"<h2>Largest value of each pixel over {powder[1]} hits</h2><div>{powder[0]}</div>")
    note = "In the pictures dark is bright, blue is masked, and the smooth background is subtracted; circles are spots."
    atomic_write_text(path, page(findings.title, "\n".join(parts), note))


def _chosen(scores: np.ndarray, expected: np.ndarray, labels: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Choose the frames to show: (heading, their places)."""
    hits, misses = np.flatnonzero(labels == HIT), np.flatnonzero(labels == MISS)
    ranked = hits[np.argsort(-expected[hits], kind="stable")]
    known = np.flatnonzero(labels != ERROR)
    doubtful = known[np.argsort(np.abs(scores[known] - 0.5), kind="stable")]
    doubtful = doubtful[np.abs(scores[doubtful] - 0.5) < 0.49]
    some = np.random.default_rng(0).permutation(misses)
    strongest, weakest = ranked[:PICTURES], ranked[PICTURES:][::-1]
    return [
        ("Hits with the most spots", strongest),
        ("Hits with the fewest spots", weakest[:PICTURES]),
        ("Most doubtful frames", doubtful[:PICTURES]),
        ("Misses, drawn at random", np.sort(some[:PICTURES])),
    ]


def _pixels(sources: Sources, frame: CountedFrame) -> np.ndarray:
    """Read a frame, panels one below the other as their spots' places count, NaN where a pixel tells nothing."""
    pixels, mask, limit = sources.read(frame.stack, frame.number)
    return frame_pixels(pixels, mask, 0, limit).floats()


def _frame_picture(sources: Sources, frame: CountedFrame, place: int) -> str:
    spots = frame.spots
    assert spots is not None
    where = f"frame {place}, {Path(frame.stack.file).name} {frame.stack.event(frame.number)}"
    caption = f"{where}: {frame.label}, {spots.expected:.1f} spots, score {spots.score:.3f}"
    known = {
        "frame": place,
        "label": frame.label,
        "spots": f"{spots.expected:.3f}",
        "score": f"{spots.score:.6f}",
    }
    return _circled(_pixels(sources, frame), spots.fs, spots.ss, caption, known)


def _circled(
    values: np.ndarray, fs: Any, ss: Any, caption: str, known: Mapping[str, object] | None = None
) -> str:
    """Draw a frame with circles around places; what is known of it goes to the figure's data attributes."""
    height, width = values.shape
    shrink = max(1, -(-max(height, width) // SIDE))
    good = np.isfinite(values)
    colours = frame_picture(flattened(np.nan_to_num(values), good), good, shrink)
    address = data_address(jpeg_of_pixels(colours), "jpeg")
    shown = width // shrink, height // shrink
    radius = max(shown) / 60
    circles = "".join(
        f'<circle cx="{(x + 0.5) / shrink:.1f}" cy="{(y + 0.5) / shrink:.1f}" r="{radius:.1f}"/>'
        for x, y in zip(fs, ss, strict=True)
    )
    text = escaped(caption)
    data = "".join(f' data-{name}="{escaped(str(value))}"' for name, value in (known or {}).items())
    return (
        f'<figure{data}><svg viewBox="0 0 {shown[0]} {shown[1]}" role="img" aria-label="{text}">'
        f'<image href="{address}" width="{shown[0]}" height="{shown[1]}"/>'
        f'<g fill="none" stroke="#d62728" stroke-width="{radius / 6:.2f}">{circles}</g></svg>'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _powder(sources: Sources, frames: list[CountedFrame]) -> tuple[str, int] | None:
    """Draw the largest value of each pixel over hits of the first hit's shape."""
    hits = [frame for frame in frames if frame.label == HIT]
    hits = [frame for frame in hits if frame.stack.raw_shape == hits[0].stack.raw_shape]
    if len(hits) < 2:
        return None
    chosen = [
        hits[k] for k in np.linspace(0, len(hits) - 1, min(len(hits), POWDER_FRAMES)).round().astype(int)
    ]
    largest = _pixels(sources, chosen[0])
    for frame in chosen[1:]:
        largest = np.fmax(largest, _pixels(sources, frame))
    return _circled(largest, (), (), "virtual powder"), len(chosen)


def _spots_words(expected: np.ndarray, labels: np.ndarray) -> str:
    medians = [
        f"{name} {np.median(expected[labels == label]):.1f} in the middle"
        for label, name in ((HIT, "hits"), (MISS, "misses"))
        if (labels == label).any()
    ]
    return f"Expected visible spots of each frame, by its place in the run: {', '.join(medians) or 'none'}."


def _resolutions(sources: Sources, frames: list[CountedFrame]) -> np.ndarray:
    """Return the resolution of all spots of hits, Angstrom, as far as a geometry tells it, (n,)."""
    found = [
        resolved
        for frame in frames
        if frame.label == HIT and frame.spots is not None
        for resolved in [sources.resolution(frame.stack, frame.spots)]
        if resolved is not None
    ]
    together = np.concatenate(found) if found else np.empty(0)
    return together[np.isfinite(together)]


def _resolution_line(resolved: np.ndarray) -> str:
    """Say between which resolutions the spots of hits lie."""
    finest, middle, coarsest = np.percentile(resolved, [5, 50, 95])
    return f"of {len(resolved)} spots of hits half lie at {middle:.2f} Å or finer, 90 % between {coarsest:.2f} and {finest:.2f} Å"


def _resolution_figure(resolved: np.ndarray) -> Figure:
    figure, axes = figure_axes(9, 3)
    # Spots that fill a detector evenly are spread evenly in 1 / d^2, nearly.
    axes.hist(1 / resolved**2, bins=40, color="tab:blue")
    low, high = axes.get_xlim()
    ticks = np.linspace(max(low, 1e-4), high, 8)
    axes.set_xticks(ticks, [f"{1 / np.sqrt(tick):.2f}" for tick in ticks])
    axes.set(xlabel="resolution, Å (even in 1/d²)", ylabel="spots")
    return figure


def _spots_figure(expected: np.ndarray, labels: np.ndarray) -> Figure:
    figure, axes = figure_axes(9, 3)
    for label, colour in ((MISS, "grey"), (HIT, "tab:red")):
        places = np.flatnonzero(labels == label)
        axes.plot(places, np.maximum(expected[places], 0.05), ".", markersize=3, color=colour, label=label)
    axes.set(xlabel="frame", ylabel="expected visible spots", yscale="log")
    axes.legend(loc="best")
    return figure
