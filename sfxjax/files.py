"""Whole files or nothing: output is written beside its final name and renamed into place."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sfxjax.errors import UserError, explain_os_error

CACHE_VARIABLE = "SFXJAX_CACHE"

# A folder written here holds this empty file: only such a folder, or an empty one, is ever replaced.
FOLDER_MARK = ".written-by-sfxjax"


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write, which replaces `path` once the body has ended well.

    If the body fails, what it wrote is removed. A link is replaced, not followed: what it points to may be
    somebody's. The temporary path lies beside `path` and keeps its suffix, because writers such as matplotlib
    choose the format by it. Missing parent folders are made. What is written has reached the disk before the
    rename, so `path` always holds either the whole old content or the whole new one.

    Raises:
        UserError: `path` exists and is no regular file, or its parent is no folder.
        OSError: as the body, or the operating system, raises it.
    """
    target = Path(os.path.realpath(Path(path).parent), Path(path).name)
    if target.exists() and not target.is_file() and not target.is_symlink():
        raise UserError(f"{path} is not a regular file; name another output file")
    make_folder(target.parent)
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(4)}.part{target.suffix}")
    try:
        yield temporary
        _flush_to_disk(temporary)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_to_disk(target.parent)


def atomic_write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to `path` as `atomic_write` does."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def atomic_write_text(path: str | os.PathLike[str], content: str) -> None:
    """Write `content` to `path` in UTF-8, line ends as given, as `atomic_write` does; undecodable names keep their bytes."""
    atomic_write_bytes(path, content.encode("utf-8", "surrogateescape"))


def atomic_write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` to `path` as indented JSON, as `atomic_write` does.

    Raises:
        ValueError: a number is NaN or infinite, which JSON cannot hold.
        TypeError: `value` holds something JSON cannot.
    """
    atomic_write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def is_file(name: str | os.PathLike[str]) -> bool:
    """Tell whether a name is that of a file; one that no file can have is not."""
    return os.path.isfile(name)  # noqa: PTH113 - Path.is_file raises errors for names that are too long


def not_a_file(name: str | os.PathLike[str]) -> str:
    """Say what lies where a file was expected, or that it is a link to nothing or missing; empty for a file."""
    if is_file(name):
        return ""
    if os.path.isdir(name):  # noqa: PTH112 - as `is_file`
        return "a folder"
    if os.path.exists(name):  # noqa: PTH110
        return "a pipe or a device"
    return "a link to nothing" if os.path.islink(name) else "missing"  # noqa: PTH114


def refuse_pipe(path: str | os.PathLike[str]) -> None:
    """Refuse a pipe or a device where a file is to be read: opening one waits for a program that writes it.

    Raises:
        UserError: `path` is one.
    """
    if os.path.exists(path) and not (is_file(path) or os.path.isdir(path)):  # noqa: PTH110, PTH112 - as `is_file`
        raise UserError(f"{path}: a pipe or a device where a file was expected")


def read_bounded(path: str | os.PathLike[str], most: int, what: str) -> bytes:
    """Read a whole file that somebody wrote by hand or by a program, such as a geometry.

    Args:
        path: of the file.
        most: bytes it may hold.
        what: it should be, for the message.

    Raises:
        UserError: it cannot be read, is a pipe or a device, or holds more.
    """
    refuse_pipe(path)
    try:
        with Path(path).open("rb") as stream:
            content = stream.read(most + 1)
    except OSError as error:
        raise UserError(
            explain_os_error(error, path) or f"{path}: cannot be read ({error.strerror})"
        ) from error
    if len(content) > most:
        raise UserError(f"{path}: more than {most / 2**20:.0f} MiB; this is no {what}")
    return content


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a new empty folder to fill, which replaces `path` once the body has ended well.

    If the body fails, the new folder is removed. An old folder is moved aside, and deleted only once the new
    one stands; if the new one cannot be put in place the old one is moved back. So that a mistyped name
    destroys nothing, only an empty folder or one written by this function is replaced.

    Raises:
        UserError: `path` is a file or a folder of other origin, or its parent is no folder.
        OSError: as the body, or the operating system, raises it.
    """
    target = Path(os.path.realpath(path))
    _refuse_foreign_folder(target)
    make_folder(target.parent)
    token = secrets.token_hex(4)
    temporary = target.with_name(f".{target.name}.{token}.part")
    aside = target.with_name(f".{target.name}.{token}.old")
    try:
        temporary.mkdir()
        yield temporary
        (temporary / FOLDER_MARK).touch()
        _flush_tree_to_disk(temporary)
        # Looked at again: the body may have run for hours.
        _refuse_foreign_folder(target)
        _put_in_place(temporary, target, aside)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _flush_to_disk(target.parent)
    shutil.rmtree(aside, ignore_errors=True)


def open_unlinked(path: Path) -> int:
    """Open a file for reading and appending, or make it, unless it is a link: what that points to may be somebody's.

    Returns:
        The file's descriptor.

    Raises:
        UserError: a link, a pipe or a folder lies in its place, or it cannot be written.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    # A pipe would be waited for.
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        handle = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UserError(f"{path} is a symbolic link; remove it or name another folder") from error
        raise UserError(
            explain_os_error(error, path) or f"{path}: cannot be written ({error.strerror})"
        ) from error
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(handle)
        kind = "a link to another file" if stat.S_ISREG(status.st_mode) else "no regular file"
        raise UserError(f"{path} is {kind}; remove it or name another folder")
    return handle


def make_folder(folder: Path) -> None:
    """Make a folder for output, and those above it, unless it is there.

    Raises:
        UserError: something else has its name, or that of one above it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{folder} is not a folder; name another output folder") from error


@contextmanager
def only_process(folder: Path, work: str) -> Iterator[None]:
    """Keep other processes out of a folder, where the system has locks.

    Args:
        folder: it is there.
        work: what the processes do, such as "training".

    Raises:
        UserError: another process is at it.
    """
    lock = FileLock(folder / f".{work}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(
            f"another process is {work} into {folder}; wait for it, or name another folder"
        ) from error
    except (NotImplementedError, OSError):
        # The system or the folder has no locks, or somebody planted a link.
        yield
        return
    try:
        yield
    finally:
        # Unlinked while still held: whoever waits for it sees that the name is gone and makes a new file.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def remove_leftovers(folder: Path, names: Iterable[str]) -> None:
    """Remove what killed writers of these files and folders left beside them: call it where no other process writes them.

    Args:
        folder: that holds them.
        names: final names of the files and folders.
    """
    stems = "|".join(
        f"{re.escape(Path(name).stem)}\\.[0-9a-f]{{8}}\\.part{re.escape(Path(name).suffix)}"
        f"|{re.escape(name)}\\.[0-9a-f]{{8}}\\.(part|old)"
        for name in names
    )
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if not re.fullmatch(f"\\.({stems})", entry.name):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def user_cache_folder() -> Path:
    """Return the folder for files that can be made again: `$SFXJAX_CACHE`, or the platform's own.

    The folder may not exist yet.

    Raises:
        UserError: the variable is unset and platformdirs is not installed.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    try:
        import platformdirs
    except ImportError as error:
        raise UserError(
            f"set {CACHE_VARIABLE} to a folder for cached files, or install platformdirs"
        ) from error
    return Path(platformdirs.user_cache_path("sfxjax"))


def _put_in_place(temporary: Path, target: Path, aside: Path) -> None:
    replaces = target.exists()
    if replaces:
        os.rename(target, aside)
    try:
        os.rename(temporary, target)
    except BaseException:
        if replaces:
            os.rename(aside, target)
        raise


def _refuse_foreign_folder(target: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise UserError(f"{target} is not a folder; name another output folder")
    if not (target / FOLDER_MARK).is_file() and any(target.iterdir()):
        raise UserError(f"{target} holds files this program did not write; name another output folder")


def _flush_to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_tree_to_disk(folder: Path) -> None:
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            _flush_to_disk(Path(parent, name))
        _flush_to_disk(Path(parent))
