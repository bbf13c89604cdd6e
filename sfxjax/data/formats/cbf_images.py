"""CBF files of one image, also of many panels."""

from __future__ import annotations

import contextlib
import re
import zlib
from pathlib import Path

import numpy as np

from sfxjax.data.formats.cbf import MAGIC, open_cbf
from sfxjax.data.formats.compressed import open_plain
from sfxjax.data.formats.imgcif import cbf_geometry
from sfxjax.data.frames import FrameStack, single_image
from sfxjax.data.geometry import Geometry
from sfxjax.errors import UserError

_BEAM_XY = re.compile(r"#\s*Beam_xy\s*\(\s*([-+.\deE]+)\s*,\s*([-+.\deE]+)\s*\)\s*pixels")


class CbfImages:
    """The format, see `sfxjax.data.formats.Format`."""

    suffixes: tuple[str, ...] = (".cbf", ".cbf.gz", ".cbf.bz2")

    def is_own(self, path: Path, start: bytes) -> bool:
        """Tell it by its first bytes, decompressed where need be."""
        if start.startswith((b"\x1f\x8b", b"BZh")):
            with contextlib.suppress(OSError, EOFError, zlib.error), open_plain(path) as stream:
                start = stream.read(len(MAGIC))
        return start.startswith(MAGIC)

    def stacks(self, path: Path) -> tuple[list[FrameStack], Geometry | None]:
        """Describe the image, and its panels' places if it has several and says where they are."""
        file = open_cbf(path)
        first = file.sections[0]
        if any((part.shape, part.dtype) != (first.shape, first.dtype) for part in file.sections):
            raise UserError(f"{path}: its panels differ in size or type")
        geometry = cbf_geometry(file.text, [(part.planes, *part.shape) for part in file.sections])
        planes = sum(part.planes for part in file.sections)
        if planes > 1:
            return [single_image(path, "CBF", (planes, *first.shape), first.dtype)], geometry
        centre = _centre(file.text, geometry)
        # Sections of one plane are panels with gaps of their own.
        geometry = geometry if geometry is not None and len(geometry.panels) > 1 else None
        return [single_image(path, "CBF", first.shape, first.dtype, centre)], geometry

    def read(self, stack: FrameStack, frame: int) -> np.ndarray:
        """Return (ss, fs), or (plane, ss, fs) of a file with several."""
        file = open_cbf(Path(stack.file))
        planes = np.concatenate([file.read(number) for number in range(len(file.sections))])
        return planes[0] if len(planes) == 1 else planes


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
