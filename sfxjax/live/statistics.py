"""Hit rates with intervals, over the shift and the last minute, and how long frames take; all of it in bounded memory."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import asdict, dataclass, field

import numpy as np
from scipy.stats import binomtest

RATE_CONFIDENCE = 0.95
# Latencies are counted in classes that grow by 3 % from a millisecond to a thousand seconds.
_SHORTEST, _GROWTH, _CLASSES = 1e-3, 1.03, 470


@dataclass
class Sums:
    """Sums over judged frames, each of which stands for a group of frames that came.

    Attributes:
        judged: frames judged.
        hits: of them.
        weight: frames that they stand for.
        squares: sum of squares of the weights.
        weighted_hits: frames that the hits stand for.
        spots: sum of the expected numbers of spots, weighted.
    """

    judged: int = 0
    hits: int = 0
    weight: float = 0.0
    squares: float = 0.0
    weighted_hits: float = 0.0
    spots: float = 0.0

    def add(self, weight: float, is_hit: bool, spots: float) -> None:
        """Add a frame."""
        self.judged += 1
        self.hits += is_hit
        self.weight += weight
        self.squares += weight * weight
        self.weighted_hits += weight * is_hit
        self.spots += weight * spots

    def plus(self, other: Sums) -> Sums:
        """Return the sums of both."""
        return Sums(*(getattr(self, name) + value for name, value in asdict(other).items()))

    def minus(self, earlier: Sums) -> Sums:
        """Return the sums over what was added since."""
        return Sums(*(getattr(self, name) - value for name, value in asdict(earlier).items()))


@dataclass(frozen=True)
class HitRate:
    """A hit rate and its 95 % interval, all NaN where nothing was judged."""

    value: float
    low: float
    high: float
    frames: int


def estimated_hit_rate(sums: Sums) -> HitRate:
    """Return the hit rate of the frames that came, of which those judged are a sample.

    Weights that differ make the sample worth less: its size counts as (sum of weights)^2 / (sum of squares).

    References:
        Wilson, J. Am. Stat. Assoc. 22:209 (1927); Kish, Survey Sampling (1965), for the effective size.
    """
    if not sums.judged:
        return HitRate(math.nan, math.nan, math.nan, 0)
    value = sums.weighted_hits / sums.weight
    size = max(int(sums.weight**2 / sums.squares + 1e-6), 1)
    interval = binomtest(min(round(value * size), size), size).proportion_ci(RATE_CONFIDENCE, method="wilson")
    # Rounding to a whole number of hits may not put the value outside its own interval.
    return HitRate(value, min(float(interval.low), value), max(float(interval.high), value), sums.judged)


class RecentSums:
    """Sums over the last seconds.

    Args:
        seconds: how many.
        step: seconds that are dropped at once.
    """

    def __init__(self, seconds: float = 60.0, step: float = 1.0) -> None:
        self.seconds, self._step = seconds, step
        self._parts: deque[tuple[float, Sums]] = deque()

    def add(self, now: float, weight: float, is_hit: bool, spots: float) -> None:
        """Add a frame that was judged now, seconds of any clock."""
        if not self._parts or now - self._parts[-1][0] >= self._step:
            self._parts.append((now, Sums()))
        self._parts[-1][1].add(weight, is_hit, spots)
        self._drop(now)

    def sums(self, now: float) -> Sums:
        """Return the sums of what was judged in the last seconds."""
        self._drop(now)
        total = Sums()
        for _, part in self._parts:
            total = total.plus(part)
        return total

    def _drop(self, now: float) -> None:
        while self._parts and now - self._parts[0][0] > self.seconds:
            self._parts.popleft()


@dataclass
class Latencies:
    """How long frames took, in classes of 3 %."""

    counts: np.ndarray = field(default_factory=lambda: np.zeros(_CLASSES, np.int64))
    longest: float = 0.0

    def add(self, seconds: float) -> None:
        """Add a frame."""
        place = math.log(max(seconds, _SHORTEST) / _SHORTEST) / math.log(_GROWTH)
        self.counts[min(int(place), _CLASSES - 1)] += 1
        self.longest = max(self.longest, seconds)

    def quantile(self, share: float) -> float:
        """Return the seconds within which a share of the frames were listed, at most 3 % too high; NaN for none."""
        total = int(self.counts.sum())
        if not total:
            return math.nan
        place = int(np.searchsorted(np.cumsum(self.counts), math.ceil(share * total)))
        return min(_SHORTEST * _GROWTH ** (place + 1), max(self.longest, _SHORTEST))


class RecentLatencies:
    """How long the frames of the last seconds took.

    Args:
        seconds: how many, at least; up to twice as many.
    """

    def __init__(self, seconds: float = 60.0) -> None:
        self._seconds = seconds
        self._since = -math.inf
        self._older, self._newer = Latencies(), Latencies()

    def add(self, now: float, seconds: float) -> None:
        """Add a frame that was listed now."""
        if now - self._since > self._seconds:
            stale = now - self._since > 2 * self._seconds
            self._older, self._newer, self._since = Latencies() if stale else self._newer, Latencies(), now
        self._newer.add(seconds)

    def quantile(self, share: float) -> float:
        """See `Latencies.quantile`."""
        counts = self._older.counts + self._newer.counts
        return Latencies(counts, max(self._older.longest, self._newer.longest)).quantile(share)


@dataclass
class FrameCounts:
    """Where the frames that came are.

    Attributes:
        received: frames that came.
        judged: of them, with a result in the lists.
        left_out: of them, those that the sample does not hold, or that waited when the program ended.
        errors: of them, those that could not be unpacked or judged; they are in the lists.
        repeated: of them, those that were in the lists already.
        lost: numbers of a series that never came here.
    """

    received: int = 0
    judged: int = 0
    left_out: int = 0
    errors: int = 0
    repeated: int = 0
    lost: int = 0
