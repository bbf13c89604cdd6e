"""Screening that goes on: after kills, with other options, other pixels, files that have come; both ways of screening."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import screen_cases as cases

from sfxjax.data.file_states import file_states
from sfxjax.data.frames import FrameStack
from sfxjax.data.read import FrameReader
from sfxjax.errors import run_main
from sfxjax.files import remove_leftovers
from sfxjax.models.checkpoint import save_model
from sfxjax.screen.lists import OUTPUTS
from sfxjax.screen.record_file import RecordFile, read_records

LISTS = ("frames.csv", "spots.csv", "hits.lst", "misses.lst", "hits.expt", "for_dials.py", "summary.json")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("runs") / "tiny" / "model", cases.tiny_model()).parent


def spotted(count: int, seed: int = 0, size: int = 128) -> np.ndarray:
    """Small frames, every second with spots, all different."""
    rng = np.random.default_rng(seed)
    frames = rng.poisson(40, (count, size, size)).astype(np.uint16)
    for number in range(0, count, 2):
        for ss, fs in rng.integers(6, size - 6, (8, 2)):
            frames[number, ss - 1 : ss + 2, fs - 1 : fs + 2] += 120
    return frames


def outputs(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in LISTS if (out / name).exists()}


def said(status: int, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run the command, and return its one line of complaint, or what it says."""
    capsys.readouterr()
    assert run_main(lambda: cases.screen(*arguments), "screen") == status
    captured = capsys.readouterr()
    if status == 2:
        assert captured.err.count("\n") == 1, captured.err
        return captured.err
    return captured.out


class Ways:
    """The two ways of screening, small: options for each, and the frames that each read."""

    def __init__(self, way: str, model: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
        self.options: list[object] = ["--no-report"]
        if way == "model":
            self.options += ["--model", model, "--batch-size", 4, "--readers", 1]
        self.read: list[tuple[str, int]] = []
        self.way = way
        whole = FrameReader.whole

        def note(reader: FrameReader, stack: FrameStack, frame: int) -> object:
            self.read.append((stack.file, frame))
            return whole(reader, stack, frame)

        monkeypatch.setattr(FrameReader, "whole", note)


def screened(out: Path, before: int = 0) -> list[tuple[str, int]]:
    """List the frames whose results were added to the journal after so many records, in order."""
    frames: list[tuple[str, int]] = []
    for record in list(read_records(out / "screening.journal"))[before:]:
        for part in record if isinstance(record, list) else []:
            first = part.get("frame", part.get("first"))
            frames += [(part["file"], first + at) for at in range(len(part.get("scores", [0])))]
    return frames


def records(out: Path) -> int:
    return len(list(read_records(out / "screening.journal")))


BOTH = pytest.mark.parametrize("way", ["spots", "model"], indirect=True)
# The other way is the same code here, and slow to start.
SPOTS = pytest.mark.parametrize(
    "way", ["spots", pytest.param("model", marks=pytest.mark.slow)], indirect=True
)


@pytest.fixture
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Ways:
    model = request.getfixturevalue("model") if request.param == "model" else None
    return Ways(request.param, model, monkeypatch)


def kill_at(call: list[str], journal: Path, records: int) -> bool:
    """Start a command and kill it once its journal has so many lines; tells whether it was still running."""
    with subprocess.Popen(
        call, cwd=cases.REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        while process.poll() is None:
            if journal.exists() and journal.read_bytes().count(b"\n") >= records:
                os.kill(process.pid, signal.SIGKILL)
            time.sleep(0.001)
        return process.returncode == -signal.SIGKILL


def test_counting_spots_goes_on_after_kills_and_ends_as_if_undisturbed(tmp_path: Path) -> None:
    data = spotted(60)
    data[7], data[8, :2] = 0, 65535
    run = cases.write_cxi(tmp_path / "run.cxi", data)
    assert cases.screen(run, "--out", tmp_path / "whole", "--no-report") == 0
    out = tmp_path / "killed"
    call = [sys.executable, "-m", "sfxjax.screen", str(run), "--out", str(out), "--no-report"]
    # Before the first frame, amid them, and amid the lists or shortly before.
    killed = [kill_at(call, out / "screening.journal", lines) for lines in (1, 20, 62)]
    assert killed[:2] == [True, True]
    # A record cut short, too.
    with (out / "screening.journal").open("ab") as journal:
        journal.write(b'01234567 [{"file": "ru')
    assert cases.screen(run, "--out", out, "--no-report") == 0
    assert outputs(out) == outputs(tmp_path / "whole")
    assert sorted(screened(out)) == [(str(run), number) for number in range(60)]
    assert sorted(path.name for path in out.iterdir()) == sorted([*LISTS, "screening.journal"])


@SPOTS
def test_the_same_command_again_judges_no_frame_and_writes_the_same_lists(
    tmp_path: Path, way: Ways, capsys: pytest.CaptureFixture[str]
) -> None:
    run = cases.write_cxi(tmp_path / "run.cxi", spotted(9))
    arguments = [run, "--out", tmp_path / "o", *way.options]
    said(0, capsys, *arguments)
    before, count = outputs(tmp_path / "o"), records(tmp_path / "o")
    assert len(screened(tmp_path / "o")) == 9
    way.read.clear()
    assert "9 frames are known from an earlier start: going on" in said(0, capsys, *arguments)
    assert outputs(tmp_path / "o") == before and records(tmp_path / "o") == count
    # The first frame is looked at for the line about values.
    assert set(way.read) <= {(str(run), 0)}


@SPOTS
def test_other_options_are_refused_in_one_line_and_replace_with_overwrite(
    tmp_path: Path, way: Ways, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o"
    run = cases.write_cxi(tmp_path / "run.cxi", spotted(9))
    other = cases.write_cxi(tmp_path / "other.cxi", spotted(5, seed=1))
    mask = np.ones((128, 128), np.uint8)
    mask[:, :64] = 0
    np.save(tmp_path / "mask.npy", mask)
    np.save(tmp_path / "same.npy", mask)
    plain = [run, "--out", out, *way.options]
    masked = [*plain, "--mask", tmp_path / "mask.npy", "--mask-good", 1]
    assert cases.screen(*plain, "--write-hits") == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for arguments, what in (
        (masked, "holds a screening with another mask;"),
        ([*plain, "--dataset", "/entry_1/data_1/data"], "holds a screening with another data set;"),
        ([other, *plain[1:]], f"holds a screening of other files, such as {run};"),
    ):
        line = said(2, capsys, *arguments)
        assert what in line and "name another --out, or give --overwrite" in line
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert f"what {out} holds of another screening is replaced" in said(0, capsys, *masked, "--overwrite")
    assert not (out / "hits.cxi").exists()
    fresh = tmp_path / "fresh"
    assert cases.screen(*masked, "--out", fresh) == 0
    assert outputs(out) == outputs(fresh)
    # The pixels are what tells a mask, not its name; and other files may join those that are known.
    renamed = [*plain, "--mask", tmp_path / "same.npy", "--mask-good", 1]
    assert "9 frames are known" in said(0, capsys, other, *renamed)
    assert len(cases.rows(out)) == 14
    assert "with another mask" in said(2, capsys, other, *plain)


def test_the_other_way_of_screening_is_refused(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = cases.write_cxi(tmp_path / "run.cxi", spotted(3))
    options = ["--model", model, "--no-report", "--readers", 1]
    assert cases.screen(run, "--out", tmp_path / "o", "--no-report") == 0
    assert "another model" in said(2, capsys, run, "--out", tmp_path / "o", *options)
    assert cases.screen(run, "--out", tmp_path / "o", *options, "--overwrite") == 0
    assert not (tmp_path / "o" / "spots.csv").exists()
    assert "another model" in said(2, capsys, run, "--out", tmp_path / "o", "--no-report")
    with pytest.raises(SystemExit) as ended:
        cases.screen(run, "--out", tmp_path / "p", "--min-snr", "0")
    assert ended.value.code == 2 and not (tmp_path / "p").exists()
    assert "--min-snr: '0' is no number above 0" in capsys.readouterr().err


def test_another_threshold_is_refused_and_overwrites_the_lists_without_reading_a_frame(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = cases.write_cxi(tmp_path / "run.cxi", cases.frames(6, 724))
    out = tmp_path / "o"
    arguments = [run, "--model", model, "--out", out, "--no-report", "--readers", 1]
    assert cases.screen(*arguments) == 0
    score = cases.scores(out)
    middle = float(np.sort(score)[3])
    lists = outputs(out)
    assert "with another threshold" in said(2, capsys, *arguments, "--threshold", middle)
    assert outputs(out) == lists
    before = records(out)
    assert "6 frames are known" in said(0, capsys, *arguments, "--threshold", middle, "--overwrite")
    added = list(read_records(out / "screening.journal"))[before:]
    assert added == [{"decided_by": {"threshold": middle}}]
    np.testing.assert_array_equal(cases.scores(out), score)
    assert [row["label"] == "HIT" for row in cases.rows(out)] == (score >= np.float32(middle)).tolist()
    assert json.loads((out / "summary.json").read_text())["threshold"] == middle
    assert "with another threshold" in said(2, capsys, *arguments)


@SPOTS
def test_lists_of_unknown_origin_are_not_overwritten(
    tmp_path: Path, way: Ways, capsys: pytest.CaptureFixture[str]
) -> None:
    run = cases.write_cxi(tmp_path / "run.cxi", spotted(3))
    (tmp_path / "frames.csv").write_text("mine")
    arguments = [run, "--out", tmp_path, *way.options]
    assert "holds lists already" in said(2, capsys, *arguments)
    assert (tmp_path / "frames.csv").read_text() == "mine"
    assert cases.screen(*arguments, "--overwrite") == 0
    assert len(cases.rows(tmp_path)) == 3


@SPOTS
def test_a_second_screening_into_the_folder_is_refused(
    tmp_path: Path, way: Ways, capsys: pytest.CaptureFixture[str]
) -> None:
    run = cases.write_cxi(tmp_path / "run.cxi", spotted(3))
    (tmp_path / "o").mkdir()
    with RecordFile(tmp_path / "o" / "screening.journal"):
        line = said(2, capsys, run, "--out", tmp_path / "o", *way.options)
        assert f"another process is writing into {tmp_path / 'o'}" in line
        assert [path.name for path in (tmp_path / "o").iterdir()] == ["screening.journal"]
    assert cases.screen(run, "--out", tmp_path / "o", *way.options) == 0


def master(folder: Path, *parts: np.ndarray) -> Path:
    """A master file that links to one file a part."""
    with h5py.File(folder / "x_master.h5", "w") as file:
        for number, part in enumerate(parts, 1):
            name = f"x_data_{number:06d}"
            file[f"/entry/data/data_{number:06d}"] = h5py.ExternalLink(f"{name}.h5", "/entry/data/data")
            with h5py.File(folder / f"{name}.h5", "w") as data:
                data["/entry/data/data"] = part
    return folder / "x_master.h5"


def virtual(folder: Path, data: np.ndarray) -> Path:
    layout = h5py.VirtualLayout(data.shape, data.dtype)
    layout[:] = h5py.VirtualSource("source.h5", "frames", data.shape)
    with h5py.File(folder / "run.cxi", "w") as file:
        file.create_virtual_dataset("/entry_1/data_1/data", layout)
    with h5py.File(folder / "source.h5", "w") as file:
        file["frames"] = data
    return folder / "run.cxi"


@pytest.mark.parametrize(
    ("way", "layout"),
    [
        *(("spots", layout) for layout in ("plain", "linked", "virtual")),
        ("model", "linked"),
        pytest.param("model", "plain", marks=pytest.mark.slow),
        pytest.param("model", "virtual", marks=pytest.mark.slow),
    ],
    indirect=["way"],
)
def test_replaced_pixels_are_screened_again_and_the_rest_is_not(
    tmp_path: Path, way: Ways, capsys: pytest.CaptureFixture[str], layout: str
) -> None:
    def write(seed: int) -> tuple[Path, Path]:
        data = spotted(6, seed)
        if layout == "plain":
            path = cases.write_cxi(tmp_path / "run.cxi", data)
            return path, path
        if layout == "linked":
            return master(tmp_path, data[:3], data[3:]), tmp_path / "x_data_000002.h5"
        return virtual(tmp_path, data), tmp_path / "source.h5"

    other = cases.write_cxi(tmp_path / "other.h5", spotted(3, 7))
    run, part = write(1)
    new = tmp_path / "new.h5"
    shutil.copy(part, new)
    listed = tmp_path / "listed"
    arguments = [run, other, *way.options]
    assert cases.screen(*arguments, "--out", listed) == 0
    write(0)
    out = tmp_path / "o"
    capsys.readouterr()
    assert cases.screen(*arguments, "--out", out) == 0
    before = records(out)
    assert "known" not in capsys.readouterr().out.replace("unknown", "")
    # The very same size; what leads to it is not touched.
    untouched = None if part == run else run.stat()
    shutil.move(new, part)
    printed = said(0, capsys, *arguments, "--out", out)
    behind = "" if part == run else f": {part}, which it links to,"
    assert f"{run}{behind} has changed since it was screened: 6 known frames are screened again" in printed
    assert "3 frames are known from an earlier start: going on" in printed
    numbers = [0, 1, 2, 0, 1, 2] if layout == "linked" else list(range(6))
    assert screened(out, before) == [(str(run), number) for number in numbers]
    assert untouched is None or run.stat() == untouched
    if layout != "linked":
        assert outputs(out)["frames.csv"] == outputs(listed)["frames.csv"]


@BOTH
def test_a_rewrite_in_place_with_the_old_time_is_seen(
    tmp_path: Path, way: Ways, capsys: pytest.CaptureFixture[str]
) -> None:
    run = cases.write_cxi(tmp_path / "run.cxi", spotted(3, 1))
    arguments = [run, *way.options, "--out", tmp_path / "o"]
    assert cases.screen(*arguments) == 0
    before = run.stat()
    content = cases.write_cxi(tmp_path / "new.cxi", spotted(3, 2)).read_bytes()
    with run.open("r+b") as stream:
        stream.write(content)
    os.utime(run, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = run.stat()
    same = ("st_size", "st_mtime_ns", "st_ino")
    assert [getattr(after, name) for name in same] == [getattr(before, name) for name in same]
    assert "has changed since it was screened: 3 known frames" in said(0, capsys, *arguments)
    # A folder that is moved keeps what tells its files.
    (tmp_path / "folder").mkdir()
    moved = run.rename(tmp_path / "folder" / "run.cxi")
    state = file_states(str(moved))[0][1:]
    (tmp_path / "folder").rename(tmp_path / "elsewhere")
    assert file_states(str(tmp_path / "elsewhere" / "run.cxi"))[0][1:] == state


@BOTH
def test_frames_that_failed_are_tried_again_once_their_file_has_come(
    tmp_path: Path, way: Ways, capsys: pytest.CaptureFixture[str]
) -> None:
    data = spotted(6)
    run = master(tmp_path, data[:3], data[3:])
    arguments = [run, *way.options]
    assert cases.screen(*arguments, "--out", tmp_path / "whole") == 0
    late = tmp_path / "x_data_000002.h5"
    late.rename(tmp_path / "late")
    out = tmp_path / "o"
    assert cases.screen(*arguments, "--out", out) in (0, 1)
    labels = [row["label"] for row in cases.rows(out)]
    assert len(labels) < 6 or "ERROR" in labels
    before = records(out)
    (tmp_path / "late").rename(late)
    capsys.readouterr()
    printed = said(0, capsys, *arguments, "--out", out)
    assert "3 frames are known from an earlier start" in printed and "changed" not in printed
    assert outputs(out)["frames.csv"] == outputs(tmp_path / "whole")["frames.csv"]
    assert len(screened(out, before)) == 3


@BOTH
def test_links_planted_in_the_output_folder_are_never_followed(
    tmp_path: Path, way: Ways, capsys: pytest.CaptureFixture[str]
) -> None:
    run = cases.write_cxi(tmp_path / "run.cxi", spotted(4))
    out, theirs = tmp_path / "o", tmp_path / "theirs"
    out.mkdir()
    theirs.mkdir()
    for name in OUTPUTS:
        (theirs / name).write_text("precious")
        (out / name).symlink_to(theirs / name)
    arguments = [run, "--out", out, *way.options, "--write-hits", "--overwrite"]
    arguments.remove("--no-report")
    assert cases.screen(*arguments) == 0
    left = {path.name for path in out.iterdir()} - {"screening.journal"}
    assert {
        "frames.csv",
        "hits.lst",
        "misses.lst",
        "hits.expt",
        "hits.cxi",
        "report.html",
        "summary.json",
    } <= left
    assert not any((out / name).is_symlink() for name in left)
    (out / "screening.journal").unlink()
    (theirs / "screening.journal").write_text("precious")
    (out / "screening.journal").symlink_to(theirs / "screening.journal")
    before = outputs(out)
    assert "screening.journal is a symbolic link; remove it" in said(2, capsys, *arguments)
    assert outputs(out) == before
    assert {path.read_text() for path in theirs.iterdir()} == {"precious"}
    assert len(list(theirs.iterdir())) == len(OUTPUTS) + 1


def test_what_a_killed_write_left_is_removed_at_the_next_start_and_nothing_else(tmp_path: Path) -> None:
    run = cases.write_cxi(tmp_path / "run.cxi", spotted(3))
    out = tmp_path / "o"
    out.mkdir()
    leftovers = [".frames.0123abcd.part.csv", ".hits.89abcdef.part.lst", ".report.00000000.part.html"]
    others = [".frames.csv", ".frames.0123abcd.csv", ".mine.0123abcd.part.csv", "frames.0123abcd.part.csv"]
    for name in [*leftovers, *others]:
        (out / name).touch()
    assert cases.screen(run, "--out", out, "--no-report") == 0
    assert sorted(path.name for path in out.iterdir()) == sorted([*LISTS, "screening.journal", *others])


def test_leftovers_of_folders_are_removed_but_what_a_link_leads_to_is_not(tmp_path: Path) -> None:
    for name in (".model.0123abcd.part", ".model.0123abcd.old", "kept"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    (tmp_path / ".model.00000000.part").symlink_to(tmp_path / "kept")
    remove_leftovers(tmp_path, ["model", "results.json"])
    assert [path.name for path in tmp_path.rglob("*")] == ["kept", "file"]
    remove_leftovers(tmp_path / "none", ["model"])
