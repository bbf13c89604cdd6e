"""Takes frames out of lists: those of a file that was replaced, and those that failed and are to be tried again."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from sfxjax.data.events import absolute, parse_crystfel_line
from sfxjax.files import atomic_write
from sfxjax.screen.lists import ERROR
from sfxjax.screen.spot_rows import csv_text
from sfxjax.text import file_cell


@dataclass(frozen=True)
class Unwanted:
    """Which frames are taken out.

    Attributes:
        file: those of this file; None: those that are errors, of every file.
    """

    file: str | None = None

    def row(self, row: dict[str, str]) -> bool:
        """Tell whether a row of `frames.csv` is of such a frame."""
        return row["label"] == ERROR if self.file is None else row["file"] == file_cell(self.file)


def take_out(out: Path, unwanted: Unwanted) -> None:
    """Write the lists in a folder anew without some frames, one list after the other; doing it again changes nothing more.

    Args:
        out: the folder.
        unwanted: the frames.
    """
    _rewrite(out / "frames.csv", lambda stream: _other_frames(stream, unwanted))
    if unwanted.file is None:
        # Errors stand in no other list.
        return
    file = unwanted.file
    begin = csv_text([(file_cell(file),)]).removesuffix("\n") + ","
    _rewrite(out / "spots.csv", lambda stream: (line for line in stream if not line.startswith(begin)))
    names = {file, absolute(file)}
    for name in ("hits.lst", "misses.lst"):
        _rewrite(out / name, lambda stream: (line for line in stream if _file_of(line) not in names))


def _file_of(line: str) -> str:
    return parse_crystfel_line(line)[0].rstrip(" ")


def _other_frames(stream: TextIO, unwanted: Unwanted) -> Iterator[str]:
    reader = csv.DictReader(stream)
    yield csv_text([reader.fieldnames or ()])
    for index, row in enumerate(row for row in reader if not unwanted.row(row)):
        yield csv_text([(row | {"index": str(index)}).values()])


def _rewrite(path: Path, content: Callable[[TextIO], Iterable[str]]) -> None:
    with (
        path.open(newline="", encoding="utf-8", errors="surrogateescape") as old,
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as new,
    ):
        new.writelines(content(old))
