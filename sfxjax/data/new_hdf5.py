"""An HDF5 file that is written: a full or failing disk is an error like any other, not the crash that HDF5 makes of it."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import h5py


class NewHDF5(h5py.File):
    """A file that is written from its beginning, as a context manager.

    HDF5 cannot discard what it could not write: it tries again when the file is closed, and when that fails too the process
    crashes at its end. So a failure is hidden from HDF5, and raised by `check` and once the file is closed.

    Args:
        path: of the file; it must not exist.
        named: what it will be called, for errors.
    """

    def __init__(self, path: Path, named: Path | None = None) -> None:
        self._named, self._sink = named, _Sink(path, "x+")
        try:
            super().__init__(self._sink, "w")
        except BaseException:
            self._sink.close()
            raise

    def check(self) -> None:
        """Tell whether all that was written could be, so that nothing more is made ready in vain.

        Raises:
            OSError: it could not.
        """
        fault = self._sink.fault
        if fault is not None:
            name = None if self._named is None else str(self._named)
            raise OSError(fault.errno, fault.strerror, name) from fault

    def close(self) -> None:
        """Write what is left, and close the file.

        Raises:
            OSError: not all could be written.
        """
        try:
            super().close()
        except Exception:
            # What HDF5 says of parts of its file that are missing.
            self.check()
            raise
        finally:
            self._sink.close()
        self.check()


class _Sink(io.FileIO):
    """A file that keeps its first failed write in `fault`, and from then on swallows what is written to it."""

    fault: OSError | None = None

    def write(self, content: Any, /) -> int:
        view = memoryview(content).cast("B")
        rest = view
        while rest and self.fault is None:
            try:
                rest = rest[os.write(self.fileno(), rest) :]
            except OSError as error:
                self.fault = error
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        if self.fault is None:
            try:
                return super().truncate(size)
            except OSError as error:
                self.fault = error
        return 0 if size is None else size
