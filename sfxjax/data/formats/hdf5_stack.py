"""What a stack of frames in an HDF5 file is: its size and type, its masks, and how much of it was written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from sfxjax.data.formats.file_masks import Masks
from sfxjax.data.frames import FrameStack, ReadOptions, check_size, unreadable_part
from sfxjax.data.hdf5 import MAX_FRAMES, Files
from sfxjax.data.unwritten import MOST_LISTED_CHUNKS, stored_chunks, whole_grid
from sfxjax.data.virtual_sets import missing_virtual_frames
from sfxjax.errors import UserError

MOST_PARTS = 100_000

# Strips of so few rows or columns are no frames.
MOST_NARROW = 64
# Frames of several panels: more of them are rows of an image; and a last axis so short counts colours, or nothing.
MOST_PANELS, MOST_COLOURS = 256, 4
# Writers leave out some frames; where so many more than are written are empty, or so few all in all, nobody wrote them.
MOST_EMPTY, FEW_FRAMES = 64, 10_000
_LEFT_OUT = "frames at the end were never written; left out"


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
    frame_axis: int = 0,
    mask_bits: int | None = None,
) -> FrameStack:
    """Describe the frames of a data set.

    Args:
        path: of the file.
        data: (frames, ss, fs), (frames, panels, ss, fs), or (ss, fs) of one frame.
        dataset: its path.
        layout: what wrote it, in words.
        options: of the user.
        event_path: path parts of CrystFEL's event.
        masks: in the file.
        centre: (x, y) of the beam, pixels, if the file says it.
        negatives_bad: negative pixels mean "no value" in this layout.
        frame_axis: axis that counts the frames, if there are several.
        mask_bits: bits of the masks that are faults; None: all are.

    Raises:
        UserError: the data set holds no frames, or its axes are in another order.
    """
    where = f"{path}: {dataset}"
    if data.shape is None or not 2 <= data.ndim <= 4:
        size = "no" if data.shape is None else f"{data.ndim}"
        raise UserError(f"{where} has {size} axes, where frames have 2 to 4; name the frames with --dataset")
    stacked = data.ndim > 2
    frame_axis = frame_axis if stacked and frame_axis < data.ndim else 0
    raw_shape = tuple(int(n) for axis, n in enumerate(data.shape) if not (stacked and axis == frame_axis))
    check_size(raw_shape, data.dtype, where)
    frames = int(data.shape[frame_axis]) if stacked else 1
    if data.ndim == 3 and frame_axis == 0:
        _check_order(data.shape, where)
    elif data.ndim == 4 and frame_axis == 0:
        _check_panels(data.shape, where)
    if frames > MAX_FRAMES:
        raise UserError(f"{where} claims {frames} frames; is the file damaged?")
    masks = Masks() if masks is None else masks
    notes: tuple[str, ...] = ()
    written = written_frames(data, frame_axis) if stacked else frames
    if stacked:
        notes += _chunk_notes(data, where, frame_axis)
    if written < frames:
        notes += (f"{where}: {frames - written} of {frames} {_LEFT_OUT}",)
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
        mask_datasets=masks.shared,
        frame_masks=masks.single,
        negatives_bad=negatives_bad,
        missing=tuple(missing_virtual_frames(data)),
        notes=notes,
        frame_axis=frame_axis,
        mask_bits=mask_bits,
    )


class StackPart(NamedTuple):
    """One of several data sets of a file that hold its frames.

    Attributes:
        dataset: its path.
        event_path: path parts of CrystFEL's event.
        data: it; None where there is none; or why it cannot be opened.
        frames: how many it has if it cannot be read, as far as that is known.
    """

    dataset: str
    event_path: str
    data: h5py.Dataset | str | None
    frames: int = 1


def part_keys(group: h5py.Group, path: Path) -> list[str]:
    """Return the names in a group whose members are to be looked at one by one, sorted.

    Raises:
        UserError: there are more than any run has, each of which takes a millisecond.
    """
    if len(group) > MOST_PARTS:
        raise UserError(
            f"{path}: {group.name} holds {len(group):,} groups or data sets, more than {MOST_PARTS:,}; split the file"
        )
    return sorted(group)


def open_part(files: Files, path: Path, dataset: str, event_path: str) -> StackPart:
    """Open one of several data sets."""
    try:
        return StackPart(dataset, event_path, files.dataset(path, dataset))
    except UserError as error:
        return StackPart(dataset, event_path, str(error))


def describe_parts(
    parts: Sequence[StackPart], describe: Callable[[StackPart], FrameStack]
) -> list[FrameStack]:
    """Describe the parts of a file in order; one that cannot be read costs its own frames alone.

    Args:
        parts: of the file.
        describe: describes one that was opened.

    Raises:
        UserError: none can be read; the reason of the first.
    """
    found: list[FrameStack | str] = []
    for part in parts:
        if not isinstance(part.data, h5py.Dataset):
            found.append(part.data or f"there is no data set {part.dataset}")
            continue
        try:
            found.append(describe(part))
        except UserError as error:
            found.append(str(error))
    readable = [stack for stack in found if isinstance(stack, FrameStack)]
    if not readable:
        raise UserError(next((why for why in found if isinstance(why, str)), "there are no frames"))
    last = max((place for place, one in enumerate(found) if isinstance(one, str) or one.frames), default=0)
    return [
        unreadable_part(readable[0], part.dataset, part.event_path, stack, part.frames)
        if isinstance(stack, str)
        else _with_all_frames(stack, part)
        if place < last
        else stack
        for place, (part, stack) in enumerate(zip(parts, found, strict=True))
    ]


def _with_all_frames(stack: FrameStack, part: StackPart) -> FrameStack:
    """Return a part with the frames that were left out since they were never written: others follow, so that they are lost."""
    assert isinstance(part.data, h5py.Dataset)
    frames = int(part.data.shape[stack.frame_axis]) if stack.stacked else 1
    if frames == stack.frames:
        return stack
    return replace(stack, frames=frames, notes=tuple(note for note in stack.notes if _LEFT_OUT not in note))


def _check_order(shape: tuple[int, ...], where: str) -> None:
    """Refuse strips: "frames" of far fewer rows or columns than there are of them."""
    narrow = 1 if shape[1] <= shape[2] else 2
    others = [length for axis, length in enumerate(shape) if axis != narrow]
    if shape[narrow] < MOST_NARROW and min(others) > 4 * max(shape[narrow], 16):
        order = ("dim0 = ss, dim1 = %, dim2 = fs", "dim0 = ss, dim1 = fs, dim2 = %")[narrow - 1]
        size = "x".join(map(str, shape))
        raise UserError(
            f"{where}: of the shape {size} would be {shape[0]} frames of {shape[1]}x{shape[2]} pixels; if it is "
            f"{shape[narrow]} frames of {others[0]}x{others[1]}, say so with a --geometry that has {order}"
        )


def _check_panels(shape: tuple[int, ...], where: str) -> None:
    """Refuse panels that are rows of an image: the axes of ss and fs are the last two."""
    frames, panels, ss, fs = shape
    size = "x".join(map(str, shape))
    why = f"{where}: of the shape {size} would be {frames} frames of {panels} panels of {ss}x{fs} pixels"
    if fs <= MOST_COLOURS:
        raise UserError(
            f"{why}; fs is to be the last axis: write {frames}x{panels}x{ss} pixels, one of each place"
        )
    if panels > MOST_PANELS:
        raise UserError(f"{why}, more than any detector has; write them with the axes frames, panels, ss, fs")


def first_data_set(files: Files, path: Path, names: tuple[str, ...]) -> tuple[str, h5py.Dataset | None]:
    """Return the first of some data sets that is there, and its path."""
    for name in names:
        data = files.dataset(path, name)
        if data is not None:
            return name, data
    return "", None


def written_frames(data: h5py.Dataset, axis: int = 0) -> int:
    """Count the frames up to the last one of which something is on disk: stacks can be over-allocated."""
    frames = int(data.shape[axis])
    if data.chunks is None or data.is_virtual:
        early = data.external or data.is_virtual or data.id.get_storage_size() > 0
        return frames if early else 0
    chunks, length = stored_chunks(data, axis), int(data.chunks[axis])
    if chunks is None:
        return frames
    written = min(frames, (max(chunks, default=-1) + 1) * length)
    if written > MOST_EMPTY * len(chunks) * length + FEW_FRAMES:
        raise UserError(
            f"{data.file.filename}: {data.name} claims {written} frames, of which at most {len(chunks) * length} "
            "were written; is the file damaged?"
        )
    return written


def _chunk_notes(data: h5py.Dataset, where: str, axis: int) -> tuple[str, ...]:
    """Say what of a stack's frames may hold values that nobody wrote, without being wholly empty."""
    if data.chunks is None or data.is_virtual:
        return ()
    grid = whole_grid(data)
    room = int(np.prod([float(count) for count in grid]))
    stored = data.id.get_num_chunks()
    if MOST_LISTED_CHUNKS < stored < room:
        return (
            f"{where}: {room - stored} of {room} chunks were never written; they are too many to tell in which frames",
        )
    each = room // max(grid[axis], 1)
    chunks = stored_chunks(data, axis) if each > 1 else None
    parts = sum(count < each for count in chunks.values()) if chunks else 0
    if not parts:
        return ()
    frames = min(parts * int(data.chunks[axis]), int(data.shape[axis]))
    return (
        f"{where}: parts of {frames} frames were never written, where all pixels read {data.fillvalue}; check its writer",
    )
