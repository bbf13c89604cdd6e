"""Figures of the paper that ours stand beside (Xie, Liu et al., Optics Express 31(20):32909, 2023).

Every percentage of Tables 1 to 5 and 7 is a count of test frames over the positive (Hit or Maybe) or negative (Miss)
frames of a test range. The paper gives the lengths of the ranges, not their places; those here are the ones whose counts
the printed percentages are.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from sfxjax.data.splits import PAPER_FRAMES, split
from sfxjax.errors import UserError

SETS = ("LN83", "LN84", "LO19")
PAIRS = tuple((source, target) for source in SETS for target in SETS if source != target)

# Labels that the paper trains on, and the split of `sfxjax.data.splits` each belongs to.
MANY_LABELS, FEW_LABELS = 1200, 200

FrameRange = Literal["last", "after_few", "all"]


class Pair(NamedTuple):
    """Recall on Hit or Maybe and accuracy on Miss, per cent."""

    recall: float
    miss_accuracy: float


class Carried(NamedTuple):
    """Table 7: networks trained on one set and tested on another, nothing tuned."""

    one_dimensional: Pair
    two_dimensional: Pair


class Assessment(NamedTuple):
    """A row of Table 6, in the paper's words."""

    transfer: str
    reduced: str
    dann: str


class PublishedCell(NamedTuple):
    """One published pair of figures, and which run and which frames it is of.

    Attributes:
        table: number of the table.
        method: `supervised` (2D CNN), `transfer`, `reduced` (RWD and 1D CNN) or `dann`.
        split: of `sfxjax.data.splits`, that the set with labels was cut by: `full` or `few`.
        source: the set trained on; of `transfer`, that the base comes from; of `dann`, with labels.
        target: of `transfer` and `dann`, the other set trained on; None for the other methods.
        tested: the set tested on.
        frames: range of the test frames, see `frame_range`.
        published: the paper's figures.
    """

    table: int
    method: str
    split: str
    source: str
    target: str | None
    tested: str
    frames: FrameRange
    published: Pair


# Table 1, 2D CNN, 1200 labels: (trained on, tested on) -> figures on the last 400 frames.
TABLE_1: dict[tuple[str, str], Pair] = {
    ("LN83", "LN83"): Pair(96.92, 99.40),
    ("LN83", "LN84"): Pair(90.28, 98.91),
    ("LN83", "LO19"): Pair(70.37, 99.58),
    ("LN84", "LN83"): Pair(67.69, 100.00),
    ("LN84", "LN84"): Pair(94.91, 97.83),
    ("LN84", "LO19"): Pair(81.48, 100.00),
    ("LO19", "LN83"): Pair(95.38, 99.40),
    ("LO19", "LN84"): Pair(87.50, 98.91),
    ("LO19", "LO19"): Pair(96.30, 97.06),
}

# Table 2, 2D CNN, 200 labels: trained and tested on -> figures on frames 401-2000.
TABLE_2: dict[str, Pair] = {
    "LN83": Pair(51.06, 100.00),
    "LN84": Pair(65.07, 99.76),
    "LO19": Pair(84.87, 99.56),
}

# Table 3, transfer with 200 labels of the target: (base from, target) -> figures on the target's frames 401-2000.
TABLE_3: dict[tuple[str, str], Pair] = {
    ("LN83", "LN84"): Pair(96.68, 92.33),
    ("LN83", "LO19"): Pair(95.82, 93.38),
    ("LN84", "LN83"): Pair(94.53, 91.82),
    ("LN84", "LO19"): Pair(94.24, 93.49),
    ("LO19", "LN83"): Pair(98.18, 97.40),
    ("LO19", "LN84"): Pair(98.01, 91.62),
}

# Table 4, RWD and 1D CNN, 200 labels: trained and tested on -> figures on frames 401-2000.
TABLE_4: dict[str, Pair] = {
    "LN83": Pair(95.14, 96.22),
    "LN84": Pair(94.95, 86.19),
    "LO19": Pair(95.24, 94.04),
}

# Table 5, DANN: (source, target) -> figures on the source's last 400 frames, and on all of the target's.
TABLE_5: dict[tuple[str, str], tuple[Pair, Pair]] = {
    ("LN83", "LN84"): (Pair(90.77, 98.81), Pair(90.19, 91.90)),
    ("LN83", "LO19"): (Pair(92.31, 98.81), Pair(89.67, 98.39)),
    ("LN84", "LN83"): (Pair(92.59, 97.28), Pair(92.18, 91.77)),
    ("LN84", "LO19"): (Pair(91.67, 97.28), Pair(85.58, 96.43)),
    ("LO19", "LN83"): (Pair(92.59, 97.90), Pair(96.09, 97.36)),
    ("LO19", "LN84"): (Pair(86.42, 97.00), Pair(90.41, 91.53)),
}

# Table 6, the authors' judgement of the three methods.
TABLE_6: dict[str, Assessment] = {
    "Size of labels": Assessment("Low", "Low", "None"),
    "Pre-processing": Assessment("Easy", "Hard", "Easy"),
    "Train": Assessment("Medium", "Easy", "Hard"),
    "Recall": Assessment("High", "High", "Medium"),
    "Resource consuming": Assessment("Medium", "Low", "High"),
    "Speed of prediction": Assessment("Slow", "Fast", "Slow"),
}

# Table 7: (trained on, tested on) -> the 1D CNN on all frames of the other set, the 2D CNN on its last 400.
TABLE_7: dict[tuple[str, str], Carried] = {
    ("LN83", "LN84"): Carried(Pair(96.91, 78.53), Pair(90.28, 98.91)),
    ("LN83", "LO19"): Carried(Pair(90.01, 98.39), Pair(70.37, 99.58)),
    ("LN84", "LN83"): Carried(Pair(94.87, 95.79), Pair(67.69, 100.00)),
    ("LN84", "LO19"): Carried(Pair(91.94, 96.60), Pair(81.48, 100.00)),
    ("LO19", "LN83"): Carried(Pair(97.07, 94.03), Pair(95.38, 99.40)),
    ("LO19", "LN84"): Carried(Pair(96.27, 86.06), Pair(87.50, 98.91)),
}

# Section 3.4.2, on one NVIDIA A100 of 40 GB: frames of the 2D CNN, and vectors of the 1D CNN without the time it takes to
# make them.
FRAMES_PER_SECOND_2D, VECTORS_PER_SECOND_1D = 126, 11_123

# Positive and negative frames of the deposition's labels in each test range.
CLASS_COUNTS: dict[FrameRange, dict[str, tuple[int, int]]] = {
    "last": {"LN83": (65, 335), "LN84": (216, 184), "LO19": (162, 238)},
    "after_few": {"LN83": (329, 1271), "LN84": (753, 847), "LO19": (694, 906)},
    "all": {"LN83": (409, 1591), "LN84": (938, 1062), "LO19": (881, 1119)},
}

TABLE_TITLES = {
    1: "2D CNN with 1200 labels, on its own set and carried over to the others",
    2: "2D CNN with 200 labels",
    3: "Transfer learning with 200 labels of the target",
    4: "Row-wise decomposition and 1D CNN, 200 labels",
    5: "DANN: labels from the source, none from the target",
    6: "The three weakly supervised methods compared",
    7: "Carried over to another set, nothing tuned: 1D CNN with 200 labels, 2D CNN with 1200",
}


def frame_range(name: FrameRange, frames: int = PAPER_FRAMES) -> range:
    """Return a test range of the paper, in a set of `frames` frames, as 0-based frame numbers.

    Args:
        name: `last`, the last fifth (1601-2000 of 2000); `after_few`, all but the first fifth (401-2000); `all`.
        frames: length of the set; shorter ones are cut in the same proportions.

    Raises:
        UserError: there is no such range, or the set is too short.
    """
    if name == "all":
        return range(frames)
    if name not in CLASS_COUNTS:
        raise UserError(f"no range of test frames named {name!r}; choose one of {', '.join(CLASS_COUNTS)}")
    return split("full" if name == "last" else "few", frames).test


def cells(table: int) -> list[PublishedCell]:
    """Return the cells of a table, row by row.

    Args:
        table: 1, 2, 3, 4, 5 or 7.

    Raises:
        UserError: there is no such table of figures.
    """
    if table == 1:
        return [
            PublishedCell(1, "supervised", "full", source, None, tested, "last", pair)
            for (source, tested), pair in TABLE_1.items()
        ]
    if table in (2, 4):
        method, published = ("supervised", TABLE_2) if table == 2 else ("reduced", TABLE_4)
        return [
            PublishedCell(table, method, "few", n, None, n, "after_few", pair)
            for n, pair in published.items()
        ]
    if table == 3:
        return [
            PublishedCell(3, "transfer", "few", source, target, target, "after_few", pair)
            for (source, target), pair in TABLE_3.items()
        ]
    if table == 5:
        return [
            PublishedCell(5, "dann", "full", source, target, tested, frames, pair)
            for (source, target), (on_source, on_target) in TABLE_5.items()
            for tested, frames, pair in _both(source, on_source, target, on_target)
        ]
    if table == 7:
        return [
            cell
            for (source, tested), carried in TABLE_7.items()
            for cell in (
                PublishedCell(7, "reduced", "few", source, None, tested, "all", carried.one_dimensional),
                PublishedCell(7, "supervised", "full", source, None, tested, "last", carried.two_dimensional),
            )
        ]
    raise UserError(f"table {table!r} has no figures to compare; choose 1, 2, 3, 4, 5 or 7")


def _both(
    source: str, on_source: Pair, target: str, on_target: Pair
) -> tuple[tuple[str, FrameRange, Pair], tuple[str, FrameRange, Pair]]:
    return (source, "last", on_source), (target, "all", on_target)
