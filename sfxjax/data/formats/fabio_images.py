"""Rayonix `.mccd` and TIFF files of one image, read by fabio."""

from __future__ import annotations

import contextlib
import logging
import warnings
import zlib
from pathlib import Path

import numpy as np

from sfxjax.data.formats.compressed import open_plain
from sfxjax.data.frames import FrameStack, single_image
from sfxjax.data.geometry import Geometry
from sfxjax.data.hdf5 import first_line
from sfxjax.errors import UserError

_TIFF = (b"II*\x00", b"MM\x00*")


class FabioImages:
    """The format, see `sfxjax.data.formats.Format`."""

    suffixes: tuple[str, ...] = tuple(
        f".{name}{packed}" for name in ("mccd", "marccd", "tif", "tiff") for packed in ("", ".gz", ".bz2")
    )

    def is_own(self, path: Path, start: bytes) -> bool:
        """Tell it by its first bytes, decompressed where need be."""
        if start.startswith((b"\x1f\x8b", b"BZh")):
            with contextlib.suppress(OSError, EOFError, zlib.error), open_plain(path) as stream:
                start = stream.read(4)
        return start[:4] in _TIFF

    def stacks(self, path: Path) -> tuple[list[FrameStack], Geometry | None]:
        """Describe the image."""
        pixels = self._pixels(path)
        layout = "Rayonix mccd" if {".mccd", ".marccd", ".sfrm"} & set(path.suffixes) else "TIFF"
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
