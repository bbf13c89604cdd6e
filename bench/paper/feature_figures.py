"""The paper's Figures 9 and 10: the features of DANN and of the source-only network, and DANN's learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.data.labels import LABEL_WORDS
from sfxjax.models.networks import HitClassifier
from sfxjax.models.stem import BaseConfig
from sfxjax.training.config import RunConfig
from sfxjax.training.data import PreparedSet
from sfxjax.training.figures import plot_learning_curves
from sfxjax.training.published import frame_range
from sfxjax.training.run import train
from sfxjax.training.scores import read_log

from .drawing import BLUE, RED, new_figure, save
from .plans import AS_PUBLISHED, Network
from .runs import TrainedRun, runs_of

SHOWN_TARGET = "LO19"
# Frames of one class and set in a panel of Fig. 9.
MOST_POINTS = 400
FOLDS = 5


def draw_runs(
    runs: Sequence[TrainedRun],
    plans: Mapping[Network, RunConfig],
    runs_folder: Path,
    sets: Mapping[str, PreparedSet],
    folder: Path,
) -> dict[str, Any]:
    """Draw `figure9.png` and `figure10.png` into a folder, of a DANN that was trained and of its source-only network.

    Returns:
        Empty where no DANN was trained, else `late_accuracy`, the least and the greatest of the `label` and the `domain`
        classifier after a third of the epochs, per cent, and, where a class has ten frames of either set, `told_apart`, see
        `draw_features`.
    """
    adapted = runs_of(runs, method="dann", variant=AS_PUBLISHED)
    if not adapted:
        return {}
    run = min(adapted, key=lambda run: run.network.target != SHOWN_TARGET)
    dann, simulated = run.network, run.record["simulated"]
    title = f"{'simulated sets: ' * simulated}DANN {dann.source} -> {dann.target}"
    log = read_log(runs_folder / dann.name)
    plot_learning_curves(log, run.record["epoch_kept"], title, folder / "figure10.png")
    late = log[len(log) // 3 :]
    accuracies = {key: [100 * line[f"{key}_accuracy"] for line in late] for key in ("label", "domain")}
    shown: dict[str, Any] = {
        "late_accuracy": {key: [min(values), max(values)] for key, values in accuracies.items()}
    }
    pair = {name: sets[name] for name in (dann.source, str(dann.target))}
    alone = Network("supervised", "full", dann.source, seed=dann.seed)
    features = {
        title: list(last_features(plans[network], pair, runs_folder / network.name).values())
        for title, network in (("source-only CNN", alone), ("DANN", dann))
    }
    classes = [each.labels[_last(each)] for each in pair.values()]
    names = f"{'simulated sets: ' * simulated}t-SNE of features, {dann.source} (source, red circles) and {dann.target}"
    apart = draw_features(features, classes, names, folder / "figure9.png")
    return shown | ({"told_apart": apart} if all(apart.values()) else {})


def last_features(plan: RunConfig, sets: Mapping[str, PreparedSet], folder: Path) -> dict[str, np.ndarray]:
    """Compute what a finished run's label classifier sees, (n, features) by set, of the last fifth of each."""
    # Of a finished training this reads the epoch kept; a model on disk has the statistics of one domain alone.
    models = train(plan, sets, folder / "checkpoints").models
    return {
        name: np.asarray(
            _features(models[name].variables, each.masked[None][_last(each)], models[name].config)
        )
        for name, each in sets.items()
    }


def _last(prepared: PreparedSet) -> np.ndarray:
    """The last fifth of a set, which no network was trained or validated on."""
    return np.asarray(frame_range("last", len(prepared)))


@partial(jax.jit, static_argnames="config")
def _features(variables: dict[str, Any], maps: jax.Array, config: BaseConfig) -> jax.Array:
    return HitClassifier(config).apply(variables, maps.astype(jnp.float32), method="features")  # type: ignore[return-value]


def told_apart(source: np.ndarray, target: np.ndarray) -> float | None:
    """Measure how well a linear classifier tells source (n, k) from target (m, k) features.

    Returns:
        The balanced accuracy of a logistic regression with both domains weighted alike, on frames it was not fitted to, the
        mean of five folds, per cent: 50 where the features overlap perfectly. None with fewer than 10 frames of either.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if min(len(source), len(target)) < 2 * FOLDS:
        return None
    features = np.concatenate([source, target])
    domain = np.repeat([0, 1], [len(source), len(target)])
    classifier = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    scores = cross_val_score(classifier, features, domain, cv=folds, scoring="balanced_accuracy")
    return 100 * float(np.mean(scores))


def draw_features(
    features: Mapping[str, Sequence[np.ndarray]], classes: Sequence[np.ndarray], names: str, path: Path
) -> dict[str, dict[str, float]]:
    """Embed the features of two sets in the plane by t-SNE, one panel a network and class (Fig. 9).

    The number under a panel is measured on the features themselves, see `told_apart`; the embedding only shows them.

    Args:
        features: title of a network, such as `DANN` -> features (n, k) of source frames and (m, k) of target frames.
        classes: MISS, MAYBE or HIT of the source frames (n,) and of the target frames (m,).
        names: of the sets, to begin the title.
        path: of the PNG.

    Returns:
        The numbers by network and class, `miss`, `maybe` or `hit`, without those of too few frames.
    """
    figure = new_figure(11, 3.9 * len(features) + 0.7)
    rows = figure.subplots(len(features), len(LABEL_WORDS), squeeze=False)
    letters = iter("abcdef")
    apart: dict[str, dict[str, float]] = {network: {} for network in features}
    for (network, domains), row in zip(features.items(), rows, strict=True):
        for label, axis in enumerate(row):
            word = LABEL_WORDS[label].lower()
            chosen = [part[labels == label] for part, labels in zip(domains, classes, strict=True)]
            _scatter(axis, [_shown_points(part) for part in chosen])
            percent, number = told_apart(*chosen), "too few frames"
            if percent is not None:
                apart[network][word], number = percent, f"told apart: {percent:.1f} %"
            axis.set_xlabel(f"{number}\n{len(chosen[0])} + {len(chosen[1])} frames", fontsize=10)
            axis.set_title(f"({next(letters)}) {network}, {word}", fontsize=11)
            axis.set(xticks=[], yticks=[])
    title = (
        f"{names} (target, blue crosses).\n"
        "Under each panel: how well a linear classifier tells the two sets apart by the features; 50 % is perfect overlap."
    )
    save(figure, title, path)
    return apart


def _shown_points(points: np.ndarray) -> np.ndarray:
    return points[np.random.default_rng(0).permutation(len(points))[:MOST_POINTS]]


def _scatter(axis: Any, points: Sequence[np.ndarray]) -> None:
    from sklearn.manifold import TSNE
    from sklearn.preprocessing import scale
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

    number = sum(map(len, points))
    if number < 5:
        return
    near = min(30, (number - 1) / 3)
    # The exact method: the other one's tree overruns the stack where points coincide, as those of a poor network do.
    # One thread: several wait for one another more than they work, badly so on a busy machine.
    with threadpool_limits(1):
        embedding = TSNE(2, perplexity=near, method="exact", init="random", random_state=0)
        plane = embedding.fit_transform(scale(np.concatenate(points).astype(np.float64)))
    source = np.arange(number) < len(points[0])
    circles = {"marker": "o", "s": 13, "facecolors": "none", "edgecolors": RED, "linewidths": 0.8}
    crosses = {"marker": "x", "s": 15, "color": BLUE, "linewidths": 0.9}
    for own, look in ((source, circles), (~source, crosses)):
        axis.scatter(*plane[own].T, alpha=0.75, **look)
