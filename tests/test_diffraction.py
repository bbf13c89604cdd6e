"""Still reflections against an enumeration of the whole lattice in float64, and the draws against SciPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from sfxjax.simulate.crystal import (
    BeamGeometry,
    Crystal,
    hashed_uniform,
    random_rotation,
    still_reflections,
    wilson_intensity,
)

GEOMETRY = BeamGeometry(wavelength=1.3, distance=120.0)
SMALL_CELL, LARGE_CELL = (88.0, 42.0, 52.0), (118.0, 311.0, 223.0)
SEED = 7


def reference_uniform(hkl: np.ndarray, seed: int) -> np.ndarray:
    """The hash in 64-bit integers."""
    low = 0xFFFFFFFF
    h, k, l = (int_column.astype(np.uint64) for int_column in np.abs(hkl).T)  # noqa: E741
    x = ((h * 0x9E3779B1) & low) ^ ((k * 0x85EBCA77) & low) ^ ((l * 0xC2B2AE3D) & low) ^ np.uint64(seed)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = ((x ^ (x >> np.uint64(shift))) * np.uint64(factor)) & low
    return ((x ^ (x >> np.uint64(16))) + 0.5) / 2.0**32


def reference_reflections(
    crystal: Crystal, cell: tuple[float, float, float], inverse_d_max: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every lattice point within the resolution limit: Miller indices, position and intensity."""
    edges = np.array(sorted(cell))
    most = np.ceil(edges * inverse_d_max).astype(int)
    hkl = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in most), indexing="ij"), -1).reshape(-1, 3)
    length = np.linalg.norm(hkl / edges, axis=1)
    hkl, length = (
        hkl[(length > 0) & (length <= inverse_d_max)],
        length[(length > 0) & (length <= inverse_d_max)],
    )
    q = (hkl / edges) @ np.asarray(crystal.rotation, np.float64).T
    scattered = q + np.array([0, 0, 1 / GEOMETRY.wavelength])
    off_sphere = np.linalg.norm(scattered, axis=1) - 1 / GEOMETRY.wavelength
    width = np.sqrt(
        (0.5 / float(crystal.size)) ** 2
        + (float(crystal.mosaicity) * length) ** 2
        + (float(crystal.bandwidth) * length**2 * GEOMETRY.wavelength / 2) ** 2
    )
    structure = -np.log(reference_uniform(hkl, SEED))
    structure[(np.sum(hkl == 0, axis=1) == 2) & (hkl.sum(axis=1) % 2 == 1)] = 0
    # A beam polarised along fs scatters by one minus the square of the direction's cosine with it.
    polarisation = 1 - (scattered[:, 0] * GEOMETRY.wavelength) ** 2
    intensity = (
        structure
        * np.exp(-2 * float(crystal.b_factor) * (length / 2) ** 2)
        / (1 + (off_sphere / width) ** 2)
        * polarisation
    )
    position = scattered[:, [1, 0]] / scattered[:, 2:] * GEOMETRY.distance / GEOMETRY.pixel_size
    return hkl, position, intensity


def crystal_at(seed: int, size: float = 4000.0) -> Crystal:
    rotation = random_rotation(jax.random.key(seed))
    return Crystal(rotation, *(jnp.asarray(x) for x in (25.0, size, 5e-4, 1.5e-3)))


@pytest.mark.parametrize(
    ("cell", "inverse_d_max", "seed", "size"),
    [(SMALL_CELL, 0.5, seed, 3000.0) for seed in range(4)]
    + [(LARGE_CELL, 0.3, seed, 4000.0) for seed in (5, 6)],
)
def test_every_strong_reflection_is_found_once(
    cell: tuple[float, float, float], inverse_d_max: float, seed: int, size: float
) -> None:
    crystal = crystal_at(seed, size)
    found = still_reflections(crystal, cell=cell, geometry=GEOMETRY, inverse_d_max=inverse_d_max, seed=SEED)
    hkl, position, intensity = reference_reflections(crystal, cell, inverse_d_max)
    seen = np.asarray(found.intensity) > 0
    rows = {
        tuple(index): row
        for row, index in zip(np.flatnonzero(seen), np.asarray(found.hkl)[seen], strict=True)
    }
    assert len(rows) == seen.sum()
    strong = np.flatnonzero(intensity > 0.01 * intensity.max())
    assert strong.size > 50
    missed = np.array([index for index in strong if tuple(hkl[index]) not in rows], int)
    # Far along a row that only just misses touching the sphere, a few faint ones are given up.
    assert missed.size <= 0.01 * strong.size
    assert np.all(intensity[missed] < 0.05 * intensity.max())
    strong = np.setdiff1d(strong, missed)
    same = [rows[tuple(index)] for index in hkl[strong]]
    np.testing.assert_allclose(np.asarray(found.position)[same], position[strong], rtol=1e-5, atol=2e-3)
    np.testing.assert_allclose(np.asarray(found.intensity)[same], intensity[strong], rtol=5e-3)
    np.testing.assert_allclose(
        np.asarray(found.inverse_d)[same], np.linalg.norm(hkl[strong] / sorted(cell), axis=1), rtol=1e-5
    )


def test_nothing_is_listed_beyond_the_resolution_limit() -> None:
    found = still_reflections(crystal_at(1), cell=SMALL_CELL, geometry=GEOMETRY, inverse_d_max=0.3, seed=SEED)
    seen = np.asarray(found.intensity) > 0
    assert np.asarray(found.inverse_d)[seen].max() <= 0.3 * (1 + 1e-6)
    assert np.abs(np.asarray(found.hkl)[seen]).sum(axis=1).min() > 0


def test_rotations_are_uniform() -> None:
    rotations = np.asarray(jax.vmap(random_rotation)(jax.random.split(jax.random.key(3), 4000)), np.float64)
    unit = rotations @ rotations.transpose(0, 2, 1)
    np.testing.assert_allclose(unit, np.broadcast_to(np.eye(3), unit.shape), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(rotations), 1, atol=1e-5)
    # Haar measure: the angle is distributed as (1 - cos) / pi, and each axis' end evenly on the sphere.
    angle = np.arccos(np.clip((np.trace(rotations, axis1=1, axis2=2) - 1) / 2, -1, 1))
    assert stats.kstest(angle, lambda t: (t - np.sin(t)) / np.pi).pvalue > 1e-3
    for row in range(3):
        for column in range(3):
            assert stats.kstest(rotations[:, row, column], stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_hashed_numbers_are_uniform_and_symmetric() -> None:
    h, k, l = (jnp.asarray(axis.ravel()) for axis in np.mgrid[1:31, 1:31, 1:31])  # noqa: E741
    values = np.asarray(hashed_uniform(h, k, l, SEED), np.float64)
    assert values.min() > 0
    assert values.max() <= 1
    assert stats.kstest(values, stats.uniform.cdf).pvalue > 1e-3
    np.testing.assert_array_equal(values, hashed_uniform(-h, k, -l, SEED))
    np.testing.assert_allclose(values, reference_uniform(np.stack([h, k, l], 1), SEED), atol=1e-7)
    grid = values.reshape(30, 30, 30)
    for axis in range(3):
        first, second = np.delete(grid, -1, axis).ravel(), np.delete(grid, 0, axis).ravel()
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    assert abs(np.corrcoef(values, hashed_uniform(h, k, l, SEED + 1))[0, 1]) < 0.03


def test_intensities_follow_wilson_with_the_absences_of_three_screw_axes() -> None:
    h, k, l = (jnp.asarray(axis.ravel()) for axis in np.mgrid[1:31, 1:31, 1:31])  # noqa: E741
    assert stats.kstest(np.asarray(wilson_intensity(h, k, l, SEED)), stats.expon.cdf).pvalue > 1e-3
    steps, zero = jnp.arange(-9, 10), jnp.zeros(19, jnp.int32)
    present = (np.arange(-9, 10) % 2 == 0) & (np.arange(-9, 10) != 0)
    for axes in ((steps, zero, zero), (zero, steps, zero), (zero, zero, steps)):
        np.testing.assert_array_equal(np.asarray(wilson_intensity(*axes, SEED)) > 0, present)
    assert np.all(np.asarray(wilson_intensity(steps, zero + 1, zero + 1, SEED)) > 0)
