"""Pictures and measures a real Rayonix frame beside simulated sets of LN83, LN84 and LO19.

    python -m bench.simulation_likeness ../shared/data/mfx_rayonix/hit.h5

makes `docs/simulation-likeness.png` and prints the figures in `docs/simulated_sets.md`; with `--score-frames 600` also how well
counting spots with a plain peak finder tells hits and maybes from misses, in 600 frames of each simulated set. The
real frame is `kapton_test_data` of dials/data-files (LCLS MFX, CC-BY 4.0).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from sfxjax.command_line import new_parser
from sfxjax.crop import central_crop
from sfxjax.data.labels import classify
from sfxjax.errors import UserError, run_main
from sfxjax.files import atomic_write
from sfxjax.preprocess.definition import preprocess
from sfxjax.reductions.row_wise import row_wise_decomposition
from sfxjax.simulate.parameters import SIMULATED_SETS
from sfxjax.simulate.sets import ShotPlan, plan_run, simulate_frames

FRAMES_PATH = "/entry_1/data_1/data"
REAL_FRAME = "Real frame: LCLS MFX, Rayonix MX340; dials/data-files, kapton_test_data, CC-BY 4.0"
SPOTS_IN_HITS = 150  # visible spots aimed at in the simulated sets' hits
SAMPLE = 12  # hits and misses of each simulated set that are measured
ENLARGED = (slice(150, 300), slice(400, 550))
MIDDLE = (slice(210, 510), slice(210, 510))  # of the pre-processed crop
HEIGHTS_COUNTED = (6, 10, 20, 50)
INNER_RADIUS = 66  # pixels around the middle left out of all figures: the beam stop and its rim


class Likeness(NamedTuple):
    """What is measured on one crop, or the median over several.

    Attributes:
        level: median, detector units.
        variance_over_mean: of the noise, detector units.
        neighbour_correlation: of the noise of two adjacent pixels.
        second_correlation: of the noise of two pixels that are two apart.
        base_line: median of the RWD vector's rows off the beam stop.
        tallest_rows: 95th percentile of the same.
        spots: peaks above each of `THRESHOLDS`, in units of the noise of nine pixels.
    """

    level: float
    variance_over_mean: float
    neighbour_correlation: float
    second_correlation: float
    base_line: float
    tallest_rows: float
    spots: tuple[float, ...]


def read_real(path: Path) -> np.ndarray:
    """Read the central 724x724 pixels of the first frame of `DATA_SET`, float64 detector units.

    Raises:
        UserError: the file is missing, or is not such a file.
    """
    try:
        with h5py.File(path, "r") as file:
            frame = np.asarray(file[FRAMES_PATH][0], np.float64)
    except (OSError, KeyError) as error:
        raise UserError(f"{path}: no frame at {FRAMES_PATH}; name the HDF5 file of the real frame") from error
    return np.asarray(central_crop(frame))


def simulate_examples(name: str, spots: Sequence[int], seed: int = 0) -> np.ndarray:
    """Simulate crops of one set that show the given numbers of visible spots, int16 [n, 724, 724]."""
    wanted = np.asarray(spots, np.int32)
    plan = ShotPlan(wanted, wanted > 0, np.zeros(wanted.size, bool))
    frames, _ = simulate_frames(seed, np.arange(wanted.size), plan, parameters=SIMULATED_SETS[name])
    return np.asarray(frames)


def vector(crop: np.ndarray) -> np.ndarray:
    """Row-wise decomposition of one pre-processed crop, (720,)."""
    return np.asarray(row_wise_decomposition(preprocess(crop)))


def off_stop(shape: tuple[int, int]) -> np.ndarray:
    """Tell the pixels away from the beam stop and its rim, bool [ss, fs]."""
    ss, fs = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(ss - shape[0] / 2, fs - shape[1] / 2) > INNER_RADIUS


def peaks(crop: np.ndarray, variance_over_mean: float) -> np.ndarray:
    """Find spots by a plain rule, without the truth.

    A spot is the highest of its 7x7 pixels, well above the spread of its 11x11, and not a single hot pixel.

    Args:
        crop: [ss, fs] detector units.
        variance_over_mean: of the noise.

    Returns:
        The height of each spot's nine middle pixels over their background, in units of its noise.
    """
    from scipy.ndimage import maximum_filter, uniform_filter

    crop = np.asarray(crop, np.float32)
    around = uniform_filter(crop, 15)
    above = crop - around
    nine = 9 * (uniform_filter(crop, 3) - around)
    # The point spread leaves 0.31 of a photon's variance in a pixel; nine pixels sum to nearly all of it.
    height = nine / (3 * np.sqrt(np.maximum(around, 20) * variance_over_mean / 0.31))
    mean = uniform_filter(crop, 11)
    spread = np.sqrt(np.maximum(uniform_filter(crop * crop, 11) - mean * mean, 1))
    found = (height == maximum_filter(height, 7)) & (above > 2.5 * spread) & (above < 0.7 * nine)
    return height[found & off_stop(crop.shape)]


def measure_likeness(crop: np.ndarray) -> Likeness:
    """Measure one crop in plain NumPy and SciPy, the same way whether real or simulated."""
    from scipy.ndimage import uniform_filter

    crop = np.asarray(crop, np.float64)
    far = off_stop(crop.shape)
    smooth = uniform_filter(crop, 15)
    noise = (crop - smooth) / np.sqrt(np.maximum(smooth, 1))
    spread = 1.4826 * np.median(np.abs(noise[far]))
    # Pixels beyond three deviations are spots, not noise.
    quiet = (np.abs(noise) < 3 * spread) & far

    def correlation(step: int) -> float:
        both = quiet[:, step:] & quiet[:, :-step]
        return float(np.corrcoef(noise[:, step:][both], noise[:, :-step][both])[0, 1])

    heights = peaks(crop, spread**2)
    rows = vector(crop)[np.abs(np.arange(720) - 360) > INNER_RADIUS]
    return Likeness(
        level=float(np.median(crop[far])),
        variance_over_mean=float(spread**2),
        neighbour_correlation=correlation(1),
        second_correlation=correlation(2),
        base_line=float(np.median(rows)),
        tallest_rows=float(np.percentile(rows, 95)),
        spots=tuple(float(np.sum(heights > limit)) for limit in HEIGHTS_COUNTED),
    )


def median_of(figures: Sequence[Likeness]) -> Likeness:
    """Take the median of each figure over several crops."""
    medians = [np.median(values, axis=0).tolist() for values in zip(*figures, strict=True)]
    return Likeness._make([*medians[:-1], tuple(medians[-1])])


def best_threshold(name: str, frames: int, seed: int = 0) -> tuple[float, int]:
    """Choose, with hindsight, the count of spots from which on a simulated set's frame is best called positive.

    Args:
        name: the set.
        frames: how many to simulate.
        seed: of the run.

    Returns:
        Balanced accuracy over hits and maybes against misses, and that count.
    """
    plan = plan_run(SIMULATED_SETS[name], frames, seed)
    ratio = 0.31 * SIMULATED_SETS[name].detector.gain
    counts = []
    for first in range(0, frames, 50):
        index = np.minimum(np.arange(first, first + 50), frames - 1)
        images, _ = simulate_frames(
            seed, index, ShotPlan(*(column[index] for column in plan)), parameters=SIMULATED_SETS[name]
        )
        counts += [np.sum(peaks(image, ratio) > 5) for image in np.asarray(images)[: frames - first]]
    positive, found = classify(plan.spots) > 0, np.array(counts)
    scores = [
        (float(np.mean(found[positive] >= threshold) + np.mean(found[~positive] < threshold)) / 2, threshold)
        for threshold in range(1, 60)
    ]
    return max(scores)


def draw_likeness(rows: Sequence[tuple[str, np.ndarray]], path: Path) -> None:
    """Draw each (title, crop) as a row: crop, zoom, after LCN, RWD vector.

    Raises:
        OSError: the picture cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(rows), 4, figsize=(11, 2.75 * len(rows)), layout="constrained")
    for (title, crop), (whole, zoom, normalised, rwd) in zip(rows, axes, strict=True):
        top = 1.75 * np.median(crop)
        whole.imshow(crop, cmap="gray", vmin=0, vmax=top)
        part = crop[ENLARGED]
        middle = np.median(part)
        zoom.imshow(part, cmap="gray", vmin=0.8 * middle, vmax=1.5 * middle)
        normalised.imshow(np.asarray(preprocess(crop))[MIDDLE], cmap="gray", vmin=-0.3, vmax=0.6)
        rwd.plot(vector(crop), linewidth=0.5)
        rwd.set(xlim=(0, 719), ylim=(0, 6))
        rwd.tick_params(labelsize=6)
        for axis, what in zip(
            (whole, zoom, normalised, rwd), ("crop", "zoom", "LCN (middle)", "RWD"), strict=True
        ):
            axis.set_title(f"{title}, {what}", fontsize=7)
        for axis in (whole, zoom, normalised):
            axis.set(xticks=[], yticks=[])
    figure.supxlabel(f"{REAL_FRAME}. All others are simulated sets.", fontsize=7)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=90)
        _shrink(temporary)
    plt.close(figure)


def _shrink(path: Path) -> None:
    """Keep 128 colours of a picture: the frames are grey, and noise in full colour needs megabytes."""
    from PIL import Image

    with Image.open(path) as picture:
        fewer = picture.convert("RGB").quantize(128)
    fewer.save(path, optimize=True)


def show_likeness(title: str, figures: Likeness) -> None:
    """Print the figures of one crop on a line."""
    spots = " ".join(f"{count:5.0f}" for count in figures.spots)
    print(
        f"{title:34s} level {figures.level:6.0f}  var/mean {figures.variance_over_mean:.3f}  correlation "
        f"{figures.neighbour_correlation:.2f} {figures.second_correlation:.2f}  RWD {figures.base_line:.2f} "
        f"{figures.tallest_rows:.2f}  spots above {HEIGHTS_COUNTED}: {spots}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    about = __doc__.split("\n")[0]
    parser = new_parser("bench.simulation_likeness", about)
    parser.add_argument("real", type=Path, help="HDF5 file of the real frame")
    parser.add_argument("--out", type=Path, default=Path("docs/simulation-likeness.png"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--score-frames", type=int, default=0, metavar="FRAMES", help="also score a threshold on spot counts"
    )
    chosen = parser.parse_args(arguments)
    real = read_real(chosen.real)
    rows = [("real frame", real)]
    show_likeness("real frame", measure_likeness(real))
    for name in SIMULATED_SETS:
        hits, misses = (
            simulate_examples(name, [spots] * SAMPLE, chosen.seed) for spots in (SPOTS_IN_HITS, 2)
        )
        for kind, crops in (("hit", hits), ("miss", misses)):
            title = f"simulated set {name}, {kind}"
            # Not the same shot in both rows.
            rows.append((title, crops[0 if kind == "hit" else 1]))
            show_likeness(title, median_of([measure_likeness(crop) for crop in crops]))
    draw_likeness(rows, chosen.out)
    print(f"wrote {chosen.out}")
    for name in SIMULATED_SETS if chosen.score_frames else ():
        score, threshold = best_threshold(name, chosen.score_frames, chosen.seed)
        print(
            f"simulated set {name}: {100 * score:.1f} % balanced accuracy, positive from {threshold} spots on"
        )


if __name__ == "__main__":
    sys.exit(run_main(main))
