"""What a Rayonix-like detector records: background, spots, noise and its own faults.

The radial background was fitted to one measured MX340 frame (solvent ring, air scatter, the fall towards the
edge); the noise chain (Poisson, point spread of 1.3 pixels, gain, pedestal, read noise) reproduces its
variance over mean and its correlation between neighbouring pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sfxjax.simulate.crystal import BeamGeometry

POINT_SPREAD = 1.3 / 2.3548  # standard deviation of the detector's point spread, pixels
SPOT_HALF_WIDTH = 4  # half width of the square a spot is drawn in, pixels
SATURATION = 32767  # the largest value of the int16 frames, detector units


@dataclass(frozen=True)
class Detector:
    """What stays the same through a run.

    Attributes:
        gain: detector units a photon; with the point spread the variance over mean is about 0.31 gain.
        pedestal: detector units added to every valid pixel.
        read_noise: standard deviation, detector units.
        stop_radius: radius of the beam stop (a hole in the image), pixels.
        stop_arcs: brightness of the two reflections beside the stop, relative to the background there.
        step_position: fs of the step in transmission (Kapton film or panel edge) from the beam, pixels.
        step_transmission: factor on the low-fs side of the step.
        hot_pixels: number of pixels that are hot throughout the run.
    """

    gain: float
    pedestal: float = 10.0
    read_noise: float = 3.0
    stop_radius: float = 41.0
    stop_arcs: float = 0.12
    step_position: float = -35.0
    step_transmission: float = 0.89
    hot_pixels: int = 8


class Shot(NamedTuple):
    """What changes from shot to shot in the background; scalars, unless stated.

    Attributes:
        level: mean background at the top of the solvent ring, photons.
        air: air scatter at the beam stop relative to the ring.
        ring: height of the solvent ring relative to the fitted one.
        ring_shift: relative shift of the ring's position in 1/d.
        tilt: (2,) relative gradient of the background across 1000 pixels, (ss, fs).
        streak: photons at the root of the jet streak over `level`; zero for none.
        streak_angle: radians.
        shadow: transmission of the shadowed wedge; one for none.
        shadow_angle: direction of the shadow's edge, radians.
        shadow_offset: distance of the shadow's edge from the beam, pixels.
        zingers: (n, 3) single bright pixels: ss, fs in [0, 1) of the frame, height over `level`.
    """

    level: jax.Array
    air: jax.Array
    ring: jax.Array
    ring_shift: jax.Array
    tilt: jax.Array
    streak: jax.Array
    streak_angle: jax.Array
    shadow: jax.Array
    shadow_angle: jax.Array
    shadow_offset: jax.Array
    zingers: jax.Array


def pixel_grid(shape: tuple[int, int], centre: tuple[float, float]) -> tuple[jax.Array, jax.Array]:
    """Coordinates of the pixels from the direct beam.

    Args:
        shape: frame size, pixels (ss, fs).
        centre: the direct beam in this frame, pixels (ss, fs).

    Returns:
        Two arrays that broadcast to `shape`: ss as a column, fs as a row.
    """
    ss = jnp.arange(shape[0], dtype=jnp.float32)[:, None] - centre[0]
    fs = jnp.arange(shape[1], dtype=jnp.float32)[None, :] - centre[1]
    return ss, fs


def background(
    shot: Shot, detector: Detector, geometry: BeamGeometry, ss: jax.Array, fs: jax.Array
) -> jax.Array:
    """Expected background of one shot.

    Args:
        shot: this shot's background.
        detector: the run's detector.
        geometry: the run's geometry.
        ss: coordinates from `pixel_grid`, pixels.
        fs: coordinates from `pixel_grid`, pixels.

    Returns:
        (ss, fs) photons expected a pixel, as if the beam stop were not there: see `valid_pixels`.
    """
    radius2 = ss * ss + fs * fs
    radius = jnp.sqrt(radius2)
    angle2 = radius2 * (geometry.pixel_size / geometry.distance) ** 2
    cosine = jax.lax.rsqrt(1.0 + angle2)
    # 2 sin(theta) / wavelength, from cos(2 theta).
    inverse_d = jnp.sqrt(2.0 * (1.0 - cosine)) / geometry.wavelength
    # Fitted to the measured frame and scaled to one at the top of the ring.
    plateau = 0.71 / (1.0 + (inverse_d / 0.53) ** 1.5)
    air = shot.air * jnp.exp(-inverse_d / 0.0134)
    x = inverse_d / (1.0 + shot.ring_shift)
    outer = jnp.exp(-0.5 * ((x - 0.336) / jnp.where(x < 0.336, 0.034, 0.102)) ** 2)
    inner = jnp.exp(-0.5 * ((x - 0.289) / 0.05) ** 2)
    profile = plateau + air + shot.ring * (0.447 * outer + 0.398 * inner)
    photons = shot.level * profile * cosine**3

    photons = photons * (1.0 + (shot.tilt[0] * ss + shot.tilt[1] * fs) / 1000.0)
    edge = jax.nn.sigmoid((fs - detector.step_position) / 5.0)
    photons = photons * (detector.step_transmission + (1.0 - detector.step_transmission) * edge)
    # Reflections from the holder of the stop: bright bands above and below it.
    arc = jnp.exp(-0.5 * ((radius - 1.4 * detector.stop_radius) / 4.0) ** 2) * jnp.exp(
        -0.5 * (fs / 14.0) ** 2
    )
    glow = jnp.exp(-jnp.abs(radius - detector.stop_radius) / 6.0) * 0.5
    photons = photons * (1.0 + detector.stop_arcs * (arc + glow))

    along = ss * jnp.sin(shot.streak_angle) + fs * jnp.cos(shot.streak_angle)
    across = -ss * jnp.cos(shot.streak_angle) + fs * jnp.sin(shot.streak_angle)
    streak = jnp.exp(-0.5 * (across / 1.6) ** 2 - jnp.abs(along) / 35.0)
    photons = photons + shot.level * shot.streak * streak

    beyond = ss * jnp.sin(shot.shadow_angle) + fs * jnp.cos(shot.shadow_angle) - shot.shadow_offset
    photons = photons * (1.0 - (1.0 - shot.shadow) * jax.nn.sigmoid(beyond / 4.0))
    return jnp.maximum(photons, 0.0)


def valid_pixels(detector: Detector, ss: jax.Array, fs: jax.Array) -> jax.Array:
    """Tell the pixels that see the sample from those behind the beam stop.

    Args:
        detector: the run's detector.
        ss: coordinates from `pixel_grid`, pixels.
        fs: coordinates from `pixel_grid`, pixels.

    Returns:
        (ss, fs) bool, True for valid.
    """
    return ss * ss + fs * fs >= detector.stop_radius**2


def spot_profile(
    position: jax.Array, radial: jax.Array, tangential: jax.Array, centre: tuple[float, float]
) -> tuple[jax.Array, jax.Array]:
    """Draw each spot's share of photons on the pixels around it.

    Args:
        position: (n, 2) pixels (ss, fs) from the direct beam.
        radial: (n,) standard deviation along the radius, pixels.
        tangential: (n,) standard deviation across the radius, pixels.
        centre: the direct beam in this frame, pixels (ss, fs).

    Returns:
        (n, 2) int32 pixel (ss, fs) at the middle of each patch, and (n, 9, 9) shares that sum to one.
    """
    place = position + jnp.array(centre)
    middle = jnp.round(place)
    offset = jnp.arange(-SPOT_HALF_WIDTH, SPOT_HALF_WIDTH + 1, dtype=jnp.float32)
    dy = offset[None, :, None] - (place - middle)[:, 0, None, None]
    dx = offset[None, None, :] - (place - middle)[:, 1, None, None]
    unit = position / jnp.maximum(jnp.linalg.norm(position, axis=1, keepdims=True), 1.0)
    along = dy * unit[:, 0, None, None] + dx * unit[:, 1, None, None]
    across = -dy * unit[:, 1, None, None] + dx * unit[:, 0, None, None]
    # A twelfth of a pixel squared is the variance that integrating over a pixel adds.
    shape = jnp.exp(
        -0.5 * along**2 / (radial**2 + 1 / 12)[:, None, None]
        - 0.5 * across**2 / (tangential**2 + 1 / 12)[:, None, None]
    )
    return middle.astype(jnp.int32), shape / jnp.sum(shape, axis=(1, 2), keepdims=True)


def add_spots(photons: jax.Array, middle: jax.Array, shares: jax.Array, strength: jax.Array) -> jax.Array:
    """Add spots to an image of expected photons.

    Args:
        photons: (ss, fs) expected photons.
        middle: (n, 2) int32 pixel of each spot.
        shares: (n, 9, 9) from `spot_profile`.
        strength: (n,) photons of each whole spot.

    Returns:
        (ss, fs) expected photons; what falls outside the frame is lost.
    """
    offset = jnp.arange(-SPOT_HALF_WIDTH, SPOT_HALF_WIDTH + 1)
    ss = middle[:, 0, None, None] + offset[None, :, None]
    fs = middle[:, 1, None, None] + offset[None, None, :]
    # A negative index would wrap around, so it is sent past the end, where mode="drop" loses it.
    ss = jnp.where(ss < 0, photons.shape[0], ss)
    fs = jnp.where(fs < 0, photons.shape[1], fs)
    ss, fs = jnp.broadcast_arrays(ss, fs)
    return photons.at[ss, fs].add(shares * strength[:, None, None], mode="drop")


def poisson_like(mean: jax.Array, normal: jax.Array) -> jax.Array:
    """Photon counts from Gaussian draws, with the mean, variance and skewness of a Poisson variable.

    Args:
        mean: expected photons.
        normal: standard Gaussian draws of the same shape.

    Returns:
        Rounded, non-negative counts (Cornish-Fisher expansion to second order); good to a few per cent of a
        standard deviation from ten photons on, which every valid pixel of these frames has.
    """
    return jnp.maximum(jnp.round(mean + jnp.sqrt(mean) * normal + (normal**2 - 1.0) / 6.0), 0.0)


def point_spread(image: jax.Array, sigma: float = POINT_SPREAD) -> jax.Array:
    """Blur by the detector's point spread.

    Args:
        image: (ss, fs).
        sigma: standard deviation, pixels.

    Returns:
        (ss, fs), a separable five-tap Gaussian; the edge pixels are repeated outwards.
    """
    taps = jnp.exp(-0.5 * (jnp.arange(-2, 3) / sigma) ** 2)
    taps = taps / jnp.sum(taps)
    height, width = image.shape
    padded = jnp.pad(image, ((0, 0), (2, 2)), mode="edge")
    image = sum(taps[i] * padded[:, i : i + width] for i in range(5))  # type: ignore[assignment]
    padded = jnp.pad(image, ((2, 2), (0, 0)), mode="edge")
    return sum(taps[i] * padded[i : i + height] for i in range(5))  # type: ignore[return-value]


@partial(jax.jit, static_argnames=("detector",))
def expose(
    key: jax.Array, photons: jax.Array, valid: jax.Array, hot: jax.Array, detector: Detector
) -> jax.Array:
    """Turn expected photons into a recorded frame.

    Args:
        key: a JAX random key for the photon and read noise.
        photons: (ss, fs) expected photons.
        valid: (ss, fs) bool, False behind the beam stop, where the detector reads zero.
        hot: (ss, fs) detector units added by hot pixels and zingers, not spread.
        detector: the run's detector.

    Returns:
        (ss, fs) int16 detector units, clipped at `SATURATION`.
    """
    photon_key, read_key = jax.random.split(key)
    counts = poisson_like(photons, jax.random.normal(photon_key, photons.shape))
    signal = point_spread(counts) * detector.gain + detector.pedestal
    # Sixteen bits are enough for read noise: a tenth of the photon noise, and cheaper to draw.
    bits = jax.random.bits(read_key, photons.shape, jnp.uint16).astype(jnp.float32)
    read = jnp.sqrt(2.0) * jax.scipy.special.erfinv((bits + 0.5) * 2.0**-15 - 1.0)
    signal = signal + detector.read_noise * read + hot
    return jnp.clip(jnp.where(valid, jnp.round(signal), 0.0), 0, SATURATION).astype(jnp.int16)
