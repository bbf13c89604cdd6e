"""Frames and networks that the stages of `bench.throughput` are checked and timed with."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path

import jax
import numpy as np

from sfxjax.crop import CROP, central_crop
from sfxjax.models.checkpoint import TrainedModel
from sfxjax.models.layers import MOMENTUM
from sfxjax.models.networks import HitClassifier
from sfxjax.models.stem import BaseConfig, stem
from sfxjax.reductions.registry import get_reduction

# Of the frames drawn.
SPOTS = (30, 0, 300, 8, 100, 2)


def random_frames(count: int, edge: int, seed: int) -> np.ndarray:
    """Make frames for timing: photon noise on a ring of solvent scattering, and none to some hundred spots.

    A few frames are drawn; the others are those, each shifted by another distance.

    Args:
        count: how many.
        edge: of a frame, pixels.
        seed: other seeds make other frames.

    Returns:
        uint16 (count, edge, edge).
    """
    rng = np.random.default_rng(seed)
    radius = np.hypot(*(np.mgrid[:edge, :edge] - edge / 2)).astype(np.float32)
    background = 40 + 120 * np.exp(-(((radius - 250) / 120) ** 2))
    noise = np.sqrt(background)
    drawn = []
    for spots in SPOTS[: min(count, len(SPOTS))]:
        frame = background + noise * rng.standard_normal((edge, edge), np.float32)
        for ss, fs in rng.integers(4, edge - 4, (spots, 2)):
            frame[ss - 1 : ss + 2, fs - 1 : fs + 2] += rng.uniform(50, 3000) * _SPOT
        drawn.append(np.clip(frame, 0, 65534).astype(np.uint16))
    shifts = rng.integers(1, edge, (count, 2))
    return np.stack(
        [
            np.roll(drawn[n % len(drawn)], shift, (0, 1)) if n >= len(drawn) else drawn[n]
            for n, shift in enumerate(shifts)
        ]
    )


_SPOT = np.exp(-0.5 * np.add.outer(np.arange(-1, 2) ** 2, np.arange(-1, 2) ** 2)).astype(np.float32)


@cache
def random_model(config: BaseConfig, reduction: str | None, seed: int = 0) -> TrainedModel:
    """Make a network whose weights are drawn and whose batch statistics are those of frames, so that scores differ."""
    from sfxjax.preprocess.definition import preprocess

    frames = preprocess(random_frames(16, CROP, seed + 100))
    maps = stem(
        frames if reduction is None else jax.vmap(lambda x: get_reduction(reduction)(x, None))(frames), config
    )
    network = HitClassifier(config)
    variables = network.init(jax.random.key(seed), maps[:1])
    rng = np.random.default_rng(seed)

    def drawn(leaf: jax.Array) -> np.ndarray:
        return np.asarray(leaf + np.float32(0.3) * rng.normal(size=leaf.shape).astype(np.float32), np.float32)

    params = jax.tree.map(drawn, variables["params"])
    before = variables["batch_stats"]
    _, after = jax.jit(partial(network.apply, train=True, mutable=["batch_stats"]))(
        {"params": params, "batch_stats": before}, maps, rngs={"dropout": jax.random.key(seed)}
    )
    # What the running statistics have moved by tells the batch's own.
    statistics = jax.tree.map(
        lambda old, new: np.asarray(old + (new - old) / (1 - MOMENTUM)), before, after["batch_stats"]
    )
    return TrainedModel(config, {"params": params, "batch_stats": statistics}, 0.5, reduction)


def real_crops() -> tuple[np.ndarray, np.ndarray]:
    """Read the real frames of the reference data beside the checkout, or inside it, if they are there.

    Returns:
        Crops, uint16 (n, 724, 724), n being 0 where there are none; and their good pixels, (724, 724).
    """
    import h5py

    top = Path(__file__).resolve().parents[2]
    for folder in (top / "shared", top.parent / "shared"):
        place = folder / "data" / "mfx_rayonix"
        if not (place / "mask.npz").is_file():
            continue
        crops = []
        for name in ("hit.h5", "blank.h5"):
            with h5py.File(place / name) as file:
                crops.append(central_crop(file["entry_1/data_1/data"][0]))
        with np.load(place / "mask.npz", allow_pickle=False) as stored:
            good = central_crop(stored["good"])
        return np.clip(crops, 0, 65535).astype(np.uint16), np.ascontiguousarray(good)
    return np.empty((0, CROP, CROP), np.uint16), np.ones((CROP, CROP), bool)
