"""Scores frames with a trained model: the same code for the command and for a notebook.

In a notebook:

    import sfxjax

    model = sfxjax.load_model("runs/dann-LN83-LO19")
    scores = sfxjax.Screener(model).scores(frames)          # frames: (n, ss, fs), as the detector gave them
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sfxjax.data.frames import CROP, pixel_type
from sfxjax.data.masks import find_bad_pixels
from sfxjax.errors import UserError
from sfxjax.evaluation.domain_check import NAMES, frame_statistics
from sfxjax.models.checkpoint import TrainedModel
from sfxjax.models.networks import BaseConfig
from sfxjax.preprocess.tiled import normalize_parts
from sfxjax.reductions.registry import get_reduction
from sfxjax.screen.batches import CropBatch, crop_array, filled, is_whole, overlapped

# A frame is an error where fewer of its crop's unmasked pixels than this share can be used.
LEAST_USABLE = 0.1
# Detectors with a pedestal have noise on both sides of 0: so much of it that negative pixels cannot mean "no
# value", as a few values from -1 down to -2 do. They are then raised instead, by so many mean negative values.
NOISE_SHARE = 0.05
NOISE_DEPTH = 8
# A frame is saturated, or empty, where at least this share of the usable pixels has the one highest value.
MOST_AT_LARGEST = 0.5
# A pixel of exactly 0 in a frame whose mean is at least this, in detector units, holds no data.
LEAST_MEAN_WITHOUT_ZEROS = 50.0
# Batches sent ahead of the one that is waited for. A thread of its own copies each to an accelerator, and one alone is
# slower than the bus.
AHEAD = 4
AHEAD_ON_CPU = 1


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


class Started(NamedTuple):
    """A batch under way: results to come, how many of them count, and the host's memory that is free afterwards."""

    results: tuple[jax.Array, ...]
    frames: int
    memory: np.ndarray | None


class Screener:
    """Scores frames on all local devices, in batches of one shape, so that it compiles once.

    The weights stay on the devices. Crops go there in the file's own type, while the devices work on earlier ones.

    Args:
        model: as `sfxjax.load_model` gives it.
        batch_size: frames sent to the devices at once, rounded up to a multiple of the number of devices; by
            default 16 for each CPU device and 128 for each accelerator.
        devices: to work on, by default all local ones.
    """

    def __init__(
        self, model: TrainedModel, batch_size: int | None = None, devices: list[jax.Device] | None = None
    ) -> None:
        self.model = model
        devices = devices or jax.local_devices()
        on_cpu = devices[0].platform == "cpu"
        if batch_size is None:
            batch_size = len(devices) * (16 if on_cpu else 128)
        elif batch_size < 1:
            raise UserError(f"a batch of {batch_size} frames makes no sense; give at least 1")
        self.batch_size = -(-batch_size // len(devices)) * len(devices)
        self.ahead = AHEAD_ON_CPU if on_cpu else AHEAD
        self._devices = tuple(devices)
        mesh = _mesh(self._devices)
        self._split = NamedSharding(mesh, PartitionSpec("frames"))
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self._variables = jax.device_put(model.variables, self._everywhere)
        self._good: tuple[np.ndarray, jax.Array] | None = None
        self._free: list[np.ndarray] = []

    def scores(self, frames: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """Score frames.

        Frames that are errors (all zero, saturated, or without usable pixels) score NaN; `screen` says why.

        Args:
            frames: (n, ss, fs) or (ss, fs) in detector units, any real type and size; the central 724 x 724
                pixels are used, and what a smaller frame lacks counts as masked.
            mask: bool, True = good, (ss, fs) or (n, ss, fs). Without one, pixels that never change or always
                saturate over the first 32 frames (of 16 or more) are left out, as the command does.

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
        limit, negatives_bad = saturation(frames.dtype), mask is not None
        crops = crop_array(frames, pixel_type([frames.dtype.str]))
        good = None if good is None else crop_array(good, np.dtype(bool))
        if good is None and min(frames.shape[1:]) < CROP:
            good = crop_array(np.ones(frames.shape[1:], bool), np.dtype(bool))
        if mask is None:
            bad, _ = find_bad_pixels(crops, good)
            if bad is not None:
                good = ~bad if good is None else good & ~bad
        batches = []
        for begin in range(0, len(crops), self.batch_size):
            piece = slice(begin, begin + self.batch_size)
            own = good[piece] if good is not None and good.ndim == 3 else good
            batches.append(CropBatch(crops[piece], own, limit, negatives_bad))
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

    def score_batches(self, batches: Iterable[CropBatch]) -> Iterator[tuple[CropBatch, Scores]]:
        """Score batches one after the other, and send the next ones to the devices meanwhile.

        Args:
            batches: each of at most `batch_size` crops.

        Yields:
            Each batch, with its scores.
        """
        yield from overlapped(batches, self.start, self.finish, self.ahead)

    def start(self, batch: CropBatch) -> Started:
        """Send a batch to the devices and have them score it, without waiting; `finish` waits."""
        count = len(batch.crops) if batch.count is None else batch.count
        crops, memory = batch.crops, None
        if not isinstance(crops, jax.Array) and not is_whole(crops, self.batch_size):
            memory = self._memory_for(crops.dtype)
            crops = filled(crops, self.batch_size, into=memory)
        crops = jax.device_put(crops, self._split)
        good = self._on_devices(batch.good)
        limits, negatives_bad = (
            jax.device_put(_spread(value, self.batch_size, dtype), self._split)
            for value, dtype in ((batch.limits, np.float32), (batch.negatives_bad, np.bool_))
        )
        program = self.program(crops.dtype, good.ndim == 3)
        return Started(program(self._variables, crops, good, limits, negatives_bad), count, memory)

    def finish(self, started: Started) -> Scores:
        """Wait for a batch that `start` began, and say what is known of its frames."""
        results = [np.asarray(result)[: started.frames] for result in started.results]
        if started.memory is not None:
            self._free.append(started.memory)
        return _explain(*results)

    def program(self, dtype: np.dtype | type, own_masks: bool = False) -> Any:
        """Return the compiled program that scores a batch.

        Args:
            dtype: of the crops.
            own_masks: whether each crop has a mask of its own.
        """
        model, shapes = self.model, _shapes(self._variables)
        return _compiled(
            model.config,
            model.reduction,
            shapes,
            self.batch_size,
            np.dtype(dtype),
            own_masks,
            self._devices,
        )

    def _memory_for(self, dtype: np.dtype) -> np.ndarray:
        """Return memory for a batch of crops: that of a batch that is done, since new pages cost more than the copy."""
        for place, memory in enumerate(self._free):
            if memory.dtype == dtype:
                return self._free.pop(place)
        return np.empty((self.batch_size, CROP, CROP), dtype)

    def _on_devices(self, good: np.ndarray | None) -> jax.Array:
        """Put good pixels on the devices; those that all frames share stay there."""
        if good is not None and good.ndim == 3:
            return jax.device_put(filled(good, self.batch_size, True), self._split)
        good = np.ones((CROP, CROP), bool) if good is None else good
        if self._good is None or not np.array_equal(self._good[0], good):
            # A copy, since the caller may change the original.
            self._good = good.copy(), jax.device_put(good.copy(), self._everywhere)
        return self._good[1]


def saturation(dtype: np.dtype) -> float:
    """Return the value from which a pixel means nothing: an unsigned type's largest, else infinity."""
    dtype = np.dtype(dtype)
    return float(np.iinfo(dtype).max) if dtype.kind == "u" and dtype.itemsize > 1 else np.inf


def _spread(value: float | bool | np.ndarray, size: int, dtype: type) -> np.ndarray:
    spread: np.ndarray = np.zeros(size, dtype)
    values: np.ndarray = np.asarray(value, dtype)
    spread[: values.size if values.ndim else size] = values
    return spread


def _mesh(devices: tuple[jax.Device, ...]) -> Mesh:
    return Mesh(np.array(devices), ("frames",))


def _shapes(variables: Any) -> tuple[Any, ...]:
    """Return what a program must know of its weights, as a key: their tree, shapes and types."""
    leaves, tree = jax.tree.flatten(variables)
    return (tree, *(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves))


@cache
def _compiled(
    config: BaseConfig,
    reduction: str | None,
    weights: tuple[Any, ...],
    batch_size: int,
    dtype: np.dtype,
    own_masks: bool,
    devices: tuple[jax.Device, ...],
) -> Callable[..., tuple[jax.Array, jax.Array, jax.Array]]:
    """Compile the program that scores batches split over devices, the same one for all models of one shape."""
    split, whole = PartitionSpec("frames"), PartitionSpec()
    mesh = _mesh(devices)
    masks = split if own_masks else whole
    specs = (whole, split, masks, split, split)
    program = jax.jit(
        jax.shard_map(
            partial(_score, config, reduction), mesh=mesh, in_specs=specs, out_specs=split, check_vma=False
        )
    )

    def shape(dimensions: tuple[int, ...], dtype: Any, spec: PartitionSpec) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(dimensions, dtype, sharding=NamedSharding(mesh, spec))

    tree, *leaves = weights
    frames = (batch_size, CROP, CROP)
    return program.lower(
        jax.tree.unflatten(tree, [shape(leaf.shape, leaf.dtype, whole) for leaf in leaves]),
        shape(frames, dtype, split),
        shape(frames if own_masks else frames[1:], np.bool_, masks),
        shape((batch_size,), np.float32, split),
        shape((batch_size,), np.bool_, split),
    ).compile()


def _score(
    config: BaseConfig,
    reduction: str | None,
    variables: dict[str, Any],
    crops: jax.Array,
    good: jax.Array,
    limits: jax.Array,
    negatives_bad: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Pre-process and score crops.

    Returns:
        (n,) scores; (n, 3) share of the unmasked pixels that can be used, share of those with a number that
        have the highest value, and that value; (n, 6) statistics.
    """

    def one(arguments: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        crop, limit, bad_below_zero = arguments[:3]
        mask = arguments[3] if len(arguments) > 3 else good
        frame, whole, facts = normalized_crop(crop, mask, limit, bad_below_zero)
        return network_input(frame, whole, reduction), facts, frame_statistics(frame[None])[0]

    arguments = (crops, limits, negatives_bad) + ((good,) if good.ndim == 3 else ())
    if jax.default_backend() == "cpu":
        inputs, facts, statistics = jax.lax.map(one, arguments)
    else:
        inputs, facts, statistics = jax.vmap(one)(arguments)
    return TrainedModel(config, variables).scores(inputs), facts, statistics


def normalized_crop(
    crop: jax.Array, good: jax.Array, limit: jax.Array | float, bad_below_zero: jax.Array | bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Settle which pixels of a crop mean something, and normalise its contrast.

    Args:
        crop: (724, 724) in detector units, any real type.
        good: bool (724, 724), False where the mask forbids a pixel.
        limit: value from which a pixel means nothing.
        bad_below_zero: whether negative pixels mean nothing (else they count as 0), unless they are noise.

    Returns:
        (720, 720) float32, normalised; bool (720, 720), True where no pixel of the 5 x 5 window is left out, which is
        where the first is not simply 0;
        (3,) float32: share of the unmasked pixels that can be used, share of those with a number that have the
        highest value, and that value.
    """
    values = crop.astype(jnp.float32)
    present = good if jnp.issubdtype(crop.dtype, jnp.integer) else good & jnp.isfinite(values)
    usable = present & (values < limit)
    raised: jax.Array = crop
    if not jnp.issubdtype(crop.dtype, jnp.unsignedinteger):
        raised, usable = _without_negatives(crop, usable, jnp.asarray(bad_below_zero))
    # Behind a beam stop, in a hole or in a gap detectors write exactly 0. Its rim is as sharp as a spot. Where the
    # frame's mean is high no live pixel reads 0; counting detectors with few photons stay below that mean.
    mean = jnp.sum(jnp.where(usable, values, 0)) / jnp.maximum(_count(usable), 1)
    usable = usable & ((values != 0) | (mean < LEAST_MEAN_WITHOUT_ZEROS))
    largest = jnp.max(jnp.where(present, values, -jnp.inf))
    # Saturated pixels count here, unlike those without a number.
    at_largest = _count(present & (values == largest)) / jnp.maximum(_count(present), 1)
    facts = jnp.stack([_count(usable) / jnp.maximum(_count(good), 1), at_largest, largest])
    frame, whole = normalize_parts(raised, usable, ("frame", "whole"))
    return frame, whole, facts


def _count(pixels: jax.Array) -> jax.Array:
    """Count pixels; in float32, exact for so few, and on a CPU twice as fast as integers."""
    return jnp.sum(pixels.astype(jnp.float32))


def network_input(frame: jax.Array, whole: jax.Array, reduction: str | None) -> jax.Array:
    """Return what a network reads of a normalised frame: the frame without the masked pixels, or its reduction.

    Args:
        frame: (720, 720), as `normalized_crop` gives it.
        whole: bool (720, 720), as there.
        reduction: name of a reduction, or None.
    """
    return jnp.where(whole, frame, 0) if reduction is None else get_reduction(reduction)(frame, whole)


def _without_negatives(
    crop: jax.Array, usable: jax.Array, bad_below_zero: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Settle what negative pixels mean: no value, 0, or noise around a pedestal, which is raised above 0.

    The normalisation does not see by how much a frame is raised.

    Args:
        crop: (724, 724), signed integers or floats.
        usable: bool (724, 724), True where a pixel means something.
        bad_below_zero: whether negative pixels mean nothing, unless they are noise.

    Returns:
        The crop without negative pixels, of an unsigned type if it is of integers; and which pixels are usable.
    """
    whole = jnp.issubdtype(crop.dtype, jnp.integer)
    dtype = jnp.dtype(f"uint{8 * crop.dtype.itemsize}") if whole else crop.dtype
    values = crop.astype(jnp.float32)

    def settled(usable: jax.Array) -> tuple[jax.Array, jax.Array]:
        sentinel = (values >= -2) & (values == jnp.round(values))
        lowest = jnp.min(jnp.where(usable, values, 0))
        noise = usable & (values < 0) & ~sentinel & (values > lowest)
        noisy = _count(noise) > NOISE_SHARE * _count(usable)
        bottom = NOISE_DEPTH * jnp.sum(jnp.where(noise, values, 0)) / jnp.maximum(_count(noise), 1)
        bottom = jnp.where(noisy, jnp.floor(bottom) if whole else bottom, 0)
        kept = usable & ((values >= bottom) | ~(noisy | bad_below_zero))
        # Integers wrap around and so come out right: the difference is not negative.
        step = (-bottom).astype(jnp.int32).astype(dtype) if whole else -bottom.astype(dtype)
        return jnp.where(values >= bottom, crop.astype(dtype) + step, 0), kept

    def without(usable: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.maximum(crop, 0).astype(dtype), usable

    # Most frames of signed pixels hold no negative one.
    return jax.lax.cond(jnp.min(jnp.where(usable, values, 0)) < 0, settled, without, usable)


def _explain(scores: np.ndarray, facts: np.ndarray, statistics: np.ndarray) -> Scores:
    reasons = []
    for usable, at_largest, largest in facts.tolist():
        reason = ""
        if at_largest == 1 and largest == 0:
            reason = "all pixels are 0"
        elif at_largest >= MOST_AT_LARGEST and largest != 0:
            reason = f"saturated: {100 * at_largest:.0f} % of the pixels have the highest value, {largest:g}"
        elif usable < LEAST_USABLE:
            reason = f"only {100 * usable:.2g} % of the unmasked pixels hold a usable number"
        reasons.append(reason)
    scores = np.where([bool(reason) for reason in reasons], np.float32(np.nan), scores)
    for place in np.flatnonzero(~np.isfinite(scores)):
        reasons[place] = reasons[place] or "the model gives no number for it"
    return Scores(scores, reasons, statistics)
