"""Messages as DECTRIS detectors send them, made of frames in memory: for rehearsals and tests."""

from __future__ import annotations

import io
import json
from typing import Any

import h5py
import numpy as np

from sfxjax.extensions import optional
from sfxjax.live.sources.stream2 import COMPRESSED, ROW_MAJOR, TYPED

_TAGS = {name: tag for tag, name in TYPED.items() if name[0] == "<"} | {"|u1": 64, "|i1": 72}
SENT = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32")


def compressed(frame: np.ndarray) -> bytes:
    """Compress pixels with bitshuffle and LZ4, in HDF5's framing, as the detectors do.

    Raises:
        UserError: hdf5plugin is not installed.
    """
    hdf5plugin = optional("hdf5plugin", "compressing frames needs hdf5plugin", "live")
    with h5py.File(io.BytesIO(), "w") as file:
        stored = file.create_dataset(
            "frame", frame.shape, frame.dtype, chunks=frame.shape, **hdf5plugin.Bitshuffle()
        )
        stored[...] = frame
        return bytes(stored.id.read_direct_chunk((0,) * frame.ndim)[1])


def sendable(frame: np.ndarray) -> np.ndarray:
    """Return a frame as (ss, fs), panels one below the other, in a type that the streams have."""
    flat = frame.reshape(-1, frame.shape[-1])
    kept = flat if flat.dtype.name in SENT else flat.astype(np.float32)
    return np.ascontiguousarray(kept.astype(kept.dtype.newbyteorder("<"), copy=False))


class Stream2Messages:
    """Makes Stream 2 messages.

    Args:
        series: its number.
        unique: its unique name.
    """

    def __init__(self, series: int, unique: str) -> None:
        import cbor2

        self._cbor = cbor2
        self._series: dict[str, Any] = {"series_id": series, "series_unique_id": unique}

    def start(self, shape: tuple[int, int], images: int, mask: np.ndarray | None) -> list[bytes]:
        """Return a start message; `mask` is bool, True where a pixel counts."""
        message = {"type": "start", **self._series, "channels": ["threshold_1"], "number_of_images": images}
        message |= {"image_size_x": shape[1], "image_size_y": shape[0]}
        if mask is not None:
            bad = (~mask).astype("<u4")
            message["pixel_mask"] = {"threshold_1": self._array(bad.shape, bad.dtype, compressed(bad))}
        return [self._cbor.dumps(message)]

    def image(self, number: int, frame: np.ndarray, packed: bytes) -> list[bytes]:
        """Return the message of an image; `packed` is what `compressed` made of it."""
        data = {"threshold_1": self._array(frame.shape, frame.dtype, packed)}
        return [self._cbor.dumps({"type": "image", **self._series, "image_id": number, "data": data})]

    def end(self) -> list[bytes]:
        """Return an end message."""
        return [self._cbor.dumps({"type": "end", **self._series})]

    def _array(self, shape: tuple[int, ...], dtype: np.dtype, packed: bytes) -> Any:
        tag = self._cbor.CBORTag
        values = tag(COMPRESSED, ["bslz4", dtype.itemsize, packed])
        return tag(ROW_MAJOR, [list(shape), tag(_TAGS[dtype.newbyteorder("<").str], values)])


class Stream1Messages:
    """Makes Stream 1 messages; see `Stream2Messages`."""

    def __init__(self, series: int, unique: str) -> None:
        self._series = {"series": series, "acqID": unique}

    def start(self, shape: tuple[int, int], images: int, mask: np.ndarray | None) -> list[bytes]:
        """Return a header."""
        settings = {"x_pixels_in_detector": shape[1], "y_pixels_in_detector": shape[0], "nimages": images}
        parts = [{"htype": "dheader-1.0", **self._series, "header_detail": "all"}, settings]
        content = [json.dumps(part).encode() for part in parts]
        if mask is not None:
            about = {"htype": "dpixelmask-1.0", "shape": list(mask.shape[::-1]), "type": "uint32"}
            content += [json.dumps(about).encode(), (~mask).astype("<u4").tobytes()]
        return content

    def image(self, number: int, frame: np.ndarray, packed: bytes) -> list[bytes]:
        """Return the parts of an image."""
        about = {
            "htype": "dimage_d-1.0",
            "shape": list(frame.shape[::-1]),
            "type": frame.dtype.name,
            "encoding": f"bs{8 * frame.dtype.itemsize}-lz4<",
            "size": len(packed),
        }
        first = {"htype": "dimage-1.0", **self._series, "frame": number}
        times = {"htype": "dconfig-1.0"}
        return [json.dumps(first).encode(), json.dumps(about).encode(), packed, json.dumps(times).encode()]

    def end(self) -> list[bytes]:
        """Return the message that ends a series."""
        return [json.dumps({"htype": "dseries_end-1.0", **self._series}).encode()]


MESSAGES: dict[str, type[Stream2Messages] | type[Stream1Messages]] = {
    "stream2": Stream2Messages,
    "stream1": Stream1Messages,
}
