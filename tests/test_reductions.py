"""Reductions against NumPy, and that no bad pixel decides a number."""

from __future__ import annotations

from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reduction_cases import some_valid, spotted
from scipy import ndimage

from sfxjax.crop import CROP, FRAME, central_crop
from sfxjax.errors import UserError
from sfxjax.preprocess import preprocess
from sfxjax.preprocess.contrast import grown_mask, normalize_crop
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

pytestmark = pytest.mark.usefixtures("compiled_at_once")

# Compiled as a whole: run step by step each of its operations would be compiled by itself.
radial_extremes = jax.jit(radial, static_argnames="centre")


def random_frames(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(500, 1500, (count, CROP, CROP)).astype(np.uint16)


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
