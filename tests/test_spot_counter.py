"""The spot counter against a SciPy implementation in float64, on planted spots, and on a real frame."""

from __future__ import annotations

from pathlib import Path

import h5py
import jax
import numpy as np
import pytest
from scipy.ndimage import convolve1d, maximum_filter
from sklearn.metrics import balanced_accuracy_score

from sfxjax.crop import CROP
from sfxjax.data.sets import open_set
from sfxjax.data.write import SetMetadata, SetWriter
from sfxjax.errors import UserError
from sfxjax.spots.classical import (
    READ_BATCH,
    SPOT_THRESHOLD,
    choose_threshold,
    count_scores,
    count_set,
    count_spots,
    spot_strengths,
)

pytestmark = pytest.mark.usefixtures("compiled_at_once")

LEVEL = 900.0
find = jax.jit(spot_strengths)


def background(shape: tuple[int, int], seed: int, gain: float = 1.0) -> np.ndarray:
    """Photon noise, smeared over neighbours as a detector's point spread does, on a background that falls outwards."""
    rng = np.random.default_rng(seed)
    ss, fs = np.mgrid[: shape[0], : shape[1]]
    radius = np.hypot(ss - shape[0] / 2, fs - shape[1] / 2) / max(shape)
    photons = rng.poisson(LEVEL * np.exp(-2 * radius**2)).astype(np.float64)
    for axis in (0, 1):
        photons = convolve1d(photons, [0.15, 0.7, 0.15], axis=axis, mode="nearest")
    return gain * photons


def planted(shape: tuple[int, int], places: np.ndarray, seed: int, height: float = 400.0) -> np.ndarray:
    """A background with round spots of 1.5 pixels' full width at the given (ss, fs)."""
    frame = background(shape, seed)
    ss, fs = np.mgrid[-4:5, -4:5]
    for place in np.atleast_2d(places):
        whole = np.round(place).astype(int)
        along, across = place - whole
        spot = height * np.exp(-((ss - along) ** 2 + (fs - across) ** 2) / (2 * 0.64**2))
        frame[whole[0] - 4 : whole[0] + 5, whole[1] - 4 : whole[1] + 5] += spot
    return frame


def reference(frame: np.ndarray, good: np.ndarray, threshold: float) -> set[tuple[int, int]]:
    """Places of the spots by the module's definition, in float64 with SciPy's filters."""

    def total(values: np.ndarray, size: int) -> np.ndarray:
        for axis in (0, 1):
            values = convolve1d(values, np.ones(size), axis=axis, mode="constant")
        return values

    good = good & np.isfinite(frame) & (np.nan_to_num(frame) >= 0)
    weights = good.astype(np.float64)
    values = np.where(good, frame, 0.0)
    near = np.maximum(total(weights, 11), 1)
    height = np.where(good, values - total(values, 11) / near, 0)
    contrast = np.sqrt(total(height**2, 11) / near)
    whole = total(weights, 3) == 9
    strength = np.where(whole, total(height, 3), 0)

    def ring(values: np.ndarray) -> np.ndarray:
        return total(values, 21) - total(values, 13)

    noise = np.sqrt(np.pi / 2) * ring(np.abs(strength)) / np.maximum(ring(whole.astype(np.float64)), 1)
    ratio = np.where(whole, strength / np.maximum(noise, 1e-12), -np.inf)
    largest = maximum_filter(ratio, 7, mode="constant", cval=-np.inf)
    brightest = maximum_filter(height, 3, mode="constant", cval=-np.inf)
    found = (ratio > threshold) & (ratio == largest)
    found &= (brightest > 2.5 * contrast) & (brightest <= 0.7 * strength)
    return {(int(ss), int(fs)) for ss, fs in np.argwhere(found)}


def random_frame(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Spots of all strengths, broad blobs, one-pixel spikes, a gradient, NaN; masked: a block, pixels and a border."""
    rng = np.random.default_rng(seed)
    shape = (150, 131)
    frame = planted(shape, rng.uniform(6, 120, (25, 2)), seed, rng.uniform(150, 400))
    frame[tuple(rng.integers(0, 130, (2, 8)))] += rng.uniform(50, 3000, 8)
    frame += np.linspace(0, 200, shape[1])
    ss, fs = np.mgrid[: shape[0], : shape[1]]
    for along, across, width in zip(*rng.uniform(10, 120, (2, 10)), rng.uniform(1.2, 2.6, 10), strict=True):
        frame += 300 * np.exp(-((ss - along) ** 2 + (fs - across) ** 2) / (2 * width**2))
    good = rng.random(shape) > 0.002
    good[40:60, 70:90] = False
    good[:, :3] = False
    frame[tuple(rng.integers(0, 130, (2, 5)))] = np.nan
    frame[tuple(rng.integers(0, 130, (2, 5)))] = -3
    return frame.astype(np.float32), good


@pytest.mark.parametrize("seed", range(6))
def test_spots_are_those_of_scipy(seed: int) -> None:
    frame, good = random_frame(seed)
    for threshold in (4.0, SPOT_THRESHOLD):
        found = np.argwhere(np.asarray(find(frame, good, threshold)))
        places = {(int(ss), int(fs)) for ss, fs in found}
        # float32 may differ about a spot right at the threshold, and about no other.
        sure, possible = (reference(frame, good, threshold * (1 + sign * 1e-3)) for sign in (1, -1))
        assert sure <= places <= possible
        assert len(places) >= 3


def test_strength_of_a_spot_is_its_signal_to_noise() -> None:
    strengths = []
    for seed in range(20):
        frame = np.random.default_rng(seed).normal(1000, 10, (60, 60))
        frame[29:32, 29:32] += 100
        strengths.append(float(np.asarray(find(frame))[28:33, 28:33].max()))
    # The spot itself raises the mean of its 11 x 11 by 100 * 9 / 121; the noise of nine pixels is 30.
    assert np.mean(strengths) == pytest.approx(9 * 100 * (1 - 9 / 121) / 30, rel=0.1)


def grid(number: int, seed: int = 0) -> np.ndarray:
    """So many places at least 30 pixels apart, off the pixels' middles."""
    rng = np.random.default_rng(seed)
    every = np.stack(np.meshgrid(np.arange(30, 690, 33), np.arange(30, 690, 33)), -1).reshape(-1, 2)
    return rng.permutation(every)[:number] + rng.uniform(-0.5, 0.5, (number, 2))


@pytest.mark.slow
def test_planted_spots_are_counted_exactly() -> None:
    numbers = [0, 1, 4, 10, 150]
    frames = np.stack(
        [planted((CROP, CROP), grid(n, n), n) if n else background((CROP, CROP), 9) for n in numbers]
    )
    for dtype in (np.uint16, np.int16, np.int32, np.float32, np.float64):
        np.testing.assert_array_equal(count_spots(frames.round().astype(dtype)), numbers)
    # The outer parts of a larger frame do not count.
    wide = np.pad(frames[3:4], ((0, 0), (50, 50), (50, 50)), mode="reflect")
    np.testing.assert_array_equal(count_spots(wide), 10)


def small(frame: np.ndarray, good: np.ndarray | None = None) -> int:
    """Number of spots of a frame smaller than a crop."""
    return int(np.sum(np.asarray(find(frame.astype(np.float32), good)) > 0))


def test_near_spots_are_one_and_others_are_two() -> None:
    for distance, expected in ((2, 1), (3, 1), (8, 2), (15, 2)):
        places = np.array([[40.0, 40.0], [40.0, 40.0 + distance]])
        assert small(planted((80, 80), places, 5)) == expected, distance


@pytest.mark.parametrize("height", [100, 200, 400, 2000, 60000])
def test_one_bright_pixel_is_no_spot(height: float) -> None:
    for seed in range(4):
        frame = background((80, 80), seed)
        frame[40, 41] += height
        assert small(frame) == 0


@pytest.mark.parametrize(("width", "expected"), [(0.8, 1), (5.0, 0)])
def test_what_is_much_broader_than_a_spot_is_none(width: float, expected: int) -> None:
    frame = background((80, 80), 3)
    ss, fs = np.mgrid[:80, :80]
    frame += 600 * np.exp(-((ss - 40) ** 2 + (fs - 40) ** 2) / (2 * width**2))
    assert small(frame) == expected


def test_masked_pixels_and_their_neighbours_never_count() -> None:
    place = np.array([[40.0, 40.0]])
    frame = planted((80, 80), place, 1)
    everything = np.ones(frame.shape, bool)
    assert small(frame, everything) == 1
    for offset in ((0, 0), (1, 1), (-1, 0), (0, 3)):
        good = everything.copy()
        good[40 + offset[0], 40 + offset[1]] = False
        found = np.argwhere(np.asarray(find(frame, good)))
        assert all(good[ss - 1 : ss + 2, fs - 1 : fs + 2].all() for ss, fs in found), offset
        if offset == (0, 3):
            np.testing.assert_array_equal(found, [[40, 40]])


@pytest.mark.parametrize("value", [0, 1e9, -5, np.nan, np.inf, -np.inf])
def test_values_of_masked_pixels_change_nothing(value: float) -> None:
    frame, good = random_frame(11)
    spoiled = np.where(good, frame, np.float32(value))
    np.testing.assert_array_equal(find(spoiled, good), find(np.where(good, frame, np.float32(7)), good))


def test_rim_of_a_masked_beam_stop_is_no_spot() -> None:
    ss, fs = np.mgrid[:200, :200]
    radius = np.hypot(ss - 100, fs - 100)
    frame = background((200, 200), 4) * (1 + 2 * np.exp(-radius / 40))
    frame[radius < 30] = 20
    for margin in (0, 1, 3):
        assert small(frame, radius > 30 + margin) == 0


@pytest.mark.parametrize(("gain", "offset"), [(4.0, 0.0), (0.3, 0.0), (17.0, 0.0), (1.0, 500.0), (0.5, 90.0)])
def test_gain_and_offset_do_not_change_the_spots(gain: float, offset: float) -> None:
    frame = planted((200, 200), np.random.default_rng(2).uniform(10, 190, (20, 2)), 6)
    assert small(gain * frame + offset) == small(frame) >= 15


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((60, 60)),
        np.full((60, 60), 1234.567),
        np.where(np.arange(60) < 25, 100.3, 900.7) * np.ones((60, 1)),
        np.full((60, 60), np.nan),
    ],
    ids=["zeros", "constant", "step", "nan"],
)
def test_frames_without_noise_have_no_spots(frame: np.ndarray) -> None:
    assert small(frame) == 0
    assert small(frame, np.zeros(frame.shape, bool)) == 0


def test_rounding_around_masked_pixels_is_no_spot() -> None:
    rng = np.random.default_rng(0)
    for trial in range(40):
        good = np.ones((60, 60), bool)
        level = 10 ** rng.uniform(0, 6)
        good[tuple(rng.integers(10, 50, (2, 1 + trial % 12)))] = False
        assert small(np.full(good.shape, level), good) == 0, level


@pytest.mark.parametrize(("name", "least", "most"), [("hit", 60, 200), ("blank", 0, 1)])
def test_real_frame_and_its_twin_without_spots(shared: Path, name: str, least: int, most: int) -> None:
    folder = shared / "data" / "mfx_rayonix"
    with h5py.File(folder / f"{name}.h5", "r") as file:
        frame = file["/entry_1/data_1/data"][0]
    with np.load(folder / "mask.npz", allow_pickle=False) as arrays:
        mask = arrays["good"]
    count = int(count_spots(frame, mask))
    assert least <= count <= most
    assert int(count_spots(frame[::-1].T, mask[::-1].T)) == count


@pytest.mark.parametrize("seed", range(5))
def test_threshold_has_the_highest_balanced_accuracy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positive = rng.random(120) < 0.3
    counts = rng.poisson(np.where(positive, 9, 3))
    tried = range(1, int(counts.max()) + 2)
    best = [balanced_accuracy_score(positive, counts >= threshold) for threshold in tried]
    assert choose_threshold(counts, positive) == tried[int(np.argmax(np.round(best, 12)))]


def test_of_equal_thresholds_the_lowest_is_chosen() -> None:
    assert choose_threshold([0, 3, 10, 12], [False, False, True, True]) == 4
    assert choose_threshold([0, 5, 5, 5, 9, 9], [True, False, False, True, True, True]) == 1 + 5
    assert choose_threshold([2, 2], [True, False]) == 1


@pytest.mark.parametrize("positive", [[True, True], [False, False], [True]])
def test_a_threshold_needs_both_classes(positive: list[bool]) -> None:
    with pytest.raises(UserError):
        choose_threshold([1, 2], positive)


@pytest.mark.parametrize("threshold", [1, 4, 30])
def test_scores_keep_the_order_and_pass_one_half_at_the_threshold(threshold: int) -> None:
    counts = np.arange(3000)
    scores = count_scores(counts, threshold)
    assert scores.dtype == np.float32
    assert scores[0] > 0
    assert scores[-1] < 1
    assert np.all(np.diff(scores) > 0)
    np.testing.assert_array_equal(scores >= 0.5, counts >= threshold)
    with pytest.raises(UserError):
        count_scores(counts, 0)


def test_frames_of_a_set_are_counted_in_their_order(tmp_path: Path) -> None:
    numbers = [2, 0, 5]
    made = [planted((CROP, CROP), grid(n, n), n) if n else background((CROP, CROP), 9) for n in numbers]
    folder = tmp_path / "LN83"
    with SetWriter(
        folder / "r0018_2000.h5", 3, (CROP, CROP), np.int16, 2, SetMetadata((64.0, 64.0), 0.177)
    ) as writer:
        writer.append(np.stack(made).round().astype(np.int16), np.full(3, 1.3), np.full(3, 120.0))
    lines = [f"r0018_2000.h5 [{n}] MISS\n" for n in (1, 2, 3)]
    (folder / "expert_annotation.txt").write_text("".join(lines))
    done: list[int] = []
    with open_set(tmp_path, "LN83") as frame_set:
        order = [2, 0, 1] + [0] * (READ_BATCH - 2)
        counts = count_set(frame_set, order, done.append)
        assert count_set(frame_set, []).shape == (0,)
    np.testing.assert_array_equal(counts, [numbers[i] for i in order])
    assert done == [READ_BATCH, 1]


def test_frames_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError):
        count_spots(np.zeros((100, 100)))
    with pytest.raises(UserError):
        count_spots(np.zeros((CROP, CROP)), np.ones((CROP, CROP), np.uint8))
