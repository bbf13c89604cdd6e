"""Count the spots of every frame of a run, whole, on a detector never seen: `sfxjax screen FILES --out DIR`.

Nothing is trained and no label is needed: a small network that comes with the package judges the places that stand out of their
surroundings (`sfxjax.spots.day_one`). A frame is a hit where it probably shows `--min-spots` spots of at least `--min-snr`.
`sfxjax spots` is the same under a name of its own.
"""

from __future__ import annotations

import argparse
import shlex
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from sfxjax.command_line import new_parser
from sfxjax.compilation import keep_compiled
from sfxjax.data.events import crystfel_line, dials_experiments
from sfxjax.data.frames import FrameStack, ReadOptions, describe_all
from sfxjax.data.hits_file import write_hits
from sfxjax.data.inputs import find_files
from sfxjax.data.read import FrameReader, WholeFrame
from sfxjax.devices import device_line
from sfxjax.errors import UserError
from sfxjax.files import atomic_write, atomic_write_json, atomic_write_text
from sfxjax.label.recalibration import Recalibration, inputs_of, load
from sfxjax.pixel_values import type_limit
from sfxjax.progress import progress
from sfxjax.screen.lists import ERROR, HIT, MISS, selected
from sfxjax.screen.sources import Sources
from sfxjax.screen.spot_rows import FRAME_COLUMNS, SPOT_COLUMNS, csv_text, frame_row, spot_rows

if TYPE_CHECKING:
    from sfxjax.spots.day_one import FrameSpots

MIN_SNR, MIN_SPOTS = 6.0, 4
THRESHOLD = 0.5
# So many frames that are all alike are no chance.
FEWEST_ALIKE = 4
# CrystFEL's layout of peaks in a CXI file, places in pixels of the stored array.
RESULT = "/entry_1/result_1"


@dataclass(frozen=True)
class CountedFrame:
    """A frame that was looked at.

    Attributes:
        stack: that holds it.
        number: in the stack.
        spots: what it shows, its visible spots alone; None where it could not be read.
        reason: why not.
        threshold: score from which it is a hit.
    """

    stack: FrameStack
    number: int
    spots: FrameSpots | None
    reason: str = ""
    threshold: float = THRESHOLD

    @property
    def label(self) -> str:
        """HIT, MISS or ERROR."""
        return ERROR if self.spots is None else HIT if self.spots.score >= self.threshold else MISS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, or 1 if single frames could not be read."""
    parser = new_parser("sfxjax.screen.spots", "Count the spots of every frame, without training and labels.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="files, folders or quoted patterns")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for everything written"
    )
    parser.add_argument("--dataset", metavar="PATH", help="path of the frames in HDF5 files")
    parser.add_argument(
        "--mask", metavar="FILE[:PATH]", help="mask of bad pixels, of the stored frames' shape"
    )
    parser.add_argument(
        "--mask-good", type=int, choices=(0, 1), help="value of good pixels in the mask, or in the files' own"
    )
    parser.add_argument("--geometry", metavar="FILE", help="CrystFEL geometry, for its masks and bad regions")
    parser.add_argument("--allow-links", action="store_true", help="follow links out of the run's folder")
    add_spot_arguments(parser)
    parser.add_argument("--write-hits", action="store_true", help="also write hits.cxi, with the spots")
    parser.add_argument("--no-report", action="store_true", help="write no report.html")
    return count_run(parser.parse_args(arguments))


def add_spot_arguments(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add what decides which frame is a hit, and whether lists may be replaced."""
    parser.add_argument(
        "--min-snr", type=float, metavar="S", help=f"signal to noise a spot is visible from ({MIN_SNR:g})"
    )
    parser.add_argument(
        "--min-spots", type=int, metavar="N", help=f"visible spots a frame is a hit from ({MIN_SPOTS})"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the lists of an earlier call")


def count_run(options: argparse.Namespace) -> int:
    """Count the spots of a run's frames and write everything down.

    Args:
        options: of the command line, of this module or of `sfxjax.screen`.

    Returns:
        The exit status: 1 if single frames could not be read, else 0.

    Raises:
        UserError: a number makes no sense, the folder holds lists, or there are no frames.
    """
    fitted = load(Path(options.model)) if getattr(options, "model", None) else None
    min_snr = MIN_SNR if options.min_snr is None else options.min_snr
    min_spots = MIN_SPOTS if options.min_spots is None else options.min_spots
    if fitted is not None:
        min_snr, min_spots = fitted.min_snr, fitted.min_spots
        print(f"the day-one model, fitted to {fitted.labels} labels; threshold {fitted.threshold:.3f}")
    if not (0 < min_snr < 1e6 and 1 <= min_spots <= 24):
        raise UserError("--min-snr must be above 0 and --min-spots from 1 to 24")
    out: Path = options.out
    if (out / "frames.csv").exists() and not options.overwrite:
        raise UserError(f"{out} holds lists already; name another --out, or give --overwrite")
    read = ReadOptions(
        options.dataset,
        options.mask,
        options.mask_good,
        good_bits=getattr(options, "good_bits", None),
        bad_bits=getattr(options, "bad_bits", None),
        geometry=getattr(options, "geometry", None),
        allow_links=options.allow_links,
        panels_apart=True,
    )
    inputs = find_files(options.files)
    keep_compiled(getattr(options, "compilation_cache", False))
    print(device_line())
    with FrameReader(read) as reader:
        sources = Sources(reader)
        sources.open(inputs)
        for line in sources.lines():
            print(line)
        frames = []
        with progress("counting spots", len(sources.run)) as advance:
            for frame in counted_frames(sources, min_snr, min_spots):
                frames.append(frame if fitted is None else _recalibrated(frame, fitted))
                advance(1)
        for line in sources.run.value_lines():
            print(line)
        written = _write(out, sources, frames, min_snr, min_spots)
        if options.write_hits:
            written.insert(0, _write_hits(reader, out / "hits.cxi", frames))
        if not options.no_report:
            from sfxjax.screen.spots_report import write_spots_report

            write_spots_report(out / "report.html", sources, frames, min_snr, min_spots)
            written.insert(0, "report.html")
    labels = [frame.label for frame in frames]
    hits, errors = labels.count(HIT), labels.count(ERROR)
    for line in warnings_of(frames):
        print(line)
    print(
        f"{hits} hits among {len(labels) - errors} frames: probably {min_spots} spots or more of "
        f"signal to noise {min_snr:g}; written to {out}: {', '.join(written)}"
    )
    if errors:
        print(f"{errors} frames could not be read; {out / 'frames.csv'} says why")
    if hits:
        geometry = shlex.quote(read.geometry or "FILE.geom")
        lst, stream = shlex.quote(str(out / "hits.lst")), shlex.quote(str(out / "hits.stream"))
        print(f"next: indexamajig -i {lst} -g {geometry} -o {stream}")
    return int(errors > 0)


def warnings_of(frames: list[CountedFrame]) -> list[str]:
    """Say where every frame shows spots, most of them in places where the others do too: those are no crystal's."""
    known = [frame.spots for frame in frames if frame.spots is not None]
    if len(known) < FEWEST_ALIKE or any(spots.score < THRESHOLD for spots in known):
        return []
    places = [
        {(int(ss // 8), int(fs // 8)) for ss, fs in zip(spots.ss, spots.fs, strict=True)} for spots in known
    ]
    again = [
        len(one & other) / max(len(one), 1)
        for one, other in zip(places, places[1:] + places[:1], strict=True)
    ]
    if np.median(again) < 0.5:
        return []
    return [
        f"all {len(known)} frames are hits, with {100 * np.median(again):.0f} % of the spots where the next frame has them too: "
        "they may be the detector's; mask those places"
    ]


def counted_frames(sources: Sources, min_snr: float, min_spots: int) -> Iterator[CountedFrame]:
    """Read frames one after the other, and count the spots of several at a time, a thread each.

    Args:
        sources: reads them.
        min_snr: signal-to-noise ratio from which a spot is visible.
        min_spots: visible spots from which a frame is a hit.
    """
    from sfxjax.mapping import cores, thread_pool
    from sfxjax.spots.day_one import find_spots

    threads = cores()

    def count(stack: FrameStack, number: int, frame: WholeFrame) -> CountedFrame:
        try:
            spots = find_spots(
                frame.pixels, frame.mask, limit=frame.limit, min_snr=min_snr, min_spots=min_spots
            )
        except UserError as error:
            return CountedFrame(stack, number, None, str(error))
        return CountedFrame(stack, number, spots.visible(min_snr))

    waiting: deque[Any] = deque()
    for stack in sources.run.stacks:
        for number in range(stack.frames):
            try:
                frame = sources.read(stack, number)
            except (UserError, OSError, RuntimeError, ValueError) as error:
                waiting.append(CountedFrame(stack, number, None, " ".join(str(error).split())))
            else:
                if frame.limit < type_limit(frame.pixels.dtype):
                    sources.run.limited[frame.limit] += 1
                waiting.append(thread_pool(threads).submit(count, stack, number, frame))
            if len(waiting) > 2 * threads:
                yield _result(waiting.popleft())
    while waiting:
        yield _result(waiting.popleft())


def _recalibrated(frame: CountedFrame, model: Recalibration) -> CountedFrame:
    """Return a frame with its score by a model that was fitted to labels."""
    if frame.spots is None:
        return frame
    score = float(model.probability(inputs_of([frame.spots]))[0])
    return replace(frame, spots=frame.spots._replace(score=score), threshold=model.threshold)


def _result(frame: Any) -> CountedFrame:
    return frame if isinstance(frame, CountedFrame) else frame.result()


def _write(
    out: Path, sources: Sources, frames: list[CountedFrame], min_snr: float, min_spots: int
) -> list[str]:
    """Write the lists; returns their names."""
    rows: list[Any] = [FRAME_COLUMNS]
    found: list[Any] = [SPOT_COLUMNS]
    events: dict[str, list[str]] = {HIT: [], MISS: []}
    for index, frame in enumerate(frames):
        stack, spots = frame.stack, frame.spots
        event = stack.event(frame.number)
        if spots is not None:
            events[frame.label].append(f"{crystfel_line(stack.file, event)}\n")
        found += spot_rows(stack.file, event, spots)
        rows.append(frame_row(stack.file, event, index, spots, frame.label, frame.reason))
    out.mkdir(parents=True, exist_ok=True)
    atomic_write_text(out / "spots.csv", csv_text(found))
    atomic_write_text(out / "hits.lst", "".join(events[HIT]))
    atomic_write_text(out / "misses.lst", "".join(events[MISS]))
    labels = [frame.label for frame in frames]
    run = sources.run
    hits = selected(run.stacks, np.array(labels) == HIT)
    atomic_write_text(out / "hits.expt", "".join(dials_experiments(hits)))
    summary = {label.lower(): labels.count(label) for label in (HIT, MISS, ERROR)}
    atomic_write_json(
        out / "summary.json",
        {
            **summary,
            "min_snr": min_snr,
            "min_spots": min_spots,
            "files": describe_all([stack for stack in run.stacks if stack.file not in run.failed]),
            "masks": run.masks,
            "values_left_out": run.value_lines(),
            "bad_pixels": run.bad_pixels,
            "notes": sources.notes,
            "unreadable": run.failed,
            "warnings": warnings_of(frames),
        },
    )
    # Last, since its presence tells a whole result.
    atomic_write_text(out / "frames.csv", csv_text(rows))
    return ["frames.csv", "spots.csv", "hits.lst", "misses.lst", "hits.expt", "summary.json"]


def _write_hits(reader: FrameReader, path: Path, frames: list[CountedFrame]) -> str:
    """Write the hits' own pixels and their spots to a CXI file, as CrystFEL reads them with `--peaks=cxi`."""
    places = [place for place, frame in enumerate(frames) if frame.label == HIT]
    chosen = [
        (stack, [frames[place].number for place in group])
        for stack, group in groupby(places, key=lambda place: frames[place].stack)
    ]
    found = [frames[place].spots for place in places]
    scores = [0.0 if spots is None else spots.score for spots in found]
    most = max((len(spots.ss) for spots in found if spots is not None), default=0)
    peaks = {name: np.zeros((len(found), most), np.float32) for name in ("X", "Y", "total")}
    for row, spots in enumerate(found):
        if spots is not None:
            count = len(spots.ss)
            for name, values in (("X", spots.fs), ("Y", spots.ss), ("total", spots.signal)):
                peaks[name][row, :count] = values
    with atomic_write(path) as temporary:
        write_hits(reader, temporary, chosen, places, scores)
        with h5py.File(temporary, "a") as file:
            counts = [0 if spots is None else len(spots.ss) for spots in found]
            file[f"{RESULT}/nPeaks"] = np.asarray(counts, np.int32)
            # CrystFEL takes whole numbers for the middle of a pixel and adds half a pixel itself.
            file[f"{RESULT}/peakXPosRaw"] = peaks["X"]
            file[f"{RESULT}/peakYPosRaw"] = peaks["Y"]
            file[f"{RESULT}/peakTotalIntensity"] = peaks["total"]
    return path.name
