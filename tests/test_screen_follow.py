"""Files that grow while they are screened, and screenings shared by processes."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import screen_cases as cases

from sfxjax.data.frames import ReadOptions, single_image
from sfxjax.models.checkpoint import load_model, save_model
from sfxjax.screen.journal import Journal
from sfxjax.screen.options import ScreenOptions
from sfxjax.screen.pipeline import Screening
from sfxjax.screen.results import Results, scored
from sfxjax.screen.scorer import Screener


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("runs") / "tiny" / "model", cases.tiny_model()).parent


@pytest.mark.parametrize("swmr", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_growing_file_is_followed_to_its_end(tmp_path: Path, model: Path, swmr: bool) -> None:
    data = cases.frames(12, 724)
    path = tmp_path / "run.cxi"

    def write() -> None:
        time.sleep(1)
        with h5py.File(path, "w", libver="latest", locking=False) as file:
            stack = file.create_dataset(
                "/entry_1/data_1/data",
                (0, 724, 724),
                np.uint16,
                maxshape=(None, 724, 724),
                chunks=(1, 724, 724),
            )
            if swmr:
                file.swmr_mode = True
            for number, frame in enumerate(data):
                # The stack grows by four frames at a time, ahead of what is written.
                if number % 4 == 0:
                    stack.resize(number + 4, axis=0)
                stack[number] = frame
                file.flush()
                time.sleep(0.25)

    path.touch()
    writer = threading.Thread(target=write)
    writer.start()
    arguments = [
        "--model",
        model,
        "--out",
        tmp_path / "o",
        "--follow",
        "4",
        "--batch-size",
        "4",
        "--no-report",
    ]
    status = cases.screen(path, *arguments)
    writer.join()
    assert status == 0, cases.rows(tmp_path / "o")
    assert [row["event"] for row in cases.rows(tmp_path / "o")] == [f"//{number}" for number in range(12)]
    expected = Screener(cases.tiny_model()).scores(data)
    np.testing.assert_allclose(cases.scores(tmp_path / "o"), expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("files", [3, 1])
def test_two_processes_share_a_run(tmp_path: Path, model: Path, files: int) -> None:
    data = cases.frames(12, 724)
    data[5] = 0
    names = [
        cases.write_cxi(tmp_path / f"r{number}.cxi", part)
        for number, part in enumerate(np.split(data, files))
    ]
    options = [*names, "--model", model, "--batch-size", "2", "--no-report"]
    assert cases.screen(*options, "--out", tmp_path / "alone") == 1
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = [
        "--distributed",
        "--coordinator",
        f"127.0.0.1:{port}",
        "--processes",
        "2",
        "--out",
        tmp_path / "two",
    ]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "sfxjax.screen", *map(str, [*options, *shared, "--process", number])],
            cwd=cases.REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(2)
    ]
    ended = [(process.communicate(timeout=120)[0], process.returncode) for process in started]
    assert [status for _, status in ended] == [1, 0], ended
    for name in ("frames.csv", "hits.lst", "misses.lst"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    journals = [tmp_path / "two" / f"screening.journal.{number}" for number in range(2)]
    assert all(len(journal.read_bytes().splitlines()) > 2 for journal in journals)


def test_bad_pixels_are_found_once_there_are_enough_frames_and_the_first_are_scored_again(
    tmp_path: Path, model: Path
) -> None:
    data = cases.frames(20, 724)
    data[:, 100:140, 300:420] = np.random.default_rng(5).integers(600, 2000, (40, 120))
    screening = Screening(
        load_model(model),
        ScreenOptions((str(tmp_path / "run.cxi"),), tmp_path / "o", ReadOptions(growing=True), 4, 1),
    )
    whole = Screener(cases.tiny_model(), batch_size=4).screen(data).scores
    assert not np.allclose(whole[:10], Screener(cases.tiny_model(), batch_size=4).screen(data[:10]).scores)
    cases.write_cxi(tmp_path / "run.cxi", data[:10])
    with screening:
        screening.open()
        screening.score(final=False)
        assert screening.left() == 0 and not screening.run.bad_pixels
        cases.write_cxi(tmp_path / "run.cxi", data)
        assert screening.find_frames() == 20
        screening.find_bad_pixels()
        assert screening.left() == 20 and "4800 pixels never change" in screening.run.bad_pixels
        screening.score()
        np.testing.assert_allclose(screening.run.scores(), whole, rtol=1e-5)
    # The pixels found are recorded with the scores: a later start takes both up.
    with Screening(load_model(model), screening.options) as again:
        again.open()
        assert again.left() == 0 and again.run.bad_pixels == screening.run.bad_pixels


def test_bad_pixels_found_forget_no_results_of_other_processes(tmp_path: Path) -> None:
    stack = single_image(tmp_path / "a.cbf", "CBF", (724, 724), np.dtype("i4"))
    command = {"model": "m"}
    other = Journal(tmp_path / "j.1", command, Results())
    other.add(scored([(stack, 0)], np.float32([0.5]), [""], np.zeros((1, 6), np.float32)))
    own = Journal(tmp_path / "j", command, Results())
    own.read_others([tmp_path / "j.1"])
    own.add_bad_pixels({"line": "some", "pixels": ""})
    assert not own.known.is_done(stack, 0)
    own.read_others([tmp_path / "j.1"])
    assert own.known.is_done(stack, 0) and own.bad_pixels == {"line": "some", "pixels": ""}
    other.close()
    own.close()


def test_another_run_under_a_followed_name_gets_no_scores_of_the_first(tmp_path: Path, model: Path) -> None:
    data, path = cases.frames(9, 724), tmp_path / "run.cxi"
    options = ScreenOptions((str(path),), tmp_path / "o", ReadOptions(growing=True), 3, 1)
    loaded = load_model(model)
    lines: list[str] = []
    cases.write_cxi(path, data[:6])
    with Screening(loaded, options, lines.append) as screening:
        screening.open()
        screening.score(final=False)
        # A file that has grown holds what was scored, whatever was written anew.
        cases.write_cxi(path, data)
        screening.find_frames()
        screening.check_files()
        assert screening.left() == 3 and not any("changed" in line for line in lines)
        screening.score(final=False)
        first = screening.run.scores()
    # The next run, while nobody looks.
    cases.write_cxi(path, data[::-1])
    with Screening(loaded, options, lines.append) as screening:
        screening.open()
        said = f"{path} has changed since it was screened: 9 known frames are screened again"
        assert lines.count(said) == 1 and screening.left() == 9
        screening.score(final=False)
        np.testing.assert_allclose(screening.run.scores(), first[::-1], rtol=1e-5)
        # And the one after it, shorter, while it is followed.
        cases.write_cxi(path, data[:6])
        screening.find_frames()
        screening.check_files()
        assert lines.count(said) == 2 and screening.left() == 6


def test_bad_pixels_of_one_run_are_not_taken_for_those_of_the_next(tmp_path: Path, model: Path) -> None:
    data = cases.frames(20, 724)
    noise = np.random.default_rng(5).integers(600, 2000, (40, 120))
    options = ScreenOptions((str(tmp_path / "run.cxi"),), tmp_path / "o", ReadOptions(), 4, 1)
    found = []
    for rows, pixels in ((slice(100, 140), 4800), (slice(300, 340), 4800), (slice(0, 0), 0)):
        run = data.copy()
        run[:, rows, 300:420] = noise[: rows.stop - rows.start]
        cases.write_cxi(tmp_path / "run.cxi", run)
        with Screening(load_model(model), options) as screening:
            screening.open()
            assert screening.left() == 20
            assert (f"{pixels} pixels never change" in screening.run.bad_pixels) is bool(pixels)
            screening.score()
            found.append(screening.run.scores())
        whole = Screener(cases.tiny_model(), batch_size=4).screen(run).scores
        np.testing.assert_allclose(found[-1], whole, rtol=1e-5)
    assert not np.allclose(found[0], found[1]) and not np.allclose(found[1], found[2])


@pytest.mark.slow
@pytest.mark.parametrize("with_model", [False, True])
def test_a_folder_that_is_not_there_yet_is_followed_file_by_file(
    tmp_path: Path, model: Path, with_model: bool
) -> None:
    data = cases.frames(4, 724)

    def write() -> None:
        time.sleep(1.5)
        (tmp_path / "run").mkdir()
        for number in range(2):
            cases.write_cxi(tmp_path / f"{number}.cxi", data[2 * number : 2 * number + 2])
            (tmp_path / f"{number}.cxi").rename(tmp_path / "run" / f"r{number}.cxi")
            time.sleep(0.5)

    writer = threading.Thread(target=write)
    writer.start()
    more = ["--model", model, "--batch-size", "2"] if with_model else []
    status = cases.screen(tmp_path / "run", "--out", tmp_path / "o", "--follow", "5", *more)
    writer.join()
    assert status == 0
    rows = cases.rows(tmp_path / "o")
    expected = [(f"r{number // 2}.cxi", f"//{number % 2}") for number in range(4)]
    assert [(Path(row["file"]).name, row["event"]) for row in rows] == expected
    assert {path.name for path in (tmp_path / "o").iterdir()} >= {"hits.lst", "hits.expt", "report.html"}


def test_spots_followed_are_those_of_the_whole_run(tmp_path: Path) -> None:
    from sfxjax.simulate.conditions import Condition, draw_frame

    rng = np.random.default_rng(3)
    shown = [Condition("counting", 3.0, 0.8, spots, "none", (), (320, 320)) for spots in (0, 14, 0, 14, 14)]
    path = cases.write_cxi(tmp_path / "run.cxi", np.array([draw_frame(rng, each).values for each in shown]))
    assert cases.screen(path, "--out", tmp_path / "followed", "--follow", "2") == 0
    # The same again goes on, and finds nothing new.
    lists = {name: (tmp_path / "followed" / name).read_bytes() for name in ("frames.csv", "spots.csv")}
    assert cases.screen(path, "--out", tmp_path / "followed", "--follow", "2") == 0
    assert lists == {name: (tmp_path / "followed" / name).read_bytes() for name in lists}
    assert cases.screen(path, "--out", tmp_path / "whole") == 0
    for name in ("spots.csv", "hits.lst", "misses.lst", "hits.expt"):
        assert (tmp_path / "followed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    for ours, theirs in zip(cases.rows(tmp_path / "followed"), cases.rows(tmp_path / "whole"), strict=True):
        assert ours == {**theirs, "weight": "1"}
    report = (tmp_path / "followed" / "report.html").read_text()
    assert "Hits with the most spots" in report


@pytest.mark.slow
def test_ctrl_c_leaves_the_lists_of_what_was_followed(tmp_path: Path) -> None:
    path = cases.write_cxi(tmp_path / "run.cxi", cases.frames(4, 320))
    command = [
        sys.executable,
        "-m",
        "sfxjax.screen",
        str(path),
        "--out",
        str(tmp_path / "o"),
        "--follow",
        "60",
    ]
    process = subprocess.Popen(command, cwd=cases.REPOSITORY, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not (tmp_path / "o" / "frames.csv").exists() or len(cases.rows(tmp_path / "o")) < 4:
        assert time.monotonic() < until
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert "interrupted" in process.communicate(timeout=20)[1] and process.returncode == 130
    assert len(cases.rows(tmp_path / "o")) == 4
