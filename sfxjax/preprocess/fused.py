"""From raw frames to what the networks read of them in one pass, with no normalised frame in between.

`reduce_raw` gives the 1D network's vectors and the 2D network's block extremes, equal to
`sfxjax.preprocess.definition.preprocess` followed by the reduction to 1e-5. See `sfxjax.preprocess.tiled` for how.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from sfxjax.errors import UserError
from sfxjax.preprocess import fused_pallas
from sfxjax.preprocess.box_filter import check_spot
from sfxjax.preprocess.contrast import WINDOW
from sfxjax.preprocess.definition import (
    CROP,
    FRAME,
    crop_and_check,
    map_frames,
    usable_pixels,
    without_negatives,
)
from sfxjax.preprocess.tiled import bound_of_squares, normalize_parts

Target = Literal["rows", "blocks"]
Backend = Literal["auto", "xla", "pallas"]


def reduce_raw(
    frames: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    to: Target = "rows",
    block: int = 8,
    spot: int = 1,
    floor: float = 1.0,
    saturation: float | None = None,
    backend: Backend = "auto",
) -> jax.Array:
    """Crop, normalise (GCN and LCN, box window) and reduce frames.

    Args:
        frames: (..., height, width) in detector units, any real dtype, at least 724 x 724.
        mask: bool, True = good, as for `sfxjax.preprocess.definition.preprocess`.
        to: "rows" for the row-wise decomposition; "blocks" for the largest value and minus the smallest of square blocks, as
            `sfxjax.models.networks.block_extrema` gives them, with 0 for pixels whose 5 x 5 window holds a bad one.
        block: edge of the blocks; it divides 720.
        spot: edge of the squares whose sums the blocks' extremes are of, as `sfxjax.preprocess.box_filter.spot_sums` gives them;
            1 for pixels.
        floor: lower bound of the normalisation's divisor in units of the frame's standard deviation, above 0.
        saturation: pixels at or above this value are bad.
        backend: "xla"; "pallas", a kernel for GPUs, for rows of frames of unsigned integers of at most 16 bits and without
            bad pixels, all else being XLA's; "auto" takes the kernel on a GPU where it compiles and gives what XLA gives.

    Returns:
        (..., 720) float32, or (..., 720 / block, 720 / block, 2).

    Raises:
        UserError: as `sfxjax.preprocess.definition.preprocess`; or an unknown option.

    References:
        The paper, sections 3.1.1 and 3.4.2, Eq. 2; Ke et al. (2018).
    """
    frames, mask = crop_and_check(frames, mask)
    if to not in get_args(Target) or backend not in get_args(Backend):
        raise UserError(f"no reduction to {to!r} by {backend!r}; choose to='rows' or 'blocks', backend='xla'")
    if not isinstance(floor, (int, float)) or not floor > 0:
        raise UserError(f"the floor {floor!r} is not a number above 0")
    if block < 1 or FRAME % block:
        raise UserError(f"blocks of {block} pixels do not fill a frame of {FRAME}; give a divisor of {FRAME}")
    check_spot(spot)
    plain = to == "rows" and mask is None and saturation is None and _suits_kernel(frames.dtype)
    if plain and (backend == "pallas" or (backend == "auto" and _kernel_works())):
        return _rows_by_kernel(frames, floor)
    return _by_xla(frames, mask, to, block, spot, floor, saturation)


def _by_xla(
    frames: ArrayLike,
    mask: ArrayLike | None,
    to: Target,
    block: int,
    spot: int,
    floor: float,
    saturation: float | None,
) -> jax.Array:
    """Reduce by XLA's code, on a CPU in as many threads as there are cores.

    XLA shares the work of one operation between cores, and has thousands of small ones here: threads for parts of the batch
    take half the time.
    """
    some = partial(_some, to=to, block=block, spot=spot, floor=floor, saturation=saturation)
    frames, mask = jnp.asarray(frames), None if mask is None else jnp.asarray(mask)
    count = math.prod(frames.shape[:-2])
    traced = any(isinstance(array, jax.core.Tracer) for array in (frames, mask))
    threads = 1 if traced or jax.default_backend() != "cpu" else min(_cores(), max(count, 1))
    # Parts of one size, so that they are compiled once; the last ones may begin before the others end.
    size = -(-count // threads)
    starts = [min(size * thread, count - size) for thread in range(-(-count // max(size, 1)))]
    if len(starts) < 2:
        return some(frames, mask, 0, count=count).reshape(*frames.shape[:-2], *_shape(to, block))
    parts = list(_pool(threads).map(lambda first: some(frames, mask, first, count=size), starts))
    whole = [
        part[size * place - start :] for place, (start, part) in enumerate(zip(starts, parts, strict=True))
    ]
    return jnp.concatenate(whole).reshape(*frames.shape[:-2], *_shape(to, block))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="sfxjax")


def _shape(to: Target, block: int) -> tuple[int, ...]:
    return (FRAME,) if to == "rows" else (FRAME // block, FRAME // block, 2)


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@partial(jax.jit, static_argnames=("count", "to", "block", "spot", "floor", "saturation"))
def _some(
    frames: jax.Array,
    mask: jax.Array | None,
    first: jax.Array | int,
    *,
    count: int,
    to: Target,
    block: int,
    spot: int,
    floor: float,
    saturation: float | None,
) -> jax.Array:
    """Reduce `count` frames of a batch from the first one on."""
    frames = frames.reshape(-1, *frames.shape[-2:])
    own = mask is not None and mask.ndim > 2
    mask = mask.reshape(-1, *mask.shape[-2:]) if mask is not None and own else mask

    def reduce(crop: jax.Array, mask: jax.Array | None) -> jax.Array:
        good = usable_pixels(crop, mask, saturation)
        return normalize_parts(without_negatives(crop), good, (to,), block=block, floor=floor, spot=spot)[0]

    if jax.default_backend() != "cpu":
        return jax.vmap(reduce, in_axes=(0, 0 if own else None))(frames, mask)
    in_place = mask is None and saturation is None and jnp.issubdtype(frames.dtype, jnp.unsignedinteger)

    def one(index: jax.Array) -> jax.Array:
        if in_place:
            return normalize_parts(frames, None, (to,), block=block, floor=floor, spot=spot, index=index)[0]
        return reduce(frames[index], mask[index] if mask is not None and own else mask)

    return jax.lax.map(one, first + jnp.arange(count))


@partial(jax.jit, static_argnames=("floor", "interpret"))
def _rows_by_kernel(frames: jax.Array, floor: float, interpret: bool = False) -> jax.Array:
    crops = frames.reshape(-1, *frames.shape[-2:])
    pivot, least = map_frames(lambda crop, _: bound_of_squares(crop, floor), crops)
    rows = fused_pallas.row_extents(crops, pivot, least, interpret=interpret)
    return rows.reshape(*frames.shape[:-2], crops.shape[-2] - WINDOW + 1)


def _suits_kernel(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.unsignedinteger)) and np.dtype(dtype).itemsize <= 2


@cache
def _kernel_works() -> bool:
    """Tell whether the kernel compiles on this machine's GPU and agrees with XLA, by trying it once."""
    if jax.default_backend() != "gpu":
        return False
    frame = np.random.default_rng(0).integers(0, 2**16, (1, CROP, CROP)).astype(np.uint16)
    try:
        with jax.ensure_compile_time_eval():
            result = np.asarray(_rows_by_kernel(jnp.asarray(frame), 1.0))
            expected = np.asarray(_by_xla(jnp.asarray(frame), None, "rows", 1, 1, 1.0, None))
    except Exception:  # A back end that is missing, deprecated or does not know the GPU fails in many ways.
        return False
    return bool(np.allclose(result, expected, atol=1e-4))
