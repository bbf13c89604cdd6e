"""Whether chunks that bitshuffle and LZ4 compressed can be unpacked without reading beyond them, as the plug-in may do.

A chunk holds the number of its bytes (8 bytes), those of a block (4), then each block behind its packed length (4), and the last
elements, which fill no eight, as they are. All numbers have their highest byte first.
Source: https://github.com/kiyo-masui/bitshuffle, `bshuf_h5filter.c` and `bitshuffle_core.c`.
"""

from __future__ import annotations

import itertools
import math
import struct

import h5py

from sfxjax.data.filters import filters_of
from sfxjax.data.opening import DAMAGE

NUMBER, _LZ4 = 32008, 2
# Bytes of a chunk and of a block; the packed length of a block.
CHUNK_HEADER, _LENGTH = struct.Struct(">QI"), struct.Struct(">I")
# Elements are packed by eights.
_MULTIPLE = 8
# Of a part of a data set so many are looked at.
_MOST_CHUNKS = 1024


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
        return all(not skipped and _is_whole(chunk, size, data.dtype.itemsize) for skipped, chunk in chunks)
    except DAMAGE:
        return False


def _is_whole(chunk: bytes, size: int, itemsize: int) -> bool:
    """Tell whether a chunk unpacks to `size` bytes and its blocks end where it does."""
    if len(chunk) < CHUNK_HEADER.size:
        return False
    claimed, block = CHUNK_HEADER.unpack_from(chunk)
    block //= itemsize
    if claimed != size or block <= 0 or block % _MULTIPLE:
        return False
    elements = size // itemsize
    blocks = elements // block + (elements % block >= _MULTIPLE)
    place, last = CHUNK_HEADER.size, len(chunk) - _LENGTH.size
    read = _LENGTH.unpack_from
    for _ in range(blocks):
        if place > last:
            return False
        place += _LENGTH.size + read(chunk, place)[0]
    return place + elements % _MULTIPLE * itemsize <= len(chunk)
