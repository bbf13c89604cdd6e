"""Records on disk: cut anywhere, written to a full disk, planted links, two processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sfxjax.errors import UserError
from sfxjax.screen.record_file import RecordFile, read_records

MADE_BY = {"model": "a", "numbers": [1, 2.5]}


def write(path: Path, records: list[object]) -> None:
    with RecordFile(path) as file:
        if file.made_by is None:
            file.begin(MADE_BY)
        for record in records:
            file.add(record)


def test_records_are_read_as_they_were_written_and_go_on(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path, [{"frame": 1, "score": 0.1}, [None, "two\nlines"]])
    write(path, [3])
    with RecordFile(path) as file:
        assert file.made_by == MADE_BY
        assert list(file.records()) == [{"frame": 1, "score": 0.1}, [None, "two\nlines"], 3]
        file.begin({"model": "b"})
        assert list(file.records()) == []
    assert list(read_records(path, made_by={"model": "b"})) == []


def test_a_file_cut_anywhere_keeps_its_whole_records_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path, list(range(20)))
    whole = path.read_bytes()
    header = whole.index(b"\n") + 1
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        with RecordFile(path) as file:
            kept = list(file.records())
            assert file.made_by == (MADE_BY if cut >= header else None)
            if file.made_by is None:
                file.begin(MADE_BY)
            assert kept == list(range(whole[:cut].count(b"\n") - 1))
            file.add("more")
        assert list(read_records(path)) == [*kept, "more"]


def test_a_damaged_record_ends_what_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path, [10, 11, 12])
    path.write_bytes(path.read_bytes().replace(b" 11\n", b" 17\n"))
    with RecordFile(path) as file:
        assert list(file.records()) == [10]


def test_a_record_that_does_not_fit_on_the_disk_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    write(path, [1])
    before, write_some = path.read_bytes(), os.write

    def half(handle: int, content: bytes) -> int:
        if len(content) < 50:
            raise OSError(28, "No space left on device")
        return write_some(handle, content[:50])

    with RecordFile(path) as file:
        monkeypatch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space"):
            file.add("x" * 60)
        assert path.read_bytes() == before
        monkeypatch.undo()
        file.add(2)
    assert list(read_records(path)) == [1, 2]


@pytest.mark.parametrize("kind", ["symbolic", "dangling", "hard", "pipe", "folder", "foreign"])
def test_what_lies_in_its_place_is_never_followed_or_overwritten(tmp_path: Path, kind: str) -> None:
    theirs, path = tmp_path / "theirs", tmp_path / "journal"
    theirs.write_text("precious\n")
    if kind == "symbolic":
        path.symlink_to(theirs)
    elif kind == "dangling":
        path.symlink_to(tmp_path / "new")
    elif kind == "hard":
        path.hardlink_to(theirs)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_text("precious\n")
    with pytest.raises(UserError, match=str(path)):
        RecordFile(path)
    assert theirs.read_text() == "precious\n" and not (tmp_path / "new").exists()
    assert kind != "foreign" or path.read_text() == "precious\n"


def test_a_second_process_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    program = (
        "import sys; from pathlib import Path; from sfxjax.screen.record_file import RecordFile\n"
        f"RecordFile(Path({str(path)!r})); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"open\n"
        with pytest.raises(UserError, match="another process is writing into"):
            RecordFile(path)
        process.kill()
    write(path, [1])
    assert list(read_records(path)) == [1]


def test_a_file_is_read_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with RecordFile(path) as file:
        file.begin(MADE_BY)
        for number in np.arange(5).tolist():
            file.add(number)
            assert list(read_records(path, first=number)) == [number]
    assert list(read_records(path, made_by={})) == []
    assert list(read_records(tmp_path / "none")) == []
