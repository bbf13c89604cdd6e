"""What the page shows of the frames themselves: the last hit, a virtual powder, a radial profile; made aside, once a second."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sfxjax.live.judge import Looks
from sfxjax.live.keeper import JudgedFrame
from sfxjax.screen.lists import HIT
from sfxjax.screen.pictures import flattened, frame_picture, jpeg_of_pixels, largest_of_blocks
from sfxjax.spots.frame_pixels import frame_pixels

EVERY_SECONDS = 1.0
# Longest side of a picture, pixels, and rings of a profile.
JPEG_SIDE, RINGS = 640, 120


@dataclass
class JpegPicture:
    """A picture.

    Attributes:
        version: grows with each new one; 0: there is none yet.
        content: JPEG.
        about: what goes with it, ready for JSON.
    """

    version: int = 0
    content: bytes = b""
    about: dict[str, Any] = field(default_factory=dict)


class Pictures:
    """Makes the pictures in a thread of its own, of the newest frames it is shown.

    Attributes:
        hit: the last hit; about: name, shape (fs, ss), spots [fs, ss], expected number, score.
        powder: the largest value of each pixel over hits; about: how many hits, shape.
        profile: rings' radii in pixels, and mean values of the newest frame in them.
    """

    def __init__(self) -> None:
        self.hit, self.powder = JpegPicture(), JpegPicture()
        self.profile: dict[str, list[float]] = {"radius": [], "mean": []}
        self._new: dict[str, tuple[JudgedFrame, Looks]] = {}
        self._largest: np.ndarray | None = None
        self._rings: tuple[tuple[Any, ...], np.ndarray, np.ndarray] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="pictures", daemon=True)

    def start(self) -> None:
        """Begin to make pictures."""
        self._thread.start()

    def end(self) -> None:
        """Make none any more."""
        self._ended.set()

    def looked_at(self, judged: JudgedFrame, looks: Looks) -> None:
        """Take in a frame; only the newest of each kind is looked at when it is time."""
        for kind in ("frame", "hit") if judged.label == HIT else ("frame",):
            known = self._new.get(kind)
            if known is None or known[0].frame.arrived <= judged.frame.arrived:
                self._new[kind] = judged, looks

    def _work(self) -> None:
        while not self._ended.wait(EVERY_SECONDS):
            self.make()

    def make(self) -> None:
        """Make the pictures of what has come since the last time."""
        hit, frame = self._new.pop("hit", None), self._new.pop("frame", None)
        if hit is not None:
            self._show_hit(*hit)
        if frame is not None:
            self._measure_rings(*frame)

    def _show_hit(self, judged: JudgedFrame, looks: Looks) -> None:
        spots = judged.spots
        assert spots is not None
        values = _floats(looks)
        small, shrink = _shrunk(values)
        about = {
            "name": f"{judged.frame.file} {judged.frame.event}",
            "shape": [values.shape[1], values.shape[0]],
            "spots": [
                [round(float(fs), 1), round(float(ss), 1)]
                for fs, ss in list(zip(spots.fs, spots.ss, strict=True))[:500]
            ],
            "expected": round(spots.expected, 1),
            "score": round(spots.score, 3),
            "time": time.time(),
        }
        self.hit = JpegPicture(self.hit.version + 1, _jpeg(small), about)
        if self._largest is None or self._largest.shape != small.shape:
            self._largest, count = small, 1
        else:
            self._largest, count = np.fmax(self._largest, small), self.powder.about["hits"] + 1
        shape = [small.shape[1] * shrink, small.shape[0] * shrink]
        self.powder = JpegPicture(
            self.powder.version + 1, _jpeg(self._largest), {"hits": count, "shape": shape}
        )

    def _measure_rings(self, judged: JudgedFrame, looks: Looks) -> None:
        # A quarter of the pixels tell as well.
        values = _floats(looks)[::2, ::2]
        centre = judged.frame.centre or (values.shape[1], values.shape[0])
        key = (values.shape, centre)
        if self._rings is None or self._rings[0] != key:
            ss, fs = np.indices(values.shape, np.float32)
            radius = 2 * np.hypot(fs - centre[0] / 2, ss - centre[1] / 2)
            step = max(float(radius.max()) / RINGS, 1e-6)
            ring = np.minimum((radius / step).astype(np.int32), RINGS - 1)
            self._rings = key, ring.ravel(), (np.arange(RINGS) + 0.5) * step
        _, ring, radii = self._rings
        flat = values.ravel()
        good = np.isfinite(flat)
        count = np.bincount(ring[good], minlength=RINGS)
        total = np.bincount(ring[good], flat[good], minlength=RINGS)
        some = count > 0
        self.profile = {
            "radius": [round(float(value), 1) for value in radii[some]],
            "mean": [float(f"{value:.4g}") for value in total[some] / count[some]],
        }


def _floats(looks: Looks) -> np.ndarray:
    """Return a frame as float32, panels one below the other as their spots' places count, NaN where a pixel tells nothing."""
    return frame_pixels(looks.pixels, looks.mask, 0, looks.limit).floats()


def _shrunk(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Make of blocks of pixels one, the largest of them, so that small spots stay; NaN where none tells anything."""
    shrink = max(1, -(-max(values.shape) // JPEG_SIDE))
    filled = largest_of_blocks(np.where(np.isnan(values), -np.inf, values), shrink)
    return np.where(np.isinf(filled), np.nan, filled), shrink


def _jpeg(small: np.ndarray) -> bytes:
    good = np.isfinite(small)
    return jpeg_of_pixels(frame_picture(flattened(np.nan_to_num(small), good), good, 1))
