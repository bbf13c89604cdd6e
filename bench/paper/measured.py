"""Table 6 measured: what each of the paper's three weakly supervised methods takes, from frames to a trained network.

    python -m bench.paper.measured --method dann --data DIR --json FILE

does one method in a process of its own, so that its peak of memory is its own; `measure_methods` does all three.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from scipy.special import expit

from sfxjax.command_line import new_parser
from sfxjax.data.batches import CropBatch
from sfxjax.data.labels import MISS
from sfxjax.data.sets import open_set
from sfxjax.data.splits import split
from sfxjax.errors import UserError, run_main
from sfxjax.evaluation.metrics import count
from sfxjax.files import atomic_write_json
from sfxjax.models.checkpoint import TrainedModel
from sfxjax.pixel_values import type_limit
from sfxjax.progress import progress
from sfxjax.screen.scorer import Screener
from sfxjax.training.config import RunConfig
from sfxjax.training.data import PreparedSet, prepare
from sfxjax.training.evaluation import map_logits
from sfxjax.training.published import frame_range
from sfxjax.training.run import total_steps, train, train_and_test

from ..throughput.timing import Timed, peak_memory, time_calls
from .plans import RWD, Comparison

MEASURED_METHODS = ("transfer", "reduced", "dann")
PAIR = ("LN83", "LO19")
MOST_SCORED = 512
SECONDS = 5.0

NOTES = (
    "Each method in a process of its own, {source} -> {target}; RWD on {target} alone. All but prediction includes compilation.",
    "Labels of the tested set: to train on and to choose the epoch by. Pre-processing: of all frames of the sets that a method "
    "reads. Training: transfer with its base.",
    "Recall: the last fifth of {target}. Memory: of the device where it keeps count, else of the process with all frames it "
    "reads. Prediction: raw crops in the host's memory to scores.",
)


def measure_methods(comparison: Comparison, folder: Path, advance: Callable[[int], None]) -> dict[str, Any]:
    """Measure all three methods, one process after the other.

    Args:
        comparison: whose data and recipes are taken.
        folder: of the sets, whether simulated or not.
        advance: told of each method done.

    Returns:
        What `bench.paper.tables.measured_table` lays out.

    Raises:
        UserError: a method fails; its output is in the message.
    """
    source, target = PAIR
    found: dict[str, Any] = {}
    for method in MEASURED_METHODS:
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "measured.json"
            command = [sys.executable, "-m", "bench.paper.measured", "--method", method]
            command += ["--data", str(folder), "--json", str(out)] + (["--quick"] if comparison.quick else [])
            # The device's memory is shared with this process, and what is taken beforehand would count as used.
            environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            if done.returncode:
                last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
                raise UserError(f"measuring {method} failed: {' '.join(last)}")
            found[method] = json.loads(out.read_text())
        advance(1)
    about = found[MEASURED_METHODS[0]]
    return found | {
        "device": about["device"],
        "simulated": about["simulated"],
        "quick": comparison.quick,
        "notes": [note.format(source=source, target=target) for note in NOTES],
    }


def measure_method(method: str, data: Path, quick: bool) -> dict[str, Any]:
    """Read, pre-process, train, test and time one method.

    Args:
        method: one of METHODS.
        data: folder of the sets.
        quick: with fewer epochs.
    """
    target = PAIR[1]
    reduction = RWD if method == "reduced" else None
    start = time.perf_counter()
    sets = {name: _prepared(data, name, reduction) for name in (PAIR if reduction is None else (target,))}
    preprocessing = time.perf_counter() - start
    start = time.perf_counter()
    model = _trained(method, sets, Comparison(quick=quick))
    training = time.perf_counter() - start
    few = split("few", len(sets[target]))
    used = 0 if method == "dann" else len(few.train) + len(few.validation)
    return {
        "labels": used,
        "preprocessing_seconds": round(preprocessing, 2),
        "training_seconds": round(training, 2),
        "recall": _recall(model, sets[target]),
        "frames_per_second": _speed(model, data, target),
        "peak_memory_mib": round((peak_memory(jax.local_devices()[0]) or 0) / 2**20) or None,
        "device": jax.local_devices()[0].device_kind,
        "simulated": any(each.simulated for each in sets.values()),
    }


def _prepared(data: Path, name: str, reduction: str | None) -> PreparedSet:
    with open_set(data, name) as frame_set:
        return prepare(frame_set, [reduction])


def _trained(method: str, sets: dict[str, PreparedSet], comparison: Comparison) -> TrainedModel:
    """Train as `bench.paper.plans` plans it, without a folder."""
    source, target = PAIR
    frames = len(sets[target])
    few = len(split("few", frames).train)
    recipe = comparison.recipe(method)
    if method == "reduced":
        return _train(RunConfig("reduced", target, None, few, RWD, recipe, frames=frames), sets)
    if method == "dann":
        return _train(RunConfig("dann", source, target, None, None, recipe, frames=frames), sets)
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch) / "base"
        alone = RunConfig(
            "supervised", source, None, None, None, comparison.recipe("supervised"), frames=frames
        )
        with progress("training the base", total_steps(alone), "steps") as advance:
            train_and_test(alone, {source: sets[source]}, base, advance)
        plan = RunConfig("transfer", source, target, few, None, recipe, frames=frames, base=str(base))
        return _train(plan, sets)


def _train(plan: RunConfig, sets: dict[str, PreparedSet]) -> TrainedModel:
    with progress(f"training {plan.title()}", total_steps(plan), "steps") as advance:
        return train(plan, sets, advance=advance).models[plan.target or plan.source]


def _recall(model: TrainedModel, prepared: PreparedSet) -> float | None:
    tested = frame_range("last", len(prepared))
    chosen = slice(tested.start, tested.stop)
    scores = expit(map_logits(model, prepared.masked[model.reduction][chosen]))
    value = count(prepared.labels[chosen] != MISS, scores, model.threshold).recall.value
    return None if value is None else round(100 * value, 2)


def _speed(model: TrainedModel, data: Path, name: str) -> float:
    """Frames a second from crops in the host's memory, in the file's own type."""
    with open_set(data, name) as frame_set:
        frames = min(MOST_SCORED, len(frame_set))
        crops, mask = frame_set.crops(range(frames)), frame_set.mask_crop()
    screener = Screener(model)
    limit = type_limit(crops.dtype)
    batches = [
        CropBatch(crops[first : first + screener.batch_size], mask, limit, True)
        for first in range(0, frames, screener.batch_size)
    ]

    def score(batches: list[CropBatch]) -> list[Any]:
        return [scores.scores for _, scores in screener.score_batches(batches)]

    return round(time_calls(Timed(score, [batches], frames), SECONDS).median, 1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = new_parser("bench.paper.measured", "One method of Table 6, measured.")
    parser.add_argument("--method", choices=MEASURED_METHODS, required=True)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the sets")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="the record")
    parser.add_argument("--quick", action="store_true", help="fewer epochs")
    chosen = parser.parse_args(arguments)
    atomic_write_json(chosen.json, measure_method(chosen.method, chosen.data, chosen.quick))


if __name__ == "__main__":
    sys.exit(run_main(main))
