"""EuXFEL's Karabo bridge: trains of frames, asked for one by one.

A message is pairs of parts, a header and its content, both MessagePack but for arrays, which are sent as they lie in memory
(version 2.2). The library karabo-bridge reads just this and asks for nothing else, so it is not needed; its bounds are
not those of a stream that may be damaged.

References:
    European XFEL, karabo-bridge-py, karabo_bridge/serializer.py.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from sfxjax.live.frames import LiveFrame, MessageError, checked_integer, series_name
from sfxjax.live.sources.messagepack import number_type, unpack_map
from sfxjax.live.unpacking import unpacked

PATHS = ("image.data", "data.image.pixels", "data.image", "data.adc")
MOST_PULSES = 4096
MOST_TRAIN_PARTS = 512
# A train of 800 pulses of a detector of a million pixels.
MOST_TRAIN_BYTES = 2**32


class KaraboStream:
    """See `sfxjax.live.sources.Stream`. Each pulse is a frame, numbered train * 4096 + pulse."""

    socket = "REQ"
    request = b"next"

    def frames(self, parts: list[bytes], arrived: float) -> list[LiveFrame]:
        """See `sfxjax.live.sources.Stream.frames`."""
        if len(parts) < 2 or len(parts) % 2 or len(parts) > MOST_TRAIN_PARTS:
            raise MessageError("a train whose parts are no pairs")
        trains: dict[str, int] = {}
        found: list[LiveFrame] = []
        for header, content in zip(parts[::2], parts[1::2], strict=True):
            about = unpack_map(header)
            if not isinstance(about, dict):
                raise MessageError("a message that is no map")
            source = str(about.get("source", ""))
            if about.get("content") == "msgpack":
                metadata = about.get("metadata")
                if isinstance(metadata, dict) and "timestamp.tid" in metadata:
                    trains[source] = checked_integer(metadata["timestamp.tid"], "the train", 2**40)
            elif about.get("content") == "array" and about.get("path") in PATHS:
                found += _pulses(about, content, source, trains.get(source), arrived)
        return found


def _pulses(
    about: dict[str, Any], content: bytes, source: str, train: int | None, arrived: float
) -> list[LiveFrame]:
    if train is None:
        raise MessageError("a train without its number")
    dtype = number_type(about.get("dtype"))
    shape = about.get("shape")
    if not isinstance(shape, (list, tuple)) or not 2 <= len(shape) <= 4:
        raise MessageError("the shape is none of a frame")
    lengths = [checked_integer(length, "the shape", 2**31) for length in shape]
    frame = tuple(lengths if len(lengths) == 2 else lengths[1:])
    pulses = 1 if len(lengths) == 2 else lengths[0]
    if min(frame) < 1 or pulses > MOST_PULSES:
        raise MessageError("a frame of absurd size", "x".join(map(str, lengths)))
    size = int(np.prod(frame, dtype=object)) * dtype.itemsize
    view = memoryview(content)
    if pulses * size != view.nbytes or view.nbytes > MOST_TRAIN_BYTES:
        raise MessageError("pixels are not as many as the shape says")
    name = series_name(source)
    return [
        LiveFrame(
            name,
            f"//{train * MOST_PULSES + pulse}",
            arrived,
            partial(unpacked, view[pulse * size : (pulse + 1) * size], "none", 1, frame, dtype),
            # Trains come as they are asked for: numbers left out are no loss.
            None,
        )
        for pulse in range(pulses)
    ]
