"""Reductions against NumPy, and that no bad pixel decides a number."""

from __future__ import annotations

from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from sfxjax.crop import CROP, FRAME, central_crop
from sfxjax.data.sets import open_set
from sfxjax.errors import UserError
from sfxjax.preprocess import preprocess
from sfxjax.preprocess.contrast import grown_mask, normalize_crop
from sfxjax.reductions import spot_counts
from sfxjax.reductions.block_maxima import block_maxima
from sfxjax.reductions.brightest_pixels import brightest_pixels
from sfxjax.reductions.local_maxima import THRESHOLDS, local_maximum_counts
from sfxjax.reductions.radial import radial_extremes as radial
from sfxjax.reductions.reduce import preprocess_and_reduce
from sfxjax.reductions.registry import (
    ALIASES,
    BUILT_IN,
    REDUCTIONS,
    canonical_name,
    get_reduction,
    is_noise_filled,
    reduced_shape,
)
from sfxjax.reductions.row_wise import (
    column_wise_decomposition,
    row_and_column_decomposition,
    row_wise_decomposition,
)
from sfxjax.simulate.write import simulate_set

# Compiled as a whole: run step by step each of their operations would be compiled by itself.
spot_signal_to_noise = jax.jit(spot_counts.spot_signal_to_noise)
radial_extremes = jax.jit(radial, static_argnames="centre")


def random_frames(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(500, 1500, (count, CROP, CROP)).astype(np.uint16)


def spotted(shape: tuple[int, int] = (FRAME, FRAME), spots: int = 40, seed: int = 0) -> np.ndarray:
    """A frame as pre-processing leaves it: noise, uneven over the frame, and spots of a pixel and a half."""
    rng = np.random.default_rng(seed)
    height, width = shape
    level = 0.05 + 0.1 * np.linspace(0, 1, height)[:, None] * np.linspace(1, 2, width)
    frame = rng.normal(0, 1, shape) * level
    for _ in range(spots):
        ss, fs = rng.uniform(2, height - 3), rng.uniform(2, width - 3)
        y, x = np.ogrid[:height, :width]
        frame += rng.uniform(3, 12) * 0.15 * np.exp(-((y - ss) ** 2 + (x - fs) ** 2) / (2 * 0.65**2))
    return frame.astype(np.float32)


def some_valid(shape: tuple[int, int] = (FRAME, FRAME)) -> np.ndarray:
    valid = np.random.default_rng(1).random(shape) > 0.01
    valid[shape[0] // 3 : shape[0] // 2, shape[1] // 4 : shape[1] // 2] = False
    return valid


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    return spotted()


@pytest.mark.parametrize("masked", [False, True])
def test_rows_and_columns_against_numpy(masked: bool) -> None:
    frame = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)
    valid = np.random.default_rng(1).random((20, 30)) > (0.3 if masked else -1)
    if masked:
        valid[4] = valid[:, 7] = False
    rows = [np.ptp(frame[i][valid[i]]) if valid[i].any() else 0 for i in range(20)]
    columns = [np.ptp(frame[:, i][valid[:, i]]) if valid[:, i].any() else 0 for i in range(30)]
    mask = valid if masked else None
    np.testing.assert_array_equal(row_wise_decomposition(frame, mask), rows)
    np.testing.assert_array_equal(column_wise_decomposition(frame, mask), columns)
    square = row_and_column_decomposition(frame[:, :20], None if mask is None else valid[:, :20])
    assert square.shape == (20, 2)
    np.testing.assert_array_equal(square[:, 1], columns[:20])


@pytest.mark.parametrize("centre", [None, (7.5, 30.0), (-3.0, 12.25)])
@pytest.mark.parametrize("masked", [False, True])
def test_rings_against_numpy(masked: bool, centre: tuple[float, float] | None) -> None:
    frame = spotted((40, 56), 6)
    valid = some_valid(frame.shape) if masked else np.ones(frame.shape, bool)
    ss, fs = np.indices(frame.shape) - np.array(centre or (19.5, 27.5))[:, None, None]
    radius = np.hypot(ss, fs).astype(int)
    expected = np.zeros((radius.max() + 1, 2))
    for ring in range(len(expected)):
        values = frame[(radius == ring) & valid].astype(np.float64)
        if not values.size:
            continue
        kept = values
        for _ in range(3):
            kept = values[np.abs(values - kept.mean()) <= 3 * kept.std()]
        expected[ring, 0] = values.max()
        if kept.std() > 1e-7:
            expected[ring, 1] = (values.max() - kept.mean()) / kept.std()
    found = radial_extremes(frame, valid if masked else None, centre=centre)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-5)
    assert expected[:, 1].max() > 6


def test_a_spot_stands_out_of_its_ring_and_a_powder_ring_does_not() -> None:
    radius = np.hypot(*(np.mgrid[:FRAME, :FRAME] - (FRAME - 1) / 2)).astype(int)
    frame = np.random.default_rng(0).normal(0, 0.05, (FRAME, FRAME)).astype(np.float32)
    frame[radius == 200] += 2
    frame[360, 660] = 1
    found = np.asarray(radial_extremes(frame))
    assert found[200, 0] > 2 > found[200, 1] / 4
    assert np.argmax(found[:, 1]) == radius[360, 660] == 300


@pytest.mark.parametrize("masked", [False, True])
def test_block_maxima_against_numpy(masked: bool) -> None:
    frame = spotted((48, 72), 5)
    valid = some_valid(frame.shape) if masked else np.ones(frame.shape, bool)
    if masked:
        valid[24:, :24] = False
    blocks = [(i, j) for i in range(0, 48, 24) for j in range(0, 72, 24)]
    pieces = [
        frame[i : i + 24, j : j + 24][valid[i : i + 24, j : j + 24]].astype(np.float64) for i, j in blocks
    ]
    expected = [piece.max() if piece.size else 0 for piece in pieces]
    np.testing.assert_allclose(block_maxima(frame, valid if masked else None), expected, rtol=1e-6)
    assert (0 in expected) == masked


@pytest.mark.parametrize("masked", [False, True])
def test_brightest_pixels_against_a_sort(masked: bool) -> None:
    frame = spotted((128, 160), 20)
    frame[:8, :40] += 3  # several of the brightest in one block
    valid = some_valid(frame.shape) if masked else np.ones(frame.shape, bool)
    expected = np.sort(frame[valid])[::-1][:256]
    np.testing.assert_array_equal(brightest_pixels(frame, valid if masked else None), expected)


def test_fewer_valid_pixels_than_the_brightest_end_in_zeros() -> None:
    frame = spotted((128, 160), 20) - 10
    valid = np.zeros(frame.shape, bool)
    valid[60:70, 80] = True
    found = np.asarray(brightest_pixels(frame, valid))
    np.testing.assert_array_equal(np.sort(found[:10]), np.sort(frame[60:70, 80]))
    assert not found[10:].any()


@pytest.mark.parametrize("masked", [False, True])
def test_local_maximum_counts_against_scipy(masked: bool) -> None:
    frame = 3 * spotted((60, 90), 30)
    valid = some_valid(frame.shape) if masked else np.ones(frame.shape, bool)
    seen = np.where(valid, frame.astype(np.float64), -np.inf)
    highest = (seen == ndimage.maximum_filter(seen, 3, mode="constant", cval=-np.inf)) & valid
    expected = [(seen[highest] > threshold).sum() for threshold in THRESHOLDS]
    found = local_maximum_counts(frame, valid if masked else None)
    np.testing.assert_array_equal(found, expected)
    assert expected[0] > 100 > expected[-1] > 0


def test_a_plateau_is_one_local_maximum() -> None:
    frame = np.zeros((20, 30), np.float32)
    frame[5, 8:10] = frame[6, 9] = 1
    frame[15, 29] = 2
    found = np.asarray(local_maximum_counts(frame))
    np.testing.assert_array_equal(found, [2 if t < 1 else 1 if t < 2 else 0 for t in THRESHOLDS])


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


@pytest.mark.parametrize("name", BUILT_IN)
def test_invalid_pixels_decide_nothing(name: str, frame: np.ndarray) -> None:
    reduction = jax.jit(get_reduction(name))
    valid = some_valid()
    before = np.asarray(reduction(frame, valid))
    for value in (1e6, -1e6, np.nan, np.inf):
        np.testing.assert_array_equal(reduction(np.where(valid, frame, np.float32(value)), valid), before)
    assert not np.array_equal(reduction(frame), before)
    # Nothing valid, or nothing there: numbers all the same.
    nothing = np.asarray(reduction(frame, np.zeros_like(valid)))
    zeros = np.asarray(reduction(np.zeros_like(frame)))
    expected = 1 / (1 + np.exp(2 * 6.7)) if name == "soft_spot_counts" else 0
    np.testing.assert_allclose(nothing, expected, atol=1e-7)
    np.testing.assert_allclose(zeros, expected, atol=1e-7)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_mask_that_hides_nothing_changes_nothing(name: str, frame: np.ndarray) -> None:
    reduction = jax.jit(get_reduction(name))
    expected = np.asarray(reduction(frame))
    assert expected.shape == reduced_shape(name)
    assert expected.dtype == np.float32
    np.testing.assert_allclose(reduction(frame, np.ones_like(frame, bool)), expected, rtol=1e-4, atol=1e-5)
    several = jax.vmap(reduction)(jnp.stack([frame.T, frame]))
    np.testing.assert_allclose(several[1], expected, rtol=1e-4, atol=1e-5)


def test_lengths_are_found_by_tracing() -> None:
    assert reduced_shape("rwd") == (720,)
    assert reduced_shape("row_and_column_decomposition") == (720, 2)
    assert reduced_shape("radial_extremes") == (509, 2)
    assert reduced_shape("block_maxima") == (900,)


@pytest.mark.parametrize("value", [1e6, -1e6, np.nan, np.inf])
def test_an_invalid_pixel_decides_no_row(value: float) -> None:
    frame = np.random.default_rng(2).normal(size=(20, 30)).astype(np.float32)
    valid = np.ones((20, 30), bool)
    valid[5, 3] = False
    before = np.asarray(row_wise_decomposition(frame, valid))
    frame[5, 3] = value
    np.testing.assert_array_equal(row_wise_decomposition(frame, valid), before)


def test_a_masked_pixel_and_its_neighbours_decide_no_row() -> None:
    frame = random_frames(1)[0]
    mask = np.ones((CROP, CROP), bool)
    mask[300:340, 350:420] = False
    before = np.asarray(preprocess_and_reduce(frame, mask))
    frame[300:340, 350:420] = 65535
    np.testing.assert_array_equal(preprocess_and_reduce(frame, mask), before)
    # The pixels beside the masked ones are one-sided in their window; those too are left out.
    frame[298:300, 350:420] = 1
    normalized, valid = preprocess(frame, mask, return_valid=True)
    assert not np.asarray(normalized)[296:298, 348:418].any()
    one_sided = np.asarray(normalize_crop(jnp.asarray(frame), jnp.asarray(mask)))[296:298, 348:418]
    assert np.abs(one_sided).max() > np.abs(np.asarray(normalized)).max() / 2
    assert not np.asarray(valid)[296:298, 348:418].any()
    expected = [
        np.ptp(row[good]) for row, good in zip(np.asarray(normalized), np.asarray(valid), strict=True)
    ]
    np.testing.assert_allclose(preprocess_and_reduce(frame, mask), expected, atol=1e-5)


def test_a_row_without_a_valid_pixel_gives_zero() -> None:
    mask = np.ones((CROP, CROP), bool)
    mask[200] = False
    vector = np.asarray(preprocess_and_reduce(random_frames(1)[0], mask))
    # Row 200 of the crop is row 198 of the frame; the windows of two rows on either side hold it.
    assert np.all(vector[196:201] == 0)
    assert np.all(np.delete(vector, np.arange(196, 201)) > 0)
    assert np.all(np.asarray(preprocess_and_reduce(random_frames(1)[0], np.zeros_like(mask))) == 0)


@pytest.mark.parametrize("masks", [pytest.param("none", marks=pytest.mark.slow), "shared", "own"])
def test_a_batch_agrees_with_preprocess_then_reduce(masks: str) -> None:
    frames = random_frames()
    own = np.random.default_rng(4).random(frames.shape) > 0.001
    mask = {"none": None, "shared": own[0], "own": own}[masks]
    normalized = np.asarray(preprocess(frames, mask))
    valid = None if mask is None else grown_mask(mask)
    expected = row_wise_decomposition(normalized, valid)
    result = preprocess_and_reduce(frames, mask)
    assert result.shape == (3, FRAME)
    np.testing.assert_allclose(result, expected, atol=1e-5)
    channels = preprocess_and_reduce(frames, mask, reduction=row_and_column_decomposition)
    assert channels.shape == (3, FRAME, 2)
    np.testing.assert_allclose(channels[..., 0], expected, atol=1e-5)
    np.testing.assert_allclose(channels[..., 1], column_wise_decomposition(normalized, valid), atol=1e-5)


def test_under_jit_and_vmap() -> None:
    frames = jnp.asarray(random_frames(2))
    expected = np.asarray(preprocess_and_reduce(frames))
    np.testing.assert_allclose(jax.jit(preprocess_and_reduce)(frames), expected, atol=1e-5)
    np.testing.assert_allclose(jax.vmap(preprocess_and_reduce)(frames), expected, atol=1e-5)


@pytest.mark.parametrize("name", BUILT_IN)
def test_noise_filled_vectors_grow_and_rotate_with_the_frame_and_no_other_reduction_does_both(
    name: str,
) -> None:
    pixels = np.random.default_rng(8).normal(0, 0.1, (720, 720)).astype(np.float32)
    pixels[40:43, 70] = 3
    reduction = jax.jit(REDUCTIONS[name])
    vector, doubled, rotated = (
        np.asarray(reduction(jnp.asarray(values))) for values in (pixels, 2 * pixels, pixels[::-1, ::-1])
    )
    both = np.array_equal(doubled, 2 * vector) and np.array_equal(rotated, vector[::-1])
    assert both == (is_noise_filled(name))


def test_registry() -> None:
    for name in BUILT_IN:
        assert get_reduction(name) is REDUCTIONS[name]
        assert REDUCTIONS[name].__name__ == name
    for short, name in ALIASES.items():
        assert canonical_name(short) == canonical_name(name) == name
        assert get_reduction(short) is REDUCTIONS[name]
    assert set(ALIASES) == {"rwd", "cwd"}
    with pytest.raises(
        UserError, match="row_wise_decomposition, column_wise_decomposition.*file.py:function"
    ):
        get_reduction("diagonal")
    with pytest.raises(UserError, match="not loaded.*load_reduction"):
        get_reduction("mine.py:diagonal")


def test_the_beam_stop_decides_rows_of_the_real_frame_only_where_its_zeros_count(shared: Path) -> None:
    folder = shared / "data" / "mfx_rayonix"
    with h5py.File(folder / "blank.h5") as file:
        frame = central_crop(file["/entry_1/data_1/data"][0])
    mask = central_crop(np.load(folder / "mask.npz", allow_pickle=False)["good"])
    bare = np.asarray(preprocess_and_reduce(frame + 1))
    unmasked = np.asarray(preprocess_and_reduce(frame))
    masked = np.asarray(preprocess_and_reduce(frame, mask))
    rim = ~np.asarray(grown_mask(mask)).all(axis=1)
    assert np.median(bare[rim]) > 1.2
    for without in (masked, unmasked):
        assert np.median(without[rim]) < 0.6
        assert np.all(without > 0)
    assert abs(np.median(masked[~rim]) - np.median(masked[rim])) < 0.2


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
