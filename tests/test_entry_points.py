"""A format and a reduction, each one new file in a package of somebody else's, found by their entry points."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import screen_cases as cases

from sfxjax.models.checkpoint import save_model
from sfxjax.screen.scorer import Screener

REPOSITORY = Path(__file__).resolve().parents[1]

FORMAT = '''
"""Stacks of frames in NumPy files."""

from pathlib import Path

import numpy as np

from sfxjax.data.frames import FrameStack


class NumpyStack:
    suffixes = (".npy",)

    def is_own(self, path, start):
        return start.startswith(b"\\x93NUMPY")

    def stacks(self, path):
        frames = np.load(path, mmap_mode="r", allow_pickle=False)
        shape = frames.shape[1:]
        stack = FrameStack(
            file=str(path), layout="NumPy stack", dataset="", event_path="", frames=len(frames), stacked=True,
            raw_shape=shape, dtype=frames.dtype.str, shape=shape,
        )
        return [stack], None

    def read(self, stack, frame):
        return np.array(np.load(Path(stack.file), mmap_mode="r", allow_pickle=False)[frame])
'''

REDUCTION = '''
"""The largest value of each column."""

import jax.numpy as jnp


def column_maxima(frame, valid=None):
    return jnp.max(frame if valid is None else jnp.where(valid, frame, 0), axis=0)
'''


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A beamline's package, laid out as pip installs it."""
    site = tmp_path_factory.mktemp("site")
    (site / "beamline_format.py").write_text(FORMAT)
    (site / "beamline_reduction.py").write_text(REDUCTION)
    about = site / "beamline-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: beamline\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[sfxjax.formats]\nnumpy_stack = beamline_format:NumpyStack\n"
        "[sfxjax.reductions]\ncolumn_maxima = beamline_reduction:column_maxima\n"
    )
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(REPOSITORY)])}


def run(environment: dict[str, str], *arguments: object) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.run(call, capture_output=True, text=True, env=environment, cwd=REPOSITORY, check=False)


@pytest.mark.slow
def test_a_format_is_screened_and_found_in_a_folder(environment: dict[str, str], tmp_path: Path) -> None:
    model, frames = save_model(tmp_path / "model", cases.tiny_model()), cases.frames(5, 760)
    (tmp_path / "run").mkdir()
    np.save(tmp_path / "run" / "frames.npy", frames)
    done = run(environment, "sfxjax.screen", tmp_path / "run", "--model", model, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "NumPy stack, 5 frames of 760x760 uint16" in done.stdout + done.stderr
    with (tmp_path / "out" / "frames.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["event"] for row in rows] == [f"//{number}" for number in range(5)]
    np.testing.assert_allclose(
        [float(row["score"]) for row in rows], Screener(cases.tiny_model()).scores(frames), atol=1e-4
    )
    without = run(
        dict(os.environ), "sfxjax.screen", tmp_path / "run", "--model", model, "--out", tmp_path / "x"
    )
    assert without.returncode == 2 and "no file in this folder may hold frames" in without.stderr


@pytest.mark.slow
def test_a_reduction_is_trained_on_and_its_model_screens(environment: dict[str, str], tmp_path: Path) -> None:
    short = ["--frames", 40, "--labels", 24, "--epochs", 1, "--steps", 2, "--batch", 8]
    options = ["--dataset", "LN83", "--reduction", "column_maxima", *short, "--out", tmp_path / "run"]
    done = run(environment, "train.reduced", *options)
    assert done.returncode == 0, done.stderr
    recorded = json.loads((tmp_path / "run" / "model" / "model.json").read_text())
    assert recorded["reduction"] == "column_maxima"
    assert recorded["reduction_source"] == {"package": "beamline", "version": "1.0"}
    np.save(tmp_path / "frames.npy", cases.frames(3, 760))
    screened = [
        "sfxjax.screen",
        tmp_path / "frames.npy",
        "--model",
        tmp_path / "run",
        "--out",
        tmp_path / "out",
    ]
    done = run(environment, *screened)
    assert done.returncode == 0, done.stderr
    without = run({**os.environ, "PYTHONPATH": str(REPOSITORY)}, *screened)
    assert without.returncode == 2
    assert "of the package beamline, which is not installed" in without.stderr.splitlines()[-1]
    unknown = run({**os.environ, "PYTHONPATH": str(REPOSITORY)}, "train.reduced", *options[:4])
    assert unknown.returncode == 2
    assert "unknown reduction 'column_maxima'" in unknown.stderr.splitlines()[-1]


def test_a_package_that_is_broken_is_named(environment: dict[str, str], tmp_path: Path) -> None:
    site = tmp_path / "broken-1.0.dist-info"
    site.mkdir()
    (site / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (site / "entry_points.txt").write_text("[sfxjax.formats]\nbroken = no_such_module:Format\n")
    model = save_model(tmp_path / "model", cases.tiny_model())
    np.save(tmp_path / "frames.npy", cases.frames(1, 760))
    broken = {**environment, "PYTHONPATH": os.pathsep.join([str(tmp_path), environment["PYTHONPATH"]])}
    done = run(broken, "sfxjax.screen", tmp_path / "frames.npy", "--model", model, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "the file format broken of the package no_such_module:Format cannot be used" in done.stderr
