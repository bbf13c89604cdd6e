"""Pixels that read what nothing measures: a few of them hide no spot and make none, and measured values are left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from screen_cases import rows, screen, write_cxi
from test_day_one import PLACES, crystal_frame

from sfxjax.crop import CROP
from sfxjax.data.frames import ReadOptions
from sfxjax.data.read import FrameReader
from sfxjax.pixels.missing_values import value_limit, without_low_values
from sfxjax.pixels.outlying_values import below_measure, beyond_measure
from sfxjax.spots.day_one import find_spots
from sfxjax.spots.frame_pixels import frame_pixels

pytestmark = pytest.mark.usefixtures("compiled_at_once")

BROKEN = tuple(np.random.default_rng(1).integers(2, 180, (2, 10)))
ROW = (np.full(10, 40), np.arange(60, 70))


@pytest.mark.parametrize("value", [-1e3, -1e5, -3e38, 1e12, 1e19, 1e25, 3e38])
@pytest.mark.parametrize("places", [BROKEN, ROW])
def test_a_few_broken_pixels_hide_no_spot_and_make_none(value: float, places: Any) -> None:
    for height, spots in ((60.0, len(PLACES)), (0.0, 0)):
        frame = crystal_frame(3.0, height).astype(np.float32)
        frame[places] = value * np.linspace(0.5, 1, 10)
        found = find_spots(frame)
        assert found.expected == pytest.approx(spots, abs=0.1)
        assert found.score == pytest.approx(float(spots > 0), abs=0.01)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("level", [0.05, 3.0, 300.0])
def test_they_are_left_out_and_no_other_pixel_is(dtype: Any, level: float) -> None:
    frame = np.random.default_rng(2).normal(level, 1 + level**0.5, (216, 192)).round().astype(dtype)
    before = np.isnan(frame_pixels(frame).floats())
    values = [-30_000] + ([1e30] if dtype in (np.float32, np.float64) else [])
    for value in values:
        broken = frame.copy()
        broken[BROKEN] = value
        expected = before.copy()
        expected[BROKEN] = True
        np.testing.assert_array_equal(np.isnan(frame_pixels(broken).floats()), expected)


def measured() -> list[np.ndarray]:
    """Frames whose values all are measured ones, however they are spread."""
    rng = np.random.default_rng(3)
    steep = 1e5 * np.exp(-np.hypot(*np.indices((216, 192))) / 20)
    module = rng.normal(0, 3, (216, 192))
    module[:40] -= 5000
    sparse = np.where(rng.random((216, 192)) < 0.003, rng.normal(0, 50, (216, 192)), 0)
    frames = [rng.normal(0, deviation, (216, 192)) for deviation in (0.3, 5, 500)]
    frames += [rng.poisson(mean, (216, 192)).astype(float) for mean in (0.001, 0.3, 1e4)]
    bright = crystal_frame(0.01, 0).astype(float)
    bright[60, 70] = 2.0**31
    return [*frames, rng.poisson(steep) + rng.normal(0, 1, (216, 192)), module, sparse, bright]


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e20])
@pytest.mark.parametrize("number", range(len(measured())))
def test_measured_values_are_left_alone(number: int, scale: float) -> None:
    frame = (measured()[number] * scale).astype(np.float64)
    assert beyond_measure(frame, np.inf, frame.max()) == np.inf
    assert below_measure(frame, frame.min()) == -np.inf
    assert without_low_values(frame) is frame


def test_a_gap_below_them_is_still_told() -> None:
    frame = crystal_frame(30.0, 0).astype(np.float64)
    frame[90:100] = 2.0**32 - 1
    frame[BROKEN] = 1e200
    assert value_limit(frame) == 2**32 - 2


def test_screening_says_what_was_left_out_and_networks_leave_out_the_same(tmp_path, capsys) -> None:
    data = np.stack([crystal_frame(3.0, height, seed) for seed, height in enumerate((60.0, 0.0))])
    data = data.astype(np.float32)
    data[:, *BROKEN] = 1e30
    data[:, 100, 20:24] = -1e5, -2e5, -3e5, -4e5
    path = write_cxi(tmp_path / "run.cxi", data)
    assert screen(path, "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert [row["label"] for row in rows(tmp_path / "out")] == ["HIT", "MISS"]
    assert "4 of 41,472 pixels" in said and "1 of -400000" in said
    assert (
        "10 of 41,472 pixels (0.024 %) were left out as 3.435973837e+10 or more, since nothing measures"
        in said
    )
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(path))
        (read,) = reader.read(stack, [0], np.dtype(np.float32))
    assert read.crop is not None and read.limit < 1e30
    inside = np.s_[(CROP - 216) // 2 : (CROP + 216) // 2, (CROP - 192) // 2 : (CROP + 192) // 2]
    kept = np.isfinite(read.crop[inside]) & (read.crop[inside] < read.limit)
    expected = np.ones((216, 192), bool)
    expected[BROKEN] = expected[100, 20:24] = False
    np.testing.assert_array_equal(kept, expected)
