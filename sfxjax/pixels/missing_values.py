"""Which values of a pixel mean "no value" without a mask: the one rule of readers, screening, training and spot finding.

Detectors write their largest number into gaps, and one less into dead pixels: 2^n - 1 and 2^n - 2 of the n bits that they count
with, often in integers that are wider, or in floats (DECTRIS, NXmx; nexusformat/definitions issue 1258). Such values lie above
all others, so one limit leaves them out: a pixel counts where it is below it. Programs that assemble or correct frames write
negative numbers instead, -9999 for one and perhaps -9998 for the other; `without_low_values` finds those.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sfxjax.pixels.outlying_values import below_measure, beyond_measure, is_beyond_measure
from sfxjax.pixels.saturated_spots import with_saturated_spots

# Bits that detectors count with, besides those that a file names. Of 8 bits the highest value may come by chance.
DEPTHS = (16, 31, 32)
# So many pixels that share a frame's highest value are no chance, if few others come near it.
MANY_ALIKE = 24
RARER = 4


# Negative values that mean "no value" are looked for in so many ranges, each from the lowest to half of that; so many may be in
# one, and so many times the smallest step lies between them and the next higher value.
_LOW_BANDS, _FEW_VALUES, _APART = 6, 4, 10
_MOST_SAMPLED = 50_000


def type_limit(dtype: np.dtype | type) -> float:
    """Return the value from which a pixel of this type tells nothing, infinity for types without one.

    Unsigned integers of 16 bits and more end with the two numbers that stand for gaps and dead pixels, signed ones with one. In
    16 bits with a sign that is a saturated pixel's as a rule, which counts where it is the heart of a spot.
    """
    dtype = np.dtype(dtype)
    if dtype.kind not in "iu" or dtype.itemsize < 2:
        return math.inf
    largest = np.iinfo(dtype).max
    # A float64 holds the largest number of 64 bits rounded up, where no pixel of the type reaches it.
    return math.nextafter(largest, 0) if dtype.itemsize == 8 else float(largest) - (dtype.kind == "u")


def is_below(values: Any, limit: Any, xp: Any = np) -> Any:
    """Tell which values are below a limit.

    Args:
        values: array of any real type.
        limit: a Python number, which integers are compared with exactly and in their own type; or with JAX a float32 scalar.
        xp: `numpy` or `jax.numpy`.
    """
    if not isinstance(limit, (int, float)) or not np.issubdtype(values.dtype, np.integer):
        with np.errstate(over="ignore"):  # A limit may be beyond the type.
            return values < limit if xp is np else values.astype(xp.float32) < limit
    # float32 cannot tell neighbouring integers above 2^24 apart, and NumPy takes several times as long for float64.
    bounds = np.iinfo(values.dtype)
    if limit > bounds.max:
        return xp.ones(values.shape, bool)
    return values < xp.asarray(max(math.ceil(limit), bounds.min), values.dtype)


def value_limit(frame: np.ndarray, declared: float = math.inf, depths: Sequence[int] = ()) -> float:
    """Return the value from which the pixels of a frame tell nothing.

    That is the least of: what the type and the file declare; 2^n - 2, where the highest value is that or one more, for n of 16,
    31, 32 and the depths that the file names; the highest value itself where many pixels hold it and few come near it; and what
    is too far above all others to be measured, see `sfxjax.pixels.outlying_values`.

    Args:
        frame: of any shape and real type.
        declared: value from which pixels are invalid by the file's own word.
        depths: numbers of bits that the file says the detector counts with.

    Returns:
        The limit, infinity for none.
    """
    limit = min(type_limit(frame.dtype), declared)
    if frame.dtype.kind not in "iuf" or frame.size == 0:
        return limit
    limit, highest = _limit_of_gaps(frame, limit, depths)
    beyond = beyond_measure(frame, limit, highest)
    return limit if beyond == math.inf else _limit_of_gaps(frame, beyond, depths)[0]


def _limit_of_gaps(frame: np.ndarray, limit: float, depths: Sequence[int]) -> tuple[float, float]:
    """Return the limit that gaps and dead pixels set, and the highest value below it or a higher one."""
    highest = -1.0
    for _ in range(2):  # Gaps first, dead pixels, one less, then.
        highest = _highest(frame, limit)
        if not highest > 0:
            return limit, highest
        for depth in (*DEPTHS, *depths):
            if highest in _ends(depth, frame.dtype):
                return float(2**depth - 2), highest
        if not _is_no_value(frame, highest):
            return limit, highest
        limit = highest
    return limit, highest


def rule_of_limit(
    limit: float, dtype: np.dtype | type, declared: float | None = None, depths: Sequence[int] = ()
) -> str:
    """Say by what rule of `value_limit` pixels from a value on tell nothing.

    Args:
        limit: of `value_limit`.
        dtype: of the frame.
        declared: see `with_limit`.
        depths: see `value_limit`.
    """
    if limit == declared:
        return "the file says that pixels are saturated there"
    if limit == type_limit(dtype):
        return f"the highest values of {np.dtype(dtype).name} mean gaps and dead pixels"
    bits = next((depth for depth in (*DEPTHS, *depths) if limit == 2**depth - 2), None)
    if bits is not None:
        return f"the highest values of {bits} bits mean gaps and dead pixels"
    if is_beyond_measure(limit):
        return "nothing measures so much more than all other pixels read"
    return "many pixels hold the highest value, and few come near it"


def with_limit(
    frame: np.ndarray,
    declared: float | None = None,
    depths: Sequence[int] = (),
    mask: np.ndarray | None = None,
) -> tuple[np.ndarray, float]:
    """Find the value from which the pixels of a frame tell nothing, and keep those of saturated spots below it.

    Args:
        frame: (..., ss, fs), any real type.
        declared: see `value_limit`; None: nothing.
        depths: see `value_limit`.
        mask: bool of that shape, True where a pixel counts; or None.

    Returns:
        The frame, a copy where spots are saturated, and the limit of `value_limit`.
    """
    declared = math.inf if declared is None else declared
    limit = value_limit(frame, declared, depths)
    return with_saturated_spots(frame, limit, mask), limit


def each_with_limit(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Apply `with_limit` to each of many frames.

    Args:
        frames: (n, ss, fs).

    Returns:
        The frames, the same array where nothing is to be changed; and float64 (n,), the limits.
    """
    each = list(frames)
    pairs = [with_limit(frame) for frame in each]
    limits = np.array([limit for _, limit in pairs])
    if all(new is old for (new, _), old in zip(pairs, each, strict=True)):
        return frames, limits
    return np.stack([frame for frame, _ in pairs]), limits


def _highest(frame: np.ndarray, limit: float) -> float:
    """Return the highest finite value below a limit, -1 where there is none."""
    highest = frame.max()
    if not highest < limit or not np.isfinite(highest):
        kept = frame[is_below(frame, limit) & np.isfinite(frame)]
        highest = kept.max() if kept.size else -1
    return float(highest)


def _ends(depth: int, dtype: np.dtype) -> tuple[float, float]:
    kind = dtype if dtype.kind == "f" else np.dtype(np.float64)
    with np.errstate(over="ignore"):
        return float(kind.type(2**depth - 1)), float(kind.type(2**depth - 2))


def _is_no_value(frame: np.ndarray, highest: float) -> bool:
    """Tell whether a frame's highest value stands far above the others in many pixels, as no measured one does."""
    # In the frame's own type, which compares several times as fast.
    held = int(np.count_nonzero(frame == frame.dtype.type(highest)))
    if held < MANY_ALIKE:
        return False
    near = int(np.count_nonzero(is_below(frame, highest) & ~is_below(frame, highest / 2)))
    # In a frame of single photons the highest value is common too; then nothing lies between it and 0.
    return held > RARER * near and bool(np.any((frame > 0) & is_below(frame, highest / 2)))


def low_values(frame: np.ndarray, lowest: Any = None) -> list[float]:
    """Return the negative values of a frame that mean "no value": few, held by many pixels, far below all others.

    Values of -1 and -2 beside ordinary ones lie too near to them to be told so.

    Args:
        frame: of any shape and real type.
        lowest: value of it, 0 where none is negative; None: not known yet.
    """
    if frame.dtype.kind not in "if" or frame.size == 0:
        return []
    found: list[float] = []
    # All of them first, which is fast, and then the negative ones that are left.
    left = frame
    lowest = np.fmin.reduce(frame, axis=None, initial=0) if lowest is None else lowest
    for _ in range(_LOW_BANDS):
        if lowest == -np.inf:
            left = frame[np.isfinite(frame) & (frame < 0)]
            lowest = left.min(initial=0)
        if not lowest < 0 or (frame.dtype.kind == "i" and lowest > -_APART):
            break
        in_band = left <= lowest / 2
        band = left[in_band]
        held, values = band.size, list[Any]()
        while held >= MANY_ALIKE and band.size and len(values) < _FEW_VALUES:
            values.append(band.min())
            band = band[band != values[-1]]
        if held >= MANY_ALIKE and (band.size or held > frame.size // 2):
            break
        left = left[~in_band & (left < 0)]
        lowest = left.min(initial=0)
        if held < MANY_ALIKE:
            continue
        apart = lowest - float(values[-1])
        if apart < _APART * _least_step(frame):
            break
        found += [float(value) for value in values]
    return found


def _least_step(frame: np.ndarray) -> float:
    """Return the smallest difference of values, which is the unit of whole numbers that were scaled."""
    some = frame.reshape(-1)[:: max(frame.size // _MOST_SAMPLED, 1)]
    steps = np.diff(np.unique(some[np.isfinite(some)].astype(np.float64)))
    return float(steps.min()) if steps.size else 1.0


def without_low_values(frame: np.ndarray) -> np.ndarray:
    """Return a frame whose `low_values` are what tells nothing in any frame of its type: NaN, or the lowest number.

    So are those that lie too far below all others to be measured, see `sfxjax.pixels.outlying_values`.

    Args:
        frame: of any shape and real type.

    Returns:
        The same array where nothing is to be changed; else a copy.
    """
    if frame.dtype.kind not in "if" or frame.size == 0:
        return frame
    lowest = np.fmin.reduce(frame, axis=None, initial=0)
    found = low_values(frame, lowest)
    nothing = lowest_number(frame.dtype)
    below = below_measure(frame, lowest, [*found, nothing])
    if below == -math.inf and (not found or found == [nothing]):
        return frame
    changed = frame.copy()
    for value in found:
        changed[frame == frame.dtype.type(value)] = nothing
    if below > -math.inf:
        changed[frame < below] = nothing
    return changed


def each_without_low_values(frames: np.ndarray) -> np.ndarray:
    """Apply `without_low_values` to each of many frames.

    Args:
        frames: (..., ss, fs).

    Returns:
        The same array where nothing is to be changed; else a copy.
    """
    # A list, since an array gives new views each time.
    each = list(frames.reshape(-1, *frames.shape[-2:]))
    without = [without_low_values(frame) for frame in each]
    if all(new is old for new, old in zip(without, each, strict=True)):
        return frames
    return np.stack(without).reshape(frames.shape)


def lowest_number(dtype: np.dtype) -> Any:
    """Return what never is a value in a signed type: NaN of floats, the lowest number of integers."""
    return np.iinfo(dtype).min if dtype.kind == "i" else math.nan


def marked(frames: np.ndarray) -> np.ndarray:
    """Return frames in which every pixel that tells nothing by its value has one that its type alone tells to mean so.

    Args:
        frames: (..., ss, fs).

    Returns:
        The same array where nothing is to be changed; else a copy, as float32 where the type has no such value.
    """
    limit = type_limit(frames.dtype)
    frames = each_without_low_values(frames)
    flat, least = each_with_limit(frames.reshape(-1, *frames.shape[-2:]))
    frames = flat.reshape(frames.shape)
    if all(own == limit for own in least):
        return frames
    whole = frames.dtype.kind == "f" or math.isfinite(limit)
    kept: np.ndarray = flat.astype(frames.dtype if whole else np.float32)
    none = np.nan if kept.dtype.kind == "f" else np.iinfo(frames.dtype).max
    for frame, own in zip(kept, least, strict=True):
        if own < limit:
            frame[frame >= own] = none
    return kept.reshape(frames.shape)
