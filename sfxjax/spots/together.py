"""Spots of frames that threads bring one by one, as a stream does: those that wait at the same time are judged together.

An accelerator takes nearly as long for one frame as for many. On a processor each thread judges its own.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

from sfxjax.mapping import on_cpu
from sfxjax.spots.day_one import FrameSpots, load_weights, spots_of
from sfxjax.spots.many_frames import find_spots_of, frames_at_once
from sfxjax.spots.prepare import PreparedFrame

# While one is judged, the next is copied to the accelerator.
BATCHES_UNDER_WAY = 2


class SpotFinder:
    """Finds the spots of frames; threads share it.

    Args:
        min_snr: signal-to-noise ratio from which a spot is visible.
        min_spots: visible spots from which a frame is a hit.
    """

    def __init__(self, min_snr: float, min_spots: int) -> None:
        self._min_snr, self._min_spots = min_snr, min_spots
        self._lock = Lock()
        self._waiting: list[tuple[PreparedFrame, Future[FrameSpots]]] = []
        self._under_way = 0
        self._pool = ThreadPoolExecutor(BATCHES_UNDER_WAY, thread_name_prefix="batches")

    def find(self, frame: PreparedFrame) -> FrameSpots:
        """Find the spots of a frame that is made ready; waits for them."""
        if on_cpu():
            return spots_of(frame, load_weights(), self._min_snr, self._min_spots)
        found: Future[FrameSpots] = Future()
        with self._lock:
            self._waiting.append((frame, found))
            start = self._under_way < BATCHES_UNDER_WAY
            self._under_way += start
        if start:
            self._pool.submit(self._judge_waiting)
        return found.result()

    def _judge_waiting(self) -> None:
        while batch := self._next_batch():
            try:
                spots = find_spots_of(
                    [frame for frame, _ in batch], min_snr=self._min_snr, min_spots=self._min_spots
                )
            except BaseException as error:
                for _, found in batch:
                    found.set_exception(error)
            else:
                for (_, found), own in zip(batch, spots, strict=True):
                    found.set_result(own)

    def _next_batch(self) -> list[tuple[PreparedFrame, Future[FrameSpots]]]:
        """Take the frames like the one that waits longest, as many as are judged at a time; ends the work where none waits."""
        with self._lock:
            if not self._waiting:
                self._under_way -= 1
                return []
            first = self._waiting[0][0]
            alike = [one for one in self._waiting if _kind(one[0]) == _kind(first)][
                : frames_at_once(first.shape)
            ]
            taken = {id(found) for _, found in alike}
            self._waiting = [one for one in self._waiting if id(one[1]) not in taken]
            return alike


def _kind(frame: PreparedFrame) -> tuple[object, ...]:
    return frame.shape, frame.pixels.values.dtype
