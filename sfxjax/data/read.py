"""Reads crops of frames, with their masks, from the files of a run, in processes without JAX."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from sfxjax.crop import CROP, crop_window
from sfxjax.data.centre import centred
from sfxjax.data.declared_limits import refuse_limit_that_leaves_nothing
from sfxjax.data.formats import format_name, known_formats
from sfxjax.data.formats.hdf5 import hdf5_stacks, says_simulated
from sfxjax.data.frames import FrameStack, ReadOptions
from sfxjax.data.geometry import Geometry
from sfxjax.data.geometry_file import read_geometry
from sfxjax.data.hdf5 import Files, located
from sfxjax.data.opening import DAMAGE, damage_named, in_words
from sfxjax.data.stack_masks import SharedMask, StackMasks
from sfxjax.data.unwritten import UnwrittenFrames
from sfxjax.data.values_apart import Place
from sfxjax.data.virtual_sets import refuse_cut, sizes_of
from sfxjax.errors import UserError, explain_os_error
from sfxjax.pixels.missing_values import with_limit, without_low_values

MOST_OPEN_FILES = 64


class ReadCrop(NamedTuple):
    """A crop that was read, or why it was not.

    Attributes:
        crop: (724, 724), or None where it cannot be read.
        mask: the frame's own mask of that shape, if it has one.
        reason: why it cannot be read, empty if it can.
        limit: value from which its pixels tell nothing.
    """

    crop: np.ndarray | None
    mask: np.ndarray | None
    reason: str
    limit: float


class WholeFrame(NamedTuple):
    """A frame as stored.

    Attributes:
        pixels: of the stack's `raw_shape`.
        mask: bool of that shape, True where a pixel counts; or None.
        limit: value from which pixels tell nothing.
    """

    pixels: np.ndarray
    mask: np.ndarray | None
    limit: float

    def without(self, bad: np.ndarray | None) -> WholeFrame:
        """Return the frame without pixels found bad: bool of its shape, True = bad; or None."""
        if bad is None:
            return self
        return self._replace(mask=~bad if self.mask is None else self.mask & ~bad)


class FrameReader:
    """Opens the files of a run and reads crops of 724 x 724 pixels from them. A context manager.

    Args:
        options: what the user says about the files.
    """

    def __init__(self, options: ReadOptions) -> None:
        self.options = options
        self._files: dict[Path, Files] = {}
        self._datasets: dict[tuple[str, str], h5py.Dataset] = {}
        self._sizes: dict[tuple[str, str], dict[Path, int]] = {}
        self._unwritten = UnwrittenFrames()
        self.geometry = None if options.geometry is None else read_geometry(options.geometry)
        self._geometries: dict[tuple[str, str], Geometry] = {}
        self._indices: dict[tuple[Geometry, tuple[int, ...]], np.ndarray] = {}
        self.forget()

    def __enter__(self) -> FrameReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every file."""
        self._datasets.clear()
        self._unwritten.clear()
        for files in self._files.values():
            files.close()
        self._files.clear()

    def forget(self) -> None:
        """Close every file, and read masks anew: files may have been replaced."""
        self.close()
        self._masks = StackMasks(self.options, self.geometry, self.values)

    def stacks(self, name: str) -> list[FrameStack]:
        """Describe the stacks of frames in a file, in their order.

        Raises:
            UserError: it is missing, damaged, of no known format, or its frames need an option.
        """
        path = Path(name)
        self._bound_open_files()
        geometry = self.geometry
        try:
            kind = format_name(path)
        except OSError as error:
            raise UserError(explain_os_error(error, path) or f"{path}: {error}") from error
        if kind:
            found, own = known_formats()[kind].stacks(path)
            found = [replace(stack, file=name, format=kind) for stack in found]
            geometry = own if geometry is None else geometry
            if geometry is not None:
                found = [self._assembled(stack, geometry, name) for stack in found]
            for stack in found:
                if len(stack.raw_shape) > 2 and geometry is None and not self.options.panels_apart:
                    raise UserError(
                        f"{name}: {stack.raw_shape[0]} panels whose places the file does not say; "
                        "give them with --geometry FILE.geom"
                    )
        else:
            with damage_named(name):
                found = hdf5_stacks(self._opened(path), name, self.options, geometry)
        if geometry is not None:
            self._geometries |= {(stack.file, stack.dataset): geometry for stack in found if stack.assembled}
        return [centred(stack, self.options.centre) for stack in found]

    def shared_mask(self, stack: FrameStack) -> SharedMask:
        """See `StackMasks.shared`."""
        return self._masks.shared(stack)

    def whole_mask(self, stack: FrameStack) -> np.ndarray | None:
        """Return the mask that all frames of a stack share, bool of the stored frames' shape, True = valid; or None."""
        return self._masks.shared(stack).good

    def whole(self, stack: FrameStack, frame: int) -> WholeFrame:
        """Read a frame as stored, with the mask that it shares with others and its own.

        Raises:
            UserError, OSError, RuntimeError, ValueError: it cannot be read.
        """
        pixels = self.original(stack, frame)
        mask = self.whole_mask(stack)
        if stack.frame_masks and not self._masks.replaced(stack):
            own = self._masks.frame(
                stack, self.values(stack, stack.frame_masks, stack.place(stack.first_mask + frame))
            )
            mask = own if mask is None else mask & own
        if self.geometry is not None and self.geometry.has_flags:
            unflagged = self.geometry.unflagged(pixels, self.geometry.numbers(stack.raw_shape))
            mask = unflagged if mask is None else mask & unflagged
        refuse_limit_that_leaves_nothing(stack, pixels, mask)
        pixels, limit = with_limit(pixels, stack.limit, stack.depths, mask)
        return WholeFrame(pixels, mask, limit)

    def is_simulated(self, name: str) -> bool:
        """Tell whether a file says that its frames were not measured."""
        path = Path(name)
        return not format_name(path) and says_simulated(self._opened(path), path)

    def covered(self, stack: FrameStack) -> np.ndarray | None:
        """Return where the crop holds pixels of the detector, bool (724, 724); None: everywhere."""
        if stack.assembled:
            return self._index(stack) >= 0
        window = crop_window(stack.shape, stack.centre)
        if window.whole:
            return None
        inside = np.zeros((CROP, CROP), bool)
        inside[window.to_rows, window.to_columns] = True
        return inside

    def static_mask(self, stack: FrameStack) -> np.ndarray | None:
        """Return the good pixels of the crop that all frames share, bool (724, 724); None where every pixel is good.

        Raises:
            UserError: a mask does not fit the frames, is damaged, or its polarity is not known.
        """
        good = self.covered(stack)
        shared = self.whole_mask(stack)
        if shared is not None:
            here = self._mask_crop(stack, shared)
            good = here if good is None else good & here
        if good is not None and not good.any():
            lines = "; ".join(self.shared_mask(stack).lines)
            raise UserError(f"{stack.file}: no pixel of the crop is good; check its mask ({lines})")
        return None if good is not None and good.all() else good

    def read(self, stack: FrameStack, frames: Iterable[int], dtype: np.dtype) -> Iterator[ReadCrop]:
        """Read crops one after the other.

        Args:
            stack: as `stacks` gave it.
            frames: numbers from 0.
            dtype: of the crops.
        """
        for frame in frames:
            try:
                yield self._read(stack, frame, dtype)
            except UserError as error:
                yield ReadCrop(None, None, str(error), math.inf)
            except (*DAMAGE, MemoryError) as error:
                yield ReadCrop(None, None, f"cannot be read: {in_words(error)}", math.inf)

    def original(self, stack: FrameStack, frame: int) -> np.ndarray:
        """Return a frame as stored.

        Raises:
            UserError, OSError, RuntimeError, ValueError: it cannot be read.
        """
        self._refuse_lost(stack, frame)
        if stack.format:
            return known_formats()[stack.format].read(stack, frame)
        pixels = self.values(stack, stack.dataset, stack.place(frame))
        refuse_cut(self._sizes[stack.file, stack.dataset])
        return pixels

    def _read(self, stack: FrameStack, frame: int, dtype: np.dtype) -> ReadCrop:
        self._refuse_lost(stack, frame)
        if stack.format:
            image = known_formats()[stack.format].read(stack, frame)
            if image.shape != stack.raw_shape:
                raise UserError("the image has changed its shape")
            crop = self._crop(stack, image.__getitem__)
        else:
            crop = self._crop(stack, partial(self.values, stack, stack.dataset), frame)
        good = None
        if stack.frame_masks and not self._masks.replaced(stack):
            masks = partial(self.values, stack, stack.frame_masks)
            mask = self._crop(stack, masks, stack.first_mask + frame)
            good = self._masks.frame(stack, mask)
        if not stack.format:
            refuse_cut(self._sizes[stack.file, stack.dataset])
        if self.geometry is not None and self.geometry.has_flags:
            numbers = self.geometry.numbers(stack.raw_shape).reshape(-1)
            index = self._index(stack)
            unflagged = self.geometry.unflagged(crop, np.where(index >= 0, numbers[np.maximum(index, 0)], -1))
            good = unflagged if good is None else good & unflagged
        crop, limit = with_limit(crop, stack.limit, stack.depths)
        return ReadCrop(without_low_values(_cast(crop, dtype)), good, "", limit)

    def _refuse_lost(self, stack: FrameStack, frame: int) -> None:
        stack.refuse_lost(frame)
        if not stack.format:
            self._unwritten.refuse(self._opened(Path(stack.file)), stack, self.dataset(stack), frame)

    def _crop(
        self, stack: FrameStack, values: Callable[[Place], np.ndarray], frame: int | None = None
    ) -> np.ndarray:
        """Cut the crop out of what gives the values at a place, of which only those needed are asked for; elsewhere it is 0."""
        if stack.assembled:
            index = self._index(stack)
            first, last = self._needed(stack)
            pixels = values(stack.place(frame, slice(first, last)))
            offset = first * math.prod(stack.raw_shape[1:])
            taken = pixels.reshape(-1)[np.maximum(index - offset, 0)]
            return np.where(index >= 0, taken, taken.dtype.type(0))
        window = crop_window(stack.shape, stack.centre)
        panel = (0,) * (len(stack.raw_shape) - 2)
        pixels = values(stack.place(frame, *panel, window.rows, window.columns))
        if window.whole:
            return pixels
        crop = np.zeros((CROP, CROP), pixels.dtype)
        crop[window.to_rows, window.to_columns] = pixels
        return crop

    def _index(self, stack: FrameStack) -> np.ndarray:
        if (stack.file, stack.dataset) not in self._geometries:
            # Another reader looked at the file.
            self.stacks(stack.file)
        key = (self._geometries[(stack.file, stack.dataset)], stack.raw_shape)
        if key not in self._indices:
            self._indices[key] = key[0].assembly(stack.raw_shape)
        return self._indices[key]

    def _needed(self, stack: FrameStack) -> tuple[int, int]:
        """Return the range along the stored frame's first axis that the crop shows."""
        index = self._index(stack)
        shown = index[index >= 0]
        if not shown.size:
            raise UserError(f"{stack.file}: the geometry has no panel near the beam")
        row = math.prod(stack.raw_shape[1:])
        return int(shown.min()) // row, int(shown.max()) // row + 1

    def dataset(self, stack: FrameStack, name: str | None = None) -> h5py.Dataset:
        """Return a stack's data set, or another one of its file.

        Raises:
            UserError: it is gone or damaged.
        """
        key = stack.file, stack.dataset if name is None else name
        if key not in self._datasets:
            self._bound_open_files()
            data = self._opened(Path(stack.file)).dataset(*located(Path(stack.file), key[1]))
            if data is None:
                raise UserError(f"{stack.file}: {key[1]} is gone")
            self._datasets[key], self._sizes[key] = data, sizes_of(data)
        return self._datasets[key]

    def values(self, stack: FrameStack, name: str, place: Place = ()) -> np.ndarray:
        """Read a part of a data set of a stack's file; see `Files.values`."""
        return self._opened(Path(stack.file)).values(self.dataset(stack, name), place)

    def _bound_open_files(self) -> None:
        """Close all files once they are many: systems allow a process some hundred or thousand."""
        if sum(len(files) for files in self._files.values()) > MOST_OPEN_FILES:
            self.close()

    def _opened(self, path: Path) -> Files:
        root = path.parent
        if root not in self._files:
            self._files[root] = Files(root, self.options.allow_links, self.options.growing)
        return self._files[root]

    def _mask_crop(self, stack: FrameStack, values: np.ndarray) -> np.ndarray:
        """Cut the crop out of a mask of stored frames."""
        if stack.assembled:
            index = self._index(stack)
            here: np.ndarray = values.reshape(-1)[np.maximum(index, 0)] & (index >= 0)
            return here
        window = crop_window(stack.shape, stack.centre)
        good = np.zeros((CROP, CROP), bool)
        image = values.reshape(stack.shape)
        good[window.to_rows, window.to_columns] = image[window.rows, window.columns]
        return good

    def _assembled(self, stack: FrameStack, geometry: Geometry, where: str) -> FrameStack:
        geometry.check(stack.raw_shape, where)
        stack = replace(stack, notes=(*stack.notes, *geometry.notes))
        if self.options.panels_apart:
            return stack
        return replace(stack, assembled=True, shape=geometry.extent(), centre=None)


def _cast(pixels: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(pixels).astype(dtype, copy=False)
