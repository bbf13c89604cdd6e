"""Finds frames by what other programs call them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sfxjax.errors import UserError


def whole_number(digits: str) -> int:
    """Return the number that a text of digits is, at most 10^9: counts of frames and spots are less, whatever a file says."""
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) < 10 else 10**9


class Places:
    """Finds a frame by its file, as given, by its whole path or by its name alone, and its event.

    Attributes:
        frames: (file, event) of each.
    """

    def __init__(self, frames: Sequence[tuple[str, str]]) -> None:
        self.frames = frames
        self._places: dict[tuple[str, str], int] = {}
        for place, (file, event) in enumerate(frames):
            self._places[file, _event(event)] = place
            if not event:
                # The only image of a file is its first as well.
                self._places[file, "//0"] = place
        self._files: tuple[dict[str, set[str]], ...] = ({}, {}, {})
        for file in dict.fromkeys(file for file, _ in frames):
            for known, name in zip(self._files, _names(file), strict=True):
                known.setdefault(name, set()).add(file)

    def find(self, file: str, event: str, where: str) -> int:
        """Return the place of a frame.

        Raises:
            UserError: there is none such, or several files have the name.
        """
        place = self.get(file, event, where)
        if place is None:
            raise UserError(f"{where}: there is no frame {event} in {file}")
        return place

    def get(self, file: str, event: str, where: str) -> int | None:
        """Return the place of a frame, None where there is none such.

        Raises:
            UserError: several files have the name.
        """
        own = self.file(file, where)
        return None if own is None else self._places.get((own, _event(event)))

    def file(self, file: str, where: str) -> str | None:
        """Return the file of the frames that is meant, None where there is none such.

        Raises:
            UserError: several files have the name.
        """
        if "\0" in file:
            return None
        for known, name in zip(self._files, _names(file), strict=True):
            files = known.get(name, set())
            if len(files) > 1:
                raise UserError(f"{where}: {len(files)} files are named {name}; write the paths of the files")
            for only in files:
                return only
        return None


def _names(file: str) -> tuple[str, str, str]:
    path = Path(file)
    return file, str(path.resolve()), path.name


def _event(text: str) -> str:
    """Write an event in one way: `//5` and `5` are the same frame, and `'=a//5` is how a table has `=a//5`."""
    text = text[1:] if text[:2] in ("'=", "'+", "'-", "'@") else text
    return text if "//" in text or not text else f"//{text}"
