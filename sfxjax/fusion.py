"""Steps that XLA does not fuse with others on CPUs.

XLA fuses a cheap step with each of its readers, which then repeat it: five times over for the sums under a window, three times
for a maximum that a derivative needs again. A branch is a boundary for fusion, and so is this one, which is always taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def fusion_barrier(true: jax.Array | None, step: Callable[..., Any], *arguments: jax.Array) -> Any:
    """Compute a step apart from those before and after it.

    Args:
        true: bool scalar that always holds, which the compiler cannot know, such as that a sum is finite; the result is zeros
            where it does not. None: compute the step like any other.
        step: a function of the arguments.
        *arguments: arrays; what `step` closes over counts too.

    Returns:
        What `step` returns.
    """
    if true is None:
        return step(*arguments)
    shapes = jax.eval_shape(step, *arguments)

    def never(*arguments: jax.Array) -> Any:
        return jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

    return jax.lax.cond(true, step, never, *arguments)
