"""Ctrl-C while a command of ours starts, which takes seconds of imports; imports next to nothing itself, so as to begin early."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

# The installed program.
_PROGRAMS = ("sfxjax", "sfxjax.exe")


def end_quietly_while_starting(package: str) -> None:
    """Let Ctrl-C end a command of ours with status 130 and a line while its modules are imported, which takes seconds.

    Nothing changes where the running program is another one, that uses this package, or does not hear Ctrl-C. `started` ends it.

    Args:
        package: in which this is called, whose commands are meant.
    """
    if _runs_command_of(package):
        _exchange_handler(signal.default_int_handler, _end_start)


def started() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again after `end_quietly_while_starting`."""
    _exchange_handler(_end_start, signal.default_int_handler)


def _exchange_handler(before: Any, after: Any) -> None:
    """Set what Ctrl-C does, if it is what it was; in other threads than the first it cannot be set."""
    if signal.getsignal(signal.SIGINT) is before and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, after)


def _end_start(*_: object) -> None:
    try:
        os.write(2, b"interrupted\n")
    finally:
        os._exit(128 + signal.SIGINT)


def _runs_command_of(package: str) -> bool:
    """Tell by the call of the interpreter whether it runs a module of a package, or the installed program."""
    words = iter(sys.orig_argv[1:])
    for word in words:
        if word in ("-X", "-W"):
            next(words, None)
        elif not word.startswith("-"):
            return word.replace("\\", "/").rpartition("/")[2] in _PROGRAMS
        elif not word.startswith("--") and word.endswith(("m", "c")):
            return word.endswith("m") and next(words, "").partition(".")[0] == package
    return False
