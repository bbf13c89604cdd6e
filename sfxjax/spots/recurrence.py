"""Places where frames of one run show spots again and again: those are the detector's, since crystals come and go.

With n frames, of which k show a spot near a pixel, and b the share that crystals alone would give it, k is binomial of b where
nothing stays put, and of an unknown rate (uniform) where something does. The odds of the latter follow from Bayes' rule,
with `PRIOR` before any frame is seen. A place is the detector's where the odds are even and a spot in it is more likely the
detector's than a crystal's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import label
from scipy.special import betaln, xlog1py, xlogy

from sfxjax.spots.day_one import FrameSpots

# Half the edge of what counts as near, pixels: of a spot, and of the blocks that name one candidate each.
NEAR_SPOT, NEAR_BLOCK = 1, 4
# Share of places that show spots of their own.
PRIOR = 1e-3
# Crystals' spots gather near the beam: a place may get so many times what the typical one gets.
GATHERING = 5.0
# Fewer frames tell nothing.
FEWEST = 16
# A candidate shows a spot where it is one with at least this probability, and has at least this ratio.
SHOWN, LEAST_SHOWN = 0.2, 4.0
# Variance of the number of places a frame shows, over that of places that show spots independently.
MOST_VARIANCE = 4.0


def shown(spots: FrameSpots) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the pixels where a frame shows spots, ints (n,) each."""
    use = (spots.probability >= SHOWN) & (spots.signal_to_noise >= LEAST_SHOWN)
    return np.round(spots.ss[use]).astype(int), np.round(spots.fs[use]).astype(int)


def recurring_places(frames: Sequence[FrameSpots], shape: tuple[int, int]) -> np.ndarray:
    """Find the pixels near which frames show spots too often for a crystal.

    Args:
        frames: with all their candidates.
        shape: of a frame, panels below one another.

    Returns:
        bool `shape`; False everywhere for fewer than `FEWEST` frames.
    """
    found: np.ndarray = np.zeros(shape, bool)
    if len(frames) < FEWEST:
        return found
    places = [shown(frame) for frame in frames]
    for reach in (NEAR_SPOT, NEAR_BLOCK):
        found |= _too_often(
            _counts(places, shape, reach), len(frames), sum(len(ss) for ss, _ in places), reach
        )
    return found


def _counts(
    places: Sequence[tuple[np.ndarray, np.ndarray]], shape: tuple[int, int], reach: int
) -> np.ndarray:
    """Return how many frames show a spot within `reach` pixels of each pixel."""
    counts = np.zeros(shape, np.uint32)
    steps = np.arange(-reach, reach + 1)
    for ss, fs in places:
        near_ss = ss[:, None, None] + steps[:, None]
        near_fs = fs[:, None, None] + steps
        inside = (near_ss >= 0) & (near_ss < shape[0]) & (near_fs >= 0) & (near_fs < shape[1])
        counts.ravel()[np.unique((near_ss * shape[1] + near_fs)[inside])] += 1
    return counts


def _too_often(counts: np.ndarray, frames: int, spots: int, reach: int) -> np.ndarray:
    by_count = np.arange(frames + 1)
    base = spots * (2 * reach + 1) ** 2 / counts.size / frames
    # Twice: what the detector shows is no crystal's.
    often = np.zeros(frames + 1, bool)
    for _ in range(2):
        most = min(GATHERING * max(base, 1e-6), 0.5)
        crystal = xlogy(by_count, most) + xlog1py(frames - by_count, -most)
        detector = betaln(by_count + 1, frames - by_count + 1) + np.log(PRIOR)
        often = (detector > crystal) & (by_count > 2 * most * frames)
        usual = ~often[counts]
        base = counts[usual].sum() / max(usual.sum(), 1) / frames
    return often[counts]


def shown_together(frames: Sequence[FrameSpots], places: np.ndarray) -> bool:
    """Tell whether spots at places come and go together, as those of a crystal that stays for some frames.

    Single bad pixels show spots independently of one another: the number that a frame shows then has at most the variance that
    their rates give.

    Args:
        frames: of a run.
        places: bool (ss, fs), of `recurring_places`.
    """
    names, count = label(places)
    if not count:
        return False
    seen = np.zeros((len(frames), count), bool)
    for number, frame in enumerate(frames):
        ss, fs = (part.clip(0, size - 1) for part, size in zip(shown(frame), places.shape, strict=True))
        which = names[ss, fs]
        seen[number, which[which > 0] - 1] = True
    rates = seen.mean(0)
    expected = float((rates * (1 - rates)).sum())
    return float(seen.sum(1).var()) > MOST_VARIANCE * expected + 1
