"""The paper's Figures 5 to 8: a hit, a maybe and a miss, and what the pre-processing makes of them, each one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.crop import CROP
from sfxjax.data.labels import HIT, LABEL_WORDS, MAYBE, MISS
from sfxjax.data.sets import FrameSet, open_set
from sfxjax.errors import UserError
from sfxjax.preprocess import global_contrast_normalize, preprocess
from sfxjax.reductions.reduce import preprocess_and_reduce
from sfxjax.screen.pictures import BAD_PIXELS, flattened
from sfxjax.simulate.parameters import SIMULATED_SETS
from sfxjax.simulate.sets import ShotPlan, plan_run, simulate_frames
from sfxjax.simulate.write import simulated_mask
from sfxjax.spots.classical import spot_strengths

from .drawing import CLASS_COLOURS, RED, new_figure, outline, save, show_frame

SHOWN_SET = "LO19"
# Most spots marked by a box: more hide the frame.
MOST_BOXES = 30
ZOOM = 120  # side of the part of a frame shown enlarged in Fig. 7, pixels

_find_spots = jax.jit(spot_strengths)


class Example(NamedTuple):
    """A frame to show.

    Attributes:
        set_title: of its set; of a simulated one it says so.
        number: of the frame in its set, from 1.
        label: MISS, MAYBE or HIT.
        crop: (724, 724) detector units.
        good: (724, 724) bool, True = good.
    """

    set_title: str
    number: int
    label: int
    crop: np.ndarray
    good: np.ndarray

    @property
    def title(self) -> str:
        """Class and number."""
        return f"{LABEL_WORDS[self.label]}: frame {self.number}"

    @property
    def colour(self) -> str:
        """Of its class."""
        return CLASS_COLOURS[LABEL_WORDS[self.label]]


def draw_frames(data: Path, counts: np.ndarray, folder: Path) -> None:
    """Draw `figure5.png` to `figure8.png` into a folder, of frames of SHOWN_SET chosen by its (frames,) spot counts."""
    with open_set(data, SHOWN_SET) as frame_set:
        examples = choose_examples(frame_set, counts)
        frame, good = whole_frame(frame_set, examples[0].number)
    draw_examples(examples, folder / "figure5.png")
    draw_crop(examples[0], frame, good, folder / "figure6.png")
    draw_normalisation(examples[0], folder / "figure7.png")
    crops = jnp.asarray(np.stack([example.crop for example in examples]))
    vectors = preprocess_and_reduce(crops, examples[0].good)
    draw_vectors(examples, np.asarray(vectors), folder / "figure8.png")


def choose_examples(frame_set: FrameSet, counts: np.ndarray) -> list[Example]:
    """Choose a hit, a maybe and a miss of an open set, each with the median of its class of (frames,) spot counts.

    Raises:
        UserError: a class has no frame.
    """
    mask = frame_set.mask_crop()
    good = np.ones((CROP, CROP), bool) if mask is None else mask
    title = f"{'simulated set ' * frame_set.simulated}{frame_set.name}"
    examples = []
    for label in (HIT, MAYBE, MISS):
        own = np.flatnonzero(frame_set.labels == label)
        if not len(own):
            raise UserError(f"{frame_set.path}: the set has no frame of each class to show")
        place = int(own[np.argmin(np.abs(counts[own] - np.median(counts[own])))])
        examples.append(Example(title, place + 1, label, frame_set.crops([place])[0], good))
    return examples


def whole_frame(frame_set: FrameSet, number: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a frame of the whole detector, by its number from 1, and its mask.

    A simulated set keeps the crop alone, so its frame is simulated again in full: the same shot, with noise of its own.

    Returns:
        (height, width) detector units, and bool of that shape, True = good, or None.
    """
    parameters = SIMULATED_SETS.get(frame_set.name)
    if not frame_set.simulated or parameters is None or min(frame_set.frame_shape) > 1000:
        return frame_set.original(number - 1)
    # As the set was simulated: with seed 0.
    plan = ShotPlan(*(column[[number - 1]] for column in plan_run(parameters, len(frame_set), 0)))
    shape = parameters.geometry.shape
    images, _ = simulate_frames(0, np.array([number - 1]), plan, parameters=parameters, shape=shape)
    return np.asarray(images)[0], simulated_mask(parameters, shape)


def draw_examples(examples: Sequence[Example], path: Path) -> None:
    """Draw frames as the detector gave them, and below without their smooth background, spots marked (Fig. 5)."""
    figure = new_figure(3.6 * len(examples), 7.9)
    panels = figure.subplots(2, len(examples), squeeze=False)
    for (raw, flat), example in zip(panels.T, examples, strict=True):
        frame, good = example.crop.astype(np.float32), example.good
        strengths = np.asarray(_find_spots(frame, good))
        spots = np.argwhere(strengths)
        strongest = spots[np.argsort(-strengths[strengths > 0], kind="stable")][:MOST_BOXES]
        marked = "" if len(spots) == len(strongest) else f", the {len(strongest)} strongest marked"
        show_frame(raw, frame, good, example.title)
        raw.title.set(fontsize=11, color=example.colour)
        show_frame(flat, flattened(frame, good), good, f"{len(spots)} spots counted{marked}")
        for ss, fs in strongest:
            outline(flat, ss - 8, fs - 8, 16, 0.8)
    title = (
        f"{examples[0].set_title}: crops of {CROP}x{CROP} pixels; dark is bright, blue is masked.\n"
        "Above as read, below without the smooth background."
    )
    save(figure, title, path)


def draw_crop(example: Example, frame: np.ndarray, good: np.ndarray | None, path: Path) -> None:
    """Draw the central crop inside the whole frame (height, width) of an example, and beside it alone (Fig. 6)."""
    height, width = frame.shape
    top, left = (height - CROP) // 2, (width - CROP) // 2
    region = slice(top, top + CROP), slice(left, left + CROP)
    good = np.ones(frame.shape, bool) if good is None else good
    flat = flattened(frame, good)
    figure = new_figure(11.5, 6.2)
    whole, part = figure.subplots(1, 2)
    show_frame(whole, flat, good, f"whole frame, {width}x{height} pixels", shrink=3)
    outline(whole, top, left, CROP, 1.8)
    show_frame(part, flat[region], good[region], f"central crop, {CROP}x{CROP} pixels")
    for edge in part.spines.values():
        edge.set(edgecolor=RED, linewidth=1.8, visible=True)
    frame_title = f"{example.set_title}, frame {example.number}"
    save(figure, f"{frame_title}, without its smooth background: dark is bright, blue is masked", path)


def draw_normalisation(example: Example, path: Path) -> None:
    """Draw a crop, its global and its local contrast normalisation, whole and enlarged (Fig. 7)."""
    crop, good = example.crop, example.good
    local = np.asarray(preprocess(crop, good))
    # LCN loses a margin; it is put back as bad pixels, so that the panels show the same places.
    local = np.pad(local, (len(crop) - len(local)) // 2, constant_values=np.nan)
    steps = {
        "as read": crop.astype(np.float64),
        "GCN": np.asarray(global_contrast_normalize(crop, good)),
        "GCN and LCN": local,
    }
    ss, fs = _busiest_region(np.asarray(_find_spots(crop, good)) > 0)
    figure = new_figure(11.5, 7.2)
    for (above, below), (title, values) in zip(figure.subplots(2, 3).T, steps.items(), strict=True):
        shown = np.where(good, values, np.nan)
        _show_heights(above, shown, title)
        _show_heights(below, shown[ss : ss + ZOOM, fs : fs + ZOOM], f"{title}, enlarged")
        outline(above, ss, fs, ZOOM, 1.5)
    frame_title = f"{example.set_title}, frame {example.number}"
    save(figure, f"{frame_title}: contrast normalisation; blue is masked", path)


def _show_heights(axis: Any, values: np.ndarray, title: str) -> None:
    """Draw (height, width) values with a bar of their greys; NaN is bad."""
    low, middle, high = np.nanpercentile(values, [0.5, 50, 99.5])
    # Room above the noise, or all spots would be equally black.
    high = max(high, middle + 2 * (middle - low))
    image = axis.imshow(values, cmap="gray_r", vmin=low, vmax=high, interpolation="nearest")
    axis.figure.colorbar(image, ax=axis, shrink=0.9, pad=0.02).ax.tick_params(labelsize=8)
    axis.set(xticks=[], yticks=[], facecolor=[value / 255 for value in BAD_PIXELS])
    axis.set_title(title, fontsize=10)


def _busiest_region(spots: np.ndarray) -> tuple[int, int]:
    """Choose the ZOOM x ZOOM pixels with most spots of a (height, width) map: their first row and column."""
    tall, wide = (length // ZOOM for length in spots.shape)
    counts = spots[: tall * ZOOM, : wide * ZOOM].reshape(tall, ZOOM, wide, ZOOM).sum((1, 3))
    row, column = np.unravel_index(int(np.argmax(counts)), counts.shape)
    return int(row) * ZOOM, int(column) * ZOOM


def draw_vectors(examples: Sequence[Example], vectors: Sequence[np.ndarray] | np.ndarray, path: Path) -> None:
    """Draw the row-wise decompositions of frames, (720,) each, one below the other on the same scale (Fig. 8)."""
    figure = new_figure(9, 2.1 * len(vectors) + 0.6)
    panels = figure.subplots(len(vectors), 1, sharex=True, sharey=True)
    top = 1.08 * max(float(vector.max()) for vector in vectors)
    box = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1}
    for axis, vector, example in zip(panels, vectors, examples, strict=True):
        axis.plot(np.arange(1, len(vector) + 1), vector, linewidth=0.9, color=example.colour)
        place = {"transform": axis.transAxes, "ha": "right", "va": "top"}
        axis.text(0.985, 0.9, example.title, color=example.colour, fontsize=11, bbox=box, **place)
        axis.set(xlim=(1, len(vector)), ylim=(0, top), ylabel="max - min")
        axis.grid(alpha=0.25)
    panels[-1].set_xlabel("row of the pre-processed frame")
    save(figure, f"{examples[0].set_title}: row-wise decomposition", path)
