"""The numbers of peaks in a CXI file, `nPeaks`, as Cheetah, OM and psocake write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sfxjax.data.hdf5 import MAX_FRAMES, Files
from sfxjax.data.label_sources import Known
from sfxjax.data.label_sources.places import Places
from sfxjax.data.opening import damage_named
from sfxjax.errors import UserError

PEAKS = "/entry_1/result_1/nPeaks"


class CxiPeaks:
    """Reads `/entry_1/result_1/nPeaks`, one number a frame."""

    def is_own(self, path: Path, start: bytes) -> bool:
        """Tell whether a file is an HDF5 file."""
        return start.startswith(b"\x89HDF\r\n\x1a\n")

    def read(self, path: Path, places: Places) -> Known:
        """Read how many peaks each frame has.

        The numbers are of the file's own frames where these are among the frames, else of all frames, in order.

        Raises:
            UserError: there are no such numbers, or not one for each frame.
        """
        counts = None
        with Files(path.parent) as files, damage_named(f"{path}: {PEAKS}"):
            stored = files.dataset(path, PEAKS)
            if (
                stored is not None
                and stored.ndim == 1
                and stored.dtype.kind in "iuf"
                and stored.size <= MAX_FRAMES
            ):
                counts = files.values(stored).astype(np.float64)
        if counts is None:
            raise UserError(f"{path}: an HDF5 file of labels needs {PEAKS}, one number a frame")
        own = places.file(str(path), str(path))
        rows = [place for place, (file, _) in enumerate(places.frames) if own is None or file == own]
        if len(counts) < len(rows) or (own is None and len(counts) != len(rows)):
            raise UserError(f"{path}: {len(counts)} numbers of peaks for {len(rows)} frames")
        found = np.full(len(places.frames), np.nan)
        # A stack may be allocated longer than it was written.
        found[rows] = np.where(counts[: len(rows)] >= 0, counts[: len(rows)], np.nan)
        return Known(np.full(len(places.frames), -1, np.int8), found)
