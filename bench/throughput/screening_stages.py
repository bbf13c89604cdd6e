"""Stages that score frames, on the device or from the host's memory."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

import jax
import numpy as np

from sfxjax.crop import CROP, central_crop, padded_crop
from sfxjax.data.batches import CropBatch
from sfxjax.models.checkpoint import TrainedModel
from sfxjax.models.stem import BaseConfig
from sfxjax.pixels.missing_values import type_limit
from sfxjax.preprocess.definition import normalize_pixels
from sfxjax.preprocess.validity import settle
from sfxjax.reductions.registry import get_reduction
from sfxjax.screen.scorer import Screener
from sfxjax.spots.day_one import find_spots, load_weights
from sfxjax.spots.definition import MIN_SNR, MIN_SPOTS
from sfxjax.spots.many_frames import BatchFinder, frames_at_once, judge_stored, memory_at_once
from sfxjax.spots.prepare import separator

from .frame_stages import (
    FRAMES_COMPARED,
    ONE_BY_ONE,
    RAW,
    SCORE_TOLERANCE,
    SCORES_TF32,
    SPREAD,
    decision_operations,
)
from .inputs import SPOTS
from .stages import (
    DETECTOR,
    PAPER_2D,
    NotHere,
    Rival,
    Setting,
    Stage,
    Work,
    WrongAnswer,
    compare,
)


def screening(dimensions: int, setting: Setting) -> Work:
    """Score crops on the device as `sfxjax.screen` does: checks of every pixel, statistics and score."""
    model = setting.model_2d if dimensions == 2 else setting.model_1d
    screener = Screener(model, batch_size=setting.batch, devices=[setting.device])
    limit = type_limit(np.uint16)
    check_screener(screener, setting)

    def call(crops: jax.Array) -> Any:
        return screener.start(screener.send(CropBatch(crops, None, limit))).results()

    rivals = [partial(_pyfai, setting)] if dimensions == 2 else []
    return Work(
        call,
        setting.crops_there,
        setting.batch,
        f"{CROP}x{CROP} uint16",
        moved=RAW,
        operations=decision_operations(model),
        program=screener.program(np.uint16),
        rivals=rivals,
        published=PAPER_2D if dimensions == 2 else None,
    )


def from_host(edge: int, dimensions: int, locked: bool, setting: Setting) -> Work:
    """Score frames in the host's memory: cropped there, sent in their own type, decisions back on the host.

    Args:
        edge: of the frames, pixels; that of a crop where they are locked.
        dimensions: of the network.
        locked: whether they lie in the memory an accelerator copies from by itself, as a program that reads into it has them.
        setting: of the measurement.
    """
    if locked and setting.on_cpu:
        raise NotHere("a processor needs no such memory")
    model = setting.model_2d if dimensions == 2 else setting.model_1d
    screener = Screener(model, batch_size=setting.batch, devices=[setting.device])
    frames = setting.crops if edge == CROP else setting.detector_frames
    limit = type_limit(frames[0].dtype)
    check_screener(screener, setting)
    # As many batches in a call as make filling and draining the queue small.
    rounds = 2 if setting.on_cpu else 16
    if locked:
        # All that is to be had, so that none holds anything else.
        memories = [screener.memory(frames[0].dtype) for _ in range(rounds)]
        for memory in memories:
            memory.array[:] = frames[0]
        for _ in screener.score_batches(CropBatch(memory, None, limit) for memory in memories):
            pass

    def batch_of(frames: np.ndarray) -> CropBatch:
        # Memory that was taken back is filled yet.
        crops = screener.memory(frames.dtype) if locked else padded_crop(frames, frames.dtype)
        return CropBatch(crops, None, limit)

    def call(first: int) -> list[np.ndarray]:
        order = [frames[(first + step) % len(frames)] for step in range(rounds)]
        return [scores.scores for _, scores in screener.score_batches(order, batch_of)]

    expected = call(0)[0]
    # In memory of its own, and after all that is locked was filled.
    whole = Screener(model, batch_size=setting.batch, devices=[setting.device]).score_crops(
        np.ascontiguousarray(central_crop(frames[0])), None, limit
    )
    compare(f"scores from {edge}x{edge}", expected, whole.scores, atol=1e-6)
    return Work(
        call,
        list(range(len(frames))),
        rounds * setting.batch,
        f"{edge}x{edge} uint16",
        moved=RAW,
        over_bus=RAW,
        operations=decision_operations(model),
        program=screener.program(np.uint16),
        published=PAPER_2D if dimensions == 2 and edge == DETECTOR else None,
    )


def day_one(locked: bool, setting: Setting) -> Work:
    """Find the spots of whole frames in the host's memory with the shipped model, as many at a time as `sfxjax screen` does.

    Args:
        locked: whether they lie in the memory an accelerator copies from by itself, as a program that reads into it has them.
        setting: of the measurement.
    """
    if locked and setting.on_cpu:
        raise NotHere("a processor needs no such memory")
    shape = (DETECTOR, DETECTOR)
    frames = [frame for batch in setting.detector_frames for frame in batch[:ONE_BY_ONE]]
    group, finder = frames_at_once(shape), BatchFinder()
    rounds = 8 if setting.on_cpu else 16
    groups = [[frames[(first + place) % len(frames)] for place in range(group)] for first in range(rounds)]
    some = frames[: len(SPOTS)]
    if locked:
        # All that is to be had, so that none holds anything else.
        memories = [memory_at_once(shape, np.uint16) for _ in range(rounds)]
        for memory in memories:
            memory.array[:] = groups[0]
        checked: list[Any] = [*memories]
    else:
        checked = [some[begin : begin + group] for begin in range(0, len(some), group)]
    many = [spots for _, found in finder.each(checked, lambda batch: batch) for spots in found.spots()]
    _check_spots(setting, [spots.expected for spots in many[: len(some)]], some)

    def batch_of(frames: list[np.ndarray]) -> Any:
        # Memory that was taken back is filled yet.
        return memory_at_once(shape, np.uint16) if locked else frames

    def call(first: int) -> list[Any]:
        return [found for _, found in finder.each(groups[first:] + groups[:first], batch_of)]

    return Work(
        call,
        [0, 1, 2],
        rounds * group,
        f"{DETECTOR}x{DETECTOR} uint16",
        moved=2 * DETECTOR**2,
        over_bus=2 * DETECTOR**2,
    )


def day_one_there(setting: Setting) -> Work:
    """Find the spots of whole frames on an accelerator, which makes them ready as well."""
    if setting.on_cpu:
        raise NotHere("a processor makes frames ready one by one")
    shape = (DETECTOR, DETECTOR)
    group = frames_at_once(shape)
    frames = [frame for batch in setting.detector_frames for frame in batch[:ONE_BY_ONE]]
    batches = [
        jax.device_put(np.stack([frames[(first + place) % len(frames)] for place in range(group)]))
        for first in (0, 5, 10)
    ]
    weights, least = load_weights(), jax.device_put(np.float32(MIN_SNR))

    def call(batch: jax.Array) -> Any:
        return judge_stored(batch, weights, least, None, separator(shape))

    ordinary, judged = jax.device_get(call(batches[0]))
    if not ordinary.all():
        raise WrongAnswer(
            f"{np.count_nonzero(~ordinary)} of {group} frames cannot be made ready on the device"
        )
    _check_spots(setting, judged.expected[: len(SPOTS)].tolist(), frames[: len(SPOTS)])
    return Work(call, batches, group, f"{DETECTOR}x{DETECTOR} uint16", moved=2 * DETECTOR**2)


def _check_spots(setting: Setting, expected: list[float], frames: list[np.ndarray]) -> None:
    """Compare numbers of spots with those of each frame alone, and these with what was planted."""
    alone = [find_spots(frame) for frame in frames]
    for planted, spots in zip(SPOTS, alone, strict=False):
        if (spots.score > 0.5) != (planted >= MIN_SPOTS):
            raise WrongAnswer(f"day one gives {spots.score:.3g} to a frame with {planted} spots")
    compare(
        "expected spots of frames together and alone",
        np.array(expected),
        np.array([spots.expected for spots in alone]),
        atol=1e-6 if setting.on_cpu else SCORES_TF32 * max(SPOTS),
    )


def check_screener(screener: Screener, setting: Setting) -> None:
    """Compare a screener's scores with those of one frame at a time, on random and on real frames."""
    limit = type_limit(np.uint16)
    everywhere = np.ones((CROP, CROP), bool)
    sets = [("random", setting.crops[0][:FRAMES_COMPARED], everywhere, False)]
    if len(setting.real[0]):
        sets.append(("real", *setting.real, True))
    for name, crops, good, negatives_bad in sets:
        fast = screener.score_crops(crops, good, limit, negatives_bad).scores
        expected = [reference_score(screener.model, one, good, limit, negatives_bad) for one in crops]
        spread = SPREAD if name == "random" else 0.0
        what = f"scores of {name} frames, {screener.model.config.dimensions}D"
        compare(what, fast, expected, atol=SCORE_TOLERANCE if setting.on_cpu else SCORES_TF32, spread=spread)


def reference_score(
    model: TrainedModel, crop: np.ndarray, good: np.ndarray, limit: float, negatives_bad: bool
) -> float:
    """Score one crop step by step, without a batch and in full precision."""
    with jax.default_matmul_precision("float32"):
        return float(
            _scored_crop(model.config, model.reduction, model.variables, crop, good, limit, negatives_bad)
        )


@partial(jax.jit, static_argnums=(0, 1))
def _scored_crop(
    config: BaseConfig,
    reduction: str | None,
    variables: Any,
    crop: jax.Array,
    mask: jax.Array,
    limit: float,
    negatives: bool,
) -> jax.Array:
    pixels, _ = settle(crop, mask, limit, negatives)
    frame, window_valid = normalize_pixels(pixels)
    inputs = frame if reduction is None else get_reduction(reduction)(frame, window_valid)
    return TrainedModel(config, variables).scores(inputs[None])[0]


def _pyfai(setting: Setting) -> Rival:
    """The OpenCL peak finder of pyFAI, of which other counts of spots are made."""
    try:
        version = import_module("pyFAI").version
        finder = import_module("pyFAI.opencl.peak_finder").OCL_SimplePeakFinder(image_shape=(CROP, CROP))
        finder.count(setting.crops[0][0])
    except ImportError:
        raise NotHere("pyFAI with OpenCL is not installed") from None
    except Exception as error:  # OpenCL fails in as many ways as it has drivers.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise NotHere(f"pyFAI finds no OpenCL device that works ({reason})") from None
    device = finder.ctx.devices[0].name
    note = "counts outlying pixels, host memory to a number"
    return Rival(f"pyFAI {version}, {device}", finder.count, list(setting.crops[0][:ONE_BY_ONE]), 1, note)


STAGES = [
    Stage("screening-2d", "frames on the device", partial(screening, 2)),
    Stage("screening-1d", "frames on the device", partial(screening, 1), quick=False),
    Stage("host-1920-2d", "host memory", partial(from_host, DETECTOR, 2, False)),
    Stage("host-724-2d", "host memory", partial(from_host, CROP, 2, False), quick=False),
    Stage("day-one-1920", "host memory", partial(day_one, False), quick=False),
    Stage("day-one-locked-1920", "host memory", partial(day_one, True), quick=False),
    Stage("day-one-there", "frames on the device", day_one_there, quick=False),
    Stage("host-locked-724-2d", "host memory", partial(from_host, CROP, 2, True), quick=False),
    Stage("host-locked-724-1d", "host memory", partial(from_host, CROP, 1, True), quick=False),
    Stage("host-1920-1d", "host memory", partial(from_host, DETECTOR, 1, False), quick=False),
    Stage("host-724-1d", "host memory", partial(from_host, CROP, 1, False), quick=False),
]
