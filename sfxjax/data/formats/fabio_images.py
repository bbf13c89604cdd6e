"""Rayonix `.mccd` and TIFF files of one image, read by fabio."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np

from sfxjax.data.frames import FrameStack, single_image
from sfxjax.data.geometry import Geometry
from sfxjax.data.hdf5 import first_line
from sfxjax.errors import UserError

_TIFF = (b"II*\x00", b"MM\x00*")


class FabioImages:
    """The format, see `sfxjax.data.formats.Format`."""

    suffixes: tuple[str, ...] = (".mccd", ".marccd", ".tif", ".tiff")

    def is_own(self, path: Path, start: bytes) -> bool:
        """Tell it by its first bytes."""
        return start[:4] in _TIFF

    def stacks(self, path: Path) -> tuple[list[FrameStack], Geometry | None]:
        """Describe the image."""
        pixels = self._pixels(path)
        layout = "Rayonix mccd" if path.suffix.lower() in (".mccd", ".marccd", ".sfrm") else "TIFF"
        return [single_image(path, layout, pixels.shape, pixels.dtype)], None

    def read(self, stack: FrameStack, frame: int) -> np.ndarray:
        """Return (ss, fs)."""
        return self._pixels(Path(stack.file))

    def _pixels(self, path: Path) -> np.ndarray:
        try:
            import fabio
        except ImportError as error:
            raise UserError(f"{path}: install fabio to read it (pip install 'sfxjax[formats]')") from error
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
