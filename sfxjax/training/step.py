"""One optimiser step, and many of them in one compiled call on data that stays on the devices.

The body of a step does not know how it is mapped: it averages gradients and batch statistics over `axis_name` where
there is one. `mapped_steps` maps it over devices, also those of other processes, with `jax.pmap` and over steps with
`jax.lax.scan`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from sfxjax.models.networks import DomainAdversarialNetwork, rotate_flip
from sfxjax.models.stem import BaseConfig
from sfxjax.preprocess.contrast import Array
from sfxjax.training.losses import class_confusion, domain_loss, label_loss, pseudo_label_loss

AdaptationLoss = Literal["dann", "class_confusion"]


@dataclass(frozen=True)
class LossConfig:
    """What a step makes smaller, and which part of the network may move for it.

    Attributes:
        adaptation: what is asked of unlabelled target frames. "dann": features that a domain classifier cannot tell
            from the source's; "class_confusion": predictions that are not torn between the classes (Jin et al., ECCV 2020).
        joint_statistics: normalise both domains by the statistics of one batch that holds both, and keep one set of running
            ones. Where the sets differ in their fraction of hits, statistics of their own would call that a difference of
            the frames. Otherwise each domain has its own.
        matched_classes: draw the source's classes with the fractions that the network finds in the target, so that domains
            which differ in their fraction of hits alone look alike (Tachet des Combes et al., NeurIPS 2020, weigh the frames
            to that end). Otherwise as many positives as negatives are drawn.
        frozen: levels of the base, from the bottom, that stay as they are, see `sfxjax.models.networks.ConvolutionalBase`.
    """

    adaptation: AdaptationLoss = "dann"
    joint_statistics: bool = False
    matched_classes: bool = False
    frozen: int = 0

    def network(self, config: BaseConfig, axis_name: str | None = None) -> DomainAdversarialNetwork:
        """Build the network that this objective trains."""
        return DomainAdversarialNetwork(config, axis_name, self.frozen)


DANN = LossConfig()


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
        pseudo_labels: (m,) float32, labels of the target that an earlier network is sure of, NaN where it is not; or None.
    """

    source: Array
    positive: Array
    target: Array | None
    pseudo_labels: Array | None = None


class BatchIndices(NamedTuple):
    """What a number of steps are made of; a leading axis counts the steps.

    Attributes:
        source: (steps, batch) int32 places in `Domains.source`.
        target: (steps, batch) int32 places in `Domains.target`; ignored where that is None.
        orientation: (steps,) int32, one of the eight of a square.
        strength: (steps,) float32 of the gradient reversal.
        fraction: (steps,) float32, of positives among the source frames drawn. The label loss weighs both classes alike.
    """

    source: Array
    target: Array
    orientation: Array
    strength: Array
    fraction: Array = np.float32(0.5)  # type: ignore[assignment]


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
    objective: LossConfig = DANN,
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
    objective: LossConfig = DANN,
) -> Callable[[TrainState, Domains, BatchIndices, jax.Array], tuple[TrainState, Losses]]:
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
        A function of the state, the data, one step's `BatchIndices` (without the leading axis) and a key for dropout.
    """
    network = objective.network(config, axis_name)

    def step(
        state: TrainState, data: Domains, draw: BatchIndices, key: jax.Array
    ) -> tuple[TrainState, Losses]:
        positive = jnp.asarray(data.positive)[draw.source]

        def prepared(frames: Array, places: Array) -> jax.Array:
            # Turning 16-bit numbers takes a CPU four times as long.
            maps = jnp.asarray(frames)[places].astype(jnp.float32)
            return rotate_flip(maps, draw.orientation) if config.equivariant else maps

        source = prepared(data.source, draw.source)
        target = None if data.target is None else prepared(data.target, draw.target)
        pseudo_labels = None if data.pseudo_labels is None else jnp.asarray(data.pseudo_labels)[draw.target]
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

        def losses_and_statistics(params: Any) -> tuple[Losses, dict[str, Any]]:
            if target is None:
                label, _, source_stats = heads(params, "source", source, keys[0])
                return Losses(label_loss(label, positive, draw.fraction), jnp.zeros(())), {
                    "source": source_stats
                }
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
            on_labels = label_loss(label, positive, draw.fraction)
            if pseudo_labels is not None:
                on_labels = on_labels + pseudo_label_loss(on_target, pseudo_labels)
            if objective.adaptation == "dann":
                adaptation_loss = domain_loss(from_source, from_target)
            else:
                adaptation_loss = jnp.asarray(draw.strength) * class_confusion(on_target)
            return Losses(on_labels, adaptation_loss), stats

        def loss(params: Any) -> tuple[jax.Array, tuple[Any, Losses]]:
            losses, stats = losses_and_statistics(params)
            return losses.label + losses.domain, (stats, losses)

        gradient, (batch_stats, losses) = jax.grad(loss, has_aux=True)(state.params)
        if axis_name is not None:
            gradient, batch_stats, losses = jax.lax.pmean((gradient, batch_stats, losses), axis_name)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, batch_stats, optimizer_state), losses

    return step
