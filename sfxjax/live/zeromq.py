"""Receives the messages of a stream over ZeroMQ, whatever they hold, for hours, and takes a source up again that went away."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

from sfxjax.errors import UserError
from sfxjax.extensions import optional
from sfxjax.live.frames import Faults, LiveFrame, MessageError
from sfxjax.live.sources import known_streams

# Larger messages end the connection, and ZeroMQ makes a new one.
MOST_MESSAGE_BYTES = 2**30
MOST_MESSAGE_PARTS = 1024
# Messages that ZeroMQ itself keeps: the buffer that counts is `sfxjax.live.sampling`.
WAITING = 8
RECEIVE_POLL_SECONDS = 0.2
# After so long without an answer a request is made anew, on a new connection.
ANSWER_SECONDS = 10.0
_ADDRESS = re.compile(r"(tcp|ipc|inproc)://\S+")


def is_address(text: str) -> bool:
    """Tell whether a text is an address of ZeroMQ."""
    return _ADDRESS.fullmatch(text) is not None


class ZeroMQSource:
    """A stream; see `sfxjax.live.receiver.Source`.

    Args:
        address: such as tcp://detector:31001.
        kind: name in `sfxjax.live.sources.known_streams`.
        faults: counts messages that cannot be used.
        socket: PULL, SUB or REQ; None: the kind's own.
        subscription: beginning of the messages a SUB socket takes.
        request: what a REQ socket sends; None: the kind's own.

    Raises:
        UserError: the address or the kind makes no sense, or pyzmq is not installed.
    """

    waits = False

    def __init__(
        self,
        address: str,
        kind: str,
        faults: Faults,
        socket: str | None = None,
        subscription: str = "",
        request: str | None = None,
    ) -> None:
        streams = known_streams()
        if kind not in streams:
            raise UserError(f"no stream is called {kind}; there are {', '.join(streams)}")
        if not is_address(address):
            raise UserError(f"{address} is no address such as tcp://detector:31001")
        zeromq()
        self.name = address
        self.faults = faults
        self._stream = streams[kind]()
        self._kind = socket or self._stream.socket
        for option, value, wanted in (("--subscribe", subscription, "SUB"), ("--request", request, "REQ")):
            if value and self._kind != wanted:
                raise UserError(
                    f"{option} has no effect on a {self._kind} socket; give --socket {wanted}, or leave it out"
                )
        self._subscription = subscription
        self._request = self._stream.request if request is None else request.encode()

    def receive(self, stop: threading.Event) -> Iterator[LiveFrame | None]:
        """Give the frames as they come, and None now and then where none come, until told to stop."""
        zmq = zeromq()
        with zmq.Context() as context, contextlib.ExitStack() as opened:
            socket = self._connected(context, opened)
            asked = 0.0
            while not stop.is_set():
                if self._kind == "REQ" and not asked:
                    socket.send(self._request)
                    asked = time.monotonic()
                if not socket.poll(1000 * RECEIVE_POLL_SECONDS):
                    yield None
                    if asked and time.monotonic() - asked > ANSWER_SECONDS:
                        opened.close()
                        socket, asked = self._connected(context, opened), 0.0
                    continue
                frames: list[LiveFrame] = []
                try:
                    parts = _message_parts(socket)
                    asked = 0.0
                    frames = self._frames(parts)
                except MessageError as error:
                    self.faults.add(error)
                yield from frames
                if not frames:
                    yield None

    def _frames(self, parts: list[bytes]) -> list[LiveFrame]:
        try:
            return self._stream.frames(parts, time.monotonic())
        except (MessageError, UserError):
            raise
        except Exception as error:
            # Whatever a message does to a reader, perhaps one of another package, the next may be read.
            raise MessageError(
                "a message that could not be read", f"{type(error).__name__}: {error}"
            ) from error

    def _connected(self, context: Any, opened: contextlib.ExitStack) -> Any:
        zmq = zeromq()
        socket = opened.enter_context(context.socket(getattr(zmq, self._kind)))
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVHWM, WAITING)
        socket.setsockopt(zmq.MAXMSGSIZE, MOST_MESSAGE_BYTES)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
        # A detector that is switched off says no goodbye.
        socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 15)
        socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 5)
        if self._kind == "SUB":
            socket.setsockopt_string(zmq.SUBSCRIBE, self._subscription)
        try:
            socket.connect(self.name)
        except zmq.ZMQError as error:
            raise UserError(f"{self.name}: cannot be connected to ({error})") from error
        return socket


def _message_parts(socket: Any) -> list[bytes]:
    parts: list[bytes] = []
    while True:
        part = socket.recv()
        if len(parts) < MOST_MESSAGE_PARTS:
            parts.append(part)
        if not socket.rcvmore:
            break
    if len(parts) == MOST_MESSAGE_PARTS:
        raise MessageError("a message of absurdly many parts")
    return parts


def zeromq() -> Any:
    """Return the module `zmq`.

    Raises:
        UserError: it is not installed.
    """
    return optional("zmq", "streams need pyzmq", "live")
