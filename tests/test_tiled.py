"""Raw frames reduced in one pass against a float64 reference, in a CPU's tiles and on whole frames."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import minimum_filter, uniform_filter

from sfxjax.crop import CROP, FRAME, central_crop
from sfxjax.mapping import map_frames
from sfxjax.models.inputs import network_inputs
from sfxjax.models.stem import ASINH_SCALE, BaseConfig, asinh_scaling, block_extrema
from sfxjax.preprocess import preprocess
from sfxjax.preprocess.definition import check_frames
from sfxjax.preprocess.tiled import Part, normalize_parts
from sfxjax.preprocess.validity import Pixels, settle
from sfxjax.reductions.reduce import preprocess_and_reduce

pytestmark = pytest.mark.usefixtures("compiled_at_once")


@partial(jax.jit, static_argnames=("spot", "limit"))
def _blocks(crops: jax.Array, mask: jax.Array | None, spot: int, limit: float) -> jax.Array:
    def one(crop: jax.Array, mask: jax.Array | None) -> jax.Array:
        pixels, _ = settle(crop, mask, limit, mask is not None)
        return network_inputs(pixels, [None], BaseConfig(spot=spot))[0][0]

    return map_frames(one, crops, mask)


def to_blocks(frames: np.ndarray, mask: np.ndarray | None = None, spot: int = 1) -> jax.Array:
    crops, mask, limit = check_frames(frames, mask)
    return _blocks(crops, mask, spot, limit)


def reference(crop: np.ndarray, good: np.ndarray, floor: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Normalise in float64; 0 where a window holds a pixel that does not count, and where it holds none."""
    if good.any() and crop[good].mean() >= 50:
        good = good & (crop != 0)
    # The last two values of 16 bits stand for gaps and dead pixels, in wider types too.
    good = good & (crop < 65534)
    whole = minimum_filter(good, 5)[2:-2, 2:-2]
    values = crop.astype(np.float64)
    if not good.any() or values[good].max() == values[good].min():
        return np.zeros(whole.shape), whole
    values = np.where(good, values - values[good].mean(), 0)
    values /= values[good].std()
    mean = uniform_filter(values, 5)
    deviation = np.sqrt(np.maximum(uniform_filter(values * values, 5) - mean * mean, 0))
    normalized = ((values - mean) / np.maximum(deviation, floor))[2:-2, 2:-2]
    return np.where(whole, normalized, 0), whole


def rows_of(frame: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.array([np.ptp(row[good]) if good.any() else 0 for row, good in zip(frame, whole, strict=True)])


def blocks_of(frame: np.ndarray, block: int) -> np.ndarray:
    rows, columns = (length // block for length in frame.shape)
    blocks = frame.reshape(rows, block, columns, block)
    return np.stack([blocks.max((1, 3)), -blocks.min((1, 3))], -1)


def sums_of(frame: np.ndarray, spot: int) -> np.ndarray:
    return spot * uniform_filter(frame, spot, mode="constant")


def crops(height: int = CROP, width: int = CROP) -> np.ndarray:
    """Make a frame of each kind that could cost accuracy.

    Spots on a slope, counts near 65535, a bright and smooth background, lone photons, one hot pixel, a bright plateau with
    noise of its own on a dark frame, and equal pixels.
    """
    rng = np.random.default_rng(0)
    shape = height, width
    spots = 1000 + np.linspace(0, 800, height)[:, None] + rng.normal(0, 30, shape)
    spots[rng.integers(0, height, 100), rng.integers(0, width, 100)] += rng.uniform(100, 6000, 100)
    hot = np.full(shape, 3.0)
    hot[height // 2, width // 3] = 65535
    plateau = 100 + rng.normal(0, 1, shape)
    plateau[20:27, 30:37] = 60000 + rng.normal(0, 600, (7, 7))
    frames = [
        spots,
        64000 + rng.normal(0, 600, shape),
        30000 + rng.normal(0, 1, shape),
        rng.poisson(0.01, shape),
        hot,
        plateau,
        np.full(shape, 777),
    ]
    return np.rint(np.clip(frames, 0, 65535)).astype(np.uint16)


def masks(height: int = CROP, width: int = CROP) -> np.ndarray:
    mask = np.random.default_rng(1).random((height, width)) > 0.01
    mask[height // 3 : height // 2, width // 3 : width // 2] = False
    mask[height // 4] = False
    return mask


def close(result: Any, expected: Any) -> None:
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("dtype", "masked"),
    [
        (np.uint16, True),
        pytest.param(np.uint16, False, marks=pytest.mark.slow),
        pytest.param(np.int32, True, marks=pytest.mark.slow),
        (np.float32, True),
        pytest.param(np.int32, False, marks=pytest.mark.slow),
        pytest.param(np.float32, False, marks=pytest.mark.slow),
    ],
)
def test_against_the_reference(dtype: type, masked: bool) -> None:
    frames: np.ndarray = crops().astype(dtype)
    mask = masks() if masked else None
    good = np.ones((CROP, CROP), bool) if mask is None else mask
    rows, blocks = preprocess_and_reduce(frames, mask), to_blocks(frames, mask)
    sums = to_blocks(frames, mask, spot=3)
    for i, crop in enumerate(frames):
        frame, whole = reference(crop, good)
        close(rows[i], rows_of(frame, whole))
        close(blocks[i], blocks_of(frame, 8))
        close(sums[i], blocks_of(sums_of(frame, 3), 8))


def test_values_without_a_number_saturated_and_negative_ones_are_bad() -> None:
    rng = np.random.default_rng(2)
    frame = crops()[0].astype(np.float32)
    bad = ~masks()
    frame[bad] = rng.choice([np.nan, np.inf, -np.inf], bad.sum())
    expected = rows_of(*reference(frame, ~bad))
    assert np.ptp(expected) > 0.1
    close(preprocess_and_reduce(frame), expected)
    frame[bad] = rng.choice([60000, 65535], bad.sum())
    close(preprocess_and_reduce(frame.astype(np.uint16), limit=60000), expected)
    frame[bad] = -1
    close(preprocess_and_reduce(frame.astype(np.int32), np.ones_like(bad)), expected)
    # Without a mask negative pixels are 0.
    frame[bad] = -7
    close(
        preprocess_and_reduce(frame.astype(np.int16)),
        rows_of(*reference(np.maximum(frame, 0), np.ones_like(bad))),
    )


@pytest.mark.parametrize(("dtype", "factor"), [(np.float32, 1e34), (np.float32, 1e-30), (np.uint32, 60_000)])
@pytest.mark.parametrize("masked", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_unit_of_the_pixels_does_not_matter(dtype: type, factor: float, masked: bool) -> None:
    mask = masks() if masked else None
    frames = crops()[[0, 6]]
    close(
        preprocess_and_reduce((frames * np.float64(factor)).astype(dtype), mask),
        np.asarray(preprocess_and_reduce(frames, mask)),
    )


def test_real_frames(shared: Path) -> None:
    folder = shared / "data" / "mfx_rayonix"
    mask = np.load(folder / "mask.npz", allow_pickle=False)["good"]
    everywhere = np.ones((CROP, CROP), bool)
    for name in ("hit.h5", "blank.h5"):
        with h5py.File(folder / name) as file:
            frame = file["/entry_1/data_1/data"][0]
        crop = np.asarray(central_crop(frame))
        normalized, whole = reference(crop, everywhere)
        close(preprocess_and_reduce(frame), rows_of(normalized, whole))
        close(to_blocks(frame.astype(np.uint16)), blocks_of(normalized, 8))
        normalized, whole = reference(crop, np.asarray(central_crop(mask)))
        close(preprocess_and_reduce(frame, mask), rows_of(normalized, whole))
        close(to_blocks(frame, mask), blocks_of(normalized, 8))
        close(to_blocks(frame, mask, spot=3), blocks_of(sums_of(normalized, 3), 8))


def test_what_preprocessing_gives_reduced_by_blocks() -> None:
    frame, mask = crops()[0], masks()
    normalized, valid = preprocess(frame, mask, return_valid=True)
    expected = blocks_of(np.where(valid, normalized, 0), 8)
    close(to_blocks(frame, mask), expected)


def test_rows_that_the_pivot_is_taken_of_may_be_masked() -> None:
    """The background is so bright and smooth that a pivot of 0 would leave nothing of its variance."""
    frame = crops()[2]
    mask = np.ones((CROP, CROP), bool)
    mask[::16] = False
    mask[16, 5] = True
    frame = frame.copy()
    frame[16, 5] = 0
    close(preprocess_and_reduce(frame, mask), rows_of(*reference(frame, mask)))
    close(preprocess_and_reduce(frame, np.zeros_like(mask)), np.zeros(FRAME))


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize(
    ("masked", "spot"),
    [(True, 7), *(pytest.param(masked, 3, marks=pytest.mark.slow) for masked in (False, True))],
)
def test_parts_of_small_frames_in_strips_and_whole(
    monkeypatch: pytest.MonkeyPatch, backend: str, masked: bool, spot: int
) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    # 210 rows make strips; block 5 divides them.
    frames, mask = crops(214, 54), masks(214, 54) if masked else np.ones((214, 54), bool)

    @jax.jit
    def parts(crop: jax.Array, mask: jax.Array) -> tuple[Any, ...]:
        pixels, _ = settle(crop, mask if masked else None, 65535.0, masked)
        everything = normalize_parts(pixels, ("window_valid", "frame", "rows", "blocks"), block=5, floor=0.5)
        both = normalize_parts(pixels, ("blocks", "rows"), block=5, floor=0.5)
        sums = normalize_parts(pixels, ("rows", "blocks", "window_valid"), block=5, floor=0.5, spot=spot)
        return *everything, *both, *sums

    for crop in frames:
        frame, whole = reference(crop, mask, floor=0.5)
        result = parts(jnp.asarray(crop), jnp.asarray(mask))
        np.testing.assert_array_equal(result[0], whole)
        np.testing.assert_array_equal(result[8], whole)
        close(result[1], frame)
        close(result[7], blocks_of(sums_of(frame, spot), 5))
        for rows in (result[2], result[5], result[6]):
            close(rows, rows_of(frame, whole))
        for blocks in (result[3], result[4]):
            close(blocks, blocks_of(frame, 5))


@pytest.mark.parametrize(
    ("dtype", "value", "masked"),
    [
        (np.uint16, 65535, False),
        (np.uint16, 0, False),
        (np.uint16, 8000, True),
        (np.int32, -1, True),
        (np.float32, np.nan, False),
        (np.float32, np.inf, True),
    ],
)
def test_one_pixel_that_does_not_count_between_frames_of_which_all_do(
    dtype: type, value: float, masked: bool
) -> None:
    crop = crops(214, 54)[0].astype(dtype)
    frames = np.stack([crop, np.roll(crop, 9, axis=0), crop])
    good = np.ones(frames.shape, bool)
    # Under windows of the last rows and columns alone.
    place = 1, 212, 52
    frames[place] = value
    good[place] = False

    @jax.jit
    def parts(crops: jax.Array, good: jax.Array) -> tuple[Any, ...]:
        def one(crop: jax.Array, good: jax.Array | None) -> tuple[Any, ...]:
            pixels, _ = settle(crop, good, 65534.0, masked)
            return *normalize_parts(pixels, ("rows", "window_valid")), pixels.all_count

        return map_frames(one, crops, good if masked else None)

    # The mask forbids the pixel, or its value does.
    rows, valid, all_count = parts(frames, good if value == 8000 else np.ones_like(good))
    for frame, counting, row, window_valid in zip(frames, good, rows, valid, strict=True):
        normalized, whole = reference(np.where(counting, frame, 1), counting)
        close(row, rows_of(normalized, whole))
        np.testing.assert_array_equal(window_valid, whole)
    np.testing.assert_array_equal(all_count, [True, False, True])


def test_strips_and_steps_are_compiled_apart_on_a_cpu() -> None:
    """All in one would compute every column's sums five times over."""
    frame = jax.ShapeDtypeStruct((214, 54), jnp.uint16)

    def rows(crop: jax.Array) -> jax.Array:
        pixels = Pixels(crop, None, None, None, variance=jnp.float32(1) * crop[0, 0])
        return normalize_parts(pixels, ("rows",))[0]

    text = jax.jit(rows).lower(frame).compile().as_text() or ""
    assert " while(" in text and text.count(" conditional(") == 2


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize(
    "parts",
    [
        ("blocks", "lattice"),
        pytest.param(("rows", "lattice"), marks=pytest.mark.slow),
        pytest.param(("frame", "lattice"), marks=pytest.mark.slow),
    ],
)
def test_the_lattice_is_of_the_frame(
    monkeypatch: pytest.MonkeyPatch, backend: str, parts: tuple[Part, ...]
) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    crop, mask = crops(148, 76)[0], masks(148, 76)
    pixels, _ = settle(jnp.asarray(crop), jnp.asarray(mask), 65535.0, True)
    frame = np.asarray(normalize_parts(pixels, ("frame",))[0])
    rows, columns = normalize_parts(pixels, parts, spot=3 if "blocks" in parts else 1)[1]
    close(rows, frame[::4])
    close(columns, frame[:, ::12])


def test_whole_frames_lower_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    # A number of frames that nothing else here has traced for a CPU.
    frames = jax.ShapeDtypeStruct((7, CROP, CROP), jnp.uint16)
    lowered = jax.jit(preprocess_and_reduce).trace(frames).lower(lowering_platforms=("cuda",)).as_text()
    assert "while" not in lowered and "custom_call" not in lowered


def test_batches_crops_and_masks_of_their_own() -> None:
    frames = np.pad(crops()[:4], ((0, 0), (3, 4), (1, 0)))
    own = np.stack([np.roll(masks(), 40 * i, axis=1) for i in range(4)])
    rows = preprocess_and_reduce(frames.reshape(2, 2, *frames.shape[1:]), own.reshape(2, 2, CROP, CROP))
    assert rows.shape == (2, 2, FRAME)
    for i in range(4):
        close(rows[i // 2, i % 2], np.asarray(preprocess_and_reduce(frames[i], own[i])))


def test_the_stem_of_frames_is_that_of_their_blocks() -> None:
    frames = np.random.default_rng(4).normal(0, 3, (2, 48, 24)).astype(np.float32)
    frames[0, :8, 8:16] = 0
    blocks = np.stack([blocks_of(frame, 8) for frame in frames])
    np.testing.assert_array_equal(block_extrema(jnp.asarray(frames), 8), blocks)
    values = np.concatenate(
        [[0, -0.0, 1e-12, -1e-6], np.geomspace(1e-4, 1e6, 50), -np.geomspace(1e-4, 1e6, 50)]
    )
    expected = np.arcsinh(values / ASINH_SCALE)
    np.testing.assert_allclose(asinh_scaling(jnp.float32(values)), expected, rtol=1e-6)
