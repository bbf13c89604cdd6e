"""Where a still crystal puts its Bragg spots on a flat detector, and how strong they are.

The reciprocal lattice of an orthorhombic cell is rotated at random and cut by the Ewald sphere. Only the
lattice points beside the sphere are built: along each reciprocal row parallel to the longest axis the sphere
is met at the two roots of a quadratic, so the work grows with the area of the sphere and not with the volume
of the lattice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Lattice points this far along a reciprocal row from where it meets the sphere are kept, 1/Angstrom: all but
# a few of those stronger than a hundredth of the strongest.
ROW_REACH = 0.035


@dataclass(frozen=True)
class BeamGeometry:
    """Beam and detector of one set, at the centre of the direct beam.

    Attributes:
        wavelength: photon wavelength, Angstrom.
        distance: crystal to detector, mm.
        pixel_size: edge of a square pixel, mm.
        shape: detector size, pixels (ss, fs).
        beam_centre: direct beam on the detector, pixels (ss, fs), of the whole detector.
    """

    wavelength: float
    distance: float
    pixel_size: float = 0.17708
    shape: tuple[int, int] = (1920, 1920)
    beam_centre: tuple[float, float] = (959.5, 959.5)


class Crystal(NamedTuple):
    """One crystal in one shot; every field is a scalar unless it says otherwise.

    Attributes:
        rotation: (3, 3) rotation from the crystal's frame to the laboratory's, beam along +z.
        b_factor: overall temperature factor, Angstrom^2.
        size: domain size along the beam, Angstrom; its inverse thickens the lattice points.
        mosaicity: standard deviation of the domains' orientation, radians.
        bandwidth: relative standard deviation of the wavelength.
    """

    rotation: jax.Array
    b_factor: jax.Array
    size: jax.Array
    mosaicity: jax.Array
    bandwidth: jax.Array


class Reflections(NamedTuple):
    """Candidate reflections of one still, (n,) each.

    Attributes:
        hkl: (n, 3) int32 Miller indices, of the cell's axes sorted from short to long.
        position: (n, 2) place on the detector, pixels (ss, fs) from the direct beam.
        intensity: relative intensity, zero for a point that cannot be seen.
        inverse_d: 1/d, 1/Angstrom.
    """

    hkl: jax.Array
    position: jax.Array
    intensity: jax.Array
    inverse_d: jax.Array


def random_rotation(key: jax.Array) -> jax.Array:
    """Draw a uniformly distributed rotation.

    Args:
        key: a JAX random key.

    Returns:
        (3, 3) rotation matrix, from a normalised Gaussian quaternion (Shoemake 1992).
    """
    w, x, y, z = jax.random.normal(key, (4,))
    n = 2.0 / (w * w + x * x + y * y + z * z)
    return jnp.array(
        [
            [1 - n * (y * y + z * z), n * (x * y - w * z), n * (x * z + w * y)],
            [n * (x * y + w * z), 1 - n * (x * x + z * z), n * (y * z - w * x)],
            [n * (x * z - w * y), n * (y * z + w * x), 1 - n * (x * x + y * y)],
        ]
    )


def hashed_uniform(h: jax.Array, k: jax.Array, l: jax.Array, seed: int) -> jax.Array:  # noqa: E741
    """Give every reflection of one crystal form its own fixed number in (0, 1].

    Args:
        h: int32 Miller index; signs do not count (Laue class mmm).
        k: as h, of a shape that broadcasts.
        l: as h, of a shape that broadcasts.
        seed: the crystal form.

    Returns:
        float32, the same for equal (|h|, |k|, |l|), spread like independent uniform draws.
    """
    x = jnp.uint32(seed)
    for index, factor in ((h, 0x9E3779B1), (k, 0x85EBCA77), (l, 0xC2B2AE3D)):
        x = x ^ (jnp.abs(index).astype(jnp.uint32) * jnp.uint32(factor))
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = (x ^ (x >> shift)) * jnp.uint32(factor)
    x = x ^ (x >> 16)
    return (x.astype(jnp.float32) + 0.5) * jnp.float32(2.0**-32)


def wilson_intensity(h: jax.Array, k: jax.Array, l: jax.Array, seed: int) -> jax.Array:  # noqa: E741
    """Squared structure factors of a crystal form of space group P212121, in units of their mean.

    Args:
        h: int32 Miller index.
        k: as h, of a shape that broadcasts.
        l: as h, of a shape that broadcasts.
        seed: the crystal form.

    Returns:
        float32, exponentially distributed (acentric Wilson statistics); zero for the absences, the odd
        reflections on each axis and (000).
    """
    value = -jnp.log(hashed_uniform(h, k, l, seed))
    on_axis = ((h == 0) & (k == 0)) | ((h == 0) & (l == 0)) | ((k == 0) & (l == 0))
    odd = (h + k + l) % 2 != 0
    origin = (h == 0) & (k == 0) & (l == 0)
    return jnp.where((on_axis & odd) | origin, 0.0, value)


def _row_grid(short_axes: tuple[float, float], inverse_d_max: float) -> np.ndarray:
    """(rows, 2) Miller indices (h, k) of the rows that pass within 1/d_min of the origin."""
    h_max, k_max = (int(np.ceil(axis * inverse_d_max)) for axis in short_axes)
    h, k = np.meshgrid(np.arange(-h_max, h_max + 1), np.arange(-k_max, k_max + 1), indexing="ij")
    inside = (h / short_axes[0]) ** 2 + (k / short_axes[1]) ** 2 <= inverse_d_max**2
    return np.stack([h[inside], k[inside]], axis=1).astype(np.int32)


@partial(jax.jit, static_argnames=("cell", "geometry", "inverse_d_max", "seed"))
def still_reflections(
    crystal: Crystal,
    *,
    cell: tuple[float, float, float],
    geometry: BeamGeometry,
    inverse_d_max: float,
    seed: int,
) -> Reflections:
    """List the reflections a still crystal can excite.

    A lattice point q at distance x from the Ewald sphere is excited by 1 / (1 + x^2 / w^2), where the width
    w^2 = (0.5 / size)^2 + (mosaicity |q|)^2 + (bandwidth |q|^2 wavelength / 2)^2 joins the finite crystal,
    the spread of its domains and that of the wavelength (the excitation errors of a still, as in Nave 1998).
    The tails fall as 1 / x^2, as the envelope of a finite crystal's interference function does; a Gaussian
    would leave too few spots far brighter than the faintest visible one. The intensity is that times the
    Wilson intensity, exp(-B / 2 d^2) and the polarisation factor of a beam polarised along fs.

    Args:
        crystal: the crystal of this shot.
        cell: orthorhombic cell edges, Angstrom.
        geometry: beam and detector.
        inverse_d_max: reflections beyond this 1/d are left out, 1/Angstrom.
        seed: the crystal form, which fixes the structure factors.

    Returns:
        `Reflections`, of a length that depends on the static arguments alone.
    """
    a, b, c = sorted(cell)
    rows = jnp.asarray(_row_grid((a, b), inverse_d_max))
    wavenumber = 1.0 / geometry.wavelength
    h, k = rows[:, :1], rows[:, 1:]
    base = h / a * crystal.rotation[:, 0] + k / b * crystal.rotation[:, 1]
    step = crystal.rotation[:, 2] / c
    # |base + l step + k0|^2 = |k0|^2 is a quadratic in l; a row that passes by the sphere has its middle
    # only.
    middle = -(base @ step + wavenumber * step[2]) * c * c
    square = middle**2 - (jnp.sum(base * base, axis=1) + 2 * wavenumber * base[:, 2]) * c * c
    # Two windows of lattice points, one around each crossing; where they would overlap, as where the row
    # touches the sphere, they lie side by side around the middle.
    half = math.ceil(ROW_REACH * c)
    apart = jnp.maximum(jnp.sqrt(jnp.maximum(square, 0.0)), half)
    low = jnp.round(middle - apart).astype(jnp.int32) - half
    high = jnp.maximum(jnp.round(middle + apart).astype(jnp.int32) - half, low + 2 * half)
    window = jnp.arange(2 * half)
    l = jnp.concatenate([low[:, None] + window, high[:, None] + window], axis=1)  # noqa: E741

    qx, qy, qz = (base[:, i : i + 1] + l * step[i] for i in range(3))
    square_length = qx * qx + qy * qy + qz * qz
    forward = qz + wavenumber
    error = (square_length + 2 * wavenumber * qz) / (
        jnp.sqrt(qx * qx + qy * qy + forward * forward) + wavenumber
    )
    square_width = (
        (0.5 / crystal.size) ** 2
        + crystal.mosaicity**2 * square_length
        + (crystal.bandwidth * geometry.wavelength / 2) ** 2 * square_length**2
    )
    intensity = (
        wilson_intensity(h, k, l, seed)
        * jnp.exp(-0.5 * crystal.b_factor * square_length)
        / (1.0 + error**2 / square_width)
        * (1.0 - (qx / wavenumber) ** 2)
    )
    visible = (square_length <= inverse_d_max**2) & (forward > 0)
    scale = geometry.distance / geometry.pixel_size / jnp.maximum(forward, 1e-3 * wavenumber)
    hkl = jnp.stack(jnp.broadcast_arrays(h, k, l), axis=-1).reshape(-1, 3)
    position = jnp.stack([qy * scale, qx * scale], axis=-1).reshape(-1, 2)
    intensity = jnp.where(visible, intensity, 0.0).reshape(-1)
    return Reflections(hkl, position, intensity, jnp.sqrt(square_length).reshape(-1))
