"""One optimiser step, and many of them in one compiled call on data that stays on the devices.

The body of a step does not know how it is mapped: it averages gradients and batch statistics over `axis_name` where
there is one. `mapped_steps` maps it over devices with `jax.pmap` and over steps with `jax.lax.scan`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from sfxjax.models import BaseConfig, DomainAdversarialNetwork, orient

Array = jax.Array | np.ndarray

AXIS = "devices"


class TrainState(flax.struct.PyTreeNode):
    """What a step changes.

    Attributes:
        step: int32, steps done.
        params: of `DomainAdversarialNetwork`.
        batch_stats: its batch statistics, a tree for each domain.
        optimizer_state: of optax.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    optimizer_state: Any


class Domains(NamedTuple):
    """The training data, resident on the device, as `sfxjax.models.stem` gives it.

    Attributes:
        source: (n, ...) maps or vectors.
        positive: (n,) float32, one for the positive class.
        target: (m, ...) maps or vectors without labels, or None to train on the source alone.
    """

    source: Array
    positive: Array
    target: Array | None


class Draw(NamedTuple):
    """What a number of steps are made of; a leading axis counts the steps.

    Attributes:
        source: (steps, batch) int32 places in `Domains.source`.
        target: (steps, batch) int32 places in `Domains.target`; ignored where that is None.
        orientation: (steps,) int32, one of the eight of a square.
        strength: (steps,) float32 of the gradient reversal.
    """

    source: Array
    target: Array
    orientation: Array
    strength: Array


class Losses(NamedTuple):
    """Mean losses of a step: of the label and the domain classifier, nats."""

    label: jax.Array
    domain: jax.Array


def new_state(
    config: BaseConfig,
    optimizer: optax.GradientTransformation,
    example: jax.Array,
    seed: int,
    domains: tuple[str, ...] = ("source", "target"),
) -> TrainState:
    """Initialise a network and its optimiser.

    Args:
        config: the network's base.
        optimizer: of optax.
        example: one input with a leading axis.
        seed: of the weights.
        domains: those that keep batch statistics.
    """
    variables = DomainAdversarialNetwork(config).init(jax.random.key(seed), example)
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats={domain: variables["batch_stats"] for domain in domains},
        optimizer_state=optimizer.init(params),
    )


def adversarial_step(
    config: BaseConfig, optimizer: optax.GradientTransformation, axis_name: str | None = None
) -> Callable[[TrainState, Domains, Draw, jax.Array], tuple[TrainState, Losses]]:
    """Make the body of a training step.

    The loss is the label classifier's cross entropy on the source plus the domain classifier's on both domains, which
    reaches the base through the gradient reversal (Ganin et al. 2016, equation 9; the paper, section 2.3.3). Each domain passes
    through the base in a batch of its own, normalised by its own statistics, and keeps its own running ones.
    Without a target the domain term is absent and the rest is the same: the source-only network of the same recipe.

    Args:
        config: the network's base.
        optimizer: of optax.
        axis_name: mapped axis to average over, or None.

    Returns:
        A function of the state, the data, one step's `Draw` (without the leading axis) and a key for dropout.
    """
    network = DomainAdversarialNetwork(config, axis_name)

    def step(state: TrainState, data: Domains, draw: Draw, key: jax.Array) -> tuple[TrainState, Losses]:
        positive = jnp.asarray(data.positive)[draw.source]

        def prepared(frames: Array, places: Array) -> jax.Array:
            maps = jnp.asarray(frames)[places]
            return orient(maps, draw.orientation) if config.turns else maps

        source = prepared(data.source, draw.source)
        target = None if data.target is None else prepared(data.target, draw.target)
        keys = jax.random.split(key)

        def heads(
            params: Any, domain: str, maps: jax.Array, key: jax.Array
        ) -> tuple[jax.Array, jax.Array, Any]:
            (label, domain_logit), changed = network.apply(
                {"params": params, "batch_stats": state.batch_stats[domain]},
                maps,
                draw.strength,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": key},
            )
            return label, domain_logit, changed["batch_stats"]

        def loss(params: Any) -> tuple[jax.Array, tuple[Any, Losses]]:
            label, from_source, batch_stats = heads(params, "source", source, keys[0])
            label_loss = optax.sigmoid_binary_cross_entropy(label, positive).mean()
            if target is None:
                return label_loss, ({"source": batch_stats}, Losses(label_loss, jnp.zeros(())))
            _, from_target, target_stats = heads(params, "target", target, keys[1])
            right = jnp.concatenate([-from_source, from_target])
            domain_loss = optax.sigmoid_binary_cross_entropy(right, jnp.ones_like(right)).mean()
            both = {"source": batch_stats, "target": target_stats}
            return label_loss + domain_loss, (both, Losses(label_loss, domain_loss))

        gradient, (batch_stats, losses) = jax.grad(loss, has_aux=True)(state.params)
        if axis_name is not None:
            gradient, batch_stats, losses = jax.lax.pmean((gradient, batch_stats, losses), axis_name)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, batch_stats, optimizer_state), losses

    return step


def mapped_steps(
    config: BaseConfig,
    optimizer: optax.GradientTransformation,
    devices: list[jax.Device],
    steps_per_call: int | None = None,
) -> Callable[..., tuple[TrainState, Losses]]:
    """Compile training steps for many devices, and many steps into one call where that is faster.

    On accelerators a whole epoch is one call, a scan. On CPUs each step is a call of its own: XLA runs the convolutions
    inside a loop on one core, which made the scan three times slower on two.

    Args:
        config: the network's base.
        optimizer: of optax.
        devices: to map over.
        steps_per_call: steps in one compiled call; by default what suits the devices.

    Returns:
        A function of the replicated state (donated), the replicated data, a `Draw` with leading (device, step) axes, one key and
        a function told of steps done; it returns the new state and the losses, (steps,) each.
    """
    step = adversarial_step(config, optimizer, AXIS)

    def steps(state: TrainState, data: Domains, draw: Draw, key: jax.Array) -> tuple[TrainState, Losses]:
        def body(state: TrainState, one: Draw) -> tuple[TrainState, Losses]:
            step_key = jax.random.fold_in(jax.random.fold_in(key, state.step), jax.lax.axis_index(AXIS))
            return step(state, data, one, step_key)

        if draw.strength.shape[0] == 1:
            state, losses = body(state, jax.tree.map(lambda leaf: leaf[0], draw))
            return state, jax.tree.map(lambda leaf: leaf[None], losses)
        return jax.lax.scan(body, state, draw)

    mapped = jax.pmap(steps, axis_name=AXIS, in_axes=(0, 0, 0, None), devices=devices, donate_argnums=0)
    if steps_per_call is None and devices[0].platform == "cpu":
        steps_per_call = 1

    def run(
        state: TrainState,
        data: Domains,
        draw: Draw,
        key: jax.Array,
        advance: Callable[[int], None] = lambda steps: None,
    ) -> tuple[TrainState, Losses]:
        total = draw.strength.shape[1]
        size = total if steps_per_call is None else steps_per_call
        losses = []
        for start in range(0, total, size):
            part = jax.tree.map(lambda leaf, start=start: leaf[:, start : start + size], draw)
            state, loss = mapped(state, data, part, key)
            losses.append(first_replica(loss))
            advance(min(size, total - start))
        return state, jax.tree.map(lambda *parts: np.concatenate(parts), *losses)

    return run


def replicate(tree: Any, devices: list[jax.Device]) -> Any:
    """Put a copy of every array on every device, with a leading device axis, as `jax.pmap` takes them."""
    mesh = jax.sharding.Mesh(devices, (AXIS,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(AXIS))

    def copy(leaf: Any) -> jax.Array:
        parts = [jax.device_put(leaf[None], device) for device in devices]
        return jax.make_array_from_single_device_arrays((len(devices), *leaf.shape), sharding, parts)

    return jax.tree.map(copy, tree)


def first_replica(tree: Any) -> Any:
    """Take one device's copy of replicated arrays, as host arrays."""
    return jax.tree.map(lambda leaf: jax.device_get(leaf.addressable_shards[0].data[0]), tree)


def split_over_devices(draw: Draw, devices: int) -> Draw:
    """Share each step's batch between devices: a `Draw` with leading (device, step) axes.

    Args:
        draw: of whole batches, which the device count divides.
        devices: how many.
    """

    def share(places: Any) -> np.ndarray:
        steps, batch = places.shape
        return np.asarray(places).reshape(steps, devices, batch // devices).swapaxes(0, 1)

    def same(values: Any) -> np.ndarray:
        return np.broadcast_to(values, (devices, *values.shape))

    return Draw(share(draw.source), share(draw.target), same(draw.orientation), same(draw.strength))


def cross_entropy(logits: np.ndarray, truth: np.ndarray) -> float:
    """Mean binary cross entropy of (n,) logits, nats."""
    logits = np.asarray(logits, np.float64)
    return float(np.mean(np.logaddexp(0.0, logits) - logits * np.asarray(truth)))
