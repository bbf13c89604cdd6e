"""Counts of spots a frame, as DIALS prints them.

Two texts are read: the table `| image | #spots | ...` of `dials.find_spots` and `dials.spot_counts_per_image`, and the list
`00001     3 Miss` beside the frames of CXIDB 76, in which frames without a spot have no line. Images are counted from 1.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from sfxjax.data.label_sources import Known, text_of_labels
from sfxjax.data.label_sources.places import Places, whole_number
from sfxjax.errors import UserError

_HEADING = re.compile(r"\|\s*image\s*\|\s*#spots\s*\|", re.IGNORECASE)
_ROW = re.compile(r"\s*\|\s*(\d+)\s*\|\s*(\d+)\s*\|")
_LINE = re.compile(r"\s*(\d+)\s+(\d+)\s+(?:Hit|Miss|Maybe)\s*", re.IGNORECASE)


class DialsLog:
    """Reads DIALS' tables of counts."""

    def is_own(self, path: Path, start: bytes) -> bool:
        """Tell whether a file is DIALS' log, table or list."""
        text = start.decode("utf-8", "replace")
        return bool(
            _LINE.fullmatch(text.split("\n", 1)[0])
            or _HEADING.search(text)
            or text.startswith("DIALS ")
            or path.name.startswith("dials.")
        )

    def read(self, path: Path, places: Places) -> Known:
        """Read how many spots each frame has, by its number in the order of the frames.

        Raises:
            UserError: there is no table, or it has frames that are not there or that are there twice.
        """
        text = text_of_labels(path)
        heading = _HEADING.search(text)
        rows = [
            (whole_number(match[1]), whole_number(match[2]))
            for line in text[heading.end() if heading else 0 :].splitlines()
            if (match := (_ROW.match(line) if heading else _LINE.fullmatch(line)))
        ]
        if not rows:
            raise UserError(
                f"{path}: no table of spots per image; run dials.spot_counts_per_image and give its output"
            )
        frames = len(places.frames)
        # The list leaves out frames without a spot, the tables do not.
        counts = np.full(frames, np.nan if heading else 0.0)
        seen: set[int] = set()
        for image, spots in rows:
            if not 1 <= image <= frames:
                raise UserError(
                    f"{path}: it counts the spots of image {image}, and there are {frames} frames"
                )
            if image in seen:
                raise UserError(f"{path}: image {image} is there twice; give the counts of one set of images")
            seen.add(image)
            counts[image - 1] = spots
        return Known(np.full(frames, -1, np.int8), counts)
