"""Checks that many devices score and train as one does; `bench.throughput --devices N` simulates them."""

from __future__ import annotations

from dataclasses import replace

import jax

from sfxjax.screen.scorer import Screener
from sfxjax.training.mapping import first_replica, mapped_steps

from .stages import Setting, compare
from .training_stages import TIMED_METHODS, stage_data, steps_of

STEPS = 3
# A sum over devices is rounded otherwise than one over a batch, and the optimiser divides small gradients by their size.
WEIGHT_TOLERANCE = 2e-3


def check_many(setting: Setting, count: int) -> str:
    """Compare all devices with the first one; returns a line on what was compared.

    Args:
        setting: of the run.
        count: of the devices there must be.

    Raises:
        WrongAnswer: they do not agree.
    """
    devices = jax.local_devices()
    assert len(devices) == count
    # Not a multiple of the devices, so that the last batch is filled up.
    crops = setting.crops[0][: 2 * count + 1]
    for model in (setting.model_2d, setting.model_1d):
        one, many = (
            Screener(model, batch_size=batch, devices=chosen).scores(crops)
            for batch, chosen in ((4, devices[:1]), (count, devices))
        )
        what = f"scores of {count} devices, {model.config.dimensions}D"
        compare(what, many, one, atol=1e-5)
    for method, recipe in TIMED_METHODS.items():
        # Every device draws its own dropout.
        recipe = replace(recipe, base=replace(recipe.base, dropout=0.0), batch=2 * count * (1 + 8 // count))
        data = stage_data(recipe.base, method == "dann", setting.seed)
        ends = []
        for chosen in (devices[:1], devices):
            state, resident, draw, key = steps_of(recipe, data, chosen, STEPS)
            run = mapped_steps(recipe.base, recipe.optimizer(), chosen, objective=recipe.objective)
            state, losses = run(state, resident, draw, key)
            ends.append([*jax.tree.leaves(first_replica(state).params), losses.label, losses.domain])
        for many_leaf, one_leaf in zip(ends[1], ends[0], strict=True):
            compare(f"{method} on {count} devices", many_leaf, one_leaf, atol=WEIGHT_TOLERANCE)
    return f"{count} simulated devices score {len(crops)} frames and train {', '.join(TIMED_METHODS)} as one does"
