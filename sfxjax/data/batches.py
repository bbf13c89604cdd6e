"""Batches of frames on the host: which of their pixels count, filled up, and handed on ahead of the one waited for."""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import numpy as np

from sfxjax.data.frames import FrameStack

# Frames read at once.
READ_BATCH = 16

# So many copied faster than half as many; more were not tried.
MOST_THREADS = 16

Item = TypeVar("Item")
Started = TypeVar("Started")
Result = TypeVar("Result")


@dataclass(frozen=True)
class CropBatch:
    """Crops to be scored together; see `sfxjax.screen.scorer.Screener.score_crops`.

    Attributes:
        crops: (n, 724, 724), on the host, not to be changed until they are scored; or a full batch on the devices, or in
            `Screener.memory`, which the screener takes back.
        mask: bool (724, 724) or (n, 724, 724), False where a pixel does not count; or None.
        limits: value from which a pixel tells nothing, one or (n,).
        negatives_invalid: whether negative pixels mean "no value", one or (n,).
        count: frames to return; None: n.
    """

    crops: Any
    mask: np.ndarray | None = None
    limits: float | np.ndarray = np.inf
    negatives_invalid: bool | np.ndarray = False
    count: int | None = None


def crop_batch(
    crops: np.ndarray,
    stacks: Sequence[FrameStack],
    shared: Sequence[np.ndarray | None],
    own: np.ndarray | None,
    masked: Sequence[bool],
    limits: Sequence[float],
) -> CropBatch:
    """Put together what decides which pixels of crops count: the same for screening and training.

    Args:
        crops: (size, 724, 724), at least as many as frames.
        stacks: of each frame.
        shared: of each frame the mask that its stack has for all frames, bool (724, 724), or None. Equal ones are one object.
        own: bool (size, 724, 724), masks of single frames, or None; it is changed.
        masked: whether each frame's stack comes with a mask.
        limits: of each frame the value from which pixels tell nothing.
    """
    mask = shared[0]
    if own is not None or any(one is not mask for one in shared):
        mask = np.ones(crops.shape, bool) if own is None else own
        for place, one in enumerate(shared):
            if one is not None:
                mask[place] &= one
    negatives = np.array(
        [has or stack.negatives_bad for has, stack in zip(masked, stacks, strict=True)], bool
    )
    return CropBatch(crops, mask, np.array(limits, np.float32), negatives, len(stacks))


def overlapped(
    items: Iterable[Item],
    start: Callable[[Item], Started],
    finish: Callable[[Started], Result],
    ahead: int,
    sent: int = 0,
) -> Iterator[tuple[Item, Result]]:
    """Start work on items ahead of the one whose result is waited for.

    Args:
        items: taken one at a time.
        start: begins the work on an item without waiting for it.
        finish: waits for its result.
        ahead: how many later items are started before an item is waited for.
        sent: how many later items are taken before the work on an item is started. An accelerator's copies wait for all work
            that was started before them: where items are on their way there, one later item has both go on at a time.

    Yields:
        Each item and its result, in order.
    """
    taken: deque[Item] = deque()
    waiting: deque[tuple[Item, Started]] = deque()
    for item in items:
        taken.append(item)
        if len(taken) > sent:
            first = taken.popleft()
            waiting.append((first, start(first)))
        if len(waiting) > ahead:
            done, started = waiting.popleft()
            yield done, finish(started)
    waiting.extend((item, start(item)) for item in taken)
    for item, started in waiting:
        yield item, finish(started)


def filled(
    frames: np.ndarray,
    size: int,
    value: float | bool = 0,
    into: np.ndarray | None = None,
    *,
    copied: bool = False,
) -> np.ndarray:
    """Return frames in one piece of memory, filled up to a number of them; copied only where it must be.

    Args:
        frames: (n, ss, fs), often a view of the middle of larger frames.
        size: how many frames to return.
        value: of the frames filled in.
        into: (size, ss, fs) of their type, to copy to; None for new memory.
        copied: whether to copy in any case.
    """
    if is_whole(frames, size) and not copied:
        return frames
    whole = np.empty((size, *frames.shape[1:]), frames.dtype) if into is None else into
    whole[len(frames) :] = value
    # One thread copies slower than a bus to an accelerator carries.
    bounds = np.linspace(0, len(frames), _thread_count() + 1).astype(int)

    def copy(begin: int, end: int) -> None:
        whole[begin:end] = frames[begin:end]

    list(_copying_threads().map(copy, bounds[:-1], bounds[1:]))
    return whole


def is_whole(frames: np.ndarray, size: int) -> bool:
    """Tell whether frames are a batch of this size as they lie in memory."""
    return len(frames) == size and frames.flags.c_contiguous


def _thread_count() -> int:
    return min(MOST_THREADS, os.cpu_count() or 1)


@cache
def _copying_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_thread_count(), thread_name_prefix="copying")


def in_background(batches: Iterable[Item]) -> Generator[Item, None, None]:
    """Take batches in a thread, one ahead, so that the next is put together while this one is scored."""
    ready: queue.Queue[Item | BaseException | None] = queue.Queue(maxsize=1)
    stop = threading.Event()

    def put(item: Item | BaseException | None) -> None:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for batch in batches:
                put(batch)
                if stop.is_set():
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item = ready.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
