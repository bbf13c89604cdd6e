"""Frames of a simulated condition, and what the day-one model finds in them."""

from __future__ import annotations

from typing import Any

import numpy as np

from sfxjax.errors import UserError
from sfxjax.evaluation.calibration import expected_calibration_error, reliability
from sfxjax.simulate.artefacts import LIGHT, READING
from sfxjax.simulate.conditions import Condition, SimulatedFrame, draw_frame
from sfxjax.spots.day_one import FrameSpots, Weights, find_spots
from sfxjax.spots.definition import MIN_SNR, MIN_SPOTS
from sfxjax.training.day_one import CONDITIONS, NEAR_PIXELS

# Conditions of their own, some with a name that says that the training draws from no such frames. Their order gives the seeds.
FURTHER: dict[str, dict[str, Any]] = {
    "held out: counting 0.002": {"detector": "counting", "level": 0.002, "parts": ()},
    "held out: counting 150": {"detector": "counting", "level": 150.0, "parts": ()},
    "spots of 3 pixels": {"spot_size": 3.0, "parts": ()},
    "held out: frames of 1200 x 900": {"shape": (1200, 900)},
    "frames of 150 x 200": {"shape": (150, 200)},
    "every artefact of light": {"parts": tuple(LIGHT)},
    "every artefact of reading": {"parts": tuple(READING)},
    "held out: rings, hot pixels and gaps": {
        "parts": ("smooth_rings", "grainy_rings", "hot_pixels"),
        "gaps": "zero",
    },
    "held out: spots of 4.5 pixels": {"spot_size": 4.5, "parts": ()},
    "held out: frames of 100 x 120": {"shape": (100, 120)},
}
MATRIX: dict[str, dict[str, Any]] = {"as drawn in training": {}, **CONDITIONS, **FURTHER}
# No training used such seeds.
FIRST_SEED = 1_000_000
# A frame is clearly a hit if its deciding spot is this much above the threshold, clearly a miss if this much below.
CLEAR = 1.25
# Spots of twice the threshold are beyond doubt.
STRONG = 2.0
# Seeds that show the part well.
EXAMPLE_SEEDS = {
    "smooth_rings": 3,
    "grainy_rings": 4,
    "small_angle": 0,
    "jet_streak": 3,
    "shadow": 0,
    "beam_stop": 2,
    "salt_spots": 1,
    "scratches": 4,
    "uneven_response": 3,
    "cosmic_rays": 2,
    "panel_edges": 3,
    "noisy_areas": 2,
}


def simulate(name: str, number: int) -> SimulatedFrame:
    """Simulate one frame of a condition of `MATRIX`."""
    place = list(MATRIX).index(name)
    given = dict(MATRIX[name])
    if number % 4 == 0:
        # A blank frame, of which any spot is false.
        given["spots"] = 0
    return draw_frame(np.random.default_rng((FIRST_SEED + place, number)), Condition(**given))


def judge_simulated(frame: SimulatedFrame, weights: Weights | None = None) -> dict[str, Any]:
    """Find a frame's spots, and compare with the truth."""
    try:
        found = find_spots(frame.values, weights=weights)
    except UserError:
        # Of a frame that is saturated all over nothing is told, and screening lists it as an error.
        found = FrameSpots(0.0, 0.0, 0.0, 0.0, *np.zeros((5, 0)))
    return {"score": found.score, "deciding": deciding(frame.signal_to_noise), **_matched(frame, found)}


def deciding(ratios: np.ndarray) -> float:
    """Return the ratio of a frame's spot that decides whether it is a hit, 0 where there are too few; of (n,) of its spots."""
    return float(np.sort(ratios)[-MIN_SPOTS]) if len(ratios) >= MIN_SPOTS else 0.0


def is_clear_hit(frame: SimulatedFrame) -> bool:
    """Tell whether a frame is clearly a hit."""
    return deciding(frame.signal_to_noise) >= CLEAR * MIN_SNR


def is_clear_miss(frame: SimulatedFrame) -> bool:
    """Tell whether a frame is clearly a miss, also to one who has taken away what stays put in its run."""
    return deciding(frame.among_photons) < MIN_SNR / CLEAR


def is_shown_by_photons(frame: SimulatedFrame) -> bool:
    """Tell whether a frame is clearly a hit to one who has taken away what stays put in its run."""
    return deciding(np.where(frame.signal_to_noise > 0, frame.among_photons, 0)) >= CLEAR * MIN_SNR


def _matched(frame: SimulatedFrame, found: FrameSpots) -> dict[str, Any]:
    visible = found.visible()
    near = NEAR_PIXELS + 0.5 * float(frame.condition.spot_size or 1)
    strong = frame.places[frame.signal_to_noise >= STRONG * MIN_SNR]
    away = np.hypot(visible.ss[:, None] - frame.places[:, 0], visible.fs[:, None] - frame.places[:, 1])
    nearest = np.hypot(strong[:, :1] - visible.ss, strong[:, 1:] - visible.fs)
    nearest = nearest.min(1) if nearest.size else np.full(len(strong), np.inf)
    return {
        "blank": len(frame.places) == 0,
        "false_spots": int(np.sum(away.min(1) > near)) if away.size else len(visible.ss),
        "strong": len(strong),
        "strong_found": int(np.sum(nearest <= near)),
        "errors": nearest[nearest <= near].tolist(),
    }


def summarize_condition(frames: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum up the frames of a condition; a share of nothing is None."""
    score, ratio = (np.array([frame[name] for frame in frames]) for name in ("score", "deciding"))
    called, truth = score >= 0.5, ratio >= MIN_SNR
    hits, misses = ratio >= CLEAR * MIN_SNR, ratio < MIN_SNR / CLEAR
    strong = sum(frame["strong"] for frame in frames)
    blanks = [frame["false_spots"] for frame in frames if frame["blank"]]
    errors = [error for frame in frames for error in frame["errors"]]

    def share(chosen: np.ndarray) -> float | None:
        return float(chosen.mean()) if chosen.size else None

    return {
        "frames": len(frames),
        "hits": int(hits.sum()),
        "misses": int(misses.sum()),
        "recall": share(called[hits]),
        "accuracy_on_misses": share(~called[misses]),
        "accuracy": share(called == truth),
        "calibration_error": expected_calibration_error(truth, score),
        "reliability": reliability(truth, score),
        "strong_spots": strong,
        "strong_spots_found": sum(frame["strong_found"] for frame in frames) / strong if strong else None,
        "false_spots_a_blank": float(np.mean(blanks)) if blanks else None,
        "centroid_error": float(np.median(errors)) if errors else None,
    }


def example(part: str) -> SimulatedFrame:
    """Simulate a frame that shows a part of the simulation and a few spots."""
    given = Condition("integrating", 30.0, 0.8, 8, "none", (part,), (240, 240))
    return draw_frame(np.random.default_rng(EXAMPLE_SEEDS.get(part, 5)), given)
