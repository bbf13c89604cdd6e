"""`sfxjax screen --follow` without a model: files that are being written, judged as live judges them, with a report.

The lists grow as frames come. `hits.expt`, `for_dials.py` and `report.html` are renewed now and then, and at the end.
"""

from __future__ import annotations

import csv
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sfxjax.compilation import keep_compiled
from sfxjax.data.events import dials_experiments
from sfxjax.data.frames import FrameStack, ReadOptions
from sfxjax.data.read import FrameReader
from sfxjax.devices import device_line
from sfxjax.errors import UserError
from sfxjax.files import atomic_write_text
from sfxjax.live.command import going_on, last_lines, receive_until_stopped
from sfxjax.live.frames import Faults
from sfxjax.live.judge import Judge, judging_threads
from sfxjax.live.keeper import Keeper
from sfxjax.live.receiver import Receiver
from sfxjax.live.sources.files import FileSource
from sfxjax.screen.doubtful import doubtful_spots
from sfxjax.screen.fitted import FittedModel, model_line
from sfxjax.screen.found_spots import THRESHOLD, CountedFrame
from sfxjax.screen.left_out import line_of_spots
from sfxjax.screen.lists import ERROR, FOR_DIALS, HIT, lost_lines, selected, write_for_dials
from sfxjax.screen.run import unreadable
from sfxjax.screen.sources import Sources, without_names
from sfxjax.screen.spot_lists import next_lines
from sfxjax.screen.summary import rates_by_block
from sfxjax.spots.definition import MIN_SNR, MIN_SPOTS
from sfxjax.text import counted, file_cell, printable, say, table_cell

if TYPE_CHECKING:
    from sfxjax.spots.day_one import FrameSpots

# The report is renewed so often, and takes at most a twentieth of the time.
REPORT_SECONDS, REPORT_SHARE = 60.0, 0.05
NOT_LEFT_OUT = "not left out while the files were followed (screen them again once they are written)"
UNREADABLE_NOW = "its file cannot be read any more"


def follow_run(
    files: Sequence[str],
    out: Path,
    quiet: float,
    *,
    read: ReadOptions | None = None,
    min_snr: float = MIN_SNR,
    min_spots: int = MIN_SPOTS,
    fitted: FittedModel | None = None,
    report: bool = True,
    overwrite: bool = False,
    compilation_cache: bool = False,
) -> int:
    """Judge the frames of files that are being written, until nothing has come for a while.

    Args:
        files: names of files and folders, and patterns.
        out: folder for everything written.
        quiet: seconds without news that end it.
        read: what the user says about the files.
        min_snr: signal-to-noise ratio from which a spot is visible.
        min_spots: visible spots from which a frame is a hit.
        fitted: model that scores them; None: the day-one model as it is.
        report: write `report.html`.
        overwrite: lists of another screening may be replaced.
        compilation_cache: keep compiled programs for the next time.

    Returns:
        The exit status: 1 if single frames could not be read, else 0.

    Raises:
        UserError: the folder for the lists holds others, or no frame came.
    """
    read = replace(read or ReadOptions(), growing=True, panels_apart=True)
    said = {"mask": read.mask, "mask good": read.mask_good, "geometry": read.geometry}
    said |= {"good bits": read.good_bits, "bad bits": read.bad_bits}
    settings: dict[str, Any] = {"files": list(files), "data set": read.dataset, **said}
    settings |= {"--min-snr": min_snr, "--min-spots": min_spots}
    if fitted is not None:
        settings |= fitted.settings()
    keeper = Keeper(out, settings, overwrite, say=say)
    going_on(keeper, errors_again=True)
    keep_compiled(compilation_cache)
    say(device_line())

    source = FileSource(
        list(files), read, Faults(say), lambda file, event: (file, event) in keeper.seen, say, keeper.files
    )
    receiver = Receiver(source, Judge(min_snr, min_spots, fitted=fitted), keeper, judging_threads())
    receiver.rest, receiver.about = source.rest, source.about
    threshold = THRESHOLD if fitted is None else fitted.recalibration.threshold
    written = _Report(source, out, report, read, min_snr, min_spots, threshold, model_line(fitted))
    say(f"following {source.name} until nothing has come for {quiet:g} s")
    receive_until_stopped(receiver, quiet, written.renew)
    counts = keeper.counts
    if not counts.judged + counts.errors:
        raise UserError(f"no frame came in {source.name}")
    hits = written.write()
    # A file may have been cut since it was looked at last.
    lost = source.lost() | without_names(
        {name: why for name, why in written.failed.items() if keeper.files.frames(name)}
    )
    receiver.about = lambda: source.about() | written.found | {"unreadable": source.failed | lost}
    receiver.write_summary()
    keeper.close()
    for line in (*written.found["values_left_out"], *written.found["warnings"]):
        say(line)
    beside = ("hits.expt", FOR_DIALS, *(("report.html",) if report else ()))
    for line in (*last_lines(receiver, beside), *lost_lines(lost, keeper.sums.hits - hits)):
        say(line)
    if counts.errors:
        say(f"{counted(counts.errors, 'frames')} could not be read; {out / 'frames.csv'} says why")
    for line in next_lines(out, read.geometry) if hits else ():
        say(line)
    return int(counts.errors > 0 or bool(lost))


class _Report:
    """Writes `hits.expt` and the report of what the lists hold.

    Attributes:
        found: fields of the summary that were found on the way.
        failed: why files could not be read, by their names.
    """

    def __init__(
        self,
        source: FileSource,
        out: Path,
        wanted: bool,
        read: ReadOptions,
        min_snr: float,
        min_spots: int,
        threshold: float,
        model: str,
    ) -> None:
        self._source, self._out, self._wanted, self._read = source, out, wanted, read
        self._min_snr, self._min_spots, self._threshold, self._model = min_snr, min_spots, threshold, model
        self._due = time.monotonic() + REPORT_SECONDS
        self._thread: threading.Thread | None = None
        self.found: dict[str, Any] = {}
        self.failed: dict[str, str] = {}

    def renew(self) -> None:
        """Write them in a thread, if it is time."""
        if time.monotonic() < self._due or (self._thread is not None and self._thread.is_alive()):
            return
        self._thread = threading.Thread(target=self._try, name="report", daemon=True)
        self._thread.start()

    def write(self) -> int:
        """Write them now; returns how many hits they hold of files that can be read."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        out = self._out
        write_for_dials(out)
        with FrameReader(self._read) as reader:
            sources = Sources(reader)
            failed = None
            try:
                sources.open(self._source.inputs)
            except UserError as error:
                failed = error
            run, files = sources.run, self._source.inputs.files
            self.failed = dict(run.failed)
            if failed is not None and len(files) == 1:
                self.failed |= {files[0]: str(failed).removeprefix(f"{printable(files[0])}: ")}
            gone = self._source.failed | self.failed
            run.stacks = [stack for stack in run.stacks if stack.file not in gone]
            there = {stack.file for stack in run.stacks}
            for name in gone:
                run.stacks += [
                    replace(stack, unreadable=UNREADABLE_NOW) for stack in self._source.stacks.get(name, ())
                ]
            listed = listed_frames(out, sources, self._threshold)
            frames = [frame for _, frame in listed]
            if failed is not None and all(frame.spots is None for frame in frames):
                # Results stand where the files are gone; where there are none, the reason is told.
                raise failed
            # `for_dials.py` goes through them as `frames.csv` does, where frames stand as they were judged.
            hits = [hit for _, hit in sorted(_hits_for_dials(run.stacks, listed))]
            atomic_write_text(out / "hits.expt", "".join(dials_experiments(hits)))
            run.left_out = line_of_spots(sources)
            kept = [f"{NOT_LEFT_OUT}: {run.bad_pixels}"] if run.bad_pixels else []
            sources.notes += kept
            run.bad_pixels = ""
            self.found = {
                "values_left_out": run.value_lines(),
                "warnings": [*doubtful_spots(frames), *kept],
                "hit_rate_over_the_run": rates_by_block(np.array([frame.label for frame in frames])),
            }
            if self._wanted:
                from sfxjax.screen.spots_report import write_spots_report

                write_spots_report(
                    out / "report.html", sources, frames, self._min_snr, self._min_spots, self._model
                )
        return sum(file in there for file, *_ in hits)

    def _try(self) -> None:
        started = time.monotonic()
        try:
            self.write()
        except (UserError, OSError, RuntimeError, ValueError):
            # Of files amid their writing; the next one may be had.
            pass
        finally:
            took = time.monotonic() - started
            self._due = time.monotonic() + max(REPORT_SECONDS, took / REPORT_SHARE)


def listed_frames(
    out: Path, sources: Sources, threshold: float = THRESHOLD
) -> list[tuple[int, CountedFrame]]:
    """Return the frames that the lists in a folder hold, each with its place in `frames.csv`.

    Args:
        out: the folder.
        sources: the run; frames of files that it does not have come last.
        threshold: score from which a frame is a hit.
    """
    spots: dict[tuple[str, str], list[list[float]]] = {}
    for row in _listed_rows(out / "spots.csv"):
        values = [float(row[name]) for name in ("ss", "fs", "snr", "probability")]
        spots.setdefault((row["file"], row["event"]), []).append(values)
    rows = {
        (row["file"], row["event"]): (place, row)
        for place, row in enumerate(_listed_rows(out / "frames.csv"))
    }
    frames = []

    def take(key: tuple[str, str], stack: FrameStack, number: int) -> None:
        place, fields = rows.pop(key)
        found = None if fields["label"] == ERROR else _spots_of(fields, spots.pop(key, []))
        frames.append((place, CountedFrame(stack, number, found, fields["reason"], threshold=threshold)))

    for stack in sources.run.stacks:
        for number in range(stack.frames):
            key = file_cell(stack.file), table_cell(stack.event(number))
            if key in rows:
                take(key, stack, number)
    for file, event in list(rows):
        take((file, event), *frame_of_event(file, event))
    return frames


def _hits_for_dials(
    stacks: list[FrameStack], listed: list[tuple[int, CountedFrame]]
) -> Iterator[tuple[int, tuple[str, str, int | None]]]:
    """Give each hit's place in `frames.csv`, and the hit as `dials_experiments` takes it."""
    hits = {
        (frame.stack.file, frame.stack.dataset, frame.number): (place, frame)
        for place, frame in listed
        if frame.label == HIT
    }
    keys = [(stack.file, stack.dataset, number) for stack in stacks for number in range(stack.frames)]
    found = selected(stacks, np.array([key in hits for key in keys], bool))
    for key, hit in zip((key for key in keys if key in hits), found, strict=True):
        yield hits.pop(key)[0], hit
    for place, frame in hits.values():
        # Of a file that was there at an earlier start alone.
        stack = frame.stack
        yield place, (stack.file, stack.event(frame.number), frame.number if stack.stacked else None)


def frame_of_event(file: str, event: str) -> tuple[FrameStack, int]:
    """Return what stands for the stack of a frame whose file cannot be read any more, and the frame's number."""
    path, _, number = event.rpartition("//")
    count = int(number) if number.isdecimal() else 0
    gone = replace(
        unreadable(file),
        dataset=path,
        event_path=path,
        stacked=bool(number),
        frames=count + 1,
        unreadable=UNREADABLE_NOW,
    )
    return gone, count


def _spots_of(row: dict[str, str], listed: list[list[float]]) -> FrameSpots:
    from sfxjax.spots.day_one import FrameSpots

    ss, fs, snr, probability = np.array(listed, np.float32).reshape(-1, 4).T
    numbers = float(row["score"]), 0.0, float(row["spots"]), float(row["fourth_snr"])
    return FrameSpots(*numbers, ss, fs, snr, probability, np.zeros_like(ss))


def _listed_rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
        # The last line may be half written while this is read.
        yield from (row for row in csv.DictReader(stream) if None not in row.values())
