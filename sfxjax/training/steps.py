"""One optimiser step, and many of them in one compiled call on data that stays on the devices.

The body of a step does not know how it is mapped: it averages gradients and batch statistics over `axis_name` where
there is one. `mapped_steps` maps it over devices, also those of other processes, with `jax.pmap` and over steps with
`jax.lax.scan`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sfxjax.models.config import BaseConfig
from sfxjax.models.networks import DomainAdversarialNetwork
from sfxjax.models.stem import rotate_flip

Array = jax.Array | np.ndarray

AXIS = "devices"

Adaptation = Literal["dann", "conditional", "class_confusion", "statistics"]
# Softens the target's predictions in the class confusion loss; the value of Jin et al. (2020).
CONFUSION_TEMPERATURE = 2.5


@dataclass(frozen=True)
class Objective:
    """What a step makes smaller, and which part of the network may move for it.

    Attributes:
        adaptation: what is asked of unlabelled target frames. "dann": features that a domain classifier cannot tell
            from the source's; "conditional": the same for each class apart (Long et al., NeurIPS 2018);
            "class_confusion": predictions that are not torn between the classes (Jin et al., ECCV 2020);
            "statistics": nothing, they only get batch statistics of their own (Li et al., ICLR workshop 2017).
        sharpness: radius of the smoothed task loss; the label loss's gradient is taken that far uphill (Foret et al., ICLR 2021;
            for domain adaptation Rangwani et al., ICML 2022). 0 for the plain loss.
        joint_statistics: normalise both domains by the statistics of one batch that holds both, and keep one set of running
            ones. Where the sets differ in their share of hits, statistics of their own would call that a difference of
            the frames. Otherwise each domain has its own.
        matched_classes: draw the source's classes with the shares that the network finds in the target, so that domains
            which differ in their share of hits alone look alike (Tachet des Combes et al., NeurIPS 2020, weigh the frames
            to that end). Otherwise as many positives as negatives are drawn.
        frozen: levels of the base, from the bottom, that stay as they are, see `sfxjax.models.networks.ConvolutionalBase`.
    """

    adaptation: Adaptation = "dann"
    sharpness: float = 0.0
    joint_statistics: bool = False
    matched_classes: bool = False
    frozen: int = 0

    def network(self, config: BaseConfig, axis_name: str | None = None) -> DomainAdversarialNetwork:
        """Build the network that this objective trains."""
        return DomainAdversarialNetwork(config, axis_name, self.frozen, self.adaptation == "conditional")


DANN = Objective()


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
    """The training data, resident on the device, as `sfxjax.models.stem.stem` gives it.

    Attributes:
        source: (n, ...) maps or vectors.
        positive: (n,) float32, one for the positive class.
        target: (m, ...) maps or vectors without labels, or None to train on the source alone.
        guessed: (m,) float32, labels of the target that an earlier network is sure of, NaN where it is not; or None.
    """

    source: Array
    positive: Array
    target: Array | None
    guessed: Array | None = None


class Draw(NamedTuple):
    """What a number of steps are made of; a leading axis counts the steps.

    Attributes:
        source: (steps, batch) int32 places in `Domains.source`.
        target: (steps, batch) int32 places in `Domains.target`; ignored where that is None.
        orientation: (steps,) int32, one of the eight of a square.
        strength: (steps,) float32 of the gradient reversal.
        share: (steps,) float32, of positives among the source frames drawn. The label loss weighs both classes alike.
    """

    source: Array
    target: Array
    orientation: Array
    strength: Array
    share: Array = np.float32(0.5)  # type: ignore[assignment]


class Losses(NamedTuple):
    """What a step tells of itself.

    Attributes:
        label: mean loss of the label classifier, nats.
        domain: mean loss of the adaptation (for DANN the domain classifier), nats.
    """

    label: jax.Array
    domain: jax.Array


def new_state(
    config: BaseConfig,
    optimizer: optax.GradientTransformation,
    example: jax.Array,
    seed: int,
    domains: tuple[str, ...] = ("source", "target"),
    objective: Objective = DANN,
) -> TrainState:
    """Initialise a network and its optimiser.

    Args:
        config: the network's base.
        optimizer: of optax.
        example: one input with a leading axis.
        seed: of the weights.
        domains: those that keep batch statistics.
        objective: what the network is trained for.
    """
    variables = _initialize(objective.network(config), jax.random.key(seed), example)
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats={domain: variables.get("batch_stats", {}) for domain in domains},
        optimizer_state=optimizer.init(params),
    )


@partial(jax.jit, static_argnums=0)
def _initialize(network: DomainAdversarialNetwork, key: jax.Array, example: jax.Array) -> Any:
    return network.init(key, example)


def training_step(
    config: BaseConfig,
    optimizer: optax.GradientTransformation,
    axis_name: str | None = None,
    objective: Objective = DANN,
) -> Callable[[TrainState, Domains, Draw, jax.Array], tuple[TrainState, Losses]]:
    """Make the body of a training step.

    The loss is the label classifier's cross entropy on the source plus, where there is a target, that of the adaptation. For
    DANN it is the domain classifier's on both domains, which reaches the base through the gradient reversal (Ganin et al.
    2016, equation 9; the paper, section 2.3.3). Each domain passes through the base in a batch of its own, normalised by
    its own statistics, and keeps its own running ones. Without a target the rest is the same: the source-only network of
    the same recipe.

    Args:
        config: the network's base.
        optimizer: of optax.
        axis_name: mapped axis to average over, or None.
        objective: what to make smaller.

    Returns:
        A function of the state, the data, one step's `Draw` (without the leading axis) and a key for dropout.
    """
    network = objective.network(config, axis_name)

    def step(state: TrainState, data: Domains, draw: Draw, key: jax.Array) -> tuple[TrainState, Losses]:
        positive = jnp.asarray(data.positive)[draw.source]

        def prepared(frames: Array, places: Array) -> jax.Array:
            # Turning 16-bit numbers takes a CPU four times as long.
            maps = jnp.asarray(frames)[places].astype(jnp.float32)
            return rotate_flip(maps, draw.orientation) if config.equivariant else maps

        weights = jnp.where(positive > 0.5, 0.5 / draw.share, 0.5 / (1 - draw.share))
        source = prepared(data.source, draw.source)
        target = None if data.target is None else prepared(data.target, draw.target)
        guessed = None if data.guessed is None else jnp.asarray(data.guessed)[draw.target]
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
            return label, domain_logit, changed.get("batch_stats", {})

        def both(params: Any) -> tuple[Losses, dict[str, Any]]:
            if target is None:
                label, _, source_stats = heads(params, "source", source, keys[0])
                loss = (weights * optax.sigmoid_binary_cross_entropy(label, positive)).mean()
                return Losses(loss, jnp.zeros(())), {"source": source_stats}
            if objective.joint_statistics:
                logits, domains, source_stats = heads(
                    params, "source", jnp.concatenate([source, target]), keys[0]
                )
                (label, on_target), (from_source, from_target) = (
                    jnp.split(each, [len(source)]) for each in (logits, domains)
                )
                stats = {"source": source_stats}
            else:
                label, from_source, source_stats = heads(params, "source", source, keys[0])
                on_target, from_target, target_stats = heads(params, "target", target, keys[1])
                stats = {"source": source_stats, "target": target_stats}
            label_loss = (weights * optax.sigmoid_binary_cross_entropy(label, positive)).mean()
            if guessed is not None:
                label_loss = label_loss + guessed_loss(on_target, guessed)
            if objective.adaptation in ("dann", "conditional"):
                right = jnp.concatenate([-from_source, from_target])
                adaptation_loss = optax.sigmoid_binary_cross_entropy(right, jnp.ones_like(right)).mean()
            elif objective.adaptation == "class_confusion":
                adaptation_loss = draw.strength * class_confusion(on_target)
            else:
                adaptation_loss = jnp.zeros(())
            return Losses(label_loss, adaptation_loss), stats

        def loss(params: Any) -> tuple[jax.Array, tuple[Any, Losses]]:
            losses, stats = both(params)
            return losses.label + losses.domain, (stats, losses)

        gradient, (batch_stats, losses) = jax.grad(loss, has_aux=True)(state.params)
        if objective.sharpness:
            label_gradient = jax.grad(lambda params: both(params)[0].label)
            here = label_gradient(state.params)
            length = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(here)))
            reach = objective.sharpness / (length + 1e-12)
            uphill = jax.tree.map(lambda leaf, slope: leaf + reach * slope, state.params, here)
            gradient = jax.tree.map(
                lambda full, flat, up: full - flat + up, gradient, here, label_gradient(uphill)
            )
        if axis_name is not None:
            gradient, batch_stats, losses = jax.lax.pmean((gradient, batch_stats, losses), axis_name)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, batch_stats, optimizer_state), losses

    return step


def class_confusion(logits: jax.Array) -> jax.Array:
    """Measure how much a batch of predictions is torn between the two classes (minimum class confusion).

    Args:
        logits: (n,) of the positive class.

    Returns:
        Share of the class correlation that lies off the diagonal, 0 to 1; sure predictions weigh more.

    References:
        Jin et al., ECCV 2020, equations 2 to 8.
    """
    positive = jax.nn.sigmoid(logits / CONFUSION_TEMPERATURE)
    classes = jnp.stack([1 - positive, positive], axis=-1)
    entropy = -(classes * jnp.log(jnp.clip(classes, 1e-7))).sum(-1)
    certainty = 1 + jnp.exp(-entropy)
    # The weights are no way to make the loss smaller.
    weights = jax.lax.stop_gradient(len(logits) * certainty / certainty.sum())
    confusion = jnp.einsum("nc,n,nd->cd", classes, weights, classes)
    confusion = confusion / confusion.sum(1, keepdims=True)
    return (confusion.sum() - jnp.trace(confusion)) / 2


def guessed_loss(logits: jax.Array, guessed: jax.Array) -> jax.Array:
    """Cross entropy on guessed labels, both classes weighing alike; 0 where a batch has none.

    Args:
        logits: (n,).
        guessed: (n,) 0 or 1, NaN without a guess.
    """
    known = jnp.isfinite(guessed)
    truth = jnp.where(known, guessed, 0)
    losses = optax.sigmoid_binary_cross_entropy(logits, truth)
    sides = [known & (truth > 0.5), known & (truth < 0.5)]
    means = [jnp.sum(jnp.where(side, losses, 0)) / jnp.maximum(side.sum(), 1) for side in sides]
    return (means[0] + means[1]) / 2


def mapped_steps(
    config: BaseConfig,
    optimizer: optax.GradientTransformation,
    devices: list[jax.Device],
    steps_per_call: int | None = None,
    objective: Objective = DANN,
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
        A function of the replicated state (donated), the replicated data, a `Draw` with leading (device, step) axes on the
        host, one key and a function told of steps done; it returns the new state and the losses, (steps,) each.
    """
    mapped = _mapped(config, optimizer, tuple(devices), objective)
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
            state, loss = mapped(state, data, _placed(part, devices), key)
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
    objective: Objective,
) -> Callable[..., tuple[TrainState, Losses]]:
    """Return the mapped program; trainings that differ in their seed or data alone share it."""
    step = training_step(config, optimizer, AXIS, objective)

    def steps(state: TrainState, data: Domains, draw: Draw, key: jax.Array) -> tuple[TrainState, Losses]:
        def body(state: TrainState, one: Draw) -> tuple[TrainState, Losses]:
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


def _placed(tree: Any, devices: list[jax.Device]) -> Any:
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

    return Draw(
        share(draw.source), share(draw.target), same(draw.orientation), same(draw.strength), same(draw.share)
    )


def cross_entropy(logits: np.ndarray, truth: np.ndarray) -> float:
    """Mean binary cross entropy of (n,) logits, nats."""
    logits = np.asarray(logits, np.float64)
    return float(np.mean(np.logaddexp(0.0, logits) - logits * np.asarray(truth)))
