"""Count the spots of every frame of a run, whole, on a detector never seen: `sfxjax screen FILES --out DIR`.

Nothing is trained and no label is needed: a small network that comes with the package judges the places that stand out of their
surroundings (`sfxjax.spots.day_one`). A frame is a hit where it probably shows `--min-spots` spots of at least `--min-snr`.
`sfxjax spots` is the same under a name of its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfxjax.command_line import new_parser, refuse_unused
from sfxjax.compilation import keep_compiled, said_compiling
from sfxjax.data.file_states import file_states
from sfxjax.data.frames import ReadOptions
from sfxjax.data.inputs import find_files
from sfxjax.data.workers import default_readers
from sfxjax.devices import device_line
from sfxjax.errors import UserError
from sfxjax.files import make_folder
from sfxjax.progress import progress
from sfxjax.screen.doubtful import doubtful_spots
from sfxjax.screen.fitted import FittedModel, load_fitted, model_line, visible_spots
from sfxjax.screen.found_spots import THRESHOLD, CountedFrame, FoundSpots
from sfxjax.screen.journal import JOURNAL, Journal
from sfxjax.screen.left_out import line_of_spots
from sfxjax.screen.lists import ERROR, HIT, HITS_CXI_LIST, existing, remove_outputs
from sfxjax.screen.made_by import file_digest, read_by
from sfxjax.screen.options import (
    add_frame_arguments,
    add_overwrite,
    add_readers,
    add_spot_arguments,
    options_of_frames,
)
from sfxjax.screen.prepared_frames import ReadFrame, Wanted, prepared_frames
from sfxjax.screen.sources import Sources, opened_run
from sfxjax.screen.spot_lists import (
    LISTS,
    hit_rate,
    hit_rate_line,
    next_lines,
    write_spot_hits,
    write_spot_lists,
)
from sfxjax.spots.definition import MIN_SNR, MIN_SPOTS
from sfxjax.text import counted, say

if TYPE_CHECKING:
    import numpy as np

    from sfxjax.spots.day_one import FrameSpots
    from sfxjax.spots.fixed_pattern import FixedPattern

# Of an accelerator: while one is judged, others are read, copied, on their way there, and written down.
BATCHES_HELD = 7
# Frames of a batch that it cannot make ready by itself, for it to go on.
MOST_OTHERS = 0.5
# Of a processor: one process reads and prepares some 80 large frames a second, and a core judges 25.
CORES_A_READER = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, or 1 if single frames could not be read."""
    parser = new_parser("sfxjax.screen.spots", "Count the spots of every frame, without training and labels.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="files, folders or quoted patterns")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for everything written"
    )
    add_frame_arguments(parser)
    add_readers(parser)
    add_spot_arguments(parser)
    add_overwrite(parser)
    parser.add_argument("--write-hits", action="store_true", help="also write hits.cxi, with the spots")
    parser.add_argument("--no-report", action="store_true", help="write no report.html")
    # What `sfxjax.screen` can be told besides.
    parser.set_defaults(model=None, follow=None, compilation_cache=False)
    return count_as_told(parser.parse_args(arguments))


def count_as_told(options: argparse.Namespace) -> int:
    """Count spots as a command line says, of this module or of `sfxjax.screen`; returns the exit status."""
    fitted = load_fitted(options.model) if options.model else None
    if fitted is not None:
        print(fitted.line())
    min_snr, min_spots = visible_spots(options.min_snr, options.min_spots, fitted)
    common: dict[str, Any] = {
        "read": options_of_frames(options),
        "min_snr": min_snr,
        "min_spots": min_spots,
        "fitted": fitted,
        "report": not options.no_report,
        "overwrite": options.overwrite,
        "compilation_cache": options.compilation_cache,
    }
    if options.follow is None:
        more = {"readers": options.readers, "write_hits": options.write_hits}
        return count_run(options.files, options.out, **common, **more)
    if options.write_hits:
        raise UserError(
            "--write-hits does not go with --follow without a model; screen the files once they are written"
        )
    refuse_unused(options, ("readers",), "with --follow without a model, which reads in this process")
    # Imported late: what is there imports this module.
    from sfxjax.live.follow import follow_run

    return follow_run(options.files, options.out, options.follow, **common)


def count_run(
    files: Sequence[str],
    out: Path,
    *,
    read: ReadOptions | None = None,
    min_snr: float = MIN_SNR,
    min_spots: int = MIN_SPOTS,
    fitted: FittedModel | None = None,
    readers: int | None = None,
    write_hits: bool = False,
    report: bool = True,
    overwrite: bool = False,
    compilation_cache: bool = False,
) -> int:
    """Count the spots of a run's frames and write everything down.

    Args:
        files: names of files and folders, and patterns.
        out: folder for everything written.
        read: what the user says about the files.
        min_snr: signal-to-noise ratio from which a spot is visible.
        min_spots: visible spots from which a frame is a hit.
        fitted: model that scores the frames; None: the day-one model as it is.
        readers: processes that read; None: by the machine.
        write_hits: write `hits.cxi` too, with the spots.
        report: write `report.html`.
        overwrite: lists of another count may be replaced.
        compilation_cache: keep compiled programs for the next time.

    Returns:
        The exit status: 1 if single frames could not be read, else 0.

    Raises:
        UserError: a number makes no sense, the folder holds other lists, or there are no frames.
    """
    read = replace(read or ReadOptions(), panels_apart=True)
    inputs = find_files(files)
    processes = reading_processes(readers)
    kept = keep_compiled(compilation_cache)
    print(device_line())
    with (
        opened_run(read, inputs) as sources,
        closing(_journal(out, overwrite, sources, fitted, min_snr, min_spots)) as journal,
    ):
        journal.check_given(inputs.files)
        lines = journal.check_files({name: file_states(name) for name in inputs.files})
        if journal.bad_pixels != sources.bad_pixels():
            journal.add_bad_pixels(sources.bad_pixels())
        for line in (*lines, *journal.lines()):
            say(line)
        frames = []
        with (
            progress("counting spots", len(sources.run)) as advance,
            said_compiling(kept is not None) as compiled,
        ):
            pattern = None if fitted is None else fitted.pattern
            for frame in counted_frames(sources, min_snr, min_spots, journal, pattern, processes):
                frames.append(frame if fitted is None else frame.scored_by(fitted))
                advance(1)
                compiled()
        sources.run.left_out = line_of_spots(sources)
        for line in sources.run.value_lines():
            say(line)
        more = [(name, write_hits) for name in ("hits.cxi", HITS_CXI_LIST)]
        more += [("report.html", report)]
        written = [*LISTS, *(name for name, wanted in more if wanted)]
        if journal.renewed:
            remove_outputs(out, written)
        named = ", ".join(files)
        for line in write_spot_lists(out, sources, frames, min_snr, min_spots, model_line(fitted), named):
            say(line)
        if write_hits:
            write_spot_hits(sources.reader, out / "hits.cxi", frames)
        if report:
            from sfxjax.screen.spots_report import write_spots_report

            write_spots_report(out / "report.html", sources, frames, min_snr, min_spots, model_line(fitted))
    labels = [frame.label for frame in frames]
    hits, errors = labels.count(HIT), labels.count(ERROR)
    for line in doubtful_spots(frames):
        say(line)
    print(hit_rate_line(hit_rate(frames)))
    print(
        f"a hit probably shows {min_spots} spots or more of signal to noise {min_snr:g}; "
        f"written to {out}: {', '.join(existing(out, written))}"
    )
    if errors:
        print(f"{counted(errors, 'frames')} could not be read; {out / 'frames.csv'} says why")
    if hits:
        print("\n".join(next_lines(out, read.geometry)))
    return int(errors > 0)


def reading_processes(asked: int | None) -> int:
    """Return how many processes read and make ready; 0: the one that judges does."""
    from sfxjax.mapping import cores, on_cpu

    if asked is not None:
        return asked
    # A processor's cores are kept busy by judging; an accelerator is not, by as many as there are.
    return min(cores() // CORES_A_READER, default_readers()) if on_cpu() else default_readers()


def _journal(
    out: Path,
    overwrite: bool,
    sources: Sources,
    fitted: FittedModel | None,
    min_snr: float,
    min_spots: int,
) -> Journal:
    """Open the journal of the folder for everything written."""
    # Imported late, as JAX is.
    from sfxjax.spots.day_one import WEIGHTS

    made_by = {
        "model": file_digest(WEIGHTS),
        "adaptation": None if fitted is None else fitted.digest,
        "--min-snr": min_snr,
        "--min-spots": min_spots,
        **read_by(sources.reader.options, sources.mask()),
    }
    decided_by = {"threshold": THRESHOLD, "model of labels": None} if fitted is None else fitted.decided_by()
    make_folder(out)
    return Journal(out / JOURNAL, made_by, FoundSpots(), decided_by, overwrite)


def counted_frames(
    sources: Sources,
    min_snr: float,
    min_spots: int,
    journal: Journal | None = None,
    pattern: FixedPattern | None = None,
    processes: int = 0,
) -> Iterator[CountedFrame]:
    """Count the spots of several frames at a time: a thread each, or a batch on an accelerator.

    Args:
        sources: reads them.
        min_snr: signal-to-noise ratio from which a spot is visible.
        min_spots: visible spots from which a frame is a hit.
        journal: of `FoundSpots`, that knows frames already, which are not read again, and gets those that are.
        pattern: taken out of every frame; None: nothing is.
        processes: that read and make ready; 0: this one does, unless frames are to be read in a process of its own, see
            `FrameStack`.
    """
    from sfxjax.mapping import cores, on_cpu
    from sfxjax.spots.many_frames import BatchFinder, frames_at_once

    if not processes:
        processes = int(any(stack.by_plugin for stack in sources.run.readable()))
    # An accelerator makes frames ready by itself, unless it turns out that it cannot do so with most of them.
    by_accelerator = not on_cpu()

    def plan() -> Iterator[Wanted | CountedFrame]:
        known = None if journal is None else journal.known
        for stack in sources.run.stacks:
            reason = sources.run.failed.get(stack.file)
            for number in range(stack.frames):
                given = known.frame(stack, number) if isinstance(known, FoundSpots) else None
                if given is None and reason is not None:
                    given = CountedFrame(stack, number, None, " ".join(reason.split()))
                yield Wanted(stack, number) if given is None else given

    def batches(items: Iterable[ReadFrame | CountedFrame]) -> Iterator[list[ReadFrame] | CountedFrame]:
        group: list[ReadFrame] = []
        for item in items:
            if isinstance(item, ReadFrame) and item.prepared is None and item.stored is None:
                item = CountedFrame(item.stack, item.number, None, item.reason, item.limit)
            if group and (isinstance(item, CountedFrame) or _alike_by(group[0]) != _alike_by(item)):
                yield group
                group = []
            if isinstance(item, CountedFrame):
                yield item
                continue
            group.append(item)
            if len(group) >= frames_at_once(_alike_by(item)[0]):
                yield group
                group = []
        if group:
            yield group

    finder = BatchFinder(settled=True, min_snr=min_snr, min_spots=min_spots)
    shapes = [stack.raw_shape for stack in sources.run.readable()]
    if pattern is not None:
        # Of smaller frames more are counted at a time.
        shapes = [pattern.shape_of(shape) for shape in shapes]
    at_once = max(map(frames_at_once, shapes), default=1)
    held = 2 * cores() + 2 if on_cpu() else BATCHES_HELD
    with prepared_frames(sources, pattern, processes, at_once * held, lambda: by_accelerator) as prepared:
        for batch, found in finder.each(batches(prepared(plan())), _frames_of):
            if isinstance(batch, CountedFrame):
                counted = [batch]
            else:
                by_accelerator = by_accelerator and found.others <= MOST_OTHERS * len(batch)
                for frame in batch:
                    frame.release()
                counted = [_found_in(*pair, min_snr, pattern) for pair in zip(batch, found.each, strict=True)]
            for one in counted:
                # Of what needed no counting, a frame that has spots was known, and any other could not be read.
                if journal is not None and (not isinstance(batch, CountedFrame) or one.spots is None):
                    journal.add(one.record())
                if one.limit is not None:
                    sources.run.limited[one.limit] += 1
                yield one


def _frames_of(batch: list[ReadFrame] | CountedFrame) -> Any:
    """Return the frames of a batch, none of one that is known."""
    if isinstance(batch, CountedFrame):
        return []
    return [frame.prepared if frame.stored is None else frame.stored for frame in batch]


def _found_in(
    frame: ReadFrame, spots: FrameSpots | UserError, min_snr: float, pattern: FixedPattern | None
) -> CountedFrame:
    if isinstance(spots, UserError):
        return CountedFrame(frame.stack, frame.number, None, str(spots), frame.limit)
    if pattern is not None:
        spots = pattern.in_frame(spots, frame.stack.raw_shape)
    return CountedFrame(frame.stack, frame.number, spots.visible(min_snr), limit=frame.limit)


def _alike_by(frame: ReadFrame) -> tuple[tuple[int, ...], np.dtype, bool]:
    """Return the shape of a frame, its stored type, and whether it is to be made ready yet: those of a batch are alike."""
    if frame.stored is not None:
        return frame.stored.shape, frame.stored.dtype, True
    assert frame.prepared is not None
    return frame.prepared.shape, frame.prepared.pixels.values.dtype, False
