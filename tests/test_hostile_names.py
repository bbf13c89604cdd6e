"""Names of files, groups and data sets rewrite no terminal and begin no formula; lists stay such that programs read them."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import screen_cases as cases

from sfxjax.data.events import crystfel_line, parse_crystfel_line
from sfxjax.data.labels import read_labels
from sfxjax.errors import UserError
from sfxjax.live.frames import LiveFrame
from sfxjax.live.keeper import JudgedFrame, Keeper
from sfxjax.models.checkpoint import save_model
from sfxjax.page import render_page
from sfxjax.screen import report, spots_report
from sfxjax.screen.lists import Unlisted
from sfxjax.spots.day_one import find_spots
from sfxjax.text import LONGEST_MESSAGE, file_cell, message_line, printable, say, table_row

CLEAR = "\x1b[2J\x1b]0;title\x07"


def controls(text: str) -> list[str]:
    return [c for c in text if (ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 or c in "\u2028\u202e"]


def test_texts_for_eyes(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"waiting for frames from a{CLEAR}b")
    assert capsys.readouterr().out == "waiting for frames from a\\x1b[2J\\x1b]0;title\\x07b\n"
    assert printable(f"a{CLEAR}b\n\u202ec é") == r"a\x1b[2J\x1b]0;title\x07b\n\u202ec é"
    assert str(UserError(f"x.h5: {CLEAR} is\nno file")) == r"x.h5: \x1b[2J\x1b]0;title\x07 is no file"
    long = message_line("begin " + 10**6 * "x" + " end")
    assert len(long) <= LONGEST_MESSAGE and long.startswith("begin") and long.endswith(" end")


@pytest.mark.parametrize("name", ["=cmd()", "+1", "-2", "@sum", "plain.h5"])
def test_cells_that_a_spreadsheet_would_compute(name: str) -> None:
    (cell,) = table_row([name])
    assert cell.lstrip("'") == name and (cell == name) == (name in ("plain.h5", "+1", "-2"))
    # A file can still be opened by what stands in the table.
    assert Path(file_cell(name)) == Path(name) and not file_cell(name).startswith(("=", "+", "-", "@"))


@pytest.mark.parametrize("module", [report, spots_report])
def test_no_text_in_a_report_is_html(module) -> None:
    text = f"<script>alert()</script>\"'{CLEAR}"
    plot = SimpleNamespace(heading=text, address="data:,", words=text)
    picture = spots_report.CircledPicture("data:,", 1, 1, [], text, {"frame": 0})
    shown = {"title": text, "warnings": [text], "facts": [(text, text)], "reasons": [(text, 1)]}
    pictures = {"plots": [plot], "groups": [(text, [picture])], "powder": picture, "powder_frames": 2}
    page = render_page(Path(module.__file__).with_suffix(".html"), **shown, **pictures)
    assert not controls(page) and text.partition("\x1b")[0] not in page and "<script>alert" not in page
    escaped = r"&lt;script&gt;alert()&lt;/script&gt;&#34;&#39;\x1b[2J\x1b]0;title\x07"
    # Twice the title, and for each picture its caption and its alternative text.
    assert page.count(escaped) == 2 + 1 + 2 + 2 + 1 + 2 + (1 if module is report else 2)


@pytest.mark.parametrize("with_model", [False, True])
def test_the_names_and_reasons_of_a_run_are_no_html(with_model: bool, tmp_path: Path) -> None:
    name = f"<script>\"'{CLEAR}"
    cases.write_cxi(tmp_path / f"{name}.cxi", cases.frames(4, 96))
    (tmp_path / f"junk{name}.h5").write_bytes(b"no frames")
    options = ["--model", save_model(tmp_path / "m" / "model", cases.tiny_model()).parent] * with_model
    inputs = [tmp_path / f"{name}.cxi", tmp_path / f"junk{name}.h5"]
    assert cases.screen(*inputs, "--out", tmp_path / "out", *options) == 1
    page = (tmp_path / "out" / "report.html").read_text()
    assert not controls(page) and page.count("<script>") == (0 if with_model else 1)
    shown = r"&lt;script&gt;&#34;&#39;\x1b[2J\x1b]0;title\x07"
    assert re.search(rf"<figcaption>frame \d, {re.escape(shown)}\.cxi", page)
    assert re.search(rf"<td>[^<]*junk{re.escape(shown)}\.h5(?: cannot be screened)?: [^<]", page)


@pytest.mark.slow
@pytest.mark.parametrize("with_model", [False, True])
def test_a_run_of_hostile_names(with_model: bool, tmp_path: Path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    data = cases.frames(6, 96)
    with h5py.File("=run.h5", "w") as file:
        for number, key in enumerate(("=1+1", f"b{CLEAR}", "plain")):
            file[f"/data/{key}/images"] = data[2 * number : 2 * number + 2]
    Path(f"junk{CLEAR}.h5").write_bytes(b"no frames")
    options: list[object] = ["--out", "out"]
    if with_model:
        options += ["--model", save_model(tmp_path / "runs" / "model", cases.tiny_model()).parent]
    status = cases.screen("=run.h5", f"junk{CLEAR}.h5", *options)
    assert status == 1
    said = capfd.readouterr()
    assert not controls(said.out) and r"\x1b[2J" in said.out
    assert not controls((tmp_path / "out" / "report.html").read_text())
    with Path("out/frames.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        for cell in row.values():
            assert not controls(cell) and not cell.startswith(("=", "+", "-", "@"))
    assert [row["event"] for row in rows[:2]] == ["'=1+1//0", "'=1+1//1"]
    assert Path(rows[0]["file"]).exists()
    # What CrystFEL reads holds the true names; a frame whose name cannot stand in its list is told.
    listed = [
        parse_crystfel_line(line)
        for name in ("hits", "misses")
        for line in Path(f"out/{name}.lst").read_text().splitlines()
    ]
    assert {event for _, event in listed} == {f"{key}//{k}" for key in ("=1+1", "plain") for k in (0, 1)}
    assert {Path(file).name for file, _ in listed} == {"=run.h5"}
    assert "control character" in said.out
    # Our own table is read back as labels.
    frames = [("=run.h5", f"{key}//{k}") for key in ("=1+1", "plain") for k in (0, 1)]
    kept = [row for row in rows if "b" not in row["event"] and "junk" not in row["file"]]
    with Path("labels.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["file", "event", "label"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(row | {"label": "HIT"} for row in kept)
    assert read_labels("labels.csv", frames).tolist() == [2] * 4


@pytest.mark.slow
def test_a_followed_folder_of_hostile_names(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / f"run{CLEAR}"
    folder.mkdir()
    cases.write_cxi(folder / f"a{CLEAR}.cxi", cases.frames(3, 96))
    (folder / f"junk{CLEAR}.h5").write_bytes(b"no frames")
    for _ in range(2):
        cases.screen(folder, "--follow", 2, "--out", tmp_path / "out")
        said = capfd.readouterr()
        assert not controls(said.out + said.err) and r"run\x1b[2J" in said.out
        assert not controls((tmp_path / "out" / "report.html").read_text())
        # The second time the frames are known, by what stands in the table.
        assert len(cases.rows(tmp_path / "out")) == 3
    assert "cannot stand in a list of events" in said.out or "3 frames are known" in said.out


def test_live_lists_know_names_again_and_leave_out_what_cannot_stand_in_them(tmp_path: Path) -> None:
    path, said = tmp_path / f"a{CLEAR}.h5", []
    path.write_bytes(b"")
    names = [(str(path), "//0"), (str(path), "//1"), (str(path), "=a//2")]
    blank = find_spots(np.zeros((64, 64), np.uint16))
    for time in range(2):
        keeper = Keeper(tmp_path / "out", {}, say=said.append)
        assert keeper.resumed == 3 * time
        for file, event in names:
            frame = LiveFrame(file, event, 0.0, lambda: np.zeros((64, 64), np.uint16))
            assert keeper.add(JudgedFrame(frame, 1, blank)) == (time == 0)
        keeper.close()
    assert len(said) == 1 and "rename it" in said[0]
    assert not (tmp_path / "out" / "misses.lst").read_text()


def test_names_with_control_characters_stand_in_no_list_of_events() -> None:
    for name, event in (("/x/a\x1b.h5", "//0"), ("/x/a.h5", "b\x07//0"), ("/x/a\u2028.h5", "//1")):
        with pytest.raises(UserError, match="rename it"):
            crystfel_line(name, event)


def test_frames_of_hostile_names_can_be_labelled(tmp_path: Path) -> None:
    pytest.importorskip("httpx")
    pytest.importorskip("starlette")
    from starlette.testclient import TestClient

    from sfxjax.data.frames import ReadOptions
    from sfxjax.data.inputs import find_files
    from sfxjax.label.server import application
    from sfxjax.label.session import Session
    from sfxjax.screen.sources import opened_run
    from sfxjax.screen.spots import counted_frames

    # No UTF-8, and a control character.
    path = tmp_path / f"b\udce9{CLEAR}.cxi"
    cases.write_cxi(tmp_path / "plain.cxi", cases.frames(3, 96)).rename(path)
    with opened_run(ReadOptions(panels_apart=True), find_files([str(path)])) as sources:
        counted = list(counted_frames(sources, 6.0, 4))
        session = Session(sources, counted, tmp_path / "labels", "anna", 4, 0.95, 6.0, 4)
        client = TestClient(application(session, "secret", 8000), base_url="http://127.0.0.1:8000")
        (following, _) = client.get("/next?token=secret").json()
        assert following["name"].startswith(r"b\udce9\x1b[2J") and not controls(following["name"])
        given = {"frame": 0, "label": "HIT", "comment": "\ud800\x1b[2J=", "click": "1"}
        assert client.post("/label?token=secret", content=json.dumps(given)).json() == {"kept": True}
        assert client.get("/last?token=secret").json()["frame"] == 0
    table = (tmp_path / "labels" / "anna.csv").read_text(errors="surrogateescape")
    assert not controls(table) and r"\ud800\x1b[2J=" in table


def test_a_name_that_lists_lack_is_told_once_however_many_frames_it_has() -> None:
    unlisted = Unlisted()
    for number in range(1000):
        unlisted.add("a.h5", f"group//{number}", "no such name")
    for number in range(20):
        unlisted.add(f"{number}.h5", "//0", "no such name")
    lines = unlisted.lines()
    assert len(lines) == 7 and "1000 frames" in lines[0] and "1 frame," in lines[1]
    assert lines[-1] == "and 15 names more, of 15 frames"
