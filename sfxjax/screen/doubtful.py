"""What makes the results of a whole run doubtful, in words for the user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sfxjax.evaluation.domain_check import compare_domains
from sfxjax.screen.found_spots import THRESHOLD, CountedFrame

if TYPE_CHECKING:
    from sfxjax.models.checkpoint import TrainedModel

# So many frames that are all alike are no chance.
FEWEST_ALIKE = 4


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
    return [f"{head}: {'; '.join(lines)}"]


def doubtful_spots(frames: list[CountedFrame]) -> list[str]:
    """Say what makes counted spots doubtful: frames that do not differ, and spots that come back in every frame."""
    # Where all frames show many spots their scores are equal; how many are expected is not.
    expected = [np.nan if frame.spots is None else frame.spots.expected for frame in frames]
    return [*equal_scores(np.array(expected), "expected number of spots"), *repeated_spots(frames)]


def repeated_spots(frames: list[CountedFrame]) -> list[str]:
    """Say where every frame shows spots, most of them in places where the others do too: those are no crystal's."""
    known = [frame.spots for frame in frames if frame.spots is not None]
    if len(known) < FEWEST_ALIKE or any(spots.score < THRESHOLD for spots in known):
        return []
    places = [
        {(int(ss // 8), int(fs // 8)) for ss, fs in zip(spots.ss, spots.fs, strict=True)} for spots in known
    ]
    again = [
        len(one & other) / max(len(one), 1)
        for one, other in zip(places, places[1:] + places[:1], strict=True)
    ]
    if np.median(again) < 0.5:
        return []
    return [
        f"all {len(known)} frames are hits, with {100 * np.median(again):.0f} % of the spots where the next frame has them too: "
        "they may be the detector's; mask those places"
    ]
