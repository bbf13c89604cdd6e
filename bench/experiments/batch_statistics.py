"""A network with the batch statistics of other frames, its weights untouched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.models.checkpoint import TrainedModel
from sfxjax.models.networks import HitClassifier

# Batches that the running statistics are taken over, and frames in each.
STATISTICS_BATCHES, STATISTICS_BATCH = 100, 32


def with_batch_statistics_of(model: TrainedModel, maps: np.ndarray, seed: int) -> TrainedModel:
    """Return a network with the batch statistics of other frames, its weights untouched (Li et al. 2017).

    Args:
        model: a network.
        maps: (n, ...) of the frames.
        seed: of the batches and of dropout.
    """
    network = HitClassifier(model.config)
    # A network alone: what belongs to the domain classifier of its training plays no part.
    params = {name: model.variables["params"][name] for name in ("base", "label_head")}

    @jax.jit
    def step(statistics: Any, batch: jax.Array, key: jax.Array) -> Any:
        variables = {"params": params, "batch_stats": statistics}
        return network.apply(
            variables,
            batch.astype(jnp.float32),
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )[1]["batch_stats"]

    rng = np.random.default_rng(seed)
    statistics = model.variables["batch_stats"]
    for key in jax.random.split(jax.random.key(seed), STATISTICS_BATCHES):
        statistics = step(statistics, maps[rng.integers(0, len(maps), STATISTICS_BATCH)], key)
    return replace(model, variables={"params": params, "batch_stats": statistics})
