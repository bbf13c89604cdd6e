"""What a screening has found so far, kept on disk so that a killed one goes on where it was.

The journal is a `RecordFile`: what decides the results, then a record a batch of frames. Between them stand the states of the
frames' files when they were read, so that what was found of one run is never given to another, and the threshold of the lists.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from sfxjax.data.file_states import State, changed_files, joined_states, states_from_json
from sfxjax.errors import UserError
from sfxjax.files import remove_leftovers
from sfxjax.screen.lists import OUTPUTS
from sfxjax.screen.record_file import RecordFile, read_records

JOURNAL = "screening.journal"
FIRST_LIST = "frames.csv"


class KnownFrames(Protocol):
    """Where a journal puts what it holds of frames. A record is a list of parts, each with its `file`."""

    def put(self, record: list[dict[str, Any]]) -> None:
        """Add the frames of a record."""

    def forget(self, file: str | None = None) -> None:
        """Forget the frames of a file, by default all."""

    def forget_errors(self) -> None:
        """Forget the frames that are errors."""

    def known(self) -> Counter[str]:
        """Count the frames that are known, by file."""


class Journal:
    """The journal of one screening, open for adding records.

    Attributes:
        path: of the file.
        known: where what the journal holds is put.
        replaced: whether results of something else were there, or lists.
        renewed: whether what an earlier screening wrote besides the lists is out of date.
        bad_pixels: the last record of `add_bad_pixels`; None: there is none.
    """

    def __init__(
        self,
        path: Path,
        made_by: dict[str, Any],
        known: KnownFrames,
        decided_by: dict[str, Any] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Open a journal and take up what it holds; frames that were errors are to be tried again.

        Args:
            path: of the file, in the folder of the lists.
            made_by: what decides the results, ready for JSON, by its name for the user, such as "model".
            known: where to put what the journal holds.
            decided_by: what decides the lists beside the results, such as the threshold.
            overwrite: lists and results of anything else may be replaced.

        Raises:
            UserError: the folder holds lists, or results, of anything else; another process writes there.
        """
        self.path, self.known = path, known
        self.replaced = self.renewed = False
        self._overwrite = overwrite
        self.bad_pixels: Any = None
        self._made_by, self._decided_by = (
            json.loads(json.dumps(each)) for each in (made_by, decided_by or {})
        )
        self._decided: Any = None
        self._before: dict[str, list[State]] = {}
        self._now: dict[str, list[State]] = {}
        self._others: dict[Path, int] = {}
        self._file = RecordFile(path)
        try:
            self._take_up()
            # Of several processes that share a screening the first writes the lists.
            if path.suffix in (".journal", ".0"):
                remove_leftovers(path.parent, OUTPUTS)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Make sure that everything has reached the disk."""
        self._file.close()

    def add(self, record: list[dict[str, Any]]) -> None:
        """Add a record of frames, to the file and to what is known.

        Raises:
            OSError: the disk is full, or else cannot be written.
        """
        for name in dict.fromkeys(part["file"] for part in record):
            now = self._now.get(name)
            if now is not None and now != self._before.get(name):
                self._file.add({"file": name, "states": now})
                self._before[name] = now
        self._file.add(record)
        self.known.put(record)

    def add_bad_pixels(self, record: Any) -> None:
        """Record which pixels were found bad, ready for JSON, or None: what was known of frames before is not known any more."""
        self._file.add({"bad_pixels": record})
        self._forget_all(record)

    def check_files(
        self, states: dict[str, list[State]], same: Callable[[str], bool | None] = lambda name: False
    ) -> list[str]:
        """Forget the frames of files that were replaced since their frames were read.

        Args:
            states: of files by name, as they are now.
            same: tells of a file whether its frames are still those that were read; None: that cannot be told now.

        Returns:
            A line for the user about each.
        """
        lines = []
        known = self.known.known()
        for name, now in states.items():
            before = self._before.get(name)
            changed = changed_files(before, now) if before is not None else []
            still = same(name) if changed and known[name] else True
            if before is not None and still is None:
                # It is damaged, or amid its writing; it is asked about again.
                now = before
            elif not still:
                self._file.add({"forget": name})
                self._forget(name)
                self.renewed = True
                what = "" if changed[0] == name else f": {changed[0]}, which it links to,"
                lines.append(
                    f"{name}{what} has changed since it was screened: {known[name]} known frames are screened again"
                )
            elif before is not None:
                now = joined_states(before, now)
            self._now[name] = now
        return lines

    def states(self, name: str) -> list[State]:
        """Return the states of a file that `check_files` was told last."""
        return self._now.get(name, [])

    def check_given(self, files: Iterable[str]) -> None:
        """Refuse to replace the lists of other files.

        Args:
            files: names of those that the lists are to be of.

        Raises:
            UserError: results of other files are known, and may not be left out of the lists.
        """
        left = set(self.known.known()) - set(files)
        if left and not self._overwrite:
            raise UserError(
                f"{self.path.parent} holds a screening of other files, such as {min(left)}; "
                "name another --out, or give --overwrite"
            )
        self.renewed = self.renewed or bool(left)

    def lines(self) -> list[str]:
        """Say what of an earlier screening is used or replaced."""
        known = sum(count for name, count in self.known.known().items() if name in self._now)
        replaced = (
            [f"what {self.path.parent} holds of another screening is replaced"] if self.replaced else []
        )
        going_on = [f"{known} frames are known from an earlier start: going on"] if known else []
        return replaced + going_on

    def read_others(self, paths: Iterable[Path]) -> None:
        """Take results from other journals of the same screening, as far as they are new.

        Args:
            paths: of the files; one made by anything else is passed over.
        """
        for path in paths:
            states: dict[str, list[State]] = {}
            read = 0
            for record in read_records(path, made_by=self._made_by):
                read += 1
                if isinstance(record, dict):
                    if "states" in record:
                        states[record["file"]] = record["states"]
                elif read > self._others.get(path, 0):
                    kept = [part for part in record if self._is_of_now(part["file"], states)]
                    self.known.put(kept)
            self._others[path] = read

    def _is_of_now(self, name: str, states: dict[str, list[State]]) -> bool:
        """Tell whether another process read a file as it is now; two machines may count its inodes apart."""
        now = {path: (path, size, time, 0, 0) for path, size, time, *_ in self._now.get(name, [])}
        before = [(path, size, time, 0, 0) for path, size, time, *_ in states.get(name, [])]
        return not changed_files(before, list(now.values()))

    def _take_up(self) -> None:
        found = self._file.made_by
        if found == self._made_by:
            for record in self._file.records():
                self._take(record)
        elif found is None:
            self._decided = self._decided_beside()
            self.replaced = self._has_lists() and self._decided is None
            if self.replaced and not self._overwrite:
                raise UserError(
                    f"{self.path.parent} holds lists already; name another --out, or give --overwrite"
                )
        else:
            self.replaced = self._has_lists() or any(isinstance(each, list) for each in self._file.records())
            if self.replaced and not self._overwrite:
                raise self._made_otherwise(found, self._made_by)
        decided_otherwise = self._decided not in (None, self._decided_by) and self._has_lists()
        if decided_otherwise and not self._overwrite:
            raise self._made_otherwise(self._decided, self._decided_by)
        self.renewed = self.replaced or decided_otherwise
        if found != self._made_by:
            self._file.begin(self._made_by)
            self._decided = None
        if self._decided != self._decided_by:
            self._file.add({"decided_by": self._decided_by})
        self.known.forget_errors()

    def _take(self, record: Any) -> None:
        if isinstance(record, list):
            self.known.put(record)
        elif "states" in record:
            self._before[record["file"]] = states_from_json(record["states"])
        elif "forget" in record:
            self._forget(record["forget"])
        elif "bad_pixels" in record:
            self._forget_all(record["bad_pixels"])
        elif "decided_by" in record:
            self._decided = record["decided_by"]

    def _forget(self, name: str) -> None:
        self.known.forget(name)
        self._before.pop(name, None)

    def _forget_all(self, bad_pixels: Any) -> None:
        self.bad_pixels = bad_pixels
        self.known.forget()
        self._before.clear()
        self._others.clear()

    def _has_lists(self) -> bool:
        return (self.path.parent / FIRST_LIST).exists()

    def _beside(self) -> Iterator[Path]:
        """Give the journals of other processes in the folder."""
        return (path for path in sorted(self.path.parent.glob(f"{JOURNAL}*")) if path.name != self.path.name)

    def _decided_beside(self) -> Any:
        return next((found for path in self._beside() if (found := self._decisions(path))), None)

    def _decisions(self, path: Path) -> Any:
        """Return what decided the lists of another journal made by the same; None where it is not."""
        found = None
        for record in read_records(path, made_by=self._made_by):
            found = record["decided_by"] if isinstance(record, dict) and "decided_by" in record else found
        return found

    def _made_otherwise(self, before: dict[str, Any], now: dict[str, Any]) -> UserError:
        names = [name for name in now if name in before and before[name] != now[name]]
        what = " and ".join(names[:3]) or "version of sfxjax"
        return UserError(
            f"{self.path.parent} holds a screening with another {what}; name another --out, or give --overwrite"
        )
