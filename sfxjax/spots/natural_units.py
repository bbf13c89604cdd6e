"""A frame in units near 1, in which the numbers of `sfxjax.spots` hold: photons times a factor become photons again."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from sfxjax.pixels.missing_values import is_below, lowest_number, with_limit
from sfxjax.pixels.units import (
    DIM_ZEROS,
    QUANTUM_ROWS,
    are_photons,
    count_by_one,
    dim_photon,
    log2_unit,
    natural_factor,
    quantum,
)
from sfxjax.spots.noise_kind import compared
from sfxjax.spots.stored_type import never, stored_type

# Every so many rows are looked at.
SAMPLED_ROWS = 5
# The quantum of floats differs from a whole number by so much through rounding.
NO_DIFFERENCE = 1e-6
# A quantum of so much of a photon is one.
IS_PHOTON = 0.6
# Powers of 2 that float64 holds.
MOST_DOUBLINGS = 1000


class NaturalFrame(NamedTuple):
    """A frame in units near 1.

    Attributes:
        frame: (ss, fs) or (panel, ss, fs).
        mask: bool of that shape, True where a pixel counts; or None.
        limit: value from which pixels tell nothing.
        factor: by which the values were scaled.
        unit: what one photon is in the scaled frame; 1 where that is not known.
    """

    frame: np.ndarray
    mask: np.ndarray | None
    limit: float
    factor: float = 1.0
    unit: float = 1.0


def in_natural_units(frame: np.ndarray, mask: np.ndarray | None, limit: float | None) -> NaturalFrame:
    """Divide a frame by its quantum, so that photons times a factor are photons again; and floats of an odd unit by a power of 2.

    Args:
        frame: (ss, fs) or (panel, ss, fs), that `sfxjax.pixels.missing_values.without_low_values` gave.
        mask: bool of that shape, True where a pixel counts; or None.
        limit: value from which pixels tell nothing; None: by the frame's own values, see `value_limit`.
    """
    frame, limit = with_limit(frame, mask=mask) if limit is None else (frame, limit)
    if frame.dtype.kind not in "iuf" or frame.size == 0:
        return NaturalFrame(frame, mask, limit)

    stored = compared_rows(frame)
    known = is_below(stored, limit)
    if frame.dtype.kind == "f":
        known &= np.isfinite(stored)
    if mask is not None:
        known &= compared_rows(mask)
    if frame.dtype.kind != "f" and count_by_one(stored, known):
        return NaturalFrame(frame, mask, limit)
    rows = stored.astype(np.float64)
    step = _quantum(rows, known & (stored >= 0))
    photon = _dim_photon(rows, known, step)
    if not math.isnan(photon):
        return _in_quanta(NaturalFrame(frame, mask, limit), photon, nearest=True)
    if frame.dtype.kind != "f":
        return _in_quanta(NaturalFrame(frame, mask, limit, unit=1.0), step)
    exponent = float(log2_unit(rows, known))
    photons = bool(are_photons(step, exponent))
    step = 1.0 if math.isnan(step) else step
    power = 0 if photons else int(natural_factor(exponent - math.log2(step), most=MOST_DOUBLINGS))
    unit = 2.0 ** (exponent - math.log2(step) + power) if math.isfinite(exponent) and not photons else 1.0
    natural = _in_quanta(NaturalFrame(frame, mask, limit, unit=unit), step)
    if power == 0:
        return natural
    factor = 2.0**power
    limit = natural.limit * factor
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        scaled = natural.frame.astype(np.promote_types(natural.frame.dtype, np.float32), copy=False)
        scaled = np.ldexp(scaled, power)
    limit = limit if limit < float(np.finfo(scaled.dtype).max) else np.inf
    return natural._replace(frame=scaled, limit=limit, factor=natural.factor * factor)


def compared_rows(frame: Any) -> Any:
    """Return the rows of a frame, or of its mask, that its units are told from, (n, fs)."""
    rows = frame[..., first_row(frame.shape[-2]) :: SAMPLED_ROWS, :].reshape(-1, frame.shape[-1])
    return rows[:: compared(len(rows))]


def first_row(rows: int) -> int:
    """Return the first of the rows that are looked at: not at a frame's edge, unless it has few."""
    return min(2, rows - 1)


def _quantum(rows: np.ndarray, known: np.ndarray) -> float:
    """Return the quantum of rows of a frame, NaN where there is none."""
    thin = max(1, len(rows) // QUANTUM_ROWS)
    step = float(quantum(rows[::thin], known[::thin]))
    whole = float(np.round(step))
    return whole if abs(step - whole) < NO_DIFFERENCE * step else step


def _dim_photon(rows: np.ndarray, known: np.ndarray, step: float) -> float:
    """Return the photon of rows of a dim frame that are no multiples of it, NaN where there is none."""
    if np.count_nonzero(rows == 0) < DIM_ZEROS * rows.size:
        return math.nan
    photon = float(dim_photon(rows, known))
    return math.nan if step > IS_PHOTON * photon else photon


def _in_quanta(natural: NaturalFrame, step: float, nearest: bool = False) -> NaturalFrame:
    """Divide a frame by its quantum; what lies between its multiples is rounded down in integers, unless `nearest` ones count."""
    frame = natural.frame
    integers = frame.dtype.kind != "f" and not nearest
    if not step > 0 or step == 1 or (integers and step < 2):
        return natural
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if integers:
            scaled = (frame // frame.dtype.type(step)).astype(stored_type(frame.dtype), copy=False)
        else:
            scaled = frame.astype(np.promote_types(frame.dtype, np.float32), copy=False)
            scaled = np.round(scaled * scaled.dtype.type(1 / step))
            # Gaps of these values are told by them.
            for value in (-1, -2):
                scaled[frame == value] = value
    # What tells nothing by its value has another one now.
    told = is_below(frame, natural.limit)
    if frame.dtype.kind == "i":
        told &= frame != lowest_number(frame.dtype)
    scaled[~told] = never(scaled.dtype)
    return natural._replace(frame=scaled, limit=np.inf, factor=1 / step)
