"""Table 6 measured: what each of the paper's three weakly supervised methods takes, from frames to a trained network.

Each method is measured in a process of its own, so that its peak of memory is its own.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jax

from sfxjax.data.batches import CropBatch
from sfxjax.data.sets import open_set
from sfxjax.data.splits import split
from sfxjax.errors import UserError
from sfxjax.models.checkpoint import MODEL_FOLDER, TrainedModel, load_model
from sfxjax.pixels.missing_values import type_limit
from sfxjax.progress import progress
from sfxjax.screen.scorer import Screener
from sfxjax.training.command import run
from sfxjax.training.data import prepare

from ..experiments.record import last_fifth
from ..throughput.timing import Timed, peak_memory, time_calls
from .plans import RWD, Comparison, Network, plan_of
from .table_layout import PAGE_WORDS

TESTED_SET, OTHER_SET = "LO19", "LN83"
# The tables' networks of the first seed; transfer is measured with its base.
MEASURED = {
    "transfer": Network("transfer", "few", OTHER_SET, TESTED_SET),
    "reduced": Network("reduced", "few", TESTED_SET),
    "dann": Network("dann", "full", OTHER_SET, TESTED_SET),
}
MOST_SCORED = 512
SECONDS = 5.0


def measure_methods(quick: bool, folder: Path) -> dict[str, Any]:
    """Measure all three methods on the sets in a folder, one process after the other; quick: with fewer epochs.

    Returns:
        What `bench.paper.tables.measured_table` lays out.

    Raises:
        UserError: a method cannot be measured, or its process was killed.
    """
    found: dict[str, Any] = {}
    with progress("measuring the three methods of Table 6", len(MEASURED), "methods") as advance:
        for method in MEASURED:
            with ProcessPoolExecutor(1, get_context("spawn"), _begin) as process:
                try:
                    found[method] = process.submit(measure_method, method, folder, quick).result()
                except BrokenProcessPool as error:
                    raise UserError(f"measuring {method} was killed, perhaps for want of memory") from error
            advance(1)
    about = {key: found["dann"][key] for key in ("device", "simulated")}
    return found | about | {"quick": quick, "notes": PAGE_WORDS["notes"]["table6"]}


def _begin() -> None:
    """Prepare a process that measures: its device's memory is shared, and its output would disturb the other's."""
    # What is taken beforehand would count as used.
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123


def measure_method(method: str, data: Path, quick: bool) -> dict[str, Any]:
    """Read, pre-process, train, test and time one of MEASURED on the sets in a folder."""
    network = MEASURED[method]
    start = time.perf_counter()
    sets = {}
    for name in filter(None, (network.source, network.target)):
        with open_set(data, name) as frame_set:
            sets[name] = prepare(frame_set, [RWD if method == "reduced" else None])
    seconds = time.perf_counter() - start
    frames = len(sets[TESTED_SET])
    few = split("few", frames)
    device = jax.local_devices()[0]
    with tempfile.TemporaryDirectory() as scratch:
        runs = Path(scratch)
        out = runs / network.name
        trained = [
            run(plan_of(each, Comparison(frames=frames, quick=quick), runs), lambda: sets, runs / each.name)
            for each in filter(None, (network.base, network))
        ]
        return {
            "labels": 0 if method == "dann" else len(few.train) + len(few.validation),
            "preprocessing_seconds": round(seconds, 2),
            "training_seconds": round(sum(each["training_seconds"] for each in trained), 2),
            "recall": last_fifth(out, TESTED_SET)["recall"]["percent"],
            "frames_per_second": _speed(load_model(out / MODEL_FOLDER), data),
            "peak_memory_mib": round((peak_memory(device) or 0) / 2**20) or None,
            "device": device.device_kind,
            "simulated": any(each.simulated for each in sets.values()),
        }


def _speed(model: TrainedModel, data: Path) -> float:
    """Frames a second from crops in the host's memory, in the file's own type."""
    with open_set(data, TESTED_SET) as frame_set:
        frames = min(MOST_SCORED, len(frame_set))
        crops, mask = frame_set.crops(range(frames)), frame_set.mask_crop()
    screener = Screener(model)
    size, limit = screener.batch_size, type_limit(crops.dtype)
    batches = [CropBatch(crops[first : first + size], mask, limit, True) for first in range(0, frames, size)]

    def score(batches: list[CropBatch]) -> list[Any]:
        return [scores.scores for _, scores in screener.score_batches(batches)]

    return round(time_calls(Timed(score, [batches], frames), SECONDS).median, 1)
