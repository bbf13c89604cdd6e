"""Reductions against NumPy, and that no bad pixel decides a row."""

from __future__ import annotations

from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfxjax.errors import UserError
from sfxjax.preprocess import CROP, FRAME, central_crop, grown_mask, preprocess
from sfxjax.reductions import (
    REDUCTIONS,
    column_wise_decomposition,
    get_reduction,
    preprocess_and_reduce,
    row_wise_decomposition,
)


def both_decompositions(frame: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    return jnp.stack([row_wise_decomposition(frame, valid), column_wise_decomposition(frame, valid)], axis=-1)


def random_frames(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(500, 1500, (count, CROP, CROP)).astype(np.uint16)


def test_against_numpy() -> None:
    frame = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)
    valid = np.random.default_rng(1).random((20, 30)) > 0.3
    valid[4] = valid[:, 7] = False
    np.testing.assert_array_equal(row_wise_decomposition(frame), np.ptp(frame, axis=1))
    np.testing.assert_array_equal(column_wise_decomposition(frame), np.ptp(frame, axis=0))
    rows = [np.ptp(frame[i][valid[i]]) if valid[i].any() else 0 for i in range(20)]
    columns = [np.ptp(frame[:, i][valid[:, i]]) if valid[:, i].any() else 0 for i in range(30)]
    np.testing.assert_array_equal(row_wise_decomposition(frame, valid), rows)
    np.testing.assert_array_equal(column_wise_decomposition(frame, valid), columns)


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
    # Good pixels beside the masked ones are one-sided in their window; those too are left out.
    frame[298:300, 350:420] = 0
    normalized, valid = preprocess(frame, mask, return_valid=True)
    left_out = np.asarray(normalized)[296:298, 348:418]
    assert np.abs(left_out).max() > np.abs(np.asarray(normalized)[np.asarray(valid)]).max() / 2
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


@pytest.mark.parametrize("masks", ["none", "shared", "own"])
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
    channels = preprocess_and_reduce(frames, mask, reduction=both_decompositions)
    assert channels.shape == (3, FRAME, 2)
    np.testing.assert_allclose(channels[..., 0], expected, atol=1e-5)
    np.testing.assert_allclose(channels[..., 1], column_wise_decomposition(normalized, valid), atol=1e-5)


def test_under_jit_and_vmap() -> None:
    frames = jnp.asarray(random_frames(2))
    expected = np.asarray(preprocess_and_reduce(frames))
    np.testing.assert_allclose(jax.jit(preprocess_and_reduce)(frames), expected, atol=1e-5)
    np.testing.assert_allclose(jax.vmap(preprocess_and_reduce)(frames), expected, atol=1e-5)


def test_registry() -> None:
    for name, reduction in REDUCTIONS.items():
        assert get_reduction(name) is reduction
        assert name == reduction.__name__
    with pytest.raises(UserError, match="row_wise_decomposition, column_wise_decomposition"):
        get_reduction("diagonal")


def test_the_beam_stop_decides_rows_of_the_real_frame_only_without_its_mask(shared: Path) -> None:
    folder = shared / "data" / "mfx_rayonix"
    with h5py.File(folder / "blank.h5") as file:
        frame = central_crop(file["/entry_1/data_1/data"][0])
    mask = central_crop(np.load(folder / "mask.npz", allow_pickle=False)["good"])
    bare = np.asarray(preprocess_and_reduce(frame))
    masked = np.asarray(preprocess_and_reduce(frame, mask))
    rim = ~np.asarray(grown_mask(mask)).all(axis=1)
    assert np.median(bare[rim]) > 1.2
    assert np.median(masked[rim]) < 0.6
    assert np.all(masked > 0)
    assert abs(np.median(masked[~rim]) - np.median(masked[rim])) < 0.2
