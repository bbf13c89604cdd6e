"""What a run consists of: stacks of frames in files, described so that another process can read them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sfxjax.errors import UserError

# Of a frame: four times those of the largest detectors.
MOST_PIXELS = 2**26


class Setup(NamedTuple):
    """Where a flat detector stands, as a file states it.

    Attributes:
        distance: from the sample, metres.
        wavelength: of the beam, Angstrom.
        pixel_width: along fs, metres.
        pixel_height: along ss, metres.
    """

    distance: float
    wavelength: float
    pixel_width: float
    pixel_height: float


@dataclass(frozen=True, repr=False)
class FrameStack:
    """One stack of frames, or one single image.

    Attributes:
        file: as the user gave it, or found in a folder given.
        layout: what wrote it, in words, such as "Cheetah CXI".
        dataset: path of the HDF5 data set; empty for single images.
        event_path: path parts of CrystFEL's event, such as "chunk_0"; usually empty.
        frames: how many; for an allocated but unwritten tail, how many are written.
        stacked: the data set's first axis counts the frames.
        raw_shape: of one frame as stored, (ss, fs) or (panel, ss, fs).
        dtype: of the pixels.
        shape: (ss, fs) of one frame once its panels are assembled, pixels.
        assembled: the crop is put together from panels by a geometry, with the beam in its middle.
        centre: (x, y) of the crop's centre, pixels from the first pixel's corner; None: the frame's centre.
        mask_datasets: data sets of masks shared by all frames, in the same file, or FILE:/PATH.
        frame_masks: data set of one mask a frame, likewise; empty if there is none.
        first_mask: number in `frame_masks` of the mask of the first frame.
        negatives_bad: negative pixels mean "no value" in this layout.
        missing: (first frame, last frame, why) of frames that the file knows of and that are not there.
        notes: what the user should be told.
        format: name in `sfxjax.data.formats.known_formats` of what reads it; empty for HDF5 files.
        frame_axis: axis of the data set that counts the frames.
        mask_bits: bits of the masks in the file that are faults; None: all are.
        limit: value from which pixels are invalid by the file's word; None: it says nothing.
        depths: numbers of bits that the file says the detector counts with.
        not_good: numbers of the frames that the file itself calls no good frames.
        by_plugin: a plug-in of HDF5 decompresses them, which a damaged frame may make crash: a process of its own reads them.
        setup: where the detector stands, by the file's word; None: it does not say all of it.
        unreadable: why none of its frames can be read: it stands for a part of a file that is damaged or missing.
    """

    file: str
    layout: str
    dataset: str
    event_path: str
    frames: int
    stacked: bool
    raw_shape: tuple[int, ...]
    dtype: str
    shape: tuple[int, int]
    assembled: bool = False
    centre: tuple[float, float] | None = None
    mask_datasets: tuple[str, ...] = ()
    frame_masks: str = ""
    first_mask: int = 0
    negatives_bad: bool = False
    missing: tuple[tuple[int, int, str], ...] = ()
    notes: tuple[str, ...] = ()
    format: str = ""
    frame_axis: int = 0
    mask_bits: int | None = None
    limit: float | None = None
    depths: tuple[int, ...] = ()
    not_good: tuple[int, ...] = ()
    by_plugin: bool = False
    setup: Setup | None = None
    unreadable: str = ""

    def __repr__(self) -> str:
        return f"FrameStack({self.describe()})"

    def event(self, frame: int) -> str:
        """Return CrystFEL's event of a frame: `<path parts>//<dim parts>`, counted from 0."""
        if not self.dataset and not self.stacked:
            return ""
        return f"{self.event_path}//{frame}" if self.stacked else f"{self.event_path}//"

    def place(self, frame: int | None, *slices: int | slice) -> tuple[int | slice, ...]:
        """Return where a frame lies in its data set, or a part of it; None: in an array of this frame alone."""
        if not self.stacked or frame is None:
            return slices
        whole = [*slices, *(slice(None),) * (len(self.raw_shape) - len(slices))]
        return (*whole[: self.frame_axis], frame, *whole[self.frame_axis :])

    def refuse_lost(self, frame: int) -> None:
        """Raise a UserError for a frame that is not there, or that the file itself calls no good one."""
        if self.unreadable:
            raise UserError(self.unreadable)
        for first, last, why in self.missing:
            if first <= frame <= last:
                raise UserError(why)
        if frame in self.not_good:
            raise UserError("the file's is_good_frame says that it is no good frame")

    def describe(self, last: str = "") -> str:
        """Return one line for the terminal, of the stacks up to one in the data set `last`."""
        size = "x".join(map(str, self.raw_shape))
        where = f" in {self.dataset}{f' to {last}' if last else ''}" if self.dataset else ""
        count = f"{self.frames} frame{'' if self.frames == 1 else 's'}"
        if self.unreadable:
            return f"{self.file}: {count}{where} cannot be read: {self.unreadable}"
        masks = " and ".join(filter(None, (*self.mask_datasets, self.frame_masks)))
        masked = f", mask {masks}" if masks else ""
        return f"{self.file}: {self.layout}, {count} of {size} {np.dtype(self.dtype).name}{where}{masked}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> FrameStack:
        """Make a stack of what `to_json` gave."""
        fields = dict(fields)
        for key in ("raw_shape", "shape", "centre", "notes", "depths", "not_good", "mask_datasets"):
            fields[key] = None if fields[key] is None else tuple(fields[key])
        fields["missing"] = tuple((int(a), int(b), str(c)) for a, b, c in fields["missing"])
        fields["setup"] = None if fields["setup"] is None else Setup(*fields["setup"])
        return cls(**fields)


def unreadable_part(
    like: FrameStack, dataset: str, event_path: str, reason: str, frames: int = 1
) -> FrameStack:
    """Return what stands for a part of a file that cannot be read, so that its frames have rows and a reason.

    Args:
        like: a part of the same file that can be read.
        dataset: path of this one.
        event_path: of this one.
        reason: why it cannot be read.
        frames: how many it has, as far as that is known.
    """
    return replace(
        like,
        dataset=dataset,
        event_path=event_path,
        frames=frames,
        mask_datasets=(),
        frame_masks="",
        missing=(),
        notes=(),
        not_good=(),
        unreadable=reason,
    )


def single_image(
    path: Path,
    layout: str,
    raw_shape: tuple[int, ...],
    dtype: np.dtype[Any],
    centre: tuple[float, float] | None = None,
) -> FrameStack:
    """Describe a file of one image, whose negative pixels mean "no value".

    Args:
        path: of the file.
        layout: what wrote it, in words.
        raw_shape: (ss, fs) or (panel, ss, fs).
        dtype: of the pixels.
        centre: (x, y) of the beam, pixels, if the file says it.

    Raises:
        UserError: it is no frame, see `check_size`.
    """
    check_size(raw_shape, dtype, str(path))
    return FrameStack(
        file=str(path),
        layout=layout,
        dataset="",
        event_path="",
        frames=1,
        stacked=False,
        raw_shape=raw_shape,
        dtype=dtype.newbyteorder("=").str,
        shape=(raw_shape[-2], raw_shape[-1]),
        centre=centre,
        negatives_bad=True,
    )


def describe_all(stacks: list[FrameStack]) -> list[str]:
    """Return a line for each file: the many data sets that a file may keep its frames in count as one."""
    alike: dict[tuple[Any, ...], list[FrameStack]] = {}
    for stack in stacks:
        key = (stack.file, stack.layout, stack.raw_shape, stack.dtype, stack.unreadable)
        alike.setdefault(key, []).append(stack)
    lines = []
    for first, *others in alike.values():
        every = replace(first, frames=first.frames + sum(other.frames for other in others))
        lines.append(every.describe(others[-1].dataset if others else ""))
    return lines


@dataclass(frozen=True)
class ReadOptions:
    """What the user says about the files.

    Attributes:
        dataset: path of the frames in HDF5 files; None: found by the layout.
        mask: FILE or FILE:PATH; None: the file's own masks.
        mask_good: value of good pixels in `mask`, 0 or 1; None: by the convention of the mask's format.
        good_bits: CrystFEL's goodbits; None with `bad_bits` None: every bit is bad.
        bad_bits: CrystFEL's badbits.
        geometry: CrystFEL geometry file.
        centre: (x, y) of the beam, pixels.
        allow_links: follow links out of the run's folder.
        growing: the files are still being written.
        panels_apart: frames of several panels need no geometry, each panel being looked at by itself.
    """

    dataset: str | None = None
    mask: str | None = None
    mask_good: int | None = None
    good_bits: int | None = None
    bad_bits: int | None = None
    geometry: str | None = None
    centre: tuple[float, float] | None = None
    allow_links: bool = False
    growing: bool = False
    panels_apart: bool = False

    def __post_init__(self) -> None:
        """Refuse two answers to one question, and names of nothing.

        Raises:
            UserError: a polarity and bits are both given, or an empty name.
        """
        for option in ("dataset", "mask", "geometry"):
            if getattr(self, option) is not None and not getattr(self, option).strip():
                raise UserError(f"--{option} names nothing; name one, or leave it out")
        if self.mask_good is not None and (self.good_bits, self.bad_bits) != (None, None):
            raise UserError(
                "--mask-good goes without --good-bits and --bad-bits, which say the same; give one"
            )


def pixel_type(dtypes: list[str]) -> np.dtype[Any]:
    """Return the type in which crops of these types are sent to the device, of at most 32 bits.

    64-bit integers and floats become float32, which JAX would make of them anyway.
    """
    kinds = {np.dtype(name).newbyteorder("=") for name in dtypes}
    common = np.result_type(*kinds)
    if common.kind == "b":
        return np.dtype(np.uint8)
    if common.itemsize > 4:
        return np.dtype(np.float32)
    return np.dtype(np.float32) if common.kind == "f" else common


def check_size(raw_shape: tuple[int, ...], dtype: np.dtype[Any], where: str) -> None:
    """Refuse frames that are no frames.

    Raises:
        UserError: other than 2 or 3 axes, no pixels, absurdly many, or no real numbers.
    """
    size = "x".join(map(str, raw_shape))
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise UserError(
            f"{where}: pixels of type {dtype} are no real numbers; name the frames with --dataset"
        )
    if not 2 <= len(raw_shape) <= 3 or min(raw_shape) < 1:
        raise UserError(f"{where}: {size} is not the shape of a frame; name the frames with --dataset")
    if prod(map(float, raw_shape)) > MOST_PIXELS:
        raise UserError(f"{where}: frames of {size} pixels are beyond belief; is the file damaged?")
