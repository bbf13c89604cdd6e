"""DECTRIS Stream 1: messages of several parts, JSON and pixels in turn.

References:
    DECTRIS, SIMPLON API, ZMQ interface: header (dheader-1.0), image (dimage-1.0, dimage_d-1.0), end (dseries_end-1.0).
"""

from __future__ import annotations

import json
import math
import re
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from sfxjax.live.frames import (
    LiveFrame,
    MessageError,
    checked_integer,
    checked_shape,
    said_of_series,
    series_name,
)
from sfxjax.live.unpacking import unpacked

_ENCODING = re.compile(r"(?:bs(8|16|32|64)-)?(lz4)?([<>])")
_TYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32")


class Stream1:
    """See `sfxjax.live.sources.Stream`."""

    socket = "PULL"
    request = b""

    def __init__(self) -> None:
        self._series: Any = None
        self._mask: np.ndarray | None = None
        self._about: dict[str, Any] = {}

    def frames(self, parts: list[bytes], arrived: float) -> list[LiveFrame]:
        """See `sfxjax.live.sources.Stream.frames`."""
        first = _json(parts[0])
        kind = str(first.get("htype", ""))
        if kind.startswith("dheader-"):
            self._header(first, parts)
            return []
        if kind.startswith("dseries_end-"):
            return []
        if not kind.startswith("dimage-"):
            raise MessageError("a Stream 1 message of no known htype")
        if len(parts) < 3:
            raise MessageError("an image message of too few parts")
        described = _json(parts[1])
        if not str(described.get("htype", "")).startswith("dimage_d-"):
            raise MessageError("an image message without dimage_d")
        number = checked_integer(first.get("frame"), "frame")
        dtype, shape, algorithm, element = _layout(described)
        data = parts[2]
        series = _identity(first)
        about = self._about if series == self._series else {}
        mask = self._mask if series == self._series else None
        return [
            LiveFrame(
                series_name("series", *series),
                f"//{number}",
                arrived,
                partial(unpacked, data, algorithm, element, shape, dtype),
                number,
                mask if mask is not None and mask.shape == shape else None,
                saturation=about.get("saturation", math.inf),
                centre=about.get("centre"),
            )
        ]

    def _header(self, first: dict[str, Any], parts: list[bytes]) -> None:
        self._series, self._mask, self._about = _identity(first), None, {}
        if first.get("header_detail") in ("basic", "all") and len(parts) > 1:
            settings = _json(parts[1])
            self._about = said_of_series(settings, "countrate_correction_count_cutoff")
        for described, data in pairwise(parts[2:]):
            if described[:1] == b"{" and b"dpixelmask-" in described[:200] and len(data):
                about = _json(described)
                dtype = np.dtype("<u4")
                width, height = checked_shape(about.get("shape"), dtype)
                self._mask = unpacked(data, "none", 1, (height, width), dtype) == 0


def _layout(described: dict[str, Any]) -> tuple[np.dtype, tuple[int, ...], str, int]:
    """Return type, shape (ss, fs), compression and bytes of a number of an image."""
    encoding = _ENCODING.fullmatch(str(described.get("encoding", "")))
    name = described.get("type")
    if encoding is None or name not in _TYPES:
        raise MessageError("an encoding or pixel type that is not known")
    bits, compressed, order = encoding.groups()
    dtype = np.dtype(str(name)).newbyteorder("<" if order == "<" else ">")
    # It counts the fast axis first.
    width, height = checked_shape(described.get("shape"), dtype)
    algorithm = "bslz4" if bits and compressed else "lz4 block" if compressed else "none"
    if bits and not compressed:
        raise MessageError("an encoding or pixel type that is not known")
    return dtype, (height, width), algorithm, int(bits or 8) // 8


def _json(part: bytes) -> dict[str, Any]:
    try:
        value = json.loads(part)
    except (ValueError, RecursionError) as error:
        raise MessageError("a part that is no JSON") from error
    if not isinstance(value, dict):
        raise MessageError("a part that is no JSON object")
    return value


def _identity(first: dict[str, Any]) -> tuple[Any, ...]:
    series = checked_integer(first.get("series"), "series")
    acquisition = first.get("acqID", "")
    return series, acquisition if isinstance(acquisition, str) else ""
