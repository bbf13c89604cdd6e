"""Applying a function of one frame to many, in the way that suits the device."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp


def on_cpu() -> bool:
    """Tell whether JAX computes on the processor."""
    return jax.default_backend() == "cpu"


def map_leading(function: Callable[[Any], Any], items: Any) -> Any:
    """Apply a function to each item along the first axis.

    On a CPU one after the other, so that intermediates stay in its cache: all at once takes two to three times as long
    for 32 frames. Elsewhere all at once.

    Args:
        function: takes a tree of arrays without the first axis.
        items: the tree of arrays with it.

    Returns:
        `function`'s results with a first axis.
    """
    return jax.lax.map(function, items) if on_cpu() else jax.vmap(function)(items)


def map_frames(function: Callable[..., Any], frames: jax.Array, mask: jax.Array | None = None) -> Any:
    """Apply a function of one frame and its mask to every frame.

    Args:
        function: (frame, mask) -> any tree of arrays.
        frames: (..., height, width).
        mask: (height, width), shared by all frames; (..., height, width), one for each; or None.

    Returns:
        `function`'s tree with the frames' leading axes before each of its arrays' axes.
    """
    leading = frames.shape[:-2]
    if not leading:
        return function(frames, mask)
    arguments: tuple[jax.Array, ...] = (frames.reshape(-1, *frames.shape[-2:]),)
    if mask is not None and mask.ndim > 2:
        arguments += (mask.reshape(-1, *mask.shape[-2:]),)

    def one(arguments: tuple[jax.Array, ...]) -> Any:
        return function(arguments[0], arguments[1] if len(arguments) > 1 else mask)

    results = map_leading(one, arguments)
    return jax.tree.map(lambda leaf: leaf.reshape(*leading, *leaf.shape[1:]), results)


def map_in_threads(function: Callable[[int, int], Any], count: int) -> Any:
    """Compute parts of a batch at a time: on a CPU in as many threads as there are cores, elsewhere the whole at once.

    XLA shares the work of one operation between cores, and small frames make thousands of small ones: threads for parts of
    the batch take half the time.

    Args:
        function: (first, size) -> a tree of arrays with a first axis of that size, for the items from the first one on.
        count: of the items.

    Returns:
        The tree for all items.
    """
    threads = min(cores(), max(count, 1)) if on_cpu() else 1
    # Parts of one size, so that they are compiled once; the last ones may begin before the others end.
    size = -(-count // threads)
    starts = [min(size * thread, count - size) for thread in range(-(-count // max(size, 1)))]
    if len(starts) < 2:
        return function(0, count)
    parts = list(thread_pool(threads).map(lambda first: function(first, size), starts))
    kept = [size * place - start for place, start in enumerate(starts)]
    return jax.tree.map(
        lambda *leaves: jnp.concatenate([leaf[first:] for first, leaf in zip(kept, leaves, strict=True)]),
        *parts,
    )


@cache
def thread_pool(threads: int) -> ThreadPoolExecutor:
    """Return the program's threads for parts of batches."""
    return ThreadPoolExecutor(threads, thread_name_prefix="sfxjax")


def cores() -> int:
    """Count the processor's cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
