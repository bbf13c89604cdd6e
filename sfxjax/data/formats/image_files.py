"""Single images: CBF, also with many panels, and Rayonix `.mccd` and TIFF through fabio."""

from __future__ import annotations

import logging
import re
import warnings
from pathlib import Path

import numpy as np

from sfxjax.data.formats.cbf import MAGIC, open_cbf
from sfxjax.data.formats.imgcif import cbf_geometry
from sfxjax.data.frames import FrameStack, check_size
from sfxjax.data.geometry import Geometry
from sfxjax.data.hdf5 import first_line
from sfxjax.errors import UserError

_TIFF = (b"II*\x00", b"MM\x00*")
_BEAM_XY = re.compile(r"#\s*Beam_xy\s*\(\s*([-+.\deE]+)\s*,\s*([-+.\deE]+)\s*\)\s*pixels")


def image_layout(path: Path) -> str:
    """Name the format of a file of one image, empty if it is none that is known."""
    with path.open("rb") as stream:
        start = stream.read(8)
    if start.startswith(MAGIC):
        return "CBF"
    if start[:4] in _TIFF:
        return "Rayonix mccd" if path.suffix.lower() in (".mccd", ".marccd", ".sfrm") else "TIFF"
    return ""


def image_stack(name: str) -> tuple[FrameStack, Geometry | None]:
    """Describe a file of one image, and its panels' places if it has several and says where they are.

    Raises:
        UserError: it cannot be read.
    """
    path = Path(name)
    layout = image_layout(path)
    geometry: Geometry | None = None
    centre: tuple[float, float] | None = None
    if layout == "CBF":
        file = open_cbf(path)
        first = file.sections[0]
        if any((part.shape, part.dtype) != (first.shape, first.dtype) for part in file.sections):
            raise UserError(f"{path}: its panels differ in size or type")
        dtype = first.dtype
        raw_shape: tuple[int, ...] = first.shape
        geometry = cbf_geometry(file.text, [(part.planes, *part.shape) for part in file.sections])
        planes = sum(part.planes for part in file.sections)
        if planes > 1:
            raw_shape = (planes, *first.shape)
        else:
            centre = _centre(file.text, geometry)
            # Sections of one plane are panels with gaps of their own.
            geometry = geometry if geometry is not None and len(geometry.panels) > 1 else None
    else:
        pixels = _with_fabio(path)
        raw_shape, dtype = pixels.shape, pixels.dtype
    check_size(raw_shape, dtype, str(path))
    return (
        FrameStack(
            file=name,
            layout=layout,
            dataset="",
            event_path="",
            frames=1,
            stacked=False,
            raw_shape=raw_shape,
            dtype=dtype.newbyteorder("=").str,
            shape=(raw_shape[-2], raw_shape[-1]),
            centre=centre,
            negatives_bad=True,
        ),
        geometry,
    )


def read_image(path: Path) -> np.ndarray:
    """Read an image: (ss, fs), or (plane, ss, fs) of a CBF file with several.

    Raises:
        UserError: it is missing, damaged, or of no known format.
    """
    if image_layout(path) == "CBF":
        file = open_cbf(path)
        planes = np.concatenate([file.read(number) for number in range(len(file.sections))])
        return planes[0] if len(planes) == 1 else planes
    return _with_fabio(path)


def _with_fabio(path: Path) -> np.ndarray:
    if not image_layout(path):
        raise UserError(f"{path}: not an HDF5, CBF, mccd or TIFF file")
    try:
        import fabio
    except ImportError as error:
        raise UserError(f"{path}: install fabio to read it (pip install fabio)") from error
    # It tells the terminal of every reader it tries in vain.
    logging.getLogger("fabio").setLevel(logging.CRITICAL)
    try:
        # So does Pillow, which it uses, of each tag that is damaged.
        with warnings.catch_warnings(action="ignore"), fabio.open(str(path)) as image:
            pixels = np.array(image.data)
    except Exception as error:  # fabio raises plain exceptions of many kinds.
        raise UserError(f"{path}: cannot be read by fabio ({first_line(error)})") from error
    if pixels.ndim != 2:
        raise UserError(f"{path}: an image of shape {pixels.shape} is no frame")
    return pixels


def _centre(text: str, geometry: Geometry | None) -> tuple[float, float] | None:
    mini = _BEAM_XY.search(text)
    if mini:
        return float(mini[1]), float(mini[2])
    if geometry is None:
        return None
    panel = geometry.panels[0]
    matrix = np.array([panel.fs_vector, panel.ss_vector], float).T
    x, y = np.linalg.solve(matrix, -np.array(panel.corner))
    return float(x), float(y)
