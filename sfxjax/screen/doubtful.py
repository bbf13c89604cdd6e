"""What makes the results of a whole run doubtful, in words for the user."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from sfxjax.evaluation.domain_check import compare_domains
from sfxjax.screen.found_spots import CountedFrame
from sfxjax.screen.lists import HIT

if TYPE_CHECKING:
    from sfxjax.models.checkpoint import TrainedModel
    from sfxjax.spots.day_one import FrameSpots

# So many frames that are all alike are no chance.
FEWEST_ALIKE = 4
# Side of the squares in which a spot comes again, pixels, and the share of the frames in which one does.
CELL = 4
REPEATED_FRACTION = 0.2
# So many hits, and such a share of them, that rest on places that come again are worth a warning.
FEWEST_DOUBTFUL = 2
DOUBTFUL_FRACTION = 0.05


def equal_scores(scores: np.ndarray, what: str = "score") -> list[str]:
    """Say where no frame differs from another, which no run of frames does.

    Args:
        scores: (n,), NaN where there is none.
        what: they are.
    """
    known = scores[~np.isnan(scores)]
    if len(known) < FEWEST_ALIKE or np.ptp(known) > 1e-6:
        return []
    return [
        f"all {len(known)} frames have the same {what}, {known[0]:.4g}: something other than the frames decides it; look at "
        "the mask and the data set"
    ]


def strange_frames(statistics: np.ndarray, model: TrainedModel) -> list[str]:
    """Say where a run's frames, of which (n, 6) statistics are given, do not look like those the model was trained on."""
    trained: Any = model.trained_on.get("frame_statistics")
    if not isinstance(trained, dict):
        return [
            "this model does not say what its training frames looked like: nothing warns of frames unlike them"
        ]
    try:
        lines = compare_domains(statistics, trained)
    except (KeyError, TypeError, ValueError) as error:
        return [f"the model's description of its training frames is damaged ({error})"]
    if not lines:
        return []
    head = "do not trust these scores blindly: the frames do not look like those the model was trained on"
    remedy = "screen without --model into another folder, which counts spots on any detector, and compare"
    return [f"{head}: {remedy} (what differs: {'; '.join(lines)})"]


def doubtful_spots(frames: list[CountedFrame]) -> list[str]:
    """Say what makes counted spots doubtful: frames that do not differ, and spots that come back in every frame."""
    # Where all frames show many spots their scores are equal; how many are expected is not.
    expected = [np.nan if frame.spots is None else frame.spots.expected for frame in frames]
    return [*equal_scores(np.array(expected), "expected number of spots"), *repeated_spots(frames)]


def repeated_spots(frames: list[CountedFrame]) -> list[str]:
    """Say what makes a run's hits doubtful, what to expect, and what to do.

    Hits are doubtful that show most of their spots at places where many other frames show some, too: a crystal's spots come at
    other places in each shot, bad pixels, salt on the window and a fixed target's own spots do not.
    """
    known = [(frame.label == HIT, _grid_cells(frame.spots)) for frame in frames if frame.spots is not None]
    if len(known) < FEWEST_ALIKE:
        return []
    seen = Counter(cell for _, cells in known for cell in cells)
    least = max(FEWEST_ALIKE, REPEATED_FRACTION * len(known))
    repeated = {cell for cell, count in seen.items() if count >= least}
    hits = [cells for is_hit, cells in known if is_hit]
    resting = sum(len(cells & repeated) > len(cells) / 2 for cells in hits)
    if resting < max(FEWEST_DOUBTFUL, DOUBTFUL_FRACTION * len(hits)):
        return []
    return [
        f"{resting} of {len(hits)} hits show most of their spots in {len(repeated)} squares of {CELL} pixels in which "
        f"{100 * REPEATED_FRACTION:.0f} % of the frames or more show one: bad pixels or something fixed in the beam, if not one "
        "crystal that stays in it. Expect these hits to be misses; spots.csv has the places: leave them out with --mask, and "
        "screen again"
    ]


def _grid_cells(spots: FrameSpots) -> set[tuple[int, int]]:
    return {(int(ss // CELL), int(fs // CELL)) for ss, fs in zip(spots.ss, spots.fs, strict=True)}
