"""Figures of the paper that ours stand beside (Xie, Liu et al., Optics Express 31(20):32909, 2023)."""

from __future__ import annotations

from typing import NamedTuple


class Pair(NamedTuple):
    """Recall on Hit or Maybe and accuracy on Miss, per cent."""

    recall: float
    miss_accuracy: float


# Table 5, DANN: (source, target) -> figures on the source's last 400 frames, and on all of the target's.
TABLE_5: dict[tuple[str, str], tuple[Pair, Pair]] = {
    ("LN83", "LN84"): (Pair(90.77, 98.81), Pair(90.19, 91.90)),
    ("LN83", "LO19"): (Pair(92.31, 98.81), Pair(89.67, 98.39)),
    ("LN84", "LN83"): (Pair(92.59, 97.28), Pair(92.18, 91.77)),
    ("LN84", "LO19"): (Pair(91.67, 97.28), Pair(85.58, 96.43)),
    ("LO19", "LN83"): (Pair(92.59, 97.90), Pair(96.09, 97.36)),
    ("LO19", "LN84"): (Pair(86.42, 97.00), Pair(90.41, 91.53)),
}
