"""A frame of any detector, whole: which of its pixels tell nothing, and what kind of noise it has.

A mask is often not at hand. So a pixel is left out where the mask says so; where its value is NaN or infinite; where it is from
the limit of `sfxjax.pixel_values` on, the smallest of a signed type, or one of the few values far below all others, or further
below them than is measured; where it is -1 or -2 in a frame of integers with no other negative values to speak of; where it is
0 in a frame whose pixels are far from 0, or that is cut off at 0; and where it holds the one value that fills whole areas, as
the gaps of assembled panels do.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sfxjax.pixel_values import is_below, without_low_values
from sfxjax.spots.gaps import gap_value, in_runs
from sfxjax.spots.natural_units import SAMPLED_ROWS, NaturalFrame, compared, first_row, in_natural_units
from sfxjax.spots.stored_type import never, stored_type

# A frame in which so many pixels are negative, sentinels apart, has noise around 0 there.
NEGATIVE_FRACTION = 0.005
# Zeros are gaps where the typical pixel is at so many standard deviations of Poisson noise from 0.
FAR_FROM_ZERO = 16.0
# Of a dark frame's pixels this share is 0, and of the others between two zeros this share is 1; of fewer nothing is told.
MOSTLY_ZERO, MOSTLY_ONE, FEWEST_LONE = 0.5, 0.6, 16
# Or this share, and so many times that of those that are 2, beside areas that count by themselves.
MANY_ONES, MORE_ONES = 0.25, 3
# So many zeros where nothing is negative and no photons are counted are values cut off, such as of a background taken away.
CLIPPED = 0.1
SAMPLED_PIXELS = 17
LISTED = (2, 5)
# Factors of frames whose values float32 holds.
HELD = (1e-30, 1e30)
# A frame's margin and its filling up are for `sfxjax.spots.candidates`, which measures noise in blocks of so many pixels squared.
MARGIN = 12
NOISE_BLOCK = 24
ALIGNMENT = 64


class FramePixels(NamedTuple):
    """A frame made ready, with a margin of `MARGIN` pixels around it, and filled up to multiples of `NOISE_BLOCK`.

    Attributes:
        values: (ss, fs) with the margin, as stored, or float32 where JAX has no such type; panels lie one below the other, with
            rows between them. Margin, filling, these rows and what a mask leaves out hold what `never` gives.
        invalid: float32 (1,) of unsigned types, (2,) or (5,) of others: further values that tell nothing, filled up with NaN.
        counting: whether it counts photons: integers, of which one is one photon.
        integers: whether all values are whole numbers.
        height: of the frame without margin and filling.
        width: likewise.
    """

    values: np.ndarray
    invalid: np.ndarray
    counting: bool
    integers: bool
    height: int
    width: int

    def floats(self) -> np.ndarray:
        """Return the frame without its margin as float32, NaN where a pixel tells nothing."""
        inner = np.s_[MARGIN : MARGIN + self.height, MARGIN : MARGIN + self.width]
        stored = self.values[inner]
        values = stored.astype(np.float32)
        dead = ~np.isfinite(values) if stored.dtype.kind == "f" else stored == never(stored.dtype)
        for value in self.invalid[np.isfinite(self.invalid)]:
            dead |= values == value
        values[dead] = np.nan
        return values


def frame_pixels(
    frame: np.ndarray,
    mask: np.ndarray | None = None,
    separator: int = 8,
    limit: float | None = None,
) -> FramePixels:
    """Tell which pixels of a frame count; `sfxjax.spots.prepare` makes it ready to be judged.

    Args:
        frame: (ss, fs) or (panel, ss, fs), any real type.
        mask: bool of that shape, True where a pixel counts; or None.
        separator: rows put between panels.
        limit: value from which pixels tell nothing; None: by the frame's own values, see `value_limit`.

    Returns:
        `FramePixels` in detector units, or in natural ones where float32 does not hold these; a pixel's row in it is
        panel * (ss + separator) + ss.
    """
    natural = in_natural_units(without_low_values(frame), mask, limit)
    ready = cleaned_pixels(natural, separator)
    if not HELD[0] < natural.factor < HELD[1] or natural.factor == 1:
        return ready
    values = ready.values.astype(np.float32)
    if ready.values.dtype.kind != "f":
        values[ready.values == never(ready.values.dtype)] = np.nan
    for value in ready.invalid[np.isfinite(ready.invalid)]:
        values[values == value] = np.nan
    with np.errstate(over="ignore", under="ignore"):
        values = (values / natural.factor).astype(np.float32)
    whole = ready.integers and frame.dtype.kind in "iu"
    return ready._replace(values=values, invalid=_invalid_values([], values.dtype), integers=whole)


def cleaned_pixels(natural: NaturalFrame, separator: int, into: np.ndarray | None = None) -> FramePixels:
    """Tell which pixels of a frame count.

    Args:
        natural: the frame.
        separator: rows put between panels.
        into: memory for the values, of `shape_with_margin` and `stored_type`; None: new memory.
    """
    frame, mask, limit, _, unit = natural
    rows = slice(first_row(frame.size // max(frame.shape[-1], 1)), None, SAMPLED_ROWS)
    sample = frame.reshape(-1, frame.shape[-1])[rows]
    integers = frame.dtype.kind in "ui"
    # The highest number of a type is told by the limit.
    bad: list[float] = [np.iinfo(frame.dtype).min] if frame.dtype.kind == "i" else []
    known = np.isfinite(sample) if frame.dtype.kind == "f" else np.ones(sample.shape, bool)
    # NaN where one value is.
    bounds: tuple[Any, Any] = (np.nan, np.nan)
    if frame.size:
        bounds = (0 if frame.dtype.kind == "u" else frame.min()), frame.max()
    if np.isfinite(limit) and not bounds[1] < limit:
        below = is_below(frame, limit)
        known &= below.reshape(-1, frame.shape[-1])[rows]
        mask = below if mask is None else mask & below
    bad = _possible(bad, bounds)
    for value in bad:
        known &= sample != value
    good = sample.reshape(-1) if known.all() else sample[known]
    # Numbers beyond those of float32 become infinite, which tells nothing.
    with np.errstate(over="ignore"):
        stored = frame.astype(stored_type(frame.dtype), copy=False)
    nothing = never(stored.dtype)
    values, panels, height = _with_margin(stored, nothing, separator, into)
    ready = FramePixels(values, _invalid_values(bad, values.dtype), False, integers, height, frame.shape[-1])
    if good.size == 0:
        values[:] = nothing
        return ready
    if not integers:
        integers = bool(np.all(good[:4096] == np.round(good[:4096])) and np.all(good == np.round(good)))
    negative = 0.0
    if frame.dtype.kind != "u" and not bounds[0] >= 0:
        sentinel = (good == -1) | (good == -2)
        negative = _share((good < 0) & ~sentinel)
        if integers and negative <= NEGATIVE_FRACTION:
            bad += [-1, -2]
            good = good[~sentinel]
    noisy = negative > NEGATIVE_FRACTION
    # Fewer tell as well; a prime step takes all columns in turn.
    some = good[::SAMPLED_PIXELS]
    positive = some[some != 0]
    typical = float(np.median(positive)) if positive.size else 0.0
    far_from_zero = FAR_FROM_ZERO * unit
    single = bool(integers and not noisy and _single_photons(sample, known))
    if not noisy and typical >= far_from_zero and not single:
        bad.append(0)
    bad = _possible(bad, bounds)
    counting = single or bool(integers and not noisy and _counts_photons(sample, known, bad))
    clipped = CLIPPED < _share(good == 0) < 1
    if clipped and not counting and not noisy and 0 not in bad and not (good < 0).any():
        bad.append(0)
    gap = gap_value(sample, bad, typical >= far_from_zero and not single)
    if gap is not None:
        with np.errstate(over="ignore"):
            held = values == np.asarray(gap).astype(values.dtype)
        np.copyto(values, nothing, where=in_runs(held))
    if mask is not None:
        np.copyto(panels, nothing, where=~mask.astype(bool, copy=False).reshape(panels.shape))
    return ready._replace(invalid=_invalid_values(bad, values.dtype), counting=counting, integers=integers)


def _invalid_values(values: list[float], dtype: np.dtype) -> np.ndarray:
    """List invalid values but those that never count, in an array of one of few lengths, each of which is compiled for."""
    others = [value for value in values if dtype.kind == "f" or value != never(dtype)]
    length = 1 if dtype.kind == "u" else next(length for length in LISTED if len(others) <= length)
    listed = np.full(length, np.nan, np.float32)
    listed[: len(others)] = others
    return listed


def _possible(values: list[float], bounds: tuple[Any, Any]) -> list[float]:
    """Leave out values that no pixel has; `bounds` are the lowest and the highest that one has, NaN where that is not known."""
    return [value for value in values if not (value < bounds[0] or value > bounds[1])]


def _share(which: np.ndarray) -> float:
    """Return the share of True; many times as fast as the mean of bools."""
    return np.count_nonzero(which) / max(which.size, 1)


def _single_photons(sample: np.ndarray, known: np.ndarray) -> bool:
    """Tell a dark frame, most of whose pixels are 0 and most of whose lone other ones are 1: photons one by one.

    Hot pixels and noisy areas may then hold most of what is counted, and tell nothing of the rest.
    """
    zero = known & (sample == 0)
    if np.count_nonzero(zero) < MOSTLY_ZERO * np.count_nonzero(known):
        return False
    lone = known[:, 1:-1] & ~zero[:, 1:-1] & zero[:, :-2] & zero[:, 2:]
    enough = np.count_nonzero(lone) >= FEWEST_LONE
    ones, twos = (_share(sample[:, 1:-1][lone] == value) for value in (1, 2))
    return bool(enough and (ones > MOSTLY_ONE or (ones > MANY_ONES and ones > MORE_ONES * twos)))


def _counts_photons(sample: np.ndarray, known: np.ndarray, bad: list[float]) -> bool:
    """Tell photon counts, whose variance is their mean, by the differences of neighbouring pixels."""
    step = max(2, compared(len(sample)))
    values, fine = sample[::step], known[::step].copy()
    for value in bad:
        fine &= values != value
    values = np.where(fine, values, 0).astype(np.float32)
    width = 64
    columns = (values.shape[1] - 1) // width * width
    pair = (fine[:, 1:] & fine[:, :-1])[:, :columns]
    if not pair.any():
        return False
    shape = (pair.shape[0], columns // width, width)
    own, before = values[:, 1 : columns + 1], values[:, :columns]
    difference = np.where(pair, own - before, 0).reshape(shape)
    total = np.where(pair, own, 0).reshape(shape)
    use = np.count_nonzero(pair.reshape(shape), axis=-1) > width // 2
    variance = 0.5 * np.einsum("rbw,rbw->rb", difference, difference)[use]
    mean = total.sum(-1)[use]
    lit = mean > 0
    if lit.sum() < 4:
        return True
    # Of dim places and bright ones alike: elsewhere one may come by chance.
    mean, ratio = mean[lit], variance[lit] / mean[lit]
    low, high = np.quantile(mean, [1 / 3, 2 / 3])
    parts = [part for part in (ratio[mean <= low], ratio[mean >= high]) if part.size]
    return all(0.6 < float(np.median(part)) < 1.6 for part in parts)


def shape_with_margin(shape: tuple[int, ...], separator: int) -> tuple[int, int]:
    """Return the shape of `FramePixels.values` of frames of a shape, (ss, fs) or (panel, ss, fs)."""
    rows = shape[0] * (shape[1] + separator) if len(shape) > 2 else shape[0]
    height, width = (2 * MARGIN + -(-length // NOISE_BLOCK) * NOISE_BLOCK for length in (rows, shape[-1]))
    return height, width


def _with_margin(
    frame: np.ndarray, nothing: Any, separator: int, into: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Put panels one below the other, with rows between them and a margin around.

    Returns:
        The whole, the part of it that is the panels, (panel, ss, fs), and the height without margin.
    """
    panels = frame.reshape(-1, *frame.shape[-2:])
    tall = panels.shape[1] + separator if frame.ndim > 2 else panels.shape[1]
    height, width = len(panels) * tall, panels.shape[2]
    whole = _aligned(shape_with_margin(frame.shape, separator), frame.dtype) if into is None else into
    whole[:MARGIN], whole[MARGIN + height :] = nothing, nothing
    whole[:, :MARGIN], whole[:, MARGIN + width :] = nothing, nothing
    inner = whole[MARGIN : MARGIN + height, MARGIN : MARGIN + width].reshape(len(panels), tall, width)
    inner[:, panels.shape[1] :] = nothing
    places = inner[:, : panels.shape[1]]
    places[:] = panels
    return whole, places, height


def _aligned(shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:
    """Return new memory that JAX reads where it is, on a CPU."""
    size = shape[0] * shape[1] * dtype.itemsize
    buffer = np.empty(size + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start : start + size].view(dtype).reshape(shape)
