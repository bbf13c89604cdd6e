"""simulated sets for LN83, LN84 and LO19: the sets' parameters, and frames with their truth.

A shot is drawn in three steps: how many spots are to be seen (from the class counts of the experts and the
spot counts of DIALS on the real set), a crystal in random orientation whose size and pulse energy make it so,
and the detector's frame of it. The label of a frame is the number of its visible spots in the central crop,
counted on the noiseless truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.crop import CROP
from sfxjax.simulate import detector as detectors
from sfxjax.simulate.crystal import Crystal, random_rotation, still_reflections
from sfxjax.simulate.detector import Shot
from sfxjax.simulate.parameters import SimulatedSet

VISIBLE_SIGNAL_TO_NOISE = 6.0  # of a spot's nine middle pixels over their background: a spot the eye finds
REFLECTIONS_DRAWN = 2048  # reflections drawn in a frame
_LEVELS = np.array([0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0])


class ShotPlan(NamedTuple):
    """What each frame of a run is to hold, (frames,) each, drawn on the host.

    Attributes:
        spots: visible spots to aim at.
        crystal: whether a crystal is in the beam.
        blank: whether the pulse was missing.
    """

    spots: np.ndarray
    crystal: np.ndarray
    blank: np.ndarray


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Truth:
    """The truth of one frame.

    Attributes:
        count: int32, visible spots in the central crop.
        position: (BRIGHTEST, 2) pixels (ss, fs) in the frame.
        signal_to_noise: (BRIGHTEST,), zero outside the frame and behind the beam stop; falling.
        in_crop: (BRIGHTEST,) bool, inside the central crop.
    """

    count: jax.Array
    position: jax.Array
    signal_to_noise: jax.Array
    in_crop: jax.Array


def frame_centre(parameters: SimulatedSet, shape: tuple[int, int]) -> tuple[float, float]:
    """Place the direct beam in frames of one size.

    Args:
        parameters: the set.
        shape: size of the frames, the middle of the whole detector, pixels (ss, fs).

    Returns:
        (ss, fs) pixels from the middle of the frame's first pixel.
    """
    beam, whole = parameters.geometry.beam_centre, parameters.geometry.shape
    return beam[0] - (whole[0] - shape[0]) // 2, beam[1] - (whole[1] - shape[1]) // 2


def plan_run(parameters: SimulatedSet, frames: int, seed: int = 0) -> ShotPlan:
    """Draw how many spots each frame of a run is to show.

    Args:
        parameters: the set.
        frames: length of the run.
        seed: random seed.

    Returns:
        A `ShotPlan` whose classes come in the real set's proportions, to a frame, in random order.
    """
    rng = np.random.default_rng([seed, parameters.seed])
    hits, maybes, _ = (round(count * frames / 2000) for count in parameters.class_counts)
    spots = rng.choice([0, 0, 1, 2, 3], size=frames)
    crystal = rng.random(frames) < parameters.crystal_misses
    spots[~crystal] = 0
    blank = rng.random(frames) < parameters.blanks
    crystal[blank], spots[blank] = False, 0
    for share, count in ((slice(0, hits), hits), (slice(hits, hits + maybes), maybes)):
        table = parameters.hit_spots if share.start == 0 else parameters.maybe_spots
        level = rng.random(count)
        spots[share] = np.exp(np.interp(level, _LEVELS, np.log(table))).round()
        crystal[share], blank[share] = True, False
    order = rng.permutation(frames)
    return ShotPlan(spots[order].astype(np.int32), crystal[order], blank[order])


def _draw_shot(key: jax.Array, parameters: SimulatedSet, blank: jax.Array) -> Shot:
    # Few large draws compile faster than many small ones.
    normal_key, uniform_key = jax.random.split(key)
    normal = jax.random.normal(normal_key, (7,))
    uniform = jax.random.uniform(uniform_key, (15,))
    level = parameters.level * jnp.exp(parameters.level_spread * normal[0])
    streak = jnp.where(uniform[0] < parameters.streaks, 0.3 + 2.0 * uniform[1], 0.0)
    shadow = jnp.where(uniform[2] < parameters.shadows, 0.6 + 0.35 * uniform[3], 1.0)
    zingers = uniform[6:].reshape(3, 3)
    zingers = zingers.at[:, 2].set(jnp.where(zingers[:, 2] < 0.3, 1.0 + 30.0 * zingers[:, 2] ** 2, 0.0))
    return Shot(
        level=jnp.where(blank, 15.0, level),
        air=parameters.air * jnp.exp(0.3 * normal[1]),
        ring=parameters.ring * jnp.exp(0.12 * normal[2]),
        ring_shift=0.01 * normal[3],
        tilt=0.08 * normal[4:6],
        streak=streak,
        # The streak stands across the jet, which falls along ss.
        streak_angle=0.15 * normal[6],
        shadow=shadow,
        shadow_angle=2 * jnp.pi * uniform[4],
        shadow_offset=150.0 + 250.0 * uniform[5],
        zingers=zingers,
    )


def _draw_crystal(key: jax.Array, parameters: SimulatedSet) -> Crystal:
    rotation_key, spread_key = jax.random.split(key)
    normal = jax.random.normal(spread_key, (3,))
    return Crystal(
        rotation=random_rotation(rotation_key),
        b_factor=parameters.b_factor * jnp.exp(0.3 * normal[0]),
        size=parameters.domain * jnp.exp(0.35 * normal[1]),
        mosaicity=jnp.deg2rad(0.03) * jnp.exp(0.5 * normal[2]),
        bandwidth=jnp.asarray(1.5e-3),
    )


def _hot_image(parameters: SimulatedSet, shot: Shot, shape: tuple[int, int], offset: np.ndarray) -> jax.Array:
    """(ss, fs) detector units of the run's hot pixels and the shot's zingers."""
    rng = np.random.default_rng(parameters.seed)
    full = parameters.geometry.shape
    place = rng.integers(0, full, size=(parameters.detector.hot_pixels, 2)) - offset
    # Half of them near the middle, so that a crop holds some.
    place[::2] = rng.integers(0, (CROP, CROP), size=place[::2].shape) + (np.array(full) - CROP) // 2 - offset
    height = rng.uniform(300, 8000, size=len(place))
    inside = np.all((place >= 0) & (place < np.array(shape)), axis=1)
    image = jnp.zeros(shape).at[place[inside, 0], place[inside, 1]].set(jnp.asarray(height[inside]))
    spots = (shot.zingers[:, :2] * jnp.array(shape)).astype(jnp.int32)
    units = shot.zingers[:, 2] * jnp.sqrt(shot.level) * parameters.detector.gain * 8.0
    return image.at[spots[:, 0], spots[:, 1]].add(units)


def _scale_for(count: jax.Array, ratio: jax.Array, place: jax.Array) -> jax.Array:
    """Scale at which `count` of the falling signal-to-noise `ratio`s reach the visible threshold."""
    # An orientation may have fewer reflections than asked for; then all but the faintest are seen.
    count = jnp.clip(jnp.sum(ratio > 0) - 1, 0, count)
    logs = jnp.log(jnp.maximum(ratio, 1e-12))
    upper = jnp.where(count > 0, logs[jnp.maximum(count - 1, 0)], logs[0] + 1.0)
    lower = logs[jnp.minimum(count, ratio.shape[0] - 1)]
    return VISIBLE_SIGNAL_TO_NOISE * jnp.exp(-(lower + (upper - lower) * place))


@partial(jax.jit, static_argnames=("parameters", "shape"))
def simulate_frame(
    key: jax.Array,
    spots: jax.Array,
    crystal: jax.Array,
    blank: jax.Array,
    *,
    parameters: SimulatedSet,
    shape: tuple[int, int] = (CROP, CROP),
) -> tuple[jax.Array, Truth]:
    """Simulate one frame and its truth.

    Args:
        key: a JAX random key, one a frame.
        spots: visible spots to aim at; reached unless the crystal's orientation has too few reflections.
        crystal: whether a crystal is in the beam.
        blank: whether the pulse was missing.
        parameters: the set.
        shape: size of the frame, the middle of the whole detector, pixels (ss, fs).

    Returns:
        (ss, fs) int16 frame in detector units, and its `Truth`.
    """
    shot_key, crystal_key, size_key, scale_key, noise_key = jax.random.split(key, 5)
    geometry, detector = parameters.geometry, parameters.detector
    offset = (np.array(geometry.shape) - np.array(shape)) // 2
    centre = frame_centre(parameters, shape)
    shot = _draw_shot(shot_key, parameters, blank)
    ss, fs = detectors.pixel_grid(shape, centre)
    photons = detectors.background(shot, detector, geometry, ss, fs)
    valid = detectors.valid_pixels(detector, ss, fs)

    corner = np.hypot(*(np.array(shape) / 2 + 8)) * geometry.pixel_size / geometry.distance
    inverse_d_max = min(2 * np.sin(np.arctan(corner) / 2) / geometry.wavelength, 0.6)
    drawn = _draw_crystal(crystal_key, parameters)
    found = still_reflections(
        drawn,
        cell=parameters.cell,
        geometry=geometry,
        inverse_d_max=float(inverse_d_max),
        seed=parameters.seed,
    )
    place = found.position + jnp.array(centre)
    inside = jnp.all((place >= 0) & (place < jnp.array(shape) - 1), axis=1)
    strength, best = jax.lax.top_k(jnp.where(inside, found.intensity, 0.0), REFLECTIONS_DRAWN)
    position = found.position[best]
    radius = jnp.linalg.norm(position, axis=1)
    spot_size = parameters.spot_size * jnp.exp(0.25 * jax.random.normal(size_key))
    radial = jnp.hypot(spot_size, drawn.bandwidth * radius)
    tangential = jnp.hypot(spot_size, 0.5 * drawn.mosaicity * radius)
    middle, shares = detectors.spot_profile(position, radial, tangential, centre)

    at = tuple(jnp.clip(middle, 0, jnp.array(shape) - 1).T)
    nine = jnp.sum(shares[:, 3:6, 3:6], axis=(1, 2))
    floor = (detector.read_noise / detector.gain) ** 2
    ratio = strength * nine / (3.0 * jnp.sqrt(photons[at] + floor)) * valid[at]
    # The count is taken in the central crop, whatever the size of the frame.
    margin = (np.array(shape) - CROP) // 2
    in_crop = jnp.all((middle >= margin) & (middle < margin + CROP), axis=1)
    falling = jnp.sort(jnp.where(in_crop, ratio, 0.0), descending=True)
    # The scale is uniform between two spots: a shot far from the visible threshold is as likely as one beside it.
    scale = _scale_for(spots, falling, jax.random.uniform(scale_key, minval=0.02, maxval=0.98))
    scale = jnp.where(crystal & ~blank, scale, 0.0)
    ratio = ratio * scale

    photons = detectors.add_spots(photons, middle, shares, strength * scale)
    hot = _hot_image(parameters, shot, shape, offset)
    frame = detectors.expose(noise_key, photons, valid, hot, detector)
    count = jnp.sum((ratio >= VISIBLE_SIGNAL_TO_NOISE) & in_crop).astype(jnp.int32)
    order = jnp.argsort(ratio, descending=True)
    return frame, Truth(count, place[best][order], ratio[order], in_crop[order])


@partial(jax.jit, static_argnames=("parameters", "shape"))
def simulate_frames(
    seed: jax.Array,
    index: jax.Array,
    plan: ShotPlan,
    *,
    parameters: SimulatedSet,
    shape: tuple[int, int] = (CROP, CROP),
) -> tuple[jax.Array, Truth]:
    """Simulate a batch of frames of one run.

    A frame depends on the seed and its index alone, not on the batch it is made in.

    Args:
        seed: int, the run's seed.
        index: (n,) 0-based frame numbers.
        plan: the `ShotPlan` entries of those frames.
        parameters: the set.
        shape: size of the frames, pixels (ss, fs).

    Returns:
        (n, ss, fs) int16 frames, and their `Truth` with a leading axis.
    """
    run_key = jax.random.fold_in(jax.random.key(seed), parameters.seed)

    def one(item: tuple[jax.Array, ShotPlan]) -> tuple[jax.Array, Truth]:
        number, what = item
        key = jax.random.fold_in(run_key, number)
        return simulate_frame(key, *what, parameters=parameters, shape=shape)

    # One frame at a time keeps the intermediates in a CPU's cache; an accelerator wants them all at once.
    if jax.default_backend() == "cpu":
        return jax.lax.map(one, (index, plan))
    return jax.vmap(one)((index, plan))
