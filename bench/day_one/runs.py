"""Simulated runs of one detector each, written as files that every command reads, with the truth as labels."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import h5py
import numpy as np

from sfxjax.data.set_description import SetDescription
from sfxjax.files import atomic_folder, atomic_write_text
from sfxjax.simulate.conditions import Condition, SimulatedFrame, draw_run
from sfxjax.spots.definition import MIN_SNR

from .measure import MATRIX, is_clear_hit, is_clear_miss


def run_set(
    name: str, condition: str, seed: int, frames: int, folder: Path, *, clear: bool = False
) -> SetDescription:
    """Return a run as a set; one that is not there is simulated.

    Args:
        name: of the set.
        condition: key of `MATRIX`.
        seed: of the run.
        frames: of the run.
        folder: for the run; it holds `run.h5` and `labels.csv`, whose spots are those at or above the threshold of sight.
        clear: leave out frames that are neither clear hits nor clear misses.
    """
    if not folder.exists():
        drawn = draw_run(seed, Condition(**MATRIX[condition]))
        chosen = (frame for frame in drawn if not clear or is_clear_hit(frame) or is_clear_miss(frame))
        with atomic_folder(folder) as temporary:
            _write_run(temporary, chosen, frames)
    return SetDescription(name, (str(folder / "run.h5"),), str(folder / "labels.csv"))


def _write_run(folder: Path, drawn: Iterable[SimulatedFrame], frames: int) -> None:
    lines = ["file,event,spots"]
    with h5py.File(folder / "run.h5", "w") as file:
        for number, frame in enumerate(islice(drawn, frames)):
            if number == 0:
                stored = file.create_dataset(
                    "entry/data/data", (frames, *frame.values.shape), frame.values.dtype
                )
            stored[number] = frame.values
            seen = int(np.sum(frame.signal_to_noise >= MIN_SNR))
            lines.append(f"run.h5,//{number},{seen}")
        file.attrs["simulated"] = True
    atomic_write_text(folder / "labels.csv", "\n".join(lines) + "\n")
