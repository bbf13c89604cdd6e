"""Count the spots of every frame of a run, whole, on a detector never seen: `sfxjax spots FILES --out DIR`.

Nothing is trained and no label is needed: a small network that comes with the package judges the places that stand out of their
surroundings (`sfxjax.spots.day_one`). A frame is a hit where it probably shows `--min-spots` spots of at least `--min-snr`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfxjax.command_line import new_parser
from sfxjax.data.events import crystfel_line
from sfxjax.data.frames import FrameStack, ReadOptions
from sfxjax.data.inputs import expand
from sfxjax.data.read import FrameReader
from sfxjax.devices import device_line
from sfxjax.errors import UserError
from sfxjax.files import atomic_write_json, atomic_write_text
from sfxjax.progress import progress

if TYPE_CHECKING:
    from sfxjax.spots.day_one import FrameSpots

FRAME_COLUMNS = ("file", "event", "index", "score", "label", "spots", "fourth_snr", "reason")
SPOT_COLUMNS = ("file", "event", "ss", "fs", "snr", "probability")
HIT, MISS, ERROR = "HIT", "MISS", "ERROR"


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
    parser.add_argument("--mask-good", type=int, choices=(0, 1), help="value of good pixels in the mask")
    parser.add_argument("--allow-links", action="store_true", help="follow links out of the run's folder")
    parser.add_argument(
        "--min-snr", type=float, default=6.0, help="signal to noise from which a spot is visible"
    )
    parser.add_argument("--min-spots", type=int, default=4, help="visible spots from which a frame is a hit")
    parser.add_argument("--overwrite", action="store_true", help="replace the lists of an earlier call")
    chosen = parser.parse_args(arguments)
    if not (0 < chosen.min_snr < 1e6 and 1 <= chosen.min_spots <= 24):
        raise UserError("--min-snr must be above 0 and --min-spots from 1 to 24")
    if (chosen.out / "frames.csv").exists() and not chosen.overwrite:
        raise UserError(f"{chosen.out} holds lists already; name another --out, or give --overwrite")
    files = expand(chosen.files)
    options = ReadOptions(
        chosen.dataset, chosen.mask, chosen.mask_good, allow_links=chosen.allow_links, panels_apart=True
    )
    print(device_line())
    with FrameReader(options) as reader:
        stacks = [stack for name in files for stack in reader.stacks(name)]
        for stack in stacks:
            print(stack.describe())
            for note in stack.notes:
                print(note)
        frames = _count(reader, stacks, chosen.min_snr, chosen.min_spots)
    if not frames:
        raise UserError("there are no frames to look at")
    labels = _write(chosen.out, frames, chosen.min_snr, chosen.min_spots)
    hits, errors = labels.count(HIT), labels.count(ERROR)
    print(
        f"{hits} hits among {len(labels) - errors} frames: probably {chosen.min_spots} spots or more of "
        f"signal to noise {chosen.min_snr:g}; written to {chosen.out}: frames.csv, spots.csv, hits.lst, summary.json"
    )
    if errors:
        print(f"{errors} frames could not be read; {chosen.out / 'frames.csv'} says why")
    print(f"next: indexamajig -i {chosen.out / 'hits.lst'} -g FILE.geom -o {chosen.out / 'hits.stream'}")
    return int(errors > 0)


def _count(
    reader: FrameReader, stacks: list[FrameStack], min_snr: float, min_spots: int
) -> list[tuple[FrameStack, int, FrameSpots | None, str]]:
    from sfxjax.spots.day_one import find_spots

    found: list[tuple[FrameStack, int, FrameSpots | None, str]] = []
    with progress("counting spots", sum(stack.frames for stack in stacks)) as advance:
        for stack in stacks:
            mask = reader.whole_mask(stack)
            for number in range(stack.frames):
                spots, reason = None, ""
                try:
                    frame = reader.original(stack, number)
                    spots = find_spots(frame, mask, min_snr=min_snr, min_spots=min_spots)
                except (UserError, OSError, RuntimeError, ValueError) as error:
                    reason = " ".join(str(error).split())
                found.append((stack, number, spots, reason))
                advance(1)
    return found


def _write(
    out: Path, frames: list[tuple[FrameStack, int, FrameSpots | None, str]], min_snr: float, min_spots: int
) -> list[str]:
    """Write the lists and return each frame's label."""
    labels, rows, spot_rows, events = [], [], [], []
    for index, (stack, number, spots, reason) in enumerate(frames):
        event = stack.event(number)
        label = ERROR if spots is None else HIT if spots.score >= 0.5 else MISS
        labels.append(label)
        numbers: tuple[Any, ...] = ("", label, "", "")
        if spots is not None:
            numbers = f"{spots.score:.6f}", label, f"{spots.expected:.2f}", f"{spots.fourth:.2f}"
            for place in spots.spots(min_snr).nonzero()[0]:
                values = (
                    spots.ss[place],
                    spots.fs[place],
                    spots.signal_to_noise[place],
                    spots.probability[place],
                )
                spot_rows.append((stack.file, event, *(f"{value:.2f}" for value in values)))
        rows.append((stack.file, event, index, *numbers, reason))
        if label == HIT:
            events.append(f"{crystfel_line(stack.file, event)}\n")
    out.mkdir(parents=True, exist_ok=True)
    atomic_write_text(out / "spots.csv", _table(SPOT_COLUMNS, spot_rows))
    atomic_write_text(out / "hits.lst", "".join(events))
    summary = {label.lower(): labels.count(label) for label in (HIT, MISS, ERROR)}
    atomic_write_json(out / "summary.json", {**summary, "min_snr": min_snr, "min_spots": min_spots})
    # Last, since its presence tells a whole result.
    atomic_write_text(out / "frames.csv", _table(FRAME_COLUMNS, rows))
    return labels


def _table(columns: tuple[str, ...], rows: list[Any]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return stream.getvalue()
