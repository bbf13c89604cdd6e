"""One module a file format: it tells its own files, describes their frames and reads them.

HDF5 files are told by their layouts (`sfxjax.data.formats.hdf5`). Of every other format there is an object as `Format` says.
Those of this library are listed here; a package of your own adds one by an entry point of the group `sfxjax.formats`:

    [project.entry-points."sfxjax.formats"]
    raw_stack = "my_package:RawStack"
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np

from sfxjax.data.frames import FrameStack
from sfxjax.data.geometry import Geometry
from sfxjax.errors import UserError
from sfxjax.extensions import offered


class Format(Protocol):
    """A file format.

    Attributes:
        suffixes: of files in a folder that may be of this format, such as `(".cbf",)`.
    """

    suffixes: tuple[str, ...]

    def is_own(self, path: Path, start: bytes) -> bool:
        """Tell whether a file, which begins with these 16 bytes, is of this format."""

    def stacks(self, path: Path) -> tuple[list[FrameStack], Geometry | None]:
        """Describe the frames of a file, and the places of its panels if the file says them.

        The reader fills in each stack's `format`.

        Raises:
            UserError: the file cannot be read.
        """

    def read(self, stack: FrameStack, frame: int) -> np.ndarray:
        """Return a frame as stored, of the stack's `raw_shape`.

        Raises:
            UserError: it cannot be read.
        """


@cache
def known_formats() -> dict[str, Format]:
    """Return the formats by name: installed packages' first, so that they can read better what this library reads too.

    Raises:
        UserError: a package's format cannot be imported.
    """
    from sfxjax.data.formats.cbf_images import CbfImages
    from sfxjax.data.formats.fabio_images import FabioImages

    return offered("sfxjax.formats", "file format") | {"cbf": CbfImages(), "fabio": FabioImages()}


def format_name(path: Path) -> str:
    """Return the name of a file's format; empty for HDF5 files and for those that no format knows.

    Raises:
        OSError: the file cannot be opened.
        UserError: it is a folder, a pipe or a device.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: a folder, pipe or device where a file of frames was expected")
    with path.open("rb") as stream:
        start = stream.read(16)
    own = (name for name, each in known_formats().items() if each.is_own(path, start))
    return next(own, "")


def read_image(path: Path) -> np.ndarray:
    """Read the one frame of a file that is no HDF5 file, as stored: (ss, fs), or (panel, ss, fs).

    Raises:
        UserError: it is missing, damaged, of no known format, or holds more than one frame.
    """
    name = format_name(path)
    if not name:
        raise UserError(f"{path}: not an HDF5 file, nor of the formats {', '.join(known_formats())}")
    stacks, _ = known_formats()[name].stacks(path)
    if len(stacks) != 1 or stacks[0].frames != 1:
        raise UserError(f"{path}: it holds more than one image")
    return known_formats()[name].read(stacks[0], 0)
