"""The resolution at which spots lie, from a geometry, or a file, that says how far the detector is and which wavelength it sees.

A spot at distance r from the beam on a detector at distance D is scattered by 2 theta = atan(r / D), and stands for lattice
planes of d = wavelength / (2 sin theta) (Bragg). The detector is taken to stand upright on the beam: its panels' z is not read.
"""

from __future__ import annotations

import numpy as np

from sfxjax.data.frames import FrameStack
from sfxjax.data.geometry import Geometry, Panel


def stated_geometry(stack: FrameStack) -> Geometry | None:
    """Return the geometry of a flat detector of one panel that the frames' file states; None where it does not say all of it."""
    if stack.setup is None or stack.centre is None or len(stack.raw_shape) != 2 or stack.assembled:
        return None
    setup, (x, y) = stack.setup, stack.centre
    higher = setup.pixel_height / setup.pixel_width
    panel = Panel(
        name="",
        first=(0, 0),
        ss_axis=0,
        fs_axis=1,
        size=(stack.raw_shape[0], stack.raw_shape[1]),
        corner=(-x, -y * higher),
        fs_vector=(1.0, 0.0),
        ss_vector=(0.0, higher),
        distance=setup.distance,
        pixels_per_metre=1 / setup.pixel_width,
    )
    return Geometry(panels=(panel,), wavelength=setup.wavelength)


def line_of_stated_geometry(stack: FrameStack) -> str:
    """Say what the resolution of spots is taken from, where a file states its geometry; else an empty text."""
    setup, centre = stack.setup, stack.centre
    if setup is None or centre is None or stated_geometry(stack) is None:
        return ""
    sizes = dict.fromkeys(f"{1e6 * size:.4g}" for size in (setup.pixel_width, setup.pixel_height))
    return (
        f"{stack.file}: the resolution of spots is by the file's own word: detector at {1e3 * setup.distance:.5g} mm, wavelength "
        f"{setup.wavelength:.5g} Å, pixels of {' x '.join(sizes)} µm, beam at ({centre[0]:.1f}, {centre[1]:.1f})"
    )


def resolution(geometry: Geometry, ss: np.ndarray, fs: np.ndarray, raw_shape: tuple[int, ...]) -> np.ndarray:
    """Return the resolution of places, Angstrom.

    Args:
        geometry: of the detector.
        ss: (n,) rows, pixels from the middle of the first, of (panel, ss, fs) stacks with panel * height added.
        fs: (n,) columns.
        raw_shape: of a stored frame, (ss, fs) or (panel, ss, fs).

    Returns:
        (n,) float64; NaN outside all panels, and where the geometry gives no distance, wavelength or size of a pixel.
    """
    ss, fs = np.asarray(ss, np.float64), np.asarray(fs, np.float64)
    height = raw_shape[-2]
    number = np.clip(np.floor((ss + 0.5) / height), 0, None) if len(raw_shape) > 2 else np.zeros(len(ss))
    stored = [number, ss - number * height, fs] if len(raw_shape) > 2 else [ss, fs]
    found = np.full(len(ss), np.nan)
    if geometry.wavelength is None:
        return found
    for panel in geometry.panels:
        if panel.distance is None or panel.pixels_per_metre is None or len(panel.first) != len(stored):
            continue
        inside, own_ss, own_fs = _pixels_of_panel(panel, stored)
        x, y = (
            panel.corner[k] + (own_fs + 0.5) * panel.fs_vector[k] + (own_ss + 0.5) * panel.ss_vector[k]
            for k in (0, 1)
        )
        two_theta = np.arctan2(np.hypot(x, y) / panel.pixels_per_metre, panel.distance)
        sine = np.maximum(np.sin(two_theta / 2), 1e-9)
        found = np.where(inside, geometry.wavelength / (2 * sine), found)
    return found


def _pixels_of_panel(panel: Panel, stored: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tell which places of the stored array lie in a panel; and their ss and fs in it."""
    inside = np.ones(len(stored[0]), bool)
    for axis, place in enumerate(stored):
        length = {panel.ss_axis: panel.size[0], panel.fs_axis: panel.size[1]}.get(axis, 1)
        inside &= (place >= panel.first[axis] - 0.5) & (place < panel.first[axis] + length - 0.5)
    ss, fs = (stored[axis] - panel.first[axis] for axis in (panel.ss_axis, panel.fs_axis))
    return inside, ss, fs
