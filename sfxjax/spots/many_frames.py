"""The spots of many frames: as an accelerator wants them, all of a batch at once, or each in a thread of its own on a processor.

An accelerator makes ordinary frames ready by itself, see `sfxjax.spots.prepare_on_accelerator`. Batches are copied to memory
that it copies from by itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.data.batches import Item, in_background, overlapped
from sfxjax.devices import HostBuffer, HostBuffers
from sfxjax.errors import UserError
from sfxjax.mapping import cores, on_cpu, thread_pool
from sfxjax.pixels.missing_values import type_limit
from sfxjax.spots.day_one import (
    MIN_SNR,
    MIN_SPOTS,
    FrameSpots,
    Weights,
    check_min_spots,
    finish,
    judge,
    load_weights,
    spots_of,
)
from sfxjax.spots.frame_pixels import FramePixels
from sfxjax.spots.prepare import PreparedFrame, check_mask, prepare_frame, separator
from sfxjax.spots.prepare_on_accelerator import make_ready
from sfxjax.spots.stored_type import is_integer_of_jax, never

# Of an accelerator's batch: 64 million pixels take some 5 GB there.
MOST_PIXELS_AT_ONCE = 2**26
MOST_FRAMES_AT_ONCE = 32
# Where it has so many bytes, several batches of twice as many pixels leave room to spare.
MEMORY_FOR_TWICE = 60e9


def frames_at_once(shape: tuple[int, ...]) -> int:
    """Return how many frames of a shape `BatchFinder` should be given at a time: one on a processor."""
    if on_cpu():
        return 1
    most = MOST_PIXELS_AT_ONCE * (1 + _has_large_memory())
    return min(max(most // max(int(np.prod(shape)), 1), 1), MOST_FRAMES_AT_ONCE)


def memory_at_once(shape: tuple[int, ...], dtype: np.dtype | type) -> HostBuffer:
    """Return memory for the frames that `BatchFinder` is given at a time; an accelerator copies from it by itself.

    Args:
        shape: of a frame.
        dtype: of the frames.
    """
    return _buffers().take((frames_at_once(shape), *shape), np.dtype(dtype))


Frames = Sequence[np.ndarray | PreparedFrame] | Sequence[np.ndarray] | Sequence[PreparedFrame] | HostBuffer


class SentFrames(NamedTuple):
    """A batch on its way to an accelerator: the frames, the program and its arguments there, and the host's memory that is used.

    Of a processor the frames alone.
    """

    frames: Sequence[Any]
    program: Callable[..., Any] | None = None
    arguments: tuple[Any, ...] = ()
    memory: HostBuffer | None = None
    results: Any = None


class FoundBatch(NamedTuple):
    """What a batch shows.

    Attributes:
        each: of each frame its spots, or why it cannot be judged.
        others: number of frames that an accelerator could not make ready by itself, which takes longer.
    """

    each: list[FrameSpots | UserError]
    others: int

    def spots(self) -> list[FrameSpots]:
        """Return the spots of each frame.

        Raises:
            UserError: one cannot be judged.
        """
        for found in self.each:
            if isinstance(found, UserError):
                raise found
        return self.each  # type: ignore[return-value]


class BatchFinder:
    """Finds the spots of batches of frames, as `sfxjax.spots.day_one.find_spots` does of each.

    A batch is a list of frames made ready, of one shape and stored type; or a list of frames as they are stored, of one shape,
    (ss, fs) or (panel, ss, fs), and one type; or `memory_at_once` full of those, which is taken back. An accelerator is given at
    most `frames_at_once`.

    Args:
        mask: of frames as they are stored, bool, True where a pixel counts; or None.
        settled: whether what tells nothing in those by its value holds what `sfxjax.spots.stored_type.never` gives.
        weights: of the network; by default those shipped.
        min_snr: signal-to-noise ratio from which a spot is visible.
        min_spots: visible spots from which a frame is a hit, at most 24.

    Raises:
        UserError: `min_spots` makes no sense.
    """

    def __init__(
        self,
        mask: np.ndarray | None = None,
        *,
        settled: bool = False,
        weights: Weights | None = None,
        min_snr: float = MIN_SNR,
        min_spots: int = MIN_SPOTS,
    ) -> None:
        check_min_spots(min_spots)
        self._mask, self._settled = mask, settled
        self._weights = load_weights() if weights is None else weights
        self._min_snr, self._min_spots = min_snr, min_spots
        self._there = None if mask is None or on_cpu() else jax.device_put(mask)

    def each(
        self, items: Iterable[Item], batch_of: Callable[[Item], Frames]
    ) -> Iterator[tuple[Item, FoundBatch]]:
        """Find the spots of batch after batch: each is sent to an accelerator while it works on those before.

        On a processor several are worked on at a time, in a thread each.

        Args:
            items: what `batch_of` makes a batch of, which may be empty.
            batch_of: called once with each item.

        Yields:
            Each item, with what its batch shows.
        """
        if on_cpu():
            pool = thread_pool(cores())

            def submit(item: Item) -> Future[FoundBatch]:
                return pool.submit(self.find, batch_of(item))

            yield from overlapped(items, submit, Future.result, 2 * cores())
            return
        sent = in_background((item, self.send(batch_of(item))) for item in items)
        for (item, _), found in overlapped(sent, lambda pair: self.start(pair[1]), self.finish, 1, sent=1):
            yield item, found

    def find(self, batch: Frames) -> FoundBatch:
        """Find the spots of one batch; waits for them.

        Raises:
            UserError: the mask does not fit.
        """
        return self.finish(self.start(self.send(batch)))

    def send(self, batch: Frames) -> SentFrames:
        """Send a batch to an accelerator, without waiting.

        Raises:
            UserError: the mask does not fit.
        """
        memory = batch if isinstance(batch, HostBuffer) else None
        frames: Any = batch.array if isinstance(batch, HostBuffer) else batch
        if not len(frames):
            return SentFrames(frames)
        first = frames[0]
        count = frames_at_once(first.shape)
        program: Callable[..., Any] = _judge_many
        arguments: tuple[Any, ...]
        if isinstance(first, PreparedFrame):
            if on_cpu():
                return SentFrames(frames)
            arguments = (_stacked([frame.pixels for frame in frames], count)[1:],)
            values = [frame.pixels.values for frame in frames]
        else:
            for frame in frames:
                check_mask(frame, self._mask)
            if on_cpu() or not is_integer_of_jax(first.dtype):
                return SentFrames(frames, memory=memory)
            program = partial(judge_stored, between=separator(first.shape), settled=self._settled)
            arguments = (self._there,)
            values = list(frames)
        if memory is None:
            memory = _buffers().take((count, *values[0].shape), values[0].dtype.newbyteorder("="))
            for _ in _copying().map(np.copyto, memory.array, values):
                pass
        # Before the frames: what is sent later waits for the next batch as well.
        arguments = jax.device_put((self._weights, np.float32(self._min_snr), *arguments))
        there = memory.put(jax.sharding.SingleDeviceSharding(jax.local_devices()[0]))
        return SentFrames(frames, program, (there, *arguments), memory)

    def start(self, sent: SentFrames) -> SentFrames:
        """Have an accelerator work on a batch that `send` sent, without waiting; `finish` waits."""
        if sent.program is None:
            return sent
        return sent._replace(arguments=(), results=sent.program(*sent.arguments))

    def finish(self, started: SentFrames) -> FoundBatch:
        """Wait for a batch that `start` began, and say what it shows."""
        frames = started.frames
        found: list[Any] = [None] * len(frames)
        if started.results is not None:
            ordinary, judged = jax.device_get(started.results)
            for place in np.flatnonzero(ordinary[: len(frames)]).tolist():
                frame = frames[place]
                factor = frame.factor if isinstance(frame, PreparedFrame) else 1.0
                own = jax.tree.map(lambda part, at=place: part[at], judged)
                found[place] = finish(own, frame.shape, factor, self._min_spots)
        others = [place for place, spots in enumerate(found) if spots is None]
        ready: list[tuple[int, PreparedFrame]] = []
        for place, frame in zip(
            others,
            (map if on_cpu() else _copying().map)(self._prepare, [frames[place] for place in others]),
            strict=True,
        ):
            if isinstance(frame, UserError):
                found[place] = frame
            else:
                ready.append((place, frame))
        for group in _alike(ready):
            for (place, _), spots in zip(group, self._judge([frame for _, frame in group]), strict=True):
                found[place] = spots
        if started.memory is not None:
            _buffers().give_back(started.memory)
        return FoundBatch(found, len(others))

    def _prepare(self, frame: Any) -> PreparedFrame | UserError:
        if isinstance(frame, PreparedFrame):
            return frame
        try:
            if self._settled:
                return prepare_frame(frame, frame != never(frame.dtype), type_limit(frame.dtype))
            return prepare_frame(frame, self._mask)
        except UserError as error:
            return error

    def _judge(self, frames: list[PreparedFrame]) -> list[FrameSpots]:
        if on_cpu():
            return [spots_of(frame, self._weights, self._min_snr, self._min_spots) for frame in frames]
        return self.find(frames).spots()


@partial(jax.jit, static_argnames=("between", "settled"))
def judge_stored(
    frames: jax.Array,
    weights: Weights,
    min_snr: jax.Array | float,
    mask: jax.Array | None,
    between: int,
    settled: bool = False,
) -> tuple[jax.Array, Any]:
    """Make frames ready and judge the places that may be spots, on the device.

    Args:
        frames: (n, ss, fs) or (n, panel, ss, fs), see `sfxjax.spots.prepare_on_accelerator.make_ready`, as are the mask and the
            last two.
        weights: of `load_weights`.
        min_snr: signal-to-noise ratio from which a spot is visible.
        mask: bool of a frame's shape; or None.
        between: rows put between panels.
        settled: whether values that tell nothing are marked.

    Returns:
        Whether each frame is an ordinary one, (n,); and of those that are what `sfxjax.spots.day_one.judge` gives, with a first
        axis.
    """

    def one(frame: jax.Array) -> tuple[jax.Array, Any]:
        pixels, ordinary = make_ready(frame, mask, between, settled=settled)
        return ordinary, judge(weights, pixels, min_snr)

    return jax.vmap(one)(frames)


def _alike(frames: list[tuple[int, PreparedFrame]]) -> list[list[tuple[int, PreparedFrame]]]:
    """Group frames of one shape by their stored types, which may differ once they are in units near 1."""
    groups: dict[np.dtype, list[tuple[int, PreparedFrame]]] = defaultdict(list)
    for place, frame in frames:
        groups[frame.pixels.values.dtype].append((place, frame))
    return list(groups.values())


@cache
def _copying() -> ThreadPoolExecutor:
    # Apart from the pool that batches may be worked on in: they wait for these threads.
    return ThreadPoolExecutor(cores(), thread_name_prefix="copying")


@jax.jit
def _judge_many(
    values: jax.Array, weights: Weights, min_snr: jax.Array, others: tuple[Any, ...]
) -> tuple[jax.Array, Any]:
    pixels = FramePixels(values, *others)  # type: ignore[arg-type]
    return jnp.ones(len(values), bool), jax.vmap(judge, (None, 0, None))(weights, pixels, min_snr)


def _stacked(ready: list[FramePixels], count: int) -> FramePixels:
    """Put what is known of frames, but for their values, one behind the other, the last one repeated up to a number of them."""
    ready = ready + [ready[-1]] * (count - len(ready))
    invalid = np.full((count, max(len(pixels.invalid) for pixels in ready)), np.nan, np.float32)
    for place, pixels in enumerate(ready):
        invalid[place, : len(pixels.invalid)] = pixels.invalid
    others: Any = (np.stack(part) for part in zip(*(pixels[2:] for pixels in ready), strict=True))
    return FramePixels(ready[0].values, invalid, *others)


@cache
def _buffers() -> HostBuffers:
    return HostBuffers(jax.local_devices()[0])


@cache
def _has_large_memory() -> bool:
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 0) > MEMORY_FOR_TWICE
