"""What the methods learn from: the day-one model's answers on whole frames of a set, and their true classes."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from sfxjax.data.inputs import find_files
from sfxjax.data.labels import MISS
from sfxjax.data.read import FrameReader
from sfxjax.data.set_description import SetDescription, cxidb76_set
from sfxjax.data.sets import FrameSet
from sfxjax.files import atomic_write_bytes
from sfxjax.screen.sources import Sources
from sfxjax.screen.spots import counted_frames
from sfxjax.simulate.write import simulated_data
from sfxjax.spots.definition import MIN_SNR, MIN_SPOTS
from sfxjax.spots.recalibration import inputs_of

from ..day_one.runs import run_set

# Conditions beyond what the day-one model's training draws from, each as one run of one detector.
RUNS = {
    "counting 0.002": "held out: counting 0.002",
    "rings, hot pixels and gaps": "held out: rings, hot pixels and gaps",
}
# No training used such seeds.
ANSWERS_SEED = 2_000_000


@dataclass(frozen=True)
class Answers:
    """A set as the day-one model sees it.

    Attributes:
        inputs: (n, 4) of `sfxjax.spots.recalibration.inputs_of`.
        positives: bool (n,).
    """

    inputs: np.ndarray
    positives: np.ndarray


def describe_frames(name: str, frames: int, simulated_frames: int, runs: Path) -> SetDescription:
    """Return where a set's frames are; those that are not there are simulated.

    Args:
        name: LN83, LN84, LO19 or a key of `RUNS`.
        frames: of a run.
        simulated_frames: of LN83, LN84 and LO19.
        runs: folder for the frames of runs.
    """
    if name not in RUNS:
        return cxidb76_set(simulated_data([name], simulated_frames, 0), name)
    folder = runs / f"{name.replace(' ', '_').replace(',', '')}-{frames}"
    return run_set(name, RUNS[name], ANSWERS_SEED + list(RUNS).index(name), frames, folder)


def answers_of(described: SetDescription, frames: int, kept: Path) -> Answers:
    """Count the spots of a set's first frames, or read what an earlier call has counted.

    Args:
        described: the set.
        frames: how many.
        kept: file for the answers.
    """
    if kept.exists():
        with np.load(kept, allow_pickle=False) as stored:
            return Answers(stored["inputs"], stored["positives"])
    with FrameReader(replace(described.read, panels_apart=True)) as reader:
        sources = Sources(reader)
        sources.open(find_files(list(described.files)))
        found = list(islice(counted_frames(sources, MIN_SNR, MIN_SPOTS), frames))
    with FrameSet(described) as frame_set:
        labels = frame_set.labels[: len(found)]
    judged = np.array([each.spots is not None for each in found])
    inputs = inputs_of([each.spots for each in found if each.spots is not None])
    answers = Answers(inputs, labels[judged] > MISS)
    content = io.BytesIO()
    np.savez_compressed(content, inputs=answers.inputs, positives=answers.positives)
    atomic_write_bytes(kept, content.getvalue())
    return answers
