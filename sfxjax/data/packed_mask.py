"""Masks as text, for records and models."""

from __future__ import annotations

import base64
import zlib

import numpy as np


def packed_mask(mask: np.ndarray) -> str:
    """Return a mask, bool of any shape, as text."""
    return base64.b64encode(zlib.compress(np.packbits(mask).tobytes())).decode()


def unpacked_mask(text: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the mask, bool `shape`, that `packed_mask` gave as text.

    Raises:
        ValueError: the text is damaged, or of another shape.
    """
    pixels = int(np.prod(shape))
    most = -(-pixels // 8)
    try:
        content = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), most + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(content) != most:
        raise ValueError(f"the mask holds {8 * len(content)} pixels, not {pixels}")
    return np.unpackbits(np.frombuffer(content, np.uint8), count=pixels).astype(bool).reshape(shape)
