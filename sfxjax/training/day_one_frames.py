"""The second stage of the day-one model's training: what the candidates of a whole frame tell of each other.

It is learnt from frames that the network was not trained on, with the network as it is: from frames of its own training it would
learn to trust it too much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sfxjax.simulate.conditions import SimulatedFrame
from sfxjax.spots.candidates import (
    CANDIDATES,
    Candidates,
    Measured,
    candidates_and_noise,
    ratio_without_spots,
)
from sfxjax.spots.day_one import RATIO_BIAS, Weights, count_visible, features, hidden_and_logits
from sfxjax.spots.definition import MIN_SNR, MIN_SPOTS
from sfxjax.spots.frame_context import COUNTED_SUMS, LEAST_SUMMED, OWN_VALUES, among_others
from sfxjax.spots.frame_pixels import FramePixels
from sfxjax.spots.prepare import prepare_frame
from sfxjax.training.averaged_fit import fit_averaged

SUMS, INNER = 16, 32
FITTING_STEPS = 4000
FRAMES_A_STEP = 32
# Numbers of visible spots from which frames are told apart, and the weight of each; that of a hit counts most.
LEAST_SPOTS = np.array([1, 2, 3, MIN_SPOTS, 6, 8, 10, 14, 20])
LEAST_WEIGHTS = np.where(LEAST_SPOTS == MIN_SPOTS, 3.0, 0.4).astype(np.float32)
# How much ratios are taken to exceed the true ones while fitting; `RATIO_BIAS` was chosen afterwards.
FITTED_BIAS = 0.1
# So many candidates weigh as much as a frame.
CANDIDATES_A_FRAME = 100


class JudgedFrames(NamedTuple):
    """What the network made of the candidates of frames, (frames, n) each unless stated; no candidate where the ratio is 0.

    Attributes:
        hidden: (frames, n, features) of its last hidden layer.
        logits: log odds.
        ratio: signal-to-noise.
        ratio_left: the same in the noise that is left without true spots.
        truth: 1 of a spot, else 0.
        visible: (frames,) true number of visible spots.
    """

    hidden: np.ndarray
    logits: np.ndarray
    ratio: np.ndarray
    ratio_left: np.ndarray
    truth: np.ndarray
    visible: np.ndarray


def judge_frames(
    weights: Weights,
    frames: Iterable[SimulatedFrame],
    are_spots: Callable[[SimulatedFrame, Candidates], np.ndarray],
) -> JudgedFrames:
    """Judge the candidates of simulated frames, each by itself.

    Args:
        weights: of the network.
        frames: of any shape.
        are_spots: tells which candidates of a frame are true spots, float (n,).
    """
    rows = []
    for frame in frames:
        pixels = prepare_frame(frame.values).pixels
        found, measured, hidden, logits = _judged(weights, pixels)
        truth = are_spots(frame, jax.device_get(found))
        left = _ratio_without_spots(found, measured, jnp.asarray(truth > 0.5), pixels)
        row = (np.asarray(hidden, np.float16), logits, found.signal_to_noise, left, truth)
        missing = CANDIDATES - len(truth)
        padded = [np.pad(part, [(0, missing)] + [(0, 0)] * (np.ndim(part) - 1)) for part in row]
        rows.append((*padded, np.sum(frame.signal_to_noise >= MIN_SNR)))
    return JudgedFrames(*(np.stack(parts) for parts in zip(*rows, strict=True)))


_ratio_without_spots = jax.jit(ratio_without_spots)


@jax.jit
def _judged(weights: Weights, pixels: FramePixels) -> tuple[Candidates, Measured, jax.Array, jax.Array]:
    found, measured = candidates_and_noise(pixels)
    return found, measured, *hidden_and_logits(weights, features(found))


def fit_frame_context(judged: JudgedFrames, seed: int, steps: int = FITTING_STEPS) -> dict[str, np.ndarray]:
    """Fit the weights of `sfxjax.spots.frame_context` to numbers of visible spots, and to which candidates are spots.

    Args:
        judged: of `judge_frames`.
        seed: of the first weights and of the order of frames.
        steps: of fitting.
    """
    rng = np.random.default_rng(seed)
    weights: dict[str, Any] = first_context_weights(rng, judged.hidden.shape[2])
    optimiser = optax.adamw(optax.cosine_decay_schedule(2e-3, steps), weight_decay=1e-2)

    def loss(weights: Any, batch: JudgedFrames) -> jax.Array:
        return jax.vmap(loss_of_frame, in_axes=(None, 0))(weights, batch).mean()

    def batches() -> Iterator[tuple[JudgedFrames]]:
        for _ in range(steps):
            chosen = rng.integers(0, len(judged.visible), FRAMES_A_STEP)
            yield (JudgedFrames(*(part[chosen] for part in judged)),)

    return fit_averaged(
        loss,
        weights,
        batches(),
        optimiser,
        first_averaged=steps // 2,
        kept_share=0.99,
        said_every=500,
        of_what=" of whole frames",
    )


def first_context_weights(rng: np.random.Generator, features: int) -> dict[str, np.ndarray]:
    """Draw weights that change little yet, of a network with so many features in its last hidden layer."""
    own, frame = features + OWN_VALUES, 2 * SUMS + COUNTED_SUMS

    def kernel(n: int, m: int, size: float = 1.0) -> np.ndarray:
        return rng.normal(0, size / np.sqrt(n), (n, m)).astype(np.float32)

    none = np.zeros(INNER, np.float32)
    return {
        "sum_kernel": kernel(own, SUMS),
        "sum_bias": np.zeros(SUMS, np.float32),
        "context_kernel0": kernel(own + frame, INNER),
        "context_bias0": none,
        "context_kernel1": kernel(INNER, 1, 0.1),
        "context_bias1": np.zeros(1, np.float32),
        "error_kernel0": kernel(frame, INNER),
        "error_bias0": none,
        "error_kernel1": kernel(INNER, 1, 0.1),
        "error_bias1": np.full(1, -1, np.float32),
    }


def loss_of_frame(weights: Any, frame: JudgedFrames) -> jax.Array:
    """Return what a frame's number of visible spots and its candidates cost; `frame` holds one, without the first axis."""
    hidden, alone, ratio, left = (jnp.asarray(part, jnp.float32) for part in frame[:4])
    logits, error = among_others(weights, hidden, alone, ratio)
    counts, _ = count_visible(logits, error, left, MIN_SNR + FITTED_BIAS - RATIO_BIAS)
    at_least = jnp.cumsum(counts[::-1])[::-1][LEAST_SPOTS].clip(1e-5, 1 - 1e-5)
    told = jnp.where(frame.visible >= LEAST_SPOTS, jnp.log(at_least), jnp.log1p(-at_least))
    of_candidates = optax.sigmoid_binary_cross_entropy(logits, frame.truth)
    summed = jnp.where(frame.ratio >= LEAST_SUMMED, of_candidates, 0).sum() / CANDIDATES_A_FRAME
    return summed - (LEAST_WEIGHTS * told).sum()
