"""Lists of files, a line each, as CrystFEL's programs take them (`.lst`)."""

from __future__ import annotations

import os
from pathlib import Path

from sfxjax.data.events import parse_crystfel_line
from sfxjax.errors import UserError
from sfxjax.files import is_file, read_bounded

LIST_SUFFIXES = (".lst",)
_COMMENTS = ("#", ";")
_QUOTES = ('"', "'")
# Bytes: a list of a million names.
_LONGEST_LIST = 2**28


def is_list(path: Path) -> bool:
    """Tell by its name whether a file is a list."""
    return path.name.lower().endswith(LIST_SUFFIXES)


def names_in_list(path: Path) -> list[str]:
    """List the files that a list names, a line each; relative ones lie in the working folder or beside the list.

    Empty lines, and those that begin with `#` or `;` and name no file, are passed over; names may be quoted.

    Args:
        path: of the list, in UTF-8; names that are none keep their bytes.

    Raises:
        UserError: the list cannot be read, names single frames, another list, a folder or nothing, or may mean one of two files.
    """
    content = read_bounded(path, _LONGEST_LIST, "list of files")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content:
        raise UserError(f"{path}: this list is no UTF-8 text; save it as UTF-8")
    lines = content.decode("utf-8-sig", errors="surrogateescape").splitlines()
    files: dict[str, str] = {}
    for line in dict.fromkeys(map(str.strip, lines)):
        if not line or (line.startswith(_COMMENTS) and not _places(line, path)):
            continue
        name, event = _split(line, path)
        if event not in ("", "//"):
            raise UserError(
                f"{path}: names single frames ({line}); whole files are screened: leave out what follows their names"
            )
        files[line] = _file_meant(name, path)
    if not files:
        raise UserError(f"{path}: names no file")
    # A name that comes twice is told of by whoever leaves it out.
    return [files[line] for line in map(str.strip, lines) if line in files]


def _split(line: str, path: Path) -> tuple[str, str]:
    """Split a line into a file's name and an event, which is empty where the line names whole files."""
    name, event = parse_crystfel_line(line)
    if not event and not _places(line, path):
        # CrystFEL knows spaces alone; other programs write tabs.
        words = line.rsplit(None, 1)
        if len(words) == 2 and "//" in words[1] and not words[1].startswith(_QUOTES):
            name, event = words
    name = name.rstrip()
    if len(name) > 2 and name[0] == name[-1] and name[0] in _QUOTES and not _places(name, path):
        name = name[1:-1]
    return name, event


def _places(name: str, path: Path) -> list[str]:
    """Return where a file of that name lies, each file once."""
    places = [place for place in (Path(name), path.parent / name) if is_file(place)]
    if len(places) == 2 and os.path.samefile(*places):  # noqa: PTH121 - as `is_file`
        return [str(places[0])]
    return [str(place) for place in places]


def _file_meant(name: str, path: Path) -> str:
    if is_list(Path(name)):
        raise UserError(
            f"{path}: names the list {name}; lists name files of frames: give each list to the command"
        )
    places = _places(name, path)
    if len(places) > 1:
        raise UserError(
            f"{path}: {name} lies in the working folder and beside the list; write the whole path of the one that is meant"
        )
    if not places and any(os.path.isdir(place) for place in (Path(name), path.parent / name)):  # noqa: PTH112 - as `is_file`
        raise UserError(f"{path}: names the folder {name}; lists name files: give the folder to the command")
    return places[0] if places else name
