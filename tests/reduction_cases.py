"""Pre-processed frames, and pixels that count, for the tests of reductions."""

from __future__ import annotations

import numpy as np

from sfxjax.crop import FRAME


def spotted(shape: tuple[int, int] = (FRAME, FRAME), spots: int = 40, seed: int = 0) -> np.ndarray:
    """A frame as pre-processing leaves it: noise, uneven over the frame, and spots of a pixel and a half."""
    rng = np.random.default_rng(seed)
    height, width = shape
    level = 0.05 + 0.1 * np.linspace(0, 1, height)[:, None] * np.linspace(1, 2, width)
    frame = rng.normal(0, 1, shape) * level
    for _ in range(spots):
        ss, fs = rng.uniform(2, height - 3), rng.uniform(2, width - 3)
        y, x = np.ogrid[:height, :width]
        frame += rng.uniform(3, 12) * 0.15 * np.exp(-((y - ss) ** 2 + (x - fs) ** 2) / (2 * 0.65**2))
    return frame.astype(np.float32)


def some_valid(shape: tuple[int, int] = (FRAME, FRAME)) -> np.ndarray:
    valid = np.random.default_rng(1).random(shape) > 0.01
    valid[shape[0] // 3 : shape[0] // 2, shape[1] // 4 : shape[1] // 2] = False
    return valid
