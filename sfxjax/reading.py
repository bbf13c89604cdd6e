"""Reads crops of frames, with their masks, from the files of a run, in processes without JAX."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from sfxjax.errors import UserError
from sfxjax.layouts import hdf5_sources
from sfxjax.links import Files, first_line
from sfxjax.masks import good_pixels, read_mask_file
from sfxjax.sources import CROP, ReadOptions, Source, crop_window


class FrameReader:
    """Opens the files of a run and reads crops of 724 x 724 pixels from them. A context manager.

    Args:
        options: what the user says about the files.
    """

    def __init__(self, options: ReadOptions) -> None:
        self.options = options
        self._files: dict[Path, Files] = {}
        self._datasets: dict[tuple[str, str], h5py.Dataset] = {}
        self._masks: dict[tuple[object, ...], np.ndarray | None] = {}
        self._mask_file: np.ndarray | None = None

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
        files = self._opened(path)
        found = hdf5_sources(files, name, self.options)
        return [replace(source, centre=self._centre(source)) for source in found]

    def static_mask(self, source: Source) -> np.ndarray | None:
        """Return the good pixels of the crop, bool (724, 724), as far as they are the same for all frames.

        None where every pixel of the crop is good.

        Raises:
            UserError: a mask does not fit the frames, is damaged, or its polarity is not known.
        """
        key = (source.file, source.dataset, source.raw_shape, source.centre, source.mask_dataset)
        if key not in self._masks:
            self._masks[key] = self._static_mask(source)
        return self._masks[key]

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
        data = self._data(source)
        return np.asarray(data[frame] if source.stacked else data[()])

    def _read(self, source: Source, frame: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray | None]:
        for first, last, name in source.missing:
            if first <= frame <= last:
                raise UserError(f"the file {name} with this frame is missing")
        data = self._data(source)
        crop = self._crop(data, source, frame, dtype)
        if not source.frame_masks:
            return crop, None
        masks = self._data(source, source.frame_masks)
        values = self._crop(masks, source, frame, masks.dtype, fill=1)
        return crop, good_pixels(values, 0, self.options.good_bits, self.options.bad_bits)

    def _crop(
        self, data: h5py.Dataset, source: Source, frame: int, dtype: np.dtype, fill: int = 0
    ) -> np.ndarray:
        window = crop_window(source.shape, source.centre)
        panel = (0,) * (len(source.raw_shape) - 2)
        place = ((frame,) if source.stacked else ()) + panel
        pixels = data[(*place, window.rows, window.columns)]
        if window.whole:
            return _cast(pixels, dtype)
        crop = np.full((CROP, CROP), fill, dtype)
        crop[window.to_rows, window.to_columns] = _cast(pixels, dtype)
        return crop

    def _data(self, source: Source, name: str | None = None) -> h5py.Dataset:
        name = source.dataset if name is None else name
        key = (source.file, name)
        if key not in self._datasets:
            path = Path(source.file)
            data = self._opened(path).dataset(path, name)
            if data is None:
                raise UserError(f"{path}: {name} is gone")
            self._datasets[key] = data
        return self._datasets[key]

    def _opened(self, path: Path) -> Files:
        root = path.parent
        if root not in self._files:
            self._files[root] = Files(root, self.options.allow_links, self.options.growing)
        return self._files[root]

    def _centre(self, source: Source) -> tuple[float, float] | None:
        return self.options.centre if self.options.centre is not None else source.centre

    def _static_mask(self, source: Source) -> np.ndarray | None:
        options = self.options
        window = crop_window(source.shape, source.centre)
        good: np.ndarray | None = None
        if not window.whole:
            good = np.zeros((CROP, CROP), bool)
            good[window.to_rows, window.to_columns] = True
        for values in self._shared_masks(source):
            here = np.zeros((CROP, CROP), bool)
            here[window.to_rows, window.to_columns] = values[window.rows, window.columns]
            good = here if good is None else good & here
        if good is not None and not good.any():
            raise UserError(
                f"{source.file}: no pixel of the crop is good; check {options.mask or 'its mask'}"
            )
        return good

    def _shared_masks(self, source: Source) -> Iterator[np.ndarray]:
        options = self.options
        if source.mask_dataset:
            path = Path(source.file)
            data = self._opened(path).dataset(path, source.mask_dataset)
            if data is not None:
                try:
                    values = np.asarray(data[()])
                except (OSError, RuntimeError, ValueError) as error:
                    raise UserError(f"{path}: {source.mask_dataset} is damaged ({error})") from error
                yield good_pixels(values, 0, options.good_bits, options.bad_bits).reshape(source.shape)
        if options.mask is not None:
            if self._mask_file is None:
                self._mask_file = read_mask_file(
                    options.mask,
                    options.mask_good,
                    options.good_bits,
                    options.bad_bits,
                    allow_links=options.allow_links,
                )
            mask = self._mask_file
            while mask.ndim > 2 and mask.shape[0] == 1:
                mask = mask[0]
            if mask.shape != source.shape:
                found = "x".join(map(str, mask.shape))
                wanted = "x".join(map(str, source.shape))
                raise UserError(
                    f"{options.mask}: the mask has {found} pixels, the frames of {source.file} {wanted}"
                )
            yield mask


def _cast(pixels: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(pixels).astype(dtype, copy=False)


def runs(frames: Iterable[int]) -> Iterator[range]:
    """Split increasing numbers into ranges without gaps."""
    for _, group in itertools.groupby(enumerate(frames), lambda pair: pair[1] - pair[0]):
        numbers = [number for _, number in group]
        yield range(numbers[0], numbers[-1] + 1)
