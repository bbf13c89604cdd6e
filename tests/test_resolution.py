"""The resolution of spots, against wave vectors in three dimensions."""

from __future__ import annotations

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest
from test_geometry import CORNERS, TURNS, geometry_text

from sfxjax.data.geometry_file import parse_geometry
from sfxjax.data.resolution import resolution
from sfxjax.screen.__main__ import main as screen

SIZE = (40, 60)


def by_wave_vectors(x: np.ndarray, y: np.ndarray, distance: float, wavelength: float) -> np.ndarray:
    """1 / |k_out - k_in| of places in metres."""
    out = np.stack([x, y, np.full_like(x, distance)], 1)
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    return wavelength / np.linalg.norm(out - [0, 0, 1], axis=1)


def test_places_on_turned_panels_have_the_resolution_of_their_wave_vectors() -> None:
    # The panels are 5000 pixels a metre, 0.1 m away, and the second 10 mm further.
    text = geometry_text(TURNS, CORNERS, SIZE) + "m1/coffset = 10 mm\n"
    rng = np.random.default_rng(0)
    number = rng.integers(0, 4, 50)
    ss, fs = rng.uniform(-0.5, SIZE[0] - 0.5, 50), rng.uniform(-0.5, SIZE[1] - 0.5, 50)
    found = resolution(parse_geometry(text, "q.geom"), number * SIZE[0] + ss, fs, (4, *SIZE))
    vectors = {"+1.0x": (1, 0), "-1.0x": (-1, 0), "+1.0y": (0, 1), "-1.0y": (0, -1)}
    for k in range(50):
        fs_vector, ss_vector = (
            next(vectors[term] for term in words.split() if term in vectors) for words in TURNS[number[k]]
        )
        place = (
            np.array(CORNERS[number[k]])
            + (fs[k] + 0.5) * np.array(fs_vector)
            + (ss[k] + 0.5) * np.array(ss_vector)
        )
        x, y = place[:, None] / 5000
        wanted = by_wave_vectors(x, y, 0.11 if number[k] == 1 else 0.1, 12398.42 / 9500)
        assert found[k] == pytest.approx(wanted[0], rel=1e-6)


@pytest.mark.parametrize(
    ("said", "wavelength"),
    [
        ("photon_energy = 9500", 1.30510),
        ("photon_energy = 9.5 keV", 1.30510),
        ("wavelength = 1.2 A", 1.2),
        ("wavelength = 1.2e-10 m", 1.2),
        ("photon_energy = /LCLS/photon_energy_eV", None),
        ("photon_energy = 0", None),
        ("photon_energy = nan", None),
    ],
)
def test_the_wavelength_is_read_as_crystfel_writes_it(said: str, wavelength: float | None) -> None:
    text = geometry_text(TURNS, CORNERS, SIZE).replace("photon_energy = 9500", said)
    geometry = parse_geometry(text, "q.geom")
    assert geometry.wavelength == (None if wavelength is None else pytest.approx(wavelength, rel=1e-5))
    found = resolution(geometry, np.array([3.0]), np.array([4.0]), (4, *SIZE))
    assert np.isfinite(found[0]) == (wavelength is not None)


@pytest.mark.parametrize("said", ["clen = /LCLS/detector_1/EncoderValue", "clen = -0.1", ""])
def test_without_a_distance_there_is_no_resolution(said: str) -> None:
    geometry = parse_geometry(geometry_text(TURNS, CORNERS, SIZE).replace("clen = 0.1", said), "q.geom")
    assert np.isnan(resolution(geometry, np.array([3.0]), np.array([4.0]), (4, *SIZE))[0])


def test_a_place_between_panels_has_none() -> None:
    text = (
        geometry_text(TURNS[:1], CORNERS[:1], SIZE)
        .replace("dim1 = 0", "dim1 = 1")
        .replace("dim1 = 0", "dim1 = 1")
    )
    geometry = parse_geometry(text.replace("m0/dim1 = 0", "m0/dim1 = 1"), "q.geom")
    found = resolution(geometry, np.array([3.0, 43.0]), np.array([4.0, 4.0]), (2, *SIZE))
    assert np.isnan(found[0]) and np.isfinite(found[1])


def test_screening_with_a_geometry_lists_and_draws_the_resolution(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    frames = rng.poisson(30, (2, 200, 300)).astype(np.uint16)
    places = [(20 + 15 * k, 30 + 22 * k) for k in range(11)]
    rows, columns = np.indices(frames.shape[1:])
    for ss, fs in places:
        spot = 300 * np.exp(-0.5 * ((rows - ss) ** 2 + (columns - fs) ** 2) / 0.9**2)
        frames[0] += rng.poisson(spot).astype(np.uint16)
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["entry/data/data"] = frames
    lines = [
        "photon_energy = 9500",
        "clen = 0.1",
        "res = 5000",
        "data = /entry/data/data",
        "dim0 = %",
        "dim1 = ss",
    ]
    lines += ["dim2 = fs", "p/min_fs = 0", "p/max_fs = 299", "p/min_ss = 0", "p/max_ss = 199"]
    lines += ["p/fs = +1.0x", "p/ss = +1.0y", "p/corner_x = -400", "p/corner_y = -300"]
    (tmp_path / "d.geom").write_text("\n".join(lines) + "\n")
    arguments = [
        str(tmp_path / "run.h5"),
        "--geometry",
        str(tmp_path / "d.geom"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert screen(arguments) == 0
    with (tmp_path / "out" / "spots.csv").open() as file:
        found = [row for row in csv.DictReader(file) if row["event"].endswith("//0")]
    assert len(found) >= len(places) - 2
    for row in found:
        x, y = (
            np.array([float(row[name]) + 0.5 + corner]) / 5000
            for name, corner in (("fs", -400), ("ss", -300))
        )
        assert float(row["resolution"]) == pytest.approx(
            by_wave_vectors(x, y, 0.1, 12398.42 / 9500)[0], abs=0.01
        )
    report = (tmp_path / "out" / "report.html").read_text()
    assert (
        "Resolution of the spots of hits" in report and f"of {len(found)} spots of hits half lie at" in report
    )
    assert 'data-label="HIT"' in report and 'id="gallery"' in report
