"""The pictures of the report, from the sets' frames and the finished runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.data.labels import LABEL_WORDS
from sfxjax.data.sets import open_set
from sfxjax.models.checkpoint import TrainedModel
from sfxjax.models.networks import HitClassifier
from sfxjax.models.stem import BaseConfig
from sfxjax.reductions.reduce import preprocess_and_reduce
from sfxjax.training.config import RunConfig
from sfxjax.training.data import PreparedSet
from sfxjax.training.figures import plot_learning_curves
from sfxjax.training.published import frame_range
from sfxjax.training.run import train
from sfxjax.training.scores import read_log

from .curves import draw_precision_recall
from .drawing import DrawnPanel
from .examples import choose_examples, whole_frame
from .figures import (
    draw_crop,
    draw_examples,
    draw_features,
    draw_normalisation,
    draw_vectors,
)
from .report import CURVES
from .runs import AS_PUBLISHED, TrainedRun

# The set of Figures 5 to 8, and the pair of Figures 9 and 10.
SHOWN = "LO19"


def draw_frames(data: Path, counter: TrainedRun, folder: Path) -> dict[str, Path]:
    """Draw Figures 5 to 8: a hit, a maybe and a miss, and what the pre-processing makes of them.

    Args:
        data: folder of the sets.
        counter: a run of the spot counter, by which frames are chosen.
        folder: for the pictures.

    Returns:
        The pictures' files by key.
    """
    paths = {f"figure{number}": folder / f"figure{number}.png" for number in (5, 6, 7, 8)}
    with open_set(data, SHOWN) as frame_set:
        simulated, good = frame_set.simulated, frame_set.mask_crop()
        # The counter's scores rise with its counts, so frames of median score have the median count.
        examples = choose_examples(frame_set, counter.scores[SHOWN])
        hit = examples[0]
        frame, mask = whole_frame(frame_set, hit.number)
    vectors = preprocess_and_reduce(jnp.asarray(np.stack([example.crop for example in examples])), good)
    labels, numbers = [e.label for e in examples], [e.number for e in examples]
    draw_examples(examples, good, paths["figure5"], name=SHOWN, simulated=simulated)
    draw_crop(frame, mask, paths["figure6"], name=SHOWN, number=hit.number, simulated=simulated)
    draw_normalisation(hit.crop, good, paths["figure7"], name=SHOWN, number=hit.number, simulated=simulated)
    draw_vectors(
        list(np.asarray(vectors)), labels, numbers, paths["figure8"], name=SHOWN, simulated=simulated
    )
    return paths


def draw_runs(
    runs: Sequence[TrainedRun], plans: Mapping[Path, RunConfig], sets: Mapping[str, PreparedSet], folder: Path
) -> tuple[dict[str, Path], dict[str, Any]]:
    """Draw Figures 9 and 10, and the precision-recall curves, as far as the runs allow.

    Args:
        runs: all there are.
        plans: of the runs, by folder.
        sets: the prepared sets.
        folder: for the pictures.

    Returns:
        The pictures' files by key; and of Figures 9 and 10, empty where one is missing: `told_apart`, per cent by network and
        class of ten frames or more, and `late_accuracy`, the least and the greatest of the `label` and the `domain`
        classifier after a third of the epochs, per cent.
    """
    paths = {CURVES: folder / f"{CURVES}.png"}
    draw_precision_recall(runs, paths[CURVES])
    adapted = [run for run in runs if run.method == "dann" and run.variant == AS_PUBLISHED]
    dann = min(adapted, key=lambda run: (run.target != SHOWN, run.source, run.seed), default=None)
    if dann is None:
        return paths, {}
    simulated = "simulated sets: " if dann.simulated else ""
    paths["figure10"] = folder / "figure10.png"
    log = read_log(dann.folder)
    plot_learning_curves(
        log,
        dann.record["epoch_kept"],
        f"{simulated}DANN {dann.source} -> {dann.target}",
        paths["figure10"],
    )
    alone = [
        run
        for run in runs
        if run.variant == AS_PUBLISHED
        and (run.method, run.source, run.split, run.seed) == ("supervised", dann.source, "full", dann.seed)
    ]
    if not alone:
        return paths, {}
    paths["figure9"] = folder / "figure9.png"
    apart: dict[str, dict[str, float]] = {}
    for panel in _draw_features(dann, alone[0], plans, sets, paths["figure9"]):
        known = {} if panel.told_apart is None else {LABEL_WORDS[panel.label].lower(): panel.told_apart}
        apart.setdefault(panel.network, {}).update(known)
    if not all(apart.values()):
        return paths, {}
    late = {
        key: [100 * line[f"{key}_accuracy"] for line in log[len(log) // 3 :]] for key in ("label", "domain")
    }
    return paths, {
        "told_apart": apart,
        "late_accuracy": {key: [min(values), max(values)] for key, values in late.items()},
    }


def _draw_features(
    dann: TrainedRun,
    alone: TrainedRun,
    plans: Mapping[Path, RunConfig],
    sets: Mapping[str, PreparedSet],
    path: Path,
) -> list[DrawnPanel]:
    """Draw Fig. 9 of the last fifth of both sets, which neither network was trained or validated on."""
    pair = {name: sets[name] for name in (dann.source, str(dann.target))}
    places = {name: np.asarray(frame_range("last", len(each))) for name, each in pair.items()}
    features = {}
    for title, run in (("source-only CNN", alone), ("DANN", dann)):
        # Of a finished training this reads the epoch kept; a model on disk has the statistics of one domain alone.
        models = train(plans[run.folder], pair, run.folder / "checkpoints").models
        source, target = (
            features_of(models[name], each.masked[None][places[name]]) for name, each in pair.items()
        )
        features[title] = (source, target)
    classes = [each.labels[places[name]] for name, each in pair.items()]
    return draw_features(
        features,
        (classes[0], classes[1]),
        path,
        source=dann.source,
        target=str(dann.target),
        simulated=dann.simulated,
    )


def features_of(model: TrainedModel, maps: np.ndarray) -> np.ndarray:
    """Compute the features that a model's label classifier sees, (n, features), of (n, ...) maps."""
    return np.asarray(_features(model.variables, maps, model.config))


@partial(jax.jit, static_argnames="config")
def _features(variables: dict[str, Any], maps: jax.Array, config: BaseConfig) -> jax.Array:
    return HitClassifier(config).apply(variables, maps.astype(jnp.float32), method="features")  # type: ignore[return-value]
