"""Ctrl-C that always ends a program within two seconds, and processes that end with the one that started them.

Python acts upon Ctrl-C only between two of its own instructions: not while a program is compiled, nor while a library waits for a
file server; and a program that is ended amid compiling can crash on its way out. Here a thread is told by the system itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

# Seconds in which a program may end in order after Ctrl-C, and in which its last words may be written.
GRACE, LAST_WORDS = 0.8, 1.0

_last_words: list[Callable[[], object]] = []
_threads: list[threading.Thread] = []
_said = threading.Lock()
_usual_end = threading.Event()


@contextlib.contextmanager
def last_words(action: Callable[[], object]) -> Iterator[None]:
    """Have something done if the body is interrupted, such as writing the lists of what is known by then.

    Args:
        action: is called once, perhaps in another thread while the body still runs.
    """
    _last_words.append(action)
    try:
        yield
    except KeyboardInterrupt:
        say_last_words()
        raise
    finally:
        if action in _last_words:
            _last_words.remove(action)


def ctrl_c_is_the_usual_end() -> None:
    """Let the program end with its own status after Ctrl-C from now on, unless it has not ended within a moment."""
    _usual_end.set()


def say_last_words() -> None:
    """Do what `last_words` was given, the latest first; what goes wrong in it is of no use to anybody any more."""
    with _said:
        while _last_words:
            with contextlib.suppress(Exception):
                _last_words.pop()()


def may_be_broken_off(threads: Iterable[threading.Thread]) -> None:
    """Let the program end though these threads may still be at work, such as compiling, whose results nobody waits for."""
    _threads.extend(threads)


def are_at_work() -> bool:
    """Tell whether a thread of `may_be_broken_off` still works: the interpreter's own end would crash amid its C++ code."""
    return any(thread.is_alive() for thread in _threads)


@contextlib.contextmanager
def ends_when_interrupted(leave: Callable[[], None]) -> Iterator[threading.Event]:
    """Call `leave` after Ctrl-C if the body has not ended by itself within a moment.

    Only the main thread of a program can be interrupted; elsewhere this does nothing.

    Args:
        leave: ends the process.

    Yields:
        Whether Ctrl-C was pressed, where it is not the usual end.
    """
    pressed, ended = threading.Event(), threading.Event()
    _usual_end.clear()
    _threads.clear()
    try:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    except ValueError:
        yield pressed
        return

    def watch() -> None:
        while content := ours.recv(16):
            if signal.SIGINT not in content:
                continue
            if not _usual_end.is_set():
                pressed.set()
            if ended.wait(GRACE):
                return
            words = threading.Thread(target=say_last_words, daemon=True)
            words.start()
            words.join(LAST_WORDS)
            if not ended.is_set():
                leave()

    thread = threading.Thread(target=watch, daemon=True, name="interrupts")
    thread.start()
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if usual:
        signal.signal(signal.SIGINT, _raise_where_it_harms_nothing)
    try:
        yield pressed
    finally:
        if usual:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        ended.set()
        signal.set_wakeup_fd(before)
        theirs.close()
        thread.join()
        ours.close()


def _raise_where_it_harms_nothing(_: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, but not amid an import or in JAX, whose C++ code ends the program then: the watch ends it soon."""
    while frame is not None:
        name = frame.f_code.co_filename.replace("\\", "/")
        if name.startswith("<frozen importlib") or "/jax/" in name:
            return
        frame = frame.f_back
    raise KeyboardInterrupt


@contextlib.contextmanager
def kept_from_children() -> Iterator[None]:
    """Keep Ctrl-C from the processes that the body starts, which end with their parent; here it is heard after the body."""
    mask = getattr(signal, "pthread_sigmask", None)
    if mask is None:
        yield
        return
    before = mask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        mask(signal.SIG_SETMASK, before)


def unraised_in_silence() -> None:
    """Say nothing of a Ctrl-C that Python took up where nothing can be raised, as in a call of its garbage collector."""
    told = sys.unraisablehook

    def tell(about: Any) -> None:
        if not issubclass(about.exc_type, KeyboardInterrupt):
            told(about)

    sys.unraisablehook = tell


def end_with(lifeline: Any) -> None:
    """Have this process ended by the system as soon as the other end of a pipe closes, whatever it waits for.

    Args:
        lifeline: a `multiprocessing` connection through which nothing is sent, whose other end the parent holds.
    """
    try:
        import fcntl

        owner, asynchronous = fcntl.F_SETOWN, os.O_ASYNC
    except (ImportError, AttributeError):
        threading.Thread(target=_wait_and_end, args=(lifeline,), daemon=True).start()
        return
    # Unless it is handled the signal ends a process, even one inside a library's call.
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(lifeline.fileno(), owner, os.getpid())
    flags = fcntl.fcntl(lifeline.fileno(), fcntl.F_GETFL)
    fcntl.fcntl(lifeline.fileno(), fcntl.F_SETFL, flags | asynchronous)
    if lifeline.poll(0):
        os._exit(1)


def _wait_and_end(lifeline: Any) -> None:
    with contextlib.suppress(OSError, EOFError):
        lifeline.poll(None)
    os._exit(1)
