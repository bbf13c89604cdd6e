"""The report of a count of spots: one HTML file with the frames that tell most, their spots circled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sfxjax.files import atomic_write_text
from sfxjax.page import render_page
from sfxjax.screen.doubtful import doubtful_spots
from sfxjax.screen.lists import ERROR, HIT, MISS
from sfxjax.screen.pictures import data_address, flattened, frame_picture, jpeg_of_pixels
from sfxjax.screen.report import MOST_PICTURES, Plot, figure_axes, rate_plot
from sfxjax.screen.run import evenly
from sfxjax.screen.sources import UNREADABLE
from sfxjax.screen.spot_lists import hit_rate, hit_rate_line, next_commands, peaks_need
from sfxjax.spots.frame_pixels import frame_pixels

if TYPE_CHECKING:
    from sfxjax.screen.found_spots import CountedFrame
    from sfxjax.screen.sources import Sources

# Longest side of a picture, pixels.
LARGEST_PICTURE = 700
# Frames of which the largest value of each pixel is shown.
POWDER_FRAMES = 50


class CircledPicture(NamedTuple):
    """A frame with circles around its spots.

    Attributes:
        address: that holds the frame inside a page.
        width: of the picture, in its pixels.
        height: of the picture, in its pixels.
        circles: (x, y) of their centres, in pixels of the picture.
        caption: what is shown.
        data: what the page sorts and filters the pictures by.
    """

    address: str
    width: int
    height: int
    circles: list[tuple[float, float]]
    caption: str
    data: dict[str, object]

    @property
    def radius(self) -> float:
        """Of the circles, in pixels of the picture."""
        return max(self.width, self.height) / 60


def write_spots_report(
    path: Path, sources: Sources, frames: list[CountedFrame], min_snr: float, min_spots: int, model: str
) -> None:
    """Write the report.

    Args:
        path: of the HTML file.
        sources: reads the frames shown, and tells what was left out.
        frames: of the run, in order.
        min_snr: signal-to-noise ratio from which spots are visible.
        min_spots: visible spots from which a frame is a hit.
        model: that counted, in words.
    """
    labels = np.array([frame.label for frame in frames])
    scores = np.array([np.nan if frame.spots is None else frame.spots.score for frame in frames])
    expected = np.array([np.nan if frame.spots is None else frame.spots.expected for frame in frames])
    hits, errors = int(np.sum(labels == HIT)), int(np.sum(labels == ERROR))
    resolved = _resolutions(sources, frames)
    facts = [
        ("Result", hit_rate_line(hit_rate(frames))),
        ("A hit", f"probably shows {min_spots} spots or more of signal to noise {min_snr:g}"),
        ("Model", model),
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
        facts += [("CrystFEL", line) for line in peaks_need(path.parent)]
    plots = [rate_plot(labels), _spots_plot(expected, labels)]
    plots += [_resolution_plot(resolved)] if len(resolved) else []
    there = np.array([not frame.stack.unreadable for frame in frames], bool)
    groups = [
        (heading, list(_frame_pictures(sources, frames, places)))
        for heading, places in _chosen(scores, expected, np.where(there, labels, ERROR))
    ]
    powder, powder_frames = _powder(sources, frames)
    page = render_page(
        Path(__file__).with_suffix(".html"),
        title="Spots of a run",
        warnings=doubtful_spots(frames),
        facts=facts,
        plots=plots,
        groups=groups,
        powder=powder,
        powder_frames=powder_frames,
    )
    atomic_write_text(path, page)


def _chosen(scores: np.ndarray, expected: np.ndarray, labels: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Choose the frames to show: (heading, their places)."""
    hits, misses = np.flatnonzero(labels == HIT), np.flatnonzero(labels == MISS)
    ranked = hits[np.argsort(-expected[hits], kind="stable")]
    known = np.flatnonzero(labels != ERROR)
    doubtful = known[np.argsort(np.abs(scores[known] - 0.5), kind="stable")]
    doubtful = doubtful[np.abs(scores[doubtful] - 0.5) < 0.49]
    some = np.random.default_rng(0).permutation(misses)
    strongest, weakest = ranked[:MOST_PICTURES], ranked[MOST_PICTURES:][::-1]
    return [
        ("Hits with the most spots", strongest),
        ("Hits with the fewest spots", weakest[:MOST_PICTURES]),
        ("Most doubtful frames", doubtful[:MOST_PICTURES]),
        ("Misses, drawn at random", np.sort(some[:MOST_PICTURES])),
    ]


def _pixels(sources: Sources, frame: CountedFrame) -> np.ndarray:
    """Read a frame, panels one below the other as their spots' places count, NaN where a pixel tells nothing."""
    pixels, mask, limit = sources.read(frame.stack, frame.number)
    return frame_pixels(pixels, mask, 0, limit).floats()


def _frame_pictures(
    sources: Sources, frames: list[CountedFrame], places: np.ndarray
) -> Iterator[CircledPicture]:
    for place in places:
        # A file that was screened may be gone or damaged by now.
        with suppress(*UNREADABLE):
            yield _spots_picture(sources, frames[place], int(place))


def _spots_picture(sources: Sources, frame: CountedFrame, place: int) -> CircledPicture:
    spots = frame.spots
    assert spots is not None
    where = f"frame {place}, {Path(frame.stack.file).name} {frame.stack.event(frame.number)}"
    caption = f"{where}: {frame.label}, {spots.expected:.1f} spots, score {spots.score:.3f}"
    data = {
        "frame": place,
        "label": frame.label,
        "spots": f"{spots.expected:.3f}",
        "score": f"{spots.score:.6f}",
    }
    return _circled(_pixels(sources, frame), spots.fs, spots.ss, caption, data)


def _circled(values: np.ndarray, fs: Any, ss: Any, caption: str, data: dict[str, object]) -> CircledPicture:
    """Draw a frame with circles around places of its pixels."""
    height, width = values.shape
    shrink = max(1, -(-max(height, width) // LARGEST_PICTURE))
    good = np.isfinite(values)
    colours = frame_picture(flattened(np.nan_to_num(values), good), good, shrink)
    circles = [((x + 0.5) / shrink, (y + 0.5) / shrink) for x, y in zip(fs, ss, strict=True)]
    address = data_address(jpeg_of_pixels(colours), "jpeg")
    return CircledPicture(address, width // shrink, height // shrink, circles, caption, data)


def _powder(sources: Sources, frames: list[CountedFrame]) -> tuple[CircledPicture | None, int]:
    """Draw the largest value of each pixel over hits of the first hit's shape, and say over how many."""
    hits = [frame for frame in frames if frame.label == HIT and not frame.stack.unreadable]
    hits = [frame for frame in hits if frame.stack.raw_shape == hits[0].stack.raw_shape]
    if len(hits) < 2:
        return None, 0
    chosen = [hits[place] for place in evenly(np.arange(len(hits)), POWDER_FRAMES)]
    largest, count = None, 0
    for frame in chosen:
        with suppress(*UNREADABLE):
            pixels = _pixels(sources, frame)
            largest, count = pixels if largest is None else np.fmax(largest, pixels), count + 1
    if largest is None:
        return None, 0
    return _circled(largest, (), (), "virtual powder", {}), count


def _resolutions(sources: Sources, frames: list[CountedFrame]) -> np.ndarray:
    """Return the resolution of all spots of hits, Angstrom, as far as a geometry tells it, (n,)."""
    found = [
        resolved
        for frame in frames
        if frame.label == HIT and frame.spots is not None and not frame.stack.unreadable
        for resolved in [sources.resolution(frame.stack, frame.spots)]
        if resolved is not None
    ]
    together = np.concatenate(found) if found else np.empty(0)
    return together[np.isfinite(together)]


def _resolution_line(resolved: np.ndarray) -> str:
    """Say between which resolutions the spots of hits lie."""
    finest, middle, coarsest = np.percentile(resolved, [5, 50, 95])
    return f"of {len(resolved)} spots of hits half lie at {middle:.2f} Å or finer, 90 % between {coarsest:.2f} and {finest:.2f} Å"


def _resolution_plot(resolved: np.ndarray) -> Plot:
    figure, axes = figure_axes(9, 3)
    # Spots that fill a detector evenly are spread evenly in 1 / d^2, nearly.
    axes.hist(1 / resolved**2, bins=40, color="tab:blue")
    low, high = axes.get_xlim()
    ticks = np.linspace(max(low, 1e-4), high, 8)
    axes.set_xticks(ticks, [f"{1 / np.sqrt(tick):.2f}" for tick in ticks])
    axes.set(xlabel="resolution, Å (even in 1/d²)", ylabel="spots")
    return Plot("Resolution of the spots of hits", figure, _resolution_line(resolved))


def _spots_plot(expected: np.ndarray, labels: np.ndarray) -> Plot:
    figure, axes = figure_axes(9, 3)
    medians: list[str] = []
    for label, name, colour in ((MISS, "misses", "grey"), (HIT, "hits", "tab:red")):
        places = np.flatnonzero(labels == label)
        axes.plot(places, np.maximum(expected[places], 0.05), ".", markersize=3, color=colour, label=label)
        if len(places):
            medians.insert(0, f"{name} {np.median(expected[places]):.1f} in the middle")
    axes.set(xlabel="frame", ylabel="expected visible spots", yscale="log")
    axes.legend(loc="best")
    shown = ", ".join(medians) or "none"
    words = f"Expected visible spots of each frame, by its place in the run: {shown}."
    return Plot("Spots a frame", figure, words)
