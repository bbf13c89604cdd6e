"""Simulated sets of single-particle imaging: shots with one particle, with several, and with none.

A shot with one particle is labelled HIT, all others MISS, so that every training finds single hits (the paper's outlook, its
references 14, 34 and 35). The frames are written in CXIDB 76's layout; `truth.h5` tells shots of several particles from empty
ones. Nothing here was fitted to measured frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import h5py
import numpy as np
import scipy.fft

from sfxjax.crop import CROP
from sfxjax.data.frames import ReadOptions
from sfxjax.data.labels import HIT, MISS, write_annotations
from sfxjax.data.new_hdf5 import NewHDF5
from sfxjax.data.set_description import LABEL_FILE, MASK_FILE, SetDescription
from sfxjax.data.write import SetMetadata, SetWriter
from sfxjax.errors import UserError
from sfxjax.files import atomic_folder, make_folder, user_cache_folder
from sfxjax.progress import progress
from sfxjax.simulate.cache import used
from sfxjax.simulate.write import FEWEST_SIMULATED, TRUTH_FILE, only_writer

# Raise it whenever the same set and seed give other frames.
PARTICLES_VERSION = 1
FRAMES_FILE = "frames.h5"
WAVELENGTH, DISTANCE, PIXEL = 7.5, 580.0, 0.075  # Angstrom, mm, mm: soft X-rays, of no weight for the pixels
GAIN, OFFSET, READ_NOISE = 40.0, 60.0, 8.0  # detector units a photon, of an empty pixel, and its deviation
STOP_RADIUS = 16.0  # of the beam stop, pixels


class Kind(IntEnum):
    """What a shot hit."""

    NONE = 0
    SINGLE = 1
    MULTIPLE = 2


@dataclass(frozen=True)
class ParticleSet:
    """A simulated set.

    Attributes:
        name: of the set.
        shape: "icosahedron" or "sphere".
        diameter: least and greatest, in pixels of the plane whose Fourier transform is the detector: fringes are
            `CROP / diameter` pixels apart.
        photons: least and greatest number beside the beam stop, of a particle's shot; even on a logarithmic scale.
        background: photons a pixel near the beam, least and greatest.
        fractions: of shots with no, one and several particles.
    """

    name: str
    shape: str
    diameter: tuple[float, float]
    photons: tuple[float, float]
    background: tuple[float, float]
    fractions: tuple[float, float, float] = (0.5, 0.3, 0.2)


PARTICLE_SETS = {
    each.name: each
    for each in (
        ParticleSet("ICOSAHEDRA", "icosahedron", (80.0, 100.0), (2e4, 5e5), (0.02, 0.1)),
        ParticleSet("SPHERES", "sphere", (60.0, 120.0), (1e4, 1e6), (0.05, 0.4)),
    )
}


def sphere(y: np.ndarray, x: np.ndarray, radius: float) -> np.ndarray:
    """Return the thickness of a sphere along the beam at places (..., ) of the plane, all in the same unit."""
    return 2 * np.sqrt(np.maximum(radius**2 - x**2 - y**2, 0))


def icosahedron(y: np.ndarray, x: np.ndarray, radius: float, rotation: np.ndarray) -> np.ndarray:
    """Return the thickness of a regular icosahedron along the beam.

    Args:
        y: places of the plane, broadcast with `x`.
        x: likewise.
        radius: of the inscribed sphere, in the unit of the places.
        rotation: (3, 3), of the particle.

    Returns:
        The broadcast shape; between the planes of its 20 faces.
    """
    golden = (1 + 5**0.5) / 2
    # The faces' normals point to the corners of a dodecahedron.
    signs = (-1, 1)
    some = np.array([[0, a * golden, b / golden] for a in signs for b in signs])
    cube = np.array([[a, b, c] for a in signs for b in signs for c in signs], float)
    corners = np.concatenate([np.roll(some, turn, axis=1) for turn in range(3)] + [cube])
    normals = corners / 3**0.5 @ rotation.T
    top = np.full(np.broadcast_shapes(y.shape, x.shape), np.inf)
    bottom = -top
    for nx, ny, nz in normals:
        if abs(nz) < 1e-6:
            continue
        height = (radius - nx * x - ny * y) / nz
        if nz > 0:
            np.minimum(top, height, out=top)
        else:
            np.maximum(bottom, height, out=bottom)
    return np.maximum(top - bottom, 0)


def random_orientation(rng: np.random.Generator) -> np.ndarray:
    """Return a (3, 3) rotation, evenly distributed: of a random unit quaternion."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_quat(rng.normal(size=4)).as_matrix()


def thickness(rng: np.random.Generator, parameters: ParticleSet, kind: Kind) -> np.ndarray:
    """Return the projected thickness of a shot's particles, (CROP, CROP): one in the middle, or a cluster of two to five."""
    y, x = _plane()
    radius = rng.uniform(*parameters.diameter) / 2
    places = [np.zeros(2)]
    for _ in range(0 if kind == Kind.SINGLE else int(rng.integers(1, 5))):
        # Each touches one that is there; in projection it may lie closer.
        angle, share = rng.uniform(0, 2 * np.pi), np.sqrt(rng.uniform(0.3, 1))
        step = 2 * radius * share * np.array([np.sin(angle), np.cos(angle)])
        places.append(places[int(rng.integers(len(places)))] + step)
    total = np.zeros((CROP, CROP))
    for dy, dx in places:
        own = radius * rng.uniform(0.9, 1.1)
        # The corners of an icosahedron are 1.26 times as far out as its faces.
        around = tuple(
            slice(max(0, int(CROP / 2 + d - 1.3 * own)), int(CROP / 2 + d + 1.3 * own) + 2) for d in (dy, dx)
        )
        here = y[around[0]] - dy, x[:, around[1]] - dx
        if parameters.shape == "sphere":
            total[around] += sphere(*here, own)
        else:
            total[around] += icosahedron(*here, own, random_orientation(rng))
    return total


def _plane() -> tuple[np.ndarray, np.ndarray]:
    """Return the distances of pixels from the beam, (CROP, 1) along ss and (1, CROP) along fs."""
    along = np.arange(CROP) - CROP / 2
    return along[:, None], along[None, :]


def detector_pixels() -> np.ndarray:
    """Return bool (CROP, CROP), False in the beam stop and in the slit between the detector's halves."""
    y, x = _plane()
    return (np.hypot(y, x) > STOP_RADIUS) & (abs(y + 0.5) > 2)


def simulate_shot(rng: np.random.Generator, parameters: ParticleSet, kind: Kind) -> np.ndarray:
    """Simulate one frame: |Fourier transform of the projection|^2, gas scatter, photon and read noise.

    Args:
        rng: of the frame.
        parameters: of the set.
        kind: what the shot hit.

    Returns:
        (CROP, CROP) int16, detector units.
    """
    valid = detector_pixels()
    y, x = _plane()
    radius = np.hypot(y, x)
    level = np.exp(rng.uniform(*np.log(parameters.background)))
    mean = level * np.exp(-radius / rng.uniform(120, 240))
    if kind != Kind.NONE:
        wave = scipy.fft.fft2(thickness(rng, parameters, kind).astype(np.float32))
        intensity = np.fft.fftshift(abs(wave) ** 2)
        photons = np.exp(rng.uniform(*np.log(parameters.photons)))
        mean = mean + photons * intensity / intensity[valid].sum()
    counted = rng.poisson(np.minimum(mean, 1e6))
    read = OFFSET + GAIN * counted + rng.normal(0, READ_NOISE, mean.shape)
    return np.where(valid, np.clip(read, 0, 32767), 0).round().astype(np.int16)


def kinds_of(parameters: ParticleSet, frames: int, seed: int) -> np.ndarray:
    """Draw what each shot hits, int8 (frames,)."""
    rng = np.random.default_rng([seed, frames, PARTICLES_VERSION])
    return rng.choice(len(Kind), frames, p=parameters.fractions).astype(np.int8)


def particle_set(name: str, frames: int = 2000, seed: int = 0, *, quiet: bool = False) -> SetDescription:
    """Describe a simulated set in the user's cache, simulating it first where it is missing.

    Args:
        name: a key of `PARTICLE_SETS`, in either case.
        frames: how many, at least 10.
        seed: of the set.
        quiet: show no progress.

    Raises:
        UserError: there is no such set, or too few frames are asked for.
        OSError: the files cannot be written.
    """
    if name.upper() not in PARTICLE_SETS:
        raise UserError(f"no set named {name!r} with --task spi; choose one of {', '.join(PARTICLE_SETS)}")
    if frames < FEWEST_SIMULATED:
        raise UserError(f"--frames must be at least {FEWEST_SIMULATED}, not {frames}")
    parameters = PARTICLE_SETS[name.upper()]
    root = user_cache_folder() / f"simulated_particles-v{PARTICLES_VERSION}-{frames}-seed{seed}"
    make_folder(root)
    used(root)
    folder = root / parameters.name
    if not folder.is_dir():
        with only_writer(folder, quiet):
            if not folder.is_dir():
                with progress(f"simulated set {parameters.name}", frames, quiet=quiet) as advance:
                    _write(parameters, folder, frames, seed, advance)
    return SetDescription(
        parameters.name,
        (str(folder / FRAMES_FILE),),
        str(folder / LABEL_FILE),
        ReadOptions(mask=str(folder / MASK_FILE)),
        FRAMES_FILE,
    )


def read_kinds(description: SetDescription) -> np.ndarray:
    """Return what each shot of a simulated set hit, int8 (frames,) of `Kind`."""
    with h5py.File(Path(description.files[0]).parent / TRUTH_FILE) as file:
        return np.asarray(file["kind"])


def _write(
    parameters: ParticleSet, target: Path, frames: int, seed: int, advance: Callable[[int], None]
) -> None:
    kinds = kinds_of(parameters, frames, seed)
    middle = CROP / 2 * PIXEL
    about = SetMetadata(beam_centre=(middle, middle), pixel_size=PIXEL, saturated_value=32767)
    with atomic_folder(target) as folder:
        with SetWriter(folder / FRAMES_FILE, frames, (CROP, CROP), np.int16, 200, about) as writer:
            for number, kind in enumerate(kinds):
                rng = np.random.default_rng([seed, number, *parameters.name.encode()])
                frame = simulate_shot(rng, parameters, Kind(kind))
                writer.append(frame[None], [WAVELENGTH], [DISTANCE])
                advance(1)
        labels = np.where(kinds == Kind.SINGLE, HIT, MISS).astype(np.int8)
        write_annotations(folder / LABEL_FILE, FRAMES_FILE, labels)
        np.savez_compressed(folder / MASK_FILE, good=detector_pixels())
        with NewHDF5(folder / TRUTH_FILE) as file:
            file["kind"] = kinds
