"""Files that are copies of one another under other names, told by their sizes and by parts of their content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

# Looked at of each file that is as long as another: so many parts, from its first byte to its last.
_PARTS, _PART_BYTES = 9, 2**14
# Of many files only the first, for each has to be opened; and of copies so many are named.
_MOST_FILES, _COPIES_NAMED = 2000, 4


def copies(names: Iterable[str]) -> list[str]:
    """Say which files are as long as another one and alike in all parts that are looked at: their frames count twice.

    Args:
        names: of different files.
    """
    sizes: dict[int, list[str]] = {}
    for name in names:
        try:
            sizes.setdefault(Path(name).stat().st_size, []).append(name)
        except OSError:
            continue
    first: dict[tuple[int, bytes], str] = {}
    found: dict[str, str] = {}
    left = _MOST_FILES
    for size, alike in sizes.items():
        for name in alike[:left] if size and len(alike) > 1 else ():
            left -= 1
            try:
                key = size, _parts_digest(Path(name), size)
            except OSError:
                continue
            if first.setdefault(key, name) != name:
                found[name] = first[key]
    lines = [
        f"{name} is as long as {other} and alike wherever it was looked at, so that its frames count twice; if it is a copy, "
        "leave one of them out"
        for name, other in found.items()
    ]
    more = len(lines) - _COPIES_NAMED
    return [*lines[:_COPIES_NAMED], *([f"and {more} more files are like others"] if more > 0 else [])]


def _parts_digest(path: Path, size: int) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for part in range(_PARTS):
            stream.seek(max(size - _PART_BYTES, 0) * part // (_PARTS - 1))
            digest.update(stream.read(_PART_BYTES))
    return digest.digest()
