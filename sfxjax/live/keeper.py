"""Keeps what is found: lists that only grow, and a journal of how long each was when all of them held the same frames.

A kill may leave the lists with more frames than the journal tells of, or half a line; the next start cuts them back to where they
agree, so that every frame stands in each of them once or not at all.
"""

from __future__ import annotations

import csv
import json
import os
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sfxjax.data.events import crystfel_line
from sfxjax.errors import UserError
from sfxjax.files import atomic_write_json
from sfxjax.live.frames import LiveFrame
from sfxjax.live.seen import Seen
from sfxjax.live.statistics import Counts, Sums
from sfxjax.screen.lists import ERROR, HIT, MISS
from sfxjax.screen.spot_rows import FRAME_COLUMNS, SPOT_COLUMNS, frame_row, spot_rows, table

if TYPE_CHECKING:
    from sfxjax.spots.day_one import FrameSpots

JOURNAL = "live.journal"
COLUMNS = (*FRAME_COLUMNS, "weight")
LISTS = {"frames.csv": table([COLUMNS]), "spots.csv": table([SPOT_COLUMNS]), "hits.lst": "", "misses.lst": ""}
THRESHOLD = 0.5
# How much is read of the end of a journal.
_TAIL = 2**16


@dataclass(frozen=True)
class Judged:
    """A frame with its result.

    Attributes:
        frame: as it came.
        weight: frames that it stands for.
        spots: what it shows, its visible spots alone; None: it could not be judged.
        reason: why not.
    """

    frame: LiveFrame
    weight: int
    spots: FrameSpots | None
    reason: str = ""

    @property
    def label(self) -> str:
        """HIT, MISS or ERROR."""
        return ERROR if self.spots is None else HIT if self.spots.score >= THRESHOLD else MISS


class Keeper:
    """The lists in a folder, open for adding frames.

    Args:
        out: the folder.
        settings: what decides the results, ready for JSON; lists of other settings are not gone on with.
        overwrite: replace lists that are there.
        written_as: name of the file that the frames of a series are written to at the same time, with `{series}`; None: the lists
            hold the series' own name.

    Attributes:
        seen: the frames in the lists.
        counts: where the frames that came are.
        sums: over those judged.
        place: the series of the last frame that came, and the number that comes next.
        resumed: how many were in the lists at the start.

    Raises:
        UserError: the folder holds other lists, or another program writes there.
    """

    def __init__(
        self, out: Path, settings: dict[str, Any], overwrite: bool = False, written_as: str | None = None
    ) -> None:
        self.out, self._written_as = out, written_as
        self.seen, self.counts, self.sums = Seen(), Counts(), Sums()
        self.place = ("", 0)
        self._recorded: dict[str, Any] = {}
        self.resumed = self._rows = 0
        self._waiting: dict[str, list[str]] = {name: [] for name in LISTS}
        if out.exists() and not out.is_dir():
            raise UserError(f"{out} is not a folder; name another output folder")
        out.mkdir(parents=True, exist_ok=True)
        self._journal = _locked(out / JOURNAL)
        first = _line({"format": 1, "settings": settings})
        begun = self._journal.read(len(first))
        if begun and begun != first and not overwrite:
            self._journal.close()
            raise UserError(f"{out} holds lists with other settings; name another --out, or give --overwrite")
        if not begun and (out / "frames.csv").exists() and not overwrite:
            self._journal.close()
            raise UserError(f"{out} holds lists already; name another --out, or give --overwrite")
        last = _last_record(self._journal) if begun == first and not overwrite else None
        lengths: dict[str, int] = {} if last is None else last["lengths"]
        if last is None:
            self._journal.truncate(0)
            self._journal.write(first)
        self._lists = {name: _opened(out / name, lengths.get(name), LISTS[name]) for name in LISTS}
        if last is not None:
            self.counts, self.sums = Counts(**last["counts"]), Sums(**last["sums"])
            self.place = str(last["place"][0]), int(last["place"][1])
            self._read_again()
        self.commit()

    def add(self, judged: Judged) -> bool:
        """Add a frame; returns False, and adds nothing, if it is in the lists already. `commit` writes it."""
        frame = judged.frame
        if (frame.file, frame.event) in self.seen:
            self.counts.repeated += 1
            self.counts.left_out += judged.weight - 1
            return False
        self.seen.add(frame.file, frame.event)
        row = frame_row(frame.file, frame.event, self._rows, judged.spots, judged.label, judged.reason)
        self._rows += 1
        self._waiting["frames.csv"].append(table([(*row, judged.weight)]))
        self._waiting["spots.csv"].append(table(spot_rows(frame.file, frame.event, judged.spots)))
        if judged.spots is None:
            self.counts.errors += 1
        else:
            self.counts.judged += 1
            self.sums.add(judged.weight, judged.label == HIT, judged.spots.expected)
            name = "hits.lst" if judged.label == HIT else "misses.lst"
            self._waiting[name].append(f"{self._listed(frame)}\n")
        self.counts.left_out += judged.weight - 1
        return True

    def commit(self) -> None:
        """Write what was added, first the lists and then the journal, each down to the disk.

        Raises:
            OSError: the disk is full, or else cannot be written.
        """
        lengths = {}
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
        if record == self._recorded:
            return
        self._journal.write(_line(record))
        os.fsync(self._journal.fileno())
        self._recorded = record

    def write_summary(self, about: dict[str, Any]) -> None:
        """Replace `summary.json`."""
        counts = asdict(self.counts)
        result = {"hit": self.sums.hits, "miss": self.sums.judged - self.sums.hits, "error": counts["errors"]}
        atomic_write_json(self.out / "summary.json", {**result, "frames": counts, **about})

    def close(self) -> None:
        """Write what is left, and let others write here."""
        self.commit()
        for stream in (*self._lists.values(), self._journal):
            stream.close()

    def _listed(self, frame: LiveFrame) -> str:
        if self._written_as is not None:
            return crystfel_line(self._written_as.replace("{series}", frame.file), frame.event)
        if frame.index is None and Path(frame.file).exists():
            return crystfel_line(frame.file, frame.event)
        return f"{frame.file} {frame.event}"

    def _read_again(self) -> None:
        """Take up which frames the lists hold."""
        path = self.out / "frames.csv"
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
            for row in csv.DictReader(stream):
                self.seen.add(row["file"], row["event"])
                self._rows += 1
        self.resumed = self._rows


def _locked(path: Path) -> IO[bytes]:
    """Open a journal that no other program writes."""
    try:
        stream = path.open("a+b", buffering=0)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error
    try:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        raise UserError(f"another program is writing into {path.parent}; name another folder") from None
    except (ImportError, OSError):
        # Some systems and network file systems have no locks.
        pass
    stream.seek(0)
    return stream


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


def _line(record: dict[str, Any]) -> bytes:
    content = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(content), content)


def _last_record(journal: IO[bytes]) -> dict[str, Any] | None:
    """Return the last whole record of lengths, and cut off what a kill left behind it."""
    size = journal.seek(0, os.SEEK_END)
    start = max(size - _TAIL, 0)
    journal.seek(start)
    end, found = start, None
    for line in journal.read().splitlines(keepends=True):
        checksum, _, text = line.partition(b" ")
        if line.endswith(b"\n") and checksum == b"%08x" % zlib.crc32(text[:-1]):
            record = json.loads(text)
            found, kept = (record, end + len(line)) if "lengths" in record else (found, end + len(line))
        end += len(line)
    if found is None:
        return None
    journal.truncate(kept)
    journal.seek(0, os.SEEK_END)
    return found
