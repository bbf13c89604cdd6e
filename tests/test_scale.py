"""What a pixel means does not depend on the unit of floats: factors change neither which pixels count nor any label."""

from __future__ import annotations

from pathlib import Path

import h5py
import jax
import numpy as np
import pytest
import screen_cases as cases
from scipy.ndimage import gaussian_filter

from sfxjax.models.checkpoint import save_model
from sfxjax.preprocess.validity import settle

FACTORS = (1e-20, 0.001, 0.05, 0.3, 3.0, 17.0, 1e6)


def frames(count: int, size: int = 740) -> np.ndarray:
    """Photons, or detector units with a gain and read-out noise, of dim to bright frames, with gaps and a hole of zeros."""
    random = np.random.default_rng(5)
    radius = np.hypot(*np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j])
    made = []
    for number in range(count):
        level = (2, 10, 30, 45, 60, 90, 300)[number % 7]
        light = level * (0.3 + np.exp(-(radius**2)))
        if number % 2:
            spots = np.zeros((size, size))
            places = random.integers(30, size - 30, (2, 4 * number))
            spots[places[0], places[1]] = 60 * level + 300
            light = light + gaussian_filter(spots, 0.8)
        frame = random.poisson(light).astype(np.float64)
        if number % 3 == 1:
            frame *= 7.3
        if number % 3 == 2:
            frame = 4 * frame + random.normal(0, 2, frame.shape)
        frame[150:160] = frame[:, 170:182] = 0
        frame[200:220, 190:220] = 0
        made.append(frame)
    return np.array(made)


def write(path: Path, data: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        file["/entry_1/data_1/data"] = data.astype(np.float32)
    return path


@jax.jit
def valid_pixels(frame: jax.Array) -> jax.Array:
    valid = settle(frame, None, np.inf, False)[0].valid()
    assert valid is not None
    return valid


def test_which_pixels_count_does_not_depend_on_the_unit() -> None:
    for frame in frames(14, 384):
        known = np.asarray(valid_pixels(frame.astype(np.float32)))
        for factor in FACTORS:
            scaled = (frame * factor).astype(np.float32)
            np.testing.assert_array_equal(np.asarray(valid_pixels(scaled)), known, err_msg=str(factor))


@pytest.mark.parametrize("mean", [0.05, 0.5, 1])
def test_zeros_of_dim_photons_count_where_pixels_have_gains_of_their_own(mean: float) -> None:
    random = np.random.default_rng(7)
    photons = random.poisson(mean, (384, 384)) * random.normal(1, 0.02, (384, 384))
    for dtype, factor in ((np.int32, 100), (np.int32, 20_000), (np.float32, 7.3), (np.float32, 1e5)):
        assert np.asarray(valid_pixels((photons * factor).astype(dtype))).all(), f"{factor} {dtype}"


@pytest.mark.parametrize("mean", [0.05, 0.5, 3, 30, 300])
def test_photons_of_any_factor_in_any_type_count_alike(mean: float) -> None:
    photons = np.random.default_rng(6).poisson(mean, (384, 384))
    photons[100:110] = photons[:, 170:182] = 0
    known = np.asarray(valid_pixels(photons.astype(np.int32)))
    assert known.mean() == (1 if mean < 50 else pytest.approx(1 - 10 / 384 - 12 / 384, abs=2e-3))
    for dtype, factors in (
        (np.uint16, (2, 30, 150)),
        (np.int32, (2, 30, 200, 100_000)),
        (np.float32, (1e-3, 0.5, 3, 200, 1e6)),
    ):
        for factor in factors:
            scaled = photons * float(factor)
            if scaled.max() < 65535 or dtype != np.uint16:
                found = np.asarray(valid_pixels(scaled.astype(dtype)))
                np.testing.assert_array_equal(found, known, err_msg=f"{factor} {dtype}")


@pytest.mark.slow
def test_no_label_depends_on_the_unit_with_a_model_and_without(tmp_path: Path) -> None:
    data = frames(8, 384)
    model = save_model(tmp_path / "runs" / "model", cases.tiny_model())
    for name, options in (("scored", ["--model", model, "--readers", 1]), ("counted", [])):
        known = []
        for place, factor in enumerate((1.0, 0.001, 1e-20, 1e6)):
            run = write(tmp_path / f"run{place}.cxi", data * factor)
            out = tmp_path / f"{name}{place}"
            assert cases.screen(run, "--out", out, "--no-report", *options) == 0
            known.append(cases.scores(out))
        # Labels on either side of the widest gap between scores; an untrained network's are all on one side of 0.5.
        ordered = np.sort(known[0])
        widest = int(np.argmax(np.diff(ordered)))
        threshold = ordered[widest : widest + 2].mean()
        for scores in known[1:]:
            np.testing.assert_array_equal(scores >= threshold, known[0] >= threshold)
            # Rounding differs; and photon counts in another unit are not told for photon counts, whose noise is known exactly.
            np.testing.assert_allclose(scores, known[0], atol=0.02)
