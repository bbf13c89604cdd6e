"""A list of hits for CrystFEL, `hits.lst`: a file, a space and an event a line, as OM, Cheetah and this library write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sfxjax.data.events import parse_crystfel_line
from sfxjax.data.label_sources import Known, text_of_labels
from sfxjax.data.label_sources.places import Places
from sfxjax.errors import UserError


class HitList:
    """Reads lists of hits."""

    def is_own(self, path: Path, start: bytes) -> bool:
        """Tell whether a file is named as a list of events."""
        return path.suffix == ".lst"

    def read(self, path: Path, places: Places) -> Known:
        """Take what is listed for hits, and the other frames of the files it names for misses.

        A line without an event names a file, all of whose frames are hits.

        Raises:
            UserError: a frame is not there, or nothing is listed.
        """
        labels = np.full(len(places.frames), -1, np.int8)
        files: set[str] = set()
        hits: list[int] = []
        lines = text_of_labels(path).splitlines()
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            file, event = parse_crystfel_line(line)
            where = f"{path}, line {number}"
            own = places.file(file, where)
            if own is None:
                raise UserError(f"{where}: there is no frame {event} in {file}")
            files.add(own)
            if event:
                hits.append(places.find(file, event, where))
            else:
                hits += [place for place, (name, _) in enumerate(places.frames) if name == own]
        if not hits:
            raise UserError(f"{path}: no frame is listed; give a list of hits")
        for place, (file, event) in enumerate(places.frames):
            # A file of one frame is named only where that is a hit.
            if file in files or not event:
                labels[place] = 0
        labels[hits] = 2
        return Known(labels)
