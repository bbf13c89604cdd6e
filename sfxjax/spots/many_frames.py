"""The spots of many frames: as an accelerator wants them, all of a batch at once, or each in a thread of its own on a processor.

An accelerator makes ordinary frames ready by itself, see `sfxjax.spots.prepare_on_accelerator`. Batches are copied to memory
that it copies from by itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import jax
import numpy as np

from sfxjax.devices import CopiesFirst, HostBuffer, HostBuffers
from sfxjax.errors import UserError
from sfxjax.mapping import cores, on_cpu
from sfxjax.pixel_values import type_limit
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
LARGE_MEMORY = 60e9


def frames_at_once(shape: tuple[int, ...]) -> int:
    """Return how many frames of a shape `find_spots_of` should be given at a time: one on a processor."""
    if on_cpu():
        return 1
    most = MOST_PIXELS_AT_ONCE * (1 + _has_large_memory())
    return min(max(most // max(int(np.prod(shape)), 1), 1), MOST_FRAMES_AT_ONCE)


def find_spots_of(
    frames: Sequence[PreparedFrame],
    *,
    weights: Weights | None = None,
    min_snr: float = MIN_SNR,
    min_spots: int = MIN_SPOTS,
) -> list[FrameSpots]:
    """Find the spots of frames of one shape and stored type, as `sfxjax.spots.day_one.find_spots` does of each.

    Args:
        frames: made ready; on an accelerator at most `frames_at_once`.
        weights: of the network; by default those shipped.
        min_snr: signal-to-noise ratio from which a spot is visible.
        min_spots: visible spots from which a frame is a hit, at most 24.

    Raises:
        UserError: as `find_spots`.
    """
    check_min_spots(min_spots)
    weights = load_weights() if weights is None else weights
    if on_cpu():
        return [spots_of(frame, weights, min_snr, min_spots) for frame in frames]
    if not frames:
        return []
    count = frames_at_once(frames[0].shape)
    parts = _stacked([frame.pixels for frame in frames], count)
    values = [frame.pixels.values for frame in frames]
    judged = _on_accelerator(values, count, _judge_many, weights, parts[1:], min_snr)
    return [
        finish(_at(judged, place), frame.shape, frame.factor, min_spots) for place, frame in enumerate(frames)
    ]


def memory_at_once(shape: tuple[int, ...], dtype: np.dtype | type) -> HostBuffer:
    """Return memory for the frames that `find_spots_of_stored` is given at a time; an accelerator copies from it by itself.

    Args:
        shape: of a frame.
        dtype: of the frames.
    """
    return _buffers().take((frames_at_once(shape), *shape), np.dtype(dtype))


def find_spots_of_stored(
    frames: Sequence[np.ndarray] | HostBuffer,
    mask: np.ndarray | None = None,
    *,
    settled: bool = False,
    weights: Weights | None = None,
    min_snr: float = MIN_SNR,
    min_spots: int = MIN_SPOTS,
) -> tuple[list[FrameSpots | UserError], int]:
    """Find the spots of frames as they are stored, as `sfxjax.spots.day_one.find_spots` does of each.

    Args:
        frames: of one shape, (ss, fs) or (panel, ss, fs), and one type; on an accelerator at most `frames_at_once`. Or
            `memory_at_once` full of them, which is taken back.
        mask: bool of that shape, True where a pixel counts; or None.
        settled: whether what tells nothing in them by its value holds what `sfxjax.spots.stored_type.never` gives.
        weights: of the network; by default those shipped.
        min_snr: signal-to-noise ratio from which a spot is visible.
        min_spots: visible spots from which a frame is a hit, at most 24.

    Returns:
        The spots of each, or why it cannot be judged; and how many frames were not made ready by an accelerator, which takes
        longer.

    Raises:
        UserError: a number makes no sense, or the mask does not fit.
    """
    check_min_spots(min_spots)
    weights = load_weights() if weights is None else weights
    memory = frames if isinstance(frames, HostBuffer) else None
    frames = list(frames.array) if isinstance(frames, HostBuffer) else frames
    for frame in frames:
        check_mask(frame, mask)
    found: list[Any] = [None] * len(frames)
    if not on_cpu() and frames and is_integer_of_jax(frames[0].dtype):
        program = partial(judge_stored, between=separator(frames[0].shape), settled=settled)
        there = None if mask is None else _on_device(mask)
        count = frames_at_once(frames[0].shape)
        ordinary, judged = _on_accelerator(frames, count, program, weights, there, min_snr, memory=memory)
        found = [
            finish(_at(judged, place), frame.shape, 1.0, min_spots) if ordinary[place] else None
            for place, frame in enumerate(frames)
        ]
    others = [place for place, spots in enumerate(found) if spots is None]

    def prepare(place: int) -> PreparedFrame | UserError:
        frame = frames[place]
        try:
            if settled:
                return prepare_frame(frame, frame != never(frame.dtype), type_limit(frame.dtype))
            return prepare_frame(frame, mask)
        except UserError as error:
            return error

    # Their types may differ once they are in units near 1.
    alike: dict[np.dtype, list[tuple[int, PreparedFrame]]] = defaultdict(list)
    for place, ready in zip(others, (map if on_cpu() else _copying().map)(prepare, others), strict=True):
        if isinstance(ready, UserError):
            found[place] = ready
        else:
            alike[ready.pixels.values.dtype].append((place, ready))
    for group in alike.values():
        spots_of_group = find_spots_of(
            [ready for _, ready in group], weights=weights, min_snr=min_snr, min_spots=min_spots
        )
        for (place, _), spots in zip(group, spots_of_group, strict=True):
            found[place] = spots
    if memory is not None:
        _buffers().give_back(memory)
    return found, len(others)


@partial(jax.jit, static_argnames=("between", "settled"))
def judge_stored(
    frames: jax.Array,
    weights: Weights,
    mask: jax.Array | None,
    min_snr: jax.Array | float,
    between: int,
    settled: bool = False,
) -> tuple[jax.Array, Any]:
    """Make frames ready and judge the places that may be spots, on the device.

    Args:
        frames: (n, ss, fs) or (n, panel, ss, fs), see `sfxjax.spots.prepare_on_accelerator.make_ready`, as are the mask and the
            last two.
        weights: of `load_weights`.
        mask: bool of a frame's shape; or None.
        min_snr: signal-to-noise ratio from which a spot is visible.
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


def _on_accelerator(
    frames: Sequence[np.ndarray],
    count: int,
    program: Callable[..., Any],
    *arguments: Any,
    memory: HostBuffer | None = None,
) -> Any:
    """Return what a program gives of a batch of frames, (count, ...), and of other arguments, as NumPy arrays.

    Threads may share it. The frames may lie in `memory` already.
    """
    first = frames[0]
    buffer = memory or _buffers().take((count, *first.shape), first.dtype.newbyteorder("="))
    with _copies().sending():
        if memory is None:
            for _ in _copying().map(np.copyto, buffer.array, frames):
                pass
        # Before the frames: what is sent later waits for the next batch as well.
        others = jax.device_put(arguments)
        values = buffer.put(jax.sharding.SingleDeviceSharding(jax.local_devices()[0]))
    _copies().wait()
    results = jax.device_get(program(values, *others))
    if memory is None:
        _buffers().give_back(buffer)
    return results


@cache
def _copying() -> ThreadPoolExecutor:
    # Apart from the pool that batches may be worked on in: they wait for these threads.
    return ThreadPoolExecutor(cores(), thread_name_prefix="copying")


@jax.jit
def _judge_many(values: jax.Array, weights: Weights, others: tuple[Any, ...], min_snr: jax.Array) -> Any:
    return jax.vmap(judge, (None, 0, None))(weights, FramePixels(values, *others), min_snr)  # type: ignore[arg-type]


def _stacked(ready: list[FramePixels], count: int) -> FramePixels:
    """Put what is known of frames, but for their values, one behind the other, the last one repeated up to a number of them."""
    ready = ready + [ready[-1]] * (count - len(ready))
    invalid = np.full((count, max(len(pixels.invalid) for pixels in ready)), np.nan, np.float32)
    for place, pixels in enumerate(ready):
        invalid[place, : len(pixels.invalid)] = pixels.invalid
    others: Any = (np.stack(part) for part in zip(*(pixels[2:] for pixels in ready), strict=True))
    return FramePixels(ready[0].values, invalid, *others)


def _at(results: Any, place: int) -> Any:
    return jax.tree.map(lambda part: part[place], results)


@cache
def _buffers() -> HostBuffers:
    return HostBuffers(jax.local_devices()[0])


@cache
def _copies() -> CopiesFirst:
    return CopiesFirst()


@cache
def _has_large_memory() -> bool:
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 0) > LARGE_MEMORY


_kept: list[tuple[np.ndarray, jax.Array]] = []


def _on_device(mask: np.ndarray) -> jax.Array:
    """Return a run's mask on the device, where it stays until another one comes."""
    kept = next((there for here, there in _kept if np.array_equal(here, mask)), None)
    if kept is None:
        # A copy, since the caller may change the original.
        own = mask.copy()
        kept = jax.device_put(own)
        _kept[:] = [(own, kept)]
    return kept
