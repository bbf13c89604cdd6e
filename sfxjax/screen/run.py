"""A run: its stacks of frames in order, and what is known of each frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from sfxjax.data.frames import FrameStack
from sfxjax.data.workers import Frame
from sfxjax.evaluation.domain_check import NAMES
from sfxjax.screen.results import Results


@dataclass
class Run:
    """A run as far as it is known.

    Attributes:
        stacks: its stacks of frames, in order.
        failed: why a file could not be opened, by its name; it stands in `stacks` as one frame.
        results: what is known of the frames.
        bad_pixels: the line about pixels found bad, empty if none.
        masks: lines about what leaves out how many pixels.
        limited: frames whose pixels from a value on were left out, by that value.
        left_out: lines about other values that were left out.
    """

    stacks: list[FrameStack] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    results: Results = field(default_factory=Results)
    bad_pixels: str = ""
    masks: list[str] = field(default_factory=list)
    limited: Counter[float] = field(default_factory=Counter)
    left_out: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(stack.frames for stack in self.stacks)

    def readable(self) -> list[FrameStack]:
        """Return the stacks of which frames can be read, as far as that is known from opening the files."""
        return [stack for stack in self.stacks if not (stack.file in self.failed or stack.unreadable)]

    def frames(self) -> Iterator[Frame]:
        """Give stack and number of every frame, in order."""
        for stack in self.stacks:
            for number in range(stack.frames):
                yield stack, number

    def frame(self, index: int) -> Frame:
        """Return stack and number of the frame at a place in the run."""
        starts = np.cumsum([0, *(stack.frames for stack in self.stacks)])
        place = int(np.searchsorted(starts, index, side="right")) - 1
        return self.stacks[place], index - int(starts[place])

    def there(self) -> np.ndarray:
        """Return which frames lie in files that can be read, bool (frames,)."""
        parts = [np.full(stack.frames, stack.file not in self.failed) for stack in self.stacks]
        return np.concatenate(parts) if parts else np.empty(0, bool)

    def lost(self) -> dict[str, str]:
        """Say why files of which frames were scored cannot be read any more, by their names."""
        gone = [stack for stack in self.stacks if stack.file in self.failed]
        known = {stack.file for stack in gone if np.isfinite(self.results.scores(stack)).any()}
        return {name: why for name, why in self.failed.items() if name in known}

    def notes(self) -> list[str]:
        """Return what the files' readers say of them, each line once."""
        return list(dict.fromkeys(note for stack in self.stacks for note in stack.notes))

    def why_empty(self) -> str:
        """Say why there are no frames that can be read."""
        reasons = [*self.failed.values(), *self.notes()]
        return reasons[0] if reasons else "there are no frames to look at"

    def value_lines(self) -> list[str]:
        """Say which values were left out, besides the largest that their type has."""
        limits = Counter(
            float(limit)
            for stack in self.stacks
            for limit in self.results.limits(stack)
            if limit < float("inf")
        )
        return self.left_out + [
            f"in {count} frames pixels of {limit:.10g} and more were left out where they lie in no saturated spot: gaps, dead "
            "pixels, large saturated areas"
            for limit, count in sorted((self.limited + limits).items())
        ]

    def scores(self) -> np.ndarray:
        """Return float32 (frames,), NaN for errors."""
        parts = [self.results.scores(stack) for stack in self.stacks]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def statistics(self) -> np.ndarray:
        """Return float32 (frames, 6)."""
        parts = [self.results.statistics(stack) for stack in self.stacks]
        return np.concatenate(parts) if parts else np.empty((0, len(NAMES)), np.float32)


def unreadable(name: str) -> FrameStack:
    """Return what stands for a file that cannot be opened: one frame, an error."""
    return FrameStack(
        file=name,
        layout="unreadable",
        dataset="",
        event_path="",
        frames=1,
        stacked=False,
        raw_shape=(0, 0),
        dtype="<u2",
        shape=(0, 0),
    )


def evenly(places: np.ndarray, count: int) -> np.ndarray:
    """Choose at most `count` of increasing places, evenly spaced."""
    if len(places) <= count:
        return places
    return places[np.linspace(0, len(places) - 1, count).round().astype(int)]
