"""Pixels found bad over a run's first frames, where no mask tells them: once, and recorded with the scores they decide."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np

from sfxjax.crop import CROP
from sfxjax.data.bad_pixels import BAD_PIXEL_FRAMES, FEWEST_FRAMES, find_bad_pixels
from sfxjax.data.frames import pixel_type
from sfxjax.data.workers import Frame, Readers


class BadPixels:
    """What is known of a run's bad pixels.

    Attributes:
        line: about them for the user, empty if none were found.
    """

    def __init__(self) -> None:
        self.line = ""
        self._bad: np.ndarray | None = None
        self._looked_at = self._tried = 0
        self._combined: dict[int, tuple[np.ndarray | None, np.ndarray]] = {}

    def find(self, readers: Readers, frames: list[Frame], good: np.ndarray | None) -> bool:
        """Look for them, unless that was done: once 16 frames differ, and where nothing is found again with 32.

        Args:
            readers: read the frames.
            frames: that can be read so far, in order.
            good: bool (724, 724), pixels that a mask leaves; None: all.

        Returns:
            Whether some were found now, so that scores given before are not valid any more.
        """
        count = min(len(frames), BAD_PIXEL_FRAMES)
        if self._bad is not None or count < FEWEST_FRAMES or count <= self._tried:
            return False
        if self._looked_at and count < BAD_PIXEL_FRAMES:
            return False
        self._tried = count
        chosen = frames[:count]
        dtype = pixel_type([stack.dtype for stack, _ in chosen])
        crops = [crop for batch in readers.batches([chosen], count, dtype) for crop in batch.crops[:count]]
        # Of a growing file frames may be counted before they are written.
        if len({crop[::16, ::16].tobytes() for crop in crops if crop.any()}) >= FEWEST_FRAMES:
            self._looked_at = count
        self._bad, self.line = find_bad_pixels(crops, good)
        return self._bad is not None

    def without(self, good: np.ndarray | None) -> np.ndarray | None:
        """Return a mask without them; the same object for the same mask."""
        if self._bad is None:
            return good
        known = self._combined.get(id(good))
        if known is None or known[0] is not good:
            known = good, ~self._bad if good is None else good & ~self._bad
            self._combined[id(good)] = known
        return known[1]

    def to_json(self) -> dict[str, Any]:
        """Return them as JSON values."""
        assert self._bad is not None
        packed = base64.b64encode(zlib.compress(np.packbits(self._bad).tobytes())).decode()
        return {"line": self.line, "pixels": packed}

    def take(self, record: dict[str, Any]) -> None:
        """Take up what `to_json` gave."""
        bits = np.frombuffer(zlib.decompress(base64.b64decode(record["pixels"])), np.uint8)
        self._bad = np.unpackbits(bits, count=CROP * CROP).astype(bool).reshape(CROP, CROP)
        self.line = str(record["line"])
        self._combined.clear()
