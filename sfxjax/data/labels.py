"""Labels of frames, by experts or by counted spots, and the files that hold them.

A frame with ten spots or more is a hit, one with four to nine a maybe, one with three or fewer a miss. These files are read:

- CXIDB 76's text: one line `r0095_2000.h5 [1] MISS` a frame, in order, counted from 1;
- CSV with the columns `file`, `event` and `label` (hit, maybe or miss) or `spots` (how many);
- the `frames.csv` that a screening writes, which is such a CSV; its errors are frames without a label;
- what other programs know of the frames, see `sfxjax.data.label_sources`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sfxjax.data.label_sources import MOST_LABEL_BYTES
from sfxjax.data.label_sources.counts import labels_of_counts
from sfxjax.data.label_sources.places import Places, whole_number
from sfxjax.errors import UserError, explain_os_error
from sfxjax.files import atomic_write_text, read_bounded

if TYPE_CHECKING:
    from sfxjax.data.label_sources import LabelSource


class Label(IntEnum):
    """What an expert calls a frame."""

    MISS = 0
    MAYBE = 1
    HIT = 2


MISS, MAYBE, HIT = Label.MISS, Label.MAYBE, Label.HIT
LABEL_WORDS = tuple(label.name for label in Label)
UNLABELLED = -1
# Words of other programs, and of our own lists, for frames that have no label.
_NO_LABEL = {"", "ERROR", "UNLABELLED"}

# Spots from which a frame is a maybe, and a hit (the paper, section 2).
MAYBE_SPOTS = 4
HIT_SPOTS = 10

_ANNOTATION = re.compile(r"(\S+)\s+\[(\d+)\]\s+(\S+)")


def classify(spots: np.ndarray) -> np.ndarray:
    """Put counts of spots into the experts' classes.

    Args:
        spots: (...) visible spots of each frame.

    Returns:
        int8 (...): HIT from 10 on, MAYBE from 4 to 9, else MISS.
    """
    spots = np.asarray(spots)
    return (spots >= MAYBE_SPOTS).astype(np.int8) + (spots >= HIT_SPOTS).astype(np.int8)


def read_labels(
    path: str | Path,
    frames: Sequence[tuple[str, str]],
    file_name: str | None = None,
    min_spots: int | None = None,
) -> np.ndarray:
    """Read the labels of frames from a file of one of the kinds that the module's text names.

    Args:
        path: of the file of labels.
        frames: (file, event) of each frame, the event as CrystFEL writes it, such as `//5`.
        file_name: the frames' file that every line of CXIDB 76's text must name; None takes any.
        min_spots: spots of a finder from which a frame is a hit; None: as `sfxjax.data.label_sources.counts` says.

    Returns:
        int8 (frames,): MISS, MAYBE, HIT or UNLABELLED.

    Raises:
        UserError: the file is missing, of no known kind, or does not fit the frames.
    """
    source = _label_source(path)
    if source is not None:
        known = source.read(Path(path), Places(frames))
        if known.counts is None:
            return known.labels
        of_counts = labels_of_counts(known.counts, str(path), min_spots)
        return np.where(known.labels == UNLABELLED, of_counts, known.labels)
    lines = _lines(path)
    try:
        header, *rows = list(csv.reader(lines)) or [[]]
    except csv.Error as error:
        raise UserError(f"{path}: not a file of labels ({error})") from error
    header = [cell.strip().lower() for cell in header]
    if "file" not in header:
        return parse_annotations(path, len(frames), file_name)
    kinds = [column for column in ("label", "spots") if column in header]
    if "event" not in header or not kinds:
        raise UserError(f"{path}: columns {', '.join(header)}; file, event, and label or spots are needed")
    places = Places(frames)
    labels = np.full(len(frames), UNLABELLED, np.int8)
    seen: dict[int, int] = {}
    for number, cells in enumerate(rows, start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) < len(header):
            raise UserError(
                f"{path}, line {number}: {len(cells)} columns, where the first line names {len(header)}"
            )
        row = {name: cell.strip() for name, cell in zip(header, cells, strict=False)}
        where = f"{path}, line {number}"
        place = places.find(row["file"], row["event"], where)
        if place in seen:
            raise UserError(f"{where}: the frame of line {seen[place]} again")
        seen[place] = number
        labels[place] = _label_of_row(row, kinds[0], where, min_spots)
    if (labels == UNLABELLED).all():
        raise UserError(f"{path}: no frame has a label; fill in the column {kinds[0]}, or leave the file out")
    return labels


def _label_source(path: str | Path) -> LabelSource | None:
    from sfxjax.data.label_sources import source_of

    try:
        return source_of(Path(path))
    except OSError as error:
        raise UserError(explain_os_error(error, path) or f"{path}: {error}") from error


def _label_of_row(row: dict[str, str], kind: str, where: str, min_spots: int | None) -> int:
    # Programs that know no empty integers write 12.0.
    text = row[kind].removesuffix(".0")
    if kind == "spots":
        if not text:
            return UNLABELLED
        if not text.isdecimal():
            raise UserError(f"{where}: {text!r} is no number of spots")
        if min_spots is not None:
            return HIT if whole_number(text) >= min_spots else MISS
        return int(classify(np.asarray(whole_number(text))))
    word = text.upper()
    if word in _NO_LABEL:
        return UNLABELLED
    if word in ("0", "1", "2"):
        return int(word)
    if word not in LABEL_WORDS:
        raise UserError(f"{where}: {text!r} is none of {', '.join(LABEL_WORDS)}")
    return LABEL_WORDS.index(word)


def parse_annotations(path: str | Path, expected_frames: int, file_name: str | None = None) -> np.ndarray:
    """Read CXIDB 76's text: one line `r0095_2000.h5 [1] MISS` a frame, in order, counted from 1.

    Args:
        path: of the text file.
        expected_frames: how many frames the set has.
        file_name: the frames' file that every line must name; None takes any.

    Returns:
        int8 [expected_frames]: MISS, MAYBE or HIT.

    Raises:
        UserError: the file is missing, or a line is not as above, out of order, or of another set.
    """
    lines = _lines(path)
    labels = np.empty(len(lines), np.int8)
    for number, line in enumerate(lines, start=1):
        match = _ANNOTATION.fullmatch(line.strip())
        if match is None:
            raise UserError(
                f"{path}, line {number}: expected `FILE [{number}] HIT`, found {line[:60]!r}; "
                "or give a CSV whose first line is file,event,label"
            )
        if file_name is not None and match[1] != file_name:
            raise UserError(
                f"{path}, line {number}: labels {match[1]}, not {file_name}; use this set's own labels"
            )
        if whole_number(match[2]) != number:
            raise UserError(f"{path}, line {number}: expected frame [{number}], found [{match[2]}]")
        if match[3] not in LABEL_WORDS:
            raise UserError(f"{path}, line {number}: {match[3]!r} is none of {', '.join(LABEL_WORDS)}")
        labels[number - 1] = LABEL_WORDS.index(match[3])
    if len(labels) != expected_frames:
        raise UserError(
            f"{path}: {len(labels)} labels for {expected_frames} frames; one line a frame is needed"
        )
    return labels


def write_annotations(path: str | Path, file_name: str, labels: Sequence[int] | np.ndarray) -> None:
    """Write labels (MISS, MAYBE or HIT) of the frames in `file_name`, as `parse_annotations` reads them."""
    lines = [f"{file_name} [{n}] {LABEL_WORDS[int(label)]}\n" for n, label in enumerate(labels, start=1)]
    atomic_write_text(path, "".join(lines))


def _lines(path: str | Path) -> list[str]:
    """Read a text file's lines, without blank ones at its end."""
    try:
        text = read_bounded(path, MOST_LABEL_BYTES, "file of labels").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file of labels") from error
    if "\0" in text:
        raise UserError(f"{path}: not a text file of labels")
    lines = text.splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    return lines
