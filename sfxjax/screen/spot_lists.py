"""The lists that counting spots ends in, and the hits' pixels with their spots."""

from __future__ import annotations

import shlex
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from sfxjax.data.events import crystfel_line, dials_experiments
from sfxjax.data.frames import describe_all
from sfxjax.data.hits_file import DATA, line_of_lacking, write_hits
from sfxjax.data.read import FrameReader
from sfxjax.errors import UserError
from sfxjax.files import atomic_write, atomic_write_text
from sfxjax.screen.doubtful import doubtful_spots
from sfxjax.screen.found_spots import THRESHOLD, CountedFrame
from sfxjax.screen.lists import (
    ERROR,
    FOR_DIALS,
    HIT,
    HITS_CXI_LIST,
    MISS,
    Unlisted,
    event_lines,
    index_commands,
    selected,
    write_for_dials,
)
from sfxjax.screen.sources import Sources
from sfxjax.screen.spot_rows import FRAME_COLUMNS, SPOT_COLUMNS, csv_text, frame_row, spot_rows
from sfxjax.screen.summary import ResultSummary, rate_of_scores, rates_by_block, write_summary
from sfxjax.text import say

LISTS = ("frames.csv", "spots.csv", "hits.lst", "misses.lst", "hits.expt", FOR_DIALS, "summary.json")
# CrystFEL's layout of peaks in a CXI file, places in pixels of the stored array.
RESULT = "/entry_1/result_1"
PEAK_COLUMNS = ("peakXPosRaw", "peakYPosRaw", "peakTotalIntensity")


def next_commands(out: Path, geometry: str | None) -> list[str]:
    """Return the commands that index the hits: CrystFEL with peaks of its own, then either with the spots found here.

    CrystFEL gets these spots from `hits.cxi`, where that is written.
    """
    script, expt, table = (shlex.quote(str(out / name)) for name in (FOR_DIALS, "strong.expt", "strong.refl"))
    by_dials = f"libtbx.python {script} && dials.index {expt} {table} joint_indexing=False indexing.stills.indexer=sequences"
    commands = [index_commands(out, geometry)[0], by_dials]
    if (out / HITS_CXI_LIST).exists():
        named = shlex.quote(geometry or "FILE.geom")
        listed, stream = (shlex.quote(str(out / name)) for name in (HITS_CXI_LIST, "hits_cxi.stream"))
        commands.insert(1, f"indexamajig -i {listed} -g {named} --peaks=cxi -o {stream}")
    return commands


def next_lines(out: Path, geometry: str | None) -> list[str]:
    """Return the lines that a screening with hits ends with: how they are indexed."""
    first, *others = next_commands(out, geometry)
    lines = [f"next: {first}", *(f"or, with these spots: {command}" for command in others)]
    return [*lines, *peaks_need(out)]


def peaks_need(out: Path) -> list[str]:
    """Say what the geometry must hold for CrystFEL to find the spots of `hits.cxi`, where that is written."""
    # CrystFEL has no option for their place any more: since 0.10 it stands in the geometry.
    need = f"--peaks=cxi needs data = {DATA}, peak_list = {RESULT} and peak_list_type = cxi in the geometry"
    return [need] if (out / HITS_CXI_LIST).exists() else []


def hit_rate(frames: list[CountedFrame]) -> dict[str, Any]:
    """Sum up how many frames are hits; see `rate_of_scores`."""
    scores = np.array([frame.spots.score for frame in frames if frame.spots is not None])
    return rate_of_scores(sum(frame.label == HIT for frame in frames), scores)


def hit_rate_line(found: dict[str, Any]) -> str:
    """Write what `hit_rate` returns as a line."""
    if not found["frames"]:
        return "no frame could be read"
    return (
        f"{found['hits']} hits among {found['frames']} frames: {found['percent']:.1f} % (95 % interval {found['low']:.1f} to "
        f"{found['high']:.1f} %); by their scores {found['expected']:.0f} ± {found['deviation']:.0f}"
    )


def write_spot_lists(
    out: Path,
    sources: Sources,
    frames: list[CountedFrame],
    min_snr: float,
    min_spots: int,
    model: str,
    source: str,
) -> list[str]:
    """Write the lists and the summary; returns lines about what could not stand in them.

    Args:
        out: folder.
        sources: of the frames.
        frames: all of them, in order.
        min_snr: signal-to-noise ratio from which a spot is visible.
        min_spots: visible spots from which a frame is a hit.
        model: what counted, in words.
        source: what the command line named.
    """
    rows: list[Any] = [FRAME_COLUMNS]
    found: list[Any] = [SPOT_COLUMNS]
    for index, frame in enumerate(frames):
        stack, spots = frame.stack, frame.spots
        event = stack.event(frame.number)
        resolved = None if spots is None else sources.resolution(stack, spots)
        found += spot_rows(stack.file, event, spots, resolved)
        rows.append(frame_row(stack.file, event, index, spots, frame.label, frame.reason))
    atomic_write_text(out / "spots.csv", csv_text(found))
    write_for_dials(out)
    # One of an earlier screening, that may have had other frames.
    (out / HITS_CXI_LIST).unlink(missing_ok=True)
    labels = [frame.label for frame in frames]
    run = sources.run
    unlisted = Unlisted()
    for name, label in (("hits.lst", HIT), ("misses.lst", MISS)):
        lines = event_lines(run, np.array(labels) == label, unlisted)
        atomic_write_text(out / name, "".join(f"{line}\n" for line in lines))
    hits = selected(run.stacks, np.array(labels) == HIT)
    atomic_write_text(out / "hits.expt", "".join(dials_experiments(hits)))
    summary = ResultSummary(
        labels.count(HIT),
        labels.count(MISS),
        labels.count(ERROR),
        hit_rate(frames),
        model,
        frames[0].threshold if frames else THRESHOLD,
        "the model's",
        source,
        min_snr,
        min_spots,
        files=describe_all([stack for stack in run.stacks if stack.file not in run.failed]),
        unreadable=run.failed,
        masks=run.masks,
        values_left_out=run.value_lines(),
        bad_pixels=run.bad_pixels,
        notes=sources.notes,
        warnings=doubtful_spots(frames),
        hit_rate_over_the_run=rates_by_block(np.array(labels)),
    )
    write_summary(out, summary)
    # Last, since its presence tells a whole result.
    atomic_write_text(out / "frames.csv", csv_text(rows))
    return unlisted.lines()


def write_spot_hits(reader: FrameReader, path: Path, frames: list[CountedFrame]) -> None:
    """Write the hits' own pixels and their spots to a CXI file, as CrystFEL reads them with `--peaks=cxi`, and a list of them."""
    places = [place for place, frame in enumerate(frames) if frame.label == HIT]
    chosen = [
        (stack, [frames[place].number for place in group])
        for stack, group in groupby(places, key=lambda place: frames[place].stack)
    ]
    found = [frames[place].spots for place in places]
    scores = [0.0 if spots is None else spots.score for spots in found]
    most = max((len(spots.ss) for spots in found if spots is not None), default=0)
    # CrystFEL takes whole numbers for the middle of a pixel and adds half a pixel itself.
    peaks = {name: np.zeros((len(found), most), np.float32) for name in PEAK_COLUMNS}
    for row, spots in enumerate(found):
        if spots is not None:
            for name, values in zip(PEAK_COLUMNS, (spots.fs, spots.ss, spots.signal), strict=True):
                peaks[name][row, : len(values)] = values
    counts = [0 if spots is None else len(spots.ss) for spots in found]
    results = {f"{RESULT}/{name}": values for name, values in peaks.items()}
    results[f"{RESULT}/nPeaks"] = np.asarray(counts, np.int32)
    with atomic_write(path) as temporary:
        lacking = write_hits(reader, temporary, chosen, places, scores, results)["left_out"]
    if lacking:
        say(line_of_lacking(lacking))
    try:
        lines = [crystfel_line(str(path), f"//{row}") for row in range(len(found))]
    except UserError as error:
        say(f"no {HITS_CXI_LIST}: {error}")
    else:
        atomic_write_text(path.with_name(HITS_CXI_LIST), "".join(f"{line}\n" for line in lines))
