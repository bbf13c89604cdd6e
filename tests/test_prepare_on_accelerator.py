"""What an accelerator makes ready by itself is what `prepare_frame` gives, and it says so of every other frame."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest

from bench.day_one.measure import MATRIX, simulate
from sfxjax.pixels.missing_values import type_limit
from sfxjax.spots.frame_pixels import FramePixels
from sfxjax.spots.prepare import prepare_frame, separator, settle_frame
from sfxjax.spots.prepare_on_accelerator import make_ready
from sfxjax.spots.stored_type import is_integer_of_jax, never

SHAPE = (96, 144)


@partial(jax.jit, static_argnames=("between", "settled"))
def _ready(frame: Any, mask: Any, between: int, settled: bool) -> Any:
    return make_ready(frame, mask, between, settled=settled)


def _compare(frame: np.ndarray, mask: np.ndarray | None = None, settled: bool = False) -> bool:
    """Compare both ways where the frame is an ordinary one; returns whether it is."""
    pixels, ordinary = _ready(frame, mask, separator(frame.shape), settled)
    if not ordinary:
        return False
    if settled:
        expected = prepare_frame(frame, frame != never(frame.dtype), type_limit(frame.dtype))
    else:
        expected = prepare_frame(frame, mask)
    found = FramePixels(np.asarray(pixels.values), np.asarray(pixels.invalid), *pixels[2:])
    np.testing.assert_array_equal(found.floats(), expected.pixels.floats())
    assert found.values.shape == expected.pixels.values.shape
    assert found.values.dtype == expected.pixels.values.dtype
    assert (bool(found.counting), found.integers) == (expected.pixels.counting, expected.pixels.integers)
    assert expected.factor == 1
    return True


def _counts(dtype: str, mean: float = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(mean, SHAPE).astype(dtype)


@pytest.mark.parametrize("name", ["counting 3", pytest.param("integrating 2000", marks=pytest.mark.slow)])
def test_frames_of_a_condition_are_made_ready_alike(name):
    rng = np.random.default_rng(0)
    ordinary = []
    for number in range(3):
        frame = simulate(name, number).values
        if frame.dtype.kind == "f":
            continue
        ordinary += [_compare(frame), _compare(frame, rng.random(frame.shape) > 0.3)]
        ordinary.append(_compare(settle_frame(frame, rng.random(frame.shape) > 0.3), settled=True))
    assert np.mean(ordinary) > 0.6


@pytest.mark.slow
def test_frames_of_every_condition_are_made_ready_alike():
    rng = np.random.default_rng(1)
    ordinary = []
    for name in MATRIX:
        for number in range(4):
            frame = simulate(name, number).values
            if frame.dtype.kind != "f":
                ordinary += [_compare(frame), _compare(frame, rng.random(frame.shape) > 0.3)]
    assert np.mean(ordinary) > 0.4


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "int32"])
def test_types_masks_and_panels(dtype):
    frame = _counts(dtype)
    mask = np.random.default_rng(1).random(SHAPE) > 0.4
    assert is_integer_of_jax(frame.dtype)
    assert _compare(frame) and _compare(frame, mask)
    stack = np.stack([frame, _counts(dtype, seed=1)])
    assert _compare(stack) and _compare(stack, np.stack([mask, ~mask]))


def test_sentinels_below_zero_and_masked_gaps_of_the_highest_value():
    frame = _counts("int32", 20)
    frame[:, 60:66], frame[5, 5] = -1, -2
    assert _compare(frame)
    eiger = _counts("uint32", 20)
    eiger[40:46] = 2**32 - 1
    assert not _compare(eiger), "a gap that no mask tells may be the heart of a spot"
    assert _compare(eiger, eiger < 2**32 - 1)
    assert _compare(settle_frame(eiger), settled=True)


def test_zeros_mean_nothing_far_from_them_and_photons_near_them():
    bright, dark = _counts("uint16", 100), _counts("uint16", 0.05)
    bright[30:50, 40:90] = 0
    for frame, zeros in ((bright, True), (dark, False)):
        assert _compare(frame)
        pixels, _ = _ready(frame, None, separator(SHAPE), False)
        assert (np.asarray(pixels.invalid)[0] == 0) == zeros
        assert bool(pixels.counting)


def _spotted(frame: np.ndarray, heart: int) -> np.ndarray:
    frame = frame.copy()
    ss, fs = np.indices(SHAPE)
    frame += (
        (3e5 * np.exp(-0.5 * ((ss - 40) ** 2 + (fs - 70) ** 2) / 4))
        .clip(0, heart - frame)
        .astype(frame.dtype)
    )
    return frame


@pytest.mark.parametrize(
    ("why", "frame"),
    [
        ("a quantum of 3", 3 * _counts("uint16", 20)),
        ("a gap of a constant", np.where(np.arange(144) < 30, 1000, _counts("uint16", 40)).astype("uint16")),
        ("a gap of a constant near the others", np.where(np.arange(144) < 30, 5, _counts("uint16", 2)).astype("uint16")),
        ("a saturated spot", _spotted(_counts("uint16", 40), 65535)),
        ("dead pixels of one value", np.where(_counts("uint16", 0.1) > 0, 4095, _counts("uint16", 9)).astype("uint16")),
        ("noise around 0", (_counts("int16", 20) - 20).astype("int16")),
        ("negative values that mean nothing", np.where(_counts("int32", 0.3) > 0, -9999, _counts("int32", 9)).astype("int32")),
        ("zeros alone", np.zeros(SHAPE, "uint16")),
        ("no value", np.full(SHAPE, 65535, "uint16")),
    ],
)  # fmt: skip
def test_of_no_other_frame_it_is_said_that_it_is_ordinary(why, frame):
    assert not _ready(frame, None, separator(SHAPE), False)[1], why


def _any_frame(rng: np.random.Generator) -> np.ndarray:
    """A frame with whatever a frame may have: counts or noise, areas and single pixels of any value, spots, a factor."""
    mean = np.exp(rng.uniform(np.log(0.01), np.log(500)))
    frame = rng.poisson(mean, SHAPE) + np.round(rng.normal(0, rng.choice([0, 0.5, 3, 15]), SHAPE))
    if rng.random() < 0.8:
        frame = np.maximum(frame, 0)
    for _ in range(rng.integers(4)):
        ss, fs = rng.integers(0, 90), rng.integers(0, 140)
        value = rng.choice([0, -1, -2, 1, 5, 1000, 4095, 65534, 65535, 2**31 - 1, 2**32 - 1, -9999])
        frame[ss : ss + rng.integers(1, 40), fs : fs + rng.integers(1, 60)] = value
    if rng.random() < 0.3:
        frame[rng.random(SHAPE) < rng.choice([0.001, 0.1])] = rng.choice([0, 1, -1, 300, 65535])
    for ss, fs in rng.integers(3, 90, (rng.integers(6), 2)):
        frame[ss : ss + 2, fs : fs + 2] += rng.choice([20, 200, 60000])
    dtype = np.dtype(rng.choice(["uint8", "uint16", "int16", "uint32", "int32"]))
    factor = rng.choice([1, 1, 1, 1, 3])
    return (factor * frame).clip(np.iinfo(dtype).min, np.iinfo(dtype).max).astype(dtype)


def test_frames_of_any_kind_are_made_ready_alike_or_are_no_ordinary_ones():
    rng = np.random.default_rng(0)
    masks = [None, rng.random(SHAPE) > 0.3, np.broadcast_to(np.arange(SHAPE[1]) > 20, SHAPE).copy()]
    ordinary = [_compare(_any_frame(rng), masks[number % 3]) for number in range(600)]
    assert 0.2 < np.mean(ordinary) < 0.8
