"""What a stack of frames in an HDF5 file is: its size and type, its masks, and how much of it was written."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from sfxjax.data.frames import FrameStack, ReadOptions, check_size
from sfxjax.data.hdf5 import MAX_FRAMES, Files, missing_virtual_frames
from sfxjax.errors import UserError


def describe_stack(
    path: Path,
    data: h5py.Dataset,
    dataset: str,
    layout: str,
    options: ReadOptions,
    *,
    event_path: str = "",
    masks: Masks | None = None,
    centre: tuple[float, float] | None = None,
    negatives_bad: bool = False,
) -> FrameStack:
    """Describe the frames of a data set.

    Args:
        path: of the file.
        data: (frames, ss, fs), (frames, panels, ss, fs), or (ss, fs) of one frame.
        dataset: its path.
        layout: what wrote it, in words.
        options: of the user.
        event_path: path parts of CrystFEL's event.
        masks: data sets of a mask that all frames share, and of one mask a frame; empty where there is none.
        centre: (x, y) of the beam, pixels, if the file says it.
        negatives_bad: negative pixels mean "no value" in this layout.

    Raises:
        UserError: the data set holds no frames.
    """
    where = f"{path}: {dataset}"
    if data.shape is None or not 2 <= data.ndim <= 4:
        size = "no" if data.shape is None else f"{data.ndim}"
        raise UserError(f"{where} has {size} axes, where frames have 2 to 4; name the frames with --dataset")
    stacked = data.ndim > 2
    raw_shape = tuple(int(length) for length in (data.shape[1:] if stacked else data.shape))
    check_size(raw_shape, data.dtype, where)
    frames = int(data.shape[0]) if stacked else 1
    if frames > MAX_FRAMES:
        raise UserError(f"{where} claims {frames} frames; is the file damaged?")
    masks = Masks() if masks is None else masks
    notes = masks.notes
    written = _written_frames(data) if stacked else frames
    if written < frames:
        notes += (f"{where}: {frames - written} of {frames} frames at the end were never written; left out",)
    return FrameStack(
        file=str(path),
        layout=layout,
        dataset=dataset,
        event_path=event_path,
        frames=written,
        stacked=stacked,
        raw_shape=raw_shape,
        dtype=data.dtype.newbyteorder("=").str,
        shape=(raw_shape[-2], raw_shape[-1]),
        centre=centre,
        mask_dataset=masks.shared,
        frame_masks=masks.single,
        negatives_bad=negatives_bad,
        missing=tuple(missing_virtual_frames(data)),
        notes=notes,
    )


def first_data_set(files: Files, path: Path, names: tuple[str, ...]) -> tuple[str, h5py.Dataset | None]:
    """Return the first of some data sets that is there, and its path."""
    for name in names:
        data = files.dataset(path, name)
        if data is not None:
            return name, data
    return "", None


class Masks(NamedTuple):
    """The masks of a stack of frames in its own file.

    Attributes:
        shared: data set of the mask that holds for all frames; empty if there is none.
        single: data set of one mask a frame; empty if there is none.
        notes: what the user should be told of masks that are there and are not used.
    """

    shared: str = ""
    single: str = ""
    notes: tuple[str, ...] = ()


def find_masks(
    files: Files, path: Path, data: h5py.Dataset, names: tuple[str, ...], *, single: bool = True
) -> Masks:
    """Find the masks of a stack of frames: one for all and one a frame are told apart by their shape.

    Axes of length 1 do not matter. A mask of another shape, or not of numbers, is not used, which a note says.

    Args:
        files: opens the file.
        path: of the file.
        data: the frames.
        names: where masks may be, the first that fits of either kind being taken.
        single: whether a mask for each frame counts the frames of this data set; not where several data sets hold them.
    """
    frame = data.shape[1:] if data.ndim >= 3 else data.shape
    found = {"shared": "", "single": ""}
    notes = []
    for name in names:
        mask = files.dataset(path, name)
        if mask is None or mask.shape is None:
            continue
        kind = ""
        if mask.dtype.kind in "biuf":
            if _without_ones(mask.shape) == _without_ones(frame):
                kind = "shared"
            elif data.ndim >= 3 and mask.shape[1:] == frame and single and len(mask) >= len(data):
                kind = "single"
        if kind:
            found[kind] = found[kind] or name
        elif mask.dtype.kind in "biuf" and not any(found.values()):
            here, there = ("x".join(map(str, shape)) for shape in (mask.shape, frame))
            notes.append(
                f"{path}: the mask {name} of shape {here} is not used: the frames have {there} pixels"
            )
    return Masks(found["shared"], found["single"], () if any(found.values()) else tuple(notes))


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(length for length in shape if length != 1)


def _written_frames(data: h5py.Dataset) -> int:
    """Count the frames up to the last one of which something is on disk: stacks can be over-allocated."""
    frames = int(data.shape[0])
    if data.chunks is None or data.is_virtual:
        early = data.external or data.is_virtual or data.id.get_storage_size() > 0
        return frames if early else 0
    stored = data.id.get_num_chunks()
    grid = [-(-length // chunk) for length, chunk in zip(data.shape, data.chunks, strict=True)]
    if stored == int(np.prod([float(count) for count in grid])):
        return frames
    # HDF5 lists chunks in no promised order, so each is looked at; beyond this number that takes too long.
    if stored > 200_000:
        return frames
    last = max((data.id.get_chunk_info(k).chunk_offset[0] for k in range(stored)), default=-data.chunks[0])
    return min(frames, int(last) + data.chunks[0])
