"""What the lists of counted spots hold of a frame: screening and live write the same."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from sfxjax.screen.lists import ERROR
from sfxjax.text import file_cell, table_row

if TYPE_CHECKING:
    from sfxjax.spots.day_one import FrameSpots

FRAME_COLUMNS = ("file", "event", "index", "score", "label", "spots", "fourth_snr", "reason")
SPOT_COLUMNS = ("file", "event", "ss", "fs", "snr", "probability", "resolution")


def frame_row(
    file: str, event: str, index: int, spots: FrameSpots | None, label: str, reason: str
) -> tuple[Any, ...]:
    """Return a frame's row of `frames.csv`.

    Args:
        file: that holds it.
        event: CrystFEL's.
        index: number in the list.
        spots: what it shows; None where that is not known.
        label: HIT, MISS or ERROR.
        reason: why it is an error.
    """
    numbers: tuple[Any, ...] = ("", ERROR, "", "")
    if spots is not None:
        numbers = f"{spots.score:.6f}", label, f"{spots.expected:.2f}", f"{spots.fourth:.2f}"
    return file_cell(file), event, index, *numbers, reason


def spot_rows(
    file: str, event: str, spots: FrameSpots | None, resolution: np.ndarray | None = None
) -> list[tuple[Any, ...]]:
    """Return the rows of `spots.csv` for a frame's spots, whose resolution in Angstrom may be NaN or not known at all."""
    if spots is None:
        return []
    if resolution is None:
        resolution = np.full(len(spots.ss), np.nan)
    columns = spots.ss, spots.fs, spots.signal_to_noise, spots.probability, resolution
    return [
        (file_cell(file), event, *("" if math.isnan(value) else f"{value:.2f}" for value in values))
        for values in zip(*columns, strict=True)
    ]


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Return rows as CSV."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(map(table_row, rows))
    return stream.getvalue()
