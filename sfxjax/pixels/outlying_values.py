"""Values so far from all others of a frame that nothing measured them: of broken pixels, of corrections that divide by next to 0.

A few of them, even one, decide the noise around them, and squares of the largest are beyond float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

# Looked at of a frame.
_SAMPLED = 8192
# A counter of 32 bits ends at so many times its lowest count, and none has more.
_LOG2_MOST_ABOVE = 32
_LOG2_LARGEST = 1024
# Noise is not so many times as far below the median as its outermost hundredth begins.
_MOST_BELOW = 10
_OUTERMOST = 0.01


def beyond_measure(frame: np.ndarray, limit: float, highest: float) -> float:
    """Return the value from which nothing was measured; infinity where no pixel reads so much.

    Args:
        frame: of any shape and real type.
        limit: value from which pixels tell nothing for another reason.
        highest: value of the frame that is not lower than any below the limit.
    """
    if frame.dtype.kind != "f" and frame.dtype.itemsize < 8:
        return math.inf
    some = _sample(frame)
    some = some[(some > 0) & (some < limit)]
    if not some.size:
        return math.inf
    # Next to a power of 2, so that it is the same in frames that are nearly alike, and no pixel's own value.
    exponent = math.ceil(math.log2(np.quantile(some, 1 - _OUTERMOST))) + _LOG2_MOST_ABOVE
    beyond = math.nextafter(2.0**exponent, 0) if exponent < _LOG2_LARGEST else math.inf
    if not highest >= beyond:
        return math.inf
    with np.errstate(over="ignore"):
        reached = (frame >= beyond) & (frame < limit) & np.isfinite(frame)
    return beyond if reached.any() else math.inf


def is_beyond_measure(limit: float) -> bool:
    """Tell whether `beyond_measure` has given a limit."""
    return math.isfinite(limit) and math.frexp(math.nextafter(limit, math.inf))[0] == 0.5


def below_measure(frame: np.ndarray, lowest: float, without: Sequence[float] = ()) -> float:
    """Return the negative value below which nothing was measured; minus infinity where no pixel reads so little.

    Args:
        frame: of any shape and real type.
        lowest: value of the frame that is a number.
        without: values that tell nothing for another reason.
    """
    if frame.dtype.kind not in "if" or not lowest < 0:
        return -math.inf
    some = _sample(frame)
    some = some[~np.isin(some, without)]
    if not some.size:
        return -math.inf
    low, middle, high = np.quantile(some, [_OUTERMOST, 0.5, 1 - _OUTERMOST])
    spread = max(middle - low, high - middle)
    below = float(min(middle - _MOST_BELOW * spread, 0.0))
    if not (spread > 0 and lowest < below):
        return -math.inf
    # What tells nothing for another reason may be all that is there.
    reached = frame[(frame < below) & np.isfinite(frame)]
    return below if np.isin(reached, without, invert=True).any() else -math.inf


def _sample(frame: np.ndarray) -> np.ndarray:
    """Return some of a frame's values that are numbers, float64."""
    flat = frame.reshape(-1)
    # An odd step takes all columns in turn.
    some = flat[:: (flat.size // _SAMPLED) | 1].astype(np.float64)
    return some[np.isfinite(some)]
