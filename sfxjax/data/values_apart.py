"""Values that a plug-in of HDF5 decompresses, read in a process of their own: a damaged chunk may end that, and nothing else."""

from __future__ import annotations

import contextlib
import math
import os
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sfxjax.data.opening import DAMAGE, in_words, open_hdf5
from sfxjax.data.reader_process import ReaderGone, ReaderProcess
from sfxjax.errors import UserError

# Data sets that the process keeps open.
MOST_OPEN = 64
_LEAST_MEMORY = 2**20

Place = tuple[int | slice, ...]


def values_apart(data: h5py.Dataset, place: Place = (), growing: bool = False) -> np.ndarray:
    """Read a data set of numbers, or a part of it, in the process, which is started with the first.

    Args:
        data: of an open file.
        place: of the part; what it does not name is taken whole.
        growing: the file is still being written.

    Raises:
        UserError: it is damaged, ended the process, took it too long, or holds texts.
    """
    if data.dtype.kind not in "biufS" or data.name is None:
        raise UserError(f"{data.name}: values of type {data.dtype} that a plug-in decompresses are not read")
    lengths = [
        len(range(*at.indices(length))) if isinstance(at, slice) else None
        for at, length in zip(place, data.shape, strict=False)
    ]
    shape = (*(length for length in lengths if length is not None), *data.shape[len(place) :])
    request = {
        "file": os.path.abspath(data.file.filename),  # noqa: PTH100 - the process may be in another folder
        "name": data.name,
        "growing": growing,
        "place": [
            [*at.indices(length)] if isinstance(at, slice) else int(at)
            for at, length in zip(place, data.shape, strict=False)
        ],
        "shape": shape,
        "dtype": data.dtype.str,
    }
    return _THE_PROCESS.values(request, shape, data.dtype)


def forget_files() -> None:
    """Have the process close its files, so that those that have changed are opened anew."""
    _THE_PROCESS.forget()


class _Process:
    """The process, as far as it runs, used by one thread at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reader: ReaderProcess | None = None
        self._stale = False

    def values(self, request: dict[str, Any], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        size = math.prod(shape) * dtype.itemsize
        with self._lock:
            reader = self._with_memory(size)
            request, self._stale = request | {"forget": self._stale}, False
            try:
                _asked(reader, request)
                return reader.memory[:size].view(dtype).reshape(shape).copy()
            except UserError:
                raise
            except BaseException:
                # Its answer would pass for that to the next request.
                reader.stop()
                raise

    def forget(self) -> None:
        self._stale = True

    def _with_memory(self, size: int) -> ReaderProcess:
        if self._reader is None or self._reader.memory.size < size:
            if self._reader is not None:
                self._reader.stop()
            self._reader = ReaderProcess(_OpenSets, _answer, max(size, _LEAST_MEMORY))
        return self._reader


_THE_PROCESS = _Process()


def _asked(reader: ReaderProcess, request: dict[str, Any]) -> None:
    """Have the process read.

    Raises:
        UserError: by its word, or it ended twice, for another program may have ended it once, or did not answer.
    """
    for last in (False, True):
        try:
            with contextlib.suppress(ReaderGone):
                reader.send(request)
            reply = reader.receive()
        except ReaderGone as error:
            if last or not error.by_itself:
                raise UserError(f"reading it {error}; is the file damaged?") from error
        else:
            break
    if "error" in reply:
        raise UserError(reply["error"])


class _OpenSets:
    """Data sets that the process keeps open. A context manager."""

    def __init__(self) -> None:
        self._sets: dict[tuple[str, str], h5py.Dataset] = {}

    def __enter__(self) -> _OpenSets:
        with contextlib.suppress(ImportError):
            import hdf5plugin  # noqa: F401
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for data in self._sets.values():
            data.file.close()
        self._sets.clear()

    def get(self, file: str, name: str, growing: bool) -> h5py.Dataset:
        if (file, name) not in self._sets:
            if len(self._sets) >= MOST_OPEN:
                self.close()
            self._sets[file, name] = open_hdf5(Path(file), growing)[name]
        return self._sets[file, name]


def _answer(sets: _OpenSets, request: dict[str, Any], memory: np.ndarray) -> tuple[None, bytes]:
    """Read what is asked for into the memory."""
    place = tuple(slice(*at) if isinstance(at, list) else at for at in request["place"])
    dtype = np.dtype(request["dtype"])
    size = math.prod(request["shape"]) * dtype.itemsize
    if request["forget"]:
        sets.close()
    try:
        data = sets.get(request["file"], request["name"], request["growing"])
        data.read_direct(memory[:size].view(dtype).reshape(request["shape"]), place)
    except DAMAGE as error:
        raise UserError(in_words(error)) from error
    return None, b""
