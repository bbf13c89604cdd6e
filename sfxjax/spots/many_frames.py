"""The spots of many frames: as an accelerator wants them, all of a batch at once, or each in a thread of its own on a processor.

Frames made ready are copied to memory that the accelerator copies from by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import jax
import numpy as np

from sfxjax.devices import HostBuffers
from sfxjax.mapping import cores, on_cpu
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
from sfxjax.spots.prepare import PreparedFrame

# Of an accelerator's batch: 64 million pixels take some 5 GB there.
MOST_PIXELS_AT_ONCE = 2**26
MOST_FRAMES_AT_ONCE = 32


def frames_at_once(shape: tuple[int, ...]) -> int:
    """Return how many frames of a shape `find_spots_of` should be given at a time: one on a processor."""
    if on_cpu():
        return 1
    return min(max(MOST_PIXELS_AT_ONCE // max(int(np.prod(shape)), 1), 1), MOST_FRAMES_AT_ONCE)


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
    first = frames[0].pixels.values
    buffer = _buffers().take((frames_at_once(frames[0].shape), *first.shape), first.dtype)
    for _ in _copying().map(np.copyto, buffer.array, (frame.pixels.values for frame in frames)):
        pass
    parts = _stacked([frame.pixels for frame in frames], len(buffer.array))
    values: Any = buffer.put(jax.sharding.SingleDeviceSharding(jax.local_devices()[0]))
    judged = jax.device_get(_judge_many(weights, parts._replace(values=values), min_snr))
    _buffers().give_back(buffer)
    return [
        finish(jax.tree.map(lambda part, at=place: part[at], judged), frame, min_spots)
        for place, frame in enumerate(frames)
    ]


@cache
def _copying() -> ThreadPoolExecutor:
    # Apart from the pool that batches may be worked on in: they wait for these threads.
    return ThreadPoolExecutor(cores(), thread_name_prefix="copying")


@jax.jit
def _judge_many(weights: Weights, pixels: FramePixels, min_snr: float) -> Any:
    return jax.vmap(judge, (None, 0, None))(weights, pixels, min_snr)


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
