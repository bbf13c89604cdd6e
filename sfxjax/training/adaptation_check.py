"""What decides whether an adaptation is kept: frames of a run's own noise, with simulated crystals or without.

Blank frames are put together from the pixels of frames that show least, each pixel from another of `MIXED` frames of about the
same light, brought to one level. Into them go spots as strong, by the noise that does not stay put, as a simulated crystal's:
clear hits, whose deciding spot is `CLEAR_HIT` times the threshold of sight or stronger, and clear misses, blank or with spots too
few or too weak. Hits that stand out far are left out, as any way finds them. Simulated spots are not the crystals' own, so what a
way gains in recall is estimated twice: on simulated hits, and on the run's own frames, by how many more of them are called hits
than the false ones among the simulated misses account for. It is kept if neither falls, and what it gains in balanced accuracy,
with the mean of both, is above 0 by `SURE_ERRORS` standard errors of paired differences.

Blanks put together so show no rings, streaks and tracks that move, so a treated frame is called a hit with more caution: from
`LEAST_THRESHOLD` on, and from where no more simulated misses are called hits than without the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sfxjax.data.read import WholeFrame
from sfxjax.simulate.inserted import moving_noise, with_spots
from sfxjax.spots.definition import MIN_SNR, MIN_SPOTS
from sfxjax.spots.fixed_pattern import LEVELS_ALIKE
from sfxjax.spots.frame_pixels import frame_pixels

# Frames of either class, and of how many frames a blank one is put together.
CHECKED, MIXED = 64, 8
# Deciding ratios, in units of the threshold of sight: of hits from the one to the other, of misses below.
CLEAR_HIT, FAR_HIT, CLEAR_MISS = 1.25, 2.5, 0.8
# Standard errors above 0: chance alone does as well once in a hundred.
SURE_ERRORS = 2.33
# Of the probability from which a treated frame is a hit: both were chosen on simulated runs; a way that needs more is none.
LEAST_THRESHOLD, MOST_THRESHOLD = 0.8, 0.95
# A pixel is live that so many of the frames know, and that does not hold the same value in all of them.
LIVE_FROM = 0.1
# Standard deviations of spots, pixels, where the run does not tell its own.
SIZES_DRAWN = (0.7, 1.4)
# Chances that frames show no spot, or at most `FROM_FEW`; others show `FROM_MANY`.
NO_SPOT, FEW_SPOTS, FROM_FEW, FROM_MANY = 0.35, 0.2, (1, 8), (4, 40)
# Of a crystal's ratios, in units of the threshold of sight: mean of the exponential tail of their logarithms, and the weakest.
TAIL, WEAKEST = (0.3, 1.3), 1.08
# Ratios of spots that cannot be seen, in the same units.
UNSEEN = (0.08, 1.0)


@dataclass(frozen=True)
class Check:
    """What a way tells of frames.

    Attributes:
        right: bool (2 * `CHECKED`,), which simulated frames are told right, the clear hits first.
        called: bool (n,), which frames of the run are called hits.
    """

    right: np.ndarray
    called: np.ndarray

    @property
    def hits(self) -> int:
        """How many of the simulated hits are told right."""
        return int(self.right[:CHECKED].sum())

    @property
    def misses(self) -> int:
        """How many of the simulated misses are told right."""
        return int(self.right[CHECKED:].sum())

    def gain(self, other: Check) -> Gain:
        """Estimate what is gained where this replaces another check of the same frames."""
        changed = self.right.astype(int) - other.right
        hits, misses = changed[:CHECKED], -changed[CHECKED:]
        calls = self.called.astype(int) - other.called
        among = max(int(self.called.sum()), int(other.called.sum()), 1)
        false = float(misses.mean())
        # Of the run's frames those that are no hits are called hits more often by so much.
        others = (len(calls) - among) / among
        recall, own_recall = float(hits.mean()), float(calls.sum()) / among - false * others
        weight = 1 + others / 2
        error = np.sqrt(
            np.abs(hits).sum() / (2 * CHECKED) ** 2
            + np.abs(calls).sum() / (2 * among) ** 2
            + weight**2 * np.abs(misses).sum() / CHECKED**2
        )
        return Gain(recall, own_recall, ((recall + own_recall) / 2 - false) / 2, float(error) / 2)


def cautious_threshold(scores: np.ndarray, false: int) -> float:
    """Return the probability from which a treated frame is a hit.

    Args:
        scores: (2 * `CHECKED`,) of the treated simulated frames, the clear hits first.
        false: simulated misses that are called hits by the model as it is.
    """
    highest = np.sort(scores[CHECKED:])[::-1]
    if false == len(highest):
        return LEAST_THRESHOLD
    return max(LEAST_THRESHOLD, (np.floor(1000 * float(highest[false])) + 1) / 1000)


class Gain(NamedTuple):
    """What is gained by a way.

    Attributes:
        recall: of simulated hits.
        own_recall: of the run's own hits, as far as it can be told.
        balanced: accuracy.
        error: standard error of that.
    """

    recall: float
    own_recall: float
    balanced: float
    error: float

    @property
    def sure(self) -> bool:
        """Whether the way is better beyond chance, and loses no hits."""
        return min(self.recall, self.own_recall) >= 0 and self.balanced > SURE_ERRORS * self.error


class CheckFrames:
    """The frames, made one by one as they are asked for."""

    def __init__(
        self, frames: Sequence[WholeFrame], expected: Sequence[float], size: float | None, seed: int
    ) -> None:
        """Take the frames that show least.

        Args:
            frames: of the run, at least `MIXED`.
            expected: number of spots in each.
            size: of the run's spots, pixels; None: not known.
            seed: of all that is drawn.
        """
        quiet = np.argsort(expected)[: max(len(frames) // 2, MIXED)]
        chosen = [frames[place] for place in quiet]
        ready = [frame_pixels(frame.pixels, frame.mask, 0, frame.limit) for frame in chosen]
        values = [each.floats() for each in ready]
        levels = np.array([float(np.nanmedian(each)) if np.isfinite(each).any() else 0.0 for each in values])
        # Photons that are counted one by one cannot be scaled.
        counting = np.mean([each.counting for each in ready]) >= 0.5
        if not counting and 0 < levels.max() < LEVELS_ALIKE * levels.min():
            middle = float(np.median(levels))
            chosen = [
                _brightened(frame, each, middle / level)
                for frame, each, level in zip(chosen, values, levels, strict=True)
            ]
        self._frames = [chosen[place] for place in np.argsort(levels)]
        # A pixel that a frame cuts off at 0 tells nothing there and yet shows spots; gaps hold one value.
        live = np.mean([np.isfinite(each) for each in values], axis=0) >= LIVE_FROM
        if not counting:
            first = chosen[0].pixels
            live &= np.any([each.pixels != first for each in chosen[1:]], axis=0).reshape(live.shape)
        self._live = live.reshape(chosen[0].pixels.shape)
        self._size, self._seed = size, seed

    def frame(self, number: int) -> WholeFrame:
        """Make a frame: a clear hit below `CHECKED`, a clear miss from there on."""
        rng = np.random.default_rng((self._seed, number))
        ratios = drawn_ratios(rng, number < CHECKED)
        start = int(rng.integers(0, max(len(self._frames) - MIXED, 0) + 1))
        some = self._frames[start : start + MIXED]
        which = rng.integers(0, len(some), some[0].pixels.shape)
        blank = _mixed(some, which)
        if not len(ratios):
            return blank
        # Of no pixel from the same frame: its noise is then that of the mixture, without what stays put.
        other = _mixed(some, (which + rng.integers(1, len(some), which.shape)) % len(some))
        noise = moving_noise(*(self._shown(each) for each in (blank, other)))
        size = self._size or float(np.exp(rng.uniform(*np.log(SIZES_DRAWN))))
        return blank._replace(
            pixels=with_spots(rng, blank.pixels, self._live, blank.limit, ratios.tolist(), size, noise)
        )

    def _shown(self, frame: WholeFrame) -> np.ndarray:
        """Return what a live detector shows, (rows, fs) float32, NaN elsewhere."""
        shown = np.where(self._live & (frame.pixels < frame.limit), frame.pixels, np.nan)
        return shown.reshape(-1, shown.shape[-1]).astype(np.float32)


def _mixed(frames: Sequence[WholeFrame], which: np.ndarray) -> WholeFrame:
    """Put a frame together, each pixel from the frame that `which` names."""
    pixels = frames[0].pixels.copy()
    mask = None if frames[0].mask is None else frames[0].mask.copy()
    for place, frame in enumerate(frames):
        own = which == place
        pixels[own] = frame.pixels[own]
        if mask is not None and frame.mask is not None:
            mask[own] = frame.mask[own]
    return WholeFrame(pixels, mask, frames[0].limit)


def _brightened(frame: WholeFrame, values: np.ndarray, factor: float) -> WholeFrame:
    """Multiply a frame by a factor; pixels that tell nothing, NaN in `values`, stay as they are."""
    values = values.reshape(frame.pixels.shape)
    known = np.isfinite(values)
    scaled = values[known] * factor
    dtype = frame.pixels.dtype
    if dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        # The highest and the lowest stand for no value.
        scaled = scaled.round().clip(bounds.min + 1, bounds.max - 1)
    pixels = frame.pixels.copy()
    pixels[known] = scaled.astype(dtype)
    return frame._replace(pixels=pixels)


def drawn_ratios(rng: np.random.Generator, hit: bool) -> np.ndarray:
    """Draw the signal-to-noise ratios of a simulated crystal's spots, (n,), of a clear hit or a clear miss."""
    while True:
        kind = rng.random()
        count = 0
        if kind >= NO_SPOT:
            few = kind < NO_SPOT + FEW_SPOTS
            count = int(rng.integers(*FROM_FEW)) if few else int(np.exp(rng.uniform(*np.log(FROM_MANY))))
        seen = WEAKEST * np.exp(rng.exponential(rng.uniform(*TAIL), count))
        unseen = rng.uniform(*UNSEEN, int(count * rng.uniform(0, 1.5)))
        ratios = np.concatenate([unseen, seen])
        deciding = float(np.sort(ratios)[-MIN_SPOTS]) if len(ratios) >= MIN_SPOTS else 0.0
        if (CLEAR_HIT <= deciding < FAR_HIT) if hit else deciding < CLEAR_MISS:
            return MIN_SNR * ratios
