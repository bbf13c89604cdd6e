"""Everything a detector may show that is no Bragg spot, as named parts that a wide simulation draws from.

A part of `LIGHT` changes the expected photons of a scene before they are detected, one of `READING` the frame that was read. Each
takes a random generator and draws its own strength; those in `MOVING` are drawn anew for every frame of a run. Lengths are in
pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, uniform_filter1d


@dataclass
class Scene:
    """Light on a detector.

    Attributes:
        photons: (ss, fs) photons expected.
        ss: rows from the direct beam, (ss, 1).
        fs: columns from the direct beam, (1, fs).
        level: typical photons a pixel.
    """

    photons: np.ndarray
    ss: np.ndarray
    fs: np.ndarray
    level: float

    @property
    def radius(self) -> np.ndarray:
        """Distance from the direct beam."""
        return np.hypot(self.ss, self.fs)


@dataclass
class Reading:
    """A frame that was read.

    Attributes:
        values: (ss, fs) float, detector units.
        noise: standard deviation of a typical pixel.
        live: bool (ss, fs), False where the detector has no pixels.
        offset: value of a pixel without light.
        each: random generator of what differs from frame to frame of a run.
    """

    values: np.ndarray
    noise: float
    live: np.ndarray
    offset: float
    each: np.random.Generator


def smooth_rings(rng: np.random.Generator, scene: Scene) -> None:
    """Powder, ice or lipid rings of many crystallites."""
    radius = scene.radius
    for _ in range(rng.integers(1, 7)):
        middle, width = rng.uniform(radius.min(), radius.max()), rng.uniform(0.8, 8)
        # Photons a ring adds are seen from a tenth of the noise on.
        height = np.sqrt(scene.level + 0.1) * 10 ** rng.uniform(-0.5, 1.7)
        texture = 1 + rng.uniform(0, 0.6) * np.cos(
            np.arctan2(scene.ss, scene.fs) * rng.integers(1, 4) + rng.uniform(0, 6)
        )
        scene.photons += height * texture * np.exp(-0.5 * ((radius - middle) / width) ** 2)


def grainy_rings(rng: np.random.Generator, scene: Scene) -> None:
    """A ring of few, coarse crystallites: rough along its length."""
    radius = scene.radius
    middle, width = rng.uniform(radius.min(), radius.max()), rng.uniform(1, 4)
    coarse = rng.gamma(rng.uniform(0.5, 4), size=scene.photons.shape)
    grain = gaussian_filter(coarse, rng.uniform(1.0, 3))
    height = np.sqrt(scene.level + 0.1) * 10 ** rng.uniform(-0.3, 1.2)
    scene.photons += height * grain / grain.mean() * np.exp(-0.5 * ((radius - middle) / width) ** 2)


def small_angle(rng: np.random.Generator, scene: Scene) -> None:
    """Small-angle scattering: a steep fall from the direct beam, with or without fringes."""
    radius = np.maximum(scene.radius, 3)
    steep = (radius / rng.uniform(15, 80)) ** -rng.uniform(1.5, 4)
    fringes = 1 + rng.uniform(0, 0.9) * np.cos(radius / rng.uniform(2.5, 15)) if rng.random() < 0.5 else 1.0
    scene.photons += (
        np.minimum(scene.level * 10 ** rng.uniform(0, 1.5) * steep, 1e4 + 100 * scene.level) * fringes
    )


def jet_streak(rng: np.random.Generator, scene: Scene) -> None:
    """Streaks from the edge of a jet, through the direct beam."""
    for _ in range(rng.integers(1, 4)):
        angle = rng.uniform(0, np.pi)
        along = scene.ss * np.sin(angle) + scene.fs * np.cos(angle)
        across = scene.fs * np.sin(angle) - scene.ss * np.cos(angle)
        length, width = rng.uniform(20, 250), rng.uniform(0.7, 4)
        height = np.sqrt(scene.level + 0.1) * 10 ** rng.uniform(0, 1.6)
        speckle = 1.0
        if rng.random() < 0.4:
            speckle = 0.3 + np.abs(np.sin(along / rng.uniform(2, 12)))
        scene.photons += height * speckle * np.exp(-0.5 * (across / width) ** 2 - np.abs(along) / length)


def shadow(rng: np.random.Generator, scene: Scene) -> None:
    """Shadow with a sharp or soft edge."""
    angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-150, 250)
    beyond = scene.ss * np.sin(angle) + scene.fs * np.cos(angle) - offset
    if rng.random() < 0.4:
        beyond = np.maximum(
            beyond, np.abs(scene.fs * np.sin(angle) - scene.ss * np.cos(angle)) * 0.5 - rng.uniform(20, 150)
        )
    edge = 1 / (1 + np.exp(np.clip(-beyond / rng.uniform(0.3, 8), -40, 40)))
    scene.photons *= (
        rng.uniform(0.02, 0.9) + (1 - rng.uniform(0.02, 0.9)) * (1 - edge)
        if rng.random() < 0.1
        else 1 - rng.uniform(0.1, 0.98) * edge
    )


def beam_stop(rng: np.random.Generator, scene: Scene) -> None:
    """Beam stop with its arm and a bright rim."""
    size = rng.uniform(5, 50)
    radius = scene.radius
    if rng.random() < 0.6:
        rim = np.exp(-np.abs(radius - size) / rng.uniform(0.7, 5))
        scene.photons += rim * np.sqrt(scene.level + 0.1) * 10 ** rng.uniform(0, 1.5)
    covered = 1 / (1 + np.exp(np.clip((radius - size) / rng.uniform(0.3, 2), -40, 40)))
    if rng.random() < 0.5:
        arm = (np.abs(scene.fs) < rng.uniform(2, 8)) & (scene.ss > 0)
        covered = np.maximum(covered, arm * rng.uniform(0.2, 1))
    scene.photons *= 1 - covered * rng.uniform(0.9, 1)


def film_step(rng: np.random.Generator, scene: Scene) -> None:
    """A step in transmission, as the edge of a Kapton film makes."""
    angle = rng.uniform(0, np.pi)
    place = scene.ss * np.sin(angle) + scene.fs * np.cos(angle) - rng.uniform(-200, 200)
    scene.photons *= 1 - rng.uniform(0.05, 0.5) / (1 + np.exp(np.clip(place / rng.uniform(0.2, 5), -40, 40)))


def salt_spots(rng: np.random.Generator, scene: Scene) -> None:
    """Up to two huge spots of salt or diamond, streaked."""
    height, width = scene.photons.shape
    for _ in range(rng.integers(1, 3)):
        y, x = rng.uniform(0, height), rng.uniform(0, width)
        ss, fs = np.arange(height)[:, None] - y, np.arange(width)[None] - x
        angle = rng.uniform(0, np.pi)
        a, b = ss * np.cos(angle) + fs * np.sin(angle), fs * np.cos(angle) - ss * np.sin(angle)
        long, short = rng.uniform(3.5, 20), rng.uniform(3, 6)
        scene.photons += (
            np.sqrt(scene.level + 0.1)
            * 10 ** rng.uniform(1, 2.5)
            * np.exp(-0.5 * (a / long) ** 2 - 0.5 * (b / short) ** 2)
        )


def scratches(rng: np.random.Generator, scene: Scene) -> None:
    """Thin lines of more or less response."""
    height, width = scene.photons.shape
    for _ in range(rng.integers(1, 5)):
        length = int(rng.uniform(20, 300))
        steps = np.arange(length)
        angle, curve = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.004)
        y = rng.uniform(0, height) + np.cumsum(np.sin(angle + curve * steps))
        x = rng.uniform(0, width) + np.cumsum(np.cos(angle + curve * steps))
        y, x = np.round(y).astype(int), np.round(x).astype(int)
        inside = (y >= 0) & (x >= 0) & (y < height) & (x < width)
        scene.photons[y[inside], x[inside]] *= rng.choice([rng.uniform(0.1, 0.9), rng.uniform(1.2, 3)])


def hot_pixels(rng: np.random.Generator, reading: Reading) -> None:
    """Single hot pixels, some with a neighbour."""
    number = int(10 ** rng.uniform(0, 2.4))
    y, x = (rng.integers(0, size, number) for size in reading.values.shape)
    value = reading.noise * 10 ** rng.uniform(0.7, 3, number)
    reading.values[y, x] += value
    twin = rng.random(number) < 0.15
    step = rng.integers(0, 2, number)
    y2, x2 = (
        np.minimum(y + step, len(reading.values) - 1),
        np.minimum(x + 1 - step, reading.values.shape[1] - 1),
    )
    reading.values[y2[twin], x2[twin]] += value[twin] * rng.uniform(0.1, 1, twin.sum())


def dead_pixels(rng: np.random.Generator, reading: Reading) -> None:
    """Single pixels that read nothing."""
    number = int(10 ** rng.uniform(0, 2.5))
    y, x = (rng.integers(0, size, number) for size in reading.values.shape)
    reading.values[y, x] = rng.choice([0.0, reading.offset])


def flickering_pixels(rng: np.random.Generator, reading: Reading) -> None:
    """Pixels or columns with several times the noise."""
    if rng.random() < 0.5:
        x = rng.integers(0, reading.values.shape[1], rng.integers(1, 8))
        reading.values[:, x] += (
            reading.noise * rng.uniform(1, 5) * reading.each.normal(size=(len(reading.values), len(x)))
        )
        return
    number = int(10 ** rng.uniform(1, 3))
    y, x = (rng.integers(0, size, number) for size in reading.values.shape)
    reading.values[y, x] += np.abs(reading.noise * rng.uniform(2, 8) * reading.each.normal(size=number))


def cosmic_rays(rng: np.random.Generator, reading: Reading) -> None:
    """Short, thin, straight tracks, or single bright pixels."""
    for _ in range(rng.integers(1, 12)):
        length = int(rng.exponential(5)) + 1
        angle = rng.uniform(0, 2 * np.pi)
        y = np.round(rng.uniform(0, len(reading.values)) + np.arange(length) * np.sin(angle)).astype(int)
        x = np.round(rng.uniform(0, reading.values.shape[1]) + np.arange(length) * np.cos(angle)).astype(int)
        inside = (y >= 0) & (x >= 0) & (y < len(reading.values)) & (x < reading.values.shape[1])
        height = reading.noise * 10 ** rng.uniform(0.7, 2.3) * rng.uniform(0.5, 1, length)
        reading.values[y[inside], x[inside]] += height[inside]


def panel_edges(rng: np.random.Generator, reading: Reading) -> None:
    """Rows and columns of larger pixels, brighter as much, and panels that differ in offset."""
    height, width = reading.values.shape
    signal = uniform_filter1d(reading.values, 9, axis=0) - reading.offset
    for axis, size in ((0, height), (1, width)):
        for place in np.arange(rng.integers(20, 200), size, rng.integers(60, 260)):
            factor = rng.uniform(0.3, 1.5)
            if axis == 0:
                reading.values[place] += factor * signal[place] * rng.normal(1, 0.1)
            else:
                reading.values[:, place] += factor * signal[:, place] * rng.normal(1, 0.1)
            if rng.random() < 0.5:
                tail = (slice(place, None), slice(None)) if axis == 0 else (slice(None), slice(place, None))
                reading.values[tail] += reading.noise * rng.normal(0, 1.5)


def noisy_areas(rng: np.random.Generator, reading: Reading) -> None:
    """Strips and small groups of pixels that count by themselves."""
    height, width = reading.values.shape
    for _ in range(int(rng.choice([1, 2, 12, 40]))):
        h, w = np.exp(rng.uniform(0, np.log(40), 2)).astype(int)
        if rng.random() < 0.3:
            h, w = (h, w * 6) if rng.random() < 0.5 else (h * 6, w)
        y, x = rng.integers(0, height - 2), rng.integers(0, width - 2)
        area = reading.values[y : y + h, x : x + w]
        rate = 10 ** rng.uniform(-1.3, 0.3)
        height_here = 10 ** rng.uniform(0, 2.5)
        area += (
            reading.noise
            * height_here
            * reading.each.poisson(rate, area.shape)
            * np.where(reading.each.random(area.shape) < 0.5, 1, rng.random())
        )


def uneven_response(rng: np.random.Generator, scene: Scene) -> None:
    """Speckle of coherent light, or a flat field not corrected: noise that is even over a few pixels, as strong as the light."""
    grain = gaussian_filter(
        rng.normal(size=scene.photons.shape), np.exp(rng.uniform(np.log(0.4), np.log(3), 2))
    )
    scene.photons *= np.maximum(1 + rng.uniform(0.05, 0.5) * grain / grain.std(), 0)


def bad_blocks(rng: np.random.Generator, reading: Reading) -> None:
    """An area of pixels stuck at high or random values."""
    height, width = reading.values.shape
    h, w = rng.integers(4, 60, 2)
    y, x = rng.integers(0, height - h), rng.integers(0, width - w)
    some = rng.random((h, w)) < rng.uniform(0.2, 1)
    reading.values[y : y + h, x : x + w][some] = (
        reading.noise * 10 ** rng.uniform(1, 3) * rng.uniform(0.9, 1, some.sum())
    )


ArtefactPart = Callable[[np.random.Generator, Scene], None]
LIGHT: dict[str, ArtefactPart] = {
    part.__name__: part
    for part in (
        smooth_rings,
        grainy_rings,
        small_angle,
        jet_streak,
        shadow,
        beam_stop,
        film_step,
        salt_spots,
        scratches,
        uneven_response,
    )
}
READING: dict[str, Callable[[np.random.Generator, Reading], None]] = {
    part.__name__: part
    for part in (
        hot_pixels,
        dead_pixels,
        flickering_pixels,
        cosmic_rays,
        panel_edges,
        bad_blocks,
        noisy_areas,
    )
}
# What is elsewhere in every frame of a run; all others stay where they are.
MOVING = ("grainy_rings", "jet_streak", "salt_spots", "cosmic_rays")
