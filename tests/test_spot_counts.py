"""Spots' signal-to-noise ratios and their counts against NumPy, on what is no spot, and on real and simulated frames."""

from __future__ import annotations

from pathlib import Path

import h5py
import jax
import numpy as np
import pytest
from reduction_cases import some_valid, spotted
from scipy import ndimage

from sfxjax.crop import FRAME, central_crop
from sfxjax.data.sets import open_set
from sfxjax.preprocess import preprocess
from sfxjax.reductions import spot_counts
from sfxjax.reductions.reduce import preprocess_and_reduce
from sfxjax.simulate.write import simulate_set

# Compiled as a whole: run step by step each of its operations would be compiled by itself.
spot_signal_to_noise = jax.jit(spot_counts.spot_signal_to_noise)


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    return spotted()


def spot_ratios_by_numpy(frame: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """The 64 highest ratios pixel by pixel, in float64."""
    frame = np.where(valid, frame, 0).astype(np.float64)
    signal = ndimage.convolve(frame, np.ones((3, 3)), mode="constant")
    rows, columns = (length // 24 for length in frame.shape)
    kept = {}
    for i in range(rows):
        for j in range(columns):
            inside = np.s_[24 * i : 24 * i + 24, 24 * j : 24 * j + 24]
            whole = valid[inside].reshape(8, 3, 8, 3).all((1, 3))
            sums = signal[inside][1::3, 1::3][whole]
            chosen = sums
            deviation = 1.2533 * np.mean(np.abs(sums - sums.mean())) if sums.size else 0
            middle = sums.mean() if sums.size else 0
            for _ in range(3):
                chosen = sums[np.abs(sums - middle) <= 2.5 * deviation]
                if chosen.size:
                    middle, deviation = chosen.mean(), chosen.std() / 0.9546
            kept[i, j] = chosen - middle
    noise = np.full((rows, columns), np.nan)
    for i in range(rows):
        for j in range(columns):
            near = [kept.get((i + a, j + b), np.empty(0)) for a in (-1, 0, 1) for b in (-1, 0, 1)]
            pooled = np.concatenate(near)
            if pooled.size >= 32:
                noise[i, j] = np.sqrt(np.mean(pooled**2)) / 0.9546
    typical = np.nan_to_num(np.nanmedian(noise))
    noise = np.where(np.isnan(noise), typical, np.maximum(noise, typical / 2))
    ratio = signal / np.kron(noise, np.ones((24, 24)))
    # One candidate a block of 8 x 8, of the 256 best blocks.
    blocks = ratio.reshape(rows * 3, 8, columns * 3, 8).max((1, 3))
    lowest = np.sort(blocks, axis=None)[-256]
    candidate = (ratio == np.kron(blocks, np.ones((8, 8)))) & (ratio >= lowest)
    candidate &= signal == ndimage.maximum_filter(signal, 7, mode="constant", cval=0)
    ratios = []
    padded = np.pad(signal, 5)
    for ss, fs in np.argwhere(candidate):
        window = np.s_[max(ss - 5, 0) : ss + 6, max(fs - 5, 0) : fs + 6]
        spread = frame[window][valid[window]].std() if valid[window].any() else 0
        far = [(a, b) for a in range(-5, 6) for b in range(-5, 6) if max(abs(a), abs(b)) > 3]
        line = max(min(padded[ss + 5 + a, fs + 5 + b], padded[ss + 5 - a, fs + 5 - b]) for a, b in far)
        compact = frame[ss, fs] < signal[ss, fs] and line < signal[ss, fs] / 2
        if frame[ss, fs] > 2.5 * spread and compact:
            ratios.append(ratio[ss, fs])
    return np.sort([*ratios, *[0] * 64])[::-1][:64]


@pytest.mark.parametrize("masked", [False, True])
def test_spot_ratios_against_numpy(masked: bool) -> None:
    frame = spotted((240, 264), 60)
    valid = some_valid(frame.shape) if masked else np.ones(frame.shape, bool)
    expected = spot_ratios_by_numpy(frame, valid)
    found = np.asarray(spot_signal_to_noise(frame, valid if masked else None))
    np.testing.assert_allclose(found, expected, rtol=2e-4)
    assert (expected > 6).sum() > 20
    assert expected[-1] == 0


def test_spot_ratios_are_ratios_to_the_noise(frame: np.ndarray) -> None:
    ratios = np.asarray(spot_signal_to_noise(frame))
    assert np.all(np.diff(ratios) <= 0)
    # The scale does not matter, nor how the frame lies.
    np.testing.assert_allclose(spot_signal_to_noise(7 * frame), ratios, rtol=1e-4)
    for rotated in (frame.T, frame[::-1], frame[:, ::-1]):
        np.testing.assert_allclose(spot_signal_to_noise(rotated), ratios, rtol=1e-4, atol=1e-4)
    # The signal of a spot of known height over the noise of nine pixels, of which nothing is a neighbour.
    quiet = np.random.default_rng(5).normal(0, 0.1, (FRAME, FRAME)).astype(np.float32)
    assert np.asarray(spot_signal_to_noise(quiet))[0] < 5.5
    for place, height in ((100, 1.0), (300, 0.8), (500, 0.6)):
        quiet[place - 1 : place + 2, place - 1 : place + 2] += height * np.array(
            [[0.3, 0.5, 0.3], [0.5, 1, 0.5], [0.3, 0.5, 0.3]]
        )
    top = np.asarray(spot_signal_to_noise(quiet))[:4]
    np.testing.assert_allclose(top[:3], np.array([1.0, 0.8, 0.6]) * 4.2 / 0.3, atol=3)
    assert top[3] < 5.5


def test_hot_pixels_edges_streaks_and_gaps_are_no_spots() -> None:
    clean = np.random.default_rng(6).normal(0, 0.1, (FRAME + 4, FRAME + 4))
    for what in ("hot", "edge", "streak", "gap"):
        crop = 100 * (clean + np.linspace(0, 20, FRAME + 4)) + 5000
        if what == "hot":
            crop[np.arange(50, 700, 40), np.arange(50, 700, 40)] += 1500
        elif what == "edge":
            crop[:, 300:] -= 400
        elif what == "streak":
            crop[400, 200:500] += 300
            crop[np.arange(100, 300), np.arange(100, 300)] += 300
            crop[np.arange(100, 300), 700 - np.arange(100, 300) // 2] += 300
        else:
            crop[:, 200:230] = 0
        assert np.asarray(spot_signal_to_noise(preprocess(crop)))[3] < 6, what


def test_equal_neighbours_are_one_spot() -> None:
    frame = np.random.default_rng(0).normal(0, 0.01, (FRAME, FRAME)).astype(np.float32)
    for ss, fs in ((100, 99), (203, 303), (404, 507), (303, 604)):
        frame[ss - 4 : ss + 6, fs - 4 : fs + 6] = 0
        frame[ss : ss + 2, fs : fs + 2] = 1
    # The sums around the four pixels of a square are equal, in one block or across its border.
    assert (np.asarray(spot_signal_to_noise(frame)) > 20).sum() == 4


def test_steps_count_the_visible_spots(frame: np.ndarray) -> None:
    ratios = np.asarray(spot_signal_to_noise(frame), np.float64)
    steps = np.asarray(jax.jit(spot_counts.soft_spot_counts)(frame))
    np.testing.assert_allclose(steps, 1 / (1 + np.exp(2 * (6.7 - ratios))), rtol=1e-3)
    assert abs(steps.sum() - (ratios > 6.7).sum()) < 2


def test_spot_ratios_tell_the_real_hit_from_its_spotless_twin(shared: Path) -> None:
    folder = shared / "data" / "mfx_rayonix"
    mask = central_crop(np.load(folder / "mask.npz", allow_pickle=False)["good"])
    for name, spots in (("hit", True), ("blank", False)):
        with h5py.File(folder / f"{name}.h5") as file:
            frame = central_crop(file["/entry_1/data_1/data"][0])
        for good in (None, mask):
            ratios = np.asarray(
                preprocess_and_reduce(frame, good, reduction=spot_counts.spot_signal_to_noise)
            )
            assert ratios[3] > 40 if spots else ratios[0] < 5.5
            # Dozens of spots can be seen.
            assert ((ratios > spot_counts.VISIBLE_RATIO).sum() > 50) == spots


@pytest.mark.slow
@pytest.mark.parametrize("name", ["LN83", "LN84", "LO19"])
def test_one_threshold_for_the_fourth_ratio_does_for_all_simulated_sets(name: str, tmp_path: Path) -> None:
    count = 160
    simulate_set(name, tmp_path, count, seed=11, quiet=True)
    with open_set(tmp_path, name) as frames:
        crops, positive = frames.crops(np.arange(count)), frames.positives
    called = (
        np.asarray(preprocess_and_reduce(crops, reduction=spot_counts.spot_signal_to_noise))[:, 3]
        > spot_counts.VISIBLE_RATIO
    )
    assert (called[positive].mean() + (~called[~positive]).mean()) / 2 > 0.94
