"""A model of labels, with a detector's pattern, judges a stream and a followed run as it judges files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from test_day_one import PLACES, crystal_frame

from sfxjax.errors import run_main
from sfxjax.live.__main__ import main as live
from sfxjax.screen.__main__ import main as screen
from sfxjax.spots.fixed_pattern import FixedPattern
from sfxjax.spots.recalibration import Recalibration

FRAMES = 6


def rows(folder: Path) -> list[tuple[str, str, float]]:
    """The label and the score of each frame, by its number."""
    with (folder / "frames.csv").open() as stream:
        found = {row["event"]: (row["label"], float(row["score"])) for row in csv.DictReader(stream)}
    return [(event, *found[event]) for event in (f"//{number}" for number in range(FRAMES))]


def test_files_a_followed_run_and_live_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = np.stack([crystal_frame(20.0, 60.0 * (number % 2), seed=number) for number in range(FRAMES)])
    # A fixed rim that the pattern takes away, and rows that it leaves out.
    frames[:, 100:103] += 40
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["/entry/data/data"] = frames
    model = tmp_path / "model"
    model.mkdir()
    pattern = np.zeros(frames.shape[1:], np.float32)
    pattern[100:103] = 40
    places = np.zeros(frames.shape[1:], bool)
    places[:60] = True
    FixedPattern(places, pattern).save(model)
    Recalibration((4.0, 0, 0, 0, -7), 0.05, labels=9).save(model)
    run, given = str(tmp_path / "run.h5"), ["--model", str(model)]
    assert screen([run, *given, "--out", str(tmp_path / "files"), "--no-report"]) == 0
    assert live([run, *given, "--out", str(tmp_path / "live"), "--no-page", "--quiet-for", "1"]) == 0
    follow = [run, *given, "--out", str(tmp_path / "follow"), "--follow", "1", "--no-report"]
    assert screen(follow) == 0
    printed = capsys.readouterr().out
    # All that lies there is named, and the hits are indexed as after any screening.
    (written,) = [
        line for line in printed.splitlines() if line.startswith(f"written to {tmp_path / 'follow'}")
    ]
    names = {path.name for path in (tmp_path / "follow").iterdir()} - {".keeper.lock", "live.journal"}
    assert set(written.partition(": ")[2].split(", ")) == {name for name in names if not name.startswith(".")}
    assert {"for_dials.py", "hits.expt"} <= names
    ends = [line for line in printed.splitlines() if "indexamajig" in line or "libtbx.python" in line]
    assert ends[-2].startswith("next: ") and str(tmp_path / "follow" / "for_dials.py") in ends[-1]
    files = rows(tmp_path / "files")
    assert [label for _, label, _ in files] == ["MISS", "HIT"] * 3
    # The constant is in the scores: a plain day-one model gives hits nearly 1.
    assert all(0.05 < score < 0.96 for _, label, score in files if label == "HIT")
    for name in ("live", "follow"):
        for (event, label, score), (_, wanted, expected) in zip(rows(tmp_path / name), files, strict=True):
            assert label == wanted and abs(score - expected) < 1e-3, (name, event)
    assert "adapted to a run's frames, fitted to 9 labels; threshold 0.050" in printed
    for name in ("files", "live", "follow"):
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        assert "adapted to a run's frames, fitted to 9 labels" in summary["model"], name
    # Lists of one model are not gone on with by another.
    Recalibration((4.0, 0, 0, 0, 0), 0.05, labels=9).save(model)
    again = [run, *given, "--out", str(tmp_path / "live"), "--no-page", "--quiet-for", "1"]
    assert run_main(lambda: live(again)) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_spots_found_in_sums_of_pixels_lie_where_they_are_in_the_frame(tmp_path: Path) -> None:
    frames = np.stack([crystal_frame(20.0, 120.0, seed=number) for number in range(3)])
    with h5py.File(tmp_path / "run.h5", "w") as file:
        # Two panels of an odd number of rows, which fill no whole number of sums.
        file["/entry/data/data"] = frames[:, :210].reshape(3, 2, 105, -1)
    model = tmp_path / "model"
    model.mkdir()
    FixedPattern(np.zeros((210, frames.shape[2]), bool), binned=2).save(model)
    Recalibration().save(model)
    given = [str(tmp_path / "run.h5"), "--model", str(model)]
    assert screen([*given, "--out", str(tmp_path / "files"), "--no-report"]) == 0
    assert live([*given, "--out", str(tmp_path / "live"), "--no-page", "--quiet-for", "1"]) == 0
    # Those that no edge of a panel cuts.
    wanted = np.array([place for place in PLACES if 4 < place[0] % 105 < 100 and place[0] < 210])
    for name in ("files", "live"):
        with (tmp_path / name / "spots.csv").open() as stream:
            found = np.array([[float(row["ss"]), float(row["fs"])] for row in csv.DictReader(stream)])
        away = np.hypot(*(wanted[:, None] - found).T).T
        assert len(wanted) == 5 and away.min(1).max() < 0.8, name


def test_numbers_of_ones_own_do_not_go_with_a_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Recalibration(labels=3).save(tmp_path)
    (tmp_path / "empty").mkdir()
    for model, word in ((tmp_path, "--min-snr"), (tmp_path / "empty", "holds no model of")):
        given = ["--model", str(model), "--min-snr", "5", "--out", str(tmp_path / "o"), "--no-page"]
        assert run_main(lambda given=given: live(["run.h5", *given])) == 2
        line = capsys.readouterr().err.strip()
        assert word in line and "\n" not in line
