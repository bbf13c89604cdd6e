"""Writes simulated frames in CXIDB 76's layout, so that one reader serves both (see `sfxjax.data.sets`)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from sfxjax.data.new_hdf5 import NewHDF5
from sfxjax.errors import UserError
from sfxjax.files import atomic_write

LAYOUT_VERSION = "idh5_v1.0"


@dataclass(frozen=True)
class SetMetadata:
    """The detector as `/metadata` describes it.

    Attributes:
        beam_centre: (x, y), mm from the first pixel.
        pixel_size: mm.
        min_trusted_value: pixels below it mean nothing.
        saturated_value: pixels at or above it mean nothing.
    """

    beam_centre: tuple[float, float]
    pixel_size: float
    min_trusted_value: float = 0.0
    saturated_value: float = 65535.0


class SetWriter:
    """Writes a set in the layout `open_set` reads, as a context manager; the file is named once it is whole.

    Use as `with SetWriter(...) as writer: writer.append(...)`.

    Args:
        path: of the HDF5 file.
        frames: how many frames will be appended.
        shape: (slow, fast), pixels.
        dtype: an integer type.
        chunk_group_size: frames in a group under `/data`; the last may hold fewer.
        metadata: the detector.
        compression: None, `gzip`, or `bitshuffle` (with hdf5plugin).
        simulated: marks the frames as not measured.

    Raises:
        UserError: `bitshuffle` is asked for and hdf5plugin is not installed.
        ValueError: fewer or more frames were appended than announced, or of another shape.
        OSError: the file cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        frames: int,
        shape: tuple[int, int],
        dtype: Any,
        chunk_group_size: int,
        metadata: SetMetadata,
        *,
        compression: str | None = None,
        simulated: bool = True,
    ) -> None:
        if not np.issubdtype(dtype, np.integer):
            raise ValueError(f"frames are of an integer type, not {np.dtype(dtype)}")
        if frames < 1 or chunk_group_size < 1:
            raise ValueError("a set and its groups hold at least one frame")
        self._path = Path(path)
        self._frames = frames
        self._shape = shape
        self._dtype = np.dtype(dtype)
        self._group_size = chunk_group_size
        self._metadata = metadata
        self._storage = _storage_options(compression, shape)
        self._simulated = simulated
        self._written = 0
        self._stack = ExitStack()

    def __enter__(self) -> SetWriter:
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_write(self._path))
            self._file = stack.enter_context(NewHDF5(temporary, self._path))
            self._write_layout()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        # The file is closed first, then renamed or, after an error, removed.
        with self._stack:
            if error is not None:
                raise error
            if self._written != self._frames:
                raise ValueError(f"{self._written} of {self._frames} frames were written")
        return None

    def append(
        self,
        images: np.ndarray,
        wavelength: Sequence[float] | np.ndarray,
        distance: Sequence[float] | np.ndarray,
        timestamp: Sequence[str] | None = None,
    ) -> None:
        """Write the next frames.

        Args:
            images: [n, slow, fast], of the type announced.
            wavelength: [n], Angstrom.
            distance: [n], from the crystal to the detector, mm.
            timestamp: [n], ISO 8601; empty by default.

        Raises:
            ValueError: more frames than announced, or of another shape or type.
            OSError: the file cannot be written, as on a full disk.
        """
        count = len(images)
        if images.shape[1:] != self._shape or images.dtype != self._dtype:
            expected = f"{self._dtype} [n, {self._shape[0]}, {self._shape[1]}]"
            raise ValueError(f"expected images of {expected}, not {images.dtype} {list(images.shape)}")
        if self._written + count > self._frames:
            raise ValueError(f"{self._written + count} frames for a set of {self._frames}")
        columns = {
            "images": images,
            "wavelength": np.asarray(wavelength, np.float64),
            "distance": np.asarray(distance, np.float64),
            "timestamp": np.asarray([""] * count if timestamp is None else timestamp, object),
        }
        for key, column in columns.items():
            if len(column) != count:
                raise ValueError(f"{len(column)} values of {key} for {count} frames")
        done = 0
        while done < count:
            index, start = divmod(self._written, self._group_size)
            step = min(count - done, self._group_size - start)
            for key, column in columns.items():
                self._groups[index][key][start : start + step] = column[done : done + step]
            self._file.check()
            self._written += step
            done += step

    def _write_layout(self) -> None:
        about = self._metadata
        self._file["metadata/idh5_version"] = LAYOUT_VERSION
        self._file["metadata/BEAM_CENTER_X"], self._file["metadata/BEAM_CENTER_Y"] = about.beam_centre
        self._file["metadata/PIXEL_SIZE"] = about.pixel_size
        self._file["metadata/SIZE1"], self._file["metadata/SIZE2"] = self._shape
        self._file["metadata/MIN_TRUSTED_VALUE"] = about.min_trusted_value
        self._file["metadata/SATURATED_VALUE"] = about.saturated_value
        self._file["metadata/ACTIVE_AREAS"] = np.array([0, 0, *self._shape], np.int32)
        self._file["metadata/simulated"] = self._simulated
        self._groups = []
        # All numbers have the same width, so that the order of the names is the order of the frames.
        starts = range(0, self._frames, self._group_size)
        width = len(str(len(starts) - 1))
        for number, start in enumerate(starts):
            count = min(self._group_size, self._frames - start)
            group = self._file.create_group(f"data/chunk_{number:0{width}d}")
            group.create_dataset("images", (count, *self._shape), self._dtype, **self._storage)
            group.create_dataset("wavelength", (count,), np.float64)
            group.create_dataset("distance", (count,), np.float64)
            group.create_dataset("timestamp", (count,), h5py.string_dtype())
            self._groups.append(group)


def _storage_options(compression: str | None, shape: tuple[int, int]) -> dict[str, Any]:
    if compression is None:
        return {}
    # A frame a chunk: frames are read one by one in any order.
    if compression == "gzip":
        return {"chunks": (1, *shape), "compression": "gzip", "compression_opts": 4, "shuffle": True}
    if compression == "bitshuffle":
        try:
            import hdf5plugin
        except ImportError as error:
            raise UserError("bitshuffle needs hdf5plugin; install it, or choose gzip") from error
        return {"chunks": (1, *shape), **hdf5plugin.Bitshuffle()}
    raise ValueError(f"no compression named {compression!r}; there are gzip and bitshuffle")
