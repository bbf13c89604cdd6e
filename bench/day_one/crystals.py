"""Simulated hits of a known cell in a file that DIALS reads, to see what it indexes."""

from __future__ import annotations

from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.data.new_hdf5 import NewHDF5
from sfxjax.files import atomic_write
from sfxjax.simulate.crystal import BeamGeometry
from sfxjax.simulate.parameters import SimulatedSet, simulated_set
from sfxjax.simulate.sets import VISIBLE_SIGNAL_TO_NOISE, frame_centre, simulate_frame

# Visible spots in the central crop of the weakest and the strongest frame.
FEWEST_SPOTS, MOST_SPOTS = 8, 80


def simulate_crystals(
    path: Path, frames: int, seed: int = 0, name: str = "LO19"
) -> tuple[SimulatedSet, list[np.ndarray]]:
    """Write whole frames of one crystal each to a NeXus file (NXmx), with beam and detector.

    Args:
        path: of the file.
        frames: how many, from `FEWEST_SPOTS` to `MOST_SPOTS` visible spots in the middle.
        seed: of the frames.
        name: of the simulated set that gives crystal and detector.

    Returns:
        The set's parameters, and of each frame the (n, 2) places (ss, fs) of its visible spots, pixels from the middle of the
        first.
    """
    parameters = simulated_set(name)
    shape = parameters.geometry.shape
    spots = np.geomspace(FEWEST_SPOTS, MOST_SPOTS, frames).round().astype(np.int32)
    visible = []
    with atomic_write(path) as temporary, NewHDF5(temporary) as file:
        data = file.create_dataset("entry/data/data", (frames, *shape), np.int16, chunks=(1, *shape))
        for number, key in enumerate(jax.random.split(jax.random.key(seed), frames)):
            frame, truth = simulate_frame(
                key,
                jnp.int32(spots[number]),
                jnp.bool_(True),
                jnp.bool_(False),
                parameters=parameters,
                shape=shape,
            )
            data[number] = np.asarray(frame)
            seen = np.asarray(truth.signal_to_noise) >= VISIBLE_SIGNAL_TO_NOISE
            visible.append(np.asarray(truth.position)[seen])
        describe_detector(file, parameters.geometry, frame_centre(parameters, shape))
    return parameters, visible


def describe_detector(file: h5py.File, geometry: BeamGeometry, centre: tuple[float, float]) -> None:
    """Add beam and detector to an open file with `entry/data/data`, by NeXus' definition NXmx.

    Args:
        file: that holds the frames.
        geometry: of beam and detector.
        centre: (ss, fs) of the beam, pixels from the middle of the first pixel.
    """
    entry = _nexus_group(file, "entry", "NXentry")
    entry["definition"] = "NXmx"
    entry["start_time"] = "2000-01-01T00:00:00Z"
    _nexus_group(entry, "data", "NXdata").attrs["signal"] = "data"
    instrument = _nexus_group(entry, "instrument", "NXinstrument")
    instrument["name"] = "simulated"
    _nexus_group(instrument, "beam", "NXbeam")["incident_wavelength"] = geometry.wavelength
    instrument["beam/incident_wavelength"].attrs["units"] = "angstrom"
    sample = _nexus_group(entry, "sample", "NXsample")
    sample["depends_on"] = "."
    detector = _nexus_group(instrument, "detector", "NXdetector")
    detector["description"] = detector["type"] = "simulated"
    # Thin: the simulation has no parallax.
    detector["sensor_material"], detector["sensor_thickness"] = "Si", 1e-6
    detector["sensor_thickness"].attrs["units"] = "m"
    detector["depends_on"] = "/entry/instrument/detector/transformations/distance"
    moves = _nexus_group(detector, "transformations", "NXtransformations")
    _axis(moves, "distance", geometry.distance, (0, 0, 1), ".")
    module = _nexus_group(detector, "module", "NXdetector_module")
    module["data_origin"], module["data_size"] = np.zeros(2, int), np.array(geometry.shape)
    # NeXus looks along the beam with x to the left; the corner is half a pixel before the first pixel's middle.
    corner = [(place + 0.5) * geometry.pixel_size for place in centre]
    _axis(module, "module_offset", 1.0, (corner[1], corner[0], 0), moves["distance"].name)
    _axis(module, "fast_pixel_direction", geometry.pixel_size, (-1, 0, 0), module["module_offset"].name)
    _axis(module, "slow_pixel_direction", geometry.pixel_size, (0, -1, 0), module["module_offset"].name)


def _nexus_group(parent: h5py.Group, name: str, kind: str) -> h5py.Group:
    group = parent.require_group(name)
    group.attrs["NX_class"] = kind
    return group


def _axis(
    group: h5py.Group, name: str, length: float, direction: tuple[float, float, float], on: str
) -> None:
    size = float(np.linalg.norm(direction))
    group[name] = length * size
    attributes = {
        "transformation_type": "translation",
        "vector": np.asarray(direction, float) / size,
        "units": "mm",
        "depends_on": on,
    }
    group[name].attrs.update(attributes)
