"""Training steps mapped over devices by jax.pmap, and over steps by a scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sfxjax.models.stem import BaseConfig
from sfxjax.training.step import DANN, BatchIndices, Domains, LossConfig, Losses, TrainState, training_step

AXIS = "devices"


def mapped_steps(
    config: BaseConfig,
    optimizer: optax.GradientTransformation,
    devices: list[jax.Device],
    steps_per_call: int | None = None,
    objective: LossConfig = DANN,
) -> Callable[..., tuple[TrainState, Losses]]:
    """Compile training steps for many devices, and many steps into one call where that is faster.

    On accelerators a whole epoch is one call, a scan. On CPUs each step is a call of its own: XLA runs the convolutions
    inside a loop on one core, which made the scan three times slower on two.

    Args:
        config: the network's base.
        optimizer: of optax.
        devices: to map over.
        steps_per_call: steps in one compiled call; by default what suits the devices.
        objective: what to make smaller.

    Returns:
        A function of the replicated state (donated), the replicated data, a `BatchIndices` with leading (device, step) axes
        on the host, one key and a function told of steps done; it returns the new state and the losses, (steps,) each.
    """
    mapped = _mapped(config, optimizer, tuple(devices), objective)
    if steps_per_call is None and devices[0].platform == "cpu":
        steps_per_call = 1

    def run(
        state: TrainState,
        data: Domains,
        draw: BatchIndices,
        key: jax.Array,
        advance: Callable[[int], None] = lambda steps: None,
    ) -> tuple[TrainState, Losses]:
        total = draw.strength.shape[1]
        size = total if steps_per_call is None else steps_per_call
        losses = []
        for start in range(0, total, size):
            part = jax.tree.map(lambda leaf, start=start: leaf[:, start : start + size], draw)
            state, loss = mapped(state, data, _on_devices(part, devices), key)
            losses.append(loss)
            advance(min(size, total - start))
        # Read at the end, so that no call waits for the one before.
        return state, jax.tree.map(lambda *parts: np.concatenate(parts), *map(first_replica, losses))

    return run


@cache
def _mapped(
    config: BaseConfig,
    optimizer: optax.GradientTransformation,
    devices: tuple[jax.Device, ...],
    objective: LossConfig,
) -> Callable[..., tuple[TrainState, Losses]]:
    """Return the mapped program; trainings that differ in their seed or data alone share it."""
    step = training_step(config, optimizer, AXIS, objective)

    def steps(
        state: TrainState, data: Domains, draw: BatchIndices, key: jax.Array
    ) -> tuple[TrainState, Losses]:
        def body(state: TrainState, one: BatchIndices) -> tuple[TrainState, Losses]:
            step_key = jax.random.fold_in(jax.random.fold_in(key, state.step), jax.lax.axis_index(AXIS))
            return step(state, data, one, step_key)

        if draw.strength.shape[0] == 1:
            state, losses = body(state, jax.tree.map(lambda leaf: leaf[0], draw))
            return state, jax.tree.map(lambda leaf: leaf[None], losses)
        return jax.lax.scan(body, state, draw)

    return jax.pmap(steps, AXIS, in_axes=(0, 0, 0, None), donate_argnums=0, devices=devices)


def replicate(tree: Any, devices: list[jax.Device]) -> Any:
    """Put a copy of every array on every device of this process, with a leading axis of these devices.

    Args:
        tree: of arrays; every process gives the same.
        devices: of this process, or of all processes.
    """
    here = _local(devices)

    def copy(leaf: Any) -> jax.Array:
        parts = [jax.device_put(leaf[None], device) for device in here]
        return jax.make_array_from_single_device_arrays((len(here), *leaf.shape), _sharding(here), parts)

    return jax.tree.map(copy, tree)


def _on_devices(tree: Any, devices: list[jax.Device]) -> Any:
    """Put host arrays with a leading axis of devices on them, every process its own part."""
    here = _local(devices)
    own = [place for place, device in enumerate(devices) if device.process_index == jax.process_index()]
    return jax.tree.map(lambda leaf: jax.device_put(leaf[own[0] : own[-1] + 1], _sharding(here)), tree)


def _local(devices: Sequence[jax.Device]) -> list[jax.Device]:
    return [device for device in devices if device.process_index == jax.process_index()]


def _sharding(devices: Sequence[jax.Device]) -> NamedSharding:
    return NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec(AXIS))


def first_replica(tree: Any) -> Any:
    """Take one device's copy of replicated arrays, as host arrays."""
    return jax.tree.map(lambda leaf: jax.device_get(leaf.addressable_shards[0].data[0]), tree)


def split_over_devices(draw: BatchIndices, devices: int) -> BatchIndices:
    """Share each step's batch between devices: a `BatchIndices` with leading (device, step) axes.

    Args:
        draw: of whole batches, which the device count divides.
        devices: how many.
    """

    def share(places: Any) -> np.ndarray:
        steps, batch = places.shape
        return np.asarray(places).reshape(steps, devices, batch // devices).swapaxes(0, 1)

    def same(values: Any) -> np.ndarray:
        return np.broadcast_to(values, (devices, *values.shape))

    return BatchIndices(
        share(draw.source),
        share(draw.target),
        same(draw.orientation),
        same(draw.strength),
        same(draw.fraction),
    )
