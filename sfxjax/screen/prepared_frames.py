"""Frames of a run made ready to be looked at for spots, in order: in processes that work ahead of what is taken, or here.

A file can be damaged so that the HDF5 library itself crashes or never returns. That then ends a process, not the screening: the
frame at fault is named, and those behind it are asked for again.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from sfxjax.data.frames import FrameStack, ReadOptions
from sfxjax.data.read import FrameReader, WholeFrame
from sfxjax.data.reader_process import ReaderGone, ReaderProcess
from sfxjax.devices import free_memory
from sfxjax.errors import UserError
from sfxjax.pixels.missing_values import type_limit
from sfxjax.spots.frame_pixels import ALIGNMENT, FramePixels, shape_with_margin
from sfxjax.spots.prepare import PreparedFrame, prepare_frame, separator, settle_frame
from sfxjax.spots.stored_type import is_integer_of_jax, stored_type

if TYPE_CHECKING:
    from sfxjax.screen.sources import Sources
    from sfxjax.spots.fixed_pattern import FixedPattern

# Bytes that all processes share with this one at most, and of the memory that is free, unless the least that one needs is more.
MOST_SHARED, SHARE_OF_FREE = 4 * 2**30, 0.25
# Of the memory that a process shares: a frame that it prepares, and one that it has prepared.
_OWN_PLACES = 2

Other = TypeVar("Other")


class Wanted(NamedTuple):
    """A frame to be read: its stack and its number there."""

    stack: FrameStack
    number: int


@dataclass(frozen=True)
class ReadFrame:
    """A frame that was read and made ready, or why it was not.

    Attributes:
        stack: that holds it.
        number: in the stack.
        prepared: in memory that is used again after `release`; None where it cannot be judged, or is `stored`.
        reason: why it cannot.
        limit: value from which on its pixels were left out; None: that of its type, or it was not read.
        release: is to be called once the frame is no longer needed; it may be, in any thread.
        stored: the frame for an accelerator to make ready, see `sfxjax.spots.prepare.settle_frame`, in such memory; or None.
    """

    stack: FrameStack
    number: int
    prepared: PreparedFrame | None
    reason: str = ""
    limit: float | None = None
    release: Callable[[], object] = lambda: None
    stored: np.ndarray | None = None


@dataclass
class Preparation:
    """What is done with each frame once it is read.

    Attributes:
        bad: by shape of the stored frames where pixels were found bad, bool, True = bad.
        pattern: taken out; None: nothing is.
        stack: that a process was asked for last.
    """

    bad: dict[tuple[int, ...], np.ndarray]
    pattern: FixedPattern | None = None
    stack: FrameStack | None = None

    def of(
        self, stack: FrameStack, frame: WholeFrame, into: np.ndarray | None = None, *, as_stored: bool = False
    ) -> PreparedFrame | np.ndarray:
        """Make a frame ready.

        Args:
            stack: that holds it.
            frame: as it was read.
            into: uint8, memory for its values; None: new memory.
            as_stored: leave that to an accelerator, if the frame is one that it may be able to make ready.

        Returns:
            The frame made ready; or what `settle_frame` gives.

        Raises:
            UserError: it cannot be judged.
        """
        pixels, mask, limit = frame.without(self.bad.get(stack.raw_shape))
        if self.pattern is not None:
            pixels, mask, limit = self.pattern.taken_out(pixels, mask, limit)
        as_stored = as_stored and self.pattern is None and is_integer_of_jax(pixels.dtype)
        make = settle_frame if as_stored else prepare_frame
        if into is None:
            return make(pixels, mask, limit)
        shape = pixels.shape if as_stored else shape_with_margin(pixels.shape, separator(pixels.shape))
        dtype = stored_type(pixels.dtype)
        size = math.prod(shape) * dtype.itemsize
        if size > into.size:
            raise UserError("the image has changed its shape or its type")
        return make(pixels, mask, limit, into[:size].view(dtype).reshape(shape))

    def __call__(self, reader: FrameReader, request: dict[str, Any], memory: np.ndarray) -> tuple[Any, bytes]:
        """Answer a request in a process that reads: read a frame, and make it ready in a part of the memory."""
        if "stack" in request:
            self.stack = FrameStack.from_json(request["stack"])
        assert self.stack is not None
        whole = reader.whole(self.stack, request["number"])
        limit = _limit_of(whole)
        try:
            place = memory[request["begin"] : request["end"]]
            prepared = self.of(self.stack, whole, place, as_stored=request["as_stored"])
        except UserError as error:
            return {"reason": str(error), "limit": limit}, b""
        if isinstance(prepared, np.ndarray):
            return {"limit": limit, "stored": (prepared.shape, prepared.dtype.str), "rest": None}, b""
        pixels = prepared.pixels
        value = {
            "limit": limit,
            "factor": prepared.factor,
            "shape": prepared.shape,
            "stored": (pixels.values.shape, pixels.values.dtype.str),
            "invalid": pixels.invalid.tolist(),
            "rest": pixels[2:],
        }
        return value, b""


@contextmanager
def prepared_frames(
    sources: Sources,
    pattern: FixedPattern | None = None,
    processes: int = 0,
    kept: int = 1,
    as_stored: Callable[[], bool] = lambda: False,
) -> Iterator[Callable[[Iterable[Wanted | Other]], Iterator[ReadFrame | Other]]]:
    """Start to make frames ready.

    Args:
        sources: read them.
        pattern: taken out of every frame; None: nothing is.
        processes: that read; 0: this one does.
        kept: frames that are not released while others are asked for.
        as_stored: asked before each frame: whether an accelerator is to make it ready.

    Yields:
        What reads frames: it takes an iterator and gives, in its order, a `ReadFrame` for each `Wanted`, and all else as it is.
    """
    preparation = Preparation(sources.bad, pattern)
    if not processes:

        def read_here(plan: Iterable[Wanted | Other]) -> Iterator[ReadFrame | Other]:
            for item in plan:
                if isinstance(item, Wanted):
                    yield _read_here(sources.reader, preparation, item, as_stored())
                else:
                    yield item

        yield read_here
        return
    size = max((_place_size(stack, pattern is not None) for stack in sources.run.readable()), default=0)
    free = free_memory()
    most = MOST_SHARED if free is None else min(MOST_SHARED, int(SHARE_OF_FREE * free))
    processes = max(1, min(processes, (most // max(size, 1) - kept) // _OWN_PLACES))
    places = -(-kept // processes) + _OWN_PLACES
    readers = [
        _PreparingReader(sources.reader.options, preparation, size, places, as_stored)
        for _ in range(processes)
    ]
    try:
        yield lambda plan: _ahead(readers, plan)
    finally:
        for reader in readers:
            reader.hang_up()
        for reader in readers:
            reader.stop()


def _read_here(reader: FrameReader, preparation: Preparation, item: Wanted, as_stored: bool) -> ReadFrame:
    limit = None
    try:
        whole = reader.whole(*item)
        limit = _limit_of(whole)
        ready = preparation.of(item.stack, whole, as_stored=as_stored)
        if isinstance(ready, np.ndarray):
            return ReadFrame(*item, None, limit=limit, stored=ready)
        return ReadFrame(*item, ready, limit=limit)
    except (UserError, OSError, RuntimeError, ValueError) as error:
        return ReadFrame(*item, None, " ".join(str(error).split()), limit)


def _limit_of(frame: WholeFrame) -> float | None:
    return frame.limit if frame.limit < type_limit(frame.pixels.dtype) else None


def _place_size(stack: FrameStack, as_floats: bool) -> int:
    """Return how many bytes a prepared frame takes, a multiple of `ALIGNMENT`."""
    itemsize = 4 if as_floats else stored_type(np.dtype(stack.dtype)).itemsize
    shape = shape_with_margin(stack.raw_shape, separator(stack.raw_shape))
    return -(-math.prod(shape) * itemsize // ALIGNMENT) * ALIGNMENT


class _PreparingReader(ReaderProcess):
    """A process that makes frames ready, each in a place of the memory, which it does not touch again before it is released."""

    def __init__(
        self,
        options: ReadOptions,
        preparation: Preparation,
        size: int,
        places: int,
        as_stored: Callable[[], bool],
    ) -> None:
        super().__init__(partial(FrameReader, options), preparation, size * places + ALIGNMENT)
        # JAX reads memory where it is, on a CPU.
        first = -self.memory.ctypes.data % ALIGNMENT
        self.free: SimpleQueue[tuple[int, int]] = SimpleQueue()
        for place in range(places):
            self.free.put((first + place * size, first + (place + 1) * size))
        self._asked: deque[tuple[Wanted, tuple[int, int]]] = deque()
        self._stack: FrameStack | None = None
        self._as_stored = as_stored

    def ask(self, item: Wanted, place: tuple[int, int]) -> None:
        """Ask for a frame."""
        self._asked.append((item, place))
        # A process that has ended is noticed when its answer is waited for.
        with contextlib.suppress(ReaderGone):
            self._send_request(item, place)

    def take(self) -> ReadFrame:
        """Wait for the frame that was asked for first."""
        reply = self._first_reply()
        item, place = self._asked.popleft()
        value = reply.get("value", {})
        reason = reply.get("error", value.get("reason", ""))
        if reason:
            self.free.put(place)
            return ReadFrame(*item, None, " ".join(reason.split()), value.get("limit"))
        shape, dtype = value["stored"]
        values = self.memory[slice(*place)][: math.prod(shape) * np.dtype(dtype).itemsize]
        values = values.view(dtype).reshape(shape)
        prepared = None
        if value["rest"] is not None:
            pixels = FramePixels(values, np.array(value["invalid"], np.float32), *value["rest"])
            prepared = PreparedFrame(pixels, value["factor"], tuple(value["shape"]))
        return ReadFrame(
            *item,
            prepared,
            limit=value["limit"],
            release=lambda: self.free.put(place),
            stored=values if prepared is None else None,
        )

    def _first_reply(self) -> dict[str, Any]:
        reply: dict[str, Any] = {}
        # Twice, for another program may have ended the process, such as a system that is short of memory.
        for last in (False, True):
            try:
                return self.receive()
            except ReaderGone as error:
                reply = {"error": f"reading it {error}"}
                given_up = last or not error.by_itself
                self._stack = None
                # It works on one request after the other, so that the first that waits is at fault.
                with contextlib.suppress(ReaderGone):
                    for again in list(self._asked)[int(given_up) :]:
                        self._send_request(*again)
                if given_up:
                    break
        return reply

    def _send_request(self, item: Wanted, place: tuple[int, int]) -> None:
        request: dict[str, Any] = {
            "number": item.number,
            "begin": place[0],
            "end": place[1],
            "as_stored": self._as_stored(),
        }
        # The words of a stack may be as long as it has frames.
        if item.stack is not self._stack:
            self._stack = item.stack
            request["stack"] = item.stack.to_json()
        self.send(request)


def _ahead(readers: list[_PreparingReader], plan: Iterable[Wanted | Other]) -> Iterator[ReadFrame | Other]:
    """Ask the processes in turn, each for two frames at a time, and give what they answer in order."""
    asked: deque[_PreparingReader | tuple[Other]] = deque()
    items = iter(plan)
    waiting: Wanted | None = None
    count, most = 0, _OWN_PLACES * len(readers)
    ended = False
    while True:
        while not ended and len(asked) < most:
            if waiting is None:
                try:
                    item = next(items)
                except StopIteration:
                    ended = True
                    break
                if not isinstance(item, Wanted):
                    asked.append((item,))
                    continue
                waiting = item
            reader = readers[count % len(readers)]
            try:
                # Only while nothing is asked for may a place be waited for: those that are held are released elsewhere.
                place = reader.free.get(block=not asked)
            except Empty:
                break
            reader.ask(waiting, place)
            asked.append(reader)
            waiting, count = None, count + 1
        if not asked:
            return
        first = asked.popleft()
        yield first.take() if isinstance(first, _PreparingReader) else first[0]
