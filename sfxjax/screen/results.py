"""Scores of the frames of a run, as far as they are known, and the records of them that a journal keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from sfxjax.data.frames import FrameStack
from sfxjax.data.workers import Frame
from sfxjax.evaluation.domain_check import NAMES

Key = tuple[str, str]
# Of each frame: shape, what stands for a frame that is not known, and type. Checksums are of the pixels, -1 where none was taken.
_COLUMNS: dict[str, tuple[tuple[int, ...], Any, type]] = {
    "scores": ((), np.nan, np.float32),
    "statistics": ((len(NAMES),), np.nan, np.float32),
    "limits": ((), np.inf, np.float64),
    "checksums": ((), -1, np.int64),
    "done": ((), False, bool),
}


class Results:
    """Scores of the frames of a run, by file and data set. They grow as frames are added."""

    def __init__(self) -> None:
        self._columns: dict[Key, dict[str, np.ndarray]] = {}
        self._reasons: dict[Key, dict[int, str]] = {}

    def put(self, record: list[dict[str, Any]]) -> None:
        """Add the frames of a record, which `scored` gave."""
        for segment in record:
            key = segment["file"], segment["dataset"]
            scores = np.array([np.nan if x is None else np.float32(x) for x in segment["scores"]], np.float32)
            first, last = segment["first"], segment["first"] + len(scores)
            columns = self._grown(key, last)
            columns["scores"][first:last] = scores
            columns["statistics"][first:last] = np.asarray(segment["statistics"], np.float32).reshape(
                len(scores), len(NAMES)
            )
            columns["done"][first:last] = True
            columns["limits"][first:last] = np.inf
            for at, limit in segment.get("limits", {}).items():
                columns["limits"][first + int(at)] = limit
            columns["checksums"][first:last] = segment.get("checksums", -1)
            reasons = self._reasons.setdefault(key, {})
            for number in range(first, last):
                reasons.pop(number, None)
            reasons |= {first + int(at): str(why) for at, why in segment["reasons"].items()}

    def forget(self, file: str | None = None) -> None:
        """Forget the frames of a file, by default all."""
        for key in [key for key in self._columns if file in (None, key[0])]:
            del self._columns[key]
            self._reasons.pop(key, None)

    def forget_errors(self) -> None:
        """Forget the frames that are errors."""
        for key, reasons in self._reasons.items():
            self._columns[key]["done"][list(reasons)] = False
            reasons.clear()

    def known(self) -> Counter[str]:
        """Count the frames that are known, by file."""
        counts: Counter[str] = Counter()
        for (file, _), columns in self._columns.items():
            counts[file] += int(columns["done"].sum())
        return +counts

    def is_done(self, stack: FrameStack, frame: int) -> bool:
        """Tell whether a frame is known."""
        columns = self._columns.get((stack.file, stack.dataset))
        return columns is not None and frame < len(columns["done"]) and bool(columns["done"][frame])

    def scores(self, stack: FrameStack) -> np.ndarray:
        """Return float32 (frames,), NaN for errors and for frames not known."""
        return self._column("scores", stack)

    def statistics(self, stack: FrameStack) -> np.ndarray:
        """Return float32 (frames, 6), NaN for frames not known."""
        return self._column("statistics", stack)

    def limits(self, stack: FrameStack) -> np.ndarray:
        """Return float64 (frames,), the value from which on a frame's pixels were left out; infinite: its type's largest."""
        return self._column("limits", stack)

    def reasons(self, stack: FrameStack) -> dict[int, str]:
        """Return why frames are errors, by their number."""
        return self._reasons.get((stack.file, stack.dataset), {})

    def checksums(self, file: str) -> Iterator[tuple[str, dict[int, int]]]:
        """Give the data sets of a file, and the checksums of their known frames by number, -1 where none was taken."""
        for (name, dataset), columns in self._columns.items():
            if name == file:
                numbers = np.flatnonzero(columns["done"] & ~np.isnan(columns["scores"]))
                yield dataset, {int(number): int(columns["checksums"][number]) for number in numbers}

    def _column(self, name: str, stack: FrameStack) -> np.ndarray:
        shape, fill, dtype = _COLUMNS[name]
        column: np.ndarray = np.full((stack.frames, *shape), fill, dtype)
        columns = self._columns.get((stack.file, stack.dataset))
        if columns is not None:
            count = min(len(columns["done"]), stack.frames)
            done = columns["done"][:count]
            column[:count][done] = columns[name][:count][done]
        return column

    def _grown(self, key: Key, length: int) -> dict[str, np.ndarray]:
        columns = self._columns.get(key, {})
        old = len(columns.get("done", ()))
        if length > old or not columns:
            room = max(length, 2 * old)
            grown: dict[str, np.ndarray] = {
                name: np.full((room, *shape), fill, dtype) for name, (shape, fill, dtype) in _COLUMNS.items()
            }
            for name, column in columns.items():
                grown[name][:old] = column
            self._columns[key] = columns = grown
        return columns


def scored(
    frames: list[Frame],
    scores: np.ndarray,
    reasons: list[str],
    statistics: np.ndarray,
    limits: np.ndarray | None = None,
    checksums: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """Return the record of a batch, ready for JSON, for `Results.put`.

    Args:
        frames: stack and number of each.
        scores: (n,).
        reasons: (n,), empty for frames that are no errors.
        statistics: (n, 6).
        limits: (n,), see `Results.limits`; None: infinite.
        checksums: (n,) of the pixels; None: there are none.
    """
    segments: list[dict[str, Any]] = []
    begin = 0
    for end in range(1, len(frames) + 1):
        stack, number = frames[begin]
        if end < len(frames) and frames[end] == (stack, number + end - begin):
            continue
        piece = slice(begin, end)
        segment = {
            "file": stack.file,
            "dataset": stack.dataset,
            "first": number,
            "scores": [None if np.isnan(x) else str(np.float32(x)) for x in scores[piece]],
            "reasons": {str(at): why for at, why in enumerate(reasons[piece]) if why},
            "statistics": [[float(f"{x:.4g}") for x in row] for row in statistics[piece]],
        }
        if limits is not None and np.isfinite(limits[piece]).any():
            segment["limits"] = {str(at): float(x) for at, x in enumerate(limits[piece]) if np.isfinite(x)}
        if checksums is not None:
            segment["checksums"] = checksums[piece].tolist()
        segments.append(segment)
        begin = end
    return segments
