"""Every next step that a command prints runs as it is printed, and says what was left out."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import screen_cases as cases

from sfxjax import command_line, compilation
from sfxjax.compilation import said_compiling
from sfxjax.errors import called_as
from sfxjax.models.checkpoint import save_model
from sfxjax.progress import on_terminal, per_second, progress
from sfxjax.screen.fitted import load_fitted, model_line
from sfxjax.screen.lists import index_commands
from sfxjax.spots.fixed_pattern import FixedPattern
from sfxjax.spots.recalibration import Recalibration
from sfxjax.training.config import RunConfig, TrainingConfig
from sfxjax.training.result_table import heading, next_steps

# A program of the name that checks that each file it is given is there.
INDEXER = """#!/bin/sh
for word in "$@"; do
  case "$word" in *.lst|*.geom|*.py) test -f "$word" || exit 3 ;; esac
done
echo "$0 $*" >> "$CALLS"
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for CrystFEL and DIALS on the path; returns the file that holds their calls."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("indexamajig", "libtbx.python", "dials.stills_process"):
        (folder / name).write_text(INDEXER)
        (folder / name).chmod(0o755)
    calls = tmp_path / "calls"
    monkeypatch.setenv("CALLS", str(calls))
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return calls


def called(programs: Path) -> list[str]:
    """Name the stand-ins that were called, in order."""
    return [Path(line.split()[0]).name for line in programs.read_text().splitlines()]


def in_shell(line: str, **names: object) -> subprocess.CompletedProcess[str]:
    """Run a line as it was printed, its words in capitals replaced by names."""
    for word, name in names.items():
        line = re.sub(rf"\b{word}\b", shlex.quote(str(name)), line)
    return subprocess.run(
        line, shell=True, cwd=cases.REPOSITORY, capture_output=True, text=True, timeout=300, check=False
    )


def next_of(printed: str) -> str:
    (line,) = [line for line in printed.splitlines() if line.startswith("next: ")]
    return line.removeprefix("next: ")


def spotted(path: Path) -> Path:
    frames = np.random.default_rng(0).poisson(40, (4, 128, 128)).astype(np.uint16)
    away = np.hypot(*np.mgrid[-3:4, -3:4])
    spot = (300 * np.exp(-(away**2) / (2 * 0.9**2))).astype(np.uint16)
    for ss, fs in np.random.default_rng(1).integers(6, 122, (9, 2)):
        frames[::2, ss - 3 : ss + 4, fs - 3 : fs + 4] += spot
    return cases.write_cxi(path, frames)


def geometry(path: Path) -> Path:
    panel = "p/min_fs = 0\np/max_fs = 127\np/min_ss = 0\np/max_ss = 127\np/corner_x = -64\np/corner_y = -64\n"
    path.write_text(f"clen = 0.1\nphoton_energy = 9000\nres = 10000\n{panel}p/fs = x\np/ss = y\n")
    return path


def test_the_hits_of_counted_spots_go_to_the_indexer(
    tmp_path: Path, programs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = spotted(tmp_path / "a run's.cxi")
    out, geom = tmp_path / "out; of 'it'", geometry(tmp_path / "my detector.geom")
    assert cases.screen(run, "--out", out, "--geometry", geom) == 0
    ended = in_shell(next_of(capsys.readouterr().out))
    assert ended.returncode == 0, ended.stderr
    assert f"-i {out / 'hits.lst'} -g {geom} -o {out / 'hits.stream'}" in programs.read_text()
    report = (out / "report.html").read_text()
    assert "Index the hits</th><td>indexamajig -i &#39;" in report


def test_the_hits_of_a_model_go_to_either_program(tmp_path: Path, programs: Path) -> None:
    for name in ("hits.lst", "for_dials.py", "a b.geom"):
        (tmp_path / name).touch()
    for line in index_commands(tmp_path, str(tmp_path / "a b.geom")):
        assert in_shell(line).returncode == 0
    assert called(programs) == ["indexamajig", "libtbx.python", "dials.stills_process"]
    # Without a geometry the place for it is left open.
    assert "-g FILE.geom" in index_commands(tmp_path, None)[0]


def test_a_trained_model_screens_by_the_line_that_training_ends_with(tmp_path: Path) -> None:
    run, folder = cases.write_cxi(tmp_path / "r.cxi", cases.frames(2, 128)), tmp_path / "my runs"
    save_model(folder / "model", cases.tiny_model())
    plan = RunConfig("dann", "LN83", "LO19", None, None, TrainingConfig())
    (line,) = next_steps(folder, plan, {})
    # The interpreter that is running, by the name it was called by.
    assert re.match(r"next: \S*python\S* -m sfxjax\.screen ", line)
    ended = in_shell(f"{line.removeprefix('next: ')} --no-report", FILE=run, DIR=tmp_path / "o o")
    assert ended.returncode == 0, ended.stderr
    assert len(cases.rows(tmp_path / "o o")) == 2


def test_the_hits_of_a_model_are_told_a_command_a_line(
    tmp_path: Path, programs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, geom = cases.write_cxi(tmp_path / "r.cxi", cases.frames(2, 128)), geometry(tmp_path / "d.geom")
    save_model(tmp_path / "m" / "model", cases.tiny_model())
    given = ["--model", tmp_path / "m", "--threshold", 0, "--geometry", geom, "--no-report", "--readers", 1]
    assert cases.screen(run, *given, "--out", tmp_path / "o") == 0
    printed = capsys.readouterr().out
    (other,) = [line for line in printed.splitlines() if line.startswith("or, by DIALS: ")]
    for line in (next_of(printed), other.removeprefix("or, by DIALS: ")):
        assert in_shell(line).returncode == 0
    assert called(programs) == ["indexamajig", "libtbx.python", "dials.stills_process"]


def test_what_was_read_and_how_is_in_the_line_that_screens_it() -> None:
    given = argparse.Namespace(dataset=None, mask="my mask.h5:/m", mask_good=0, allow_links=False)
    line = command_line.screen_call(given, ["a 1.h5", "runs/*.cxi"], Path("my labels"))
    assert line.startswith(command_line.call_of("screen"))
    words = ["a 1.h5", "runs/*.cxi", "--model", "my labels", "--mask", "my mask.h5:/m", "--mask-good", "0"]
    assert shlex.split(line)[-10:] == [*words, "--out", "DIR"]
    given = argparse.Namespace(mask_good=None, good_bits=4, bad_bits=3, geometry="a b.geom", allow_links=True)
    line = command_line.screen_call(given, ["a.h5"], Path("m"))
    words = ["--good-bits", "4", "--bad-bits", "3", "--geometry", "a b.geom", "--allow-links"]
    assert shlex.split(line)[-9:] == [*words, "--out", "DIR"]


def test_a_model_is_said_to_be_what_it_is(tmp_path: Path) -> None:
    Recalibration().save(tmp_path)
    assert load_fitted(tmp_path).line().startswith("the day-one model as it is; threshold 0.500")
    FixedPattern(np.zeros((2, 2), bool), np.ones((2, 2), np.float32)).save(tmp_path)
    assert load_fitted(tmp_path).line().startswith("the day-one model, adapted to a run's frames; threshold")
    Recalibration(labels=1).save(tmp_path)
    assert "adapted to a run's frames, fitted to 1 label; threshold" in load_fitted(tmp_path).line()
    assert model_line(None) == "the day-one model as it is"


def test_sets_of_both_kinds_are_named_each_as_what_it_is() -> None:
    plan = RunConfig("adapt", "LN83", "OWN", None, None, TrainingConfig(), data={"OWN": {}})
    frames = {"LN83": 20, "OWN": 30}
    for simulated, words in (
        (["LN83"], "LN83 simulated, OWN measured"),
        (["LN83", "OWN"], "simulated sets"),
        ([], "measured sets"),
    ):
        results = {"frames": frames, "simulated": bool(simulated), "simulated_sets": simulated}
        assert f", {words}, seed" in heading(plan, results)
    # A run that was made before it was noted which.
    assert ", simulated sets, seed" in heading(plan, {"frames": frames, "simulated": True})


def test_another_command_is_called_as_this_one_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("python", "sfxjax"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "sfxjax")])
    assert command_line.call_of("train reduced") == "python -m train.reduced"
    monkeypatch.chdir("/")
    assert command_line.call_of("screen") == f"{tmp_path.relative_to('/')}/python -m sfxjax.screen"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command_line.call_of("screen") == "python -m sfxjax.screen"
    try:
        called_as("sfxjax train dann")
        assert command_line.call_of("screen") == "sfxjax screen"
        monkeypatch.setattr(sys, "argv", [command_line.__file__.replace("command_line", "cli")])
        assert command_line.call_of("train reduced") == "python -m sfxjax.cli train reduced"
    finally:
        called_as("")


@pytest.mark.parametrize("way", ["spots", "model"])
def test_a_mask_in_the_file_is_named_in_terminal_report_and_summary(
    tmp_path: Path, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = spotted(tmp_path / "r.cxi")
    with h5py.File(run, "a") as file:
        mask = np.zeros((128, 128), np.uint16)
        mask[:, :32] = 1
        file["/entry_1/instrument_1/detector_1/data"] = file["/entry_1/data_1/data"]
        file["/entry_1/instrument_1/detector_1/mask_shared"] = mask
    options: list[object] = []
    if way == "model":
        options = ["--model", save_model(tmp_path / "m" / "model", cases.tiny_model()).parent, "--readers", 1]
    assert cases.screen(run, "--out", tmp_path / "o", *options) == 0
    words = r"mask_shared.*4,096 of 16,384 pixels \(25 %\) left out"
    assert re.search(words, capsys.readouterr().out)
    report = (tmp_path / "o" / "report.html").read_text()
    assert re.search(words, report)
    assert any(
        re.search(words, line) for line in json.loads((tmp_path / "o" / "summary.json").read_text())["masks"]
    )
    # Whoever does not see the plots is told what they show.
    plots = re.findall(r'<img class="plot" [^>]*alt="([^"]*)"', report)
    assert len(plots) == 2 and plots[0].startswith("Hit rate over the run: ") and all(map(str.strip, plots))
    assert not re.search(r'alt=""', report)


def test_slow_work_has_a_speed() -> None:
    assert [per_second(speed, "steps") for speed in (0.034, 1.26, 9.94, 12.4, 1234.0)] == [
        "0.034 steps/s",
        "1.3 steps/s",
        "9.9 steps/s",
        "12 steps/s",
        "1234 steps/s",
    ]


def test_a_process_without_an_output_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert not on_terminal()
    with progress("reading", 2) as advance:
        advance(2)


def test_the_first_frame_with_its_compilation_tells_no_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with progress("counting", 41) as advance:
        # Compiling takes 46 s, three frames come with it, and then two a second.
        for moment in (46.0, 46.1, 46.2, *(46.7 + step / 2 for step in range(38))):
            now[0] = moment
            advance(1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "counting: 1 of 41 frames, no speed yet"
    # At 56.2 s 18 are to come.
    assert lines[1] == "counting: 23 of 41 frames, 2 frames/s, 9 s left"
    assert lines[-1].startswith("counting: 41 of 41 frames, 0.63 frames/s, 0 s left")


def test_compiling_is_told_where_it_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compilation, "LONG_SECONDS", 0.0)
    for kept in (False, True):
        with said_compiling(kept):
            deadline = time.monotonic() + 10
            while not (said := capsys.readouterr().out) and time.monotonic() < deadline:
                time.sleep(0.01)
        assert said.startswith("compiling for this frame size") and ("--compilation-cache" in said) != kept
    monkeypatch.setattr(compilation, "LONG_SECONDS", 60.0)
    with said_compiling(False) as compiled:
        compiled()
    assert not capsys.readouterr().out
