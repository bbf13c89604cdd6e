"""A frame of any detector, whole: which of its pixels tell nothing, and what kind of noise it has.

A mask is often not at hand. So a pixel is left out where the mask says so; where its value is NaN or infinite; where it is
from the limit of `sfxjax.pixels.missing_values` on, the smallest of a signed type, or one of the few values far below all
others, or further below them than is measured; where it is -1 or -2 in a frame of integers with no other negative values to
speak of; where it is 0 in a frame whose pixels are far from 0, or that is cut off at 0; and where it holds the one value that
fills whole areas, as the gaps of assembled panels do. What a mask leaves out takes no part in telling the others.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sfxjax.pixels.missing_values import is_below, without_low_values
from sfxjax.spots.gaps import gap_value, in_runs
from sfxjax.spots.natural_units import SAMPLED_ROWS, NaturalFrame, first_row, in_natural_units
from sfxjax.spots.noise_kind import noise_kind
from sfxjax.spots.stored_type import never, stored_type

# A frame in which so many pixels are negative, sentinels apart, has noise around 0 there.
NEGATIVE_FRACTION = 0.005
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
    integers = frame.dtype.kind in "ui"
    # The highest number of a type is told by the limit.
    bad: list[float] = [np.iinfo(frame.dtype).min] if frame.dtype.kind == "i" else []
    # NaN where one value is.
    bounds: tuple[Any, Any] = (np.nan, np.nan)
    if frame.size:
        bounds = (0 if frame.dtype.kind == "u" else frame.min()), frame.max()
    if np.isfinite(limit) and not bounds[1] < limit:
        below = is_below(frame, limit)
        mask = below if mask is None else mask & below
    bad = _possible(bad, bounds)
    sample, known = _sampled(frame, mask, bad)
    # Numbers beyond those of float32 become infinite, which tells nothing.
    with np.errstate(over="ignore"):
        stored = frame.astype(stored_type(frame.dtype), copy=False)
    nothing = never(stored.dtype)
    values, panels, height = _with_margin(stored, nothing, separator, into)
    ready = FramePixels(values, _invalid_values(bad, values.dtype), False, integers, height, frame.shape[-1])
    if not known.any():
        values[:] = nothing
        return ready
    negative = 0.0
    if frame.dtype.kind != "u":
        good = sample.reshape(-1) if known.all() else sample[known]
    if not integers:
        integers = bool(np.all(good[:4096] == np.round(good[:4096])) and np.all(good == np.round(good)))
    if not bounds[0] >= 0:
        sentinel = (good == -1) | (good == -2)
        negative = _share((good < 0) & ~sentinel)
        if integers and negative <= NEGATIVE_FRACTION:
            bad += [-1, -2]
            known = known & (sample != -1) & (sample != -2)
    noisy = negative > NEGATIVE_FRACTION
    kind = noise_kind(sample, known, whole=integers, noisy=noisy, unit=unit)
    if kind.zeros_tell_nothing:
        bad.append(0)
    bad = _possible(bad, bounds)
    gap = gap_value(sample, known, bad, bool(kind.zeros_fill))
    if gap is not None:
        with np.errstate(over="ignore"):
            held = values == np.asarray(gap).astype(values.dtype)
        np.copyto(values, nothing, where=in_runs(held))
    if mask is not None:
        np.copyto(panels, nothing, where=~mask.astype(bool, copy=False).reshape(panels.shape))
    return ready._replace(
        invalid=_invalid_values(bad, values.dtype), counting=bool(kind.counting), integers=integers
    )


def _sampled(frame: np.ndarray, mask: np.ndarray | None, bad: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return some rows of a frame, (n, fs), and which of their pixels tell something: all rows where those tell nothing."""
    for step in (SAMPLED_ROWS, 1):
        rows = sampled_rows(frame, step)
        known = np.isfinite(rows) if rows.dtype.kind == "f" else np.ones(rows.shape, bool)
        if mask is not None:
            known &= sampled_rows(mask, step)
        for value in bad:
            known &= rows != value
        if known.any():
            break
    return rows, known


def sampled_rows(frame: Any, step: int = SAMPLED_ROWS) -> Any:
    """Return every so manyth row of a frame or of its mask, of (ss, fs) or (panel, ss, fs), as (n, fs)."""
    rows = frame.reshape(-1, frame.shape[-1])
    return rows[first_row(len(rows)) if step > 1 else 0 :: step]


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
