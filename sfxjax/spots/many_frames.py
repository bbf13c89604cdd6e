"""The spots of many frames: as an accelerator wants them, all of a batch at once, or each in a thread of its own on a processor.

Each frame is made ready on the host, in a thread, in memory that the accelerator copies from by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

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
    find_spots,
    finish,
    judge,
    load_weights,
    prepare_pixels,
    separator,
)
from sfxjax.spots.frame_pixels import FramePixels, shape_with_margin, stored_type

# Of an accelerator's batch: 64 million pixels take some 5 GB there.
MOST_PIXELS_AT_ONCE = 2**26
MOST_FRAMES_AT_ONCE = 32


class Unjudged(NamedTuple):
    """A frame whose spots are to be found; see `sfxjax.spots.day_one.find_spots`.

    Attributes:
        frame: (ss, fs) or (panel, ss, fs), detector units.
        mask: bool of that shape, True where a pixel counts; or None.
        limit: value from which pixels tell nothing; None: by the frame's own values.
    """

    frame: np.ndarray
    mask: np.ndarray | None = None
    limit: float | None = None


def frames_at_once(shape: tuple[int, ...]) -> int:
    """Return how many frames of a shape `find_spots_of` should be given at a time: one on a processor."""
    if on_cpu():
        return 1
    return min(max(MOST_PIXELS_AT_ONCE // max(int(np.prod(shape)), 1), 1), MOST_FRAMES_AT_ONCE)


def find_spots_of(
    frames: Sequence[Unjudged],
    *,
    weights: Weights | None = None,
    min_snr: float = MIN_SNR,
    min_spots: int = MIN_SPOTS,
) -> list[FrameSpots]:
    """Find the spots of frames of one shape and type, as `sfxjax.spots.day_one.find_spots` does of each.

    Args:
        frames: on an accelerator at most `frames_at_once`.
        weights: of the network; by default those shipped.
        min_snr: signal-to-noise ratio from which a spot is visible.
        min_spots: visible spots from which a frame is a hit, at most 24.

    Raises:
        UserError: as `find_spots`.
    """
    check_min_spots(min_spots)
    weights = load_weights() if weights is None else weights
    if on_cpu():
        return [
            find_spots(
                one.frame,
                one.mask,
                limit=one.limit,
                weights=weights,
                min_snr=min_snr,
                min_spots=min_spots,
            )
            for one in frames
        ]
    if not frames:
        return []
    shape, dtype = frames[0].frame.shape, stored_type(frames[0].frame.dtype)
    buffer = _buffers().take((frames_at_once(shape), *shape_with_margin(shape, separator(shape))), dtype)
    ready = list(
        _preparing().map(
            lambda one, place: prepare_pixels(one.frame, one.mask, one.limit, buffer.array[place]),
            frames,
            range(len(frames)),
        )
    )
    parts = _stacked([pixels for pixels, _ in ready], len(buffer.array))
    values: Any = buffer.put(jax.sharding.SingleDeviceSharding(jax.local_devices()[0]))
    judged = jax.device_get(_judge_many(weights, parts._replace(values=values), min_snr))
    _buffers().give_back(buffer)
    return [
        finish(jax.tree.map(lambda part, at=place: part[at], judged), shape, factor, min_spots)
        for place, (_, factor) in enumerate(ready)
    ]


@cache
def _preparing() -> ThreadPoolExecutor:
    # Apart from the pool that batches may be worked on in: they wait for these threads.
    return ThreadPoolExecutor(cores(), thread_name_prefix="preparing")


@jax.jit
def _judge_many(weights: Weights, pixels: FramePixels, min_snr: float) -> Any:
    return jax.vmap(judge, (None, 0, None))(weights, pixels, min_snr)


def _stacked(ready: list[FramePixels], count: int) -> FramePixels:
    """Put what is known of frames, but for their values, one behind the other, the last one repeated up to a number of them."""
    ready = ready + [ready[-1]] * (count - len(ready))
    mask = None
    if any(pixels.mask is not None for pixels in ready):
        mask = np.ones((count, *ready[0].values.shape), bool)
        for place, pixels in enumerate(ready):
            if pixels.mask is not None:
                mask[place] = pixels.mask
    invalid = np.full((count, max(len(pixels.invalid) for pixels in ready)), np.nan, np.float32)
    for place, pixels in enumerate(ready):
        invalid[place, : len(pixels.invalid)] = pixels.invalid
    others: Any = (np.stack(part) for part in zip(*(pixels[3:] for pixels in ready), strict=True))
    return FramePixels(ready[0].values, mask, invalid, *others)


@cache
def _buffers() -> HostBuffers:
    return HostBuffers(jax.local_devices()[0])
