"""A process that reads frames, and what to do when a damaged file ends or stops it."""

from __future__ import annotations

import contextlib
import ctypes
import json
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any

import numpy as np

from sfxjax.data.opening import in_words
from sfxjax.errors import UserError
from sfxjax.interrupts import end_with, kept_from_children

TIMEOUT = 120.0
MEMORY_LIMIT = 6 * 2**30
# Of the C library's allocator: what it is told by, and how many bytes. Blocks of that size are the largest that it can keep.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = (-1, 64 * 2**20), (-3, 32 * 2**20)

# Takes what reads, a request and the shared memory, uint8; gives a value for JSON, and bytes or none.
Answer = Callable[[Any, dict[str, Any], np.ndarray], tuple[Any, bytes]]


class ReaderGone(Exception):
    """The process ended or was ended; the text says how, to follow "reading it".

    Attributes:
        by_itself: whether it ended, and was not given up for its silence.
    """

    def __init__(self, how: str, by_itself: bool = True) -> None:
        super().__init__(how)
        self.by_itself = by_itself


class ReaderProcess:
    """One process, its pipe and the memory shared with it. It is started when something is sent to it.

    Args:
        opened: gives, in the process, a context manager of what reads.
        answer: what the process does with a request; it is imported there by its name.
        memory_size: bytes that both share.
        timeout: seconds after which a silent process is given up.

    Attributes:
        memory: uint8 (memory_size,).
    """

    def __init__(
        self,
        opened: Callable[[], contextlib.AbstractContextManager[Any]],
        answer: Answer,
        memory_size: int,
        timeout: float = TIMEOUT,
    ) -> None:
        self._opened = opened
        self._answer = answer
        self._timeout = timeout
        self._context = multiprocessing.get_context("spawn")
        self._memory = self._context.RawArray(ctypes.c_uint8, memory_size)
        self.memory: np.ndarray = np.frombuffer(memoryview(self._memory), np.uint8)
        self._process: Any = None
        self._pipe: Connection | None = None
        self._lifeline: Connection | None = None
        self._ended: ReaderGone | None = None

    def hang_up(self) -> None:
        """Close the pipe, upon which the process ends by itself if it waits for requests."""
        if self._pipe is not None:
            self._pipe.close()

    def stop(self) -> None:
        """End the process."""
        if self._process is None:
            return
        self.hang_up()
        self._process.join(0.5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process, self._pipe = None, None

    def call(self, request: dict[str, Any], about: str, timeout: float | None = None) -> tuple[Any, bytes]:
        """Ask for something, and wait for it.

        Args:
            request: that `answer` takes.
            about: what an error is about.
            timeout: seconds; None: those of the process.

        Raises:
            UserError: by the process's word, or it ended or did not answer.
        """
        with contextlib.suppress(ReaderGone):
            self.send(request)
        return self.answer(about, timeout)

    def answer(self, about: str, timeout: float | None = None) -> tuple[Any, bytes]:
        """Wait for the answer to what was sent; see `call`."""
        try:
            reply = self.receive(timeout)
            content = self._receive(self._timeout) if reply.get("bytes") else b""
        except ReaderGone as error:
            raise UserError(f"{about}: reading it {error}; is the file damaged?") from error
        if "error" in reply:
            raise UserError(reply["error"])
        return reply["value"], content

    def send(self, request: dict[str, Any]) -> None:
        """Send a request.

        Raises:
            ReaderGone: the process ended, and no `receive` has told so yet, without which answers would pass for those of
                other requests.
        """
        if self._ended is not None:
            raise self._ended
        if self._pipe is None:
            self._start()
        assert self._pipe is not None
        try:
            self._pipe.send_bytes(json.dumps(request).encode())
        except (OSError, ValueError):
            self._ended = self._gone()
            raise self._ended from None

    def receive(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait for what the process says of the oldest request that it has not answered: a `value`, or an `error`.

        Raises:
            ReaderGone: the process ended, or was ended because it did not answer in time.
        """
        return dict(json.loads(self._receive(self._timeout if timeout is None else timeout)))

    def _receive(self, timeout: float) -> bytes:
        if self._ended is not None:
            ended, self._ended = self._ended, None
            raise ended
        assert self._pipe is not None
        try:
            if self._pipe.poll(timeout):
                return self._pipe.recv_bytes()
        except (EOFError, OSError):
            raise self._gone() from None
        raise self._gone(f"took longer than {timeout:.0f} s")

    def _gone(self, how: str | None = None) -> ReaderGone:
        """Clear away the process, and say how it ended."""
        by_itself = how is None
        if how is None:
            self._process.join(1.0)
            code = self._process.exitcode
            ended_by = signal.Signals(-code).name if code is not None and code < 0 else f"status {code}"
            how = f"ended the reader ({ended_by})"
        self._process.kill()
        self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process, self._pipe = None, None
        return ReaderGone(how, by_itself)

    def _start(self) -> None:
        ours, theirs = self._context.Pipe()
        # Closed by the system when this process ends, however it does.
        self._lifeline, end = self._context.Pipe()
        self._process = self._context.Process(
            target=serve, args=(theirs, self._opened, self._memory, end, self._answer), daemon=True
        )
        # Begun before, since it hears Ctrl-C again as soon as that process of Python's own is begun.
        if hasattr(signal, "pthread_sigmask"):
            resource_tracker.ensure_running()
        with kept_from_children(), _without_main():
            self._process.start()
        theirs.close()
        end.close()
        self._pipe = ours


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Keep the process that the body starts from running the program's own file, which may do its work when it is imported."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def serve(
    pipe: Connection,
    opened: Callable[[], contextlib.AbstractContextManager[Any]],
    memory: Any,
    lifeline: Connection,
    answer: Answer,
) -> None:
    """Answer requests until the pipe closes; what a reader process runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(lifeline)
    _limit_memory()
    _keep_freed_memory()
    view = np.frombuffer(memory, np.uint8)
    with opened() as reader, contextlib.suppress(EOFError, OSError):
        while True:
            request = json.loads(pipe.recv_bytes())
            content: bytes = b""
            try:
                value, content = answer(reader, request, view)
                reply = {"value": value, "bytes": bool(content)}
            except UserError as error:
                reply = {"error": str(error)}
            except MemoryError:
                reply = {"error": f"{_about(request)}: does not fit into memory; is the file damaged?"}
            except Exception as error:  # A damaged file can make a library raise anything.
                reply = {"error": f"{_about(request)}: cannot be read: {in_words(error)}"}
            pipe.send_bytes(json.dumps(reply).encode())
            if content:
                pipe.send_bytes(content)


def _limit_memory() -> None:
    """Bound this process's memory, where the system can, against files of absurd sizes."""
    if sys.platform != "linux":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY_LIMIT if hard == resource.RLIM_INFINITY else min(MEMORY_LIMIT, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _keep_freed_memory() -> None:
    """Have memory for the next frame be that of the last one: what the system gives anew it clears first, page by page.

    That takes longer than to unpack a frame's crop.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(None)
            for number, size in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
                library.mallopt(number, size)


def _about(request: dict[str, Any]) -> str:
    return str(request.get("file") or request.get("stack", {}).get("file") or "the frames")
