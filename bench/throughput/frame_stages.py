"""Stages on frames: every step alone, and the ways from a raw crop to a decision."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.crop import CROP, FRAME, central_crop
from sfxjax.mapping import map_frames
from sfxjax.models.checkpoint import TrainedModel
from sfxjax.models.inputs import network_inputs
from sfxjax.models.networks import ORIENTATIONS, HitClassifier, rotate_flip
from sfxjax.models.stem import BaseConfig, stem
from sfxjax.pixels.missing_values import type_limit
from sfxjax.preprocess.contrast import global_contrast_normalize, local_contrast_normalize
from sfxjax.preprocess.definition import preprocess
from sfxjax.preprocess.validity import settle
from sfxjax.reductions.registry import REDUCTIONS

from . import reference_pipelines as others
from .stages import (
    DETECTOR,
    PAPER_1D,
    PAPER_2D,
    Rival,
    Setting,
    Stage,
    Work,
    compare,
    compiled,
    one_frame,
)
from .torch_rivals import torch_inference

# Pixels after the normalisation; the reference is SciPy in float64.
NORMALIZED = 2e-4
SCORE_TOLERANCE = 2e-3
# GPUs round the factors of a convolution to ten bits by default. bfloat16 keeps seven, which matters to vectors: their
# noise lies on an offset. A wrong answer is further off than any of these.
SCORES_TF32 = 0.05
SCORES_BFLOAT16 = 0.2
SPREAD = 0.05
# Share of a reduction's values that may differ: a sum rounded otherwise moves a pixel across a threshold.
FLIPPED = 0.02
# Frames whose outputs are compared, besides the real ones.
FRAMES_COMPARED = 3
# Frames of which others are given one at a time.
ONE_BY_ONE = 8

RAW, FLOAT_CROP, FLOAT_FRAME = 2 * CROP**2, 4 * CROP**2, 4 * FRAME**2


def crop(setting: Setting) -> Work:
    """Cut the middle out of detector frames."""
    batches = [jax.device_put(frames, setting.device) for frames in setting.detector_frames]
    # The bare slice would be a view, and no bytes would move.
    program = compiled(lambda frames: central_crop(frames) + jnp.uint16(0), batches[0])
    compare(
        "crop",
        program(batches[0])[:FRAMES_COMPARED],
        central_crop(setting.detector_frames[0][:FRAMES_COMPARED]),
        atol=0,
    )
    return Work(
        program, batches, setting.batch, f"{DETECTOR}x{DETECTOR} uint16", moved=2 * RAW, program=program
    )


def contrast(step: str, setting: Setting) -> Work:
    """GCN, LCN, or both in one pass."""
    crops = setting.crops_there
    function: Callable[[jax.Array], Any]
    if step == "gcn":
        function, moved = (
            (lambda x: map_frames(lambda y, _: global_contrast_normalize(y), x)),
            RAW + FLOAT_CROP,
        )
    elif step == "lcn":
        crops = [map_frames(lambda x, _: global_contrast_normalize(x), batch) for batch in crops]
        function, moved = (
            (lambda x: map_frames(lambda y, _: local_contrast_normalize(y), x)),
            FLOAT_CROP + FLOAT_FRAME,
        )
    else:
        function, moved = preprocess, RAW + FLOAT_FRAME
    program = compiled(function, crops[0])
    found = np.asarray(program(crops[0])[:FRAMES_COMPARED])
    for number, frame in enumerate(setting.crops[0][:FRAMES_COMPARED]):
        if step == "gcn":
            expected = (frame - frame.mean(dtype=float)) / frame.std(dtype=float)
        else:
            expected = others.scipy_preprocess(frame, np.float64)
        compare(f"{step} of random frame {number}", found[number], expected, atol=NORMALIZED, rtol=1e-5)
    if step == "gcn-lcn":
        for number, frame in enumerate(setting.real[0]):
            what = f"{step} of real frame {number}"
            # The reference lets every pixel count; the library leaves the zeros behind the beam stop out.
            filled = np.where(frame == 0, np.median(frame), frame).astype(frame.dtype)
            compare(what, preprocess(filled), others.scipy_preprocess(filled, np.float64), atol=NORMALIZED)

    def scipy() -> Rival:
        return Rival("SciPy, 1 thread", others.scipy_preprocess, list(setting.crops[0][:ONE_BY_ONE]), 1)

    return Work(
        program,
        crops,
        setting.batch,
        f"{CROP}x{CROP} {crops[0].dtype}",
        moved=moved,
        operations=[(function, (one_frame(CROP, crops[0].dtype),), 1)],
        program=program,
        rivals=[scipy] if step == "gcn-lcn" else [],
    )


def reduction(name: str, setting: Setting) -> Work:
    """One of the library's reductions, of pre-processed frames."""
    function = partial(map_frames, lambda frame, _: REDUCTIONS[name](frame, None))
    frames = setting.normalized
    program = compiled(function, frames[0])
    found = program(frames[0])
    alone = jax.jit(lambda frame: REDUCTIONS[name](frame, None))
    for number in range(FRAMES_COMPARED):
        what = f"{name} of frame {number}"
        compare(what, found[number], alone(frames[0][number]), atol=1e-5, rtol=1e-5, except_for=FLIPPED)
    if name == "row_wise_decomposition":
        frame = np.asarray(frames[0][0])
        compare(name, found[0], frame.max(1) - frame.min(1), atol=1e-6)
    return Work(
        program,
        frames,
        setting.batch,
        f"{FRAME}x{FRAME} float32",
        moved=FLOAT_FRAME + 4 * found[0].size,
        operations=[(function, (one_frame(FRAME, jnp.float32),), 1)],
        program=program,
    )


def network_1d(dtype: Any, setting: Setting) -> Work:
    """The 1D network on vectors."""
    model, vectors = setting.model_1d, setting.reduced
    classifier = HitClassifier(model.config, dtype=dtype)

    def logits(variables: Any, vectors: jax.Array) -> jax.Array:
        return classifier.apply(variables, stem(vectors, model.config))  # type: ignore[return-value]

    variables = jax.device_put(model.variables, setting.device)
    program = compiled(logits, variables, vectors[0])
    few = np.asarray(vectors[0][: 8 * FRAMES_COMPARED])
    expected = scores(model, few)
    found = jax.nn.sigmoid(program(variables, vectors[0])[: len(few)])
    compare("1D CNN", found, expected, atol=_tolerance(setting, dtype), spread=SPREAD)
    return Work(
        partial(program, variables),
        vectors,
        setting.vectors,
        f"{FRAME} float32",
        moved=4 * FRAME + 4,
        operations=[(partial(logits, model.variables), (jax.ShapeDtypeStruct((1, FRAME), jnp.float32),), 1)],
        program=program,
        rivals=torch_inference(
            setting, model, [stem(batch, model.config) for batch in vectors], SCORE_TOLERANCE
        )
        if dtype == jnp.float32
        else [],
        published=PAPER_1D if dtype == jnp.float32 else None,
    )


def network_2d(dtype: Any, setting: Setting) -> Work:
    """The 2D network on pre-processed frames, mean of eight orientations, as screening uses it."""
    model, frames = setting.model_2d, setting.normalized
    classifier = HitClassifier(model.config, dtype=dtype)

    def logits(variables: Any, frames: jax.Array) -> jax.Array:
        maps = stem(frames, model.config)
        if dtype == jnp.float32:
            return TrainedModel(model.config, variables).map_logits(maps)
        numbers = jnp.arange(ORIENTATIONS)
        return jax.lax.map(
            lambda number: classifier.apply(variables, rotate_flip(maps, number)), numbers
        ).mean(0)

    variables = jax.device_put(model.variables, setting.device)
    program = compiled(logits, variables, frames[0])
    expected = np.concatenate([scores(model, frame[None]) for frame in frames[0][:FRAMES_COMPARED]])
    found = jax.nn.sigmoid(program(variables, frames[0])[:FRAMES_COMPARED])
    compare("2D CNN", found, expected, atol=_tolerance(setting, dtype), spread=SPREAD)
    return Work(
        partial(program, variables),
        frames,
        setting.batch,
        f"{FRAME}x{FRAME} float32",
        moved=FLOAT_FRAME + 4,
        operations=network_operations(model),
        program=program,
        published=PAPER_2D if dtype == jnp.float32 else None,
    )


def network_2d_on_maps(setting: Setting) -> Work:
    """The 2D network on maps of the stem, one orientation: what training and other frameworks' twins compute."""
    model = setting.model_2d
    make_maps = jax.jit(partial(stem, config=model.config))
    maps = [make_maps(frames) for frames in setting.normalized]
    classifier = HitClassifier(model.config)
    variables = jax.device_put(model.variables, setting.device)
    program = compiled(classifier.apply, variables, maps[0])
    with jax.default_matmul_precision("float32"):
        logits = jax.jit(classifier.apply)
        expected = np.concatenate(
            [np.asarray(logits(variables, one[None])) for one in maps[0][:FRAMES_COMPARED]]
        )
    found = program(variables, maps[0])[:FRAMES_COMPARED]
    compare(
        "2D CNN on maps",
        jax.nn.sigmoid(found),
        jax.nn.sigmoid(expected),
        atol=_tolerance(setting, jnp.float32),
    )
    one = jax.ShapeDtypeStruct((1, *maps[0].shape[1:]), jnp.float32)
    return Work(
        partial(program, variables),
        maps,
        setting.batch,
        "x".join(map(str, maps[0].shape[1:])) + " float32",
        moved=4 * maps[0][0].size + 4,
        operations=[(partial(classifier.apply, model.variables), (one,), 1)],
        program=program,
        rivals=torch_inference(setting, model, maps, SCORE_TOLERANCE),
    )


def scores(model: TrainedModel, inputs: Any) -> np.ndarray:
    """Score frames or vectors, which are few, in full precision."""
    with jax.default_matmul_precision("float32"):
        return np.asarray(_scored(model.config, model.variables, inputs))


@partial(jax.jit, static_argnums=0)
def _scored(config: BaseConfig, variables: Any, inputs: jax.Array) -> jax.Array:
    return TrainedModel(config, variables).scores(inputs)


def decision_operations(model: TrainedModel) -> list[tuple[Callable[..., Any], tuple[Any, ...], int]]:
    """List what `bench.throughput.timing.operations` counts from a raw crop to a logit."""

    def inputs(crop: jax.Array) -> jax.Array:
        pixels, _ = settle(crop[0], None, type_limit(crop.dtype), False)
        return network_inputs(pixels, [model.reduction], model.config)[0][0]

    return [(inputs, (one_frame(),), 1), *network_operations(model)]


def network_operations(model: TrainedModel) -> list[tuple[Callable[..., Any], tuple[Any, ...], int]]:
    """List what `bench.throughput.timing.operations` counts from a pre-processed frame, or a vector, to a logit."""
    shape = (1, FRAME, FRAME) if model.config.dimensions == 2 else (1, FRAME)
    one = jax.ShapeDtypeStruct(shape, jnp.float32)
    shrink = partial(stem, config=model.config)
    maps = jax.eval_shape(shrink, one)
    network = partial(HitClassifier(model.config).apply, model.variables)
    return [(shrink, (one,), 1), (network, (maps,), ORIENTATIONS if model.config.equivariant else 1)]


def _tolerance(setting: Setting, dtype: Any) -> float:
    if dtype == jnp.bfloat16:
        return SCORES_BFLOAT16
    return SCORE_TOLERANCE if setting.on_cpu else SCORES_TF32


# The paper's, and the one that the walk-through for own data trains on.
QUICK_REDUCTIONS = ("row_wise_decomposition", "soft_spot_counts")

STAGES = [
    Stage("crop", "single steps", crop),
    *(
        Stage(step, "single steps", partial(contrast, step), quick=step == "gcn-lcn")
        for step in ("gcn", "lcn", "gcn-lcn")
    ),
    *(
        Stage(name, "single steps", partial(reduction, name), quick=name in QUICK_REDUCTIONS)
        for name in REDUCTIONS
    ),
    Stage("1d-cnn", "single steps", partial(network_1d, jnp.float32), quick=False),
    Stage("1d-cnn-bfloat16", "single steps", partial(network_1d, jnp.bfloat16), quick=False),
    Stage("2d-cnn", "single steps", partial(network_2d, jnp.float32)),
    Stage("2d-cnn-bfloat16", "single steps", partial(network_2d, jnp.bfloat16), quick=False),
    Stage("2d-cnn-maps", "single steps", network_2d_on_maps),
]
