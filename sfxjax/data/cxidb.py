"""Frames and labels of CXIDB 76 (Ke et al. 2018), read in the deposition's own layout.

A set is one HDF5 file: `/metadata`, and `/data/<group>/{images[n, slow, fast], distance[n] (mm),
wavelength[n] (Angstrom), timestamp[n]}` with one or more groups. Frames count from 0 through the groups in
the order of their sorted names. Labels and mask are separate files. Simulated sets have the same layout and
are marked as such.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from sfxjax.crop import CROP
from sfxjax.data.hdf5 import need_filters
from sfxjax.data.labels import HIT, MAYBE, MISS, parse_annotations, read_mask, write_annotations
from sfxjax.data.write import SetMetadata, SetWriter
from sfxjax.errors import UserError, explain_os_error

__all__ = [
    "CROP_SIZE",
    "HIT",
    "MAYBE",
    "MISS",
    "SETS",
    "FrameSet",
    "SetLocation",
    "SetMetadata",
    "SetWriter",
    "central_region",
    "open_set",
    "parse_annotations",
    "read_mask",
    "set_location",
    "write_annotations",
]

# Side of the central region the paper uses, in pixels.
CROP_SIZE = CROP

LABEL_FILE = "expert_annotation.txt"
MASK_FILE = "mask.npz"


@dataclass(frozen=True)
class SetLocation:
    """Where the deposition keeps one set: `folder/file_name`."""

    name: str
    folder: str
    file_name: str


SETS = {
    location.name: location
    for location in (
        SetLocation("LN83", "ln83", "r0018_2000.h5"),
        SetLocation("LN84", "ln84", "r0095_2000.h5"),
        SetLocation("LO19", "lo19", "r0020_2000.h5"),
        SetLocation("LG36", "lg36", "r0087_2000.h5"),
        SetLocation("L498", "l498", "r0027_2000.h5"),
    )
}


def set_location(name: str) -> SetLocation:
    """Return where a set lies, by its name in either case.

    Raises:
        UserError: there is no such set.
    """
    try:
        return SETS[name.upper()]
    except KeyError:
        raise UserError(f"no set named {name!r}; choose one of {', '.join(SETS)}") from None


def central_region(frame_shape: tuple[int, int], size: int) -> tuple[slice, slice]:
    """Return the rows and columns of the central size x size pixels; an odd pixel is left over at the end.

    Raises:
        UserError: the frame is smaller than that.
    """
    if min(frame_shape) < size:
        raise UserError(f"frames of {_by(frame_shape)} pixels are too small for a crop of {size}x{size}")
    slow, fast = ((length - size) // 2 for length in frame_shape)
    return slice(slow, slow + size), slice(fast, fast + size)


class FrameSet:
    """One set of frames, open for reading. A context manager; it holds labels and mask, but no pixels.

    Attributes:
        name: such as `LN83`.
        path: of the HDF5 file.
        frame_shape: (slow, fast), pixels.
        dtype: of the pixels, as in the file but in the machine's byte order.
        labels: int8 [frames]: MISS, MAYBE or HIT.
        mask: bool [slow, fast], True where a pixel is good; None if the set has none.
        wavelength: float64 [frames], Angstrom.
        distance: float64 [frames], mm.
        simulated: whether the file says its frames were not measured.
    """

    def __init__(self, name: str, path: Path, label_path: Path, mask_path: Path | None) -> None:
        """Open the files; `open_set` finds them.

        Raises:
            UserError: one of the files is missing, damaged, or does not fit the others.
        """
        self.name = name
        self.path = path
        self._file = _open_hdf5(path)
        try:
            self._read_layout()
            self.labels = parse_annotations(label_path, len(self), path.name)
            self.mask = None if mask_path is None else read_mask(mask_path)
            if self.mask is not None and self.mask.shape != self.frame_shape:
                shapes = f"{_by(self.mask.shape)} pixels, the frames {_by(self.frame_shape)}"
                raise UserError(f"{mask_path}: the mask has {shapes}; use the mask of this set")
        except BaseException:
            self.close()
            raise

    def _read_layout(self) -> None:
        try:
            groups = _chunk_groups(self._file, self.path)
            self._images = [_images(group, self.path) for group in groups]
            first = self._images[0]
            for images in self._images[1:]:
                if (images.shape[1:], images.dtype) != (first.shape[1:], first.dtype):
                    raise UserError(f"{self.path}: the groups under /data differ in frame size or pixel type")
            counts = [images.shape[0] for images in self._images]
            self.wavelength, self.distance = (
                np.concatenate([_per_frame(group, key, self.path) for group in groups])
                for key in ("wavelength", "distance")
            )
            self.simulated = _is_simulated(self._file)
        except (OSError, KeyError, RuntimeError) as error:
            raise UserError(f"{self.path}: damaged HDF5 file; fetch it again ({error})") from error
        # Frames of group g are starts[g] to starts[g + 1].
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self.frame_shape: tuple[int, int] = tuple(first.shape[1:])
        self.dtype: np.dtype[Any] = first.dtype.newbyteorder("=")

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __enter__(self) -> FrameSet:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the HDF5 file; labels, mask and per-frame values stay usable."""
        self._file.close()

    @property
    def positives(self) -> np.ndarray:
        """Bool [frames]: Hit or Maybe, the paper's positive class."""
        return self.labels != MISS

    def mask_crop(self, size: int = CROP_SIZE) -> np.ndarray | None:
        """Return the central region of the mask, bool [size, size], or None if the set has no mask."""
        return None if self.mask is None else self.mask[central_region(self.frame_shape, size)]

    def crops(self, indices: Sequence[int] | np.ndarray | range, size: int = CROP_SIZE) -> np.ndarray:
        """Read the central region of the given frames.

        Each frame is read once, in the order of the file, and neighbouring frames in one request.

        Args:
            indices: frame numbers from 0, in any order; they may repeat.
            size: side of the region, pixels.

        Returns:
            [len(indices), size, size] in the order of `indices`, in the pixel type of the file.

        Raises:
            IndexError: there is no such frame.
            UserError: the frames are smaller than `size`, or a frame is damaged.
        """
        region = central_region(self.frame_shape, size)
        wanted = np.asarray(indices)
        if wanted.size == 0:
            return np.empty((0, size, size), self.dtype)
        if wanted.ndim != 1 or not np.issubdtype(wanted.dtype, np.integer):
            raise IndexError("frame numbers must be a one-dimensional sequence of integers")
        if not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"frame numbers must be from 0 to {len(self) - 1}")
        frames, places = np.unique(wanted, return_inverse=True)
        pixels = np.empty((frames.size, size, size), self.dtype)
        group = np.searchsorted(self._starts, frames, side="right") - 1
        begins = np.flatnonzero((np.diff(frames, prepend=-2) != 1) | (np.diff(group, prepend=-1) != 0))
        for begin, end in zip(begins, [*begins[1:], frames.size], strict=True):
            self._read(int(group[begin]), int(frames[begin]), region, pixels[begin:end])
        in_order = frames.size == wanted.size and bool(np.all(frames == wanted))
        return pixels if in_order else pixels[places]

    def batches(
        self, indices: Sequence[int] | np.ndarray | range, batch_size: int, size: int = CROP_SIZE
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (frame numbers, their crops), `batch_size` frames at a time; the last batch may be shorter.

        Raises:
            IndexError, UserError: as `crops`.
        """
        wanted = np.asarray(indices)
        for begin in range(0, len(wanted), batch_size):
            batch = wanted[begin : begin + batch_size]
            yield batch, self.crops(batch, size)

    def _read(self, group: int, first: int, region: tuple[slice, slice], out: np.ndarray) -> None:
        """Read the consecutive frames from `first`, all of one group, into `out`."""
        start = first - int(self._starts[group])
        try:
            self._images[group].read_direct(out, (slice(start, start + len(out)), *region))
        except (OSError, RuntimeError) as error:
            if len(out) > 1:
                for offset in range(len(out)):
                    self._read(group, first + offset, region, out[offset : offset + 1])
            else:
                what = f"frame {first} (counted from 0) of {self.name} is damaged"
                raise UserError(f"{self.path}: {what}; fetch the file again ({error})") from error


def open_set(folder: str | Path, name: str) -> FrameSet:
    """Open one set of CXIDB 76, or a simulated set for it.

    Args:
        folder: holds `ln83/r0018_2000.h5`, as on the deposition's site, or `LN83/r0018_2000.h5`, or
            `r0018_2000.h5`. `expert_annotation.txt` and, if there is one, `mask.npz` lie beside that file, or
            in `ln83/` or `LN83/`.
        name: one of `SETS`.

    Raises:
        UserError: there is no such set, a file is missing or damaged, or the files do not fit one another.
    """
    location = set_location(name)
    root = Path(folder)
    own_folders = [root / location.folder, root / location.name]
    candidates = [place / location.file_name for place in (*own_folders, root)]
    path = _first_file(candidates)
    if path is None:
        tried = ", ".join(map(str, candidates))
        raise UserError(
            f"no frames of {location.name} found (tried {tried}); --data must name the folder that holds "
            f"{location.folder}/{location.file_name} of CXIDB 76"
        )
    # In a folder with files of several sets, labels and mask in the set's own folder are the surer ones.
    places = [*own_folders, root] if path.parent == root else [path.parent, *own_folders]
    label_path = _first_file([place / LABEL_FILE for place in places])
    if label_path is None:
        raise UserError(f"no labels of {location.name} found; put its {LABEL_FILE} into {path.parent}")
    return FrameSet(location.name, path, label_path, _first_file([place / MASK_FILE for place in places]))


def _first_file(candidates: list[Path]) -> Path | None:
    return next((path for path in candidates if path.exists()), None)


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _open_hdf5(path: Path) -> h5py.File:
    try:
        # Nobody writes these files, and many file systems of beamlines and clusters refuse locks.
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        reason = str(error)
        if "truncated" in reason:
            raise UserError(f"{path}: the file is cut short; fetch it again ({reason})") from error
        if "signature not found" in reason:
            raise UserError(f"{path}: not an HDF5 file") from error
        raise UserError(explain_os_error(error, path) or f"{path}: cannot be opened ({reason})") from error


def _chunk_groups(file: h5py.File, path: Path) -> list[h5py.Group]:
    data = file.get("data")
    if not isinstance(data, h5py.Group):
        raise UserError(f"{path}: no group /data; is it a file of CXIDB 76?")
    # By name, not as created: this order is what the labels count by.
    groups = [data[name] for name in sorted(data) if isinstance(data[name], h5py.Group)]
    if not groups:
        raise UserError(f"{path}: no groups of frames under /data; is it a file of CXIDB 76?")
    return groups


def _images(group: h5py.Group, path: Path) -> h5py.Dataset:
    images = group.get("images")
    if not isinstance(images, h5py.Dataset):
        raise UserError(f"{path}: no images in {group.name}; is it a file of CXIDB 76?")
    if images.ndim != 3 or not np.issubdtype(images.dtype, np.integer):
        found = f"{images.dtype} of shape {images.shape}"
        raise UserError(f"{path}: {images.name} must be integers [frame, slow, fast], not {found}")
    need_filters(images)
    return images


def _per_frame(group: h5py.Group, key: str, path: Path) -> np.ndarray:
    values, count = group.get(key), group["images"].shape[0]
    if not isinstance(values, h5py.Dataset):
        raise UserError(f"{path}: no {key} in {group.name}; is it a file of CXIDB 76?")
    if values.shape != (count,) or values.dtype.kind not in "iuf":
        raise UserError(f"{path}: {values.name} must hold one number for each of {count} frames")
    return np.asarray(values[()], np.float64)


def _is_simulated(file: h5py.File) -> bool:
    stored = file.get("metadata/simulated")
    value = stored[()] if isinstance(stored, h5py.Dataset) else file.attrs.get("simulated", False)
    # A mark of any other kind than a number still is one: simulated frames never pass for measured ones.
    mark = np.asarray(value)
    return mark.dtype.kind not in "biuf" or bool(np.all(mark))
