"""Values that mean "no value" by themselves: of any type and depth, in screening, pre-processing and spot finding alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import jax.numpy as jnp
import numpy as np
import pytest

from sfxjax.crop import CROP, padded_crop
from sfxjax.data.declared_limits import check_declared_limit
from sfxjax.data.frames import ReadOptions
from sfxjax.data.read import FrameReader
from sfxjax.data.set_description import sets_of_options
from sfxjax.data.sets import FrameSet
from sfxjax.errors import UserError
from sfxjax.pixels.missing_values import is_below, low_values, marked, type_limit, value_limit
from sfxjax.pixels.saturated_spots import with_saturated_spots
from sfxjax.pixels.units import dim_photon, quantum
from sfxjax.preprocess import preprocess
from sfxjax.preprocess.validity import settle
from sfxjax.spots.frame_pixels import frame_pixels
from sfxjax.spots.prepare import prepare_frame

pytestmark = pytest.mark.usefixtures("compiled_at_once")

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


def left_out(frame: np.ndarray) -> np.ndarray:
    """Return which pixels of a frame do not count where its spots are found, bool."""
    return np.isnan(prepare_frame(frame).pixels.floats()[: len(frame)])


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64, np.float32, np.float64])
@pytest.mark.parametrize(
    "lows", [(-9999, -9998), (-9999, -1), (-9999, -9998, -2), (-1000, -30000), (-50, -9999)]
)
@pytest.mark.parametrize("mean", [0.05, 30, 300])
def test_several_negative_values_at_once_are_no_values(
    dtype: Any, lows: tuple[int, ...], mean: float
) -> None:
    frame = counts(mean).astype(dtype)
    bad = np.zeros(SHAPE, bool)
    for place, low in enumerate(lows):
        rows = slice(10 + 20 * place, 13 + 20 * place)
        frame[rows], bad[rows] = low, True
    assert sorted(low_values(frame)) == sorted(low for low in lows if low < -2)
    np.testing.assert_array_equal(left_out(frame), bad)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32])
def test_networks_leave_out_several_negative_values_that_the_reader_marks(dtype: Any, tmp_path: Path) -> None:
    frame = np.tile(counts(), (10, 8))[:CROP, :CROP].astype(dtype)
    bad = np.zeros(frame.shape, bool)
    for rows, low in ((slice(100, 140), -9999), (slice(300, 330), -9998), (slice(500, 520), -1)):
        frame[rows], bad[rows] = low, True
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["/entry_1/data_1/data"] = frame[None]
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(tmp_path / "run.h5"))
        (read,) = reader.read(stack, [0], np.dtype(dtype))
    assert read.crop is not None
    valid = settle(jnp.asarray(read.crop), None, np.inf, False)[0].valid()
    np.testing.assert_array_equal(np.asarray(valid), ~bad)


@pytest.mark.parametrize("deviation", [0.3, 0.7, 1, 2, 3, 5, 20])
def test_noise_around_zero_holds_no_such_values(deviation: float) -> None:
    noise = np.random.default_rng(0).normal(0, deviation, SHAPE)
    for step in (1, 8, 0.001, 7.5):
        for offset in (0, -10):
            frame = ((noise.round() + offset) * step).astype(np.float32)
            assert low_values(frame) == []
            frame[3:6] = -9999 * step - 1
            assert len(low_values(frame)) == 1
        assert low_values((noise.round() * 8).astype(np.int32)) == []
    assert low_values(noise) == low_values(np.maximum(noise, -2 * deviation)) == []
    dim = counts(0.1) - 10.3
    assert low_values(dim) == low_values(np.full(SHAPE, -9999.0)) == low_values(np.full(SHAPE, np.nan)) == []


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("scale", [1, 1e-3])
@pytest.mark.parametrize("mean", [0.01, 30, 1000])
@pytest.mark.filterwarnings("error")
def test_infinity_and_the_ends_of_floats_are_left_out_without_a_warning(
    dtype: Any, scale: float, mean: float
) -> None:
    for value in (np.inf, -np.inf, np.nan, np.finfo(dtype).max, np.finfo(dtype).min):
        frame = (counts(mean) * scale).astype(dtype)
        frame[GAPS] = value
        np.testing.assert_array_equal(left_out(frame), GAPS)


@pytest.mark.parametrize("mean", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("step", [1, 0.001, 250])
def test_dim_frames_of_floats_are_photon_counts(mean: float, step: float) -> None:
    """The zeros of the same counts as integers count."""
    frame = np.random.default_rng(0).poisson(mean, (240, 250))
    as_integers, as_floats = prepare_frame(frame.astype(np.int32)), prepare_frame(np.float32(frame * step))
    np.testing.assert_allclose(as_floats.factor, 1 / step, rtol=1e-5)
    np.testing.assert_array_equal(as_floats.pixels.floats(), as_integers.pixels.floats())
    assert as_floats.pixels.counting and as_floats.pixels.integers


FACTORS = (1e-3, 0.5, 3, 30, 200, 1000, 1e6, 1e300)


def times(photons: np.ndarray, factor: float, dtype: Any) -> np.ndarray | None:
    """Return photons times a factor in a type, None where it cannot hold them."""
    whole, top = np.dtype(dtype).kind != "f", float(photons.max()) * factor
    most = np.iinfo(dtype).max - 2 if whole else float(np.finfo(dtype).max)
    return None if top > most or (whole and factor % 1) else (photons * factor).astype(dtype)


@pytest.mark.parametrize("mean", [0.05, 0.5, 1, 3, 10, 30, 300])
@pytest.mark.parametrize("gap", [None, 0, -1])
@pytest.mark.filterwarnings("error")
def test_photons_times_any_factor_are_the_same_photons(mean: float, gap: int | None) -> None:
    photons = counts(mean)
    photons[DEAD] += 9  # Sharp as spots are.
    if gap == 0:
        photons[GAPS] = 0
    expected = prepare_frame(photons.astype(np.int32))
    values = expected.pixels.floats()
    assert expected.pixels.counting and (gap is not None or not np.isnan(values).any())
    if gap == -1:
        values[GAPS] = np.nan
    tried = 0
    for dtype in (np.uint16, np.int32, np.float32, np.float64):
        for factor in (1, *FACTORS):
            frame = times(photons, factor, dtype)
            if frame is None or (gap == -1 and np.dtype(dtype).kind == "u"):
                continue
            if gap == -1:
                frame[GAPS] = -1 if factor >= 1 else -factor
            found = prepare_frame(frame)
            np.testing.assert_array_equal(found.pixels.floats(), values, err_msg=f"{factor} {frame.dtype}")
            np.testing.assert_allclose(found.factor, 1 / factor, rtol=1e-6)
            assert found.pixels.counting
            np.testing.assert_array_equal(np.isnan(frame_pixels(frame).floats()), np.isnan(values))
            tried += 1
    assert tried > 15


@pytest.mark.parametrize("shape", [(1, 90), (2, 90), (90, 1), (3, 1, 90)])
def test_every_pixel_of_a_frame_of_few_rows_counts(shape: tuple[int, ...]) -> None:
    frame = np.random.default_rng(4).poisson(30, shape).astype(np.uint16)
    frame.reshape(-1)[7] = 65535
    values = prepare_frame(frame).pixels.floats()
    assert np.nansum(values) == frame.sum() - 65535


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32])
def test_the_heart_of_a_spot_that_reaches_the_highest_number_of_its_type_counts(dtype: Any) -> None:
    most = np.iinfo(dtype).max
    away = np.hypot(*(np.indices(SHAPE) - np.array([40, 25])[:, None, None]))
    bright = counts().astype(float) + 50.0 * most * np.exp(-(away**2))
    frame = np.minimum(bright, most).astype(dtype)
    assert np.count_nonzero(frame == most) == 9
    values = prepare_frame(frame).pixels.floats()
    assert not np.isnan(values).any()
    assert frame.reshape(-1)[values.argmax()] == most
    assert values[frame == most].min() > 100 * np.median(values)


@pytest.mark.parametrize("mean", [0.05, 0.3, 1])
@pytest.mark.parametrize("gap", [None, -1])
def test_dim_photons_of_pixels_with_gains_of_their_own_keep_their_zeros(mean: float, gap: int | None) -> None:
    """Of a flat field, or rounded to whole numbers, photons are no multiples of a quantum any more."""
    photons = counts(mean)
    gains = np.random.default_rng(8).normal(1, 0.05, photons.shape).clip(0.85, 1.15)
    few = photons <= 3
    for dtype in (np.int16, np.int32, np.float32, np.float64):
        for factor in (7.3, 100, 1e-3, 3e5):
            frame = photons * gains * factor
            if np.dtype(dtype).kind == "i" and not 1 < factor * photons.max() < np.iinfo(dtype).max:
                continue
            frame = (np.round(frame) if np.dtype(dtype).kind == "i" else frame).astype(dtype)
            expected = photons.astype(float)
            if gap is not None:
                frame[GAPS], expected[GAPS] = gap, np.nan
            found = prepare_frame(frame)
            values = found.pixels.floats()
            np.testing.assert_array_equal(values[few], expected[few], err_msg=f"{factor} {frame.dtype}")
            np.testing.assert_array_equal(np.isnan(values), np.isnan(expected))
            np.testing.assert_allclose(found.factor, 1 / factor, rtol=0.02)
            assert found.pixels.counting


def test_noise_that_was_cut_off_and_columns_between_dead_ones_are_no_dim_photons() -> None:
    random = np.random.default_rng(9)
    noise = np.maximum(random.normal(0, 12, (40, 256)), 0)
    bright = random.normal(500, 22, (40, 256))
    bright[:, [*range(20, 200, 30), *range(22, 202, 30)]] = 0
    gain = random.normal(1, 0.05, (40, 256))
    known = np.ones((40, 256), bool)
    for rows in (
        noise,
        noise.round(),
        bright,
        random.poisson(3, (40, 256)) * 7.3 * gain,
        np.zeros((40, 256)),
    ):
        assert np.isnan(dim_photon(rows, known))
    assert dim_photon(random.poisson(0.1, (40, 256)) * 7.3 * gain, known) == pytest.approx(7.3, rel=0.02)


@pytest.mark.parametrize("factor", [30, 200])
def test_values_that_are_no_multiples_of_the_quantum_change_no_other_pixel(factor: int) -> None:
    photons = counts(0.5)
    frame = (photons * factor).astype(np.int32)
    frame[DEAD] = np.random.default_rng(1).integers(1, 5 * factor, DEAD.sum())
    frame[GAPS] = 2**31 - 1
    bad = left_out(frame)
    np.testing.assert_array_equal(bad, GAPS)
    values = prepare_frame(frame).pixels.floats()
    np.testing.assert_array_equal(values[~(DEAD | GAPS)], photons[~(DEAD | GAPS)])


def test_measured_values_that_are_no_photons_have_no_quantum_but_their_own() -> None:
    rng = np.random.default_rng(0)
    every = np.ones(SHAPE, bool)
    assert np.isnan(quantum(rng.normal(1000, 30, SHAPE), every))
    assert np.isnan(quantum(rng.normal(1000, 30, SHAPE).astype(np.float32).astype(float), every))
    assert quantum(rng.normal(1000, 30, SHAPE).round() * 4, every) == 4
    for dtype in (np.int32, np.float32):
        whole = rng.normal(1000, 100, SHAPE).round().astype(dtype)
        assert prepare_frame(whole).factor == 1 and not prepare_frame(whole).pixels.counting


def hearts(frame: np.ndarray, limit: float, mask: np.ndarray | None = None) -> np.ndarray:
    """Return which pixels that reach the limit are taken for saturated spots' hearts."""
    return np.asarray((frame >= limit) & (with_saturated_spots(frame, limit, mask) < limit))


def test_what_has_no_flank_is_no_heart_of_a_spot() -> None:
    """Gaps, dead pixels, their clusters and a beam's saturated middle; and of what is masked nothing is told."""
    frame = with_gaps(np.uint16, 65535, 65535, mean=3)
    frame[70:73, 80:83] = 65535
    assert with_saturated_spots(frame, 65535) is frame
    spot = np.s_[14:17, 20:24]
    flank = np.s_[13:18, 19:25]
    frame[flank], frame[spot] = 40, 65535
    frame[13, 22] = 55
    expected = np.zeros(SHAPE, bool)
    expected[spot] = True
    np.testing.assert_array_equal(hearts(frame, 65535), expected)
    filled = with_saturated_spots(frame, 65535)
    assert filled[14, 20] == 55 < filled[15, 21] and (filled == frame)[~expected].all()
    # There is room up to 61: the flank sinks, and the heart stays above it.
    low = with_saturated_spots(np.minimum(frame, 61), 61)
    assert low[15, 21] <= 60 and low[15, 21] > low[14, 20] >= low[13, 22] > low[12, 22]
    np.testing.assert_array_equal(hearts(np.stack([frame, counts(3)]), 65535)[0], expected)
    assert not hearts(frame, 65535, ~expected).any()
    # As large as the area that the direct beam saturates.
    frame[5:29, 15:45] = 40
    frame[6:28, 16:44] = 65535
    assert not hearts(frame, 65535).any()


@pytest.mark.parametrize("mean", [0.05, 0.5, 3, 30, 1000])
def test_dead_pixels_are_no_hearts_at_any_level(mean: float) -> None:
    frame = counts(mean).astype(np.int32)
    frame[np.random.default_rng(3).random(SHAPE) < 0.02] = 2**20
    assert hearts(frame, 2**20).sum() <= 1


@pytest.mark.parametrize("scale", [1e300, 1e-300, 1e-20])
@pytest.mark.filterwarnings("error")
def test_float64_beyond_float32_is_brought_to_its_unit_without_a_warning(scale: float) -> None:
    rng = np.random.default_rng(0)
    for pedestal in (0, 30):
        frame = (counts(30) + rng.normal(0, 0.3, SHAPE) - pedestal) * scale
        frame[GAPS] = np.nan
        one = prepare_frame(frame / scale)
        ready = prepare_frame(frame)
        np.testing.assert_array_equal(np.isnan(ready.pixels.floats()), GAPS)
        ratio = (ready.pixels.floats() / one.pixels.floats())[~GAPS]
        np.testing.assert_allclose(ratio, ready.factor * scale / one.factor, rtol=1e-5)


@pytest.mark.parametrize("saturation", [300, 2500])
def test_a_saturation_value_that_leaves_next_to_nothing_is_refused(saturation: float, tmp_path: Path) -> None:
    frames = np.stack([20 * counts(seed=seed) for seed in range(3)]).astype(np.uint32)
    frames[1, GAPS] = 2**32 - 1
    path = tmp_path / "x_master.h5"
    with h5py.File(path, "w") as file:
        file["/entry/data/data_000001"] = frames
        file["/entry/instrument/detector/saturation_value"] = saturation
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(path))
        if saturation == 2500:
            check_declared_limit(stack, reader.whole)
            assert reader.whole(stack, 1).limit == 2501
            return
        with pytest.raises(
            UserError, match="only 0.* % of the pixels are below 301.*by the word of the file"
        ):
            reader.whole(stack, 0)
        with pytest.raises(UserError, match="x_master.h5: only .* correct its saturation_value"):
            check_declared_limit(stack, reader.whole)
    # One frame that the beam floods says nothing of the limit.
    with h5py.File(path, "a") as file:
        file["/entry/data/data_000001"][2] = frames[2] // 20
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(path))
        check_declared_limit(stack, reader.whole)


def test_masked_gaps_of_zeros_do_not_tell_what_zeros_elsewhere_are():
    frame = np.random.default_rng(0).normal(9, 5, (96, 144)).round().clip(0).astype(np.uint16)
    mask = np.ones(frame.shape, bool)
    mask[:, 40:70] = False
    frame[~mask] = 0
    zeros = mask & (frame == 0)
    assert zeros.sum() > 100
    # A fifth of all pixels is 0, as where a background was taken away and cut off; of those that count next to none.
    assert np.isnan(frame_pixels(frame).floats()[zeros]).all()
    assert (frame_pixels(frame, mask).floats()[zeros] == 0).all()
