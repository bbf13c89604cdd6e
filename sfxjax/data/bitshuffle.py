"""Chunks that bitshuffle and LZ4 compressed: rows of a frame unpacked alone, and no reading beyond a chunk, as the plug-in may.

A chunk holds the number of its bytes (8 bytes), those of a block (4), then each block behind its packed length (4), and the last
elements, which fill no eight, as they are. All numbers have their highest byte first.
Source: https://github.com/kiyo-masui/bitshuffle, `bshuf_h5filter.c` and `bitshuffle_core.c`.
"""

from __future__ import annotations

import itertools
import math
import struct
import threading
from typing import Any, NamedTuple

import h5py
import numpy as np

from sfxjax.data.filters import filters_of
from sfxjax.data.opening import DAMAGE

NUMBER, _LZ4 = 32008, 2
# Bytes of a chunk and of a block; the packed length of a block.
CHUNK_HEADER, _LENGTH = struct.Struct(">QI"), struct.Struct(">I")
# Elements are packed by eights.
_MULTIPLE = 8
# Of a part of a data set so many are looked at.
_MOST_CHUNKS = 1024
# Of the filter's numbers so many are written by itself.
_SET_BY_FILTER = 3
# Rows are unpacked alone where they are at most this share of a frame's.
_MOST_ROWS = 0.75


def packs(data: h5py.Dataset) -> bool:
    """Tell whether bitshuffle with LZ4 alone packs a data set."""
    if data.chunks is None or filters_of(data) != [NUMBER]:
        return False
    values = data.id.get_create_plist().get_filter(0)[2]
    return len(values) > 4 and values[2] == data.dtype.itemsize and values[4] == _LZ4


def whole_chunks(data: h5py.Dataset, place: tuple[int | slice, ...]) -> bool:
    """Tell whether the chunks behind a part of a data set are there and no block in them reaches beyond its chunk.

    Args:
        data: that `packs` tells.
        place: of the part; what it does not name is taken whole.
    """
    size = data.dtype.itemsize * math.prod(data.chunks)
    ranges = []
    for axis, (length, chunk) in enumerate(zip(data.shape, data.chunks, strict=True)):
        at = place[axis] if axis < len(place) else slice(None)
        taken = range(*at.indices(length)) if isinstance(at, slice) else range(int(at), int(at) + 1)
        if not taken or not 0 <= min(taken) <= max(taken) < length:
            return False
        ranges.append(range(min(taken) // chunk * chunk, max(taken) + 1, chunk))
    if math.prod(map(len, ranges)) > _MOST_CHUNKS:
        return False
    try:
        chunks = (data.id.read_direct_chunk(offset) for offset in itertools.product(*ranges))
        return all(not skipped and _blocks(chunk, size, data.dtype.itemsize) for skipped, chunk in chunks)
    except DAMAGE:
        return False


class _Blocks(NamedTuple):
    """The blocks of a chunk: where each begins and the last one ends, in bytes, and the elements of each but perhaps the last."""

    places: list[int]
    elements: int


def _blocks(chunk: bytes, size: int, itemsize: int) -> _Blocks | None:
    """Find the blocks of a chunk that unpacks to `size` bytes; None where it does not, or they do not end where it does."""
    if len(chunk) < CHUNK_HEADER.size:
        return None
    claimed, block = CHUNK_HEADER.unpack_from(chunk)
    block //= itemsize
    if claimed != size or block <= 0 or block % _MULTIPLE:
        return None
    elements = size // itemsize
    places, last = [CHUNK_HEADER.size], len(chunk) - _LENGTH.size
    read, place = _LENGTH.unpack_from, CHUNK_HEADER.size
    for _ in range(elements // block + (elements % block >= _MULTIPLE)):
        if place > last:
            return None
        place += _LENGTH.size + read(chunk, place)[0]
        places.append(place)
    return _Blocks(places, block) if place + elements % _MULTIPLE * itemsize <= len(chunk) else None


def rows_unpacked(data: h5py.Dataset, place: tuple[int | slice, ...]) -> np.ndarray | None:
    """Read rows of a frame that is one chunk, and unpack the blocks that hold them alone: a block needs no other.

    Args:
        data: that `packs` tells.
        place: of the rows: whole numbers along all axes but the last two or one, then a slice of rows, then one of columns.

    Returns:
        What `data[place]` gives; None where that is to be read instead, since the place is another, little would be gained, or
        the chunk is not as it should be, which the plug-in tells.
    """
    height, width = data.shape[-2:] if data.ndim > 1 else (0, 0)
    leading = data.ndim - 2
    frame, parts = place[:leading], place[leading:]
    if tuple(data.chunks) != (1,) * leading + (height, width) or not 1 <= len(parts) <= 2:
        return None
    numbers = [at for at, length in zip(frame, data.shape, strict=False) if at in range(length)]
    slices = [part for part in parts if isinstance(part, slice)]
    if len(numbers) < leading or len(slices) < len(parts):
        return None
    first, last, step = slices[0].indices(height)
    if step != 1 or not first < last <= first + _MOST_ROWS * height:
        return None
    try:
        skipped, chunk = data.id.read_direct_chunk((*numbers, 0, 0))
    except DAMAGE:
        return None
    size = data.dtype.itemsize
    blocks = None if skipped else _blocks(chunk, height * width * size, size)
    if blocks is None:
        return None
    begin, end = first * width // blocks.elements, -(-last * width // blocks.elements)
    # The last block may be a shorter one, and elements follow it that are not packed.
    if end * blocks.elements > height * width:
        return None
    elements = (end - begin) * blocks.elements
    header = CHUNK_HEADER.pack(elements * size, blocks.elements * size)
    packed = header + chunk[blocks.places[begin] : blocks.places[end]]
    try:
        values = _unpacked_chunk(packed, elements, data)
    except DAMAGE:
        return None
    skip = first * width - begin * blocks.elements
    rows = values[skip : skip + (last - first) * width].reshape(last - first, width)
    return np.ascontiguousarray(rows[:, slices[1]]) if len(slices) > 1 else rows


# A data set in memory of one chunk, which the plug-in unpacks, and what it was made for.
_UNPACKER: dict[tuple[Any, ...], h5py.Dataset] = {}
_LOCK = threading.Lock()


def _unpacked_chunk(chunk: bytes, elements: int, like: h5py.Dataset) -> np.ndarray:
    """Unpack a chunk of so many elements, of a data set's type and with its filter."""
    options = like.id.get_create_plist().get_filter(0)[2][_SET_BY_FILTER:]
    key = elements, like.dtype, options
    with _LOCK:
        if key not in _UNPACKER:
            for other in _UNPACKER.values():
                other.file.close()
            _UNPACKER.clear()
            memory = h5py.File("unpacked", "w", driver="core", backing_store=False)
            _UNPACKER[key] = memory.create_dataset(
                "values",
                (elements,),
                like.dtype,
                chunks=(elements,),
                compression=NUMBER,
                compression_opts=options,
            )
        _UNPACKER[key].id.write_direct_chunk((0,), chunk)
        values: np.ndarray = _UNPACKER[key][()]
    return values
