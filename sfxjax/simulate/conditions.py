"""Frames of any detector and any crystal, with the places of their spots: a wide simulation to learn and to judge on.

`draw_frame` draws a detector, a background, a crystal, and parts of `sfxjax.simulate.artefacts`, each with a probability, and
`draw_run` those of one detector. Everything can be fixed by name, which gives the conditions of a test matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from sfxjax.simulate.artefacts import LIGHT, MOVING, READING, Reading, Scene
from sfxjax.simulate.readout import read_out, stored
from sfxjax.simulate.visibility import noise_of, ratio_of, response_variance, responses, strength_of
from sfxjax.spots.block_noise import LEAST_COUNTS, RESPONSE_VARIANCE
from sfxjax.spots.candidates import RING_SHARE

DETECTORS = ("counting", "integrating", "photons", "analogue", "eight_bit")
GAPS = ("none", "zero", "minus_one", "largest", "constant")
SPOT_REACH = 14
# A defect that changes a spot's response by more than this part of it hides the spot.
MOST_COVERED = 0.5
PULSE_SPREAD = 0.2  # standard deviation of the logarithm of a pulse's light


@dataclass(frozen=True)
class Condition:
    """What a frame is like; None is drawn at random.

    Attributes:
        detector: one of `DETECTORS`.
        level: typical background, photons a pixel.
        spot_size: standard deviation of a spot, pixels.
        spots: how many spots to make about as strong as can be seen or stronger; 0 for none.
        gaps: one of `GAPS`: what pixels between panels hold.
        parts: names of artefacts; None draws them.
        shape: of the frame, pixels.
    """

    detector: str | None = None
    level: float | None = None
    spot_size: float | None = None
    spots: int | None = None
    gaps: str | None = None
    parts: tuple[str, ...] | None = None
    shape: tuple[int, int] = (480, 480)


@dataclass(frozen=True)
class SimulatedFrame:
    """A frame and its truth.

    Attributes:
        values: (ss, fs) as a file would hold them.
        places: (n, 2) centres of spots, pixels (ss, fs).
        signal_to_noise: (n,) significance that a spot's 3 x 3 middle pixels would have without chance, against the noise around
            it, see `sfxjax.simulate.visibility`; 0 for those that no live pixel sees, or that a defect covers.
        among_photons: (n,) the same against the noise of photons and of reading alone, as where all that stays put in a run has
            been taken away.
        condition: what was drawn.
        parts: names of artefacts in it.
    """

    values: np.ndarray
    places: np.ndarray
    signal_to_noise: np.ndarray
    among_photons: np.ndarray
    condition: Condition
    parts: tuple[str, ...]


@dataclass(frozen=True)
class _Spots:
    """Spots of a frame: places (n, 2), ratios (n,), responses and their variances in photons (n,), response to one photon."""

    places: np.ndarray
    ratios: np.ndarray
    among_photons: np.ndarray
    signals: np.ndarray
    expected: np.ndarray
    photon: float


def draw_run(seed: int, given: Condition = Condition()) -> Iterator[SimulatedFrame]:
    """Draw frames of one run without end: the same detector, gaps, spot size and artefacts that stay put, other crystals.

    Args:
        seed: of the run.
        given: what is fixed.
    """
    for number in count():
        yield draw_frame(np.random.default_rng((seed, 1, number)), given, np.random.default_rng((seed, 0)))


def draw_frame(
    rng: np.random.Generator, given: Condition = Condition(), still: np.random.Generator | None = None
) -> SimulatedFrame:
    """Draw a frame.

    Args:
        rng: random generator.
        given: what is fixed.
        still: generator of what frames of a run share, in the same state for each of them; None: `rng`, for a frame of its own.
    """
    each, own = rng, still is None
    still = rng if still is None else still
    detector = given.detector or still.choice(DETECTORS, p=[0.36, 0.26, 0.12, 0.18, 0.08])
    level = given.level
    if level is None:
        span = {"counting": (-2.5, 1.7), "integrating": (0.5, 3.7), "photons": (-1.5, 1.5)}.get(
            detector, (-0.5, 2.0)
        )
        level = 10 ** still.uniform(*span)
    height, width = given.shape
    beam = still.uniform(-0.4, 1.4, 2) * given.shape
    ss, fs = (
        np.arange(height, dtype=np.float32)[:, None] - beam[0],
        np.arange(width, dtype=np.float32)[None] - beam[1],
    )
    scene, names = Scene(_background(still, ss, fs, level), ss, fs, level), given.parts
    if names is None:
        chance = still.choice([0.03, 0.12, 0.3])
        names = tuple(name for name in (*LIGHT, *READING) if still.random() < chance)
    for name in names:
        if name in LIGHT:
            LIGHT[name](each if name in MOVING else still, scene)
    if not own:  # pulses differ in their light
        scene.photons *= each.lognormal(0, PULSE_SPREAD)
    photons = np.clip(scene.photons, 0, 3e5)
    live, gap = _live(still, given, detector)
    size = given.spot_size or float(np.exp(still.uniform(np.log(0.4), np.log(2.3))))
    spread = still.uniform(0.35, 0.75) if detector == "integrating" else 0.0
    read = {
        "photons": still.uniform(0.05, 0.3),
        "analogue": still.uniform(0.1, 0.8),
        "integrating": still.uniform(0.2, 4),
        "eight_bit": 0.3,
    }.get(detector, 0.0)
    number = given.spots if given.spots is not None else _drawn_number(each)
    spots, light = _spots(each, photons, live, number, size, spread, read)
    counts = each.poisson(photons + light).astype(np.float32)
    values, gain, noise, offset, dtype = read_out(still, each, counts, photons, detector, spread, read, level)
    reading = Reading(values.copy(), noise, live, offset, each)
    defects = [name for name in names if name in READING]
    for name in defects:
        READING[name](each if name in MOVING else still, reading)
    if defects and len(spots.places):
        spots = _among_defects(spots, responses((reading.values - values) / gain))
    return SimulatedFrame(
        stored(still, reading, dtype, gap),
        spots.places,
        spots.ratios,
        spots.among_photons,
        Condition(detector, level, size, number, gap, names, given.shape),
        names,
    )


def _drawn_number(rng: np.random.Generator) -> int:
    kind = rng.random()
    if kind < 0.35:
        return 0
    return int(rng.integers(1, 8)) if kind < 0.55 else int(np.exp(rng.uniform(np.log(4), np.log(150))))


def _background(rng: np.random.Generator, ss: np.ndarray, fs: np.ndarray, level: float) -> np.ndarray:
    radius = np.hypot(ss, fs) / 300
    profile = 0.3 + rng.uniform(0, 1.5) * np.exp(-radius / rng.uniform(0.1, 1))
    profile = profile + rng.uniform(0, 1.2) * np.exp(
        -0.5 * ((radius - rng.uniform(0.5, 1.8)) / rng.uniform(0.15, 0.5)) ** 2
    )
    profile = profile * (1 + rng.normal(0, 0.1) * ss / 300 + rng.normal(0, 0.1) * fs / 300)
    return level * np.maximum(profile / max(float(np.mean(profile)), 1e-3), 1e-3)


def _live(rng: np.random.Generator, given: Condition, detector: str) -> tuple[np.ndarray, str]:
    live: np.ndarray = np.ones(given.shape, bool)
    gap = given.gaps or rng.choice(GAPS, p=[0.45, 0.2, 0.15, 0.1, 0.1])
    if gap == "none":
        return live, gap
    for axis in (0, 1):
        if rng.random() < 0.85:
            period, width = rng.integers(60, 300), rng.integers(2, 40)
            place = (np.arange(given.shape[axis]) + rng.integers(0, period)) % period < width
            live &= ~(place[:, None] if axis == 0 else place[None])
    if rng.random() < 0.2:
        y, x = np.indices(given.shape)
        live &= (
            np.hypot(y - given.shape[0] / 2, x - given.shape[1] / 2) < rng.uniform(0.4, 0.7) * given.shape[0]
        )
    return live, str(gap)


def _lattice(rng: np.random.Generator, shape: tuple[int, int], number: int) -> np.ndarray:
    """Places of spots of a still: on arcs where a random lattice cuts the Ewald sphere, (n, 2)."""
    cell = np.exp(rng.uniform(np.log(30), np.log(350), 3))
    random = np.linalg.qr(rng.normal(size=(3, 3)))[0] / cell
    wavelength, scale = rng.uniform(0.9, 1.8), 10 ** rng.uniform(2.9, 3.6)
    reach = min(2 * np.sin(np.arctan(rng.uniform(250, 700) / scale) / 2) / wavelength, 0.6)
    limits = np.minimum(np.ceil(cell * reach), 34).astype(int)
    axes = np.meshgrid(*(np.arange(-n, n + 1) for n in limits), indexing="ij")
    hkl = np.stack([a.ravel() for a in axes], 1)
    q = hkl[np.any(hkl != 0, 1)] @ random
    along = q[:, 2] + 1 / wavelength
    error = np.abs(np.sqrt(q[:, 0] ** 2 + q[:, 1] ** 2 + along**2) - 1 / wavelength)
    best = np.argsort(error + 1e-4 * rng.random(len(q)))[: 12 * number + 50]
    place = q[best, :2] / along[best, None] * scale
    place = place[rng.permutation(len(place))] + rng.uniform(0, 1, 2) * shape
    return place[np.all((place > 1) & (place < np.array(shape) - 2), 1)]


def _spots(
    rng: np.random.Generator,
    photons: np.ndarray,
    live: np.ndarray,
    number: int,
    size: float,
    spread: float,
    read: float,
) -> tuple[_Spots, np.ndarray]:
    """Draw spots, and their light (ss, fs)."""
    shape = photons.shape
    light = np.zeros(shape)
    photon = 1.0 if not spread else 1e-3
    if number == 0:
        none = np.zeros(0)
        return _Spots(np.zeros((0, 2)), none, none, none, none, photon), light
    unevenness = noise_of(responses(gaussian_filter(photons, spread) if spread else photons))
    places = np.concatenate(
        [
            _lattice(rng, shape, number) if rng.random() < 0.6 else np.zeros((0, 2)),
            rng.uniform(2, np.array(shape) - 3, (3 * number, 2)),
        ]
    )
    # As many again lie below the threshold of sight.
    places = places[: max(int(number * rng.uniform(1, 2.5)), 1)]
    wanted = 6.5 * np.exp(rng.exponential(rng.uniform(0.3, 1.3), len(places)))
    wanted[number:] = rng.uniform(0.5, 6, len(places) - min(number, len(places)))
    split = rng.random() < 0.15
    angle0, stretch = (
        rng.uniform(0, np.pi),
        1 + rng.exponential(0.3) * (rng.random() < 0.5) + 2 * (rng.random() < 0.06),
    )
    offset = np.arange(-SPOT_REACH, SPOT_REACH + 1)
    ratios, among_photons, signals, expecteds = np.zeros((4, len(places)))
    photon_factor = response_variance(spread)
    for index, (y, x) in enumerate(places):
        row, column = round(float(y)), round(float(x))
        a, b = offset[:, None] - (y - row), offset[None] - (x - column)
        # A pixel and the point spread widen it.
        own = np.hypot(size * rng.uniform(0.85, 1.15), 0.29)
        angle = angle0 + rng.normal(0, 0.1)
        u, v = a * np.cos(angle) + b * np.sin(angle), b * np.cos(angle) - a * np.sin(angle)
        shape_here = np.exp(-0.5 * (u / (own * stretch)) ** 2 - 0.5 * (v / own) ** 2)
        if split:
            shift = rng.uniform(1, 3) * size
            shape_here = shape_here + rng.uniform(0.2, 1) * np.exp(
                -0.5 * ((u - shift) / own) ** 2 - 0.5 * (v / own) ** 2
            )
        shape_here /= shape_here.sum()
        seen = gaussian_filter(shape_here, spread) if spread else shape_here
        peak = np.unravel_index(seen.argmax(), seen.shape)
        response = float(
            (1 + RING_SHARE) * _around(seen, peak, 1).sum() - RING_SHARE * _around(seen, peak, 3).sum()
        )
        rows = slice(max(row - 3, 0), row + 4), slice(max(column - 3, 0), column + 4)
        background = float(photons[rows].mean())
        # Response noise of `sfxjax.spots.candidates`, photons.
        uneven = unevenness[row, column]
        expected = photon_factor * background + RESPONSE_VARIANCE * read**2 + LEAST_COUNTS + uneven**2
        signals[index], expecteds[index] = strength_of(wanted[index], expected, photon), expected
        among_photons[index] = ratio_of(signals[index], expected - uneven**2, photon)
        strength = signals[index] / max(response, 0.02)
        top, left = row - SPOT_REACH, column - SPOT_REACH
        ys, xs = (
            slice(max(top, 0), min(row + SPOT_REACH + 1, shape[0])),
            slice(max(left, 0), min(column + SPOT_REACH + 1, shape[1])),
        )
        light[ys, xs] += (
            strength * shape_here[ys.start - top : ys.stop - top, xs.start - left : xs.stop - left]
        )
        around = live[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        ratios[index] = wanted[index] if around.size and around.mean() > 0.6 else 0.0
    return _Spots(places, ratios, among_photons * (ratios > 0), signals, expecteds, photon), light


def _among_defects(spots: _Spots, changes: np.ndarray) -> _Spots:
    """Take into account what defects of the detector add to the responses of a frame, (ss, fs) in photons."""
    ss, fs = np.round(spots.places).astype(int).T
    noise = noise_of(changes)[ss, fs]
    ratios = ratio_of(spots.signals, spots.expected + noise**2, spots.photon)
    covered = np.abs(changes[ss, fs]) > MOST_COVERED * spots.signals
    return replace(spots, ratios=np.where(covered | (spots.ratios == 0), 0, ratios))


def _around(seen: np.ndarray, peak: tuple[Any, ...], reach: int) -> np.ndarray:
    rows, columns = (slice(max(int(place) - reach, 0), int(place) + reach + 1) for place in peak)
    return seen[rows, columns]
