"""What tells whether a file was replaced: size, times and inode of it and of every file that its frames and masks lie in.

Of its times the last change of the content can be set by whoever rewrites a file in place; that of the file's entry cannot. The
latter also changes where a file gets other permissions or another link, not where a folder that holds it is moved; copies have
inodes of their own. So files whose permissions were changed are screened again, which costs time; old scores would be wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sfxjax.data.links import HDF5_SUFFIXES, files_meant, linked_files

# Name, bytes, time of the last change of the content in nanoseconds, inode, time of the last change of the entry; -1, 0, 0, 0
# where there is no such file.
State = tuple[str, int, int, int, int]
MOST_FILES = 100_000


def states_from_json(values: Iterable[Sequence[Any]]) -> list[State]:
    """Return states of what `json` made of them.

    Raises:
        ValueError, TypeError: they are none.
    """
    return [
        (str(name), int(size), int(time), int(inode), int(entry)) for name, size, time, inode, entry in values
    ]


def file_states(name: str) -> list[State]:
    """Return the state of a file and of those behind its links and virtual data sets, theirs included.

    Args:
        name: of the file, which comes first.
    """
    found: dict[Path, State] = {}
    waiting = [Path(name)]
    while waiting and len(found) < MOST_FILES:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = _state(path)
        if path.name.lower().endswith(HDF5_SUFFIXES) and path.is_file():
            waiting += [each for target in sorted(linked_files(path)) for each in files_meant(target)]
    return list(found.values())


def states_again(states: list[State]) -> list[State]:
    """Return the states that the same files have now, links not looked at again."""
    return [_state(Path(name)) for name, *_ in states]


def changed_files(before: list[State], now: list[State]) -> list[str]:
    """Name the files that are not what they were.

    What was missing and has come was not read before, and what is missing now holds nothing else: neither counts.

    Args:
        before: when frames were read.
        now: of the same file.
    """
    known = {state[0]: state for state in now}
    pairs = [(state, known[state[0]]) for state in before if state[0] in known]
    return [old[0] for old, new in pairs if old[1] >= 0 and new[1] >= 0 and old != new]


def joined_states(before: list[State], now: list[State]) -> list[State]:
    """Return states of now, of files that are missing now those of before: their frames are still known by them."""
    earlier = {state[0]: state for state in before}
    return [earlier.get(state[0], state) if state[1] < 0 else state for state in now]


def _state(path: Path) -> State:
    try:
        status = path.stat()
    except OSError:
        return str(path), -1, 0, 0, 0
    return str(path), status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns
