"""The paper's sequential splits of a set into training, validation and test frames."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sfxjax.errors import UserError

# Frames in every set of CXIDB 76, for which the paper gives its splits.
PAPER_FRAMES = 2000

# Where validation and test begin, 0-based, of PAPER_FRAMES frames. The test ranges reproduce the counts that
# are printed in the paper; that training comes before validation is inferred.
_BOUNDARIES = {"full": (1200, 1600), "few": (200, 400)}
SPLIT_NAMES = tuple(_BOUNDARIES)


@dataclass(frozen=True)
class Split:
    """One split: three adjoining half-open ranges of 0-based frame numbers that cover the whole set."""

    name: str
    train: range
    validation: range
    test: range

    @property
    def frames(self) -> int:
        """Number of frames in the set."""
        return self.test.stop


def split(name: str, frames: int = PAPER_FRAMES) -> Split:
    """Return a split of the paper (Xie et al. 2023, Tables 1 to 4) of a set of `frames` frames.

    In the paper's numbers, which start at 1 and include both ends:

    - `full` (Table 1; source columns of Table 5; 2D rows of Table 7): train 1-1200, validation 1201-1600,
      test 1601-2000.
    - `few` (Tables 2, 3 and 4): train 1-200, validation 201-400, test 401-2000.

    A shorter or longer set is cut in the same proportions: a boundary at b of 2000 frames moves to
    floor(b * frames / 2000).

    Args:
        name: `full` or `few`.
        frames: length of the set.

    Raises:
        UserError: there is no such split, or a part of it would hold no frame.
    """
    if name not in _BOUNDARIES:
        raise UserError(f"no split named {name!r}; choose one of {', '.join(SPLIT_NAMES)}")
    first, second = (boundary * frames // PAPER_FRAMES for boundary in _BOUNDARIES[name])
    if not 0 < first < second < frames:
        raise UserError(f"a set of {frames} frames is too short for the split {name!r}")
    return Split(name, range(first), range(first, second), range(second, frames))


def labelled_split(labels: int | None, frames: int = PAPER_FRAMES) -> Split:
    """Return the paper's split for a number of labels to train on, with its training part cut to that number.

    The split is `few` where its training part suffices, else `full`.

    Args:
        labels: training frames, the first of the set; None: all of `full`.
        frames: length of the set.

    Raises:
        UserError: fewer than one label, or more than the training part of `full` holds.
    """
    few, full = (split(name, frames) for name in ("few", "full"))
    if labels is None:
        return full
    if not 1 <= labels <= len(full.train):
        raise UserError(
            f"--labels {labels} is out of range; a set of {frames} frames has 1 to {len(full.train)} to train on"
        )
    return replace(few if labels <= len(few.train) else full, train=range(labels))
