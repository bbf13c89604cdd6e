"""A run: its stacks of frames in order, and what is known of each frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from sfxjax.frame_statistics import NAMES
from sfxjax.reader_process import Frame
from sfxjax.run_journal import Results
from sfxjax.sources import Source


@dataclass
class Run:
    """A run as far as it is known.

    Attributes:
        sources: its stacks of frames, in order.
        failed: why a file could not be opened, by its name; it stands in `sources` as one frame.
        results: what is known of the frames.
        bad_pixels: the line about pixels found bad, empty if none.
    """

    sources: list[Source] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    results: Results = field(default_factory=Results)
    bad_pixels: str = ""

    def __len__(self) -> int:
        return sum(source.frames for source in self.sources)

    def frames(self) -> Iterator[Frame]:
        """Give source and number of every frame, in order."""
        for source in self.sources:
            for number in range(source.frames):
                yield source, number

    def frame(self, index: int) -> Frame:
        """Return source and number of the frame at a place in the run."""
        starts = np.cumsum([0, *(source.frames for source in self.sources)])
        place = int(np.searchsorted(starts, index, side="right")) - 1
        return self.sources[place], index - int(starts[place])

    def scores(self) -> np.ndarray:
        """Return float32 (frames,), NaN for errors."""
        parts = [self.results.scores(source) for source in self.sources]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def statistics(self) -> np.ndarray:
        """Return float32 (frames, 6)."""
        parts = [self.results.statistics(source) for source in self.sources]
        return np.concatenate(parts) if parts else np.empty((0, len(NAMES)), np.float32)


def unreadable(name: str) -> Source:
    """Return what stands for a file that cannot be opened: one frame, an error."""
    return Source(
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
