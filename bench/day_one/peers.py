"""The spots of one file found by the day-one model, DIALS and peakfinder8: how many, at which cost, and what DIALS indexes.

    python -m bench.day_one.peers --json bench/results/day-one-peers.json

Frames are simulated, whole, with one crystal of a known cell each. Costs are seconds of processor time on one core, which
everything here runs on: two threads hinder each other, and not all of the programs have two. DIALS' start is subtracted as a
call on one frame; median of 5.
peakfinder8 (Barty et al., J. Appl. Cryst. 47:1118, 2014) is that of OM, where that is installed (`pip install --no-deps
ondamonitor`); it gets frames with their smooth background subtracted, which is not counted, since its own background has rings
alone; a signal-to-noise ratio of 6, no threshold in detector units, and the true beam centre.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import h5py
import msgpack
import numpy as np
from scipy.spatial import cKDTree

from sfxjax.command_line import new_parser
from sfxjax.errors import UserError, run_main
from sfxjax.files import atomic_write_json
from sfxjax.mapping import cores, thread_pool
from sfxjax.screen.__main__ import main as screen
from sfxjax.screen.pictures import flattened
from sfxjax.simulate.parameters import SimulatedSet
from sfxjax.simulate.sets import frame_centre
from sfxjax.spots.day_one import find_spots

from .crystals import FEWEST_SPOTS, MOST_SPOTS, simulate_crystals

# Signal-to-noise ratio, least and most pixels of a peak, radius of the background: peakfinder8's.
PEAKFINDER = (6.0, 2, 200, 3)

# A spot is found where one is listed within so many pixels of it.
NEAR_PLACES = 2.0
# A cell is the known one where each edge is so near, relatively.
SAME_CELL = 0.03
REPEATS = 5


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = new_parser("bench.day_one.peers", "The day-one model's spots beside those of DIALS.")
    parser.add_argument("--frames", type=int, default=16, help="simulated hits (default: 16)")
    parser.add_argument("--seed", type=int, default=0, help="of the frames (default: 0)")
    parser.add_argument("--json", type=Path, help="file for the figures")
    chosen = parser.parse_args(arguments)
    if chosen.frames < 2:
        raise UserError("--frames must be at least 2")
    if shutil.which("dials.index") is None:
        raise UserError("DIALS is not installed: apt-get install dials")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        record = compare_with_dials(Path(folder), chosen.frames, chosen.seed)
    print(json.dumps(record, indent=1))
    if chosen.json:
        atomic_write_json(chosen.json, record)


def compare_with_dials(folder: Path, frames: int, seed: int = 0) -> dict[str, Any]:
    """Find spots in simulated hits both ways, and index both.

    Args:
        folder: an empty one, for all files.
        frames: how many hits.
        seed: of them.

    Returns:
        Of `day_one` and `dials`: `spots`, `visible_found` (share of the visible spots), `not_visible` (spots listed that are none
        of these), `indexed` (frames, with the known cell) and `seconds_a_frame` of processor time.
    """
    run = folder / "crystals.h5"
    parameters, visible = simulate_crystals(run, frames, seed)
    ours, theirs = folder / "ours", folder / "theirs"
    theirs.mkdir()
    screen([str(run), "--out", str(ours), "--no-report"])
    _call(folder, "libtbx.python", str(ours / "for_dials.py"))
    _call(theirs, "dials.import", str(run))
    find = ("dials.find_spots", "imported.expt", "nproc=1")
    imported = json.loads((theirs / "imported.expt").read_text())
    first = imported | {key: imported[key][:1] for key in ("experiment", "imageset")}
    atomic_write_json(theirs / "first.expt", first)
    first_alone = (find[0], "first.expt", find[2], "output.reflections=first.refl")
    calls = [(_call(theirs, *first_alone), _call(theirs, *find)) for _ in range(REPEATS)]
    dials = median((whole - start) / (frames - 1) for start, whole in calls)
    # Hits alone are handed on, so that frames count by their places in the run.
    hits = _spot_numbers(ours)
    tables = {
        "day_one": {hits[number]: places for number, places in spot_places(ours / "strong.refl").items()},
        "dials": spot_places(theirs / "strong.refl"),
    }
    with h5py.File(run) as file:
        stored = file["entry/data/data"][:]
    # As many frames at a time as there are cores to run on: of one alone XLA shares each step between cores, at a loss.
    seconds = {"day_one": processor_seconds(find_spots, stored, cores()), "dials": dials}
    indexed = {
        "day_one": count_indexed(ours, "strong.expt", parameters.cell),
        "dials": count_indexed(theirs, "imported.expt", parameters.cell),
    }
    result: dict[str, Any] = {
        "simulated": parameters.name,
        "cell": parameters.cell,
        "frames": frames,
        "shape": parameters.geometry.shape,
        "visible_spots_in_the_middle": [FEWEST_SPOTS, MOST_SPOTS],
        "visible_spots": sum(map(len, visible)),
        "cores": cores(),
    }
    for name, table in tables.items():
        result[name] = matched_spots(table, visible) | {
            "indexed": indexed[name],
            "seconds_a_frame": seconds[name],
        }
    if find_spec("om") is not None:
        find_peaks = peakfinder8(parameters)
        flat = np.stack([flattened(frame, frame != 0).astype(np.float32) for frame in stored])
        peaks = {number: find_peaks(frame) for number, frame in enumerate(flat)}
        cost = {"seconds_a_frame": processor_seconds(find_peaks, flat)}
        result["peakfinder8"] = matched_spots(peaks, visible) | cost
    return result


def peakfinder8(parameters: SimulatedSet) -> Callable[[np.ndarray], np.ndarray]:
    """Return OM's peakfinder8 for a set's frames, as a function from a flat frame to the (n, 2) places (ss, fs) of its peaks."""
    peakfinder_8 = import_module("om.algorithms._crystallography").peakfinder_8
    slow, fast = parameters.geometry.shape
    ss, fs = np.ogrid[:slow, :fast]
    centre = frame_centre(parameters, parameters.geometry.shape)
    radius = np.hypot(ss - centre[0], fs - centre[1]).astype(np.float32)
    # The pixels of its fast mode, which is off.
    none = np.zeros(1, np.int32)

    def find_peaks(frame: np.ndarray) -> np.ndarray:
        mask = (frame != 0).astype(np.int8)
        sizes = (fast, slow, 1, 1)
        found = peakfinder_8(2048, frame, mask, radius, 0, none, none, 0, *sizes, 0.0, *PEAKFINDER)
        return np.stack([found[1], found[0]], 1).reshape(-1, 2)

    return find_peaks


def spot_places(table: Path) -> dict[int, np.ndarray]:
    """Read the (n, 2) places (ss, fs) of a reflection table's spots, pixels from the middle of the first, by experiment."""
    data = msgpack.unpackb(table.read_bytes(), strict_map_key=False)[2]["data"]
    number = np.frombuffer(data["id"][1][1], "<i4")
    place = np.frombuffer(data["xyzobs.px.value"][1][1], "<f8").reshape(-1, 3)[:, 1::-1] - 0.5
    return {int(one): place[number == one] for one in np.unique(number)}


def count_indexed(folder: Path, experiments: str, cell: tuple[float, float, float]) -> int:
    """Count the frames that DIALS indexes with the known cell from `strong.refl`.

    Args:
        folder: of the experiment list and the table.
        experiments: name of the list.
        cell: edges, Angstrom.
    """
    known = f"unit_cell={','.join(map(str, cell))},90,90,90"
    # Debian's DIALS lacks the module by which its indexer for stills ends; few candidates and one cycle, as that has.
    how = (
        f"{known} space_group=P222 joint_indexing=False indexing.nproc=1 indexing.stills.indexer=sequences indexing.method=fft1d "
        "basis_vector_combinations.max_refine=5 refinement_protocol.n_macro_cycles=1 detector.fix=all beam.fix=all"
    )
    _call(folder, "dials.index", experiments, "strong.refl", *how.split())
    crystals = json.loads((folder / "indexed.expt").read_text())["crystal"]
    edges = [
        sorted(np.linalg.norm([one[f"real_space_{axis}"] for axis in "abc"], axis=1)) for one in crystals
    ]
    return sum(bool(np.allclose(found, sorted(cell), rtol=SAME_CELL)) for found in edges)


def _spot_numbers(out: Path) -> list[int]:
    """Return the places in the run of a screening's hits."""
    labels = [line.split(",") for line in (out / "frames.csv").read_text().splitlines()]
    column = labels[0].index("label")
    return [number for number, row in enumerate(labels[1:]) if row[column] == "HIT"]


def matched_spots(table: dict[int, np.ndarray], visible: list[np.ndarray]) -> dict[str, Any]:
    """Compare listed places with the visible spots.

    Args:
        table: (n, 2) places by frame; frames without a place may be absent.
        visible: (n, 2) places of each frame.

    Returns:
        `spots` listed, `visible_found`, the share of the visible with one near, and `not_visible`, those near none.
    """
    found = listed = others = 0
    for number, truth in enumerate(visible):
        places = table.get(number, np.zeros((0, 2)))
        listed += len(places)
        if len(places) and len(truth):
            found += int(np.sum(cKDTree(places).query(truth)[0] <= NEAR_PLACES))
            others += int(np.sum(cKDTree(truth).query(places)[0] > NEAR_PLACES))
        else:
            others += len(places)
    return {
        "spots": listed,
        "visible_found": found / max(sum(map(len, visible)), 1),
        "not_visible": others,
    }


def processor_seconds(find: Callable[[np.ndarray], Any], frames: np.ndarray, threads: int = 1) -> float:
    """Return the processor time of a frame from memory to spots.

    Args:
        find: a function that takes a frame.
        frames: (n, ss, fs); each is taken `REPEATS` times.
        threads: as many frames at a time.
    """
    pool = thread_pool(threads)
    list(pool.map(find, frames[: 2 * threads]))
    started = time.process_time()
    list(pool.map(find, [*frames] * REPEATS))
    return (time.process_time() - started) / (REPEATS * len(frames))


def _call(folder: Path, *words: str) -> float:
    """Run a program; returns the seconds of processor time it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{words[0]} ended with {done.returncode}: {(done.stderr or done.stdout)[-400:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    sys.exit(run_main(main))
