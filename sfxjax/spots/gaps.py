"""The one value that fills whole areas of a frame, as the gaps of assembled panels do."""

from __future__ import annotations

from typing import Any

import numpy as np

# A value is a gap's if runs of it make up this share of the places where they are looked for, and are at least so many.
GAP_FRACTION, FEWEST_RUNS = 0.004, 10
# Of photons with a mean of 1.4 each a quarter as many as the commonest value have its neighbour.
CLOSE_RARER = 8
RUN = 12
# What is alike in a run is looked at so far into it.
_RUN_PARTS = (0, RUN // 4, RUN // 2, RUN)


def gap_value(sample: np.ndarray, known: np.ndarray, bad: list[float], with_zero: bool) -> float | None:
    """Return the value that fills areas, if there is one besides those known to be bad.

    Args:
        sample: (n, fs) rows of a frame.
        known: bool of that shape, True where a pixel tells something.
        bad: values known to tell nothing.
        with_zero: whether it may be 0.
    """
    ends, same = runs(sample, known)
    values, counts = np.unique(ends[same], return_counts=True)
    allowed = np.ones(len(values), bool) if with_zero else values != 0
    if not allowed.any():
        return None
    best = int(np.where(allowed, counts, 0).argmax())
    if counts[best] < least_runs(ends.size) or float(values[best]) in bad:
        return None
    # Neighbouring values make runs too where the noise is below a unit, and of dim frames 0 does.
    close = counts[np.abs(values.astype(float) - float(values[best])) == 1]
    return float(values[best]) if close.size == 0 or counts[best] > CLOSE_RARER * close.max() else None


def runs(sample: Any, known: Any, xp: Any = np) -> tuple[Any, Any]:
    """Look for runs of one value along fs.

    Args:
        sample: (n, fs) rows of a frame.
        known: bool of that shape, True where a pixel tells something.
        xp: `numpy` or `jax.numpy`.

    Returns:
        The values at the places that are looked at, (n, places), and whether a run begins there: of its pixels that are looked
        at all but one tell something at least, and those that do are alike.
    """
    width = sample.shape[1]
    count = (width - RUN - 1) // (RUN // 2) + 1 if width >= 2 * RUN else 0
    parts = [slice(part, part + count * (RUN // 2), RUN // 2) for part in _RUN_PARTS]
    first, second = ((sample[:, part], known[:, part]) for part in parts[:2])
    values = xp.where(first[1], first[0], second[0])
    untold = sum((~known[:, part]).astype(xp.int8) for part in parts)
    same = untold <= 1
    for part in parts:
        same = same & (~known[:, part] | (sample[:, part] == values))
    return values, same


def least_runs(places: int) -> float:
    """Return how many runs of a value are a gap's, of so many places that are looked at."""
    return max(GAP_FRACTION * places, FEWEST_RUNS)


def in_runs(same: np.ndarray) -> np.ndarray:
    """Keep what is True in runs of five along fs, or next to them: a live pixel may read as much as a gap."""
    run = same.copy()
    run[:, 2:-2] &= same[:, :-4] & same[:, 4:]
    whole = run.copy()
    for shift in (1, 2):
        whole[:, shift:] |= run[:, :-shift]
        whole[:, :-shift] |= run[:, shift:]
    return whole & same
