"""Unpacks compressed pixels, of which a message may claim anything: the size is known before memory is asked for."""

from __future__ import annotations

import struct
from functools import cache
from math import prod
from typing import Any

import numpy as np

from sfxjax.data.bitshuffle import CHUNK_HEADER
from sfxjax.extensions import optional
from sfxjax.live.frames import MOST_FRAME_BYTES, MessageError

# LZ4 makes at most 255 bytes of one.
_LZ4_RATIO = 255


def unpacked(data: Any, algorithm: str, element: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Unpack pixels.

    Args:
        data: bytes of the message.
        algorithm: `none`, `bslz4`, `bszstd` or `lz4` in HDF5's framing, or `lz4 block`.
        element: bytes that bitshuffle takes for one number.
        shape: of the pixels.
        dtype: of the pixels.

    Returns:
        Array of that shape and type, native byte order.

    Raises:
        MessageError: the data are damaged, or not as many as the shape has.
        UserError: dectris-compression is not installed.
    """
    size = prod(shape) * dtype.itemsize
    if size > MOST_FRAME_BYTES:
        raise MessageError("a frame of absurd size", f"{size} bytes")
    view = memoryview(data)
    if algorithm == "none":
        if view.nbytes != size:
            raise MessageError("pixels are not as many as the shape says")
        content: Any = view
    else:
        content = _decompressed(view, algorithm, element, size)
    pixels = np.frombuffer(content, dtype).reshape(shape)
    return pixels.astype(dtype.newbyteorder("="), copy=False)


def _decompressed(view: memoryview, algorithm: str, element: int, size: int) -> bytes:
    if algorithm == "lz4 block":
        view = memoryview(CHUNK_HEADER.pack(size, size) + struct.pack(">I", view.nbytes) + bytes(view))
        algorithm = "lz4"
    if algorithm not in ("bslz4", "bszstd", "lz4"):
        raise MessageError("a compression that is not known", algorithm[:40])
    if view.nbytes < CHUNK_HEADER.size:
        raise MessageError("compressed pixels are damaged")
    claimed, block = CHUNK_HEADER.unpack_from(view)
    if claimed != size or (algorithm != "bszstd" and claimed > _LZ4_RATIO * view.nbytes):
        raise MessageError(
            "compressed pixels claim another size than the frame has", f"{claimed} bytes for {size}"
        )
    if element not in (1, 2, 4, 8) or size % element or block > MOST_FRAME_BYTES:
        raise MessageError("compressed pixels are damaged")
    try:
        content = decompress()(view, algorithm, elem_size=element)
    except (RuntimeError, ValueError, MemoryError) as error:
        raise MessageError("compressed pixels are damaged") from error
    if len(content) != size:
        raise MessageError("compressed pixels are damaged")
    return content


@cache
def decompress() -> Any:
    """Return `dectris.compression.decompress`.

    Raises:
        UserError: it is not installed.
    """
    return optional("dectris.compression", "compressed frames need dectris-compression", "live").decompress
