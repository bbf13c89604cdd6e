"""Stages of the fused path: raw crops to what the networks read, and on to scores, with no normalised frame in between."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench import reference_pipelines as others
from bench.frame_stages import (
    COMPARED,
    ONE_BY_ONE,
    RAW,
    SCORES,
    SCORES_TF32,
    SPREAD,
    decision_operations,
    scores,
)
from bench.stages import PAPER_2D, Rival, Setting, Stage, Work, compare, compiled, one_frame
from sfxjax.crop import CROP
from sfxjax.models.checkpoint import TrainedModel
from sfxjax.models.networks import block_extrema, finished_maps
from sfxjax.preprocess.box_filter import spot_sums
from sfxjax.preprocess.contrast import grown_mask, normalize_crop
from sfxjax.preprocess.definition import FRAME, map_frames, preprocess
from sfxjax.preprocess.fused import Target, reduce_raw
from sfxjax.reductions.registry import row_wise_decomposition

# Of pixels after the normalisation, and of what is made of them.
REDUCED = 1e-4
BLOCK = 8
SPOT = 3


def raw_to(to: Target, masked: bool, setting: Setting) -> Work:
    """Crop, GCN, LCN and a reduction in one pass, with a mask or without."""
    crops, real, good = setting.crops_there, *setting.real
    function: Callable[..., jax.Array] = partial(reduce_raw, to=to, block=BLOCK, spot=SPOT)
    reference = jax.jit(partial(_step_by_step, to))
    mask = jnp.asarray(good if len(real) else _some_mask())
    more = (mask,) if masked else ()
    program = compiled(function, crops[0], *more)
    found = program(crops[0], *more)
    few = crops[0][:COMPARED]
    compare(f"raw crops to {to}", found[:COMPARED], reference(few, *more), atol=REDUCED)
    if len(real):
        frames = jnp.asarray(real)
        for each in ((), (mask,)):
            what = f"real frames to {to}, {'a mask' if each else 'no mask'}"
            compare(what, function(frames, *each), reference(frames, *each), atol=REDUCED)
    if to == "rows" and not masked:
        for number, frame in enumerate(setting.crops[0][:COMPARED]):
            expected = others.scipy_row_wise_decomposition(frame, np.float64)
            compare(f"rows of random frame {number}", found[number], expected, atol=2 * REDUCED)

    def unfused() -> Rival:
        steps = compiled(reference, crops[0], *more)
        return Rival("ours, step by step", lambda batch: steps(batch, *more), crops, setting.batch)

    def scipy(dtype: Any) -> Rival:
        frames = list(setting.crops[0][:ONE_BY_ONE])
        call = partial(others.scipy_row_wise_decomposition, dtype=dtype)
        return Rival(f"SciPy, {np.dtype(dtype)}, 1 thread", call, frames, 1)

    return Work(
        lambda batch: program(batch, *more),
        crops,
        setting.batch,
        f"{CROP}x{CROP} uint16",
        moved=RAW + 4 * found[0].size,
        operations=[(function, (one_frame(), *more), 1)],
        program=program,
        rivals=[partial(scipy, np.float32), partial(scipy, np.float64), unfused]
        if to == "rows" and not masked
        else [unfused],
    )


def decision(dimensions: int, setting: Setting) -> Work:
    """Raw crops to scores by the fused path: what a facility's stream needs, without screening's checks of each pixel."""
    model = setting.model_2d if dimensions == 2 else setting.model_1d

    def score(variables: Any, crops: jax.Array) -> jax.Array:
        network = TrainedModel(model.config, variables)
        if dimensions == 1:
            return network.scores(reduce_raw(crops, to="rows"))
        blocks = reduce_raw(crops, to="blocks", block=model.config.block, spot=model.config.spot)
        return jax.nn.sigmoid(network.map_logits(finished_maps(blocks, model.config)))

    crops = setting.crops_there
    variables = jax.device_put(model.variables, setting.device)
    program = compiled(score, variables, crops[0])
    real = setting.real[0]
    chosen = np.concatenate([setting.crops[0][:COMPARED], real, setting.crops[0]])[: setting.batch]
    compared = COMPARED + len(real)
    frames = preprocess(jnp.asarray(chosen[:compared]))
    expected = scores(model, frames if dimensions == 2 else row_wise_decomposition(frames))
    found = program(variables, jax.device_put(chosen, setting.device))[:compared]
    atol = SCORES if setting.on_cpu else SCORES_TF32
    compare(f"scores of raw crops, {dimensions}D", found, expected, atol=atol, spread=SPREAD)
    return Work(
        partial(program, variables),
        crops,
        setting.batch,
        f"{CROP}x{CROP} uint16",
        moved=RAW,
        operations=decision_operations(model),
        program=program,
        published=PAPER_2D if dimensions == 2 else None,
    )


def _step_by_step(to: Target, crops: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Normalise whole frames by `sfxjax.preprocess.contrast`, which shares no code with the fused path, and reduce those."""

    def one(crop: jax.Array, mask: jax.Array | None) -> jax.Array:
        frame = normalize_crop(crop, mask)
        whole = jnp.ones(frame.shape, bool) if mask is None else grown_mask(mask)
        if to == "rows":
            return row_wise_decomposition(frame, whole)
        return block_extrema(spot_sums(jnp.where(whole, frame, 0), SPOT)[None], BLOCK)[0]

    return map_frames(one, crops, mask)


def _some_mask() -> np.ndarray:
    """Make a mask of a beam stop and of single pixels."""
    good = np.random.default_rng(0).random((CROP, CROP)) > 0.001
    good[FRAME // 2 :, FRAME // 2 - 20 : FRAME // 2 + 20] = False
    return good


STAGES = [
    Stage("raw-to-rows", "single steps", partial(raw_to, "rows", False)),
    Stage("raw-to-blocks", "single steps", partial(raw_to, "blocks", False), quick=False),
    Stage("raw-to-rows-masked", "single steps", partial(raw_to, "rows", True), quick=False),
    Stage("raw-to-blocks-masked", "single steps", partial(raw_to, "blocks", True), quick=False),
    Stage("decision-2d", "frames on the device", partial(decision, 2)),
    Stage("decision-1d", "frames on the device", partial(decision, 1)),
]
