"""A frame in which no pixel has a value that counts is an error wherever frames are judged, never one without spots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import screen_cases as cases

from sfxjax.data.frames import ReadOptions
from sfxjax.data.inputs import find_files
from sfxjax.errors import UserError
from sfxjax.live.frames import LiveFrame
from sfxjax.live.judge import Judge
from sfxjax.models.checkpoint import save_model
from sfxjax.screen.scorer import Screener
from sfxjax.screen.sources import opened_run
from sfxjax.spots.day_one import find_spots
from sfxjax.spots.prepare import prepare_frame
from sfxjax.training.adapt_day_one import frames_to_fit

NONE = "no pixel has a value that counts"
VALUES = [
    (np.float32, np.nan),
    (np.float32, np.inf),
    (np.float32, -np.inf),
    (np.float32, -9999),
    (np.uint16, 65535),
    (np.uint32, 2**32 - 1),
    (np.uint32, 65535),
    (np.int32, -1),
    (np.int32, -2),
    (np.int32, -9999),
    (np.int32, -(2**31)),
    (np.int16, -(2**15)),
]


@pytest.mark.parametrize(("dtype", "value"), VALUES)
def test_spots_are_not_looked_for(dtype: Any, value: float) -> None:
    frame = np.full((96, 120), value, dtype)
    with pytest.raises(UserError, match=NONE):
        find_spots(frame)
    # Half of them masked, which leaves no more.
    with pytest.raises(UserError, match=NONE):
        find_spots(frame, np.arange(96 * 120).reshape(96, 120) % 2 == 0)
    judged, looks = Judge(6.0, 4)(LiveFrame("series", "//0", 0.0, lambda: frame), 1)
    assert (judged.spots, judged.reason, looks) == (None, NONE, None)


def test_a_frame_that_is_masked_throughout_is_not_judged_in_a_stream() -> None:
    counts = np.random.default_rng(0).poisson(20, (96, 120)).astype(np.uint16)
    judged, _ = Judge(6.0, 4, np.zeros((96, 120), bool))(LiveFrame("series", "//0", 0.0, lambda: counts), 1)
    assert judged.spots is None and judged.reason == NONE


@pytest.mark.parametrize("dtype", [np.int32, pytest.param(np.float32, marks=pytest.mark.slow)])
def test_networks_give_no_score(dtype: Any) -> None:
    values = [value for kind, value in VALUES if kind == dtype]
    frames = np.random.default_rng(0).poisson(20, (len(values) + 1, 740, 740)).astype(dtype)
    for place, value in enumerate(values):
        frames[place] = value
    found = Screener(cases.tiny_model(), batch_size=len(frames)).screen(frames)
    assert all(found.reasons[:-1]) and not found.reasons[-1]
    assert np.isnan(found.scores[:-1]).all() and np.isfinite(found.scores[-1])


def run_with_lost_frames(path: Path) -> Path:
    data = np.random.default_rng(0).poisson(20, (6, 96, 96)).astype(np.float32)
    data[1], data[2] = np.nan, -9999
    masks = np.zeros((6, 96, 96), np.uint8)
    masks[4] = 1
    with h5py.File(path, "w") as file:
        file["/entry_1/data_1/data"], file["/entry_1/data_1/mask"] = data, masks
    return path


@pytest.mark.parametrize("by", ["spots", pytest.param("network", marks=pytest.mark.slow)])
def test_screening(by: str, tmp_path: Path) -> None:
    run, options = run_with_lost_frames(tmp_path / "run.cxi"), []
    if by == "network":
        options = ["--model", save_model(tmp_path / "runs" / "model", cases.tiny_model())]
    assert cases.screen(run, "--out", tmp_path / "out", "--no-report", *options) == 1
    rows = cases.rows(tmp_path / "out")
    assert [row["label"] == "ERROR" for row in rows] == [False, True, True, False, True, False]
    assert all(row["reason"] for row in rows if row["label"] == "ERROR")


def test_adaptation_passes_them_over_with_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = find_files([str(run_with_lost_frames(tmp_path / "run.cxi"))])
    with opened_run(ReadOptions(panels_apart=True), inputs) as sources:
        assert len(frames_to_fit(sources, 6)) == 3
    assert f"3 of 6 frames are passed over: {NONE}" in capsys.readouterr().out


@pytest.mark.parametrize("shape", [(64, 64), (96, 120)])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_a_frame_of_zeros_holds_counts_which_are_none(shape: tuple[int, int], dtype: Any) -> None:
    assert (prepare_frame(np.zeros(shape, dtype)).pixels.floats()[: shape[0], : shape[1]] == 0).all()
