"""Makes the weights of the day-one model from a seed: simulates frames of all kinds, and learns which candidates are Bragg spots.

    python -m train.day_one --out sfxjax/spots/day_one.npz

`CONDITIONS` name single conditions to judge it by, on frames of other seeds; training draws from the same simulation.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sfxjax.command_line import new_parser, read_seed
from sfxjax.devices import device_line
from sfxjax.files import atomic_write_bytes
from sfxjax.simulate.artefacts import LIGHT, READING
from sfxjax.simulate.conditions import Condition, SimulatedFrame, draw_frame
from sfxjax.spots.candidates import CONTEXT, PATCH, Candidates, find_candidates
from sfxjax.spots.day_one import features, hidden_and_logits
from sfxjax.spots.prepare import prepare_frame
from sfxjax.training.averaged_fit import fit_averaged
from sfxjax.training.day_one_frames import fit_frame_context, judge_frames

TRAINING_FRAMES = 14000
# Others, from which is learnt what the candidates of a frame tell of each other.
WHOLE_FRAMES = 10000
WIDTHS = (144, 64)
TRAINING_STEPS = 22000
BATCH = 1024
# A candidate is a spot if one of at least this ratio lies within so many pixels and spot sizes of it.
LEAST_RATIO = 2.5
NEAR_PIXELS = 2.0
# Candidates of a frame that are learnt from: all spots, and the most striking others.
MOST_PLACES = 96

# Names of conditions, each as a change to what is drawn.
CONDITIONS: dict[str, dict[str, Any]] = {
    "counting 0.03": {"detector": "counting", "level": 0.03, "parts": ()},
    "counting 0.3": {"detector": "counting", "level": 0.3, "parts": ()},
    "counting 3": {"detector": "counting", "level": 3.0, "parts": ()},
    "counting 30": {"detector": "counting", "level": 30.0, "parts": ()},
    "integrating 2000": {"detector": "integrating", "level": 2000.0, "parts": ()},
    "photons 1": {"detector": "photons", "level": 1.0, "parts": ()},
    "analogue 3": {"detector": "analogue", "level": 3.0, "parts": ()},
    "eight bit": {"detector": "eight_bit", "parts": ()},
    "wide spots": {"spot_size": 1.3, "parts": ()},
    "very wide spots": {"spot_size": 2.2, "parts": ()},
    "sharp spots": {"spot_size": 0.4, "parts": ()},
    "gaps of 0": {"gaps": "zero", "level": 100.0, "detector": "integrating", "parts": ()},
    "gaps of a constant": {"gaps": "constant", "level": 50.0, "detector": "counting", "parts": ()},
    "hot pixels": {"parts": ("hot_pixels",)},
    "smooth rings": {"parts": ("smooth_rings",)},
    "grainy rings": {"parts": ("grainy_rings",)},
    "small angle": {"parts": ("small_angle",)},
    "jet streak": {"parts": ("jet_streak",)},
    "shadow and stop": {"parts": ("shadow", "beam_stop", "film_step")},
    "panel edges": {"parts": ("panel_edges",), "gaps": "zero"},
    "cosmic rays": {"parts": ("cosmic_rays", "scratches")},
    "bad pixels": {"parts": ("dead_pixels", "flickering_pixels", "bad_blocks")},
    "dark with defects": {
        "detector": "counting",
        "level": 0.01,
        "parts": ("noisy_areas", "hot_pixels", "bad_blocks"),
    },
    "noisy areas": {"parts": ("noisy_areas",)},
    "uneven response": {"parts": ("uneven_response",)},
    "salt": {"parts": ("salt_spots",)},
}


SHAPES = ((480, 480), (216, 264), (720, 600), (160, 208))
SHAPE_SHARES = (0.62, 0.15, 0.15, 0.08)
# Share of frames that show one condition alone, such as few photons, so that none is rare; of those with many artefacts of
# light, of reading or of both at once; and of those with spots wider than others have.
SINGLE_SHARE, MANY_SHARE, WIDE_SHARE = 0.3, 0.2, 0.15
# Which artefacts these are, with what chance each of them, and the spots' standard deviation, pixels.
MANY_OF = ((*LIGHT,), (*LIGHT,), (*READING,), (*LIGHT, *READING))
EACH_OF_MANY = (0.4, 1.0)
WIDE_SPOTS = (2.2, 4.0)


def _frames(seeds: list[tuple[int, int]]) -> list[SimulatedFrame]:
    frames = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        condition: dict[str, Any] = {}
        kind = rng.random()
        if kind < SINGLE_SHARE:
            condition = CONDITIONS[str(rng.choice(list(CONDITIONS)))]
        elif kind < SINGLE_SHARE + MANY_SHARE:
            names, chance = MANY_OF[rng.integers(len(MANY_OF))], rng.uniform(*EACH_OF_MANY)
            condition = {"parts": tuple(name for name in names if rng.random() < chance)}
        condition = {"shape": SHAPES[rng.choice(len(SHAPES), p=SHAPE_SHARES)], **condition}
        if "spot_size" not in condition and rng.random() < WIDE_SHARE:
            condition["spot_size"] = float(rng.uniform(*WIDE_SPOTS))
        frames.append(draw_frame(rng, Condition(**condition)))
    return frames


def candidates_of(frame: SimulatedFrame) -> Candidates:
    """Find a simulated frame's candidates, as arrays on the host."""
    return jax.device_get(find_candidates(prepare_frame(frame.values).pixels))


def are_spots(frame: SimulatedFrame, found: Candidates) -> np.ndarray:
    """Tell which candidates are true spots, float (n,): 1 or 0."""
    seen = frame.signal_to_noise >= LEAST_RATIO
    if not seen.any():
        return np.zeros(len(found.ss))
    places = frame.places[seen]
    away = np.hypot(found.ss[:, None] - places[:, 0], found.fs[:, None] - places[:, 1]).min(1)
    return (away <= NEAR_PIXELS + 0.5 * float(frame.condition.spot_size or 1)).astype(np.float32)


def drawn_frames(frames: int, seed: int, processes: int = 2) -> Iterator[SimulatedFrame]:
    """Draw frames to learn from, in several processes.

    Args:
        frames: how many.
        seed: of them.
        processes: that draw.
    """
    step = 20
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        plans = [[(seed, i) for i in range(k, min(k + step, frames))] for k in range(0, frames, step)]
        for batch in pool.map(_frames, plans):
            yield from batch


def simulate_candidates(frames: int, seed: int) -> tuple[Candidates, np.ndarray]:
    """Simulate frames and return candidates of theirs, and whether each is a spot."""
    rows: list[Candidates] = []
    truths: list[np.ndarray] = []
    for number, frame in enumerate(drawn_frames(frames, seed)):
        found = candidates_of(frame)
        truth = are_spots(frame, found)
        rng = np.random.default_rng([seed, 7, number])
        striking = found.signal_to_noise + 3 * rng.random(len(truth))
        striking[found.signal_to_noise < 3] = 0
        chosen = np.argsort(-striking)[:MOST_PLACES]
        rows.append(Candidates(*(np.asarray(part)[chosen] for part in found)))  # type: ignore[arg-type]
        truths.append(truth[chosen])
    joined = Candidates(*(np.concatenate(parts) for parts in zip(*rows, strict=True)))  # type: ignore[arg-type]
    use = joined.signal_to_noise >= 3
    return Candidates(*(part[use] for part in joined)), np.concatenate(truths)[use]


def _turned(found: Candidates, turn: jax.Array) -> Candidates:
    """Turn or mirror patches and what lies around them; `turn` is 0 to 7."""

    def apply(array: jax.Array) -> jax.Array:
        array = jnp.where(turn & 1, array[:, ::-1], array)
        array = jnp.where(turn & 2, array[:, :, ::-1], array)
        return jnp.where(turn & 4, array.swapaxes(1, 2), array)

    return found._replace(patch=apply(found.patch), live=apply(found.live), context=apply(found.context))


def fit_weights(
    found: Candidates, truth: np.ndarray, seed: int, steps: int = TRAINING_STEPS
) -> dict[str, np.ndarray]:
    """Fit the network to candidates whose truth is known."""
    some = np.random.default_rng(seed).permutation(len(truth))[:20000]
    sample = np.asarray(features(Candidates(*(part[some] for part in found))))
    rng = np.random.default_rng(seed)
    sizes = [sample.shape[1], *WIDTHS, 1]
    weights: dict[str, Any] = {"mean": sample.mean(0), "deviation": sample.std(0) + 0.1}
    for layer, (n, m) in enumerate(pairwise(sizes)):
        weights[f"kernel{layer}"] = rng.normal(0, np.sqrt(1.5 / n), (n, m)).astype(np.float32)
        weights[f"bias{layer}"] = np.zeros(m, np.float32)
    fixed = {name: jnp.asarray(weights.pop(name)) for name in ("mean", "deviation")}
    schedule = optax.cosine_decay_schedule(2e-3, steps)
    optimiser = optax.adamw(schedule, weight_decay=3e-3)

    def loss(weights: Any, batch: Candidates, truth: jax.Array, turn: jax.Array) -> jax.Array:
        _, logits = hidden_and_logits({**fixed, **weights}, features(_turned(batch, turn)))
        return optax.sigmoid_binary_cross_entropy(logits, truth).mean()

    def batches() -> Iterator[tuple[Any, ...]]:
        for _ in range(steps):
            chosen = rng.integers(0, len(truth), BATCH)
            yield Candidates(*(part[chosen] for part in found)), truth[chosen], int(rng.integers(8))

    fitted = fit_averaged(
        loss,
        weights,
        batches(),
        optimiser,
        first_averaged=-(-steps * 3 // 4),
        kept_share=0.995,
        said_every=1000,
    )
    return {**{name: np.asarray(value) for name, value in fixed.items()}, **fitted}


def as_stored(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return weights as 16-bit floats but for the inputs' scale."""
    return {
        name: value if name in ("mean", "deviation") else value.astype(np.float16)
        for name, value in weights.items()
    }


def save_weights(path: Path, weights: dict[str, np.ndarray], card: dict[str, Any]) -> None:
    """Write weights of `as_stored` and their card."""
    content = io.BytesIO()
    np.savez_compressed(content, card=np.array(json.dumps(card)), **weights)  # type: ignore[arg-type]
    atomic_write_bytes(path, content.getvalue())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = new_parser("train.day_one", "Make the weights of the day-one model from a seed.")
    parser.add_argument("--out", type=Path, required=True, help="file for the weights, .npz")
    parser.add_argument(
        "--frames", type=int, default=TRAINING_FRAMES, help=f"frames to simulate (default: {TRAINING_FRAMES})"
    )
    parser.add_argument(
        "--steps", type=int, default=TRAINING_STEPS, help=f"of fitting (default: {TRAINING_STEPS})"
    )
    parser.add_argument(
        "--whole-frames",
        type=int,
        default=WHOLE_FRAMES,
        help=f"more of them, to learn what all candidates of a frame tell of each other (default: {WHOLE_FRAMES})",
    )
    parser.add_argument("--seed", type=read_seed, default=0, help="(default: 0)")
    chosen = parser.parse_args(arguments)
    print(device_line())
    found, truth = simulate_candidates(chosen.frames, chosen.seed)
    print(
        f"{len(truth)} candidates of {chosen.frames} frames, {100 * truth.mean():.1f} % of them spots",
        flush=True,
    )
    card = {
        "frames": chosen.frames,
        "whole_frames": chosen.whole_frames,
        "seed": chosen.seed,
        "steps": chosen.steps,
        "candidates": len(truth),
        "trained_on": "simulated frames of sfxjax.simulate.conditions only",
        "patch": PATCH,
        "context": CONTEXT,
    }
    network = as_stored(fit_weights(found, truth, chosen.seed, chosen.steps))
    del found
    # Frames that the network does not know: from those it would learn to trust it too much.
    others = drawn_frames(chosen.whole_frames, chosen.seed + 1)
    judged = judge_frames(
        {name: jnp.asarray(value, jnp.float32) for name, value in network.items()}, others, are_spots
    )
    save_weights(chosen.out, {**network, **as_stored(fit_frame_context(judged, chosen.seed))}, card)
    print(f"written: {chosen.out}")
