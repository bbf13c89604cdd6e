"""How far the detector is, and which wavelength the beam has, as NXmx files and DECTRIS masters state it.

A number is taken where it is one for all frames, above 0, and of a unit that is known. A detector that is turned about the sample
(`two_theta`) is not described by these numbers, so that nothing is taken of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from sfxjax.data.formats.file_masks import numbers_at, one_number
from sfxjax.data.frames import Setup
from sfxjax.data.hdf5 import Files

_LENGTHS = {"m": 1.0, "metre": 1.0, "meter": 1.0, "mm": 1e-3, "um": 1e-6, "µm": 1e-6}
_WAVELENGTHS = {"angstrom": 1.0, "angstroms": 1.0, "a": 1.0, "å": 1.0, "nm": 10.0, "m": 1e10}
_ENERGIES = {"ev": 1.0, "kev": 1e3}
# Of a photon, electronvolt times Angstrom (CODATA 2018).
_PLANCK = 12398.41984


def find_setup(files: Files, path: Path, groups: Iterable[str]) -> Setup | None:
    """Find what a file says of its set-up; None where it does not say all of it.

    Args:
        files: opens it.
        path: of the file.
        groups: that may describe the detector, the nearest first.
    """
    places = list(dict.fromkeys(groups))

    def first(names: Iterable[str], units: dict[str, float], unit: str) -> float | None:
        found = (_in_unit(files, path, name, units, unit) for name in names)
        return next((value for value in found if value is not None), None)

    def beside(*names: str) -> list[str]:
        return [f"{group}/{name}" for group in places for name in names]

    if any(
        (one_number(files, path, name) or 0.0) != 0 for name in beside("goniometer/two_theta", "two_theta")
    ):
        return None
    distance = first(beside("detector_distance", "distance"), _LENGTHS, "m")
    width, height = (first(beside(f"{axis}_pixel_size"), _LENGTHS, "m") for axis in "xy")
    entries = dict.fromkeys(
        (group.partition(":")[0] + ":" if ":" in group else "")
        + "/"
        + PurePosixPath(group.rpartition(":")[2]).parts[1]
        for group in places
        if len(PurePosixPath(group.rpartition(":")[2]).parts) > 1
    )
    beams = [f"{entry}/{beam}" for entry in entries for beam in ("instrument/beam", "sample/beam")]
    waves = [f"{beam}/{name}" for beam in beams for name in ("incident_wavelength", "wavelength")]
    wavelength = first(waves, _WAVELENGTHS, "angstrom")
    if wavelength is None:
        energies = [f"{beam}/incident_energy" for beam in beams] + beside("photon_energy")
        energy = first(energies, _ENERGIES, "ev")
        wavelength = None if energy is None else _PLANCK / energy
    if distance is None or wavelength is None or width is None or height is None:
        return None
    return Setup(distance, wavelength, width, height)


def _in_unit(files: Files, path: Path, name: str, units: dict[str, float], unit: str) -> float | None:
    """Return a number above 0 in a unit; the one that is given holds where the file names none."""
    data, _ = numbers_at(files, path, name)
    value = one_number(files, path, name)
    if data is None or value is None or not 0 < value < math.inf:
        return None
    said = data.attrs.get("units", unit)
    said = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    factor = units.get(said.strip().lower())
    return None if factor is None else value * factor
