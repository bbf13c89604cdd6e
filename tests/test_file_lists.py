"""Lists of files (`.lst`) as people and programs write them: the right files, or a line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import screen_cases as cases

from sfxjax.data.inputs import find_files
from sfxjax.errors import UserError

FRAMES = np.ones((2, 8, 8), np.uint16)


def files(names: list[str]) -> list[str]:
    return list(find_files(names).files)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a.h5 and a folder beside it with `b c.h5`, `#d.h5` and the list."""
    (tmp_path / "here").mkdir()
    (tmp_path / "lists").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    cases.write_cxi(Path("a.h5"), FRAMES)
    for name in ("b c.h5", "#d.h5", "e.h5"):
        cases.write_cxi(tmp_path / "lists" / name, FRAMES)
    return tmp_path / "lists"


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"a.h5\ne.h5\n", ["a.h5", "e.h5"]),
        (b"\xef\xbb\xbfa.h5\r\n\r\n  e.h5  \r\n", ["a.h5", "e.h5"]),
        (b"# a comment\n; another\n\ta.h5\t\n#d.h5\n", ["a.h5", "#d.h5"]),
        (b"b c.h5\n'b c.h5'\n\"a.h5\" //\n", ["b c.h5", "a.h5"]),
        (b"a.h5\t//\n./a.h5\n../here/a.h5\n", ["a.h5"]),
        (b"a.h5", ["a.h5"]),
    ],
)
def test_lists_as_they_are_written_name_their_files(folder: Path, content: bytes, names: list[str]) -> None:
    (folder / "x.LST").write_bytes(content)
    found = [Path(name).resolve() for name in files([str(folder / "x.LST")])]
    places = {"a.h5": Path("a.h5").resolve()}
    assert found == [places.get(name, (folder / name).resolve()) for name in names]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a.h5 //1\n", "names single frames"),
        (b"a.h5\t//1\n", "names single frames"),
        (b"'b c.h5' entry//1\n", "names single frames"),
        (b"x.lst\n", "names the list x.lst"),
        (b"../lists\n", "names the folder ../lists"),
        ("a.h5\n".encode("utf-16"), "no UTF-8 text"),
        (b"a.h5\n\0\n", "no UTF-8 text"),
        (b"\n# nothing\n", "names no file"),
        (b"both.h5\n", "in the working folder and beside the list"),
    ],
)
def test_lists_that_do_not_say_which_files_are_refused(folder: Path, content: bytes, message: str) -> None:
    for place in (Path(), folder):
        cases.write_cxi(place / "both.h5", FRAMES)
    (folder / "x.lst").write_bytes(content)
    with pytest.raises(UserError, match=message):
        files([str(folder / "x.lst")])


def test_a_name_that_is_no_utf_8_keeps_its_bytes(folder: Path) -> None:
    name = b"\xe9.h5".decode("utf-8", "surrogateescape")
    cases.write_cxi(Path("plain.h5"), FRAMES).rename(folder / name)
    (folder / "x.lst").write_bytes(b"\xe9.h5\n")
    assert files([str(folder / "x.lst")]) == [str(folder / name)]


def test_a_hundred_thousand_lines_of_one_file_are_one_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sfxjax.data import file_lists

    asked = []
    monkeypatch.setattr(file_lists, "is_file", lambda place: asked.append(place) or Path(place).is_file())
    (folder / "x.lst").write_text("a.h5\n" * 100_000)
    assert files([str(folder / "x.lst")]) == ["a.h5"]
    assert len(asked) < 10


def test_a_list_beyond_belief_is_refused(folder: Path) -> None:
    with (folder / "x.lst").open("wb") as stream:
        stream.truncate(2**28 + 1)
    with pytest.raises(UserError, match="more than 256 MiB"):
        files([str(folder / "x.lst")])
