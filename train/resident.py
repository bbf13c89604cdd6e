"""Frames read, pre-processed and kept for training, two bytes a pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.cxidb import FrameSet
from sfxjax.preprocess import FRAME, preprocess
from sfxjax.reductions import get_reduction, preprocess_and_reduce

READ_BATCH = 16
# Half the precision of float32 and the same range: a normalised pixel lies within +-5 and carries noise of 0.03.
FRAME_DTYPE = jnp.bfloat16


def load_frames(
    frame_set: FrameSet,
    indices: Sequence[int] | np.ndarray | range,
    *,
    reduction: str | None = None,
    mask_every: int = 0,
    progress: Callable[[int], None] = lambda frames: None,
) -> np.ndarray:
    """Read frames of a set, pre-process them, reduce them if asked to, and keep them on the host.

    Args:
        frame_set: the open set.
        indices: frames to read, 0-based.
        reduction: name of a reduction, or None for whole frames.
        mask_every: apply the set's mask to every frame whose place in `indices` is a multiple of this; 0 for none. A
            network that saw both knows the rim of the beam stop and does not count on it.
        progress: told the number of frames done, batch by batch.

    Returns:
        (n, 720, 720) bfloat16 frames, or (n, ...) float32 vectors.
    """
    indices = np.asarray(indices)
    mask = frame_set.mask_crop()
    if reduction is None:
        out = np.empty((len(indices), FRAME, FRAME), FRAME_DTYPE)
    else:
        shape = jax.eval_shape(get_reduction(reduction), jnp.zeros((FRAME, FRAME))).shape
        out = np.empty((len(indices), *shape), np.float32)
    place = np.arange(len(indices))
    masked = (place % mask_every == 0) if mask_every and mask is not None else np.zeros(len(indices), bool)
    for group, good in ((place[~masked], None), (place[masked], mask)):
        for start in range(0, len(group), READ_BATCH):
            chosen = group[start : start + READ_BATCH]
            crops = frame_set.crops(indices[chosen])
            # One compiled shape: the last batch is filled up with its own last frame.
            filled = np.concatenate([crops, np.repeat(crops[-1:], READ_BATCH - len(crops), axis=0)])
            done = prepare(filled, good, reduction)[: len(crops)]
            out[chosen] = np.asarray(done)
            progress(len(chosen))
    return out


def prepare(crops: np.ndarray | jax.Array, mask: np.ndarray | None, reduction: str | None) -> jax.Array:
    """Turn raw crops into what a network reads.

    Args:
        crops: (n, 724, 724) raw frames.
        mask: (724, 724) bool, True = good, or None.
        reduction: name of a reduction, or None for whole frames.

    Returns:
        (n, 720, 720) bfloat16 frames, or (n, ...) float32 vectors.
    """
    if reduction is None:
        return preprocess(crops, mask).astype(FRAME_DTYPE)
    return preprocess_and_reduce(crops, mask, reduction=get_reduction(reduction))
