"""Hits and spots handed to DIALS, where it is installed: it indexes them as it does with spots of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jax
import msgpack
import numpy as np
import pytest
from scipy.spatial import cKDTree
from screen_cases import tiny_model

from sfxjax.models.checkpoint import save_model
from sfxjax.screen.__main__ import main as screen
from sfxjax.screen.lists import index_commands
from sfxjax.simulate.crystal import BeamGeometry, Crystal, random_rotation, still_reflections

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("dials.index") is None, reason="DIALS is not installed"),
]
CELL = (58.0, 69.0, 91.0)
# A PILATUS 1M as its header says: DIALS refuses a frame that its 5 by 2 modules, with their gaps, do not fill.
MODULE, GAPS = (195, 487), (17, 7)
GEOMETRY = BeamGeometry(1.3, 150.0, 0.172, (1043, 981), (521.0, 490.0))
FRAMES = 8
HEADER = """;
# Detector: PILATUS 1M, S/N 10-0000
# 2026-01-01T12:00:00.000
# Pixel_size 172e-6 m x 172e-6 m
# Silicon sensor, thickness 0.000320 m
# Exposure_time 0.01 s
# Exposure_period 0.01 s
# Count_cutoff 1000000 counts
# Wavelength 1.3 A
# Detector_distance 0.150 m
# Beam_xy (490.5, 521.5) pixels
# Start_angle 0.0000 deg.
# Angle_increment 0.0000 deg.
;"""


def still(seed: int) -> np.ndarray:
    """Photons of one crystal's still: a broad ring, and some dozen spots of 60 photons or more."""
    rng = np.random.default_rng(seed)
    crystal = Crystal(random_rotation(jax.random.key(seed)), *np.float32([25, 3000, 0.001, 0.001]))
    found = jax.device_get(
        still_reflections(crystal, cell=CELL, geometry=GEOMETRY, inverse_d_max=1 / 2.8, seed=3)
    )
    places = found.position + np.array(GEOMETRY.beam_centre)
    inside = np.all((places > 6) & (places < np.array(GEOMETRY.shape) - 7), 1)
    strongest = np.argsort(-np.where(inside, found.intensity, 0))[:80]
    ss, fs = np.mgrid[: GEOMETRY.shape[0], : GEOMETRY.shape[1]]
    light = 6 * np.exp(-0.5 * ((np.hypot(ss - 521, fs - 490) - 300) / 120) ** 2) + 1
    brightness = 60 * found.intensity[strongest] / found.intensity[strongest[40]]
    for (y, x), number in zip(places[strongest], brightness, strict=True):
        part = np.s_[int(y) - 4 : int(y) + 5, int(x) - 4 : int(x) + 5]
        spot = np.exp(-0.5 * ((ss[part] - y) ** 2 + (fs[part] - x) ** 2) / 0.8**2)
        light[part] += min(number, 2e4) * spot / spot.sum()
    photons = rng.poisson(light).astype(np.int32)
    gap = (ss % (MODULE[0] + GAPS[0]) >= MODULE[0]) | (fs % (MODULE[1] + GAPS[1]) >= MODULE[1])
    return np.where(gap, np.int32(-1), photons)


def command(folder: Path, *words: str) -> str:
    """Run a program of DIALS; returns what it prints."""
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def places(table: Path) -> dict[int, np.ndarray]:
    """Read (fs, ss) of a reflection table's spots, pixels, by experiment."""
    data = msgpack.unpackb(table.read_bytes(), strict_map_key=False)[2]["data"]
    number = np.frombuffer(data["id"][1][1], "<i4")
    place = np.frombuffer(data["xyzobs.px.value"][1][1], "<f8").reshape(-1, 3)[:, :2]
    return {int(one): place[number == one] for one in np.unique(number)}


def indexed(folder: Path, experiments: str, spots: str) -> int:
    """Count the stills that DIALS indexes with the known cell."""
    known = f"unit_cell={','.join(map(str, CELL))},90,90,90"
    # Debian's DIALS lacks the module by which its indexer for stills ends.
    how = ["joint_indexing=False", "indexing.stills.indexer=sequences", known, "space_group=P222"]
    command(folder, "dials.index", experiments, spots, *how)
    crystals: Any = json.loads((folder / "indexed.expt").read_text())["crystal"]
    lengths = [
        sorted(np.linalg.norm([one[f"real_space_{axis}"] for axis in "abc"], axis=1)) for one in crystals
    ]
    assert np.allclose(lengths, sorted(CELL), rtol=0.03)
    return len(crystals)


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight stills as mini-CBF files."""
    cbf = pytest.importorskip("fabio.cbfimage")
    folder = tmp_path_factory.mktemp("stills")
    for number in range(FRAMES):
        image = cbf.CbfImage(data=still(number))
        image.header["_array_data.header_convention"] = '"PILATUS_1.2"'
        image.header["_array_data.header_contents"] = HEADER.replace("\n", "\r\n")
        image.write(str(folder / f"still_{number:04d}.cbf"))
    return folder


def test_dials_indexes_as_many_stills_from_these_spots_as_from_its_own(stills: Path, tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    files = [str(path) for path in sorted(stills.iterdir())]
    command(theirs, "dials.import", *files)
    command(theirs, "dials.find_spots", "imported.expt", "nproc=1")
    assert screen([*files, "--out", str(ours), "--no-report"]) == 0
    assert "strong.expt and strong.refl" in command(tmp_path, "libtbx.python", str(ours / "for_dials.py"))
    found, known = places(ours / "strong.refl"), places(theirs / "strong.refl")
    assert len(found) == FRAMES
    pairs, near = [], []
    for number, wanted in known.items():
        away, nearest = cKDTree(found[number]).query(wanted)
        # A frame has 25 to 40 spots, of which the dimmest are at the limit of both.
        assert np.mean(away < 2) > 0.9
        near.append(away < 2)
        pairs.append((found[number][nearest] - wanted)[away < 2])
    assert np.concatenate(near).mean() > 0.97
    # Both count from a pixel's corner.
    assert np.all(abs(np.concatenate(pairs).mean(0)) < 0.05) and np.all(np.concatenate(pairs).std(0) < 0.3)
    by_us = indexed(ours, "strong.expt", "strong.refl")
    assert by_us >= indexed(theirs, "imported.expt", "strong.refl") > FRAMES / 2


def test_dials_processes_the_hits_of_a_model(stills: Path, tmp_path: Path) -> None:
    """The printed line finds the frames, their detector and as many spots as `dials.find_spots` does."""
    model, out = tmp_path / "model", tmp_path / "out"
    save_model(model, tiny_model())
    files = [str(path) for path in sorted(stills.iterdir())[:2]]
    assert screen([*files, "--model", str(model), "--threshold", "0", "--out", str(out), "--no-report"]) == 0
    line = index_commands(out, None)[1]
    chosen = "dispatch.index=False output.composite_output=False output.strong_filename=%s_strong.refl"
    command(tmp_path, "sh", "-c", f"{line} {chosen}")
    command(tmp_path, "dials.import", *files)
    command(tmp_path, "dials.find_spots", "imported.expt", "nproc=1")
    wanted = places(tmp_path / "strong.refl")
    for number, path in enumerate(files):
        (found,) = places(tmp_path / f"idx-{Path(path).stem}_strong.refl").values()
        np.testing.assert_allclose(found, wanted[number])
