"""Judges a frame of a stream by the spots it shows, as `sfxjax screen` does those of files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sfxjax.errors import UserError
from sfxjax.live.frames import LiveFrame, MessageError
from sfxjax.live.keeper import JudgedFrame
from sfxjax.pixels.missing_values import with_limit
from sfxjax.screen.fitted import FittedModel, model_line

if TYPE_CHECKING:
    from sfxjax.spots.day_one import FrameSpots

# More threads than cores: while one unpacks a frame and makes it ready, each core has another whose spots are looked for.
THREADS_BESIDE_CORES = 1
# Every so many-th row and column is looked at for how bright a frame is, and whether it is saturated.
LOOK_STRIDE = 5


@dataclass(frozen=True)
class Looks:
    """What a frame looks like, apart from its spots.

    Attributes:
        brightness: mean of the pixels that count, detector units.
        saturated: share of pixels at or above what the source or the type calls saturated.
        pixels: the frame.
        mask: bool of its shape, True where a pixel counts; or None.
        limit: value from which pixels tell nothing.
    """

    brightness: float
    saturated: float
    pixels: np.ndarray
    mask: np.ndarray | None
    limit: float


def judging_threads() -> int:
    """Return how many threads judge the frames of a stream."""
    # Imported late, as JAX is.
    from sfxjax.mapping import cores

    return cores() + THREADS_BESIDE_CORES


class Judge:
    """Judges frames; threads may share it.

    Args:
        min_snr: signal-to-noise ratio from which a spot is visible.
        min_spots: visible spots from which a frame is a hit.
        mask: bool, True where a pixel counts; None: the frames' own alone.
        fitted: model that scores them; None: the day-one model as it is.
    """

    def __init__(
        self,
        min_snr: float,
        min_spots: int,
        mask: np.ndarray | None = None,
        fitted: FittedModel | None = None,
    ) -> None:
        # Imported late, as JAX is.
        from sfxjax.spots.together import SpotFinder

        self.min_snr, self.min_spots = min_snr, min_spots
        self._finder = SpotFinder(min_snr, min_spots)
        self._mask = mask
        self._fitted = fitted
        self.model = model_line(fitted)

    def __call__(self, frame: LiveFrame, weight: int) -> tuple[JudgedFrame, Looks | None]:
        """Unpack and judge a frame; what is wrong with it becomes its reason."""
        fitted = self._fitted
        try:
            pixels = frame.unpack()
            mask = self._mask_of(frame, pixels)
            pixels, limit = with_limit(pixels, frame.limit, mask=mask)
            if fitted is None or fitted.pattern is None:
                found = self._finder.find(pixels, mask, limit)
            else:
                treated = fitted.pattern.taken_out(pixels, mask, limit)
                found = fitted.pattern.in_frame(self._finder.find(*treated), pixels.shape)
        except (UserError, MessageError) as error:
            return JudgedFrame(frame, weight, None, " ".join(str(error).split())), None
        spots: FrameSpots = found.visible(self.min_snr)
        result = JudgedFrame(frame, weight, spots)
        if fitted is not None:
            result = replace(result, spots=fitted.scored(spots), threshold=fitted.recalibration.threshold)
        return result, _looks(frame, pixels, mask, limit)

    def _mask_of(self, frame: LiveFrame, pixels: np.ndarray) -> np.ndarray | None:
        if self._mask is None:
            return frame.mask
        if self._mask.shape != pixels.shape:
            found, wanted = ("x".join(map(str, shape)) for shape in (self._mask.shape, pixels.shape))
            raise UserError(f"the mask has {found} pixels, the frame {wanted}")
        return self._mask if frame.mask is None else self._mask & frame.mask


def _looks(frame: LiveFrame, pixels: np.ndarray, mask: np.ndarray | None, limit: float) -> Looks:
    some = (..., slice(LOOK_STRIDE // 2, None, LOOK_STRIDE), slice(LOOK_STRIDE // 2, None, LOOK_STRIDE))
    sample = pixels[some]
    counts = sample < limit if mask is None else mask[some] & (sample < limit)
    kept = sample[counts]
    highest = min(frame.saturation, limit)
    if not np.isfinite(highest):
        highest = float(np.iinfo(pixels.dtype).max) if pixels.dtype.kind in "iu" else np.inf
    # Gaps and dead pixels read the type's highest values: where a mask is known only pixels that count are asked about.
    asked = sample if mask is None else sample[mask[some]]
    saturated = float(np.mean(asked >= highest)) if asked.size and np.isfinite(highest) else 0.0
    return Looks(float(kept.mean()) if kept.size else 0.0, saturated, pixels, mask, limit)
