"""Scores frames with a trained model: the same code for the command and for a notebook.

In a notebook:

    import sfxjax

    model = sfxjax.load_model("runs/dann-LN83-LO19")
    scores = sfxjax.Screener(model).scores(frames)          # frames: (n, ss, fs), as the detector gave them
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from sfxjax.crop import CROP, crop_window, padded_crop
from sfxjax.data.bad_pixels import find_bad_pixels
from sfxjax.data.batches import CropBatch, Item, filled, in_background, is_whole, overlapped
from sfxjax.data.frames import pixel_type
from sfxjax.devices import HostBuffer, HostBuffers
from sfxjax.errors import UserError
from sfxjax.evaluation.domain_check import NAMES
from sfxjax.mapping import cores, thread_pool
from sfxjax.models.checkpoint import TrainedModel
from sfxjax.pixels.missing_values import each_with_limit, each_without_low_values
from sfxjax.screen.program import compiled_program, frame_mesh, weight_shapes
from sfxjax.text import per_cent

# A frame is an error where fewer of its crop's unmasked pixels than this fraction can be used.
LEAST_VALID = 0.1
# A frame is saturated, or empty, where at least this fraction of the usable pixels has the one highest value.
MOST_AT_LARGEST = 0.5
# Batches whose work is started before the one that is waited for is there.
AHEAD = 1
# What 512 crops, those ahead of them among them, take of an accelerator's memory with room to spare, bytes.
LARGE_MEMORY = 30e9


@dataclass(frozen=True)
class Scores:
    """What is known of a batch of frames.

    Attributes:
        scores: float32 (n,), probability of a positive (Hit or Maybe); NaN for a frame that is an error.
        reasons: why a frame is an error, empty for the others.
        statistics: float32 (n, 6), see `sfxjax.evaluation.domain_check`.
    """

    scores: np.ndarray
    reasons: list[str]
    statistics: np.ndarray


BatchResults = tuple[jax.Array, ...]


class SentBatch(NamedTuple):
    """A batch on its way to the devices: arguments of the program, how many frames count, and the host's memory that is used."""

    arguments: tuple[Any, ...]
    own_masks: bool
    frames: int
    memory: HostBuffer | None


class StartedBatch(NamedTuple):
    """A batch under way: results to come, piece by piece, how many count, and the host's memory that is free afterwards."""

    pieces: list[BatchResults | Future[BatchResults]]
    frames: int
    memory: HostBuffer | None

    def results(self) -> list[BatchResults]:
        """Return the results as the devices have them, waiting for threads only."""
        return [piece.result() if isinstance(piece, Future) else piece for piece in self.pieces]


def _itself(batch: Any) -> CropBatch:
    return cast(CropBatch, batch)


class Screener:
    """Scores frames on all local devices, in batches of one shape, so that it compiles once.

    The weights stay on the devices. Crops go there in the file's own type, while the devices work on earlier ones.

    Args:
        model: as `sfxjax.load_model` gives it.
        batch_size: frames sent to the devices at once, rounded up to a multiple of the number of devices; by
            default 32 for each CPU device, and for each accelerator 512, or 128 where its memory is small.
        devices: to work on, by default all local ones.
    """

    def __init__(
        self, model: TrainedModel, *, batch_size: int | None = None, devices: list[jax.Device] | None = None
    ) -> None:
        self.model = model
        devices = devices or jax.local_devices()
        self._on_cpu = on_cpu = devices[0].platform == "cpu"
        if batch_size is None:
            batch_size = len(devices) * (32 if on_cpu else _accelerator_batch(devices[0]))
        elif batch_size < 1:
            raise UserError(f"a batch of {batch_size} frames makes no sense; give at least 1")
        # A CPU is given a batch in as many pieces as it has cores, see `map_in_threads`.
        self._pieces = min(cores(), batch_size) if on_cpu and len(devices) == 1 else 1
        multiple = len(devices) * self._pieces
        self.batch_size = -(-batch_size // multiple) * multiple
        self._devices = tuple(devices)
        mesh = frame_mesh(self._devices)
        self._split = NamedSharding(mesh, PartitionSpec("frames"))
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self._variables = jax.device_put(model.variables, self._everywhere)
        self._good: tuple[np.ndarray, jax.Array] | None = None
        self._buffers = HostBuffers(self._devices[0])

    def scores(self, frames: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """Score frames.

        Frames that are errors (all zero, saturated, or without usable pixels) score NaN; `screen` says why.

        Args:
            frames: (n, ss, fs) or (ss, fs) in detector units, any real type and size; the central 724 x 724
                pixels are used, and what a smaller frame lacks counts as masked.
            mask: bool, True = good, (ss, fs) or (n, ss, fs). Without one, pixels that never change, always
                saturate or are hot over the first 32 frames (of 16 or more) are left out, as the command does.

        Returns:
            float32 (n,), probability of a positive (Hit or Maybe); of one frame, a number.

        Raises:
            UserError: frames or mask have a wrong shape or type.
        """
        single = np.ndim(frames) == 2
        scores = self.screen(frames, mask).scores
        return scores[0] if single else scores

    def screen(self, frames: np.ndarray, mask: np.ndarray | None = None) -> Scores:
        """Score frames and say what else is known of them; arguments as for `scores`.

        Raises:
            UserError: as `scores`.
        """
        frames = np.asarray(frames)
        frames = frames[None] if frames.ndim == 2 else frames
        if frames.ndim != 3 or frames.dtype.kind not in "biuf":
            raise UserError(
                f"frames of {frames.dtype} and shape {frames.shape} are not (n, ss, fs) real numbers"
            )
        good = None if mask is None else np.asarray(mask)
        if good is not None and (good.dtype != bool or good.shape not in (frames.shape, frames.shape[1:])):
            raise UserError(
                f"a mask of {good.dtype} and shape {good.shape} does not fit frames of shape {frames.shape}; "
                "give bool, True = good"
            )
        window = crop_window(frames.shape[1:])
        shown, limits = each_with_limit(frames[:, window.rows, window.columns])
        if not np.may_share_memory(shown, frames):
            frames = frames.copy()
            frames[:, window.rows, window.columns] = shown
        crops = each_without_low_values(padded_crop(frames, pixel_type([frames.dtype.str])))
        good = None if good is None else padded_crop(good, np.dtype(bool))
        if good is None and min(frames.shape[1:]) < CROP:
            good = padded_crop(np.ones(frames.shape[1:], bool), np.dtype(bool))
        if mask is None:
            bad, _ = find_bad_pixels(crops, good)
            if bad is not None:
                good = ~bad if good is None else good & ~bad
        batches = []
        for begin in range(0, len(crops), self.batch_size):
            piece = slice(begin, begin + self.batch_size)
            own = good[piece] if good is not None and good.ndim == 3 else good
            batches.append(CropBatch(crops[piece], own, limits[piece].astype(np.float32), mask is not None))
        parts = [scores for _, scores in self.score_batches(batches)]
        return Scores(
            np.concatenate([part.scores for part in parts]) if parts else np.empty(0, np.float32),
            [reason for part in parts for reason in part.reasons],
            np.concatenate([part.statistics for part in parts])
            if parts
            else np.empty((0, len(NAMES)), np.float32),
        )

    def score_crops(
        self,
        crops: np.ndarray,
        good: np.ndarray | None,
        limits: float | np.ndarray = np.inf,
        negatives_bad: bool | np.ndarray = False,
        count: int | None = None,
    ) -> Scores:
        """Score one batch of crops.

        Args:
            crops: (n, 724, 724), n at most `batch_size`.
            good: bool (724, 724) or (n, 724, 724), or None.
            limits: value from which a pixel means nothing, one or (n,).
            negatives_bad: whether negative pixels mean nothing (else they count as 0), one or (n,).
            count: frames to return; None: n.
        """
        batch = CropBatch(crops, good, limits, negatives_bad, count)
        return next(scores for _, scores in self.score_batches([batch]))

    def score_batches(
        self, items: Iterable[Item], batch_of: Callable[[Item], CropBatch] = _itself
    ) -> Iterator[tuple[Item, Scores]]:
        """Score batches one after the other, and send the next ones to the devices meanwhile.

        Args:
            items: batches, each of at most `batch_size` crops, or what `batch_of` makes one of.
            batch_of: called once with each item.

        Yields:
            Each item, with its scores.
        """
        sent: Iterator[tuple[Item, SentBatch]] = ((item, self.send(batch_of(item))) for item in items)
        if not self._on_cpu:
            # Crops are copied in a thread of its own, as fast as memory allows.
            sent = in_background(sent)
        pairs = overlapped(sent, lambda pair: self.start(pair[1]), self.finish, AHEAD, int(not self._on_cpu))
        for (item, _), scores in pairs:
            yield item, scores

    def memory(self, dtype: np.dtype | type) -> HostBuffer:
        """Return memory for a batch of crops, whose `array` is to be filled; an accelerator copies from it by itself.

        Args:
            dtype: of the crops.
        """
        return self._buffers.take((self.batch_size, CROP, CROP), np.dtype(dtype))

    def send(self, batch: CropBatch) -> SentBatch:
        """Send a batch to the devices, without waiting."""
        crops = batch.crops
        memory: HostBuffer | None = crops if isinstance(crops, HostBuffer) else None
        if memory is not None:
            crops = memory.array
        count = len(crops) if batch.count is None else batch.count
        held = isinstance(crops, jax.Array) or (self._on_cpu and is_whole(crops, self.batch_size))
        if memory is None and not held:
            memory = self.memory(crops.dtype)
            crops = filled(crops, self.batch_size, into=memory.array, copied=True)
        good = self._on_devices(batch.mask)
        if memory is not None and self._pieces == len(self._devices) == 1:
            crops = memory.put(self._split)
        arguments = (
            crops,
            good,
            _for_each_frame(batch.limits, self.batch_size, np.float32),
            _for_each_frame(batch.negatives_invalid, self.batch_size, np.bool_),
        )
        if self._pieces == 1:
            # All of them: what is sent later waits for the batch behind.
            arguments = tuple(
                array if place == 1 and good.ndim == 2 else jax.device_put(array, self._split)
                for place, array in enumerate(arguments)
            )
        return SentBatch(arguments, good.ndim == 3, count, memory)

    def start(self, batch: SentBatch) -> StartedBatch:
        """Have the devices score a batch that `send` sent, without waiting; `finish` waits."""
        arguments, own_masks, count, memory = batch
        program = self.program(arguments[0].dtype, own_masks)
        if self._pieces == 1:
            return StartedBatch([program(self._variables, *arguments)], count, memory)

        def score(first: int) -> BatchResults:
            pieces = (
                array
                if place == 1 and not own_masks
                else jax.device_put(array[first : first + size], self._split)
                for place, array in enumerate(arguments)
            )
            return jax.block_until_ready(program(self._variables, *pieces))

        size = self.batch_size // self._pieces
        pool = thread_pool(self._pieces)
        pieces = [pool.submit(score, first) for first in range(0, self.batch_size, size)]
        return StartedBatch([*pieces], count, memory)

    def finish(self, started: StartedBatch) -> Scores:
        """Wait for a batch that `start` began, and say what is known of its frames."""
        results = [
            np.concatenate([np.asarray(part) for part in parts])[: started.frames]
            for parts in zip(*started.results(), strict=True)
        ]
        if started.memory is not None:
            self._buffers.give_back(started.memory)
        return _explain(*results)

    def program(self, dtype: np.dtype | type, own_masks: bool = False) -> Any:
        """Return the compiled program that scores a batch.

        Args:
            dtype: of the crops.
            own_masks: whether each crop has a mask of its own.
        """
        model, shapes = self.model, weight_shapes(self._variables)
        return compiled_program(
            model.config,
            model.reduction,
            shapes,
            self.batch_size // self._pieces,
            np.dtype(dtype),
            own_masks,
            self._devices,
        )

    def _on_devices(self, good: np.ndarray | None) -> Any:
        """Put a mask that all frames share on the devices, where it stays; one a frame is filled up to a batch."""
        if good is not None and good.ndim == 3:
            return filled(good, self.batch_size, True)
        good = np.ones((CROP, CROP), bool) if good is None else good
        if self._good is None or not np.array_equal(self._good[0], good):
            # A copy, since the caller may change the original.
            self._good = good.copy(), jax.device_put(good.copy(), self._everywhere)
        return self._good[1]


def _accelerator_batch(device: jax.Device) -> int:
    return 512 if (device.memory_stats() or {}).get("bytes_limit", 0) > LARGE_MEMORY else 128


def _for_each_frame(value: float | bool | np.ndarray, size: int, dtype: type) -> np.ndarray:
    spread: np.ndarray = np.zeros(size, dtype)
    values: np.ndarray = np.asarray(value, dtype)
    spread[: values.size if values.ndim else size] = values
    return spread


def _explain(scores: np.ndarray, facts: np.ndarray, statistics: np.ndarray) -> Scores:
    reasons = []
    for usable, at_largest, largest in facts.tolist():
        reason = ""
        if at_largest == 1 and largest == 0:
            reason = "all pixels are 0"
        elif at_largest >= MOST_AT_LARGEST and largest != 0:
            reason = f"saturated: {100 * at_largest:.0f} % of the pixels have the highest value, {largest:g}"
        elif usable < LEAST_VALID:
            reason = f"only {per_cent(float(usable))} of the unmasked pixels hold a usable number"
        reasons.append(reason)
    scores = np.where([bool(reason) for reason in reasons], np.float32(np.nan), scores)
    for place in np.flatnonzero(~np.isfinite(scores)):
        reasons[place] = reasons[place] or "the model gives no number for it"
    return Scores(scores, reasons, statistics)
