"""Which pixels of a stack of frames are left out in all its frames: by masks in the files, the user's, and the geometry's.

Everything that leaves pixels out, and everything that could not, has a line for the user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfxjax.data.formats import read_image
from sfxjax.data.frames import FrameStack, ReadOptions
from sfxjax.data.geometry import Geometry, GeometryMask
from sfxjax.data.hdf5 import located
from sfxjax.data.masks import (
    FEWEST_GOOD,
    LoadedMask,
    good_pixels,
    load_mask,
    meaning,
    split_mask_name,
    without_ones,
)
from sfxjax.data.values_apart import Place
from sfxjax.errors import UserError
from sfxjax.files import is_file
from sfxjax.text import per_cent

MOST_KEPT = 4
# Of masks of single frames so many are looked at for a line about them.
_MASKS_LOOKED_AT = 8


@dataclass(frozen=True)
class SharedMask:
    """What all frames of a stack leave out.

    Attributes:
        good: bool of the stored frames' shape, False where a pixel does not count; None: all count.
        lines: what leaves out how many pixels, for the user.
    """

    good: np.ndarray | None
    lines: tuple[str, ...]


class StackMasks:
    """Reads the masks of stacks.

    Args:
        options: what the user says about the files.
        geometry: that the options name.
        values: reads a data set of a stack's file, by its path, or a part of it.
    """

    def __init__(
        self,
        options: ReadOptions,
        geometry: Geometry | None,
        values: Callable[[FrameStack, str, Place], np.ndarray],
    ) -> None:
        self._options = options
        self._geometry = geometry
        self._values = values
        self._kept: dict[tuple[object, ...], SharedMask] = {}
        self._files: dict[tuple[object, ...], LoadedMask] = {}

    def shared(self, stack: FrameStack) -> SharedMask:
        """Return what all frames of a stack leave out.

        Raises:
            UserError: a mask does not fit the frames, is missing or damaged, its polarity is not known, or it leaves next to no
                pixel.
        """
        own = (stack.file, *stack.mask_datasets, stack.frame_masks)
        # A geometry may name a mask of each part.
        part = "" if self._geometry is None else stack.event_path
        key = (stack.raw_shape, part, stack.mask_bits, *(own if any(own[1:]) else ()))
        if key not in self._kept:
            while len(self._kept) >= MOST_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = self._read(stack)
        return self._kept[key]

    def frame(self, stack: FrameStack, values: np.ndarray) -> np.ndarray:
        """Return the good pixels of what a frame's own mask holds, bool of its shape."""
        return good_pixels(values, *self._own_convention(stack, values.dtype))

    def replaced(self, stack: FrameStack) -> bool:
        """Tell whether the user names a mask in the frames' file, or where their mask was found: it replaces what was found."""
        if self._options.mask is None or stack.format:
            return False
        path = split_mask_name(self._options.mask)[0]
        found = [
            located(Path(stack.file), name)[0] for name in (*stack.mask_datasets, stack.frame_masks) if name
        ]
        return path.is_file() and any(
            path.samefile(file) for file in (Path(stack.file), *found) if is_file(file)
        )

    def _read(self, stack: FrameStack) -> SharedMask:
        good: np.ndarray | None = None
        lines: list[str] = []

        def leave_out(values: np.ndarray, what: str) -> None:
            nonlocal good
            fitted = _fitted(values, stack, what)
            lines.append(f"{what}: {left_out(fitted)}")
            good = fitted if good is None else good & fitted

        geometry, options = self._geometry, self._options
        if geometry is not None:
            inside = geometry.good(stack.raw_shape)
            if not inside.all():
                leave_out(inside, f"geometry {options.geometry}, outside its panels or in bad regions")
            if geometry.has_flags:
                lines.append(f"geometry {options.geometry}: pixels are also left out by its flag values")
            for named in geometry.masks:
                if named.file is not None:
                    mask = self._of_geometry(named, stack)
                    leave_out(mask.good, f"mask {mask.where} of the geometry ({mask.meaning})")
        if self.replaced(stack):
            names = [name for name in (*stack.mask_datasets, stack.frame_masks) if name]
            if names:
                lines.append(
                    f"{stack.file}: its mask {' and '.join(names)} is replaced by {options.mask}, which you named"
                )
        else:
            for name in stack.mask_datasets:
                leave_out(*self._of_file(stack, name))
            if stack.frame_masks and stack.frames:
                lines.append(self._of_frames(stack))
        if options.mask is not None:
            mask = self._load(options.mask, options.mask_good, (options.good_bits, options.bad_bits))
            leave_out(mask.good, f"mask {mask.where} ({mask.meaning})")
        if good is not None and not good.any():
            raise UserError(f"{stack.file}: no pixel is left by the masks together: {'; '.join(lines)}")
        return SharedMask(None if good is None or good.all() else good, tuple(lines))

    def _of_file(self, stack: FrameStack, name: str) -> tuple[np.ndarray, str]:
        """Return a mask in the frames' own file that all share, with its name."""
        ((good, words),) = self._looked_at(stack, name, [()])
        return good, f"mask {_where(name)} ({words})"

    def _of_frames(self, stack: FrameStack) -> str:
        """Say what the masks of single frames leave out, which are read with the frames, by some of them."""
        numbers = np.unique(np.linspace(0, stack.frames - 1, min(stack.frames, _MASKS_LOOKED_AT)).astype(int))
        places = [stack.place(stack.first_mask + int(number)) for number in numbers]
        found = self._looked_at(stack, stack.frame_masks, places)
        counts = sorted(int(good.size - np.count_nonzero(good)) for good, _ in found)
        pixels = f"{counts[0]:,}" + (f" to {counts[-1]:,}" if counts[-1] > counts[0] else "")
        looked_at = "" if len(numbers) == stack.frames else f" of {len(numbers)} frames looked at"
        return (
            f"a mask of each frame, {_where(stack.frame_masks)} ({found[0][1]}): {pixels} of {found[0][0].size:,} pixels "
            f"left out{looked_at}"
        )

    def _looked_at(
        self, stack: FrameStack, name: str, places: Sequence[Place]
    ) -> list[tuple[np.ndarray, str]]:
        """Read parts of a mask's data set: their good pixels, and what its values mean.

        Raises:
            UserError: none of them leaves more than next to no pixel.
        """
        try:
            parts = [self._values(stack, name, place) for place in places]
        except UserError as error:
            raise UserError(f"{stack.file}: its mask {name}: {error}") from error
        convention = self._own_convention(stack, parts[0].dtype)
        goods = [good_pixels(values, *convention) for values in parts]
        words = meaning(*convention)
        most = max(float(np.mean(good)) for good in goods)
        if most < FEWEST_GOOD:
            raise UserError(
                f"{stack.file}: its mask {name} leaves {100 * most:.2g} % of the pixels if {words}; "
                f"{_way_out(convention, self._options.mask_good)}"
            )
        return [(good, words) for good in goods]

    def _own_convention(self, stack: FrameStack, dtype: np.dtype) -> tuple[int, int | None, int | None]:
        """Return what masks in the frames' file mean, as `good_pixels` takes it: by the user, the geometry, the layout."""
        options = self._options
        own = None if self._geometry is None else self._geometry.own_mask
        if options.mask is None or self.replaced(stack):
            if (options.good_bits, options.bad_bits) != (None, None):
                return 0, options.good_bits, options.bad_bits
            if options.mask_good is not None:
                return options.mask_good, None, None
        if own is not None and (own.good_bits, own.bad_bits) != (None, None):
            return 0, own.good_bits, own.bad_bits
        # Several masks in a file may be of different types.
        return 0, None, stack.mask_bits if dtype.kind in "iu" else None

    def _of_geometry(self, named: GeometryMask, stack: FrameStack) -> LoadedMask:
        """Read a mask that the geometry keeps in a file: in the working folder, as CrystFEL has it, or beside the geometry."""
        assert named.file is not None and self._options.geometry is not None
        places = [Path(named.file), Path(self._options.geometry).parent / named.file]
        found = next((place for place in places if is_file(place)), None)
        if found is None:
            raise UserError(
                f"{self._options.geometry}: its mask file {named.file} is neither in the working folder nor beside the geometry"
            )
        bits = named.good_bits, named.bad_bits
        name = named.data.replace("%", stack.event_path)
        return self._load(f"{found}:{name}", None if bits != (None, None) else 0, bits)

    def _load(self, text: str, mask_good: int | None, bits: tuple[int | None, int | None]) -> LoadedMask:
        key = (text, mask_good, bits)
        if key not in self._files:
            allow = self._options.allow_links
            self._files[key] = load_mask(text, mask_good, *bits, allow_links=allow, read_image=read_image)
        return self._files[key]


def check_used(options: ReadOptions, stacks: Iterable[FrameStack]) -> None:
    """Refuse what the user says of masks or data sets that there are not.

    Args:
        options: what the user says about the files.
        stacks: of the run.

    Raises:
        UserError: a polarity or bits where no mask is given or found, or a data set where no file is HDF5.
    """
    readable = [stack for stack in stacks if not stack.unreadable]
    if not readable:
        return
    said = {
        "--mask-good": options.mask_good,
        "--good-bits": options.good_bits,
        "--bad-bits": options.bad_bits,
    }
    given = [option for option, value in said.items() if value is not None]
    if (
        given
        and options.mask is None
        and not any(each.mask_datasets or each.frame_masks for each in readable)
    ):
        raise UserError(
            f"{' and '.join(given)} without a mask: there is none in the files; name one by --mask, or leave the option out"
        )
    if options.dataset is not None and all(stack.format for stack in readable):
        raise UserError(f"--dataset {options.dataset}: none of the files is HDF5; leave it out")


def _where(name: str) -> str:
    return f"{name}, of a file that goes with the frames" if ":/" in name else f"{name} in the frames' file"


def left_out(good: np.ndarray) -> str:
    """Say how many pixels a mask leaves out."""
    count = int(good.size - np.count_nonzero(good))
    return f"{count:,} of {good.size:,} pixels ({per_cent(count / max(good.size, 1))}) left out"


def _fitted(values: np.ndarray, stack: FrameStack, what: str) -> np.ndarray:
    """Give a mask the shape of the stored frames; axes of length 1 do not matter."""
    if without_ones(values.shape) != without_ones(stack.raw_shape):
        found, wanted = ("x".join(map(str, shape)) for shape in (values.shape, stack.raw_shape))
        raise UserError(f"{what}: the mask has {found} pixels, the frames of {stack.file} {wanted}")
    return values.reshape(stack.raw_shape)


def _way_out(convention: tuple[int, int | None, int | None], given: int | None) -> str:
    if given is not None:
        return f"give --mask-good {1 - given}?"
    if convention[1:] != (None, None):
        return "give the bits of faults with --bad-bits, or --mask-good 1 if 1 marks the good pixels"
    return "give --mask-good 1 if 1 marks the good pixels"
