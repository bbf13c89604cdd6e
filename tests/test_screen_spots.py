"""`sfxjax spots`: from files of several kinds to lists, with nothing trained."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from sfxjax.errors import run_main
from sfxjax.screen.__main__ import main as screen
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


def test_screen_without_a_model_is_the_same_and_shows_and_hands_on_the_spots(
    run: Path, tmp_path: Path
) -> None:
    assert main([str(run), "--out", str(tmp_path / "spots"), "--no-report"]) == 0
    assert screen([str(run), "--out", str(tmp_path / "screen"), "--write-hits"]) == 0
    for name in ("frames.csv", "spots.csv", "hits.lst", "misses.lst", "hits.expt"):
        assert (tmp_path / "screen" / name).read_text() == (tmp_path / "spots" / name).read_text()
    assert not (tmp_path / "spots" / "report.html").exists()
    report = (tmp_path / "screen" / "report.html").read_text()
    # Two headings show the four hits: those with most spots, and those drawn as misses none.
    circled = [part.count("<circle") for part in report.split("<figure>")[1:]]
    assert [abs(count - 12) <= 1 for count in circled[:4]] == [True] * 4 and "<h2>Misses" in report
    wanted = [row for row in rows(tmp_path / "spots" / "spots.csv") if row["event"] == "//2"][:12]
    with h5py.File(tmp_path / "screen" / "hits.cxi") as file:
        result = file["entry_1/result_1"]
        assert result["nPeaks"][:].tolist() == [
            sum(
                row["file"] == name.decode() and row["event"] == event.decode()
                for row in rows(tmp_path / "spots" / "spots.csv")
            )
            for name, event in zip(
                file["entry_1/screening/file"][:], file["entry_1/screening/event"][:], strict=True
            )
        ]
        second = [result[name][1, : result["nPeaks"][1]] for name in ("peakYPosRaw", "peakXPosRaw")]
        np.testing.assert_allclose(second[0][:12], [float(row["ss"]) for row in wanted], atol=0.006)
        np.testing.assert_allclose(second[1][:12], [float(row["fs"]) for row in wanted], atol=0.006)
        assert (result["peakTotalIntensity"][1, : result["nPeaks"][1]] > 300).all()
        stored = file["entry_1/data_1/data"][1]
        for ss, fs in zip(*second, strict=True):
            assert stored[round(float(ss)), round(float(fs))] > 150


def test_options_of_the_other_way_are_one_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, message in (
        (["--recall", "0.9"], "--recall goes with --model"),
        (["--model", "x", "--min-snr", "5"], "--min-snr goes without --model"),
    ):
        assert run_main(lambda options=options: screen([str(run), "--out", "none", *options])) == 2
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1


@pytest.mark.parametrize(
    "option",
    [
        *("--readers=2000", "--readers=-1", "--batch-size=0", "--batch-size=100000", "--follow=-3"),
        *("--follow=nan", "--good-bits=-1", "--bad-bits=0", "--beam-centre=nan,1", "--beam-centre=1"),
    ],
)
def test_options_out_of_range_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        screen(["run.h5", "--model", "x", "--out", "o", option])
    assert stopped.value.code == 2
    assert f"argument {option.partition('=')[0]}: " in capsys.readouterr().err.splitlines()[-1]


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
