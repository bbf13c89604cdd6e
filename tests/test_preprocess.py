"""Pre-processing against a float64 reference built on scipy.ndimage."""

from __future__ import annotations

from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import binary_erosion, gaussian_filter, uniform_filter

from sfxjax.crop import CROP, FRAME, central_crop
from sfxjax.errors import UserError
from sfxjax.mapping import map_frames
from sfxjax.preprocess import global_contrast_normalize, local_contrast_normalize, preprocess
from sfxjax.preprocess.contrast import grown_mask, normalize_crop

pytestmark = pytest.mark.usefixtures("compiled_at_once")

VARIANTS = [
    ("box", 1.0),
    ("gaussian", "mean"),
    pytest.param("box", "mean", marks=pytest.mark.slow),
    pytest.param("gaussian", 1.0, marks=pytest.mark.slow),
]


def window_mean(values: np.ndarray, window: str) -> np.ndarray:
    if window == "box":
        return uniform_filter(values, 5)[2:-2, 2:-2]
    return gaussian_filter(values, 1.0, truncate=2.0)[2:-2, 2:-2]


def reference_gcn(frame: np.ndarray, good: np.ndarray) -> np.ndarray:
    values = frame.astype(np.float64)
    centred = np.where(good, values - values[good].mean(), 0)
    return centred / centred[good].std()


def reference_lcn(
    z: np.ndarray, good: np.ndarray, window: str = "box", floor: float | str = 1.0
) -> np.ndarray:
    """LCN of z, which is 0 at bad pixels; each window's mean is the sum over good pixels by their weight."""
    inner = good[2:-2, 2:-2]
    weight = np.where(inner, window_mean(good.astype(np.float64), window), 1)
    mean = window_mean(z, window) / weight
    deviation = np.sqrt(np.maximum(window_mean(z * z, window) / weight - mean**2, 0))
    divisor = np.maximum(deviation, deviation[inner].mean() if floor == "mean" else floor)
    return np.where(inner, (z[2:-2, 2:-2] - mean) / divisor, 0)


def reference(
    crop: np.ndarray, mask: np.ndarray | None = None, window: str = "box", floor: float | str = 1.0
) -> np.ndarray:
    """Normalise in float64, with 0 where a window holds a pixel that does not count."""
    values = crop.astype(np.float64)
    valid = np.isfinite(values)
    if mask is not None:
        valid &= mask & (values >= 0)
    values = np.clip(values, 0, None)
    if values[valid].mean() >= 50:
        valid &= values != 0
    normalized = reference_lcn(reference_gcn(values, valid), valid, window, floor)
    return np.where(eroded(valid), normalized, 0)


def eroded(valid: np.ndarray) -> np.ndarray:
    return binary_erosion(valid, np.ones((5, 5)))[2:-2, 2:-2]


def relative_error(result: jax.Array, expected: np.ndarray) -> float:
    assert result.shape == expected.shape
    assert result.dtype == np.float32
    return float(np.abs(np.asarray(result, np.float64) - expected).max() / np.abs(expected).max())


def random_crop(seed: int = 0, negative: bool = False) -> np.ndarray:
    """Sloped background, its noise, a hundred spots, and pixels below 0 if asked for."""
    rng = np.random.default_rng(seed)
    frame = 1000 + np.linspace(0, 800, CROP)[:, None] + rng.normal(0, 30, (CROP, CROP))
    frame[rng.integers(0, CROP, 100), rng.integers(0, CROP, 100)] += rng.uniform(100, 6000, 100)
    if negative:
        frame[rng.integers(0, CROP, 500), rng.integers(0, CROP, 500)] = -5
    return np.rint(frame).astype(np.int32)


def random_mask(seed: int = 1) -> np.ndarray:
    """Lone bad pixels, a bad block and a bad row."""
    mask = np.random.default_rng(seed).random((CROP, CROP)) > 0.01
    mask[300:380, 310:400] = False
    mask[100] = False
    return mask


@pytest.fixture(scope="module")
def real(shared: Path) -> tuple[np.ndarray, np.ndarray]:
    folder = shared / "data" / "mfx_rayonix"
    with h5py.File(folder / "hit.h5") as file:
        frame = file["/entry_1/data_1/data"][0]
    return frame, np.load(folder / "mask.npz", allow_pickle=False)["good"]


def test_central_crop_is_central() -> None:
    frame = np.arange(1920 * 1920).reshape(1920, 1920)
    crop = central_crop(frame)
    np.testing.assert_array_equal(crop, frame[598:1322, 598:1322])
    assert np.shares_memory(crop, frame)
    assert central_crop(np.zeros((3, 2, 10, 11)), size=4).shape == (3, 2, 4, 4)
    np.testing.assert_array_equal(central_crop(np.arange(25).reshape(5, 5), size=2), [[6, 7], [11, 12]])


@pytest.mark.parametrize("shape", [(723, 1920), (1920, 723), (724,)])
def test_small_frames_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="smaller than the 724 x 724"):
        preprocess(np.zeros(shape, np.uint16))


@pytest.mark.parametrize(("window", "floor"), VARIANTS)
@pytest.mark.parametrize("masked", [False, True])
def test_preprocess_of_a_random_frame(window: str, floor: float | str, masked: bool) -> None:
    crop = random_crop(negative=True)
    mask = random_mask() if masked else None
    result = preprocess(crop, mask, window=window, floor=floor)
    assert result.shape == (FRAME, FRAME)
    assert relative_error(result, reference(crop, mask, window, floor)) < 1e-5


@pytest.mark.parametrize(("window", "floor"), VARIANTS)
@pytest.mark.parametrize("masked", [False, True])
def test_preprocess_of_the_real_frame(
    real: tuple[np.ndarray, np.ndarray], window: str, floor: float | str, masked: bool
) -> None:
    frame, mask = real
    crop, crop_mask = central_crop(frame), central_crop(mask) if masked else None
    result = preprocess(frame, mask if masked else None, window=window, floor=floor)
    assert relative_error(result, reference(crop, crop_mask, window, floor)) < 1e-5


@pytest.mark.parametrize("floor", [0.9, 0.0, pytest.param(0.25, marks=pytest.mark.slow)])
def test_the_floor_is_a_bound_in_units_of_the_frames_deviation(floor: float) -> None:
    crop = random_crop()
    result = preprocess(crop, floor=floor)
    assert relative_error(result, reference(crop, floor=floor)) < 1e-5
    assert relative_error(result, reference(crop, floor=1.0)) > 1e-3


@pytest.mark.parametrize(
    "dtype", [np.uint16, np.int32, np.uint32, np.int64, np.float32, np.float64, ">u2", ">f4"]
)
def test_dtypes_agree(dtype: str) -> None:
    crop = random_crop()
    assert relative_error(preprocess(crop.astype(dtype)), reference(crop)) < 1e-5


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64, np.float64])
@pytest.mark.parametrize("masked", [False, True])
def test_large_values_do_not_overflow(dtype: type, masked: bool) -> None:
    crop = np.random.default_rng(3).integers(0, 2**31 - 1, (CROP, CROP)).astype(dtype)
    mask = random_mask() if masked else None
    assert relative_error(preprocess(crop, mask), reference(crop, mask)) < 1e-5


@pytest.mark.parametrize("dtype", [np.int32, np.uint32])
def test_a_large_offset_costs_no_accuracy(dtype: type) -> None:
    crop = (2_000_000_000 + random_crop()).astype(dtype)
    assert relative_error(preprocess(crop), reference(crop)) < 1e-5


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_integers_of_64_bits_do_not_wrap(dtype: type) -> None:
    crop = random_crop().astype(dtype) * 2**40
    assert relative_error(preprocess(crop), reference(crop)) < 1e-5


def test_values_near_the_end_of_float32_do_not_overflow() -> None:
    crop = random_crop() * 1e34
    assert relative_error(preprocess(crop), reference(crop)) < 1e-5


def test_nan_infinite_and_saturated_pixels_are_bad_without_a_mask() -> None:
    crop = random_crop().astype(np.float32)
    bad = ~random_mask()
    broken = crop.copy()
    broken[bad] = np.random.default_rng(2).choice([np.nan, np.inf, -np.inf], bad.sum())
    expected = reference(crop, ~bad)
    result, valid = preprocess(broken, return_valid=True)
    assert relative_error(result, expected) < 1e-5
    np.testing.assert_array_equal(valid, binary_erosion(~bad, np.ones((5, 5)))[2:-2, 2:-2])
    # The same pixels marked by their value.
    for dtype in (np.uint16, np.float32):
        full = np.where(bad, 65535, crop).astype(dtype)
        assert relative_error(preprocess(full, limit=65535), expected) < 1e-5


def test_integer_saturation_tells_neighbouring_integers_apart() -> None:
    crop = random_crop()
    crop[50, 50], crop[60, 60] = 2**30, 2**30 + 1
    _, valid = preprocess(crop, limit=2**30 + 1, return_valid=True)
    assert bool(valid[48, 48])
    assert not bool(valid[58, 58])


def test_negative_pixels_are_clipped_without_a_mask_and_bad_with_one() -> None:
    crop = random_crop(negative=True)
    clipped = preprocess(crop)
    np.testing.assert_array_equal(clipped, preprocess(np.maximum(crop, 0)))
    everywhere = np.ones((CROP, CROP), bool)
    assert relative_error(preprocess(crop, everywhere), reference(crop, crop >= 0)) < 1e-5
    assert np.all(np.asarray(preprocess(crop, everywhere))[(crop < 0)[2:-2, 2:-2]] == 0)
    # In a dark frame, where a pixel may read 0, they are 0.
    dark = np.random.default_rng(4).poisson(3, (CROP, CROP)).astype(np.int32)
    dark[300, 300:400:7] = -3 - np.arange(15)
    everything = preprocess(dark, return_valid=True)[1]
    assert relative_error(preprocess(dark), reference(dark)) < 1e-5 and bool(jnp.all(everything))


@pytest.mark.parametrize("value", [0, 7, 1000.1, 16_777_213, 2**31 - 1])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32, pytest.param(np.int32, marks=pytest.mark.slow)])
@pytest.mark.parametrize("floor", [1.0, "mean", pytest.param(0.0, marks=pytest.mark.slow)])
def test_equal_pixels_give_zeros(value: float, dtype: type, floor: float | str) -> None:
    if value > 65535 and dtype is np.uint16:
        value = 65535
    crop = np.full((CROP, CROP), value, dtype)
    for mask in (None, random_mask()):
        assert np.all(np.asarray(preprocess(crop, mask, floor=floor)) == 0)


def test_no_good_pixel_gives_zeros() -> None:
    crop, nowhere = random_crop(), np.zeros((CROP, CROP), bool)
    for result in (
        preprocess(crop, nowhere),
        preprocess(crop, nowhere, floor="mean"),
        preprocess(np.full((CROP, CROP), np.nan)),
        preprocess(np.full((CROP, CROP), -3, np.int16), ~nowhere),
    ):
        assert np.all(np.asarray(result) == 0)


def test_batches_and_masks_of_every_allowed_shape() -> None:
    frames = np.stack([random_crop(seed) for seed in range(5)]).astype(np.uint16)
    frames = np.pad(frames, ((0, 0), (2, 2), (6, 6)))
    masks = np.stack([random_mask(seed) for seed in range(5)])
    padded = np.pad(masks, ((0, 0), (2, 2), (6, 6)))
    crops = central_crop(frames)
    shared_mask = np.asarray(preprocess(frames, masks[0]))
    own_masks = np.asarray(preprocess(frames, masks))
    for i in range(5):
        np.testing.assert_allclose(shared_mask[i], preprocess(crops[i], masks[0]), atol=1e-6)
        np.testing.assert_allclose(own_masks[i], preprocess(crops[i], masks[i]), atol=1e-6)
    np.testing.assert_array_equal(preprocess(frames, padded[0]), shared_mask)
    np.testing.assert_array_equal(preprocess(frames, padded), own_masks)
    np.testing.assert_array_equal(
        preprocess(frames[:4].reshape(2, 2, 728, 736)).reshape(4, FRAME, FRAME), preprocess(frames[:4])
    )
    assert preprocess(frames[:0], masks[0]).shape == (0, FRAME, FRAME)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_map_frames_in_the_way_of_each_device(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    frames = jnp.arange(120.0).reshape(2, 3, 4, 5)
    mask = jnp.arange(120).reshape(2, 3, 4, 5) % 7 > 0

    def function(frame: jax.Array, mask: jax.Array | None) -> dict[str, jax.Array]:
        assert frame.shape == (4, 5)
        return {"sum": jnp.sum(frame, where=mask), "rows": frame[0]}

    for given in (None, mask[0, 0], mask):
        result = map_frames(function, frames, given)
        where = True if given is None else given
        np.testing.assert_array_equal(result["sum"], np.sum(np.asarray(frames), (-2, -1), where=where))
        np.testing.assert_array_equal(result["rows"], frames[:, :, 0])
    loops = "scan" in str(jax.make_jaxpr(lambda frames: map_frames(function, frames))(frames))
    assert loops == (backend == "cpu")


def test_under_jit_and_vmap() -> None:
    frames = jnp.asarray(np.stack([random_crop(seed) for seed in range(2)]))
    mask = jnp.asarray(random_mask())
    expected = np.asarray(preprocess(frames, mask))
    np.testing.assert_allclose(jax.jit(preprocess)(frames, mask), expected, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(preprocess, (0, None))(frames, mask), expected, atol=1e-6)


@pytest.mark.parametrize(
    "mask",
    [
        np.ones((CROP, CROP), np.uint8),
        np.ones((CROP, 700), bool),
        np.ones(CROP, bool),
        np.ones((3, CROP, CROP), bool),
    ],
)
def test_wrong_masks_are_refused(mask: np.ndarray) -> None:
    with pytest.raises(UserError, match="mask of"):
        preprocess(np.zeros((2, CROP, CROP), np.uint16), mask)


def test_wrong_options_are_refused() -> None:
    frame = np.zeros((CROP, CROP), np.uint16)
    with pytest.raises(UserError, match="box, gaussian"):
        preprocess(frame, window="triangle")
    for floor in (-1.0, float("nan"), "median"):
        with pytest.raises(UserError, match="floor"):
            preprocess(frame, floor=floor)
    with pytest.raises(UserError, match="not real numbers"):
        preprocess(frame.astype(complex))
    with pytest.raises(UserError, match="smaller than the window"):
        local_contrast_normalize(np.zeros((4, 9)))


@pytest.mark.parametrize("masked", [False, True])
def test_the_two_normalisations_apart(masked: bool) -> None:
    frames = np.random.default_rng(5).normal(-3, 20, (2, 40, 30))
    good = np.random.default_rng(6).random((40, 30)) > 0.1 if masked else np.ones((40, 30), bool)
    z = global_contrast_normalize(frames, good if masked else None)
    local = local_contrast_normalize(z, good if masked else None, window="gaussian", floor="mean")
    for i in range(2):
        expected = reference_gcn(frames[i], good)
        assert relative_error(z[i], expected) < 1e-5
        assert relative_error(local[i], reference_lcn(expected, good, "gaussian", "mean")) < 1e-5


def test_with_the_floor_mean_local_normalisation_undoes_the_global_one() -> None:
    frame = np.random.default_rng(7).normal(50, 9, (40, 30))
    np.testing.assert_allclose(
        local_contrast_normalize(frame, floor="mean"),
        local_contrast_normalize(global_contrast_normalize(frame), floor="mean"),
        atol=1e-4,
    )


def test_grown_mask_is_an_erosion() -> None:
    good = np.random.default_rng(8).random((3, 60, 50)) > 0.02
    for i, grown in enumerate(np.asarray(grown_mask(good))):
        np.testing.assert_array_equal(grown, binary_erosion(good[i], np.ones((5, 5)))[2:-2, 2:-2])
    _, valid = preprocess(random_crop().astype(np.uint16), return_valid=True)
    assert valid.shape == (FRAME, FRAME) and bool(jnp.all(valid))


def test_default_floor_of_the_local_normalisation_is_one() -> None:
    """Windows whose deviation is just below, at and above one tell a floor of 1 from any other."""
    noise = np.random.default_rng(11).normal(size=(60, 60))
    frame = (noise * np.linspace(0.7, 1.3, 60)).astype(np.float32)
    exact = frame.astype(np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(exact, (5, 5)).reshape(56, 56, 25)
    mean, deviation = windows.mean(-1), windows.std(-1)
    assert 0.2 < (deviation < 1).mean() < 0.8
    expected = (exact[2:-2, 2:-2] - mean) / np.maximum(deviation, 1.0)
    np.testing.assert_allclose(local_contrast_normalize(jnp.asarray(frame)), expected, atol=1e-5)
    crop = normalize_crop(jnp.asarray(frame), None)
    scaled = (exact - exact.mean()) / exact.std()
    windows = np.lib.stride_tricks.sliding_window_view(scaled, (5, 5)).reshape(56, 56, 25)
    expected = (scaled[2:-2, 2:-2] - windows.mean(-1)) / np.maximum(windows.std(-1), 1.0)
    np.testing.assert_allclose(crop, expected, atol=1e-5)
