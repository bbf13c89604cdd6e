"""Streams: what messages hold is read right, and whatever is wrong with one is counted, never a crash."""

from __future__ import annotations

import io
import struct
import tracemalloc
from pathlib import Path

import cbor2
import h5py
import hdf5plugin
import live_cases as cases
import msgpack
import numpy as np
import pytest

from sfxjax.live.frames import LiveFrame, MessageError, said_of_series
from sfxjax.live.packing import SENT, Stream1Messages, Stream2Messages, compressed, sendable
from sfxjax.live.sources import known_streams
from sfxjax.live.sources.stream1 import Stream1
from sfxjax.live.sources.stream2 import Stream2
from sfxjax.live.unpacking import unpacked

KINDS = ("stream2", "stream1", "msgpack", "karabo")


def received(kind: str, count: int = 3) -> list[LiveFrame]:
    stream = known_streams()[kind]()
    return [frame for parts in cases.messages(kind, count) for frame in stream.frames(parts, 1.0)]


def test_a_real_image_message_of_an_eiger(shared: Path) -> None:
    header, image = cases.real_image(shared)
    stream = Stream1()
    assert stream.frames(header, 0.0) == []
    (frame,) = stream.frames(image, 5.0)
    with h5py.File(io.BytesIO(), "w") as file:
        shape = 2162, 2068
        stored = file.create_dataset("x", shape, "<u2", chunks=shape, **hdf5plugin.Bitshuffle())
        stored.id.write_direct_chunk((0, 0), image[2])
        expected = stored[...]
    np.testing.assert_array_equal(frame.unpack(), expected)
    assert (frame.file, frame.event, frame.index, frame.arrived) == ("series-2619-5291452", "//43", 43, 5.0)
    assert frame.centre == pytest.approx((1041.247, 1115.747), abs=1e-3) and frame.saturation == 18533
    assert (expected == 65535).mean() > 0.05


@pytest.mark.parametrize("kind", ["stream2", "stream1"])
def test_a_series_of_a_detector_with_its_mask(kind: str) -> None:
    frames = received(kind)
    assert [(frame.file, frame.event, frame.index) for frame in frames] == [
        ("series-4-abc", f"//{number}", number) for number in range(3)
    ]
    for number, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.unpack(), cases.pixels(number))
        assert frame.mask is not None and not frame.mask[5].any() and frame.mask.sum() == 63 * 64


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"high": 90, "beam_center_x": 3.5, "beam_center_y": 4}, {"saturation": 90.0, "centre": (3.5, 4)}),
        # JSON's `true` is no number, and 0 stands for a centre that was never set.
        ({"high": True, "beam_center_x": 0, "beam_center_y": 4.0}, {}),
        ({"high": float("nan"), "beam_center_x": float("inf"), "beam_center_y": 4.0}, {}),
        ({"high": -1, "beam_center_x": "7", "beam_center_y": 4.0}, {}),
        ({}, {}),
    ],
)
def test_what_a_header_says_of_all_frames_counts_where_it_is_a_number(header, said) -> None:
    assert said_of_series(header, "high") == said


def test_the_trains_of_the_karabo_bridge_and_messages_of_om() -> None:
    trains = received("karabo")
    assert [frame.event for frame in trains] == [f"//{(7000 + n // 2) * 4096 + n % 2}" for n in range(6)]
    for number, frame in enumerate(trains):
        np.testing.assert_array_equal(frame.unpack(), cases.pixels(number))
    for number, frame in enumerate(received("msgpack")):
        np.testing.assert_array_equal(frame.unpack(), cases.pixels(number))
        assert (frame.file, frame.event) == ("stream-om", f"//{number}")


def test_karabo_messages_are_those_that_its_own_library_makes() -> None:
    bridge = pytest.importorskip("karabo_bridge.serializer")
    data = np.arange(2 * 4 * 6 * 5, dtype="f4").reshape(2, 4, 6, 5)
    source = "SPB_DET_AGIPD1M-1/CAL/APPEND_CORRECTED"
    parts = bridge.serialize({source: {"image.data": data, "x": 1}}, {source: {"timestamp.tid": 12}})
    frames = known_streams()["karabo"]().frames([bytes(part) for part in parts], 0.0)
    np.testing.assert_array_equal([frame.unpack() for frame in frames], data)


@pytest.mark.parametrize("dtype", SENT)
@pytest.mark.parametrize("stream", [(Stream2, Stream2Messages), (Stream1, Stream1Messages)])
def test_pixels_of_every_type_come_back(dtype: str, stream: tuple[type, type]) -> None:
    frame = sendable(np.random.default_rng(0).integers(0, 100, (40, 56)).astype(dtype))
    (came,) = stream[0]().frames(stream[1](1, "").image(3, frame, compressed(frame)), 0.0)
    assert came.unpack().dtype == frame.dtype
    np.testing.assert_array_equal(came.unpack(), frame)


def test_lz4_as_stream_1_sends_it_without_framing() -> None:
    # One sequence of literals, by the definition of the LZ4 block format.
    values = np.arange(12, dtype="<u2")
    block = bytes([0xF0, 24 - 15]) + values.tobytes()
    np.testing.assert_array_equal(
        unpacked(block, "lz4 block", 1, (3, 4), np.dtype("<u2")), values.reshape(3, 4)
    )


def test_no_memory_is_asked_for_what_a_message_claims() -> None:
    data = compressed(np.zeros((64, 64), np.uint16))
    bomb = struct.pack(">QI", 2**40, 8192) + data[12:]
    absurd = [
        (bomb, (2**20, 2**19)),
        (bomb, (64, 64)),
        (struct.pack(">QI", 2**27, 8192) + data[12:], (2**13, 2**13)),
        (struct.pack(">QI", 8192, 2**32 - 8) + data[12:], (64, 64)),
        (data[:7], (64, 64)),
    ]
    tracemalloc.start()
    for content, shape in absurd:
        with pytest.raises(MessageError):
            unpacked(content, "bslz4", 2, shape, np.dtype("<u2"))
    tag = cbor2.CBORTag
    hostile = [
        tag(40, [[2**40, 2**40], tag(69, tag(56500, ["bslz4", 2, bomb]))]),
        tag(5, [10**9, 3]),
        tag(30, [1, 0]),
        tag(35, "(a+)+$"),
        tag(2, b"\xff" * 1000),
    ]
    for value in hostile:
        message = cbor2.dumps({"type": "image", "series_id": 1, "image_id": 0, "data": {"a": value}})
        with pytest.raises(MessageError):
            Stream2().frames([message], 0.0)
    deep = b"\x81" * 100_000
    nested = b"[" * 100_000
    lists = b"\x91" * 100_000
    for stream, parts in (
        (Stream2(), [deep]),
        (Stream1(), [nested]),
        (known_streams()["msgpack"](), [lists]),
    ):
        with pytest.raises(MessageError):
            stream.frames(parts, 0.0)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [300, pytest.param(1000, marks=pytest.mark.slow)])
def test_mutated_messages_are_faults_or_frames_and_nothing_else(kind: str, count: int) -> None:
    draws = np.random.default_rng(count)
    originals = list(cases.messages(kind, 2))
    stream = known_streams()[kind]()
    faults, wrong = 0, 0
    for _ in range(count):
        parts = [bytearray(part) for part in originals[draws.integers(len(originals))]]
        for _ in range(draws.integers(1, 4)):
            part = parts[draws.integers(len(parts))]
            what = draws.integers(6)
            # Most of a message is pixels: its beginning is hit as often as they are.
            end = len(part) if draws.integers(2) else min(len(part), 120)
            place = int(draws.integers(max(end, 1)))
            if what == 0 and part:
                part[place] = draws.integers(256)
            elif what == 1:
                del part[place:]
            elif what == 2:
                part[place:place] = draws.bytes(int(draws.integers(1, 40)))
            elif what == 3:
                del part[place : place + int(draws.integers(1, 40))]
            elif what == 4 and len(part) > 8:
                part[place : place + 8] = struct.pack(">Q", int(draws.choice([0, 2**31, 2**40, 2**63])))
            else:
                parts.insert(int(draws.integers(len(parts))), parts.pop(int(draws.integers(len(parts)))))
        try:
            for frame in stream.frames([bytes(part) for part in parts], 0.0):
                assert frame.unpack().size > 0
        except MessageError as error:
            faults += 1
            wrong += len(error.kind) > 60
    assert faults > count / 5 and not wrong


def test_msgpack_without_frames_gives_none_and_with_strange_keys_a_fault() -> None:
    stream = known_streams()["msgpack"]()
    assert stream.frames([msgpack.packb({"hit_rate": 3.0})], 0.0) == []
    with pytest.raises(MessageError):
        stream.frames([msgpack.packb({1: 2})], 0.0)
