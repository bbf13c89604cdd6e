"""Processes that read frames for the screening, so that reading overlaps with computing.

A file can be damaged so that the HDF5 library itself crashes or never returns. That then ends a reader, not
the screening: the reader is started anew, its frames are asked for one by one, and those at fault are named.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sfxjax.crop import CROP
from sfxjax.data.file_states import State, states_from_json
from sfxjax.data.frames import FrameStack, ReadOptions
from sfxjax.data.read import FrameReader
from sfxjax.data.reader_process import TIMEOUT, ReaderGone, ReaderProcess
from sfxjax.data.serving import SLOT_BYTES, SLOTS, UNIT, served_crops, slot_arrays
from sfxjax.devices import memory_for_device

Frame = tuple[FrameStack, int]


@dataclass(frozen=True)
class Batch:
    """Frames read together.

    Attributes:
        frames: (stack, number) of each.
        crops: (size, 724, 724), zeros after the last frame and where a frame could not be read.
        masks: bool (size, 724, 724), the frames' own masks, or None if no frame has one.
        reasons: why a frame could not be read, empty where it could.
        limits: of each frame the value from which its pixels tell nothing.
    """

    frames: list[Frame]
    crops: np.ndarray
    masks: np.ndarray | None
    reasons: list[str]
    limits: list[float]


class Readers:
    """A few reader processes. A context manager.

    Args:
        options: what the user says about the files.
        count: how many processes.
        timeout: seconds after which a silent reader is given up.
    """

    def __init__(self, options: ReadOptions, count: int = 1, timeout: float = TIMEOUT) -> None:
        self._readers = [_CropReader(options, timeout) for _ in range(max(count, 1))]

    def __enter__(self) -> Readers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes, all at once."""
        for reader in self._readers:
            reader.hang_up()
        for reader in self._readers:
            reader.stop()

    def stacks(self, name: str) -> list[FrameStack]:
        """Describe the stacks of frames in a file; see `FrameReader.stacks`.

        Raises:
            UserError: as there, or the file ends or stops the reader.
        """
        found, _ = self._readers[0].call({"do": "stacks", "file": name}, name)
        return [FrameStack.from_json(fields) for fields in found]

    def states(self, name: str) -> list[State]:
        """Return what tells whether a file was replaced, see `sfxjax.data.file_states`.

        Raises:
            UserError: the file ends or stops the reader.
        """
        found, _ = self._readers[0].call({"do": "states", "file": name}, name)
        return states_from_json(found)

    def static_mask(self, stack: FrameStack) -> tuple[np.ndarray | None, list[str]]:
        """Return the good pixels that all frames of a stack share, see `FrameReader.static_mask`, and lines about them.

        Raises:
            UserError: as there.
        """
        request = {"do": "mask", "stack": stack.to_json()}
        lines, content = self._readers[0].call(request, stack.file)
        return np.frombuffer(content, bool).reshape(CROP, CROP) if content else None, lines

    def forget(self) -> None:
        """Have every reader close its files, so that files that have grown are opened anew."""
        request = {"do": "forget"}
        # All are asked before one is waited for: a reader that is not up yet takes its time to start.
        for reader in self._readers:
            with contextlib.suppress(ReaderGone):
                reader.send(request)
        for reader in self._readers:
            reader.answer("the files")

    def write_hits(
        self, path: Path, frames: list[Frame], indices: list[int], scores: list[float]
    ) -> list[str]:
        """Write frames to a CXI file; see `sfxjax.data.hits_file.write_hits`. Returns what was left out.

        Raises:
            UserError: as there, or the reader ended.
        """
        request: dict[str, Any] = {"do": "write_hits", "path": str(path), "frames": _grouped(frames)}
        request |= {"indices": indices, "scores": scores}
        answer, _ = self._readers[0].call(request, str(path), timeout=24 * 3600)
        return list(answer["left_out"])

    def batches(self, plan: Iterable[list[Frame]], size: int, dtype: np.dtype) -> Iterator[Batch]:
        """Read batches in order, ahead of what is taken.

        Args:
            plan: the frames of each batch, at most `size`.
            size: length of the arrays, more than the frames of the last batch.
            dtype: of the crops, at most 32 bits.
        """
        waiting: deque[tuple[list[Frame], deque[tuple[int, int, list[Frame]]]]] = deque()
        plans = iter(plan)
        count = 0
        while True:
            while len(waiting) < 2 or sum(len(units) for _, units in waiting) < len(self._readers) * SLOTS:
                frames = next(plans, None)
                if frames is None:
                    break
                units: deque[tuple[int, int, list[Frame]]] = deque()
                for begin in range(0, len(frames), UNIT):
                    units.append((count, begin, frames[begin : begin + UNIT]))
                    count += 1
                waiting.append((frames, units))
            if not waiting:
                return
            yield self._collect(*waiting.popleft(), waiting, size, dtype)

    def _collect(
        self,
        frames: list[Frame],
        units: deque[tuple[int, int, list[Frame]]],
        later: Iterable[tuple[list[Frame], deque[tuple[int, int, list[Frame]]]]],
        size: int,
        dtype: np.dtype,
    ) -> Batch:
        crops = memory_for_device((size, CROP, CROP), dtype)
        crops[len(frames) :] = 0
        masks: np.ndarray | None = None
        reasons: list[str] = []
        limits: list[float] = []
        upcoming = [*units, *(unit for _, more in later for unit in more)]
        for position, (number, begin, wanted) in enumerate(units):
            # Keep every reader busy: ask for the units that follow before waiting for this one.
            for ahead, _, frames_ahead in upcoming[position : position + len(self._readers) * SLOTS]:
                self._readers[ahead % len(self._readers)].ask(ahead, frames_ahead, dtype)
            reader = self._readers[number % len(self._readers)]
            pixels, good, said, least = reader.take(number, wanted, dtype)
            crops[begin : begin + len(wanted)] = pixels
            if good is not None:
                if masks is None:
                    masks = np.ones((size, CROP, CROP), bool)
                masks[begin : begin + len(wanted)] = good
            reasons += said
            limits += least
        return Batch(frames, crops, masks, reasons, limits)


class _CropReader(ReaderProcess):
    """A reader of crops, which it puts into slots of the memory."""

    def __init__(self, options: ReadOptions, timeout: float) -> None:
        super().__init__(partial(FrameReader, options), served_crops, SLOTS * SLOT_BYTES, timeout)
        self._asked: dict[int, tuple[list[Frame], np.dtype]] = {}
        self._slots: dict[int, int] = {}

    def ask(self, number: int, frames: list[Frame], dtype: np.dtype) -> None:
        """Ask for a unit unless it is asked for already, or no room is left."""
        if number in self._asked or len(self._asked) >= SLOTS:
            return
        self._asked[number] = (frames, dtype)
        free = set(range(SLOTS)) - set(self._slots.values())
        self._slots[number] = min(free)
        # A dead reader is noticed when its answer is waited for.
        with contextlib.suppress(ReaderGone):
            self.send(_read_request(frames, dtype, self._slots[number]))

    def take(
        self, number: int, frames: list[Frame], dtype: np.dtype
    ) -> tuple[np.ndarray, np.ndarray | None, list[str], list[float]]:
        """Wait for a unit: crops, masks or None, reasons, limits. The arrays are valid until the next `ask`."""
        if number not in self._asked:
            self.ask(number, frames, dtype)
        slot = self._slots[number]
        try:
            reasons, masked, limits = self._reply(len(frames))
        except ReaderGone:
            reasons, masked, limits = self._one_by_one(frames, dtype, slot)
            del self._asked[number], self._slots[number]
            with contextlib.suppress(ReaderGone):
                for later, (more, kind) in self._asked.items():
                    self.send(_read_request(more, kind, self._slots[later]))
        else:
            del self._asked[number], self._slots[number]
        crops, masks = slot_arrays(self.memory, slot, dtype)
        return crops[: len(frames)], masks[: len(frames)] if masked else None, reasons, limits

    def _one_by_one(
        self, frames: list[Frame], dtype: np.dtype, slot: int
    ) -> tuple[list[str], bool, list[float]]:
        crops, masks = slot_arrays(self.memory, slot, dtype)
        kept: list[tuple[np.ndarray, np.ndarray]] = []
        reasons: list[str] = []
        limits: list[float] = []
        for frame in frames:
            try:
                with contextlib.suppress(ReaderGone):
                    self.send(_read_request([frame], dtype, slot))
                said, masked, least = self._reply(1)
                reasons += said
                limits += least
                good = masks[0].copy() if masked else np.ones((CROP, CROP), bool)
                kept.append((crops[0].copy(), good))
            except ReaderGone as error:
                reasons.append(f"reading it {error}")
                limits.append(math.inf)
                kept.append((np.zeros((CROP, CROP), dtype), np.ones((CROP, CROP), bool)))
        for place, (crop, good) in enumerate(kept):
            crops[place], masks[place] = crop, good
        return reasons, True, limits

    def _reply(self, count: int) -> tuple[list[str], bool, list[float]]:
        reply = self.receive()
        if "error" in reply:
            return [str(reply["error"])] * count, False, [math.inf] * count
        value = reply["value"]
        return list(value["reasons"]), bool(value["masked"]), [float(x) for x in value["limits"]]


def _read_request(frames: list[Frame], dtype: np.dtype, slot: int) -> dict[str, Any]:
    return {"do": "read", "frames": _grouped(frames), "dtype": dtype.str, "slot": slot}


def _grouped(frames: list[Frame]) -> list[tuple[dict[str, Any], list[int]]]:
    grouped: list[tuple[FrameStack, list[int]]] = []
    for stack, number in frames:
        if not grouped or grouped[-1][0] is not stack:
            grouped.append((stack, []))
        grouped[-1][1].append(number)
    return [(stack.to_json(), numbers) for stack, numbers in grouped]


def default_readers() -> int:
    """Return how many readers suit this machine: the processors less one, between 1 and 16."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
    return max(1, min(16, count - 1))
