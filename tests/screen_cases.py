"""What the tests of screening share: a small model with fixed weights, frames, and a run of the command."""

from __future__ import annotations

import csv
import functools
import subprocess
import sys
from pathlib import Path

import h5py
import jax
import numpy as np

from sfxjax.models import checkpoint as storage
from sfxjax.models import networks as models
from sfxjax.models.inputs import base_for
from sfxjax.screen.__main__ import main

REPOSITORY = Path(__file__).resolve().parents[1]


@functools.cache
def tiny_model(reduction: str | None = None) -> storage.TrainedModel:
    """A network whose untrained weights give frames, or their vectors, scores that differ clearly."""
    config = base_for(reduction, models.BaseConfig(channels=(2, 2)))
    network = models.HitClassifier(config)
    variables = dict(network.init(jax.random.key(0), storage.example_maps(config, reduction)))
    leaves, tree = jax.tree.flatten(variables["params"])
    generator = np.random.default_rng(0)
    leaves = [np.asarray(generator.normal(0, 0.5, leaf.shape), np.float32) for leaf in leaves]
    variables |= {"params": jax.tree.unflatten(tree, leaves)}
    return storage.TrainedModel(config, variables, reduction=reduction)


def frames(count: int, size: int = 740, dtype: str = "uint16", seed: int = 0) -> np.ndarray:
    """Noise on a smooth background with some spots, all frames different."""
    generator = np.random.default_rng(seed)
    background = 400 + 200 * np.hypot(*np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j])
    made = generator.normal(background, 12, (count, size, size))
    for number in range(count):
        places = generator.integers(size // 8, 7 * size // 8, (3 * number % 50, 2))
        made[number, places[:, 0], places[:, 1]] += 2000
    return made.round().astype(dtype)


def screen(*arguments: object) -> int:
    """Run the command in this process."""
    return main([str(argument) for argument in arguments])


def command(*arguments: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    call = [sys.executable, "-m", "sfxjax.screen", *map(str, arguments)]
    return subprocess.run(call, cwd=REPOSITORY, capture_output=True, text=True, timeout=timeout, check=False)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "frames.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
        return list(csv.DictReader(stream))


def scores(folder: Path) -> np.ndarray:
    return np.array([float(row["score"] or "nan") for row in rows(folder)], np.float32)


def write_cxi(path: Path, data: np.ndarray, **options: object) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("/entry_1/data_1/data", data=data, **options)
    return path


def write_cxidb76(path: Path, *chunks: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        file["/metadata/idh5_version"] = "idh5_v1.0"
        for number, images in enumerate(chunks):
            file[f"/data/chunk_{number}/images"] = images
    return path
