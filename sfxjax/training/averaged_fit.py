"""Fits small networks of plain arrays, and averages their weights over the last steps: so they generalise better."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
import optax


def fit_averaged(
    loss: Callable[..., jax.Array],
    weights: dict[str, Any],
    batches: Iterable[tuple[Any, ...]],
    optimiser: optax.GradientTransformation,
    *,
    first_averaged: int,
    kept_share: float,
    said_every: int,
    of_what: str = "",
) -> dict[str, np.ndarray]:
    """Take a step for each batch, say the loss now and then, and return the averaged weights.

    Args:
        loss: of the weights and the parts of a batch.
        weights: to begin with.
        batches: what the loss is told besides the weights.
        optimiser: of the steps.
        first_averaged: number of the step, from 0, from which weights are averaged.
        kept_share: of the average so far, at each step.
        said_every: so many steps.
        of_what: is being fitted, a word for the line that says the loss.
    """

    @jax.jit
    def step(weights: Any, state: Any, batch: tuple[Any, ...]) -> Any:
        value, gradient = jax.value_and_grad(loss)(weights, *batch)
        updates, state = optimiser.update(gradient, state, weights)
        return optax.apply_updates(weights, updates), state, value

    state, averaged = optimiser.init(weights), None
    for number, batch in enumerate(batches):
        weights, state, value = step(weights, state, batch)
        if number == first_averaged:
            averaged = weights
        elif averaged is not None:
            averaged = jax.tree.map(lambda a, b: kept_share * a + (1 - kept_share) * b, averaged, weights)
        if number % said_every == said_every - 1:
            print(f"step {number + 1}{of_what}: loss {float(value):.4f}", flush=True)
    return {name: np.asarray(value) for name, value in (averaged or weights).items()}
