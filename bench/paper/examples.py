"""Frames to show in the paper's Figures 5 to 8: one of each class, and a whole frame."""

from __future__ import annotations

import numpy as np

from sfxjax.data.labels import HIT, MAYBE, MISS
from sfxjax.data.sets import FrameSet
from sfxjax.errors import UserError
from sfxjax.simulate.parameters import SIMULATED_SETS
from sfxjax.simulate.sets import ShotPlan, plan_run, simulate_frames
from sfxjax.simulate.write import simulated_mask

from .drawing import Example


def choose_examples(frame_set: FrameSet, counts: np.ndarray) -> list[Example]:
    """Choose a hit, a maybe and a miss, each with the median number of spots of its class.

    Args:
        frame_set: the open set.
        counts: (frames,) spots, from `sfxjax.spots.classical.count_set`.

    Raises:
        UserError: a class has no frame.
    """
    places = []
    for label in (HIT, MAYBE, MISS):
        own = np.flatnonzero(frame_set.labels == label)
        if not len(own):
            raise UserError(f"{frame_set.path}: the set has no frame of each class to show")
        places.append(int(own[np.argmin(np.abs(counts[own] - np.median(counts[own])))]))
    crops = frame_set.crops(places)
    return [
        Example(crop, int(frame_set.labels[place]), place + 1)
        for place, crop in zip(places, crops, strict=True)
    ]


def whole_frame(frame_set: FrameSet, number: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a frame of the whole detector and its mask.

    A simulated set keeps the crop alone, so its frame is simulated again in full: the same shot, with noise of its own.

    Args:
        frame_set: the open set.
        number: of the frame, from 1.
        seed: that the simulated set was made with.

    Returns:
        (height, width) detector units, and bool of that shape, True = good, or None.
    """
    parameters = SIMULATED_SETS.get(frame_set.name)
    side = min(frame_set.frame_shape)
    if not frame_set.simulated or parameters is None or side > 1000:
        return frame_set.original(number - 1)
    plan = ShotPlan(*(column[[number - 1]] for column in plan_run(parameters, len(frame_set), seed)))
    shape = parameters.geometry.shape
    images, _ = simulate_frames(seed, np.array([number - 1]), plan, parameters=parameters, shape=shape)
    return np.asarray(images)[0], simulated_mask(parameters, shape)
