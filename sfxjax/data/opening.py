"""An HDF5 file opened, and in words what is wrong with one that cannot be read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from sfxjax.errors import UserError, explain_os_error
from sfxjax.files import refuse_pipe

# What h5py raises of damaged files, besides MemoryError.
DAMAGE = (OSError, RuntimeError, ValueError, TypeError, KeyError, UnicodeError)

# What the library says begins so; the rest names a place in its code.
_OF_HDF5 = re.compile(r"^['\"]?(Unable to|Can't|Can not|Cannot|Couldn't) .*\(.*\)")
_PLAINER = (
    (re.compile("filter returned failure"), "the compressed values cannot be unpacked"),
    (re.compile("required filter"), "a filter that it was compressed by is missing; install hdf5plugin"),
    (re.compile("checksum"), "a checksum in it does not fit"),
    (
        re.compile(r"truncated|overflow|past end|EOA|\beof\b|temporary file space|file read failed"),
        "it is cut short, or names places behind its end",
    ),
)


def open_hdf5(path: Path, growing: bool = False) -> h5py.File:
    """Open a file for reading.

    Args:
        path: of the file.
        growing: it is still being written.

    Raises:
        UserError: it is missing, not HDF5, or damaged.
    """
    refuse_pipe(path)
    try:
        if growing:
            try:
                # Only files of the newest format have a mode for reading while they are written.
                return h5py.File(path, "r", swmr=True, libver="latest", locking=False)
            except (OSError, ValueError):
                pass
        return h5py.File(path, "r", locking=False)
    except (OSError, RuntimeError, ValueError) as error:
        reason = first_line(error)
        if "truncated" in reason:
            sizes = re.search(r"\beof = (\d+).*stored_eof = (\d+)", reason)
            left = f" ({int(sizes[1]):,} of {int(sizes[2]):,} bytes are there)" if sizes else ""
            raise UserError(f"{path}: the file is cut short; fetch it again{left}") from error
        if any(words in reason for words in ("SWMR", "open for write", "consistency flags")):
            raise UserError(
                f"{path}: another program writes it; give --follow to read what it writes, or wait until it is closed"
            ) from error
        if "signature not found" in reason:
            empty = path.stat().st_size == 0
            raise UserError(f"{path}: {'the file is empty' if empty else 'not an HDF5 file'}") from error
        explained = explain_os_error(error, path) if isinstance(error, OSError) else None
        raise UserError(explained or f"{path}: is damaged: {in_words(error)}") from error


@contextmanager
def damage_named(where: str) -> Iterator[None]:
    """Raise a UserError about a file in place of what h5py raises where it is damaged.

    Args:
        where: the file, and what of it is read.
    """
    try:
        yield
    except MemoryError as error:
        raise UserError(f"{where}: does not fit into memory; is the file damaged?") from error
    except DAMAGE as error:
        explained = explain_os_error(error) if isinstance(error, OSError) else None
        raise UserError(f"{where}: {explained or f'is damaged: {in_words(error)}'}") from error


def in_words(error: BaseException) -> str:
    """Say what is wrong with what could not be read: in words of its own where HDF5 has only those of its code."""
    explained = explain_os_error(error) if isinstance(error, OSError) else None
    text = first_line(error)
    if explained or not _OF_HDF5.search(text):
        return explained or text
    return next(
        (words for sign, words in _PLAINER if sign.search(text)), "its inner structure makes no sense"
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's text, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
