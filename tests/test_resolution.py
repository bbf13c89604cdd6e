"""The resolution of spots, against wave vectors in three dimensions."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from test_geometry import CORNERS, TURNS, geometry_text

from sfxjax.data.frames import FrameStack, ReadOptions
from sfxjax.data.geometry_file import parse_geometry
from sfxjax.data.read import FrameReader
from sfxjax.data.resolution import line_of_stated_geometry, resolution, stated_geometry
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


def write_master(path: Path, frames: np.ndarray, **facts: tuple[float | str, str]) -> Path:
    """Write a DECTRIS master with facts of (value, unit), by names in which `__` is a slash."""
    with h5py.File(path, "w") as file:
        file["entry/data/data_000001"] = frames
        for name, (value, unit) in facts.items():
            place = f"entry/{name.replace('__', '/')}"
            file[place] = value
            if unit:
                file[place].attrs["units"] = unit
    return path


DETECTOR = "instrument__detector__"
FACTS: dict[str, tuple[float | str, str]] = {
    f"{DETECTOR}detector_distance": (0.1, "m"),
    f"{DETECTOR}x_pixel_size": (7.5e-5, "m"),
    f"{DETECTOR}y_pixel_size": (7.5e-5, "m"),
    f"{DETECTOR}beam_center_x": (140.0, "pixel"),
    f"{DETECTOR}beam_center_y": (90.0, "pixel"),
    "instrument__beam__incident_wavelength": (1.3, "angstrom"),
}
OTHER_UNITS = FACTS | {
    f"{DETECTOR}detector_distance": (100.0, "mm"),
    f"{DETECTOR}y_pixel_size": (0.15, "mm"),
    "instrument__beam__incident_wavelength": (0.13, "nm"),
}
BY_ENERGY = {name: fact for name, fact in FACTS.items() if "wavelength" not in name} | {
    f"{DETECTOR}detectorSpecific__photon_energy": (9537.246, "eV")
}


@pytest.mark.parametrize(("facts", "height"), [(FACTS, 7.5e-5), (OTHER_UNITS, 1.5e-4), (BY_ENERGY, 7.5e-5)])
def test_the_resolution_by_the_word_of_a_master_is_that_of_wave_vectors(
    facts: dict[str, tuple[float | str, str]], height: float, tmp_path: Path
) -> None:
    path = write_master(tmp_path / "x_master.h5", np.ones((2, 200, 300), np.uint16), **facts)
    rng = np.random.default_rng(2)
    ss, fs = rng.uniform(0, 199, 30), rng.uniform(0, 299, 30)
    with FrameReader(ReadOptions(panels_apart=True)) as reader:
        (stack,) = reader.stacks(str(path))
    assert FrameStack.from_json(json.loads(json.dumps(stack.to_json()))) == stack
    geometry = stated_geometry(stack)
    assert geometry is not None
    wanted = by_wave_vectors((fs + 0.5 - 140) * 7.5e-5, (ss + 0.5 - 90) * height, 0.1, 1.3)
    np.testing.assert_allclose(resolution(geometry, ss, fs, stack.raw_shape), wanted, rtol=1e-5)
    line = line_of_stated_geometry(stack)
    assert "detector at 100 mm, wavelength 1.3 Å" in line and "beam at (140.0, 90.0)" in line
    assert ("75 x 150 µm" in line) == (height > 1e-4)


@pytest.mark.parametrize(
    "change",
    [
        *({name: None} for name in FACTS),
        {f"{DETECTOR}detector_distance": (0.0, "m")},
        {f"{DETECTOR}detector_distance": (100.0, "furlong")},
        {f"{DETECTOR}goniometer__two_theta": (10.0, "deg")},
        {"instrument__beam__incident_wavelength": (float("nan"), "angstrom")},
    ],
)
def test_what_a_file_does_not_state_whole_tells_no_resolution(
    change: dict[str, tuple[float | str, str] | None], tmp_path: Path
) -> None:
    facts = {name: fact for name, fact in (FACTS | change).items() if fact is not None}
    path = write_master(tmp_path / "x_master.h5", np.ones((2, 200, 300), np.uint16), **facts)
    with FrameReader(ReadOptions(panels_apart=True)) as reader:
        (stack,) = reader.stacks(str(path))
    assert stated_geometry(stack) is None and line_of_stated_geometry(stack) == ""


def test_screening_a_master_lists_the_resolution_and_says_where_it_is_from(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    frames = rng.poisson(30, (2, 200, 300)).astype(np.uint16)
    rows, columns = np.indices(frames.shape[1:])
    for k in range(11):
        spot = 300 * np.exp(-0.5 * ((rows - 20 - 15 * k) ** 2 + (columns - 30 - 22 * k) ** 2) / 0.9**2)
        frames[0] += rng.poisson(spot).astype(np.uint16)
    path = write_master(tmp_path / "x_master.h5", frames, **FACTS)
    assert screen([str(path), "--out", str(tmp_path / "out")]) == 0
    with (tmp_path / "out" / "spots.csv").open() as file:
        found = [row for row in csv.DictReader(file) if row["event"].endswith("//0")]
    assert len(found) >= 9
    for row in found:
        x, y = (np.array([(float(row[name]) + 0.5 - at) * 7.5e-5]) for name, at in (("fs", 140), ("ss", 90)))
        assert float(row["resolution"]) == pytest.approx(
            by_wave_vectors(x, y, 0.1, 1.3)[0], rel=2e-3, abs=0.01
        )
    said = "by the file's own word: detector at 100 mm"
    assert said in (tmp_path / "out" / "summary.json").read_text()
    assert "detector at 100 mm" in (tmp_path / "out" / "report.html").read_text()
