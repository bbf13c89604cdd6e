"""Options out of range are refused in one line, before anything is read, simulated or started."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import screen_cases as cases

from sfxjax.data.set_description import SetDescription, sets_of_options
from sfxjax.devices import free_memory
from sfxjax.errors import UserError, run_main
from sfxjax.screen.command import check_memory
from sfxjax.simulate.write import simulate_set
from sfxjax.training import command, dann, reduced, supervised, transfer

PAIR = ["--source", "LN83", "--target", "LO19"]


@pytest.fixture(autouse=True)
def nothing_is_simulated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "simulated_data", lambda *_: pytest.fail("simulated"))
    monkeypatch.chdir(tmp_path)


def refused(main: object, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert run_main(lambda: main(arguments), "train") == 2  # type: ignore[operator]
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--batch", "0"], "--batch: '0' is no whole number from 1 to 16384"),
        (["--batch", "100000000"], "--batch: '100000000' is no whole number from 1"),
        (["--frames=-1"], "--frames: '-1' is no whole number from 1"),
        (["--epochs", "0"], "--epochs: '0' is no whole number from 1"),
        (["--steps", "99999999999"], "--steps: '99999999999' is no whole number from 1"),
        (["--learning-rate", "nan"], "--learning-rate: 'nan' is no number above 0 and below 10"),
        (["--strength", "nan"], "--strength: 'nan' is no number from 0 to below 1000"),
        (["--seed=-1"], "--seed: '-1' is no whole number from 0 to 2147483647"),
        (["--labels", "5000"], "--labels 5000 is out of range; a set of 2000 frames has 1 to 1200"),
        (
            ["--labels", "150", "--frames", "200"],
            "--labels 150 is out of range; a set of 200 frames has 1 to 120",
        ),
    ],
)
def test_training(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert words in refused(dann.main, [*PAIR, *options], capsys)


@pytest.mark.parametrize("main", [supervised.main, reduced.main, transfer.main])
def test_more_labels_than_a_simulated_set_has(main: object, capsys: pytest.CaptureFixture[str]) -> None:
    sets = PAIR if main is transfer.main else ["--dataset", "LN83"]
    more = ["--reduction", "soft_spot_counts"] if main is reduced.main else []
    said = refused(main, [*sets, *more, "--labels", "5000"], capsys)
    assert "--labels 5000 is out of range; a set of 2000 frames has 1 to 1200 to train on" in said


def test_more_labels_than_a_set_of_ones_own_has_are_refused_before_its_frames_are_prepared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "prepare", lambda *_, **__: pytest.fail("prepared"))
    cases.write_cxi(tmp_path / "mine.cxi", cases.frames(30, 64))
    lines = "".join(f"mine.cxi,//{number},{('hit', 'miss')[number % 2]}\n" for number in range(30))
    (tmp_path / "labels.csv").write_text("file,event,label\n" + lines)
    options = ["--dataset", "mine", "--set", "mine=mine.cxi", "labels=labels.csv", "--labels", "25"]
    said = refused(supervised.main, options, capsys)
    assert "--labels 25 is out of range; a set of 30 frames has 1 to 18 to train on" in said


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("beam_centre=nan,3", "beam centre"),
        ("beam_centre=1,inf", "beam centre"),
        ("good_bits=-1", "good_bits=-1"),
        ("bad_bits=-8", "bad_bits=-8"),
        ("mask_good=2", "mask_good=2"),
    ],
)
def test_sets_of_ones_own(tmp_path: Path, word: str, said: str) -> None:
    cases.write_cxi(tmp_path / "mine.cxi", np.zeros((1, 8, 8), np.uint16))
    with pytest.raises(UserError, match=said):
        sets_of_options([[f"mine={tmp_path / 'mine.cxi'}", word]])
    fine = sets_of_options([[f"mine={tmp_path / 'mine.cxi'}", "beam_centre=1,2", "good_bits=1"]])
    assert isinstance(fine["mine"], SetDescription)


def test_simulating(tmp_path: Path) -> None:
    for batch in (0, 100_000_000):
        with pytest.raises(UserError, match="batches of"):
            simulate_set("LN83", tmp_path / "o", 20, batch=batch)
    assert not (tmp_path / "o").exists()


def test_more_than_fits_into_memory() -> None:
    free = 4 * 10**9
    check_memory(64, 8, free)
    check_memory(None, None, 0)
    check_memory(60000, 256, None)
    for batch, readers, words in (
        (60000, 2, "--batch-size 60000 needs about 503.2 GB of memory, of which 4.0 GB are free; give 476"),
        (8, 200, "--readers 200 needs about 25.2 GB"),
    ):
        with pytest.raises(UserError, match=words):
            check_memory(batch, readers, free)
    known = free_memory()
    assert known is None or 0 <= known < 2**50


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")]
)
def test_memory_that_runs_out_is_one_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        raise error

    assert run_main(main, "screen") == 2
    assert capsys.readouterr().err == (
        "screen: error: this does not fit into memory; take smaller batches, or fewer frames or readers at once\n"
    )


def test_the_mean_of_some_hits_says_of_how_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sfxjax.models.checkpoint import save_model
    from sfxjax.screen import report

    monkeypatch.setattr(report, "MEAN_FRAMES", 3)
    run = cases.write_cxi(tmp_path / "r.cxi", cases.frames(5, 128))
    model = save_model(tmp_path / "m" / "model", cases.tiny_model()).parent
    assert cases.screen(run, "--model", model, "--out", tmp_path / "o", "--threshold", 0, "--readers", 1) == 0
    assert json.loads((tmp_path / "o" / "summary.json").read_text())["hits"] == 5
    assert "HIT: mean of 3 of 5, evenly spaced over the run" in (tmp_path / "o" / "report.html").read_text()
    with h5py.File(tmp_path / "o" / "class_means.h5") as file:
        assert file["HIT/frames"][()] == 3
