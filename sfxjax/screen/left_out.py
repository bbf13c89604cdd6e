"""Says which pixels of a run's frames are left out by their values: gaps that hold NaN, -1 or others that mean nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from sfxjax.data.frames import pixel_type
from sfxjax.pixels.missing_values import is_below, lowest_number, rule_of_limit
from sfxjax.screen.sources import UNREADABLE, Sources
from sfxjax.spots.prepare import prepare_frame, separator

if TYPE_CHECKING:
    from sfxjax.screen.pipeline import Screening

# Frames tried until one can be judged, and values that a line names.
_TRIED, _VALUES_NAMED = 5, 4
# Zeros of frames of integers that are darker than this count in any case; one photon is at least 1 of them.
_DARK = 10.0
# What a reader of crops makes one value of.
_MARKED = "NaN or a number far below all others"


def line_of_spots(sources: Sources) -> list[str]:
    """Say what of the first frame that can be judged is left out by its values where spots are counted; at most two lines."""
    frames = ((stack, number) for stack in sources.run.readable() for number in range(stack.frames))
    for stack, number in islice(frames, _TRIED):
        with suppress(*UNREADABLE):
            pixels, mask, limit = sources.read(stack, number)
            lines = line_of_frame(pixels, mask, limit)
            saturated = _count_from(sources.reader.original(stack, number), mask, limit)
            return lines + line_of_limit(pixels, mask, limit, stack.limit, stack.depths, saturated)
    return []


def line_of_frame(pixels: np.ndarray, mask: np.ndarray | None, limit: float) -> list[str]:
    """Say what of a frame is left out by its values where spots are counted; a line or none.

    Args:
        pixels: (ss, fs) or (panel, ss, fs).
        mask: bool of their shape, True where one counts; or None.
        limit: value from which they tell nothing.

    Raises:
        UserError: no pixel has a value.
    """
    kept = np.isfinite(prepare_frame(pixels, mask, limit).pixels.floats())
    if pixels.ndim > 2:
        tall = pixels.shape[-2] + separator(pixels.shape)
        kept = kept.reshape(-1, tall, pixels.shape[-1])[:, : pixels.shape[-2]]
    return list(_lines_of_values(pixels, mask, limit, kept.reshape(pixels.shape)))


def line_of_crops(screening: Screening) -> list[str]:
    """Say the same of the crop that a network reads."""
    # Imported late, as JAX is.
    import jax.numpy as jnp

    from sfxjax.preprocess.validity import settle

    frames = ((stack, number) for stack in screening.run.readable() for number in range(stack.frames))
    for frame in islice(frames, _TRIED):
        with suppress(*UNREADABLE):
            dtype = pixel_type([frame[0].dtype])
            batch = next(iter(screening.readers.batches([[frame]], 1, dtype)))
            if batch.reasons[0]:
                continue
            made = screening.crop_batch(batch)
            crop, limit = made.crops[0], float(np.reshape(made.limits, -1)[0])
            mask = made.mask[0] if made.mask is not None and made.mask.ndim == 3 else made.mask
            negatives = bool(np.reshape(made.negatives_invalid, -1)[0])
            told = np.isfinite(crop) & is_below(crop, limit)
            told = told if mask is None else told & mask
            if not told.any():
                continue
            kept = told
            # What else is left out are negative values and zeros; it takes a program to be compiled.
            bright = crop.dtype.kind == "f" or crop[told].mean() > _DARK
            if crop[told].min() < 0 or (bright and not crop[told].all()):
                shown = None if mask is None else jnp.asarray(mask)
                valid = settle(jnp.asarray(crop), shown, limit, negatives)[0].valid()
                kept = told if valid is None else np.asarray(valid)
            lines = list(_lines_of_values(crop, mask, limit, kept, _MARKED))
            return lines + line_of_limit(crop, mask, limit, frame[0].limit, frame[0].depths)
    return []


def _count_from(pixels: np.ndarray, mask: np.ndarray | None, limit: float) -> int:
    """Count the pixels that a limit alone leaves out."""
    if not np.isfinite(limit):
        return 0
    reached = ~is_below(pixels, limit)
    reached = reached if mask is None else reached & mask
    return int(np.count_nonzero(reached & np.isfinite(pixels) if pixels.dtype.kind == "f" else reached))


def line_of_limit(
    pixels: np.ndarray,
    mask: np.ndarray | None,
    limit: float,
    declared: float | None = None,
    depths: Sequence[int] = (),
    reached: int = 0,
) -> list[str]:
    """Say how many pixels of a frame a limit leaves out, and by what rule; a line or none.

    Args:
        pixels: of the frame, in which the hearts of saturated spots are below the limit.
        mask: bool of their shape, True where one counts; or None.
        limit: value from which they tell nothing.
        declared: see `sfxjax.pixels.missing_values.with_limit`.
        depths: likewise.
        reached: how many reach the limit as they are stored, as far as that is known.
    """
    count = _count_from(pixels, mask, limit)
    hearts = f"; {reached - count:,} more lie in saturated spots, and count" if reached > count else ""
    if not count and not hearts:
        return []
    rule = rule_of_limit(limit, pixels.dtype, declared, depths)
    return [
        f"in the first frame {count:,} of {pixels.size:,} pixels ({100 * count / pixels.size:.2g} %) were left out as "
        f"{limit:.10g} or more, since {rule}{hearts}"
    ]


def _lines_of_values(
    pixels: np.ndarray, mask: np.ndarray | None, limit: float, kept: np.ndarray, nothing: str = ""
) -> Iterator[str]:
    """Name the values of the pixels that are not kept, those apart that a mask or the limit leaves out.

    Args:
        pixels: of a frame.
        mask: bool of their shape, True where one counts; or None.
        limit: value from which they tell nothing.
        kept: bool of their shape.
        nothing: name of what never is a value, where a reader has written that; empty: the pixels are as stored.
    """
    lost = ~kept if mask is None else ~kept & mask
    if np.isfinite(limit):
        # What is above the limit has a line of its own.
        lost &= is_below(pixels, limit) | ~np.isfinite(pixels)
    count = int(np.count_nonzero(lost))
    if not count:
        return
    values, times = np.unique(pixels[lost], return_counts=True)
    order = np.argsort(-times, kind="stable")
    names = ["NaN" if value != value else f"{value:.10g}" for value in values]
    if nothing and pixels.dtype.kind in "if":
        names = [
            nothing if value != value or value == lowest_number(pixels.dtype) else name
            for value, name in zip(values, names, strict=True)
        ]
    named = [f"{int(times[at]):,} of {names[at]}" for at in order[:_VALUES_NAMED]]
    others = count - int(times[order[:_VALUES_NAMED]].sum())
    named += [f"{others:,} of {len(values) - _VALUES_NAMED} other values"] if others else []
    yield (
        f"in the first frame {count:,} of {pixels.size:,} pixels ({100 * count / pixels.size:.2g} %) were left out by "
        f"their values: {', '.join(named)}"
    )
