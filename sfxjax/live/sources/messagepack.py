"""Frames in MessagePack over ZeroMQ, as OM publishes them and CrystFEL's `indexamajig --zmq-input` reads them.

A message is a map, or an array of maps, whose entry `detector_data` (or another that looks like one) is an array as
msgpack-numpy packs it: a map of `type`, `shape` and `data`.

References:
    CrystFEL, doc/articles/online.rst; msgpack-numpy.
"""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import Any

import numpy as np

from sfxjax.live.frames import LiveFrame, MessageError, checked_shape, series_name
from sfxjax.live.unpacking import unpacked

DATA_KEY = "detector_data"
_INDEX_KEYS = ("index", "event_number", "frame", "train_id")


class MessagePackStream:
    """See `sfxjax.live.sources.Stream`."""

    socket = "SUB"
    request = b"next"

    def __init__(self) -> None:
        self._counter = count()

    def frames(self, parts: list[bytes], arrived: float) -> list[LiveFrame]:
        """See `sfxjax.live.sources.Stream.frames`."""
        # OM puts the name of the subscription before the data.
        message = unpack_map(parts[-1])
        if isinstance(message, list):
            return [frame for each in message[:64] for frame in self._frames(each, arrived)]
        return self._frames(message, arrived)

    def _frames(self, message: Any, arrived: float) -> list[LiveFrame]:
        if not isinstance(message, dict):
            raise MessageError("a message that is no map")
        named = {_as_text(key): value for key, value in message.items()}
        if DATA_KEY in named:
            packed = named[DATA_KEY]
        else:
            arrays = [value for value in named.values() if isinstance(value, dict) and _looks_like(value)]
            if not arrays:
                return []
            packed = max(arrays, key=lambda value: len(_entry(value, "data")))
        dtype, shape, data = array_of(packed, (2, 3))
        own = next(
            (named[key] for key in _INDEX_KEYS if type(named.get(key)) is int and named[key] >= 0), None
        )
        number = next(self._counter) if own is None else own
        series = series_name("stream", _as_text(named.get("source", named.get("run", ""))))
        event = named.get("event_id", "")
        name = series_name(_as_text(event)) if event else ""
        return [
            LiveFrame(
                series,
                f"{name}//{number}",
                arrived,
                partial(unpacked, data, "none", 1, shape, dtype),
                # Numbers of ours say nothing of frames that were lost.
                None,
            )
        ]


def unpack_map(content: bytes) -> Any:
    """Decode MessagePack; the numbers in it are bounded by the message's own length.

    Raises:
        MessageError: it is none.
    """
    import msgpack

    try:
        return msgpack.unpackb(content, raw=False, strict_map_key=True)
    except (ValueError, TypeError, RecursionError, MemoryError, msgpack.UnpackException) as error:
        raise MessageError("a message that is no MessagePack", type(error).__name__) from error


def array_of(packed: Any, axes: tuple[int, ...]) -> tuple[np.dtype, tuple[int, ...], bytes]:
    """Return type, shape and bytes of an array that msgpack-numpy packed.

    Raises:
        MessageError: it is none, or none of real numbers.
    """
    if not isinstance(packed, dict):
        raise MessageError("pixels that are no packed array")
    dtype = number_type(_entry(packed, "type"))
    shape = checked_shape(_entry(packed, "shape"), dtype, axes)
    data = _entry(packed, "data")
    if not isinstance(data, bytes):
        raise MessageError("pixels that are no packed array")
    return dtype, shape, data


def number_type(name: Any) -> np.dtype:
    """Return the type of real numbers that a message names.

    Raises:
        MessageError: it is none.
    """
    try:
        dtype = np.dtype(_as_text(name)) if isinstance(name, (str, bytes)) and len(name) < 16 else None
    except (TypeError, ValueError, SyntaxError):
        dtype = None
    if dtype is None or dtype.kind not in "iuf" or dtype.itemsize > 8 or dtype.shape:
        raise MessageError("an encoding or pixel type that is not known")
    return dtype


def _looks_like(value: dict[Any, Any]) -> bool:
    return isinstance(_entry(value, "data"), bytes) and isinstance(_entry(value, "shape"), (list, tuple))


def _entry(value: dict[Any, Any], key: str) -> Any:
    return value.get(key, value.get(key.encode()))


def _as_text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
