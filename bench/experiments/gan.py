"""Does pre-training by a GAN save labels (the paper's outlook, its reference 32)?

    python -m bench.experiments.gan --seeds 2

trains a DCGAN (Radford et al., arXiv:1511.06434) on the training frames of LO19 without their labels, 64x64 maxima of blocks of
each, and fits a logistic regression to the features of its discriminator with 25 to 200 labels. Beside it stand the same network
trained on the labels of another set, LN83, and the same with random weights. Both sets are simulated.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from sfxjax.data.sets import open_set
from sfxjax.data.splits import split
from sfxjax.errors import run_main
from sfxjax.models.networks import rotate_flip
from sfxjax.progress import progress
from sfxjax.reductions.block_maxima import largest_in_blocks
from sfxjax.reductions.reduce import preprocess_and_reduce
from sfxjax.simulate.write import simulated_data
from sfxjax.training.evaluation import summarize

from .record import experiment_parser, markdown_table, mean_and_deviation, read, write

PRETRAINING = {"gan": "GAN on LO19, no labels", "source": "labels of LN83", "none": "none, random weights"}
SOURCE_SET, LABELLED_SET = "LN83", "LO19"
LABEL_COUNTS = (25, 50, 100, 200)
MAP_SIDE, MAP_BLOCK = 64, 11  # of the picture that a network reads, and of its blocks, pixels
LATENT, GAN_BATCH = 64, 64
CHANNELS = (16, 32, 64, 64)  # of the discriminator's layers, the generator's in reverse
ADAM = optax.adam(2e-4, b1=0.5)  # as in DCGAN


def spot_picture(frame: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Return the maxima of blocks in the middle of a pre-processed frame (720, 720), as a vector of MAP_SIDE * MAP_SIDE."""
    seen = frame if valid is None else jnp.where(valid, frame, -jnp.inf)
    edge = (frame.shape[0] - MAP_SIDE * MAP_BLOCK) // 2
    largest = largest_in_blocks(
        seen[edge : edge + MAP_SIDE * MAP_BLOCK, edge : edge + MAP_SIDE * MAP_BLOCK], MAP_BLOCK
    )
    return jnp.maximum(largest, 0).reshape(-1)


def scale_pictures(pictures: np.ndarray) -> np.ndarray:
    """Bring maxima into the generator's range: their logarithms over three deviations of the set's, cut off at 1."""
    logs = np.log(pictures.reshape(-1, MAP_SIDE, MAP_SIDE, 1) + 0.02)
    return np.clip((logs - logs.mean()) / (3 * logs.std()), -1, 1).astype(np.float32)


class Discriminator(nn.Module):
    """DCGAN's: strided convolutions, batch normalisation on all but the first, leaky ReLU."""

    @nn.compact
    def __call__(self, pictures: jax.Array, train: bool = False) -> tuple[jax.Array, list[jax.Array]]:
        """Return logits (n,) and the values of every layer."""
        values, layers = pictures, []
        for level, channels in enumerate(CHANNELS):
            values = nn.Conv(channels, (4, 4), (2, 2))(values)
            if level:
                values = nn.BatchNorm(use_running_average=not train, momentum=0.9)(values)
            values = nn.leaky_relu(values, 0.2)
            layers.append(values)
        return nn.Dense(1)(values.reshape(len(values), -1))[:, 0], layers


class Generator(nn.Module):
    """DCGAN's: transposed convolutions from a small map to a picture."""

    @nn.compact
    def __call__(self, latent: jax.Array) -> jax.Array:
        """Return pictures (n, MAP_SIDE, MAP_SIDE, 1) of (n, LATENT)."""
        values = nn.Dense(4 * 4 * CHANNELS[-1])(latent).reshape(-1, 4, 4, CHANNELS[-1])
        for channels in (*CHANNELS[-2::-1], 1):
            values = nn.relu(nn.BatchNorm(use_running_average=False)(values))
            values = nn.ConvTranspose(channels, (4, 4), (2, 2))(values)
        return jnp.tanh(values)


class Pretraining(NamedTuple):
    """What is trained: the variables of both networks and their optimisers' states."""

    discriminator: Any
    generator: Any
    states: Any


def _entropy(logits: jax.Array, truth: jax.Array | float) -> jax.Array:
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, jnp.broadcast_to(truth, logits.shape)))


def _judge(parameters: Any, rest: Any, pictures: jax.Array) -> tuple[jax.Array, Any]:
    (logits, _), rest = Discriminator().apply(
        {"params": parameters} | rest, pictures, True, mutable=["batch_stats"]
    )
    return logits, rest


def _make(parameters: Any, rest: Any, latent: jax.Array) -> tuple[jax.Array, Any]:
    return Generator().apply({"params": parameters} | rest, latent, mutable=["batch_stats"])


def _moved(gradients: Any, state: Any, parameters: Any) -> tuple[Any, Any]:
    updates, state = ADAM.update(gradients, state, parameters)
    return optax.apply_updates(parameters, updates), state


@jax.jit
def _gan_step(state: Pretraining, pictures: jax.Array, key: jax.Array) -> Pretraining:
    latent = jax.random.normal(key, (len(pictures), LATENT))
    (judge, judge_rest), (make, make_rest) = state.discriminator, state.generator
    made, make_rest = _make(make, make_rest, latent)

    def told(parameters: Any) -> tuple[jax.Array, Any]:
        real, rest = _judge(parameters, judge_rest, pictures)
        fake, _ = _judge(parameters, judge_rest, made)
        # One side's truth is 0.9, or the discriminator is sure too soon.
        return _entropy(real, 0.9) + _entropy(fake, 0.0), rest

    gradients, rest = jax.grad(told, has_aux=True)(judge)
    judge, first = _moved(gradients, state.states[0], judge)

    def fooled(parameters: Any) -> jax.Array:
        made, _ = _make(parameters, make_rest, latent)
        return _entropy(_judge(judge, rest, made)[0], 1.0)

    make, second = _moved(jax.grad(fooled)(make), state.states[1], make)
    return Pretraining((judge, rest), (make, make_rest), (first, second))


@jax.jit
def _label_step(state: Pretraining, pictures: jax.Array, truth: jax.Array) -> Pretraining:
    judge, rest = state.discriminator

    def loss(parameters: Any) -> tuple[jax.Array, Any]:
        logits, changed = _judge(parameters, rest, pictures)
        return _entropy(logits, truth), changed

    gradients, rest = jax.grad(loss, has_aux=True)(judge)
    judge, first = _moved(gradients, state.states[0], judge)
    return Pretraining((judge, rest), state.generator, (first, state.states[1]))


def untrained(seed: int) -> Pretraining:
    """Return both networks with random weights."""
    keys = jax.random.split(jax.random.key(seed))
    judge = Discriminator().init(keys[0], jnp.zeros((2, MAP_SIDE, MAP_SIDE, 1)), True)
    make = Generator().init(keys[1], jnp.zeros((2, LATENT)))
    parts = [(v["params"], {"batch_stats": v["batch_stats"]}) for v in (judge, make)]
    return Pretraining(parts[0], parts[1], tuple(ADAM.init(part[0]) for part in parts))


def pretrained(
    kind: str, pictures: np.ndarray, positives: np.ndarray, steps: int, seed: int
) -> tuple[Any, float]:
    """Pre-train a discriminator.

    Args:
        kind: a key of `PRETRAINING`.
        pictures: (n, MAP_SIDE, MAP_SIDE, 1) to train on.
        positives: (n,) bool; a GAN reads none.
        steps: of the optimiser.
        seed: of weights and draws.

    Returns:
        Its variables, and the seconds it took.
    """
    state, rng, begin = untrained(seed), np.random.default_rng(seed), time.monotonic()
    if kind == "none":
        return state.discriminator, 0.0
    key = jax.random.key(seed + 1)
    with progress(f"pre-training: {PRETRAINING[kind]}", steps, "steps") as advance:
        for number in range(steps):
            drawn = rng.integers(len(pictures), size=GAN_BATCH)
            batch = rotate_flip(jnp.asarray(pictures[drawn]), int(rng.integers(8)))
            if kind == "gan":
                state = _gan_step(state, batch, jax.random.fold_in(key, number))
            else:
                state = _label_step(state, batch, jnp.asarray(positives[drawn], jnp.float32))
            advance(1)
    return state.discriminator, time.monotonic() - begin


@partial(jax.jit, static_argnums=2)
def _grids(variables: Any, pictures: jax.Array, grid: int = 4) -> jax.Array:
    answer: Any = Discriminator().apply({"params": variables[0]} | variables[1], pictures)
    pooled = [
        each.reshape(len(each), grid, each.shape[1] // grid, grid, -1, each.shape[3]).max((2, 4))
        for each in answer[1]
    ]
    return jnp.concatenate([each.reshape(len(each), -1) for each in pooled], -1)


def read_features(variables: Any, pictures: np.ndarray) -> np.ndarray:
    """Return the maxima of every layer in a grid of 4x4, as Radford et al. take them, of batches of pictures."""
    parts = [
        _grids(variables, jnp.asarray(part)) for part in np.array_split(pictures, -(-len(pictures) // 200))
    ]
    return np.concatenate(parts)


def fitted_scores(features: np.ndarray, positives: np.ndarray, labels: int, tested: slice) -> np.ndarray:
    """Fit a logistic regression to the first frames' features and score the tested ones."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    regression = LogisticRegression(C=1e-3, class_weight="balanced", max_iter=2000)
    model = make_pipeline(StandardScaler(), regression).fit(features[:labels], positives[:labels])
    return model.predict_proba(features[tested])[:, 1]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = experiment_parser("gan", "Pre-training by a GAN.")
    parser.add_argument("--steps", type=int, default=600, help="of each pre-training (default: 600)")
    chosen = read(parser, arguments)
    folder = simulated_data([SOURCE_SET, LABELLED_SET], chosen.frames)
    pictures, positives = {}, {}
    for name in (SOURCE_SET, LABELLED_SET):
        with open_set(folder, name) as frames, progress(f"reading {name}", len(frames)) as advance:
            positives[name] = frames.positives
            parts = []
            for first in range(0, len(frames), 100):
                crops = frames.crops(range(first, min(first + 100, len(frames))))
                parts.append(
                    np.asarray(preprocess_and_reduce(crops, frames.mask_crop(), reduction=spot_picture))
                )
                advance(len(crops))
        pictures[name] = scale_pictures(np.concatenate(parts))
    ranges = split("full", chosen.frames)
    trained, tested = slice(0, ranges.train.stop), slice(ranges.test.start, None)
    cells: list[dict[str, Any]] = []
    for seed in range(chosen.seeds):
        for kind in PRETRAINING:
            name = SOURCE_SET if kind == "source" else LABELLED_SET
            variables, seconds = pretrained(
                kind, pictures[name][trained], positives[name][trained], chosen.steps, seed
            )
            features = read_features(variables, pictures[LABELLED_SET])
            for labels in LABEL_COUNTS:
                scores = fitted_scores(features, positives[LABELLED_SET], labels, tested)
                figures = summarize(positives[LABELLED_SET][tested], scores)
                about = {"pretraining": kind, "labels": labels, "seed": seed}
                cells.append(about | {"pretraining_seconds": round(seconds, 1), **figures})
    rows = []
    for kind, title in PRETRAINING.items():
        some = [cell for cell in cells if cell["pretraining"] == kind]
        values = [
            mean_and_deviation(c["balanced_accuracy"]["percent"] for c in some if c["labels"] == labels)
            for labels in LABEL_COUNTS
        ]
        areas = [
            mean_and_deviation((c["area_under_curve"] for c in some if c["labels"] == n), 3)
            for n in (25, 200)
        ]
        rows.append([title, *values, *areas, mean_and_deviation((c["pretraining_seconds"] for c in some), 0)])
    columns = ["pre-training", *(f"{labels} labels" for labels in LABEL_COUNTS)]
    columns += ["area under ROC, 25", "200", "pre-training, s"]
    text = "\n\n".join(
        [
            f"**Features of a discriminator, and labels of {LABELLED_SET}** (simulated sets of {chosen.frames} frames, "
            f"pictures of {MAP_SIDE}x{MAP_SIDE} maxima of blocks, {chosen.steps} steps, {chosen.seeds} seeds, balanced accuracy "
            "on the last fifth, per cent, ± the standard deviation over seeds)",
            markdown_table(columns, rows),
        ]
    )
    record = {
        "simulated": True,
        "frames": chosen.frames,
        "steps": chosen.steps,
        "side": MAP_SIDE,
        "cells": cells,
    }
    write(chosen.results, "gan", record, text)


if __name__ == "__main__":
    sys.exit(run_main(main))
