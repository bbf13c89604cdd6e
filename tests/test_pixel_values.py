"""Values that mean "no value" by themselves: of any type and depth, in screening, pre-processing and spot finding alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from sfxjax.crop import CROP, padded_crop
from sfxjax.data.frames import ReadOptions
from sfxjax.data.read import FrameReader
from sfxjax.data.set_description import sets_of_options
from sfxjax.data.sets import FrameSet
from sfxjax.pixel_values import is_below, marked, type_limit, value_limit
from sfxjax.preprocess import preprocess
from sfxjax.spots.frame_pixels import frame_pixels

SHAPE = (80, 96)
GAPS = np.zeros(SHAPE, bool)
GAPS[30:34] = GAPS[:, 50:53] = True
DEAD = np.zeros(SHAPE, bool)
DEAD[5:70:9, 3:48:7] = True


def counts(mean: float = 30.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(mean, SHAPE)


def with_gaps(dtype: Any, gap: float, dead: float, mean: float = 30.0) -> np.ndarray:
    frame = counts(mean).astype(dtype)
    frame[DEAD] = dead
    frame[GAPS] = gap
    return frame


@pytest.mark.parametrize(
    ("dtype", "depth"),
    [
        *(
            (dtype, 16)
            for dtype in (np.uint16, np.uint32, np.int32, np.int64, np.uint64, np.float32, np.float64)
        ),
        *((dtype, 32) for dtype in (np.uint32, np.int64, np.uint64, np.float32, np.float64)),
        *((dtype, 8) for dtype in (np.uint8, np.uint16, np.uint32, np.int32, np.float32)),
        *((dtype, 20) for dtype in (np.uint32, np.int32, np.float32)),
    ],
)
def test_the_ends_of_the_readout_depth_are_gaps_and_dead_pixels(dtype: Any, depth: int) -> None:
    frame = with_gaps(dtype, 2**depth - 1, 2**depth - 2)
    np.testing.assert_array_equal(frame < np.float64(value_limit(frame)), ~(GAPS | DEAD))


@pytest.mark.parametrize("dtype", [np.uint32, np.float32])
def test_the_highest_value_of_many_pixels_is_no_value(dtype: Any) -> None:
    frame = with_gaps(dtype, 9999, 30)
    assert value_limit(frame) == 9999


@pytest.mark.parametrize("mean", [0.02, 0.5, 3, 30, 1000])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_measured_values_set_no_limit(dtype: Any, mean: float) -> None:
    frame = np.minimum(counts(mean), 250).astype(dtype)
    assert value_limit(frame) == type_limit(dtype)
    frame[40:43, 20:23] = 240  # A spot, flat at its top.
    assert value_limit(frame) == type_limit(dtype)


def test_a_depth_that_a_file_names_needs_one_pixel_and_its_saturation_none() -> None:
    frame = counts().astype(np.uint32)
    frame[3, 4] = 4095
    assert value_limit(frame) == type_limit(np.uint32)
    assert value_limit(frame, depths=(12,)) == 4094
    assert value_limit(frame, declared=4000) == 4000


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.float32])
def test_preprocessing_and_spots_leave_the_same_pixels_out(dtype: Any) -> None:
    depth = 8 if dtype == np.uint8 else 16
    small = with_gaps(dtype, 2**depth - 1, 2**depth - 2)
    frame = np.tile(small, (10, 8))[: CROP + 6, : CROP + 20]
    bad = np.tile(GAPS | DEAD, (10, 8))[: CROP + 6, : CROP + 20]
    np.testing.assert_array_equal(np.isnan(frame_pixels(frame).floats()), bad)
    crop, inner = frame[3 : CROP + 3, 10 : CROP + 10], bad[3 : CROP + 3, 10 : CROP + 10]
    clean = np.where(inner, np.nan, crop).astype(np.float32)
    for array in (frame, frame[None]):
        found, valid = preprocess(array, return_valid=True)
        expected, expected_valid = preprocess(clean, return_valid=True)
        np.testing.assert_array_equal(np.asarray(valid).reshape(720, 720), expected_valid)
        np.testing.assert_allclose(np.asarray(found).reshape(720, 720), expected, atol=1e-4)
    assert marked(frame[:30, :30]).shape == (30, 30)


@pytest.mark.parametrize(
    ("facts", "limit"),
    [
        ({"saturation_value": 400}, 401),
        ({"detectorSpecific/countrate_correction_count_cutoff": 350}, 351),
        ({"bit_depth_readout": 9}, 510),
        ({"saturation_value": 0}, type_limit(np.uint32)),
        ({"saturation_value": np.nan, "bit_depth_image": 32}, type_limit(np.uint32)),
    ],
)
def test_what_the_file_says_of_its_detector(facts: dict[str, float], limit: float, tmp_path: Path) -> None:
    frames = np.stack([counts(seed=seed) for seed in range(2)]).astype(np.uint32)
    frames[:, 7, 8] = 511
    with h5py.File(tmp_path / "x_master.h5", "w") as file:
        file["/entry/data/data_000001"] = frames
        for name, value in facts.items():
            file[f"/entry/instrument/detector/{name}"] = value
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(tmp_path / "x_master.h5"))
        assert [crop.limit for crop in reader.read(stack, range(2), np.dtype(np.uint32))] == [limit] * 2
        assert reader.whole(stack, 1).limit == limit
    strange = "saturation_value" in facts and not facts["saturation_value"] > 0
    assert any("saturation_value is" in note and "not used" in note for note in stack.notes) == strange


def test_training_reads_what_screening_reads(tmp_path: Path) -> None:
    frames = np.stack([with_gaps(np.uint32, 65535, 65534, mean) for mean in (30, 40, 50)])
    mask = np.zeros(SHAPE, np.uint8)
    mask[60:64] = 1
    with h5py.File(tmp_path / "x_master.h5", "w") as file:
        file["/entry/data/data_000001"], file["/entry/instrument/ELE_D0/pixel_mask"] = frames, mask
    (described,) = sets_of_options([[f"mine={tmp_path}/x_master.h5"]]).values()
    with FrameSet(described) as frame_set:
        (batch,) = frame_set.batches(range(3), 3)
        assert any("384 of 7,680 pixels" in note for note in frame_set.notes)
    np.testing.assert_array_equal(batch.limits, 65534)
    assert batch.mask is not None
    np.testing.assert_array_equal(batch.mask, padded_crop(mask == 0, np.dtype(bool)))


@pytest.mark.parametrize("dtype", ["uint64", "int64"])
def test_the_largest_number_of_64_bits_tells_nothing(dtype: str) -> None:
    frame = np.random.default_rng(0).integers(1, 90, (64, 64)).astype(dtype)
    frame[10:12] = np.iinfo(dtype).max
    limit = value_limit(frame)
    np.testing.assert_array_equal(is_below(frame, limit), frame < 100)
    assert limit > 2**62
