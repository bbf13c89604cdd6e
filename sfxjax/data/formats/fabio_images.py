"""Rayonix `.mccd` files and TIFF files of one image or of many, BigTIFF too, read by fabio."""

from __future__ import annotations

import contextlib
import logging
import warnings
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from sfxjax.data.formats.compressed import open_plain
from sfxjax.data.frames import FrameStack, single_image
from sfxjax.data.geometry import Geometry
from sfxjax.data.hdf5 import first_line
from sfxjax.errors import UserError

_BIG_TIFF = (b"II+\x00", b"MM\x00+")
_TIFF = (b"II*\x00", b"MM\x00*", *_BIG_TIFF)


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
        """Describe the image, or the stack of them."""
        pixels, count = self._pixels(path, 0)
        layout = "Rayonix mccd" if {".mccd", ".marccd", ".sfrm"} & set(path.suffixes) else "TIFF"
        stack = single_image(path, layout, pixels.shape, pixels.dtype)
        return [replace(stack, frames=count, stacked=True) if count > 1 else stack], None

    def read(self, stack: FrameStack, frame: int) -> np.ndarray:
        """Return (ss, fs)."""
        return self._pixels(Path(stack.file), frame)[0]

    def _pixels(self, path: Path, frame: int) -> tuple[np.ndarray, int]:
        """Return an image of a file, and how many it holds."""
        try:
            import fabio
        except ImportError as error:
            raise UserError(f"{path}: install fabio to read it (pip install 'sfxjax[formats]')") from error
        # It tells the terminal of every reader it tries in vain.
        logging.getLogger("fabio").setLevel(logging.CRITICAL)
        try:
            with path.open("rb") as stream:
                big = stream.read(4) in _BIG_TIFF
            # So does Pillow, which it uses, of each tag that is damaged.
            with warnings.catch_warnings(action="ignore"):
                if big:  # fabio sees the first of its images alone.
                    pixels, count = _big_tiff(path, frame)
                else:
                    with fabio.open(str(path)) as image:
                        count = int(image.nframes)
                        pixels = np.array(image.get_frame(frame).data if frame else image.data)
        except Exception as error:  # fabio raises plain exceptions of many kinds.
            raise UserError(f"{path}: cannot be read by fabio ({first_line(error)})") from error
        if pixels.ndim != 2:
            raise UserError(f"{path}: an image of shape {pixels.shape} is no frame")
        return pixels, max(count, 1)


def _big_tiff(path: Path, frame: int) -> tuple[np.ndarray, int]:
    from PIL import Image  # fabio needs it, too.

    with Image.open(path) as image:
        image.seek(frame)
        return np.array(image), int(getattr(image, "n_frames", 1))
