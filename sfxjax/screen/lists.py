"""The lists a screening writes: `frames.csv`, `hits.lst`, `misses.lst`, a DIALS selection and a summary."""

from __future__ import annotations

import csv
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

from sfxjax.data.events import crystfel_line, dials_experiments
from sfxjax.errors import UserError
from sfxjax.files import atomic_write, atomic_write_text
from sfxjax.text import counted, file_cell, table_row

if TYPE_CHECKING:
    from sfxjax.data.frames import FrameStack
    from sfxjax.screen.run import Run

COLUMNS = ("file", "event", "index", "score", "label", "reason")
HIT, MISS, ERROR = "HIT", "MISS", "ERROR"
# The frames of hits.cxi for CrystFEL, each with the spots found.
HITS_CXI_LIST = "hits_cxi.lst"
FOR_DIALS = "for_dials.py"
# Names that the lists for CrystFEL lack are told up to so many.
MOST_UNLISTED = 6
# Everything a screening writes beside its journal; each way of screening writes some.
OUTPUTS = (
    *("frames.csv", "spots.csv", "hits.lst", "misses.lst", "hits.expt", "summary.json"),
    *("hits.cxi", HITS_CXI_LIST, FOR_DIALS, "class_means.h5", "report.html"),
)


def labels(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Name each frame HIT, MISS or ERROR.

    Args:
        scores: (n,), NaN for errors.
        threshold: score from which a frame is a hit.
    """
    named = np.where(scores >= np.float32(threshold), HIT, MISS)
    return np.where(np.isnan(scores), ERROR, named)


def index_commands(out: Path, geometry: str | None) -> list[str]:
    """Return the commands that index the hits, by CrystFEL and by DIALS."""
    named = shlex.quote(geometry or "FILE.geom")
    lst, stream, script, expt = (
        shlex.quote(str(out / name)) for name in ("hits.lst", "hits.stream", FOR_DIALS, "imported.expt")
    )
    by_dials = f"libtbx.python {script} && dials.stills_process {expt}"
    return [f"indexamajig -i {lst} -g {named} -o {stream}", by_dials]


def write_for_dials(out: Path) -> None:
    """Write the script that hands the hits, and the spots where they are listed, to DIALS."""
    atomic_write_text(out / FOR_DIALS, Path(__file__).with_name(FOR_DIALS).read_text())


def lost_lines(lost: dict[str, str], hits: int) -> list[str]:
    """Say of which files frames were judged that cannot be read any more, of many files the first.

    Args:
        lost: why, by the files' names.
        hits: how many hits lie in them.
    """
    lines = [
        f"{name}: {why}; the results of the frames that were judged stand"
        for name, why in list(lost.items())[:MOST_UNLISTED]
    ]
    if len(lost) > MOST_UNLISTED:
        lines.append(f"and {len(lost) - MOST_UNLISTED} more such files")
    if hits:
        lines.append(f"the lists hold {counted(hits, 'hits')} of files that cannot be read any more")
    return lines


def existing(out: Path, names: Iterable[str]) -> list[str]:
    """Return those of the names that a folder holds."""
    return [name for name in names if (out / name).exists()]


def remove_outputs(out: Path, but: Iterable[str]) -> None:
    """Remove what an earlier screening wrote into a folder, but for files that are to be written anew."""
    for name in set(OUTPUTS) - set(but):
        (out / name).unlink(missing_ok=True)


def write_lists(out: Path, run: Run, threshold: float) -> list[str]:
    """Write the lists of a run.

    Args:
        out: folder.
        run: its frames and scores.
        threshold: score from which a frame is a hit.

    Returns:
        Lines for the user about what could not be written.

    Raises:
        OSError: the disk is full, or else cannot be written.
    """
    scores = run.scores()
    named = labels(scores, threshold)
    with _text_file(out / "frames.csv") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(map(table_row, _frame_rows(run, scores, named)))
    unlisted = Unlisted()
    for name, label in (("hits.lst", HIT), ("misses.lst", MISS)):
        with _text_file(out / name) as stream:
            stream.writelines(f"{line}\n" for line in event_lines(run, named == label, unlisted))
    with _text_file(out / "hits.expt") as stream:
        stream.writelines(dials_experiments(selected(run.stacks, named == HIT)))
    write_for_dials(out)
    return unlisted.lines()


@contextmanager
def _text_file(path: Path) -> Iterator[TextIO]:
    # Names of files that are no UTF-8 keep their bytes.
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream,
    ):
        yield stream


def _frame_rows(run: Run, scores: np.ndarray, named: np.ndarray) -> Iterator[tuple[object, ...]]:
    index = 0
    for stack in run.stacks:
        reasons = run.results.reasons(stack)
        for number in range(stack.frames):
            label = named[index]
            score = "" if label == ERROR else str(scores[index])
            reason = reasons.get(number, "not screened") if label == ERROR else ""
            yield file_cell(stack.file), stack.event(number), index, score, label, reason
            index += 1


def selected(stacks: Iterable[FrameStack], wanted: np.ndarray) -> Iterator[tuple[str, str, int | None]]:
    """Give the wanted frames of stacks, as `dials_experiments` takes them.

    Args:
        stacks: in the order of the run.
        wanted: bool, one for each of their frames.

    Yields:
        The file, the event, and the number in the file over all its stacks, or None for a file of one image.
    """
    index = 0
    before: dict[str, int] = {}
    for stack in stacks:
        start = before.get(stack.file, 0)
        for number in range(stack.frames):
            if wanted[index]:
                yield (
                    stack.file,
                    stack.event(number),
                    start + number if stack.dataset or stack.stacked else None,
                )
            index += 1
        before[stack.file] = start + stack.frames


class Unlisted:
    """Frames that cannot stand in lists for CrystFEL, by file and group: a name is told once, however many frames it has."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._reasons: dict[tuple[str, str], str] = {}

    def add(self, file: str, event: str, reason: str) -> None:
        """Add a frame, and why."""
        key = file, event.rpartition("//")[0]
        self._counts[key] += 1
        self._reasons.setdefault(key, reason)

    def lines(self) -> list[str]:
        """Return a line for each of the first names, and one for the rest."""
        told = list(self._reasons.items())[:MOST_UNLISTED]
        lines = [
            f"{reason} (so with {counted(self._counts[key], 'frames')}, which the lists for CrystFEL lack)"
            for key, reason in told
        ]
        more = len(self._reasons) - len(told)
        if more:
            left = sum(self._counts.values()) - sum(self._counts[key] for key, _ in told)
            lines.append(f"and {counted(more, 'names')} more, of {counted(left, 'frames')}")
        return lines


def event_lines(run: Run, wanted: np.ndarray, unlisted: Unlisted) -> Iterable[str]:
    """Give the lines of a list for CrystFEL; what cannot stand in one is added to the unlisted."""
    for file, event, _ in selected(run.stacks, wanted):
        try:
            yield crystfel_line(file, event)
        except UserError as error:
            unlisted.add(file, event, str(error))
