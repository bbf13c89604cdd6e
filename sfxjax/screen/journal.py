"""What a screening has found so far, kept on disk so that a killed one goes on where it was.

The journal is a text file: a line about the command, then a line a batch, each with a checksum. A batch
counts once its whole line is there; what a killed screening left of a line is cut off. Only what decides the
scores stands in the first line, so a screening with another threshold uses the scores again.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from sfxjax.data.frames import FrameStack
from sfxjax.errors import UserError
from sfxjax.evaluation.domain_check import NAMES

FORMAT = 1

Key = tuple[str, str]


class Results:
    """Scores of the frames of a run, by file and data set. They grow as frames are added."""

    def __init__(self) -> None:
        self._scores: dict[Key, np.ndarray] = {}
        self._done: dict[Key, np.ndarray] = {}
        self._statistics: dict[Key, np.ndarray] = {}
        self._reasons: dict[Key, dict[int, str]] = {}

    def add(
        self, key: Key, first: int, scores: np.ndarray, reasons: dict[int, str], statistics: np.ndarray
    ) -> None:
        """Add consecutive frames.

        Args:
            key: file and data set.
            first: number of the first.
            scores: (n,), NaN for errors.
            reasons: by position in `scores`, why a frame is an error.
            statistics: (n, 6).
        """
        last = first + len(scores)
        self._grow(key, last)
        self._scores[key][first:last] = scores
        self._statistics[key][first:last] = statistics
        self._done[key][first:last] = True
        self._reasons.setdefault(key, {}).update({first + at: why for at, why in reasons.items()})

    def clear(self) -> None:
        """Forget every frame."""
        for columns in (self._scores, self._done, self._statistics, self._reasons):
            columns.clear()  # type: ignore[attr-defined]

    def is_done(self, stack: FrameStack, frame: int) -> bool:
        """Tell whether a frame is known."""
        done = self._done.get((stack.file, stack.dataset))
        return done is not None and frame < len(done) and bool(done[frame])

    def scores(self, stack: FrameStack) -> np.ndarray:
        """Return float32 (frames,), NaN for errors and for frames not known."""
        return self._column(self._scores, stack, (), np.nan)

    def statistics(self, stack: FrameStack) -> np.ndarray:
        """Return float32 (frames, 6), NaN for frames not known."""
        return self._column(self._statistics, stack, (len(NAMES),), np.nan)

    def reasons(self, stack: FrameStack) -> dict[int, str]:
        """Return why frames are errors, by their number."""
        return self._reasons.get((stack.file, stack.dataset), {})

    def _column(
        self, columns: dict[Key, np.ndarray], stack: FrameStack, shape: tuple[int, ...], fill: float
    ) -> np.ndarray:
        column = np.full((stack.frames, *shape), fill, np.float32)
        known = columns.get((stack.file, stack.dataset))
        if known is not None:
            count = min(len(known), stack.frames)
            column[:count] = known[:count]
        return column

    def _grow(self, key: Key, length: int) -> None:
        old = len(self._done.get(key, ()))
        if length <= old:
            return
        room = max(length, 2 * old)
        for columns, shape, fill, dtype in (
            (self._scores, (), np.nan, np.float32),
            (self._statistics, (len(NAMES),), np.nan, np.float32),
            (self._done, (), False, bool),
        ):
            grown = np.full((room, *shape), fill, dtype)
            if old:
                grown[:old] = columns[key]
            columns[key] = grown


class Journal:
    """The journal of one screening, open for adding batches.

    Args:
        path: of the file.
        command: what decides the scores, ready for JSON; a journal of another command is begun anew.
        results: where to put what the journal holds.

    Attributes:
        resumed: frames that were known already.
        replaced: whether a journal of another command was there.
        bad_pixels: the last record of `add_bad_pixels`; None: there is none.
    """

    def __init__(self, path: Path, command: dict[str, Any], results: Results):
        self.results = results
        self.resumed = 0
        self.replaced = False
        self.bad_pixels: dict[str, Any] | None = None
        self.path = path
        self._others: dict[Path, int] = {}
        self._header = header = _line({"format": FORMAT, "command": command})
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror})") from error
        self._lock()
        same, records, length = _read(path, header)
        if same:
            self._take(records)
        else:
            # A first line cut short by a kill is no other command's.
            self.replaced = path.stat().st_size >= len(header)
            length = 0
        if path.stat().st_size > length:
            os.ftruncate(self._handle, length)
        if not same:
            self._write(header)

    def read_others(self, paths: Iterable[Path]) -> None:
        """Take results from other journals of the same screening, as far as they are new.

        Args:
            paths: of the files; one of another command is passed over.
        """
        for path in paths:
            _, records, _ = _read(path, self._header)
            self._take(records[self._others.get(path, 0) :], own=False)
            self._others[path] = len(records)

    def close(self) -> None:
        """Make sure that everything has reached the disk."""
        os.fsync(self._handle)
        os.close(self._handle)

    def add(
        self,
        frames: list[tuple[FrameStack, int]],
        scores: np.ndarray,
        reasons: list[str],
        statistics: np.ndarray,
    ) -> None:
        """Add one batch, to the file and to the results.

        Args:
            frames: stack and number of each.
            scores: (n,).
            reasons: (n,), empty for frames that are no errors.
            statistics: (n, 6).

        Raises:
            OSError: the disk is full, or else cannot be written.
        """
        segments: list[dict[str, Any]] = []
        begin = 0
        for end in range(1, len(frames) + 1):
            stack, number = frames[begin]
            if end < len(frames) and frames[end] == (stack, number + end - begin):
                continue
            piece = slice(begin, end)
            segments.append(
                {
                    "file": stack.file,
                    "dataset": stack.dataset,
                    "first": number,
                    "scores": [None if np.isnan(x) else str(np.float32(x)) for x in scores[piece]],
                    "reasons": {str(at): why for at, why in enumerate(reasons[piece]) if why},
                    "statistics": [[float(f"{x:.4g}") for x in row] for row in statistics[piece]],
                }
            )
            begin = end
        self._write(_line(segments))
        self._put(segments)

    def add_bad_pixels(self, record: dict[str, Any]) -> None:
        """Record which pixels were found bad, ready for JSON: what was scored before is not known any more."""
        self._write(_line({"bad_pixels": record}))
        self._forget(record)

    def _forget(self, record: dict[str, Any]) -> None:
        self.bad_pixels = record
        self.results.clear()
        self._others.clear()
        self.resumed = 0

    def _write(self, line: bytes) -> None:
        written = 0
        while written < len(line):
            written += os.write(self._handle, line[written:])

    def _lock(self) -> None:
        """Keep other screenings out of this journal until this process ends, where the system can."""
        try:
            import fcntl
        except ImportError:
            return
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._handle)
            raise UserError(
                f"another screening is writing into {self.path.parent}; wait for it, or name another folder"
            ) from None
        except OSError:
            # Some network file systems have no locks.
            return

    def _take(self, records: list[Any], own: bool = True) -> None:
        for segments in records:
            if isinstance(segments, dict):
                if own:
                    self._forget(segments["bad_pixels"])
                continue
            self.resumed += sum(len(segment["scores"]) for segment in segments)
            self._put(segments)

    def _put(self, segments: list[dict[str, Any]]) -> None:
        for segment in segments:
            scores = np.array([np.nan if x is None else np.float32(x) for x in segment["scores"]], np.float32)
            statistics = np.asarray(segment["statistics"], np.float32).reshape(len(scores), len(NAMES))
            reasons = {int(at): str(why) for at, why in segment["reasons"].items()}
            self.results.add(
                (segment["file"], segment["dataset"]), segment["first"], scores, reasons, statistics
            )


def _line(value: Any) -> bytes:
    content = json.dumps(value, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(content), content)


def _read(path: Path, header: bytes) -> tuple[bool, list[Any], int]:
    """Read a journal: whether its command is this one, its whole records, and their length in bytes."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return False, [], 0
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if not content.startswith(header):
        return False, [], 0
    records = []
    length = len(header)
    for line in content[length:].splitlines(keepends=True):
        checksum, _, text = line.partition(b" ")
        if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text[:-1]):
            break
        records.append(json.loads(text))
        length += len(line)
    return True, records, length
