"""A process that reads frames, and what to do when a damaged file ends or stops it."""

from __future__ import annotations

import contextlib
import ctypes
import json
import multiprocessing
import signal
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from sfxjax.data.frames import ReadOptions
from sfxjax.data.serving import Answer, serve
from sfxjax.errors import UserError
from sfxjax.interrupts import kept_from_children

TIMEOUT = 120.0


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
        options: what the user says about the files.
        answer: what the process does with a request; it is imported there by its name.
        memory_size: bytes that both share.
        timeout: seconds after which a silent process is given up.

    Attributes:
        memory: uint8 (memory_size,).
    """

    def __init__(
        self, options: ReadOptions, answer: Answer, memory_size: int, timeout: float = TIMEOUT
    ) -> None:
        self._options = options
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
            request: see `sfxjax.data.serving`.
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
            target=serve, args=(theirs, self._options.to_json(), self._memory, end, self._answer), daemon=True
        )
        # Begun before, since it hears Ctrl-C again as soon as that process of Python's own is begun.
        if hasattr(signal, "pthread_sigmask"):
            resource_tracker.ensure_running()
        with kept_from_children():
            self._process.start()
        theirs.close()
        end.close()
        self._pipe = ours
