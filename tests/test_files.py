from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sfxjax import files
from sfxjax.errors import EXIT_CRASHED, UserError, run_main
from sfxjax.files import (
    atomic_folder,
    atomic_write,
    atomic_write_bytes,
    atomic_write_json,
    atomic_write_text,
    user_cache_folder,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def full_disk(path: Path | None = None) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), None if path is None else str(path))


def test_a_whole_write_replaces_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    atomic_write_text(path, "old")
    with atomic_write(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".json"
        temporary.write_text("half")
        assert path.read_text() == "old"
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert names(path.parent) == ["results.json"]


@pytest.mark.parametrize("error", [full_disk(), KeyboardInterrupt(), ValueError("x")])
def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"old")
    with pytest.raises(type(error)), atomic_write(path) as temporary:
        temporary.write_bytes(b"half of the n")
        raise error
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["weights.bin"]


def test_a_disk_that_fills_while_flushing_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"old")

    def fail(_: int) -> None:
        raise full_disk()

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        atomic_write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["weights.bin"]


def test_content_is_flushed_before_it_takes_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(handle: int) -> None:
        events.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def note_replace(old: Path, new: Path) -> None:
        events.append("rename")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    atomic_write_bytes(tmp_path / "a", b"x")
    assert events == ["file", "rename", "folder"]


def test_text_keeps_its_line_ends_and_letters(tmp_path: Path) -> None:
    atomic_write_text(tmp_path / "a.txt", "Å\r\nb\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\x85\r\nb\n"


def test_json_round_trip_and_no_nan(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    value = {"recall": [0.5, 1], "set": "LN83"}
    atomic_write_json(path, value)
    assert json.loads(path.read_text()) == value
    with pytest.raises(ValueError, match="Out of range"):
        atomic_write_json(path, {"recall": float("nan")})
    assert json.loads(path.read_text()) == value


def test_a_link_is_replaced_and_what_it_points_to_is_not(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "folder").symlink_to(tmp_path, target_is_directory=True)
    for name in ("link", "folder/other"):
        atomic_write_text(tmp_path / name, "x")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "link").read_text() == (tmp_path / "other").read_text() == "x"
    assert (tmp_path / "real").read_text() == "kept"


def test_a_device_or_folder_is_never_replaced(tmp_path: Path) -> None:
    for path in (Path(os.devnull), tmp_path):
        with pytest.raises(UserError, match="not a regular file"):
            atomic_write_text(path, "x")
    assert Path(os.devnull).is_char_device()


def test_a_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is not a folder"):
        atomic_write_text(tmp_path / "file" / "out.txt", "x")
    with pytest.raises(UserError, match="file is not a folder"), atomic_folder(tmp_path / "file"):
        pass


def write_folder(path: Path, content: str) -> None:
    with atomic_folder(path) as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep" / "part").write_text(content)


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    write_folder(path, "old")
    (path / "leftover").touch()
    write_folder(path, "new")
    assert (path / "deep" / "part").read_text() == "new"
    assert not (path / "leftover").exists()
    assert names(tmp_path) == ["checkpoint"]


@pytest.mark.parametrize("error", [full_disk(), KeyboardInterrupt()])
def test_a_failed_folder_leaves_the_old_one(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "checkpoint"
    write_folder(path, "old")
    with pytest.raises(type(error)), atomic_folder(path) as temporary:
        (temporary / "part").write_text("half")
        raise error
    assert (path / "deep" / "part").read_text() == "old"
    assert names(tmp_path) == ["checkpoint"]


def test_a_folder_that_cannot_be_put_in_place_brings_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint"
    write_folder(path, "old")
    rename = os.rename

    def fail_for_the_new(old: Path, new: Path) -> None:
        if Path(old).name.endswith(".part"):
            raise full_disk()
        rename(old, new)

    monkeypatch.setattr(os, "rename", fail_for_the_new)
    with pytest.raises(OSError, match="No space"):
        write_folder(path, "new")
    assert (path / "deep" / "part").read_text() == "old"
    assert names(tmp_path) == ["checkpoint"]


def test_a_folder_of_other_origin_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "home"
    path.mkdir()
    write_folder(path, "an empty folder may be used")
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "chapter").write_text("mine")
    with pytest.raises(UserError, match="did not write"):
        write_folder(foreign, "new")
    with pytest.raises(UserError, match="did not write"), atomic_folder(tmp_path / "late"):
        (tmp_path / "late").mkdir()
        (tmp_path / "late" / "notes").touch()
    assert (foreign / "chapter").read_text() == "mine"
    assert names(tmp_path) == ["home", "late", "thesis"]


def test_cache_folder_is_the_variable_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(files.CACHE_VARIABLE, str(tmp_path / "c"))
    assert user_cache_folder() == tmp_path / "c"
    monkeypatch.setenv(files.CACHE_VARIABLE, "")
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    with pytest.raises(UserError, match="set SFXJAX_CACHE"):
        user_cache_folder()


def test_cache_folder_of_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    platformdirs = pytest.importorskip("platformdirs")
    monkeypatch.delenv(files.CACHE_VARIABLE, raising=False)
    assert str(user_cache_folder()) == platformdirs.user_cache_dir("sfxjax")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("bad\n  label"), 2, "dann: error: bad label"),
        (KeyboardInterrupt(), 130, "dann: error: interrupted; give the same command to go on"),
        (full_disk(Path("out")), 2, "dann: error: the disk is full: out; free"),
        (
            OSError("Can't write (errno = 28, error message = '...')"),
            2,
            "dann: error: the disk is full; free",
        ),
        (PermissionError(errno.EACCES, "no", "out"), 2, "dann: error: permission denied: out;"),
        (FileNotFoundError(errno.ENOENT, "no", "x.h5"), 2, "dann: error: no such file or folder: x.h5"),
    ],
)
def test_faults_of_the_user_become_one_line(
    error: BaseException, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        raise error

    assert run_main(main, "dann") == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(line)
    assert err.count("\n") == 1


@pytest.mark.parametrize("error", [ZeroDivisionError(), OSError(errno.EINVAL, "Invalid")])
def test_faults_of_the_program_show_their_traceback_and_have_a_status_of_their_own(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        raise error

    assert run_main(main) == EXIT_CRASHED == 70
    said = capsys.readouterr().err
    assert said.startswith("Traceback") and type(error).__name__ in said


@pytest.mark.parametrize(("value", "status"), [(None, 0), (0, 0), (3, 3)])
def test_status_of_main_is_passed_on(value: int | None, status: int) -> None:
    assert run_main(lambda: value) == status


def test_the_line_names_the_running_module(tmp_path: Path) -> None:
    package = tmp_path / "train"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "dann.py").write_text(
        "import sys\nfrom sfxjax.errors import UserError, run_main\n"
        "def main():\n    raise UserError('no frames')\n"
        "sys.exit(run_main(main))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(files.__file__).parents[1])}
    command = [sys.executable, "-m", "train.dann"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "train.dann: error: no frames\n")
