"""Simulated single particles against what optics says of them, and the commands that train on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import ConvexHull
from scipy.special import spherical_jn

from sfxjax.data.labels import HIT, MISS
from sfxjax.data.sets import FrameSet
from sfxjax.errors import UserError
from sfxjax.simulate.particles import (
    PARTICLE_SETS,
    Kind,
    detector_pixels,
    icosahedron,
    particle_set,
    random_orientation,
    read_kinds,
    simulate_shot,
    sphere,
)
from sfxjax.training import reduced


def test_the_transform_of_a_sphere_is_its_form_factor() -> None:
    """Against 3 j1(qR) / (qR), Guinier and Fournet (1955)."""
    side, radius = 512, 20.0
    along = np.arange(side) - side / 2
    wave = np.abs(np.fft.fft2(sphere(along[:, None], along[None, :], radius)))[0, 1:60]
    q = 2 * np.pi * np.arange(1, 60) / side * radius
    expected = 4 / 3 * np.pi * radius**3 * np.abs(3 * spherical_jn(1, q) / q)
    assert np.max(np.abs(wave - expected)) < 2e-3 * expected[0]


def test_the_projection_of_an_icosahedron_holds_its_volume_and_its_outline() -> None:
    """Against the hull of its twelve corners."""
    golden, radius = (1 + 5**0.5) / 2, 40.0
    corners = np.array([[0, a, b * golden] for a in (-1, 1) for b in (-1, 1)])
    corners = np.concatenate([np.roll(corners, turn, axis=1) for turn in range(3)])
    # The inscribed sphere of an icosahedron of edge 2 has the radius golden^2 / sqrt(3).
    corners = corners * radius / (golden**2 / 3**0.5)
    rotation = random_orientation(np.random.default_rng(2))
    turned = corners @ rotation.T
    along = np.arange(-60.0, 61.0)
    found = icosahedron(along[:, None], along[None, :], radius, rotation)
    assert found.sum() == pytest.approx(ConvexHull(corners).volume, rel=2e-3)
    assert (found > 0).sum() == pytest.approx(ConvexHull(turned[:, :2]).volume, rel=1e-2)


RADIUS = np.hypot(*np.mgrid[-362:362, -362:362])


@pytest.mark.parametrize("name", PARTICLE_SETS)
def test_particles_scatter_about_the_beam_alike_on_both_sides(name: str) -> None:
    """Friedel's law: a projection is real, so opposite pixels expect the same; an empty shot has the background alone."""
    parameters = PARTICLE_SETS[name]
    frames = {kind: simulate_shot(np.random.default_rng(5), parameters, kind).astype(float) for kind in Kind}
    valid = detector_pixels()
    for kind, frame in frames.items():
        assert frame.min() == 0 and np.all(frame[~valid] == 0)
        if kind != Kind.NONE:
            opposite = np.roll(frame[::-1, ::-1], 1, axis=(0, 1))
            ring = valid & np.roll(valid[::-1, ::-1], 1, axis=(0, 1)) & (RADIUS > 20) & (RADIUS < 60)
            assert np.corrcoef(np.sqrt(frame[ring]), np.sqrt(opposite[ring]))[0, 1] > 0.4
            assert frame.sum() > frames[Kind.NONE].sum()


@pytest.mark.slow
def test_a_set_is_labelled_by_single_particles_and_trained_on_by_the_same_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    described = particle_set("spheres", 60, quiet=True)
    kinds = read_kinds(described)
    with FrameSet(described) as frames:
        assert frames.simulated
        np.testing.assert_array_equal(frames.labels, np.where(kinds == Kind.SINGLE, HIT, MISS))
        again = particle_set("SPHERES", 60, quiet=True)
        with FrameSet(again) as same:
            np.testing.assert_array_equal(frames.crops([3, 7]), same.crops([3, 7]))
    monkeypatch.chdir(tmp_path)
    sizes = {"frames": 60, "labels": 20, "epochs": 1, "steps": 2, "batch": 4}
    options = [f"--{name}={value}" for name, value in sizes.items()]
    reduced.main(["--task", "spi", "--dataset", "SPHERES", "--network", "plain", *options])
    assert "simulated" in capsys.readouterr().out
    assert (tmp_path / "runs/reduced-SPHERES-row_wise_decomposition-20-plain/results.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--dataset VIRUS", "choose one of ICOSAHEDRA, SPHERES"),
        ("--dataset SPHERES --frames 5", "at least 10"),
        ("--dataset SPHERES --data .", "has no single particles"),
    ],
)
def test_what_cannot_be_had_of_single_particles_is_said(options: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        reduced.main(["--task", "spi", *options.split()])
