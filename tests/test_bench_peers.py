"""The day-one model beside DIALS: what counts as found, and the comparison itself where DIALS is installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from bench.day_one.crystals import describe_detector
from bench.day_one.peers import compare_with_dials, matched_spots
from sfxjax.data.frames import ReadOptions
from sfxjax.data.read import FrameReader
from sfxjax.simulate.crystal import BeamGeometry


def test_spots_are_found_once_and_others_are_counted() -> None:
    visible = [np.array([[10.0, 10], [50, 50]]), np.zeros((0, 2)), np.array([[5.0, 5]])]
    table = {0: np.array([[11.0, 10], [90, 90]]), 1: np.array([[1.0, 1]])}
    assert matched_spots(table, visible) == {"spots": 3, "visible_found": 1 / 3, "not_visible": 2}


def test_the_file_is_read_as_the_frames_that_were_written(tmp_path: Path) -> None:
    frames = np.arange(2 * 8 * 6, dtype=np.int16).reshape(2, 8, 6)
    path = tmp_path / "crystals.h5"
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = frames
        describe_detector(file, BeamGeometry(1.3, 112.0, 0.2, (8, 6), (3.5, 2.5)), (3.5, 2.5))
        # A pixel's middle is half a pixel from the corner that is given.
        corner = file["entry/instrument/detector/module/module_offset"]
        np.testing.assert_allclose(corner[()] * corner.attrs["vector"], [3 * 0.2, 4 * 0.2, 0])
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(path))
        assert stack.layout == "NXmx"
        np.testing.assert_array_equal(reader.original(stack, 1), frames[1])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("dials.index") is None, reason="DIALS is not installed")
def test_dials_indexes_at_least_as_many_hits_of_the_known_cell_as_from_its_own_spots(tmp_path: Path) -> None:
    found = compare_with_dials(tmp_path, 4, seed=1)
    assert found["day_one"]["indexed"] >= max(found["dials"]["indexed"], 1)
    assert found["day_one"]["visible_found"] > found["dials"]["visible_found"]
