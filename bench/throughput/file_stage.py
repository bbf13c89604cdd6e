"""The stage from a file to lists of hits and misses, through the machinery of `sfxjax.screen`."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np

from sfxjax.crop import CROP
from sfxjax.data.frames import ReadOptions, pixel_type
from sfxjax.data.inputs import find_files
from sfxjax.data.read import FrameReader
from sfxjax.data.workers import Batch
from sfxjax.mapping import on_cpu
from sfxjax.screen.found_spots import CountedFrame
from sfxjax.screen.lists import write_lists
from sfxjax.screen.options import ScreenOptions
from sfxjax.screen.pipeline import Screening
from sfxjax.screen.prepared_frames import Wanted, prepared_frames
from sfxjax.screen.sources import Sources
from sfxjax.screen.spots import counted_frames, reading_processes
from sfxjax.simulate.write import simulated_data
from sfxjax.spots.day_one import find_spots
from sfxjax.spots.definition import MIN_SNR, MIN_SPOTS

from .frame_stages import decision_operations
from .screening_stages import ONE_BY_ONE, check_screener
from .stages import DETECTOR, PAPER_2D, Setting, Stage, Work, WrongAnswer, compare

SCREENED_SET = "LO19"
LEAST_ROUNDS = 3
# Batches kept in memory for computing without reading.
KEPT = 4
# Whole frames of the file whose scores are compared.
FRAMES_COMPARED = 6


def file_to_lists(setting: Setting) -> Work:
    """Screen a file of compressed frames; in turns with it, read without computing, and compute without reading.

    All three are in this process, compiled, with the reader processes up and the file in the system's cache.
    """
    count = setting.frames_in_file or (64 if setting.quick else 256 if setting.on_cpu else 1000)
    folder = simulated_data([SCREENED_SET], count, quiet=True) / SCREENED_SET
    name, file = _compressed_copy(
        next(path for path in sorted(folder.glob("*.h5")) if path.name != "truth.h5"),
        Path(tempfile.mkdtemp(dir=setting.folder)) / "run.h5",
    )
    times: dict[str, list[float]] = defaultdict(list)
    used: dict[str, list[float]] = defaultdict(list)

    def measure(seconds: float) -> tuple[list[float], list[float]]:
        with _screening(setting, file) as screening:
            check_screener(screening.screener, setting)
            kept = _read_batches(screening)[:KEPT]
            _compute(screening, kept)
            _compare_with_memory(screening, kept)
        works: list[tuple[str, Callable[[Screening], object]]] = [
            ("reading", _read_batches),
            ("computing", lambda screening: _compute(screening, kept)),
            ("both", _screen),
        ]
        for turn in itertools.count():
            for name, work in works if turn % 2 else reversed(works):
                with _screening(setting, file) as screening:
                    began, before = time.perf_counter(), time.process_time()
                    work(screening)
                    times[name].append(time.perf_counter() - began)
                    used[name].append(time.process_time() - before)
            if turn + 1 >= LEAST_ROUNDS and sum(times["both"]) > seconds:
                return times["both"], used["both"]
        raise AssertionError

    def after(median: float) -> dict[str, float]:
        reading, computing = (count / float(np.median(times[name])) for name in ("reading", "computing"))
        return {
            "reading alone, frames/s": round(reading, 1),
            "computing alone, frames/s": round(computing, 1),
            "share of the slower": round(median / min(reading, computing), 3),
        }

    return Work(
        call=None,
        batches=(),
        frames=count,
        shape=f"{CROP}x{CROP} int16, {name} in HDF5",
        moved=2 * CROP**2,
        over_bus=2 * CROP**2,
        operations=decision_operations(setting.model_2d),
        published=PAPER_2D,
        timed=measure,
        after=after,
    )


@contextmanager
def _screening(setting: Setting, file: Path) -> Iterator[Screening]:
    """Open a screening in a folder of its own, its readers started."""
    with TemporaryDirectory() as out:
        options = ScreenOptions((str(file),), Path(out), batch_size=setting.batch)
        with Screening(setting.model_2d, options) as screening:
            screening.open()
            screening.readers.forget()
            yield screening


def _screen(screening: Screening) -> None:
    screening.score()
    write_lists(screening.options.out, screening.run, 0.5)


def _read_batches(screening: Screening) -> list[Batch]:
    """Read all frames; returns the first batches."""
    size = screening.screener.batch_size
    frames = list(screening.run.frames())
    plan = [frames[begin : begin + size] for begin in range(0, len(frames), size)]
    dtype = pixel_type([source.dtype for source in screening.run.stacks])
    kept: list[Batch] = []
    for batch in screening.readers.batches(plan, size, dtype):
        if len(kept) < KEPT:
            kept.append(batch)
    return kept


def _compute(screening: Screening, kept: list[Batch]) -> None:
    """Score as many batches as the file has, from memory."""
    rounds = -(-len(screening.run) // screening.screener.batch_size)
    batches = (screening.crop_batch(kept[number % len(kept)]) for number in range(rounds))
    for _ in screening.screener.score_batches(batches):
        pass


def _compare_with_memory(screening: Screening, kept: list[Batch]) -> None:
    """Compare what the screening writes down of the first batch with its scores from memory."""
    screening.score()
    found = screening.run.scores()
    if np.isnan(found).any():
        raise WrongAnswer(f"{int(np.isnan(found).sum())} frames of the file could not be scored")
    expected = next(screening.screener.score_batches([screening.crop_batch(kept[0])]))[1].scores
    compare("scores in the lists", found[: len(expected)], expected, atol=1e-6)


def file_to_spots(compressed: bool, setting: Setting) -> Work:
    """Count the spots of whole frames in a file, as `sfxjax screen` does without a model."""
    frames = [frame for batch in setting.detector_frames for frame in batch[:ONE_BY_ONE]]
    count = 32 if setting.quick else 120 if setting.on_cpu else 720
    processes = reading_processes(None)
    folder = Path(tempfile.mkdtemp(dir=setting.folder))
    name, codec = _codec() if compressed else ("uncompressed", {})
    with h5py.File(folder / "run.h5", "w") as run:
        shape = DETECTOR, DETECTOR
        stored = run.create_dataset(
            "/entry/data/data", (count, *shape), frames[0].dtype, chunks=(1, *shape), **codec
        )
        for number in range(min(count, len(frames))):
            stored[number] = frames[number]
        for number in range(len(frames), count):
            stored.id.write_direct_chunk(
                (number, 0, 0), stored.id.read_direct_chunk((number % len(frames), 0, 0))[1]
            )
    inputs = find_files([str(folder / "run.h5")])
    alone = [find_spots(frame).score for frame in frames[:FRAMES_COMPARED]]
    times: list[float] = []
    used: list[float] = []
    reading: list[float] = []

    def measure(seconds: float) -> tuple[list[float], list[float]]:
        with FrameReader(ReadOptions(panels_apart=True)) as reader:
            sources = Sources(reader)
            sources.open(inputs)
            found = [0.0 if one.spots is None else one.spots.score for one in _counted(sources, processes)]
            compare("scores of a file's frames", np.array(found[: len(alone)]), np.array(alone), atol=0.01)
            while len(times) < LEAST_ROUNDS or sum(times) < seconds:
                began, before = time.perf_counter(), time.process_time()
                for _ in _counted(sources, processes):
                    pass
                times.append(time.perf_counter() - began)
                used.append(time.process_time() - before)
                began = time.perf_counter()
                _prepare_alone(sources, processes)
                reading.append(time.perf_counter() - began)
        return times, used

    return Work(
        call=None,
        batches=(),
        frames=count,
        shape=f"{DETECTOR}x{DETECTOR} uint16, {name} in HDF5",
        moved=2 * DETECTOR**2,
        over_bus=2 * DETECTOR**2,
        timed=measure,
        after=lambda median: {
            "processes that read": processes,
            "reading and preparing alone, frames/s": round(count / float(np.median(reading)), 1),
        },
    )


def _compressed_copy(file: Path, to: Path) -> tuple[str, Path]:
    """Copy all frames of a simulated set's file, each a compressed chunk; returns the name of the compression, and where."""
    name, codec = _codec()
    with FrameReader(ReadOptions()) as reader:
        stacks = reader.stacks(str(file))
        frames = [reader.original(stack, number) for stack in stacks for number in range(stack.frames)]
    with h5py.File(to, "w") as run:
        shape = frames[0].shape
        stored = run.create_dataset(
            "/entry/data/data", (len(frames), *shape), frames[0].dtype, chunks=(1, *shape), **codec
        )
        for number, frame in enumerate(frames):
            stored[number] = frame
    return name, to


def _codec() -> tuple[str, dict[str, Any]]:
    try:
        import hdf5plugin
    except ImportError:
        return "LZF", {"compression": "lzf", "shuffle": True}
    return "bitshuffle-LZ4", dict(hdf5plugin.Bitshuffle())


def _counted(sources: Sources, processes: int) -> Iterator[CountedFrame]:
    return counted_frames(sources, MIN_SNR, MIN_SPOTS, processes=processes)


def _prepare_alone(sources: Sources, processes: int) -> None:
    plan = (Wanted(stack, number) for stack in sources.run.stacks for number in range(stack.frames))
    with prepared_frames(sources, processes=processes, as_stored=lambda: not on_cpu()) as prepared:
        for frame in prepared(plan):
            frame.release()


STAGES = [
    Stage("file-2d", "file", file_to_lists, quick=False),
    Stage("file-day-one", "file", partial(file_to_spots, True)),
    Stage("file-day-one-uncompressed", "file", partial(file_to_spots, False), quick=False),
]
