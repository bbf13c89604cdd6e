"""The one value that fills whole areas of a frame, as the gaps of assembled panels do."""

from __future__ import annotations

import numpy as np

# A value is a gap's if runs of it make up this share of the places where they are looked for, and are at least so many.
GAP_FRACTION, FEWEST_RUNS = 0.004, 10
# Of photons with a mean of 1.4 each a quarter as many as the commonest value have its neighbour.
CLOSE_RARER = 8
RUN = 12


def gap_value(sample: np.ndarray, bad: list[float], with_zero: bool) -> float | None:
    """Return the value that fills areas, if there is one besides those known to be bad.

    Args:
        sample: (n, fs) rows of a frame.
        bad: values known to tell nothing.
        with_zero: whether it may be 0.
    """
    if sample.shape[1] < 2 * RUN:
        return None
    ends = sample[:, : -RUN : RUN // 2]
    same = ends == sample[:, RUN :: RUN // 2][:, : ends.shape[1]]
    middle = sample[:, RUN // 2 :: RUN // 2][:, : ends.shape[1]]
    same &= ends == middle
    quarter = sample[:, RUN // 4 :: RUN // 2][:, : ends.shape[1]]
    same &= ends == quarter
    values, counts = np.unique(ends[same & np.isfinite(ends)], return_counts=True)
    allowed = np.ones(len(values), bool) if with_zero else values != 0
    if not allowed.any():
        return None
    best = int(np.where(allowed, counts, 0).argmax())
    if counts[best] < max(GAP_FRACTION * ends.size, FEWEST_RUNS) or float(values[best]) in bad:
        return None
    # Neighbouring values make runs too where the noise is below a unit, and of dim frames 0 does.
    close = counts[np.abs(values.astype(float) - float(values[best])) == 1]
    return float(values[best]) if close.size == 0 or counts[best] > CLOSE_RARER * close.max() else None


def in_runs(same: np.ndarray) -> np.ndarray:
    """Keep what is True in runs of five along fs, or next to them: a live pixel may read as much as a gap."""
    run = same.copy()
    run[:, 2:-2] &= same[:, :-4] & same[:, 4:]
    whole = run.copy()
    for shift in (1, 2):
        whole[:, shift:] |= run[:, :-shift]
        whole[:, :-shift] |= run[:, shift:]
    return whole & same
