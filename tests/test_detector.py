"""The detector's image against SciPy's Poisson moments and filters, and its background's properties."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

from sfxjax.simulate.crystal import BeamGeometry
from sfxjax.simulate.detector import (
    POINT_SPREAD,
    SATURATION,
    SPOT_HALF_WIDTH,
    Detector,
    Shot,
    add_spots,
    background,
    expose,
    pixel_grid,
    point_spread,
    poisson_like,
    spot_profile,
    valid_pixels,
)

GEOMETRY = BeamGeometry(wavelength=1.3, distance=120.0)
PLAIN = Detector(gain=1.0, step_transmission=1.0, stop_arcs=0.0)
SHAPE, CENTRE = (724, 724), (362.0, 362.0)


def shot(**changes: float | tuple[float, ...]) -> Shot:
    values = {
        "level": 2000.0,
        "air": 0.5,
        "ring": 1.0,
        "ring_shift": 0.0,
        "tilt": (0.0, 0.0),
        "streak": 0.0,
        "streak_angle": 0.0,
        "shadow": 1.0,
        "shadow_angle": 0.0,
        "shadow_offset": 200.0,
        "zingers": np.zeros((3, 3)),
    }
    return Shot(**{key: jnp.asarray(value, jnp.float32) for key, value in (values | changes).items()})


def photons(
    detector: Detector = PLAIN, geometry: BeamGeometry = GEOMETRY, **changes: float | tuple[float, ...]
) -> np.ndarray:
    return np.asarray(background(shot(**changes), detector, geometry, *pixel_grid(SHAPE, CENTRE)), np.float64)


@pytest.mark.parametrize("mean", [20.0, 150.0, 3000.0])
def test_counts_have_poisson_moments(mean: float) -> None:
    normal = jax.random.normal(jax.random.key(1), (1000, 1000))
    counts = np.asarray(poisson_like(jnp.full(normal.shape, mean), normal), np.float64)
    _, variance, skewness, _ = stats.poisson.stats(mean, moments="mvsk")
    assert abs(counts.mean() - mean) < 5 * np.sqrt(mean) / 1000
    assert counts.var() == pytest.approx(variance, rel=0.015)
    assert stats.skew(counts.ravel()) == pytest.approx(skewness, abs=0.015)
    np.testing.assert_array_equal(counts, np.round(counts))


def test_counts_are_never_negative() -> None:
    normal = jnp.linspace(-5, 5, 101)
    assert float(jnp.min(poisson_like(jnp.full(101, 3.0), normal))) == 0


def test_point_spread_is_a_gaussian_kernel_that_keeps_the_sum() -> None:
    image = np.random.default_rng(0).random((40, 50))
    expected = ndimage.gaussian_filter(image, POINT_SPREAD, mode="nearest", radius=2)
    np.testing.assert_allclose(point_spread(jnp.asarray(image)), expected, rtol=1e-5)
    spike = jnp.zeros((11, 13)).at[5, 6].set(1000.0)
    assert float(jnp.sum(point_spread(spike))) == pytest.approx(1000, rel=1e-5)


@pytest.mark.parametrize("gain", [0.61, 0.87, 1.0])
def test_noise_has_the_variance_and_correlation_of_a_blurred_poisson_image(gain: float) -> None:
    detector = Detector(gain=gain)
    mean = jnp.full((500, 500), 2000.0)
    frame = expose(jax.random.key(2), mean, mean > 0, jnp.zeros_like(mean), detector)
    inner = np.asarray(frame, np.float64)[4:-4, 4:-4]
    taps = stats.norm.pdf(np.arange(-2, 3), scale=POINT_SPREAD)
    taps /= taps.sum()
    power = np.sum(taps**2)
    photon_variance = gain**2 * 2000 * power**2
    variance = photon_variance + detector.read_noise**2 + 1 / 12
    assert inner.mean() == pytest.approx(2000 * gain + detector.pedestal, rel=1e-3)
    assert inner.var() == pytest.approx(variance, rel=0.02)
    # Near what was measured on a real MX340 frame: 0.31 to 0.36, 0.38 and 0.06.
    assert inner.var() / inner.mean() == pytest.approx(0.31 * gain, rel=0.05)
    noise = inner - inner.mean()
    for step, measured in ((1, 0.38), (2, 0.06)):
        expected = np.sum(taps[step:] * taps[:-step]) / power * photon_variance / variance
        for first, second in ((noise[step:], noise[:-step]), (noise[:, step:], noise[:, :-step])):
            correlation = np.mean(first * second) / inner.var()
            assert correlation == pytest.approx(expected, abs=0.01)
            assert correlation == pytest.approx(measured, abs=0.05)


def test_exposure_clips_rounds_and_leaves_dead_pixels_at_zero() -> None:
    mean = jnp.full((20, 30), 1000.0).at[10:].set(1e6)
    valid = jnp.ones((20, 30), bool).at[:, :4].set(False)
    hot = jnp.zeros((20, 30)).at[3, 20].set(7000.0)
    frame = np.asarray(expose(jax.random.key(0), mean, valid, hot, Detector(gain=1.0)))
    assert frame.dtype == np.int16
    assert np.all(frame[:, :4] == 0)
    assert np.all(frame[13:, 4:] == SATURATION)
    assert abs(frame[3, 20] - 8010) < 150
    assert frame[3, 21] < 1200


def test_spot_profile_has_the_given_widths_along_and_across_the_radius() -> None:
    position = jnp.array([[100.3, 100.3], [-80.0, 0.2], [0.0, 150.6]])
    middle, shares = spot_profile(position, jnp.full(3, 1.1), jnp.full(3, 0.6), CENTRE)
    shares = np.asarray(shares, np.float64)
    np.testing.assert_allclose(shares.sum(axis=(1, 2)), 1, rtol=1e-5)
    np.testing.assert_array_equal(middle, np.round(np.asarray(position) + CENTRE))
    offset = np.arange(-SPOT_HALF_WIDTH, SPOT_HALF_WIDTH + 1)
    for place, share, pixel in zip(np.asarray(position, np.float64), shares, np.asarray(middle), strict=True):
        ss, fs = np.meshgrid(offset + pixel[0] - CENTRE[0], offset + pixel[1] - CENTRE[1], indexing="ij")
        mean = np.array([np.sum(share * ss), np.sum(share * fs)])
        np.testing.assert_allclose(mean, place, atol=0.02)
        unit = place / np.linalg.norm(place)
        along = (ss - mean[0]) * unit[0] + (fs - mean[1]) * unit[1]
        across = -(ss - mean[0]) * unit[1] + (fs - mean[1]) * unit[0]
        assert np.sum(share * along**2) == pytest.approx(1.1**2 + 1 / 12, rel=0.03)
        assert np.sum(share * across**2) == pytest.approx(0.6**2 + 1 / 12, rel=0.03)


def test_added_spots_keep_their_photons_and_lose_what_falls_outside() -> None:
    rng = np.random.default_rng(4)
    middle = np.array([[10, 12], [11, 13], [0, 5], [39, 29], [20, 0]])
    shares = rng.random((5, 9, 9))
    shares /= shares.sum(axis=(1, 2), keepdims=True)
    strength = np.array([100.0, 50.0, 30.0, 20.0, 10.0])
    added = np.asarray(add_spots(jnp.ones((40, 30)), *map(jnp.asarray, (middle, shares, strength))))
    expected = np.pad(np.ones((40, 30)), SPOT_HALF_WIDTH)
    for (ss, fs), share, photons_of_spot in zip(middle, shares, strength, strict=True):
        expected[ss : ss + 9, fs : fs + 9] += share * photons_of_spot
    np.testing.assert_allclose(
        added, expected[SPOT_HALF_WIDTH:-SPOT_HALF_WIDTH, SPOT_HALF_WIDTH:-SPOT_HALF_WIDTH], rtol=1e-5
    )
    two = np.asarray(
        add_spots(jnp.zeros((40, 30)), *(jnp.asarray(x[:2]) for x in (middle, shares, strength)))
    )
    assert two.sum() == pytest.approx(150, rel=1e-5)


def ring_radius(geometry: BeamGeometry = GEOMETRY, **changes: float) -> int:
    """Radius of the brightest pixel beyond the air scatter, pixels."""
    row = background(shot(**changes), PLAIN, geometry, jnp.zeros((1, 1)), jnp.arange(800.0)[None])
    return 150 + int(jnp.argmax(row[0, 150:]))


@pytest.mark.parametrize("distance", [100.0, 120.0, 150.0])
def test_solvent_ring_stays_at_its_resolution_when_the_detector_moves(distance: float) -> None:
    geometry = BeamGeometry(wavelength=1.3, distance=distance)
    angle = np.arctan(ring_radius(geometry) * geometry.pixel_size / distance)
    # Water scatters most near 3.1 Angstrom.
    assert 2 * np.sin(angle / 2) / 1.3 == pytest.approx(1 / 3.1, rel=0.03)


def test_background_answers_to_the_shot() -> None:
    plain = photons()
    assert plain.min() > 0
    assert plain[362, 512:].max() == pytest.approx(2000, rel=0.1)
    np.testing.assert_allclose(photons(level=4000.0), 2 * plain, rtol=1e-5)
    assert ring_radius(ring_shift=0.04) > ring_radius() + 5
    assert photons(air=1.0)[362, 402] > plain[362, 402] * 1.01
    tilted = photons(tilt=(0.1, 0.0)) / plain
    np.testing.assert_allclose(
        tilted, np.broadcast_to(1 + 0.1 * (np.arange(724) - 362)[:, None] / 1000, SHAPE), rtol=1e-5
    )
    shaded = photons(shadow=0.7) / plain
    np.testing.assert_allclose(shaded[:, 640:], 0.7, rtol=1e-3)
    np.testing.assert_allclose(shaded[:, :500], 1, rtol=1e-3)
    streak = photons(streak=2.0) - plain
    assert np.argmax(streak[:, 420]) == 362
    assert 0 < streak[362, 460] < 0.15 * streak[362, 380]


def test_step_and_stop() -> None:
    stepped = (
        photons(Detector(gain=1.0, stop_arcs=0.0, step_position=-30.0, step_transmission=0.9)) / photons()
    )
    np.testing.assert_allclose(stepped[:, :280], 0.9, rtol=1e-3)
    np.testing.assert_allclose(stepped[:, 390:], 1, rtol=1e-3)
    valid = np.asarray(valid_pixels(Detector(gain=1.0, stop_radius=50.0), *pixel_grid(SHAPE, CENTRE)))
    assert np.sum(~valid) == pytest.approx(np.pi * 50**2, rel=0.01)
    assert not valid[362, 362]
    assert valid[362, 412]
    arcs = photons(Detector(gain=1.0, step_transmission=1.0, stop_radius=50.0, stop_arcs=0.3)) / photons()
    assert arcs[362 - 70, 362] > 1.2
    assert arcs[362, 362 + 70] < 1.05
