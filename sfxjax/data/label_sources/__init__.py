"""What other programs know of a run's frames, one module a kind of file.

Of every kind there is an object as `LabelSource` says. Those of this library are listed here; a package of your own adds one by
an entry point of the group `sfxjax.label_sources`:

    [project.entry-points."sfxjax.label_sources"]
    my_finder = "my_package:MyFinder"

How each kind becomes labels, and what a training makes of them, is told in `docs/labels.md`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from sfxjax.data.label_sources.places import Places
from sfxjax.extensions import offered
from sfxjax.files import read_bounded

# Of a file of labels but a stream, which is read line by line.
MOST_LABEL_BYTES = 2**30


def text_of_labels(path: Path) -> str:
    """Return the text of a file of labels; what is no UTF-8 keeps its bytes.

    Raises:
        UserError: it cannot be read, or is absurdly long.
    """
    content = read_bounded(path, MOST_LABEL_BYTES, "file of labels")
    return content.decode("utf-8-sig", errors="surrogateescape")


# What is read of a file to tell its kind, bytes.
START = 4096


class Known(NamedTuple):
    """What a file tells of the frames.

    Attributes:
        labels: int8 (frames,), -1 where it tells nothing.
        counts: float (frames,), spots that a finder counted, NaN where it tells nothing; or None. Where a count is known and
            a label is not, the label is made of the count.
    """

    labels: np.ndarray
    counts: np.ndarray | None = None


class LabelSource(Protocol):
    """A kind of file that tells something of frames."""

    def is_own(self, path: Path, start: bytes) -> bool:
        """Tell whether a file, which begins with these bytes, is of this kind."""

    def read(self, path: Path, places: Places) -> Known:
        """Read it.

        Args:
            path: of the file.
            places: of the frames.

        Raises:
            UserError: it is damaged, or does not fit the frames.
        """


@cache
def known_sources() -> dict[str, LabelSource]:
    """Return the kinds by name, installed packages' first.

    Raises:
        UserError: a package's kind cannot be imported.
    """
    from sfxjax.data.label_sources.crystfel_stream import CrystfelStream
    from sfxjax.data.label_sources.cxi_peaks import CxiPeaks
    from sfxjax.data.label_sources.dials_log import DialsLog
    from sfxjax.data.label_sources.dials_reflections import DialsReflections
    from sfxjax.data.label_sources.hit_list import HitList
    from sfxjax.data.label_sources.om_frames import OmFrames

    return offered("sfxjax.label_sources", "label source") | {
        "crystfel_stream": CrystfelStream(),
        "dials_reflections": DialsReflections(),
        "cxi_peaks": CxiPeaks(),
        "om_frames": OmFrames(),
        "dials_log": DialsLog(),
        "hit_list": HitList(),
    }


def source_of(path: Path) -> LabelSource | None:
    """Return the kind of a file; None where it is none of them.

    Raises:
        OSError: the file cannot be opened.
    """
    with path.open("rb") as stream:
        start = stream.read(START)
    return next((source for source in known_sources().values() if source.is_own(path, start)), None)
