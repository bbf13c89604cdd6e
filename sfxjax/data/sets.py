"""Sets of frames to train on and to test on: any files that can be screened, and what is known of their frames.

A set is named in one of three ways:

- `--set NAME=FILES...` with `labels=FILE`, `mask=FILE[:PATH]`, `dataset=PATH`, `geometry=FILE` and so on among the values;
- a table of that name in a TOML file (`--sets FILE`), with the same keys and `files`;
- a set of CXIDB 76 (Ke et al., J. Synchrotron Rad. 25:655, 2018) in the folder that `--data` names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from sfxjax.crop import CROP
from sfxjax.data.bad_pixels import BAD_PIXEL_FRAMES, find_bad_pixels
from sfxjax.data.batches import CropBatch, crop_batch
from sfxjax.data.frames import FrameStack, pixel_type
from sfxjax.data.labels import MISS, UNLABELLED, read_labels
from sfxjax.data.read import FrameReader
from sfxjax.data.set_description import SetDescription, cxidb76_set, sets_of_options
from sfxjax.data.stack_masks import check_used
from sfxjax.errors import UserError
from sfxjax.text import printable


class FrameSet:
    """A set, open for reading: its labels, and its frames crop by crop. A context manager.

    Attributes:
        name: of the set.
        path: of its first file.
        stacks: of frames, in order.
        frame_shape: (ss, fs) of a frame, pixels.
        dtype: of the crops.
        labels: int8 (frames,): MISS, MAYBE, HIT or UNLABELLED.
        simulated: whether a file says that its frames were not measured.
        notes: what the user should be told of the files and of what leaves pixels out.
        bad_pixels: the line about pixels found bad, empty if none.
    """

    def __init__(self, description: SetDescription) -> None:
        """Open the files.

        Raises:
            UserError: a file is missing, damaged or of no known format, or labels or mask do not fit the frames.
        """
        self.description = description
        self.name = description.name
        self.path = Path(description.files[0])
        self.bad_pixels = ""
        self._reader = FrameReader(description.read)
        try:
            self.stacks = [stack for name in description.files for stack in self._reader.stacks(name)]
            lost = [stack for stack in self.stacks if stack.unreadable]
            self.stacks = [stack for stack in self.stacks if not stack.unreadable]
            first = self.stacks[0]
            for stack in self.stacks:
                if stack.shape != first.shape:
                    here, there = ("x".join(map(str, shape)) for shape in (stack.shape, first.shape))
                    raise UserError(
                        f"{stack.file}: frames of {here} pixels, where the set's first have {there}"
                    )
            check_used(description.read, self.stacks)
            notes = [note for stack in self.stacks for note in stack.notes]
            self.notes = (*description.notes, *notes, *(f"{stack.describe()}; left out" for stack in lost))
            self.frame_shape = first.shape
            self.dtype = pixel_type([stack.dtype for stack in self.stacks])
            self._frames = [(stack, number) for stack in self.stacks for number in range(stack.frames)]
            if not self._frames:
                raise UserError(f"{self.path}: there are no frames")
            self.simulated = any(self._reader.is_simulated(name) for name in description.files)
            self._masks = self._read_masks()
            lines = [line for stack in self.stacks for line in self._reader.shared_mask(stack).lines]
            notes = [*self.notes, *dict.fromkeys(lines), *([self.bad_pixels] if self.bad_pixels else [])]
            self.notes = tuple(map(printable, notes))
            self.labels = np.full(len(self), UNLABELLED, np.int8)
            if description.labels is not None:
                frames = [(stack.file, stack.event(number)) for stack, number in self._frames]
                self.labels = self._read_labels(frames, lost)
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"FrameSet({self.name}, {len(self)} frames, {(self.labels != UNLABELLED).sum()} labels)"

    def __len__(self) -> int:
        return len(self._frames)

    def __enter__(self) -> FrameSet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; labels and masks stay usable."""
        self._reader.close()

    @property
    def positives(self) -> np.ndarray:
        """Bool (frames,): Hit or Maybe, the paper's positive class."""
        return self.labels > MISS

    def mask_crop(self) -> np.ndarray | None:
        """Return the mask that all frames of the first stack share, bool (724, 724), True = valid; None: all pixels are."""
        return self._masks[self._key(self.stacks[0])]

    def covered(self) -> np.ndarray | None:
        """Return where the crop holds pixels of the detector, bool (724, 724); None: everywhere."""
        return self._reader.covered(self.stacks[0])

    def crops(self, indices: Sequence[int] | np.ndarray | range) -> np.ndarray:
        """Read the central crops of frames.

        Args:
            indices: frame numbers from 0, in any order; they may repeat.

        Returns:
            (n, 724, 724) in the order of `indices`; what a smaller frame lacks is 0.

        Raises:
            IndexError: there is no such frame.
            UserError: a frame is damaged.
        """
        return self._read(indices)[0]

    def original(self, number: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return a whole frame as stored, and the mask that its stack shares, bool of its shape, or None."""
        stack, frame = self._frames[number]
        return self._reader.original(stack, frame), self._reader.whole_mask(stack)

    def batches(self, indices: Sequence[int] | np.ndarray | range, size: int) -> Iterator[CropBatch]:
        """Read frames, some at a time, with what decides which of their pixels count, as a screening has it.

        Args:
            indices: as for `crops`.
            size: frames at a time; the last batch may hold fewer.

        Raises:
            IndexError, UserError: as `crops`.
        """
        wanted = _frame_numbers(indices, len(self))
        for begin in range(0, len(wanted), size):
            crops, own, limits = self._read(wanted[begin : begin + size])
            stacks = [self._frames[number][0] for number in wanted[begin : begin + size]]
            masks = [self._masks[self._key(stack)] for stack in stacks]
            masked = [self._has_mask(stack) for stack in stacks]
            yield crop_batch(crops, stacks, masks, own, masked, limits)

    def _read(
        self, indices: Sequence[int] | np.ndarray | range
    ) -> tuple[np.ndarray, np.ndarray | None, list[float]]:
        wanted = _frame_numbers(indices, len(self))
        crops = np.zeros((len(wanted), CROP, CROP), self.dtype)
        masks: np.ndarray | None = None
        limits = []
        for place, number in enumerate(wanted):
            stack, frame = self._frames[number]
            crop, mask, reason, limit = next(self._reader.read(stack, [frame], self.dtype))
            if crop is None:
                raise UserError(
                    f"{stack.file}: frame {number} (counted from 0) of {self.name} is damaged; "
                    f"fetch the file again ({reason})"
                )
            crops[place] = crop
            limits.append(limit)
            if mask is not None:
                masks = np.ones(crops.shape, bool) if masks is None else masks
                masks[place] = mask
        return crops, masks, limits

    def _read_labels(self, frames: list[tuple[str, str]], lost: list[FrameStack]) -> np.ndarray:
        """Read the labels; where they do not fit, parts of the files that cannot be read may be why."""
        given = self.description
        assert given.labels is not None
        try:
            return read_labels(given.labels, frames, given.label_name, given.min_spots)
        except UserError as error:
            if not lost:
                raise
            raise UserError(f"{error}; {lost[0].describe()}") from error

    def _read_masks(self) -> dict[tuple[str, str], np.ndarray | None]:
        masks: dict[tuple[str, str], np.ndarray | None] = {}
        for stack in self.stacks:
            mask = self._reader.static_mask(stack)
            # Equal masks are one object, see `crop_batch`.
            alike = (
                known
                for known in masks.values()
                if mask is not None and known is not None and np.array_equal(known, mask)
            )
            masks[self._key(stack)] = next(alike, mask)
        if any(self._has_mask(stack) for stack in self.stacks):
            return masks
        # As a screening does where no mask is given.
        shared = masks[self._key(self.stacks[0])]
        crops = [
            crop
            for stack, number in self._frames[:BAD_PIXEL_FRAMES]
            for crop, *_ in self._reader.read(stack, [number], self.dtype)
            if crop is not None
        ]
        bad, self.bad_pixels = find_bad_pixels(crops, shared)
        if bad is None:
            return masks
        found = ~bad if shared is None else shared & ~bad
        return {key: found if mask is shared or mask is None else mask & ~bad for key, mask in masks.items()}

    def _has_mask(self, stack: FrameStack) -> bool:
        return bool(self.description.read.mask or stack.mask_datasets or stack.frame_masks)

    @staticmethod
    def _key(stack: FrameStack) -> tuple[str, str]:
        return stack.file, stack.dataset


def open_set(data: str | Path, name: str) -> FrameSet:
    """Open a set: any that a TOML file describes, one of CXIDB 76, or a simulated set for it.

    Args:
        data: the TOML file; or the folder of CXIDB 76, see `cxidb76_set`.
        name: of a table of the file; or one of `CXIDB76`, in either case.

    Returns:
        The set, a context manager.

    Raises:
        UserError: there is no such set, a file is missing or damaged, or the files do not fit one another.
    """
    if not Path(data).is_file():
        return FrameSet(cxidb76_set(data, name))
    described = sets_of_options(table=data)
    if name not in described:
        raise UserError(f"{data}: no set named {name!r}; it describes {', '.join(described) or 'none'}")
    return FrameSet(described[name])


def _frame_numbers(indices: Sequence[int] | np.ndarray | range, frames: int) -> np.ndarray:
    """Check frame numbers.

    Raises:
        IndexError: they are no integers in one dimension, or there is no such frame.
    """
    wanted = np.asarray(indices)
    if wanted.size == 0:
        return np.empty(0, int)
    if wanted.ndim != 1 or not np.issubdtype(wanted.dtype, np.integer):
        raise IndexError("frame numbers must be a one-dimensional sequence of integers")
    if not 0 <= wanted.min() <= wanted.max() < frames:
        raise IndexError(f"frame numbers must be from 0 to {frames - 1}")
    return wanted
