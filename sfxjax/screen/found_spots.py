"""Spots of the frames of a run, as far as they are known, and the records of them that a journal keeps."""

from __future__ import annotations

import base64
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sfxjax.data.frames import FrameStack
from sfxjax.screen.lists import ERROR, HIT, MISS

if TYPE_CHECKING:
    from sfxjax.screen.fitted import FittedModel
    from sfxjax.spots.day_one import FrameSpots

THRESHOLD = 0.5
_FRAME_FIGURES = ("score", "many", "expected", "fourth")
_OF_SPOTS = ("ss", "fs", "signal_to_noise", "probability", "signal")


@dataclass(frozen=True)
class CountedFrame:
    """A frame that was looked at.

    Attributes:
        stack: that holds it.
        number: in the stack.
        spots: what it shows, its visible spots alone; None where it could not be read.
        reason: why not.
        limit: value from which on its pixels were left out; None: that of its type.
        threshold: score from which it is a hit.
    """

    stack: FrameStack
    number: int
    spots: FrameSpots | None
    reason: str = ""
    limit: float | None = None
    threshold: float = THRESHOLD

    @property
    def label(self) -> str:
        """HIT, MISS or ERROR."""
        return ERROR if self.spots is None else HIT if self.spots.score >= self.threshold else MISS

    def scored_by(self, model: FittedModel) -> CountedFrame:
        """Return the frame with its score by a model that was fitted to labels."""
        if self.spots is None:
            return self
        return replace(self, spots=model.scored(self.spots), threshold=model.recalibration.threshold)

    def record(self) -> list[dict[str, Any]]:
        """Return the record of the frame, ready for JSON, for `FoundSpots.put`."""
        fields: dict[str, Any] = {
            "file": self.stack.file,
            "dataset": self.stack.dataset,
            "frame": self.number,
        }
        if self.limit is not None:
            fields["limit"] = self.limit
        if self.spots is None:
            return [fields | {"reason": self.reason}]
        columns = np.stack([getattr(self.spots, name) for name in _OF_SPOTS]).astype("<f4")
        numbers = {name: getattr(self.spots, name) for name in _FRAME_FIGURES}
        return [fields | numbers | {"spots": base64.b64encode(columns.tobytes()).decode()}]


class FoundSpots:
    """Spots of the frames of a run, by file, data set and number."""

    def __init__(self) -> None:
        self._frames: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}

    def put(self, record: list[dict[str, Any]]) -> None:
        """Add the frames of a record, which `CountedFrame.record` gave."""
        for fields in record:
            self._frames.setdefault((fields["file"], fields["dataset"]), {})[fields["frame"]] = fields

    def forget(self, file: str | None = None) -> None:
        """Forget the frames of a file, by default all."""
        for key in [key for key in self._frames if file in (None, key[0])]:
            del self._frames[key]

    def forget_errors(self) -> None:
        """Forget the frames that are errors."""
        for frames in self._frames.values():
            for number in [number for number, fields in frames.items() if "reason" in fields]:
                del frames[number]

    def known(self) -> Counter[str]:
        """Count the frames that are known, by file."""
        counts: Counter[str] = Counter()
        for (file, _), frames in self._frames.items():
            counts[file] += len(frames)
        return +counts

    def frame(self, stack: FrameStack, number: int) -> CountedFrame | None:
        """Return what is known of a frame; None where nothing is."""
        fields = self._frames.get((stack.file, stack.dataset), {}).get(number)
        if fields is None:
            return None
        limit = fields.get("limit")
        if "reason" in fields:
            return CountedFrame(stack, number, None, fields["reason"], limit)
        # Imported late, as JAX is.
        from sfxjax.spots.day_one import FrameSpots

        columns = np.frombuffer(base64.b64decode(fields["spots"]), "<f4").reshape(len(_OF_SPOTS), -1)
        numbers = (fields[name] for name in _FRAME_FIGURES)
        return CountedFrame(stack, number, FrameSpots(*numbers, *columns), limit=limit)
