"""Table 6 measured: what each of the paper's three weakly supervised methods takes, from frames to a trained network.

Each method is measured in a process of its own, so that its peak of memory is its own.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy.special import expit

from sfxjax.data.batches import CropBatch
from sfxjax.data.sets import open_set
from sfxjax.data.splits import split
from sfxjax.errors import UserError
from sfxjax.models.checkpoint import TrainedModel
from sfxjax.pixel_values import type_limit
from sfxjax.progress import progress
from sfxjax.screen.scorer import Screener
from sfxjax.training.data import PreparedSet, prepare
from sfxjax.training.evaluation import map_logits, summarize
from sfxjax.training.published import frame_range
from sfxjax.training.run import total_steps, train, train_and_test

from ..throughput.timing import Timed, peak_memory, time_calls
from .methods import MEASURED_METHODS
from .plans import Comparison, planned
from .runs import RWD
from .table_layout import PAGE_WORDS

PAIR = BASE_SET, TESTED_SET = "LN83", "LO19"
MOST_SCORED = 512
SECONDS = 5.0


def measure_methods(quick: bool, folder: Path, advance: Callable[[int], None]) -> dict[str, Any]:
    """Measure all three methods on the sets in a folder, one process after the other; quick: with fewer epochs.

    Returns:
        What `bench.paper.tables.measured_table` lays out.

    Raises:
        UserError: a method cannot be measured, or its process was killed.
    """
    found: dict[str, Any] = {}
    for method in MEASURED_METHODS:
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
    """Read, pre-process, train, test and time one of MEASURED_METHODS on the sets in a folder."""
    reduction = RWD if method == "reduced" else None
    start = time.perf_counter()
    sets = {}
    for name in PAIR if reduction is None else (TESTED_SET,):
        with open_set(data, name) as frame_set:
            sets[name] = prepare(frame_set, [reduction])
    trained = time.perf_counter()
    model = _trained(method, sets, quick)
    end = time.perf_counter()
    few = split("few", len(sets[TESTED_SET]))
    device = jax.local_devices()[0]
    return {
        "labels": 0 if method == "dann" else len(few.train) + len(few.validation),
        "preprocessing_seconds": round(trained - start, 2),
        "training_seconds": round(end - trained, 2),
        "recall": _recall(model, sets[TESTED_SET]),
        "frames_per_second": _speed(model, data),
        "peak_memory_mib": round((peak_memory(device) or 0) / 2**20) or None,
        "device": device.device_kind,
        "simulated": any(each.simulated for each in sets.values()),
    }


def _trained(method: str, sets: dict[str, PreparedSet], quick: bool) -> TrainedModel:
    """Train as the tables' network of the first seed, its base too."""
    with tempfile.TemporaryDirectory() as scratch:
        plans = planned(Comparison(pairs=(PAIR,), frames=len(sets[TESTED_SET]), quick=quick), Path(scratch))
        plan = next(p for p in plans.values() if p.method == method and (p.target or p.source) == TESTED_SET)
        if plan.base is not None:
            base = plans[Path(plan.base)]
            with progress("training the base", total_steps(base), "steps") as advance:
                train_and_test(base, {BASE_SET: sets[BASE_SET]}, Path(plan.base), advance)
        with progress(f"training {plan.title()}", total_steps(plan), "steps") as advance:
            return train(plan, sets, advance=advance).models[TESTED_SET]


def _recall(model: TrainedModel, prepared: PreparedSet) -> float | None:
    chosen = np.asarray(frame_range("last", len(prepared)))
    scores = expit(map_logits(model, prepared.masked[model.reduction][chosen]))
    return summarize(prepared.positives[chosen], scores, model.threshold)["recall"]["percent"]


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
