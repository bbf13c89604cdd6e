"""Reads crops of frames, with their masks, from the files of a run, in processes without JAX."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from sfxjax.errors import UserError, explain_os_error
from sfxjax.geometry import Geometry, read_geometry
from sfxjax.image_files import image_layout, image_source, read_image
from sfxjax.layouts import hdf5_sources
from sfxjax.links import Files, first_line
from sfxjax.masks import good_pixels, read_mask_file
from sfxjax.sources import CROP, ReadOptions, Source, crop_window

MOST_OPEN_FILES = 64


class FrameReader:
    """Opens the files of a run and reads crops of 724 x 724 pixels from them. A context manager.

    Args:
        options: what the user says about the files.
    """

    def __init__(self, options: ReadOptions) -> None:
        self.options = options
        self._files: dict[Path, Files] = {}
        self._datasets: dict[tuple[str, str], h5py.Dataset] = {}
        self._mask_files: dict[str, np.ndarray] = {}
        self._geometry = None if options.geometry is None else read_geometry(options.geometry)
        self._geometries: dict[tuple[str, str], Geometry] = {}
        self._indices: dict[tuple[Geometry, tuple[int, ...]], np.ndarray] = {}

    def __enter__(self) -> FrameReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every file."""
        self._datasets.clear()
        for files in self._files.values():
            files.close()
        self._files.clear()

    def sources(self, name: str) -> list[Source]:
        """Describe the stacks of frames in a file, in their order.

        Raises:
            UserError: it is missing, damaged, of no known format, or its frames need an option.
        """
        path = Path(name)
        self._bound_open_files()
        geometry = self._geometry
        try:
            is_image = bool(image_layout(path))
        except OSError as error:
            raise UserError(explain_os_error(error, path) or f"{path}: {error}") from error
        if is_image:
            source, own = image_source(name)
            geometry = own if geometry is None else geometry
            if geometry is not None:
                geometry.check(source.raw_shape, name)
                source = replace(source, assembled=True, shape=geometry.extent(), centre=None)
            elif len(source.raw_shape) > 2:
                raise UserError(
                    f"{name}: {source.raw_shape[0]} panels whose places the file does not say; "
                    "give them with --geometry FILE.geom"
                )
            found = [source]
        else:
            found = hdf5_sources(self._opened(path), name, self.options, geometry)
        for source in found:
            if source.assembled:
                assert geometry is not None
                self._geometries[(source.file, source.dataset)] = geometry
        return [self._centred(source) for source in found]

    def static_mask(self, source: Source) -> np.ndarray | None:
        """Return the good pixels of the crop, bool (724, 724), as far as they are the same for all frames.

        None where every pixel of the crop is good.

        Raises:
            UserError: a mask does not fit the frames, is damaged, or its polarity is not known.
        """
        good: np.ndarray | None = None
        window = crop_window(source.shape, source.centre) if not source.assembled else None
        if window is None:
            good = self._index(source) >= 0
        elif not window.whole:
            good = np.zeros((CROP, CROP), bool)
            good[window.to_rows, window.to_columns] = True
        for values in self._shared_masks(source):
            here = self._mask_crop(source, values)
            good = here if good is None else good & here
        if good is not None and not good.any():
            given = self.options.mask or "its mask"
            raise UserError(f"{source.file}: no pixel of the crop is good; check {given}")
        return None if good is not None and good.all() else good

    def read(
        self, source: Source, frames: Iterable[int], dtype: np.dtype
    ) -> Iterator[tuple[np.ndarray | None, np.ndarray | None, str]]:
        """Read crops one after the other.

        Args:
            source: as `sources` gave it.
            frames: numbers from 0.
            dtype: of the crops.

        Yields:
            The crop (724, 724), or None where it cannot be read; the frame's own mask of that shape, if it
            has one; and why it cannot be read, empty if it can.
        """
        for frame in frames:
            try:
                crop, mask = self._read(source, frame, dtype)
                yield crop, mask, ""
            except UserError as error:
                yield None, None, str(error)
            except (OSError, RuntimeError, ValueError, TypeError, KeyError, MemoryError) as error:
                yield None, None, f"cannot be read: {first_line(error)}"

    def original(self, source: Source, frame: int) -> np.ndarray:
        """Return a frame as stored.

        Raises:
            UserError, OSError, RuntimeError, ValueError: it cannot be read.
        """
        if not source.dataset:
            return read_image(Path(source.file))
        data = self.dataset(source)
        return np.asarray(data[frame] if source.stacked else data[()])

    def _read(self, source: Source, frame: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray | None]:
        for first, last, name in source.missing:
            if first <= frame <= last:
                raise UserError(f"the file {name} with this frame is missing")
        if not source.dataset:
            image = read_image(Path(source.file))
            if image.shape != source.raw_shape:
                raise UserError("the image has changed its shape")
            crop = self._crop(image, source, dtype)
        else:
            crop = self._crop(self.dataset(source), source, dtype, frame)
        good = None
        if source.frame_masks:
            masks = self.dataset(source, source.frame_masks)
            values = self._crop(masks, source, masks.dtype, frame, fill=1)
            good = good_pixels(values, 0, *self._bits())
        if self._geometry is not None and self._geometry.flags:
            unflagged = ~self._geometry.flagged(crop)
            good = unflagged if good is None else good & unflagged
        return crop, good

    def _crop(
        self,
        data: h5py.Dataset | np.ndarray,
        source: Source,
        dtype: np.dtype,
        frame: int | None = None,
        fill: int = 0,
    ) -> np.ndarray:
        """Cut the crop out of a data set, of which only the part needed is read, or out of an image."""
        stack = (frame,) if source.stacked and frame is not None else ()
        if source.assembled:
            index = self._index(source)
            first, last = self._needed(source)
            pixels = data[(*stack, slice(first, last))]
            offset = first * math.prod(source.raw_shape[1:])
            taken = np.asarray(pixels).reshape(-1)[np.maximum(index - offset, 0)]
            return _cast(np.where(index >= 0, taken, taken.dtype.type(fill)), dtype)
        window = crop_window(source.shape, source.centre)
        panel = (0,) * (len(source.raw_shape) - 2)
        pixels = data[(*stack, *panel, window.rows, window.columns)]
        if window.whole:
            return _cast(pixels, dtype)
        crop = np.full((CROP, CROP), fill, dtype)
        crop[window.to_rows, window.to_columns] = _cast(pixels, dtype)
        return crop

    def _index(self, source: Source) -> np.ndarray:
        if (source.file, source.dataset) not in self._geometries:
            # Another reader looked at the file.
            self.sources(source.file)
        key = (self._geometries[(source.file, source.dataset)], source.raw_shape)
        if key not in self._indices:
            self._indices[key] = key[0].assembly(source.raw_shape)
        return self._indices[key]

    def _needed(self, source: Source) -> tuple[int, int]:
        """Return the range along the stored frame's first axis that the crop shows."""
        index = self._index(source)
        shown = index[index >= 0]
        if not shown.size:
            raise UserError(f"{source.file}: the geometry has no panel near the beam")
        row = math.prod(source.raw_shape[1:])
        return int(shown.min()) // row, int(shown.max()) // row + 1

    def dataset(self, source: Source, name: str | None = None) -> h5py.Dataset:
        """Return a source's data set, or another one of its file.

        Raises:
            UserError: it is gone or damaged.
        """
        name = source.dataset if name is None else name
        key = (source.file, name)
        if key not in self._datasets:
            self._bound_open_files()
            path = Path(source.file)
            data = self._opened(path).dataset(path, name)
            if data is None:
                raise UserError(f"{path}: {name} is gone")
            self._datasets[key] = data
        return self._datasets[key]

    def _bound_open_files(self) -> None:
        """Close all files once they are many: systems allow a process some hundred or thousand."""
        if sum(len(files) for files in self._files.values()) > MOST_OPEN_FILES:
            self.close()

    def _opened(self, path: Path) -> Files:
        root = path.parent
        if root not in self._files:
            self._files[root] = Files(root, self.options.allow_links, self.options.growing)
        return self._files[root]

    def _centred(self, source: Source) -> Source:
        """Decide where the crop's centre is: by the option, or by the file where that makes sense."""
        if source.assembled:
            if self.options.centre is not None:
                raise UserError("the geometry places the beam already; leave out --beam-centre")
            return source
        if self.options.centre is not None:
            crop_window(source.shape, self.options.centre)
            return replace(source, centre=self.options.centre)
        if source.centre is None:
            return source
        x, y = source.centre
        if not (np.isfinite(x) and np.isfinite(y)):
            return replace(source, centre=None)
        inside = 0 < x < source.shape[1] and 0 < y < source.shape[0]
        if not inside or (min(source.shape) >= CROP and not crop_window(source.shape, (x, y)).whole):
            note = f"{source.file}: its beam centre ({x:.1f}, {y:.1f}) is too far out; the centre is cropped"
            return replace(source, centre=None, notes=(*source.notes, note))
        return source

    def _bits(self) -> tuple[int | None, int | None]:
        """Return goodbits and badbits of the mask in the frames' file: the user's, else the geometry's."""
        options = self.options
        own = None if self._geometry is None else self._geometry.own_mask
        if options.good_bits is None and options.bad_bits is None and own is not None:
            return own.good_bits, own.bad_bits
        return options.good_bits, options.bad_bits

    def _mask_crop(self, source: Source, values: np.ndarray) -> np.ndarray:
        """Cut the crop out of a mask of stored or assembled frames."""
        if values.shape != source.raw_shape and values.shape != source.shape:
            found, wanted = ("x".join(map(str, shape)) for shape in (values.shape, source.raw_shape))
            raise UserError(f"the mask has {found} pixels, the frames of {source.file} {wanted}")
        if source.assembled:
            index = self._index(source)
            if values.size != math.prod(source.raw_shape):
                raise UserError(f"the mask must have the shape of the stored frames of {source.file}")
            return values.reshape(-1)[np.maximum(index, 0)] & (index >= 0)
        window = crop_window(source.shape, source.centre)
        good = np.zeros((CROP, CROP), bool)
        image = values.reshape(source.shape)
        good[window.to_rows, window.to_columns] = image[window.rows, window.columns]
        return good

    def _shared_masks(self, source: Source) -> Iterator[np.ndarray]:
        """Give each mask that holds for all frames, True = good."""
        options, path = self.options, Path(source.file)
        for named in self._geometry.masks if self._geometry is not None else ():
            if named.file is not None and options.geometry is not None:
                file = Path(options.geometry).parent / named.file
                bits = named.good_bits, named.bad_bits
                yield self._read_mask(f"{file}:{named.data}", None if bits != (None, None) else 0, bits)
        if source.mask_dataset:
            data = self.dataset(source, source.mask_dataset)
            try:
                values = np.asarray(data[()])
            except (OSError, RuntimeError, ValueError) as error:
                raise UserError(f"{path}: {source.mask_dataset} is damaged ({first_line(error)})") from error
            yield good_pixels(values, 0, *self._bits())
        if options.mask is not None:
            mask = self._read_mask(options.mask, options.mask_good, (options.good_bits, options.bad_bits))
            while mask.ndim > len(source.raw_shape) and mask.shape[0] == 1:
                mask = mask[0]
            yield mask

    def _read_mask(self, text: str, mask_good: int | None, bits: tuple[int | None, int | None]) -> np.ndarray:
        if text not in self._mask_files:
            self._mask_files[text] = read_mask_file(
                text, mask_good, *bits, allow_links=self.options.allow_links, read_image=read_image
            )
        return self._mask_files[text]


def _cast(pixels: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(pixels).astype(dtype, copy=False)
