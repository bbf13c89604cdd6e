"""Followed files that are replaced, removed or cut: no frame keeps the result of another one, and none goes without a row."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import live_cases
import numpy as np
import pytest
import screen_cases as cases

from sfxjax.data.frames import ReadOptions
from sfxjax.data.read import FrameReader
from sfxjax.live import follow
from sfxjax.live.keeper import LIVE_JOURNAL, JudgedFrame, Keeper
from sfxjax.models.checkpoint import save_model
from sfxjax.screen.options import ScreenOptions
from sfxjax.screen.pipeline import Screening
from sfxjax.screen.record_file import read_records
from sfxjax.screen.scorer import Screener


class Slow:
    """A judge that needs no program compiled, and may be held up before a frame."""

    def __init__(self, *_: object, **__: object) -> None:
        self.min_snr, self.min_spots, self.model = 6.0, 4, "a test"

    def __call__(self, frame: object, weight: int) -> object:
        return live_cases.judge(frame, weight)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def quick_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "Judge", Slow)


def frames(numbers: list[int]) -> np.ndarray:
    return np.stack([live_cases.pixels(number) for number in numbers])


def write(path: Path, numbers: list[int]) -> Path:
    """A file of frames that tell their numbers: hits where these are multiples of three."""
    return cases.write_cxi(path, frames(numbers), chunks=(1, 64, 64))


def followed(*arguments: object, seconds: float = 1.0) -> int:
    return cases.screen(*arguments, "--follow", seconds)


def labels(out: Path) -> list[tuple[str, str, str]]:
    return [(Path(row["file"]).name, row["event"], row["label"]) for row in cases.rows(out)]


def expected(numbers: list[int], name: str = "run.cxi") -> list[tuple[str, str, str]]:
    return [
        (name, f"//{place}", "HIT" if live_cases.is_hit(number) else "MISS")
        for place, number in enumerate(numbers)
    ]


def events(path: Path) -> list[str]:
    return [line.split()[-1] for line in path.read_text().splitlines()]


def images(out: Path) -> list[tuple[Path, int]]:
    sets = json.loads((out / "hits.expt").read_text())["imageset"]
    return [(Path(each["images"][0]), each["single_file_indices"][0]) for each in sets]


class While:
    """Does something in a thread once so many rows are in the lists."""

    def __init__(self, out: Path, rows: int, action: Callable[[], object]) -> None:
        self._out, self._rows, self._action = out, rows, action
        self._thread = threading.Thread(target=self._wait)

    def _wait(self) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            path = self._out / "frames.csv"
            if path.exists() and path.read_bytes().count(b"\n") > self._rows:
                self._action()
                return
            time.sleep(0.05)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join()


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("between", [True, False])
def test_another_file_under_a_known_name_is_judged_anew_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], in_place: bool, between: bool
) -> None:
    path, other, out = tmp_path / "run.cxi", write(tmp_path / "other.cxi", [1, 3, 4]), tmp_path / "o"
    write(path, [0, 1, 2, 3, 5])
    new = [6, 7, 8, 10, 9, 12]

    def replace() -> None:
        if in_place:
            write(path, new)
        else:
            os.replace(write(tmp_path / "new", new), path)

    if between:
        assert followed(path, other, "--out", out) == 0
        assert "changed" not in capsys.readouterr().out
        replace()
        assert followed(path, other, "--out", out) == 0
    else:
        with While(out, 8, replace):
            assert followed(path, other, "--out", out, seconds=3) == 0
    printed = capsys.readouterr().out
    assert f"{path} has changed since it was judged: 5 known frames are judged again" in printed
    assert f"{other} has changed" not in printed and "of 9 frames that came 9 were judged" in printed
    assert labels(out) == [*expected([1, 3, 4], "other.cxi"), *expected(new)]
    assert [row["index"] for row in cases.rows(out)] == [str(number) for number in range(9)]
    assert events(out / "hits.lst") == ["//1", "//0", "//4", "//5"]
    assert events(out / "misses.lst") == ["//0", "//2", "//1", "//2", "//3"]
    spots = (out / "spots.csv").read_text().splitlines()[1:]
    assert len(spots) == 2 * 4 and sum("other.cxi" in line for line in spots) == 2
    # Known by what was read now: the same again changes nothing.
    before = {each.name: each.read_bytes() for each in out.iterdir() if each.suffix in (".csv", ".lst")}
    assert followed(path, other, "--out", out) == 0
    assert "changed" not in capsys.readouterr().out
    assert before == {name: (out / name).read_bytes() for name in before}


def test_a_file_that_grew_is_gone_on_with_and_few_of_its_frames_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "run.cxi", tmp_path / "o"
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "/entry_1/data_1/data", data=frames(list(range(100))), chunks=(1, 64, 64), maxshape=(None, 64, 64)
        )
    assert followed(path, "--out", out, "--no-report") == 0

    def grow() -> None:
        with h5py.File(path, "a") as file:
            stack = file["/entry_1/data_1/data"]
            stack.resize(len(stack) + 4, axis=0)
            stack[-4:] = frames(list(range(len(stack) - 4, len(stack))))

    read: list[int] = []
    original = FrameReader.original

    def counting(reader: FrameReader, stack: object, number: int) -> np.ndarray:
        read.append(number)
        return original(reader, stack, number)  # type: ignore[arg-type]

    monkeypatch.setattr(FrameReader, "original", counting)
    grow()
    with While(out, 104, grow):
        assert followed(path, "--out", out, "--no-report", seconds=3) == 0
    assert "changed" not in capsys.readouterr().out
    assert labels(out) == expected(list(range(108)))
    new = list(range(100, 108))
    assert [number for number in read if number in new[4:]] == new[4:]
    # Eight at the start, the first and the last when it grew; the report's search for bad pixels reads some at its end.
    again = read[: read.index(107)]
    assert sum(number < 100 for number in again) <= 8 + 2 and {0, 99} <= set(again)


@pytest.mark.parametrize("how", ["removed", "cut"])
def test_results_stand_where_a_file_is_removed_or_cut_and_the_lists_are_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    run, out = tmp_path / "run", tmp_path / "o"
    run.mkdir()
    path, numbers = write(run / "a.cxi", [0, 1, 3]), [6, 7, 8]
    write(run / "b.cxi", numbers)
    action = path.unlink if how == "removed" else lambda: os.truncate(path, path.stat().st_size // 2)
    with While(out, 6, action):
        assert followed(run, "--out", out, seconds=3) == 1
    printed = capsys.readouterr().out
    assert labels(out) == [*expected([0, 1, 3], "a.cxi"), *expected(numbers, "b.cxi")]
    (line,) = [line for line in printed.splitlines() if line.startswith(f"{path}: ")]
    assert "the results of the frames that were judged stand" in line
    assert "the lists hold 2 hits of files that" in printed and "next: indexamajig" in printed
    # `for_dials.py` wants every hit, and leaves out those that DIALS cannot read.
    assert images(out) == [(path, 0), (path, 2), (run / "b.cxi", 0)]
    report = (out / "report.html").read_text()
    assert "3 hits among 6 frames" in report and events(out / "hits.lst") == ["//0", "//2", "//0"]
    # Alone, and at another start.
    (run / "b.cxi").unlink()
    assert followed(run, "--out", out) == 1
    assert len(labels(out)) == 6 and (out / "report.html").exists()
    assert images(out) == [(path, 0), (path, 2), (run / "b.cxi", 0)]
    assert "next: " not in capsys.readouterr().out


def test_frames_that_were_found_and_cannot_be_read_are_errors_at_the_end_and_tried_again_at_the_next_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "run.cxi", tmp_path / "o"
    with h5py.File(path, "w") as file:
        stack = file.create_dataset(
            "/entry_1/data_1/data", data=frames(list(range(6))), chunks=(1, 64, 64), compression="gzip"
        )
        place = stack.id.get_chunk_info(4)
    content = path.read_bytes()
    damaged = bytearray(content)
    damaged[place.byte_offset : place.byte_offset + place.size] = bytes(place.size)
    path.write_bytes(damaged)
    (tmp_path / "none.cxi").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert followed(path, tmp_path / "none.cxi", "--out", out) == 1
    printed = capsys.readouterr().out
    found = labels(out)
    assert found[:5] == [row for row in expected(list(range(6))) if row[1] != "//4"]
    assert found[5:] == [("run.cxi", "//4", "ERROR"), ("none.cxi", "", "ERROR")]
    assert all(row["reason"] for row in cases.rows(out)[5:])
    assert "2 frames could not be read" in printed and "2 are errors" in printed
    # Their writing has ended.
    path.write_bytes(content)
    write(tmp_path / "none.cxi", [3])
    assert followed(path, tmp_path / "none.cxi", "--out", out) == 0
    assert "5 frames are known from an earlier start: going on" in capsys.readouterr().out
    assert sorted(labels(out)) == sorted([*expected(list(range(6))), *expected([3], "none.cxi")])


def test_a_kill_while_frames_are_taken_out_leaves_whole_lists(tmp_path: Path) -> None:
    from test_live_receiver import frame

    def keeper(folder: str) -> Keeper:
        return Keeper(tmp_path / folder, {})

    def add(kept: Keeper, file: str, number: int) -> None:
        one = frame(number)
        judged = live_cases.judge(one, 1)[0]
        object.__setattr__(judged, "frame", type(one)(file, one.event, 0.0, one.unpack))
        kept.add(judged)

    for folder in ("whole", "killed"):
        kept = keeper(folder)
        for number in range(12):
            add(kept, f"f{number % 2}", number)
        kept.add(JudgedFrame(frame(99), 1, None, "damaged"))
        kept.close()
    whole = keeper("whole")
    assert whole.forget("f0") == 6 and whole.counts.judged == 6 and whole.sums.hits == 2
    whole.close()
    names = ("frames.csv", "spots.csv", "hits.lst", "misses.lst")
    wanted = {name: (tmp_path / "whole" / name).read_bytes() for name in names}
    assert b"f0," not in wanted["frames.csv"] and b"f0 " not in wanted["hits.lst"]
    # Killed when the first list had been written anew.
    kept = keeper("killed")
    kept._journal.add({"unwanted": "f0"})
    kept.close = lambda: None  # type: ignore[method-assign]
    kept._journal.close()
    (tmp_path / "killed" / "frames.csv").write_bytes(wanted["frames.csv"])
    again = keeper("killed")
    assert again.resumed == 7 and again.counts == whole.counts and again.sums == whole.sums
    again.close()
    assert {name: (tmp_path / "killed" / name).read_bytes() for name in names} == wanted
    assert any("unwanted" in record for record in read_records(tmp_path / "killed" / LIVE_JOURNAL))
    last = keeper("killed")
    assert last.forget_errors() == 1 and last.counts.errors == 0 and last.counts.judged == 6
    last.close()
    assert len(cases.rows(tmp_path / "killed")) == 6


def test_a_file_that_is_cut_between_the_last_look_and_the_report_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, write_report = write(tmp_path / "run.cxi", [0, 1, 3]), follow._Report.write

    def cut_first(report: follow._Report) -> int:
        os.truncate(path, path.stat().st_size // 2)
        return write_report(report)

    monkeypatch.setattr(follow._Report, "write", cut_first)
    assert followed(path, "--out", tmp_path / "o") == 1
    printed = capsys.readouterr().out
    (line,) = [line for line in printed.splitlines() if line.startswith(f"{path}: ")]
    assert "cut short" in line and line.endswith("the results of the frames that were judged stand")
    assert "next: " not in printed and images(tmp_path / "o") == [(path, 0), (path, 2)]
    assert str(path) in json.loads((tmp_path / "o" / "summary.json").read_text())["unreadable"]


@pytest.mark.parametrize("how", ["removed", "cut"])
def test_with_a_model_results_stand_likewise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    data, run, out = cases.frames(6, 724), tmp_path / "run", tmp_path / "o"
    run.mkdir()
    model = save_model(tmp_path / "runs" / "tiny" / "model", cases.tiny_model()).parent
    path = cases.write_cxi(run / "a.cxi", data[:3], chunks=(1, 724, 724))
    cases.write_cxi(run / "b.cxi", data[3:], chunks=(1, 724, 724))
    scores = Screener(cases.tiny_model()).scores(data)
    threshold = np.sort(scores)[2]

    def scored() -> int:
        return sum(isinstance(record, list) for record in read_records(out / "screening.journal"))

    def remove() -> None:
        until = time.monotonic() + 60
        while scored() < 2 and time.monotonic() < until:
            time.sleep(0.05)
        if how == "removed":
            path.unlink()
        else:
            os.truncate(path, path.stat().st_size // 2)

    thread = threading.Thread(target=remove)
    thread.start()
    arguments = ["--model", model, "--out", out, "--batch-size", "3", "--threshold", threshold]
    assert cases.screen(run, *arguments, "--follow", "3") == 1
    thread.join()
    printed = capsys.readouterr().out
    found = cases.rows(out)
    assert [(Path(row["file"]).name, row["event"]) for row in found] == [
        (f"{name}.cxi", f"//{number}") for name in "ab" for number in range(3)
    ]
    np.testing.assert_allclose(cases.scores(out), scores, rtol=1e-5)
    stand = "the results of the frames that were judged stand"
    (line,) = [line for line in printed.splitlines() if stand in line]
    assert line.startswith(f"{path}: ")
    hits = sum(row["label"] == "HIT" for row in found)
    there = sum(row["label"] == "HIT" for row in found[3:])
    assert hits == 4 == len(images(out))
    assert f"the lists hold {hits - there} hit" in printed and ("next: " in printed) == bool(there)


def write_master(path: Path, data: np.ndarray, bad_rows: int) -> Path:
    with h5py.File(path, "w") as file:
        file["/entry/data/data"] = data
        mask = np.zeros(data.shape[1:], np.uint32)
        mask[:bad_rows] = 1
        file["/entry/instrument/ELE_D0/pixel_mask"] = mask
    return path


def test_the_mask_of_a_file_that_is_replaced_while_it_is_followed_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out, masked = tmp_path / "x_master.h5", tmp_path / "o", []

    class Recorder(Slow):
        def __call__(self, frame: object, weight: int) -> object:
            masked.append(int((~frame.mask).sum()))  # type: ignore[attr-defined]
            return super().__call__(frame, weight)

    monkeypatch.setattr(follow, "Judge", Recorder)
    write_master(path, frames([0, 1]), 2)
    new = write_master(tmp_path / "new", frames([4, 6, 7]), 5)
    with While(out, 2, lambda: os.replace(new, path)):
        assert followed(path, "--out", out, "--no-report", seconds=3) == 0
    assert masked == [128] * 2 + [320] * 3
    assert labels(out) == expected([4, 6, 7], "x_master.h5")


def test_with_a_model_the_mask_is_read_anew_likewise(tmp_path: Path) -> None:
    data, path = cases.frames(4, 724, "uint32"), tmp_path / "x_master.h5"
    options = ScreenOptions((str(path),), tmp_path / "o", ReadOptions(growing=True), 2, 1)
    write_master(path, data[:2], 40)
    with Screening(cases.tiny_model(), options) as screening:
        screening.open()
        screening.score(final=False)
        write_master(path, data[2:], 200)
        screening.find_frames()
        screening.check_files()
        screening.score(final=False)
        found = screening.run.scores()
    with Screening(cases.tiny_model(), replace(options, out=tmp_path / "p")) as fresh:
        fresh.open()
        fresh.score()
        np.testing.assert_allclose(found, fresh.run.scores(), rtol=1e-6)
        assert fresh.run.masks[0] in screening.run.masks
