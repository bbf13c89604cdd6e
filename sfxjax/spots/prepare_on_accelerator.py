"""Frames made ready where they are judged, on an accelerator: what `sfxjax.spots.prepare` makes of ordinary ones.

A processor's core makes some hundred frames a second ready, and an accelerator judges thousands. Ordinary are integers
with a quantum of 1, none negative but those of -1 and -2 that mean "nothing", without gaps of another constant and without
saturated spots; of any other frame it is said that it is not.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.pixels.missing_values import DEPTHS, MANY_ALIKE, RARER, type_limit
from sfxjax.pixels.units import DIM_ZEROS, QUANTUM_ROWS, count_by_one, dim_photon, quantum
from sfxjax.spots.frame_pixels import LISTED, MARGIN, FramePixels, sampled_rows, shape_with_margin
from sfxjax.spots.gaps import CLOSE_RARER, least_runs, runs
from sfxjax.spots.natural_units import IS_PHOTON, compared_rows
from sfxjax.spots.noise_kind import noise_kind
from sfxjax.spots.stored_type import never, stored_type

# float32 tells whole numbers below apart.
_EXACT = 2**24
# Lower values are no sentinels of integers.
_LOWEST_SENTINEL = -2
# Values that a gap may have, about as many as noise of a few units has, and a step that is surely not 2.
_VALUES, _SURELY_ONE = 64, 1.5


def make_ready(
    frame: jax.Array, mask: jax.Array | None, separator: int, *, settled: bool
) -> tuple[FramePixels, jax.Array]:
    """Make a frame ready, as `sfxjax.spots.prepare.prepare_frame` does.

    Args:
        frame: (ss, fs) or (panel, ss, fs), integers of at most 32 bits.
        mask: bool of that shape, True where a pixel counts; or None.
        separator: rows put between panels.
        settled: whether what tells nothing by its value holds what `sfxjax.spots.stored_type.never` gives, so that no limit is
            to be found.

    Returns:
        The frame, and whether it is an ordinary one: if not, the first means nothing.
    """
    dtype = stored_type(np.dtype(frame.dtype))
    nothing = never(dtype)
    limit = type_limit(np.dtype(frame.dtype))
    values = frame.astype(dtype)
    highest = np.asarray(math.ceil(limit) if math.isfinite(limit) else np.iinfo(dtype).max, dtype)
    told = (values >= 0) & (values < highest)
    shown = told if mask is None else told & mask
    ordinary = jnp.any(shown)
    if dtype.kind == "i":
        low = values < _LOWEST_SENTINEL
        ordinary &= ~jnp.any(low & (values != nothing) if settled else low)
    if not settled:
        # The heart of a saturated spot, it may be.
        saturated = (values >= highest) if mask is None else (values >= highest) & mask
        ordinary &= ~jnp.any(saturated) & _has_no_limit(values, told)
    rows, rows_known = compared_rows(values), compared_rows(shown)
    ordinary &= count_by_one(rows, rows_known, jnp) | _has_no_quantum(rows, rows_known)
    sample, known = sampled_rows(values), sampled_rows(shown)
    ordinary &= jnp.any(known)
    kind = noise_kind(sample, known, whole=True, noisy=False, xp=jnp)
    ordinary &= _has_no_gap(sample, known, kind.zeros_fill)
    ordinary &= ~kind.zeros_tell_nothing | jnp.any(shown & (values > 0))
    panels = jnp.where(shown, values, nothing).reshape(-1, *frame.shape[-2:])
    if frame.ndim > 2:
        panels = jnp.pad(panels, ((0, 0), (0, separator), (0, 0)), constant_values=nothing)
    height, width = len(panels) * panels.shape[1], panels.shape[2]
    whole = shape_with_margin(frame.shape, separator)
    sides = [(MARGIN, total - MARGIN - length) for total, length in zip(whole, (height, width), strict=True)]
    invalid = jnp.full(1 if dtype.kind == "u" else LISTED[0], jnp.nan, jnp.float32)
    invalid = invalid.at[0].set(jnp.where(kind.zeros_tell_nothing, 0, jnp.nan))
    ready = FramePixels(
        jnp.pad(panels.reshape(height, width), sides, constant_values=nothing),  # type: ignore[arg-type]
        invalid,  # type: ignore[arg-type]
        kind.counting,
        True,
        height,
        width,
    )
    return ready, ordinary


def _has_no_limit(values: jax.Array, told: jax.Array) -> jax.Array:
    """Tell whether `sfxjax.pixels.missing_values.value_limit` gives but the type's limit."""
    highest = jnp.max(jnp.where(told, values, 0))
    ends = [
        end for depth in DEPTHS for end in (2**depth - 1, 2**depth - 2) if end <= np.iinfo(values.dtype).max
    ]
    usual = (
        (highest > 0)
        & (highest.astype(jnp.uint32) < _EXACT)
        & jnp.all(highest != np.array(ends, values.dtype))
    )
    half = (highest + 1) // 2
    held, near = (
        jnp.count_nonzero(values == highest),
        jnp.count_nonzero((values < highest) & (values >= half)),
    )
    below = jnp.any((values > 0) & (values < half))
    return usual & ~((held >= MANY_ALIKE) & (held > RARER * near) & below)


def _has_no_quantum(rows: jax.Array, known: jax.Array) -> jax.Array:
    """Tell whether `sfxjax.spots.natural_units.in_natural_units` leaves integers as they are, for want of a quantum."""
    thin = max(1, len(rows) // QUANTUM_ROWS)
    values = rows.astype(jnp.float32)
    step = quantum(values[::thin], known[::thin], jnp)
    photon = dim_photon(values, known, jnp)
    lit = jnp.count_nonzero(rows == 0) < DIM_ZEROS * rows.size
    return (lit | jnp.isnan(photon) | (step > IS_PHOTON * photon)) & (jnp.isnan(step) | (step < _SURELY_ONE))


def _has_no_gap(sample: jax.Array, known: jax.Array, zeros_fill: jax.Array) -> jax.Array:
    """Tell whether `sfxjax.spots.gaps.gap_value` finds none, or none but zeros that tell nothing."""
    ends, same = runs(sample, known, jnp)
    least = least_runs(ends.size)
    zeros, others = (jnp.count_nonzero(same & part) for part in (ends == 0, ends != 0))
    # They lie near one another, or no one value has so many.
    middle = jnp.sum(jnp.where(same, ends, 0).astype(jnp.float32)) / jnp.maximum(others, 1)
    first = jnp.maximum(middle - _VALUES // 2, 1).astype(jnp.int32)
    place = jnp.where(same, ends.astype(jnp.int32) - first, -1).ravel()
    counts = jnp.sum((place[:, None] == jnp.arange(_VALUES)).astype(jnp.int32), axis=0)
    best = jnp.argmax(counts)
    most = counts[best]
    beside = jnp.concatenate([jnp.where(first == 1, zeros, 0)[None], counts, jnp.zeros(1, counts.dtype)])
    close = jnp.maximum(beside[best], beside[best + 2])
    crowded = (close > 0) & (most <= CLOSE_RARER * close)
    # What is beside the first or the last of them is not known.
    inside = ((best > 0) | (first == 1)) & (best < _VALUES - 1) & (others - jnp.sum(counts) < least)
    return (others < least) | (inside & ((most < least) | (zeros_fill & (zeros >= most)) | crowded))
