"""Stages from raw crops to what the networks read, with no normalised frame in between: what screening and training run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.crop import CROP, FRAME
from sfxjax.mapping import map_frames
from sfxjax.models.inputs import network_inputs
from sfxjax.models.stem import BaseConfig, block_extrema
from sfxjax.pixels.missing_values import type_limit
from sfxjax.preprocess.box_filter import spot_sums
from sfxjax.preprocess.contrast import grown_mask, normalize_crop
from sfxjax.preprocess.validity import settle
from sfxjax.reductions.reduce import preprocess_and_reduce
from sfxjax.reductions.row_wise import row_wise_decomposition

from . import reference_pipelines as others
from .frame_stages import FRAMES_COMPARED, ONE_BY_ONE, RAW
from .stages import Rival, Setting, Stage, Work, compare, compiled, one_frame

Target = Literal["rows", "blocks"]
# Of pixels after the normalisation, and of what is made of them.
REDUCED = 1e-4
STEM_BLOCK = 8
SPOT = 3


def raw_to(to: Target, masked: bool, setting: Setting) -> Work:
    """Crop, GCN, LCN and a reduction in one pass, with a mask or without."""
    crops, real, good = setting.crops_there, *setting.real
    function: Callable[..., jax.Array] = preprocess_and_reduce if to == "rows" else _to_blocks
    reference = jax.jit(partial(_step_by_step, to))
    mask = jnp.asarray(good if len(real) else _some_mask())
    more = (mask,) if masked else ()
    program = compiled(function, crops[0], *more)
    # Called and not compiled into one program, the reduction shares a batch between the processor's cores.
    timed = function if to == "rows" else program
    found = timed(crops[0], *more)
    few = crops[0][:FRAMES_COMPARED]
    compare(f"raw crops to {to}", found[:FRAMES_COMPARED], reference(few, *more), atol=REDUCED)
    if len(real):
        frames = jnp.asarray(real)
        for each in ((), (mask,)):
            what = f"real frames to {to}, {'a mask' if each else 'no mask'}"
            compare(what, function(frames, *each), reference(frames, *each), atol=REDUCED)
    if to == "rows" and not masked:
        for number, frame in enumerate(setting.crops[0][:FRAMES_COMPARED]):
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
        lambda batch: timed(batch, *more),
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


@jax.jit
def _to_blocks(crops: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    def one(crop: jax.Array, mask: jax.Array | None) -> jax.Array:
        pixels, _ = settle(crop, mask, type_limit(crop.dtype), mask is not None)
        return network_inputs(pixels, [None], BaseConfig(block=STEM_BLOCK, spot=SPOT))[0][0]

    return map_frames(one, crops, mask)


def _step_by_step(to: Target, crops: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Normalise whole frames by `sfxjax.preprocess.contrast`, which shares no code with the tiled path, and reduce those."""

    def one(crop: jax.Array, mask: jax.Array | None) -> jax.Array:
        pixels, _ = settle(crop, mask, type_limit(crop.dtype), mask is not None)
        valid = pixels.valid()
        assert valid is not None
        frame, window_valid = normalize_crop(pixels.values, valid), grown_mask(valid)
        if to == "rows":
            return row_wise_decomposition(frame, window_valid)
        return block_extrema(spot_sums(jnp.where(window_valid, frame, 0), SPOT)[None], STEM_BLOCK)[0]

    return map_frames(one, crops, mask)


def _some_mask() -> np.ndarray:
    """Make a mask of a beam stop and of single pixels."""
    good = np.random.default_rng(0).random((CROP, CROP)) > 0.001
    good[FRAME // 2 :, FRAME // 2 - 20 : FRAME // 2 + 20] = False
    return good


STAGES = [
    Stage("raw-to-rows", "single steps", partial(raw_to, "rows", False), quick=False),
    Stage("raw-to-blocks", "single steps", partial(raw_to, "blocks", False), quick=False),
    Stage("raw-to-rows-masked", "single steps", partial(raw_to, "rows", True), quick=False),
    Stage("raw-to-blocks-masked", "single steps", partial(raw_to, "blocks", True), quick=False),
]
