"""Rayonix `.mccd` files and TIFF files of one image or of many, BigTIFF too, read by fabio and Pillow."""

from __future__ import annotations

import contextlib
import logging
import warnings
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from sfxjax.data.formats.compressed import open_plain
from sfxjax.data.formats.tiff_pages import BIG_TIFF, TIFF, open_page, tiff_pages
from sfxjax.data.frames import FrameStack, single_image
from sfxjax.data.geometry import Geometry
from sfxjax.data.opening import first_line
from sfxjax.errors import UserError


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
        return start[:4] in TIFF

    def stacks(self, path: Path) -> tuple[list[FrameStack], Geometry | None]:
        """Describe the image, or the stack of them."""
        found = tiff_pages(path)
        shown = next((number for number, page in enumerate(found.pages) if not page.cut), 0)
        pixels = _image_pixels(path, shown)
        layout = "Rayonix mccd" if {".mccd", ".marccd", ".sfrm"} & set(path.suffixes) else "TIFF"
        stack = single_image(path, layout, pixels.shape, pixels.dtype)
        listed = len(found.pages)
        missing = ((listed, listed + found.lost - 1, found.why),) if found.lost else ()
        frames = listed + found.lost
        return [replace(stack, frames=frames, stacked=frames > 1, missing=missing, notes=found.notes)], None

    def read(self, stack: FrameStack, frame: int) -> np.ndarray:
        """Return (ss, fs)."""
        pixels = _image_pixels(Path(stack.file), frame)
        if pixels.shape != stack.raw_shape:
            here, there = ("x".join(map(str, shape)) for shape in (pixels.shape, stack.raw_shape))
            raise UserError(f"an image of {here} pixels, where the file's first has {there}")
        return pixels


def _image_pixels(path: Path, number: int) -> np.ndarray:
    """Return an image of a file."""
    try:
        from fabio.TiffIO import TiffIO
        from PIL import Image  # fabio needs it, too.
    except ImportError as error:
        raise UserError(f"{path}: install fabio to read it (pip install 'sfxjax[formats]')") from error
    # It tells the terminal of every reader it tries in vain.
    logging.getLogger("fabio").setLevel(logging.CRITICAL)
    try:
        # So does Pillow of each tag that is damaged.
        with warnings.catch_warnings(action="ignore"), open_page(path, number) as stream:
            try:
                pixels = np.array(TiffIO(stream).getData(0))
            except Exception:  # It knows neither BigTIFF nor all ways to compress.
                stream.seek(0)
                with Image.open(stream) as image:
                    pixels = np.array(image)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # fabio and Pillow raise plain exceptions of many kinds.
        with open_plain(path) as stream:
            if stream.read(4) == BIG_TIFF[1]:
                raise UserError(
                    f"{path}: BigTIFF with the highest byte first is not read; write it with the lowest first, as "
                    f"tiffcp -8 -L does"
                ) from error
        raise UserError(f"{path}: cannot be read by fabio ({first_line(error)})") from error
    if pixels.ndim != 2:
        raise UserError(f"{path}: an image of shape {pixels.shape} is no frame")
    return pixels
