"""`sfxjax spots`: from files of several kinds to lists, with nothing trained."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from sfxjax.errors import run_main
from sfxjax.screen.spots import main


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of three frames of 300 x 500 pixels; every second frame has twelve spots in known places."""
    folder = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    for number in range(2):
        frames = rng.poisson(40, (3, 300, 500)).astype(np.uint16)
        for frame in frames[::2]:
            for k in range(12):
                ss, fs = 20 + 22 * k, 30 + 37 * k
                frame[ss - 1 : ss + 2, fs - 1 : fs + 2] += np.array(
                    [[60, 90, 60], [90, 200, 90], [60, 90, 60]], np.uint16
                )
        with h5py.File(folder / f"part_{number}.h5", "w") as file:
            file["entry/data/data"] = frames
    return folder


def test_spots_and_labels_of_a_folder(run: Path, tmp_path: Path) -> None:
    assert main([str(run), "--out", str(tmp_path / "out")]) == 0
    found = rows(tmp_path / "out" / "frames.csv")
    assert [row["label"] for row in found] == ["HIT", "MISS", "HIT"] * 2
    assert [row["event"] for row in found] == ["//0", "//1", "//2"] * 2
    for row in (row for row in found if row["label"] == "HIT"):
        assert (
            abs(float(row["spots"]) - 12) < 2 and float(row["score"]) > 0.9 and float(row["fourth_snr"]) > 6
        )
    spots = [
        row
        for row in rows(tmp_path / "out" / "spots.csv")
        if row["file"] == found[0]["file"] and row["event"] == "//0"
    ]
    places = np.array([[float(row["ss"]), float(row["fs"])] for row in spots])
    for k in range(12):
        assert np.hypot(*(places - [20 + 22 * k, 30 + 37 * k]).T).min() < 0.5
    assert len((tmp_path / "out" / "hits.lst").read_text().splitlines()) == 4
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["hit"] == 4


def test_the_users_numbers_decide(run: Path, tmp_path: Path) -> None:
    main([str(run), "--out", str(tmp_path), "--min-spots", "20"])
    assert {row["label"] for row in rows(tmp_path / "frames.csv")} == {"MISS"}
    main([str(run), "--out", str(tmp_path), "--min-snr", "500", "--overwrite"])
    assert {row["label"] for row in rows(tmp_path / "frames.csv")} == {"MISS"}


def test_mistakes_are_one_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "frames.csv").touch()
    for options, message in (
        (["--out", str(tmp_path)], "holds lists already; name another --out, or give --overwrite"),
        (["--out", str(tmp_path / "x"), "--min-spots", "0"], "--min-spots from 1 to 24"),
        (["--out", str(tmp_path / "x"), "--min-snr", "nan"], "--min-snr must be above 0"),
    ):
        assert run_main(lambda options=options: main([str(run), *options])) == 2
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1
