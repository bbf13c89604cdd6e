"""A frame as it arrives, still packed, and what goes wrong with messages."""

from __future__ import annotations

import math
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

# Largest frame taken from a message, unpacked: an EIGER2 16M in 32 bits has 72 MB.
MOST_FRAME_BYTES = 2**28
# Largest number that a frame may have in its series.
LARGEST_INDEX = 2**53
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


class MessageError(Exception):
    """A message, or a frame in it, that cannot be used.

    Attributes:
        kind: a few words that are the same for all messages with this fault.
    """

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind


@dataclass(frozen=True)
class LiveFrame:
    """A frame that has arrived.

    Attributes:
        file: file that holds it, or name of the series it was sent in.
        event: CrystFEL's event, `//` and its number in the series or file for streams.
        arrived: when it came, seconds of `time.monotonic`.
        unpack: returns its pixels, (ss, fs) or (panel, ss, fs), detector units; raises `MessageError`.
        index: number in its series; None: frames of files, of which none can be lost on the way.
        mask: bool of the pixels' shape, True where a pixel counts; None: no mask came with it.
        limit: value from which pixels tell nothing, as far as the source says.
        saturation: highest value that the source calls valid.
        centre: (x, y) of the beam, pixels, where the source says it.
    """

    file: str
    event: str
    arrived: float
    unpack: Callable[[], np.ndarray]
    index: int | None = None
    mask: np.ndarray | None = None
    limit: float = math.inf
    saturation: float = math.inf
    centre: tuple[float, float] | None = None


@dataclass
class ReplacedFile:
    """What a source gives when a file of which frames were judged holds others now: those are taken out of the lists.

    Attributes:
        file: its name in the lists.
        forgotten: how many frames were taken out, once that is done.
    """

    file: str
    forgotten: int = 0


class Faults:
    """Counts what goes wrong, by kind, and tells the user of each kind once. Threads may share it.

    Args:
        say: is called with a line the first time.
    """

    def __init__(self, say: Callable[[str], None] = lambda line: None) -> None:
        self.counts: Counter[str] = Counter()
        self._say = say
        self._lock = threading.Lock()

    def add(self, error: MessageError) -> None:
        """Count one."""
        with self._lock:
            self.counts[error.kind] += 1
            first = self.counts[error.kind] == 1
        if first:
            self._say(f"left out a message: {' '.join(str(error).split())[:300]} (further ones are counted)")

    @property
    def total(self) -> int:
        """How many there were."""
        return sum(self.counts.values())


def said_of_series(header: Mapping[str, Any], saturation: str) -> dict[str, Any]:
    """Return what a DECTRIS header says of all frames of a series, as fields of `LiveFrame`: `saturation` and `centre`.

    Args:
        header: as it was sent; its values may be anything.
        saturation: name of the highest valid value in it.
    """

    def number(name: str) -> float | None:
        value = header.get(name)
        counts = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        return value if counts and value else None

    about: dict[str, Any] = {}
    if (highest := number(saturation)) is not None and highest > 0:
        about["saturation"] = float(highest)
    x, y = number("beam_center_x"), number("beam_center_y")
    return about if x is None or y is None else about | {"centre": (x, y)}


def series_name(*parts: object) -> str:
    """Return a name that can stand in a list and in a file's name, at most 80 characters."""
    return _UNSAFE.sub("_", "-".join(str(part) for part in parts if part not in (None, "")))[:80] or "series"


def checked_integer(value: object, what: str, most: int = LARGEST_INDEX) -> int:
    """Return a number from 0 to `most` out of a message.

    Raises:
        MessageError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise MessageError(f"{what} is no number that makes sense")
    return value


def checked_shape(shape: object, dtype: np.dtype, axes: tuple[int, ...] = (2,)) -> tuple[int, ...]:
    """Return the shape of pixels out of a message.

    Args:
        shape: as the message gives it.
        dtype: of the pixels.
        axes: how many axes there may be.

    Raises:
        MessageError: it is no shape, or the frame would be larger than `MOST_FRAME_BYTES`.
    """
    if not isinstance(shape, (list, tuple)) or len(shape) not in axes:
        raise MessageError("the shape is none of a frame")
    lengths = tuple(checked_integer(length, "the shape", 2**31) for length in shape)
    if min(lengths) < 1 or prod(lengths) * dtype.itemsize > MOST_FRAME_BYTES:
        raise MessageError("a frame of absurd size", "x".join(map(str, lengths)))
    return lengths
