"""Counts of spots a frame from a reflection table of DIALS (`strong.refl`), which is MessagePack and needs no DIALS.

The file is an array of three: the name `dials::af::reflection_table`, the version 1, and a map with `identifiers`, `nrows` and
`data`, whose columns are each `[type, [rows, bytes]]`, little-endian.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sfxjax.data.label_sources import MOST_LABEL_BYTES, Known
from sfxjax.data.label_sources.places import Places
from sfxjax.errors import UserError
from sfxjax.files import read_bounded

TABLE_NAME = b"dials::af::reflection_table"


class DialsReflections:
    """Counts the rows of a reflection table by frame."""

    def is_own(self, path: Path, start: bytes) -> bool:
        """Tell whether a file is a reflection table."""
        return TABLE_NAME in start[:64] or path.suffix == ".refl"

    def read(self, path: Path, places: Places) -> Known:
        """Count the spots of each frame; frames without a row have none.

        A frame's number is `id` where the table is of several experiments, as stills are, else the image number in
        `xyzobs.px.value`.

        Raises:
            UserError: it is damaged, of an older kind, or has frames that are not there.
        """
        data = _table(path)
        number = _column(path, data, "id", "int", np.dtype("<i4"), 1)[:, 0]
        if len(np.unique(number)) < 2 or number.min() < 0:
            number = np.floor(
                _column(path, data, "xyzobs.px.value", "vec3<double>", np.dtype("<f8"), 3)[:, 2]
            ).astype(np.int64)
        frames = len(places.frames)
        if number.min(initial=0) < 0 or number.max(initial=0) >= frames:
            raise UserError(
                f"{path}: it has spots of images {number.min()} to {number.max()}, and there are {frames} frames"
            )
        counts = np.bincount(number, minlength=frames).astype(np.float64)
        return Known(np.full(frames, -1, np.int8), counts)


def _table(path: Path) -> dict[str, Any]:
    import msgpack

    try:
        name, version, content = msgpack.unpackb(
            read_bounded(path, MOST_LABEL_BYTES, "reflection table"),
            strict_map_key=False,
            max_bin_len=2**31 - 1,
        )
        if name != TABLE_NAME.decode() or version != 1:
            raise ValueError(f"{name} of version {version}")
        return dict(content["data"])
    except (ValueError, TypeError, KeyError, msgpack.exceptions.UnpackException) as error:
        raise UserError(
            f"{path}: not a reflection table of DIALS in MessagePack ({error}); write it anew with a DIALS of 2020 or later"
        ) from error


def _column(
    path: Path, data: dict[str, Any], name: str, kind: str, dtype: np.dtype, width: int
) -> np.ndarray:
    try:
        found, (rows, content) = data[name]
        if found != kind:
            raise ValueError(f"its type is {found}")
        return np.frombuffer(content, dtype).reshape(rows, width)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: its column {name} cannot be read ({error})") from error
