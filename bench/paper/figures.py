"""The paper's Figures 5 to 9 from frames, vectors and features, each written as one PNG.

Fig. 10 is `sfxjax.training.figures.plot_learning_curves`; the pictures of whole runs are in `bench.paper.curves`. A picture
of simulated frames says so in its title.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sfxjax.crop import CROP
from sfxjax.data.labels import LABEL_WORDS
from sfxjax.preprocess import global_contrast_normalize, preprocess
from sfxjax.screen.pictures import BAD_PIXELS, flattened
from sfxjax.spots.classical import spot_strengths

from .drawing import CLASS_COLOURS, DrawnPanel, Example, new_figure, save, show_frame, title_of

SOURCE_COLOUR, TARGET_COLOUR = "#c4342b", "#2b62c4"
# Frames of one class and set in a panel of Fig. 9.
MOST_POINTS = 400
FOLDS = 5
# Most spots marked by a box: more hide the frame.
MOST_BOXES = 30
ZOOM = 120  # side of the part of a frame shown enlarged in Fig. 7, pixels

_find_spots = jax.jit(spot_strengths)


def draw_examples(
    examples: Sequence[Example], good: np.ndarray | None, path: Path, *, name: str, simulated: bool
) -> None:
    """Draw frames as the detector gave them, and below without their smooth background, spots marked (Fig. 5).

    Args:
        examples: a hit, a maybe and a miss.
        good: (724, 724) bool, True = good, or None.
        path: of the PNG.
        name: of the set.
        simulated: whether it is a simulated set.
    """
    from matplotlib.patches import Rectangle

    good = np.ones((CROP, CROP), bool) if good is None else good
    figure = new_figure(3.6 * len(examples), 7.9)
    panels = figure.subplots(2, len(examples), squeeze=False)
    for (raw, flat), example in zip(panels.T, examples, strict=True):
        frame = example.crop.astype(np.float32)
        strengths = np.asarray(_find_spots(frame, good))
        spots = np.argwhere(strengths)
        strongest = spots[np.argsort(-strengths[strengths > 0], kind="stable")][:MOST_BOXES]
        show_frame(raw, frame, good)
        show_frame(flat, flattened(frame, good), good)
        for ss, fs in strongest:
            box = Rectangle((fs - 8, ss - 8), 16, 16, fill=False, edgecolor=SOURCE_COLOUR, linewidth=0.8)
            flat.add_patch(box)
        word = LABEL_WORDS[example.label]
        raw.set_title(f"{word}: frame {example.number}", fontsize=11, color=CLASS_COLOURS[word])
        marked = "" if len(spots) == len(strongest) else f", the {len(strongest)} strongest marked"
        flat.set_title(f"{len(spots)} spots counted{marked}", fontsize=10)
    figure.suptitle(
        f"{title_of(name, simulated)}: crops of {CROP}x{CROP} pixels; dark is bright, blue is masked.\n"
        "Above as read, below without the smooth background."
    )
    save(figure, path)


def draw_crop(
    frame: np.ndarray,
    good: np.ndarray | None,
    path: Path,
    *,
    name: str,
    number: int,
    simulated: bool,
    size: int = CROP,
) -> None:
    """Draw the central crop inside the whole frame, and beside it alone (Fig. 6).

    Args:
        frame: (height, width) of the whole detector.
        good: bool of that shape, True = good, or None.
        path: of the PNG.
        name: of the set.
        number: of the frame, from 1.
        simulated: whether it is a simulated set.
        size: side of the crop, pixels.
    """
    from matplotlib.patches import Rectangle

    height, width = frame.shape
    top, left = (height - size) // 2, (width - size) // 2
    good = np.ones(frame.shape, bool) if good is None else good
    flat = flattened(frame, good)
    figure = new_figure(11.5, 6.2)
    whole, part = figure.subplots(1, 2)
    show_frame(whole, flat, good, shrink=3)
    square = Rectangle((left, top), size, size, fill=False, edgecolor=SOURCE_COLOUR, linewidth=1.8)
    whole.add_patch(square)
    whole.set_title(f"whole frame, {width}x{height} pixels", fontsize=10)
    region = slice(top, top + size), slice(left, left + size)
    show_frame(part, flat[region], good[region])
    part.set_title(f"central crop, {size}x{size} pixels", fontsize=10)
    for edge in part.spines.values():
        edge.set(edgecolor=SOURCE_COLOUR, linewidth=1.8, visible=True)
    figure.suptitle(
        f"{title_of(name, simulated)}, frame {number}, without its smooth background: dark is bright, blue is masked"
    )
    save(figure, path)


def draw_normalisation(
    crop: np.ndarray, good: np.ndarray | None, path: Path, *, name: str, number: int, simulated: bool
) -> None:
    """Draw a crop, its global and its local contrast normalisation, whole and enlarged (Fig. 7).

    Args:
        crop: (724, 724) detector units.
        good: bool of that shape, True = good, or None.
        path: of the PNG.
        name: of the set.
        number: of the frame, from 1.
        simulated: whether it is a simulated set.
    """
    from matplotlib.patches import Rectangle

    good = np.ones(crop.shape, bool) if good is None else good
    whole = np.asarray(global_contrast_normalize(crop, good))
    local = np.asarray(preprocess(crop, good))
    # LCN loses a margin; it is put back as bad pixels, so that the panels show the same places.
    margin = (crop.shape[0] - local.shape[0]) // 2
    local = np.pad(local, margin, constant_values=np.nan)
    ss, fs = _busiest_region(np.asarray(_find_spots(crop, good)) > 0)
    region = slice(ss, ss + ZOOM), slice(fs, fs + ZOOM)
    steps = [("as read", crop.astype(np.float64)), ("GCN", whole), ("GCN and LCN", local)]
    figure = new_figure(11.5, 7.2)
    panels = figure.subplots(2, 3)
    for column, (title, values) in zip(panels.T, steps, strict=True):
        shown = np.where(good, values, np.nan)
        for axis, part, about in ((column[0], shown, ""), (column[1], shown[region], ", enlarged")):
            low, middle, high = np.nanpercentile(part, [0.5, 50, 99.5])
            # Room above the noise, or all spots would be equally black.
            high = max(high, middle + 2 * (middle - low))
            axis.set_facecolor([value / 255 for value in BAD_PIXELS])
            image = axis.imshow(part, cmap="gray_r", vmin=low, vmax=high, interpolation="nearest")
            figure.colorbar(image, ax=axis, shrink=0.9, pad=0.02).ax.tick_params(labelsize=8)
            axis.set(xticks=[], yticks=[])
            axis.set_title(title + about, fontsize=10)
        square = Rectangle((fs, ss), ZOOM, ZOOM, fill=False, edgecolor=SOURCE_COLOUR, linewidth=1.5)
        column[0].add_patch(square)
    figure.suptitle(f"{title_of(name, simulated)}, frame {number}: contrast normalisation; blue is masked")
    save(figure, path)


def draw_vectors(
    vectors: Sequence[np.ndarray],
    labels: Sequence[int],
    numbers: Sequence[int],
    path: Path,
    *,
    name: str,
    simulated: bool,
) -> None:
    """Draw row-wise decompositions, one below the other on the same scale (Fig. 8).

    Args:
        vectors: (720,) each: of a hit, a maybe and a miss.
        labels: MISS, MAYBE or HIT of each.
        numbers: of the frames, from 1.
        path: of the PNG.
        name: of the set.
        simulated: whether it is a simulated set.
    """
    figure = new_figure(9, 2.1 * len(vectors) + 0.6)
    panels = figure.subplots(len(vectors), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axis, vector, label, number in zip(panels, vectors, labels, numbers, strict=True):
        word = LABEL_WORDS[label]
        axis.plot(np.arange(1, len(vector) + 1), vector, linewidth=0.9, color=CLASS_COLOURS[word])
        axis.text(
            0.985,
            0.9,
            f"{word}: frame {number}",
            transform=axis.transAxes,
            ha="right",
            va="top",
            color=CLASS_COLOURS[word],
            fontsize=11,
            bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1},
        )
        axis.set_ylabel("max - min")
        axis.set(xlim=(1, len(vector)), ylim=(0, 1.08 * max(float(v.max()) for v in vectors)))
        axis.grid(alpha=0.25)
    panels[-1].set_xlabel("row of the pre-processed frame")
    figure.suptitle(f"{title_of(name, simulated)}: row-wise decomposition")
    save(figure, path)


def told_apart(source: np.ndarray, target: np.ndarray, seed: int = 0) -> float | None:
    """Measure how well a linear classifier tells source from target features.

    Args:
        source: (n, k) features.
        target: (m, k) features.
        seed: of the division into folds.

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
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    return 100 * float(
        np.mean(cross_val_score(classifier, features, domain, cv=folds, scoring="balanced_accuracy"))
    )


def draw_features(
    features: Mapping[str, tuple[np.ndarray, np.ndarray]],
    classes: tuple[np.ndarray, np.ndarray],
    path: Path,
    *,
    source: str,
    target: str,
    simulated: bool,
    seed: int = 0,
) -> list[DrawnPanel]:
    """Embed the features of two sets in the plane by t-SNE, one panel a network and class (Fig. 9).

    The number under a panel is measured on the features themselves, see `told_apart`; the embedding only shows them.

    Args:
        features: title of a network, such as `DANN` -> features (n, k) of source frames and (m, k) of target frames.
        classes: MISS, MAYBE or HIT of the source frames (n,) and of the target frames (m,).
        path: of the PNG.
        source: name of the source set.
        target: name of the target set.
        simulated: whether either is a simulated set.
        seed: of the choice of frames, the embedding and the folds.

    Returns:
        The panels' numbers, in the order drawn.
    """
    figure = new_figure(11, 3.9 * len(features) + 0.7)
    rows = figure.subplots(len(features), len(LABEL_WORDS), squeeze=False)
    panels = []
    for (network, domains), row in zip(features.items(), rows, strict=True):
        for label, axis in enumerate(row):
            chosen = [part[labels == label] for part, labels in zip(domains, classes, strict=True)]
            panel = DrawnPanel(network, label, told_apart(chosen[0], chosen[1], seed))
            panels.append(panel)
            rng = np.random.default_rng(seed)
            shown = [part[rng.permutation(len(part))[:MOST_POINTS]] for part in chosen]
            _scatter(axis, shown, (source, target), seed)
            number = "too few frames" if panel.told_apart is None else f"told apart: {panel.told_apart:.1f} %"
            axis.set_xlabel(f"{number}\n{len(chosen[0])} + {len(chosen[1])} frames", fontsize=10)
            axis.set_title(
                f"({'abcdef'[len(panels) - 1]}) {network}, {LABEL_WORDS[label].lower()}", fontsize=11
            )
            axis.set(xticks=[], yticks=[])
    data = "simulated sets: " if simulated else ""
    figure.suptitle(
        f"{data}t-SNE of features, {source} (source, red circles) and {target} (target, blue crosses).\n"
        "Under each panel: how well a linear classifier tells the two sets apart by the features; 50 % is perfect overlap."
    )
    save(figure, path)
    return panels


def _scatter(axis: Any, points: Sequence[np.ndarray], names: tuple[str, str], seed: int) -> None:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

    number = sum(map(len, points))
    if number < 5:
        return
    values = np.concatenate(points).astype(np.float64)
    values = (values - values.mean(0)) / np.maximum(values.std(0), 1e-9)
    # The exact method: the other one's tree overruns the stack where points coincide, as those of a poor network do.
    # One thread: several wait for one another more than they work, badly so on a busy machine.
    with threadpool_limits(1):
        plane = TSNE(
            2, perplexity=min(30, (number - 1) / 3), method="exact", init="random", random_state=seed
        ).fit_transform(values)
    source = np.arange(number) < len(points[0])
    # In random order, so that neither set lies on top.
    order = np.random.default_rng(seed).permutation(number)
    for marker, colour, own, size in (("o", SOURCE_COLOUR, source, 13), ("x", TARGET_COLOUR, ~source, 15)):
        some = plane[order][own[order]]
        more = {"facecolors": "none", "linewidths": 0.8} if marker == "o" else {"linewidths": 0.9}
        edge = {"edgecolors": colour} if marker == "o" else {"color": colour}
        axis.scatter(some[:, 0], some[:, 1], s=size, marker=marker, alpha=0.75, **edge, **more)


def _busiest_region(spots: np.ndarray) -> tuple[int, int]:
    """Choose the ZOOM x ZOOM pixels with most spots of a (height, width) map: their first row and column."""
    tall, wide = (length // ZOOM for length in spots.shape)
    counts = spots[: tall * ZOOM, : wide * ZOOM].reshape(tall, ZOOM, wide, ZOOM).sum((1, 3))
    row, column = np.unravel_index(int(np.argmax(counts)), counts.shape)
    return int(row) * ZOOM, int(column) * ZOOM
