"""A CrystFEL stream: frames that were indexed are hits, others only where hardly a peak was found misses.

The text format is that of `indexamajig` (CrystFEL stream format 2.1 to 2.3): chunks from `----- Begin chunk -----` to
`----- End chunk -----` with the lines `Image filename: `, `Event: `, `indexed_by = ` and `num_peaks = `.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sfxjax.data.label_sources import Known
from sfxjax.data.label_sources.places import Places, whole_number
from sfxjax.errors import UserError

BEGIN, END = "----- Begin chunk -----", "----- End chunk -----"
# Frames of so few peaks are misses, as in the experts' labels.
MISS_PEAKS = 3


class CrystfelStream:
    """Reads streams."""

    def is_own(self, path: Path, start: bytes) -> bool:
        """Tell whether a file is a stream."""
        return start.startswith(b"CrystFEL stream format")

    def read(self, path: Path, places: Places) -> Known:
        """Read which frames were indexed.

        Frames that were not indexed and have more than three peaks are not known to be anything, nor are frames that the
        stream does not hold. Chunks of other runs are passed over.

        Raises:
            UserError: it is damaged, or no chunk is of these frames.
        """
        labels = np.full(len(places.frames), -1, np.int8)
        chunk: dict[str, str] | None = None
        found = 0
        with path.open(encoding="utf-8", errors="surrogateescape") as stream:
            for number, line in enumerate(stream, start=1):
                line = line.rstrip("\r\n")
                if line == BEGIN:
                    if chunk is not None:
                        raise UserError(f"{path}, line {number}: a chunk begins before the last one ended")
                    chunk = {}
                elif line == END:
                    if chunk is None or "Image filename" not in chunk or "indexed_by" not in chunk:
                        raise UserError(
                            f"{path}, line {number}: a chunk without `Image filename` or `indexed_by`"
                        )
                    where = f"{path}, line {number}"
                    place = places.get(chunk["Image filename"], chunk.get("Event", ""), where)
                    if place is not None:
                        labels[place] = max(labels[place], _label_of_chunk(chunk, where))
                        found += 1
                    chunk = None
                elif chunk is not None:
                    separator = ": " if line.startswith(("Image filename: ", "Event: ")) else " = "
                    key, separated, value = line.partition(separator)
                    if separated and key in ("Image filename", "Event", "indexed_by", "num_peaks"):
                        chunk.setdefault(key, value)
        # A stream that is still being written ends within a chunk, which counts for nothing.
        if not found:
            raise UserError(f"{path}: no chunk of this stream is of these frames; is it another run's?")
        return Known(labels)


def _label_of_chunk(chunk: dict[str, str], where: str) -> int:
    if chunk["indexed_by"] != "none":
        return 2
    peaks = chunk.get("num_peaks", "")
    if not peaks.isdecimal():
        raise UserError(f"{where}: a chunk whose num_peaks is {peaks or 'missing'}")
    return 0 if whole_number(peaks) <= MISS_PEAKS else -1
