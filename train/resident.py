"""Frames read, pre-processed and shrunk to what a network's base reads, kept for training at two bytes a number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.cxidb import FrameSet
from sfxjax.models import BaseConfig, stem
from sfxjax.preprocess import preprocess
from sfxjax.reductions import get_reduction, preprocess_and_reduce
from sfxjax.storage import example_maps

READ_BATCH = 16
# Half the precision of float32 and the same range: a normalised pixel lies within +-5 and carries noise of 0.03.
MAP_DTYPE = jnp.bfloat16


def load_maps(
    frame_set: FrameSet,
    indices: Sequence[int] | np.ndarray | range,
    config: BaseConfig,
    *,
    reduction: str | None = None,
    mask_every: int = 0,
    advance: Callable[[int], None] = lambda frames: None,
) -> np.ndarray:
    """Read frames of a set and turn them into the maps that `sfxjax.models.stem` gives.

    Args:
        frame_set: the open set.
        indices: frames to read, 0-based.
        config: of the network's base.
        reduction: name of a reduction, or None for whole frames.
        mask_every: apply the set's mask to every frame whose place in `indices` is a multiple of this; 0 for none. A
            network that saw both knows the rim of the beam stop and does not count on it.
        advance: told the number of frames done, batch by batch.

    Returns:
        (n, ...) bfloat16.
    """
    indices = np.asarray(indices)
    mask = frame_set.mask_crop()
    out = np.empty((len(indices), *example_maps(config, reduction).shape[1:]), MAP_DTYPE)
    place = np.arange(len(indices))
    masked = (place % mask_every == 0) if mask_every and mask is not None else np.zeros(len(indices), bool)
    for group, good in ((place[~masked], None), (place[masked], mask)):
        for start in range(0, len(group), READ_BATCH):
            chosen = group[start : start + READ_BATCH]
            crops = frame_set.crops(indices[chosen])
            # One compiled shape: the last batch is filled up with its own last frame.
            filled = np.concatenate([crops, np.repeat(crops[-1:], READ_BATCH - len(crops), axis=0)])
            out[chosen] = np.asarray(_prepare(filled, good, config, reduction))[: len(crops)]
            advance(len(chosen))
    return out


@partial(jax.jit, static_argnames=("config", "reduction"))
def _prepare(
    crops: jax.Array, mask: jax.Array | None, config: BaseConfig, reduction: str | None
) -> jax.Array:
    if reduction is None:
        frames, valid = preprocess(crops, mask, return_valid=True)
        # Beside a masked pixel the window is cut short, and the rim of a beam stop shows.
        frames = jnp.where(valid, frames, 0)
    else:
        frames = preprocess_and_reduce(crops, mask, reduction=get_reduction(reduction))
    return stem(frames, config).astype(MAP_DTYPE)
