"""Stages of training: steps of the four methods on data that stay on the device, as `sfxjax.training.loop.fit` takes them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sfxjax.models.checkpoint import example_maps
from sfxjax.models.networks import DomainAdversarialNetwork
from sfxjax.models.stem import BaseConfig
from sfxjax.training.config import TrainingConfig
from sfxjax.training.loop import TrainingResult, Validation, fit
from sfxjax.training.mapping import mapped_steps, replicate, split_over_devices
from sfxjax.training.sampling import draw_epoch
from sfxjax.training.step import BatchIndices, Domains, LossConfig, new_state

from .stages import Rival, Setting, Stage, Work, WrongAnswer, compare
from .torch_rivals import torch_training

FRAMES_A_SET = 256
# Labelled frames of the source, and as many of the target, in a whole training; and those each epoch is judged on.
WHOLE = 2000
VALIDATION = 256
LOSS = 2e-3
LOSS_TF32 = 3e-2

TIMED_METHODS: dict[str, TrainingConfig] = {
    "supervised": TrainingConfig(),
    # The paper's first step of transfer: a fresh classifier on a base that rests.
    "transfer": TrainingConfig(objective=LossConfig(frozen=len(BaseConfig().channels) + 1)),
    "reduced": TrainingConfig(base=BaseConfig(dimensions=1)),
    "dann": TrainingConfig(),
}


def stage_data(base: BaseConfig, adversarial: bool, seed: int, count: int = FRAMES_A_SET) -> Domains:
    """Make maps, or vectors, of two domains: noise, brighter in one class.

    Args:
        base: that reads them.
        adversarial: whether there is a target.
        seed: other seeds make other data.
        count: frames of each domain.
    """
    shape = example_maps(base, None if base.dimensions == 2 else "row_wise_decomposition").shape[1:]
    rng = np.random.default_rng(seed)
    positive = np.arange(count) % 3 == 0

    def maps() -> np.ndarray:
        noise = rng.standard_normal((count, *shape), np.float32)
        return (noise + 1 + positive.reshape(-1, *[1] * len(shape))).astype(jnp.bfloat16)

    return Domains(maps(), positive.astype(np.float32), maps() if adversarial else None)


def steps_of(
    recipe: TrainingConfig, data: Domains, devices: list[jax.Device], steps: int
) -> tuple[Any, Any, BatchIndices, Any]:
    """Prepare what a call of the mapped steps takes: state, data, draws and a key."""
    draw = draw_epoch(
        np.asarray(data.positive) > 0,
        0 if data.target is None else FRAMES_A_SET,
        epoch=0,
        epochs=2,
        steps=steps,
        batch=recipe.batch,
        strength=recipe.strength,
        seed=recipe.seed,
    )
    domains = ("source",) if data.target is None else ("source", "target")
    example = jnp.asarray(data.source[:1])
    state = new_state(recipe.base, recipe.optimizer(), example, recipe.seed, domains, recipe.objective)
    return (
        replicate(state, devices),
        replicate(jax.tree.map(jnp.asarray, data), devices),
        split_over_devices(draw, len(devices)),
        jax.random.key(recipe.seed),
    )


def training(method: str, setting: Setting) -> Work:
    """Optimiser steps of a method; frames of both domains count."""
    recipe = TIMED_METHODS[method]
    adversarial = method == "dann"
    data = stage_data(recipe.base, adversarial, setting.seed)
    devices = [setting.device]
    steps = 8 if setting.on_cpu else recipe.steps_per_epoch
    check_loss(recipe, data, setting)
    state, resident, draw, key = steps_of(recipe, data, devices, steps)
    run = mapped_steps(recipe.base, recipe.optimizer(), devices, objective=recipe.objective)
    kept = [state]

    def call(key: jax.Array) -> Any:
        kept[0], losses = run(kept[0], resident, draw, key)
        return losses

    frames = steps * recipe.batch * (2 if adversarial else 1)
    return Work(
        call,
        [jax.random.fold_in(key, number) for number in range(3)],
        frames,
        f"{recipe.batch} frames a step, bfloat16",
        moved=2 * data.source[0].size,
        rivals=_torch_training(recipe, data, setting) if method in ("supervised", "reduced") else [],
    )


def whole_training(method: str, setting: Setting) -> Work:
    """All epochs of a method on maps or vectors of 2000 frames of each domain, with compilation, as a command trains."""
    recipe = TIMED_METHODS[method]
    adversarial = method == "dann"
    count = WHOLE // 10 if setting.quick else WHOLE
    data = stage_data(recipe.base, adversarial, setting.seed, count)
    judged = stage_data(recipe.base, adversarial, setting.seed + 1, VALIDATION)
    target = None if judged.target is None else np.asarray(judged.target)
    validation = Validation(np.asarray(judged.source), np.asarray(judged.positive) > 0, target)
    found: list[float] = []

    def train(_: float) -> tuple[list[float], list[float]]:
        began, before = time.perf_counter(), time.process_time()
        result = fit(recipe, data, validation, devices=[setting.device])
        found.append(time.perf_counter() - began)
        check_learned(result)
        return [found[0]], [time.process_time() - before]

    return Work(
        call=None,
        batches=(),
        frames=recipe.epochs * recipe.steps_per_epoch * recipe.batch * (2 if adversarial else 1),
        shape=f"{count} frames a domain, {recipe.epochs} epochs",
        timed=train,
        after=lambda median: {"seconds with compilation": round(found[0], 1)},
    )


def check_learned(result: TrainingResult) -> None:
    """Raise a `WrongAnswer` unless the loss on labels fell: the classes differ in brightness."""
    first, last = (record["train_label_loss"] for record in (result.history[0], result.history[-1]))
    if not last < first:
        raise WrongAnswer(f"a training's loss on labels rose from {first:.4g} to {last:.4g}")


def check_loss(recipe: TrainingConfig, data: Domains, setting: Setting) -> None:
    """Compare the first step's losses, without dropout and turning nothing, with those of the network itself."""
    recipe = replace(recipe, base=replace(recipe.base, dropout=0.0))
    devices = [setting.device]
    state, resident, draw, key = steps_of(recipe, data, devices, 1)
    draw = draw._replace(orientation=np.zeros_like(draw.orientation))
    before = jax.device_get(jax.tree.map(lambda leaf: leaf[0], (state.params, state.batch_stats)))
    run = mapped_steps(recipe.base, recipe.optimizer(), devices, objective=recipe.objective)
    _, losses = run(state, resident, draw, key)
    network = recipe.objective.network(recipe.base)
    with jax.default_matmul_precision("float32"):
        expected = _losses(network, before[0], before[1], data, jax.tree.map(lambda leaf: leaf[0, 0], draw))
    atol = LOSS if setting.on_cpu else LOSS_TF32
    compare("loss of a training step", [losses.label[0], losses.domain[0]], expected, atol=atol)


def _losses(
    network: DomainAdversarialNetwork, params: Any, statistics: Any, data: Domains, draw: BatchIndices
) -> list[Any]:
    def heads(domain: str, maps: Any) -> Any:
        variables = {"params": params, "batch_stats": statistics[domain]}
        apply = jax.jit(partial(network.apply, train=True, mutable=["batch_stats"]))
        return apply(variables, jnp.asarray(maps), draw.strength)[0]

    label, domain = heads("source", data.source[draw.source])
    truth = jnp.asarray(data.positive)[draw.source]
    losses = [optax.sigmoid_binary_cross_entropy(label, truth).mean(), 0.0]
    if data.target is not None:
        _, target = heads("target", data.target[draw.target])
        losses[1] = (jnp.logaddexp(0, domain).mean() + jnp.logaddexp(0, -target).mean()) / 2
    return losses


def _torch_training(recipe: TrainingConfig, data: Domains, setting: Setting) -> list[Callable[[], Rival]]:
    """The same step in PyTorch; its first loss must be ours."""
    without_dropout = replace(recipe, base=replace(recipe.base, dropout=0.0))
    state, _, draw, _ = steps_of(without_dropout, data, [setting.device], 3)
    params, statistics = jax.device_get(jax.tree.map(lambda leaf: leaf[0], (state.params, state.batch_stats)))
    network = recipe.objective.network(without_dropout.base)
    with jax.default_matmul_precision("float32"):
        first = jax.tree.map(lambda leaf: leaf[0, 0], draw)
        expected = float(_losses(network, params, statistics, data, first)[0])
    variables = {"params": params, "batch_stats": statistics["source"]}
    batches = [np.asarray(places) for places in draw.source[0]]
    return torch_training(setting, recipe.base, variables, data, batches, expected, LOSS)


STAGES = [
    Stage(f"train-{method}", "training", partial(training, method), quick=False) for method in TIMED_METHODS
] + [
    Stage(f"fit-{method}", "training", partial(whole_training, method), quick=False)
    for method in TIMED_METHODS
]
