"""DECTRIS Stream 2: each message one CBOR map, of type start, image or end.

References:
    DECTRIS, Stream V2 and CBOR tag 56500, github.com/dectris/documentation; RFC 8746 for typed arrays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from sfxjax.extensions import optional
from sfxjax.live.frames import (
    LiveFrame,
    MessageError,
    checked_integer,
    checked_shape,
    said_of_series,
    series_name,
)
from sfxjax.live.unpacking import unpacked

TYPED = {
    **{64 + k: f">u{2**k}" for k in range(4)},
    **{68 + k: f"<u{2**k}" for k in range(4)},
    **{72 + k: f">i{2**k}" for k in range(4)},
    **{77: "<i2", 78: "<i4", 79: "<i8"},
    **{81: ">f4", 82: ">f8", 85: "<f4", 86: "<f8"},
}
ROW_MAJOR, COMPRESSED = 40, 56500
# Tags whose values a decoder would work out, which none of these messages holds: some cost time or memory without bound.
_REFUSED_TAGS = (2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 256, 258, 260, 261, 1004, 43000)
_DEPTH = 16


@dataclass(frozen=True)
class Packed:
    """An array in a message: its shape, its type, and its bytes as they came."""

    shape: tuple[int, ...]
    dtype: np.dtype
    algorithm: str
    element: int
    data: bytes

    def array(self) -> np.ndarray:
        """Unpack it.

        Raises:
            MessageError: it is damaged.
        """
        return unpacked(self.data, self.algorithm, self.element, self.shape, self.dtype)


class Stream2:
    """See `sfxjax.live.sources.Stream`. Of several channels the first is taken."""

    socket = "PULL"
    request = b""

    def __init__(self) -> None:
        self._series: Any = None
        self._about: dict[str, Any] = {}

    def frames(self, parts: list[bytes], arrived: float) -> list[LiveFrame]:
        """See `sfxjax.live.sources.Stream.frames`."""
        if len(parts) != 1:
            raise MessageError("a Stream 2 message of several parts")
        message = decoded(parts[0])
        kind = message.get("type")
        if kind == "start":
            self._start(message)
            return []
        if kind == "end":
            return []
        if kind != "image":
            raise MessageError("a Stream 2 message of no known type")
        number = checked_integer(message.get("image_id"), "image_id")
        data = message.get("data")
        if not isinstance(data, dict) or not data:
            raise MessageError("an image message without data")
        packed = next(iter(data.values()))
        if not isinstance(packed, Packed):
            raise MessageError("the data of an image message are no array")
        series = _identity(message)
        about = self._about if series == self._series else {}
        mask = about.get("mask")
        name = series_name("series", *series)
        return [
            LiveFrame(
                name,
                f"//{number}",
                arrived,
                packed.array,
                number,
                mask if mask is not None and mask.shape == packed.shape else None,
                saturation=about.get("saturation", math.inf),
                centre=about.get("centre"),
            )
        ]

    def _start(self, message: dict[str, Any]) -> None:
        self._series = _identity(message)
        self._about = said_of_series(message, "saturation_value")
        masks = message.get("pixel_mask")
        if isinstance(masks, dict) and masks:
            packed = next(iter(masks.values()))
            if not isinstance(packed, Packed):
                raise MessageError("the pixel_mask of a start message is no array")
            self._about["mask"] = packed.array() == 0


def decoded(content: bytes) -> dict[str, Any]:
    """Decode a CBOR map; arrays stay packed, as `Packed`.

    Raises:
        MessageError: it is no such map.
        UserError: cbor2 is not installed.
    """
    cbor2 = optional("cbor2", "Stream 2 needs cbor2", "live")
    try:
        message = cbor2.loads(
            content,
            tag_hook=_tag,
            semantic_decoders=dict.fromkeys(_REFUSED_TAGS, _refuse),
            max_depth=_DEPTH,
            allow_indefinite=False,
            strict_hashable_types=True,
        )
    except MessageError:
        raise
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, MemoryError, RecursionError) as error:
        if isinstance(error.__cause__, MessageError):
            raise error.__cause__ from None
        raise MessageError("a message that is no CBOR", type(error).__name__) from error
    if not isinstance(message, dict):
        raise MessageError("a CBOR message that is no map")
    return message


def _refuse(*_: object) -> NoReturn:
    raise MessageError("a CBOR tag that no such message has")


def _tag(tag: Any, *_: object) -> Any:
    number, value = tag.tag, tag.value
    if number == COMPRESSED:
        if (
            not isinstance(value, (list, tuple))
            or len(value) != 3
            or not (isinstance(value[0], str) and isinstance(value[2], bytes))
        ):
            raise MessageError("compressed pixels are damaged")
        return value[0], checked_integer(value[1], "the element size", 8), value[2]
    if number in TYPED:
        algorithm, element, data = value if isinstance(value, tuple) else ("none", 1, value)
        if not isinstance(data, bytes):
            raise MessageError("a typed array without bytes")
        return np.dtype(TYPED[number]), algorithm, element, data
    if number == ROW_MAJOR:
        if (
            not isinstance(value, (list, tuple))
            or len(value) != 2
            or not isinstance(value[1], tuple)
            or len(value[1]) != 4
        ):
            raise MessageError("an array without shape or values")
        dtype, algorithm, element, data = value[1]
        return Packed(checked_shape(value[0], dtype), dtype, algorithm, element, data)
    # What is left is of no use here: a flat field's or a user's own.
    return None


def _identity(message: dict[str, Any]) -> tuple[Any, ...]:
    series = checked_integer(message.get("series_id"), "series_id")
    unique = message.get("series_unique_id", "")
    return series, unique if isinstance(unique, str) else ""
