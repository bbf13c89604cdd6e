"""Records on disk that a killed process can go on with: appended one by one, each whole or not there."""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from sfxjax.errors import UserError
from sfxjax.files import open_unlinked

FORMAT = 2
# Seconds after which what was appended is made to reach the disk: what a machine without power may lose; a kill loses nothing.
SYNC_SECONDS = 5.0


class RecordFile:
    """A file of records, open for appending in one process at a time. A context manager.

    The file is text: a line that says by what the records were made, then a line a record, each JSON with a checksum. A record
    counts once its whole line is there; what a killed process left of one is cut off when the file is opened.

    Attributes:
        path: of the file.
        made_by: what the records there were made by; None where there is nothing yet, then call `begin`.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, or make it.

        Args:
            path: of the file.

        Raises:
            UserError: another process has it open, a link or another program's file lies in its place, or it cannot be written.
        """
        self.path = path
        self._handle = open_unlinked(path)
        try:
            _lock(self._handle, path)
            self.made_by, self._length = _begun(path)
        except BaseException:
            os.close(self._handle)
            raise
        if os.fstat(self._handle).st_size > self._length:
            os.ftruncate(self._handle, self._length)
        self._synced = time.monotonic()

    def __enter__(self) -> RecordFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def begin(self, made_by: dict[str, Any]) -> None:
        """Drop all records, and say by what the next ones are made.

        Args:
            made_by: ready for JSON.
        """
        os.ftruncate(self._handle, 0)
        self._length = 0
        self.made_by = json.loads(json.dumps(made_by))
        self.add({"format": FORMAT, "made_by": made_by})

    def records(self) -> Iterator[Any]:
        """Read the records, in order."""
        return read_records(self.path)

    def add(self, record: Any) -> None:
        """Append a record, ready for JSON.

        Raises:
            OSError: the disk is full, or else cannot be written; the file is as it was before.
        """
        line = _line(record)
        written = 0
        try:
            while written < len(line):
                written += os.write(self._handle, line[written:])
        except OSError:
            os.ftruncate(self._handle, self._length)
            raise
        self._length += len(line)
        now = time.monotonic()
        if now - self._synced > SYNC_SECONDS:
            os.fsync(self._handle)
            self._synced = now

    def close(self) -> None:
        """Make sure that everything has reached the disk, and let other processes open the file."""
        if self._handle >= 0:
            handle, self._handle = self._handle, -1
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def read_records(path: Path, first: int = 0, made_by: dict[str, Any] | None = None) -> Iterator[Any]:
    """Read the whole records of a file, which another process may be writing.

    Args:
        path: of the file.
        first: so many are passed over.
        made_by: of a file made by anything else nothing is read; None: of any.
    """
    try:
        lines = _whole_lines(path)
        header = next(lines, None)
        if header is None or (made_by is not None and _header(path, header) != made_by):
            return
        for number, line in enumerate(lines):
            if number >= first:
                yield json.loads(line)
    except FileNotFoundError:
        return


def _begun(path: Path) -> tuple[dict[str, Any] | None, int]:
    """Return what a file's records were made by, None where it is yet to be said, and the length of its whole lines in bytes."""
    made_by: dict[str, Any] | None = None
    length = 0
    for line in _whole_lines(path):
        if made_by is None:
            made_by = _header(path, line)
        length += len(line) + _FRAMING_BYTES
    if made_by is None:
        with path.open("rb") as stream:
            if b"\n" in stream.read(2**20):
                raise UserError(
                    f"{path} is no journal of sfxjax, or damaged; remove it or name another folder"
                )
    return made_by, length


def _header(path: Path, line: bytes) -> dict[str, Any]:
    header = json.loads(line)
    if not isinstance(header, dict) or "format" not in header:
        raise UserError(f"{path} is no journal of sfxjax; remove it or name another folder")
    # Other versions said it in other words.
    return header["made_by"] if header["format"] == FORMAT else {"format": header["format"]}


_FRAMING_BYTES = len(b"01234567 " + b"\n")


def _line(value: Any) -> bytes:
    content = json.dumps(value, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(content), content)


def _whole_lines(path: Path) -> Iterator[bytes]:
    """Give the content of each line, up to the first that is not whole."""
    with path.open("rb") as stream:
        for line in stream:
            checksum, _, content = line.partition(b" ")
            if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(content[:-1]):
                return
            yield content[:-1]


def _lock(handle: int, path: Path) -> None:
    """Keep other processes out of a file until this one ends or closes it, where the system can."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"another process is writing into {path.parent}; wait for it, or name another folder"
        ) from None
    except OSError:
        # Some network file systems have no locks.
        return
