"""Faults of the user's input or machine, reported as one line instead of a traceback."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import NoReturn

from sfxjax.interrupts import are_at_work, ends_when_interrupted, unraised_in_silence
from sfxjax.starting import started
from sfxjax.text import message_line

EXIT_SOME_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_CRASHED = 70
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
NO_MEMORY = "this does not fit into memory; take smaller batches, or fewer frames or readers at once"
# Seconds until it is known that a key was pressed.
MOMENT = 0.1
INTERRUPTED = "interrupted; give the same command to go on"

_installed_name = ""

_FULL_DISK = {errno.ENOSPC, errno.EDQUOT}
_NO_PERMISSION = {errno.EACCES, errno.EPERM, errno.EROFS}
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR}
# What a file's name, a file server or a disk can be at fault for, and no program.
_OF_THE_MACHINE = {
    getattr(errno, name)
    for name in (
        *(
            "ENAMETOOLONG",
            "ELOOP",
            "EIO",
            "ESTALE",
            "ETIMEDOUT",
            "EHOSTDOWN",
            "EREMOTEIO",
            "ENOTCONN",
            "EFBIG",
        ),
        *("EMFILE", "ENFILE", "ENOMEM", "ENXIO", "ENODEV", "EBUSY", "EILSEQ"),
    )
    if hasattr(errno, name)
}


class UserError(Exception):
    """A fault the user can mend: the message is one printable line saying what is wrong and what to do."""

    def __init__(self, text: str) -> None:
        super().__init__(message_line(text))


def explain_os_error(error: OSError, path: str | os.PathLike[str] | None = None) -> str | None:
    """Return one line for the operating-system errors a user can mend, None for any other.

    HDF5 reports some errors as an OSError without `errno` and with the number inside its text, so the text is
    looked at too.

    Args:
        error: what was raised.
        path: the file it is about, for errors that do not name theirs.
    """
    name = error.filename if path is None else os.fspath(path)
    place = "" if name is None else f": {name}"
    text = str(error)
    if error.errno in _FULL_DISK or any(f"errno = {number}," in text for number in _FULL_DISK):
        return f"the disk is full{place}; free some space or name another output folder"
    if error.errno in _NO_PERMISSION:
        return f"permission denied{place}; check who may read or write there"
    if error.errno in _NOT_THERE:
        return f"no such file or folder{place}"
    if error.errno == errno.EISDIR:
        return f"a folder where a file was expected{place}"
    if error.errno is not None and error.errno in _OF_THE_MACHINE:
        return f"{os.strerror(error.errno).lower()}{place}; try again, or name another file"
    return None


def run_main(main: Callable[[], int | None], program: str | None = None) -> int:
    """Run a program's main function and return its exit status.

    Meant for `sys.exit(run_main(main))` at the end of a module. `UserError`, a full disk, a refused or
    missing file and Ctrl-C each become one line `program: error: ...` on standard error; every other
    exception is a fault of the program: it shows its traceback, and the status is one that no program gives otherwise.

    Args:
        main: takes nothing and returns an exit status, None meaning 0.
        program: the name to print; by default the name of the running module or script.

    Returns:
        `main`'s status; 2 for a fault of the input or the machine; 70 for one of the program; 130 after Ctrl-C; 141 where nobody
        reads the output.
    """
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        # Names of files outside the terminal's encoding are shown, not a reason to end.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    started()
    unraised_in_silence()
    with ends_when_interrupted(lambda: _leave(program)) as pressed:
        status = _status(main, program, pressed)
        if pressed.wait(MOMENT):
            # Whatever it was taken for on its way. The interpreter's own end crashes where libraries are amid their work.
            _leave(program)
    if status > EXIT_SOME_FAILED:
        for call in _AT_FAILURE:
            call(status)
    if are_at_work():
        _end(status)
    return status


def _open_closed_streams() -> None:
    """Open input, output or errors to nowhere where whoever started the program closed them.

    The next file to be opened would take their place, and what a library prints would be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free, which is this one.
            os.open(os.devnull, os.O_RDWR)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115


_AT_FAILURE: list[Callable[[int], None]] = []


def at_failure(call: Callable[[int], None]) -> None:
    """Have something called before a command ends that did not do its work; it is told the status."""
    _AT_FAILURE.append(call)


def _leave(program: str | None) -> None:
    _complain(program, INTERRUPTED)
    for call in _AT_FAILURE:
        call(EXIT_INTERRUPTED)
    _end(EXIT_INTERRUPTED)


def _end(status: int) -> NoReturn:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(status)


def _status(main: Callable[[], int | None], program: str | None, pressed: threading.Event) -> int:
    try:
        status = main() or 0
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        if not pressed.wait(MOMENT):
            _complain(program, INTERRUPTED)
        return EXIT_INTERRUPTED
    except SystemExit as ended:
        # A parser has said what is wrong with the options, or shown its help.
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except UserError as error:
        _complain(program, str(error))
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has enough.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except OSError as error:
        explanation = explain_os_error(error)
        if explanation is None:
            return _crashed()
        _complain(program, explanation)
    except MemoryError:
        _complain(program, NO_MEMORY)
    except Exception as error:
        if pressed.wait(MOMENT):
            # What a library makes of an interrupt amid its work.
            return EXIT_INTERRUPTED
        if "RESOURCE_EXHAUSTED" in str(error):
            # What JAX says where a device's memory is full.
            _complain(program, NO_MEMORY)
            return EXIT_USER_ERROR
        if "Unable to initialize backend" not in str(error):
            return _crashed()
        # What JAX says where JAX_PLATFORMS names what is not there.
        chosen = os.environ.get("JAX_PLATFORMS", "")
        _complain(
            program,
            f"JAX_PLATFORMS={chosen} cannot be had here ({str(error).splitlines()[0]}); unset it or set it to cpu",
        )
    return EXIT_USER_ERROR


def _crashed() -> int:
    traceback.print_exc()
    return EXIT_CRASHED


def command_name(module: str) -> str:
    """Return how the running command was called: as the installed `sfxjax`, or as a module by `python -m`.

    Args:
        module: such as `train.dann`.
    """
    return _installed_name or f"python -m {module}"


def is_installed_command() -> bool:
    """Tell whether the running command was called by the installed `sfxjax`."""
    return bool(_installed_name)


def called_as(name: str) -> None:
    """Let the command that runs know that it was called by the installed `sfxjax`, such as `sfxjax train dann`."""
    global _installed_name
    _installed_name = name


def _complain(program: str | None, text: str) -> None:
    print(f"{program or _program_name()}: error: {message_line(text)}", file=sys.stderr, flush=True)


def _program_name() -> str:
    if _installed_name:
        return _installed_name
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is not None:
        return str(spec.name).removesuffix(".__main__")
    return sys.argv[0].replace("\\", "/").rsplit("/", 1)[-1] or "python"
