"""What the tests of live share: frames, messages as detectors send them, a judge that costs nothing, and free ports."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from sfxjax.live.frames import LiveFrame, MessageError
from sfxjax.live.judge import Looks
from sfxjax.live.keeper import JudgedFrame
from sfxjax.live.packing import Stream1Messages, Stream2Messages, compressed
from sfxjax.spots.day_one import FrameSpots

REPOSITORY = Path(__file__).resolve().parents[1]


def pixels(number: int, size: int = 64, dtype: str = "uint16") -> np.ndarray:
    """A frame that tells its number: a hit where that is a multiple of three."""
    frame = np.random.default_rng(number).poisson(3, (size, size)).astype(dtype)
    frame[0, 0] = number
    return frame


def is_hit(number: int) -> bool:
    return number % 3 == 0


def messages(kind: str, count: int) -> Iterator[list[bytes]]:
    """A series of a stream: header, images, end."""
    if kind in ("stream1", "stream2"):
        series: Any = (Stream2Messages if kind == "stream2" else Stream1Messages)(4, "abc")
        mask = np.ones((64, 64), bool)
        mask[5] = False
        yield series.start((64, 64), count, mask)
        for number in range(count):
            yield series.image(number, pixels(number), compressed(pixels(number)))
        yield series.end()
    for number in range(count):
        frame = pixels(number, dtype="int32")
        if kind == "msgpack":
            packed = {"type": "<i4", "shape": list(frame.shape), "data": frame.tobytes()}
            yield [
                b"view:omdata",
                msgpack.packb({"detector_data": packed, "event_number": number, "source": "om"}),
            ]
        if kind == "karabo":
            train = np.stack([pixels(2 * number), pixels(2 * number + 1)])
            source = "SPB_DET_AGIPD1M-1/CAL/APPEND_CORRECTED"
            about = {"source": source, "content": "msgpack", "metadata": {"timestamp.tid": 7000 + number}}
            array = {
                "source": source,
                "content": "array",
                "path": "image.data",
                "dtype": "uint16",
                "shape": list(train.shape),
            }
            yield [
                msgpack.packb(about),
                msgpack.packb({"image.count": 2}),
                msgpack.packb(array),
                train.tobytes(),
            ]


def judge(frame: LiveFrame, weight: int) -> tuple[JudgedFrame, Looks | None]:
    """Judge by the number that is written into a frame of `pixels`."""
    try:
        values = frame.unpack()
    except MessageError as error:
        return JudgedFrame(frame, weight, None, str(error)), None
    hit = is_hit(int(values[0, 0]))
    places = np.array([3.0, 9.0]) if hit else np.zeros(0)
    spots = FrameSpots(
        float(hit), 0.0, 12.0 if hit else 0.5, 8.0, places, places, places + 5, places * 0 + 1, places
    )
    return JudgedFrame(frame, weight, spots), Looks(float(values.mean()), 0.0, values, frame.mask, np.inf)


judge.min_snr, judge.min_spots, judge.model = 6.0, 4, "a test"  # type: ignore[attr-defined]


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{free.getsockname()[1]}"


def real_image(shared: Path) -> tuple[list[bytes], list[bytes]]:
    """The real header and image message as their parts were on the wire, where they are stored with the first one decoded."""
    folder = shared / "data" / "real" / "eiger2_stream"
    parts = []
    for name in ("header", "image000044"):
        stored = msgpack.unpackb((folder / name).read_bytes())
        parts.append(
            [json.dumps(part).encode() if isinstance(part, dict) else bytes(part or b"") for part in stored]
        )
    return parts[0], parts[1]
