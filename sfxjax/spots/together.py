"""Spots of frames that threads bring one by one, as a stream does: those that wait at the same time are judged together.

An accelerator takes nearly as long for one frame as for many, and makes them ready by itself. On a processor each thread makes
its own frame ready, and judges it.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

import numpy as np

from sfxjax.mapping import on_cpu
from sfxjax.spots.day_one import FrameSpots, load_weights, spots_of
from sfxjax.spots.many_frames import BatchFinder, frames_at_once
from sfxjax.spots.prepare import PreparedFrame, prepare_frame, settle_frame
from sfxjax.spots.stored_type import is_integer_of_jax

# While one is judged, the next is copied to the accelerator.
BATCHES_UNDER_WAY = 2

Waiting = PreparedFrame | np.ndarray


class SpotFinder:
    """Finds the spots of frames; threads share it.

    Args:
        min_snr: signal-to-noise ratio from which a spot is visible.
        min_spots: visible spots from which a frame is a hit.
    """

    def __init__(self, min_snr: float, min_spots: int) -> None:
        self._min_snr, self._min_spots = min_snr, min_spots
        self._batches = BatchFinder(settled=True, min_snr=min_snr, min_spots=min_spots)
        self._lock = Lock()
        self._waiting: list[tuple[Waiting, Future[FrameSpots]]] = []
        self._under_way = 0
        self._pool = ThreadPoolExecutor(BATCHES_UNDER_WAY, thread_name_prefix="batches")

    def find(self, frame: np.ndarray, mask: np.ndarray | None, limit: float | None) -> FrameSpots:
        """Find the spots of a frame; waits for them.

        Args:
            frame: as for `sfxjax.spots.prepare.prepare_frame`, as are the others.
            mask: bool, True where a pixel counts; or None.
            limit: value from which pixels tell nothing; None: by the frame's own values.

        Raises:
            UserError: as `prepare_frame`.
        """
        if on_cpu():
            return spots_of(prepare_frame(frame, mask, limit), load_weights(), self._min_snr, self._min_spots)
        make = settle_frame if is_integer_of_jax(frame.dtype) else prepare_frame
        ready: Waiting = make(frame, mask, limit)
        found: Future[FrameSpots] = Future()
        with self._lock:
            self._waiting.append((ready, found))
            start = self._under_way < BATCHES_UNDER_WAY
            self._under_way += start
        if start:
            self._pool.submit(self._judge_waiting)
        return found.result()

    def _judge_waiting(self) -> None:
        while batch := self._next_batch():
            try:
                spots = self._batches.find([frame for frame, _ in batch]).each
            except BaseException as error:
                for _, found in batch:
                    found.set_exception(error)
                continue
            for (_, found), own in zip(batch, spots, strict=True):
                if isinstance(own, FrameSpots):
                    found.set_result(own)
                else:
                    found.set_exception(own)

    def _next_batch(self) -> list[tuple[Waiting, Future[FrameSpots]]]:
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


def _kind(frame: Waiting) -> tuple[object, ...]:
    values = frame.pixels.values if isinstance(frame, PreparedFrame) else frame
    return type(frame), frame.shape, values.dtype
