"""The list of all frames that OM's Cheetah layer writes, `frames.txt`, and of its hits, `cleaned.txt`.

The first line is `# timestamp, event_id, hit, filename, index, num_peaks, ave_intensity`; file and index are `---` where a
frame was not saved.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sfxjax.data.label_sources import Known, text_of_labels
from sfxjax.data.label_sources.places import Places, whole_number
from sfxjax.errors import UserError

OM_COLUMNS = ("timestamp", "event_id", "hit", "filename", "index", "num_peaks")


class OmFrames:
    """Reads `frames.txt` and `cleaned.txt`."""

    def is_own(self, path: Path, start: bytes) -> bool:
        """Tell whether a file is such a list."""
        return start.startswith(b"# timestamp, event_id, hit")

    def read(self, path: Path, places: Places) -> Known:
        """Read how many peaks each frame has.

        Lines are of the frames that they name. Where they name none of these, as for the files that the beamline wrote,
        they are of all frames in order, provided that there is one for each.

        Raises:
            UserError: a line is damaged, or the list does not fit the frames.
        """
        first, *lines = text_of_labels(path).splitlines()
        names = [name.strip() for name in first.removeprefix("#").split(",")]
        if not set(OM_COLUMNS) <= set(names):
            raise UserError(f"{path}: columns {', '.join(names)}; {', '.join(OM_COLUMNS)} are needed")
        counts = np.full(len(places.frames), np.nan)
        every: list[int] = []
        for number, line in enumerate(lines, start=2):
            if not line.strip():
                continue
            row = dict(zip(names, (cell.strip() for cell in line.split(",")), strict=False))
            if not row.get("num_peaks", "").isdecimal():
                raise UserError(f"{path}, line {number}: {row.get('num_peaks')!r} is no number of peaks")
            every.append(whole_number(row["num_peaks"]))
            place = places.get(row["filename"], row["index"], f"{path}, line {number}")
            if place is not None:
                counts[place] = every[-1]
        if np.isnan(counts).all():
            if len(every) != len(counts):
                raise UserError(
                    f"{path}: it names none of these files, and has {len(every)} lines for {len(counts)} frames"
                )
            counts = np.array(every, np.float64)
        return Known(np.full(len(counts), -1, np.int8), counts)
