"""Which pixels count, each rule by itself; and that pre-processing, screening and spot finding follow the same one."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bench.throughput import inputs
from sfxjax.crop import CROP
from sfxjax.models.checkpoint import TrainedModel
from sfxjax.models.inputs import base_for
from sfxjax.preprocess import preprocess
from sfxjax.preprocess.validity import Facts, settle
from sfxjax.reductions.reduce import preprocess_and_reduce
from sfxjax.reductions.registry import get_reduction
from sfxjax.screen.scorer import Screener

pytestmark = pytest.mark.usefixtures("compiled_at_once")

DTYPES = [np.uint8, np.uint16, np.int16, np.int32, np.uint32, np.float32]


# Whole, since its operations one by one take a compilation each.
@partial(jax.jit, static_argnames="endless")
def _settled(
    frame: jax.Array, mask: jax.Array | None, limit: float, negatives: bool, endless: bool
) -> tuple[jax.Array, jax.Array | None, Facts]:
    pixels, facts = settle(frame, mask, math.inf if endless else limit, negatives)
    return pixels.values, pixels.valid(), facts


def settled(
    frame: np.ndarray, mask: np.ndarray | None = None, limit: float = math.inf, negatives: bool = False
) -> tuple[np.ndarray, np.ndarray, Facts]:
    """Return a frame's values, which of them count, and what they tell of it."""
    values, valid, facts = _settled(frame, mask, limit, negatives, endless=limit == math.inf)
    return np.asarray(values), np.ones(frame.shape, bool) if valid is None else np.asarray(valid), facts


def valid_pixels(
    frame: np.ndarray, mask: np.ndarray | None = None, limit: float = math.inf, negatives: bool = False
) -> np.ndarray:
    return settled(frame, mask, limit, negatives)[1]


def some_frame(dtype: Any, mean: float = 80.0) -> np.ndarray:
    return np.random.default_rng(1).poisson(mean, (40, 60)).astype(dtype) + np.asarray(mean > 50, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_masked_and_saturated_pixels_do_not_count(dtype: Any) -> None:
    frame = some_frame(dtype)
    mask = np.random.default_rng(2).random(frame.shape) > 0.1
    np.testing.assert_array_equal(valid_pixels(frame, mask), mask)
    np.testing.assert_array_equal(valid_pixels(frame, mask, limit=90), mask & (frame < 90))


def test_values_that_are_no_number_do_not_count() -> None:
    frame = some_frame(np.float32)
    for place, value in enumerate((np.nan, np.inf, -np.inf)):
        frame[3, place] = value
    assert (~valid_pixels(frame)).sum() == 3 and not valid_pixels(frame)[3, :3].any()


@pytest.mark.parametrize("gap", [-1, -2, -10000])
@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32])
def test_gaps_of_one_negative_value_do_not_count_without_a_mask(dtype: Any, gap: int) -> None:
    frame = some_frame(dtype, 3)
    frame[10:14] = gap
    frame[20:24] = -1
    np.testing.assert_array_equal(valid_pixels(frame), frame >= 0)
    # Where many values are negative they are noise, and count.
    noise = np.random.default_rng(3).normal(0, 20, (40, 60)).round().astype(dtype)
    assert valid_pixels(noise).mean() > 0.99


@pytest.mark.parametrize("factor", [1e-20, 1e-3, 1e-2, 1e6, 2.0**60])
@pytest.mark.parametrize("mean", [3, 80])
def test_the_unit_of_floats_decides_nothing(factor: float, mean: float) -> None:
    frame = np.random.default_rng(1).poisson(mean, (320, 300)).astype(np.float32)
    frame[40:60] = 0
    scaled = (frame * factor).astype(np.float32)
    np.testing.assert_array_equal(valid_pixels(scaled), valid_pixels(frame))
    limit = np.float32(frame.max() * factor)
    np.testing.assert_array_equal(
        valid_pixels(scaled, limit=float(limit)), valid_pixels(frame, limit=float(frame.max()))
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_count_in_dark_frames_alone(dtype: Any) -> None:
    bright, dark = some_frame(dtype), some_frame(dtype, 3)
    bright[5:9, 7] = 0
    np.testing.assert_array_equal(valid_pixels(bright), bright != 0)
    assert (dark == 0).any() and valid_pixels(dark).all()


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32])
def test_negative_pixels_mean_no_value_where_a_mask_says_so_and_else_0(dtype: Any) -> None:
    frame = some_frame(dtype, 3)
    frame[2, 3:9] = [-3, -4, -5, -6, -7, -7]
    frame[4, 4:6] = -1, -2
    np.testing.assert_array_equal(valid_pixels(frame, negatives=True), frame >= 0)
    values, valid, _ = settled(frame)
    assert valid.all()
    np.testing.assert_array_equal(values, np.maximum(frame, 0))


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32])
@pytest.mark.parametrize("negatives", [False, True])
def test_noise_around_a_pedestal_is_raised_and_counts(dtype: Any, negatives: bool) -> None:
    noise = np.rint(np.random.default_rng(3).normal(0, 20, (40, 60))).astype(dtype)
    noise[7, 7] = -3000
    values, valid, _ = settled(noise, negatives=negatives)
    assert not valid[7, 7] and valid.sum() == valid.size - 1
    raised = values.astype(np.float64) - noise
    assert np.ptp(raised[valid]) < 1e-3 and raised[0, 0] > 20


def test_facts() -> None:
    frame = some_frame(np.uint16)
    frame[:10] = 65535
    frame[10, :5] = 0
    mask = np.ones(frame.shape, bool)
    mask[-8:] = False
    *_, facts = settled(frame, mask, 65535, True)
    unmasked = mask.sum()
    np.testing.assert_allclose(facts, [1 - (600 + 5) / unmasked, 600 / unmasked, 65535], rtol=1e-6)
    *_, facts = settled(np.zeros((8, 9), np.uint16), np.eye(8, 9, dtype=bool), 65535, True)
    np.testing.assert_array_equal(facts, [1, 1, 0])
    *_, facts = settled(np.zeros((8, 9), np.uint16), np.zeros((8, 9), bool), 65535, True)
    np.testing.assert_array_equal(facts[:2], [0, 0])


# Frames that the random network of each tells apart.
SEEDS = {None: 0, "row_wise_decomposition": 22, "soft_spot_counts": 10}


def random_model(reduction: str | None) -> TrainedModel:
    return inputs.random_model(base_for(reduction), reduction)


def odd_frames(dtype: Any, seed: int) -> np.ndarray:
    """Frames of spots on a slope with holes of 0, of -1, of saturated pixels and of NaN, as far as the type has these."""
    rng = np.random.default_rng(seed)
    frames = 60 * rng.random((3, 1, 1)) + rng.poisson(np.linspace(5, 90, CROP), (3, CROP, CROP))
    for frame in frames:
        ss, fs = rng.integers(2, CROP - 2, (2, 40))
        frame[ss, fs] += rng.uniform(20, 100, 40)
        frame[ss + 1, fs] += rng.uniform(20, 100, 40)
    frames = np.rint(frames).astype(dtype)
    holes = [0, *([-1] if np.dtype(dtype).kind != "u" else [np.iinfo(dtype).max])]
    holes += [np.nan, np.inf] if np.dtype(dtype).kind == "f" else []
    for hole in holes:
        first, left = rng.integers(0, CROP - 60, 2)
        frames[:, first : first + 20, left : left + 50] = hole
    return frames


CASES = [(np.uint16, True), (np.uint16, False), (np.int32, True), (np.float32, True)]


@pytest.mark.parametrize(
    ("dtype", "masked", "reduction"),
    [
        pytest.param(
            *case,
            name,
            marks=() if (place, name) == (0, "row_wise_decomposition") else pytest.mark.slow,
        )
        for place, case in enumerate(CASES)
        for name in SEEDS
    ],
)
def test_preprocessing_then_the_model_is_what_the_screener_gives(
    dtype: Any, masked: bool, reduction: str | None
) -> None:
    frames = odd_frames(dtype, SEEDS[reduction])
    mask = np.random.default_rng(4).random((CROP, CROP)) > 0.002 if masked else None
    model = random_model(reduction)
    screened = Screener(model, batch_size=4).scores(frames, mask)
    normalized, valid = preprocess(frames, mask, return_valid=True)
    inputs = normalized
    if reduction is not None:
        inputs = jnp.stack([get_reduction(reduction)(*pair) for pair in zip(normalized, valid, strict=True)])
        reduced = preprocess_and_reduce(frames, mask, reduction=get_reduction(reduction))
        np.testing.assert_allclose(reduced, inputs, atol=1e-4)
    assert np.ptp(screened) > 1e-3
    np.testing.assert_allclose(model.scores(inputs), screened, atol=1e-4)


def test_a_random_mask_changes_nothing_but_what_it_hides() -> None:
    """Values under the mask are of no consequence to pre-processing, to scores and to statistics."""
    frames = odd_frames(np.uint16, 7)
    mask = np.random.default_rng(5).random((CROP, CROP)) > 0.002
    screener = Screener(random_model(None), batch_size=4)
    before = screener.screen(frames, mask)
    frames[:, ~mask] = np.random.default_rng(6).integers(0, 65535, (3, (~mask).sum()))
    after = screener.screen(frames, mask)
    np.testing.assert_allclose(after.scores, before.scores, atol=1e-6)
    np.testing.assert_allclose(after.statistics, before.statistics, atol=1e-5)
