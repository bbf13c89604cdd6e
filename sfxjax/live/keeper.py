"""Keeps what is found: lists that grow, and a journal of how long each was when all of them held the same frames.

A kill may leave the lists with more frames than the journal tells of, or half a line; the next start cuts them back to where they
agree, so that every frame stands in each of them once or not at all. Frames of a file that was replaced are taken out: the
journal says so before the first list is written anew, and a start after a kill does it again to all of them.
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sfxjax.data.events import crystfel_line, refuse_control
from sfxjax.errors import UserError
from sfxjax.live.frames import LiveFrame
from sfxjax.live.known_files import KnownFiles
from sfxjax.live.seen import Seen
from sfxjax.live.statistics import FrameCounts, Sums
from sfxjax.live.taken_out import Unwanted, take_out
from sfxjax.screen.found_spots import THRESHOLD
from sfxjax.screen.lists import ERROR, HIT, MISS
from sfxjax.screen.record_file import RecordFile
from sfxjax.screen.spot_rows import FRAME_COLUMNS, SPOT_COLUMNS, csv_text, frame_row, spot_rows

if TYPE_CHECKING:
    from sfxjax.spots.day_one import FrameSpots

LIVE_JOURNAL = "live.journal"
# What the journal knows files by is written so often, and at the end.
FILES_SECONDS = 5.0
LIVE_COLUMNS = (*FRAME_COLUMNS, "weight")
LIVE_LISTS = {
    "frames.csv": csv_text([LIVE_COLUMNS]),
    "spots.csv": csv_text([SPOT_COLUMNS]),
    "hits.lst": "",
    "misses.lst": "",
}


@dataclass(frozen=True)
class JudgedFrame:
    """A frame with its result.

    Attributes:
        frame: as it came.
        weight: frames that it stands for.
        spots: what it shows, its visible spots alone; None: it could not be judged.
        reason: why not.
        threshold: score from which it is a hit.
    """

    frame: LiveFrame
    weight: int
    spots: FrameSpots | None
    reason: str = ""
    threshold: float = THRESHOLD

    @property
    def label(self) -> str:
        """HIT, MISS or ERROR."""
        return ERROR if self.spots is None else HIT if self.spots.score >= self.threshold else MISS


class Keeper:
    """The lists in a folder, open for adding frames.

    Args:
        out: the folder.
        settings: what decides the results, as JSON gives it back; lists of other settings are not gone on with.
        overwrite: replace lists that are there.
        written_as: name of the file that the frames of a series are written to at the same time, with `{series}`; None: the lists
            hold the series' own name.
        say: called with a line about the first frame whose name cannot stand in a list for CrystFEL.

    Attributes:
        seen: the frames in the lists.
        files: by what the files of these frames are known; whoever reads frames of files adds them.
        counts: where the frames that came are.
        sums: over those judged.
        place: the series of the last frame that came, and the number that comes next.
        resumed: how many were in the lists at the start.

    Raises:
        UserError: the folder holds other lists, or another program writes there.
    """

    def __init__(
        self,
        out: Path,
        settings: dict[str, Any],
        overwrite: bool = False,
        written_as: str | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.out, self._written_as, self._say = out, written_as, say
        self._unlisted = False
        self.seen, self.counts, self.sums = Seen(), FrameCounts(), Sums()
        self.files = KnownFiles()
        self._files_due = 0.0
        self.place = ("", 0)
        self._recorded: dict[str, Any] = {}
        self.resumed = self._rows = 0
        self._waiting: dict[str, list[str]] = {name: [] for name in LIVE_LISTS}
        if out.exists() and not out.is_dir():
            raise UserError(f"{out} is not a folder; name another output folder")
        out.mkdir(parents=True, exist_ok=True)
        self._journal = RecordFile(out / LIVE_JOURNAL)
        try:
            begun = self._journal.made_by
            if not overwrite and begun not in (None, settings):
                raise UserError(
                    f"{out} holds lists with other settings; name another --out, or give --overwrite"
                )
            if not overwrite and begun is None and (out / "frames.csv").exists():
                raise UserError(f"{out} holds lists already; name another --out, or give --overwrite")
            last, unwanted = self._taken_up() if begun == settings and not overwrite else (None, None)
            lengths: dict[str, int] = {} if last is None else last["lengths"]
            if last is None:
                self._journal.begin(settings)
            if unwanted is not None:
                # Some of the lists may have been written anew; each is whole.
                lengths = {name: (out / name).stat().st_size for name in LIVE_LISTS}
            self._lists = {
                name: _opened(out / name, lengths.get(name), LIVE_LISTS[name]) for name in LIVE_LISTS
            }
        except BaseException:
            self._journal.close()
            raise
        if last is not None:
            self.counts, self.sums = FrameCounts(**last["counts"]), Sums(**last["sums"])
            self.place = str(last["place"][0]), int(last["place"][1])
            self._read_again()
        if unwanted is not None:
            self._take_out(unwanted)
        self.resumed = self._rows
        self.commit()

    def add(self, judged: JudgedFrame) -> bool:
        """Add a frame; returns False, and adds nothing, if it is in the lists already. `commit` writes it."""
        frame = judged.frame
        if (frame.file, frame.event) in self.seen:
            self.counts.repeated += 1
            self.counts.left_out += judged.weight - 1
            return False
        self.seen.add(frame.file, frame.event)
        row = frame_row(frame.file, frame.event, self._rows, judged.spots, judged.label, judged.reason)
        self._rows += 1
        self._waiting["frames.csv"].append(csv_text([(*row, judged.weight)]))
        self._waiting["spots.csv"].append(csv_text(spot_rows(frame.file, frame.event, judged.spots)))
        if judged.spots is None:
            self.counts.errors += 1
        else:
            self.counts.judged += 1
            self.sums.add(judged.weight, judged.label == HIT, judged.spots.expected)
            name = "hits.lst" if judged.label == HIT else "misses.lst"
            self._waiting[name] += self._listed(frame)
        self.counts.left_out += judged.weight - 1
        return True

    def forget(self, file: str) -> int:
        """Take the frames of a file out of the lists, since it holds others now; returns how many there were.

        Raises:
            OSError: the disk is full, or else cannot be written.
        """
        return self._forget(Unwanted(file))

    def forget_errors(self) -> int:
        """Take the frames that are errors out of the lists, so that they are tried again; returns how many there were.

        Raises:
            OSError: the disk is full, or else cannot be written.
        """
        return self._forget(Unwanted()) if self.counts.errors else 0

    def commit(self, last: bool = False) -> None:
        """Write what was added, first the lists and then the journal, each down to the disk.

        Args:
            last: no more will come.

        Raises:
            OSError: the disk is full, or else cannot be written.
        """
        lengths: dict[str, Any] = {}
        for name, stream in self._lists.items():
            content = "".join(self._waiting[name]).encode("utf-8", "surrogateescape")
            if content:
                stream.write(content)
                os.fsync(stream.fileno())
                self._waiting[name].clear()
            lengths[name] = stream.tell()
        record = {
            "lengths": lengths,
            "counts": asdict(self.counts),
            "sums": asdict(self.sums),
            "place": self.place,
        }
        if last or self.files.new() or time.monotonic() > self._files_due:
            for known in self.files.records():
                self._journal.add(known)
            self._files_due = time.monotonic() + FILES_SECONDS
        if record == self._recorded:
            return
        self._journal.add(record)
        self._recorded = record

    def close(self) -> None:
        """Write what is left, and let others write here."""
        self.commit(last=True)
        for stream in self._lists.values():
            stream.close()
        self._journal.close()

    def _listed(self, frame: LiveFrame) -> list[str]:
        """Return the frame's line of a list; none where its name cannot stand in one."""
        file = None if self._written_as is None else self._written_as.replace("{series}", frame.file)
        if file is None and frame.index is None and Path(frame.file).exists():
            file = frame.file
        try:
            if file is None:
                refuse_control(frame.file, frame.event)
                return [f"{frame.file} {frame.event}\n"]
            return [f"{crystfel_line(file, frame.event)}\n"]
        except UserError as error:
            if not self._unlisted:
                self._say(f"not in the lists for CrystFEL: {error} (further ones are not named)")
            self._unlisted = True
            return []

    def _taken_up(self) -> tuple[dict[str, Any] | None, Unwanted | None]:
        """Read the journal; returns its last record of the lists, and which frames are still to be taken out of them."""
        last, unwanted = None, None
        for record in self._journal.records():
            if "lengths" in record:
                last, unwanted = record, None
            elif "unwanted" in record:
                unwanted = Unwanted(record["unwanted"])
                if unwanted.file is not None:
                    self.files.forget(unwanted.file)
            else:
                self.files.take(record)
        return last, unwanted

    def _forget(self, unwanted: Unwanted) -> int:
        self.commit(last=True)
        self._journal.add({"unwanted": unwanted.file})
        before = self._rows
        self._take_out(unwanted)
        self.commit()
        return before - self._rows

    def _take_out(self, unwanted: Unwanted) -> None:
        """Write the lists without some frames, and count anew what they hold."""
        for stream in self._lists.values():
            stream.close()
        take_out(self.out, unwanted)
        self._lists = {
            name: _opened(self.out / name, (self.out / name).stat().st_size, heading)
            for name, heading in LIVE_LISTS.items()
        }
        counted = self.counts.judged + self.counts.errors
        self.seen, self.sums, self._rows = Seen(), Sums(), 0
        self.counts.judged = self.counts.errors = 0
        self._read_again(count=True)
        self.counts.received -= counted - self.counts.judged - self.counts.errors

    def _read_again(self, count: bool = False) -> None:
        """Take up which frames the lists hold, and, if told to, what they come to."""
        path = self.out / "frames.csv"
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
            for row in csv.DictReader(stream):
                self.seen.add(row["file"], row["event"])
                self._rows += 1
                if count and row["label"] == ERROR:
                    self.counts.errors += 1
                elif count:
                    self.counts.judged += 1
                    self.sums.add(int(row["weight"]), row["label"] == HIT, float(row["spots"]))


def _opened(path: Path, length: int | None, heading: str) -> IO[bytes]:
    """Open a list for adding to it, cut back to a length; begun anew without one."""
    stream = path.open("ab", buffering=0)
    if length is not None and path.stat().st_size < length:
        stream.close()
        raise UserError(f"{path} is shorter than it was written; give --overwrite to begin anew")
    stream.truncate(length or 0)
    stream.seek(0, os.SEEK_END)
    if length is None:
        stream.write(heading.encode())
    return stream
