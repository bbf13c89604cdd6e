"""One module a kind of stream: it takes the parts of a message and gives the frames in it.

Those of this library are listed here; a package of your own adds one by an entry point of the group `sfxjax.streams`:

    [project.entry-points."sfxjax.streams"]
    my_stream = "my_package:MyStream"
"""

from __future__ import annotations

from functools import cache
from typing import Protocol

from sfxjax.extensions import offered
from sfxjax.live.frames import LiveFrame


class Stream(Protocol):
    """A kind of messages over ZeroMQ; an object serves one connection and may keep what the series' header says.

    Attributes:
        socket: name of the ZeroMQ socket that receives them: PULL, SUB or REQ.
        request: what a REQ socket sends to get the next message.
    """

    socket: str
    request: bytes

    def frames(self, parts: list[bytes], arrived: float) -> list[LiveFrame]:
        """Return the frames of a message, none for those that only tell of a series.

        Args:
            parts: of the message.
            arrived: when it came, seconds of `time.monotonic`.

        Raises:
            MessageError: the message cannot be used.
            UserError: a library is missing.
        """


@cache
def known_streams() -> dict[str, type[Stream]]:
    """Return the kinds of streams by name, installed packages' first.

    Raises:
        UserError: a package's kind cannot be imported.
    """
    from sfxjax.live.sources.karabo import KaraboStream
    from sfxjax.live.sources.messagepack import MessagePackStream
    from sfxjax.live.sources.stream1 import Stream1
    from sfxjax.live.sources.stream2 import Stream2

    return offered("sfxjax.streams", "stream", made=False) | {
        "stream2": Stream2,
        "stream1": Stream1,
        "msgpack": MessagePackStream,
        "karabo": KaraboStream,
    }
