"""What a stack of frames in an HDF5 file is: its size and type, its masks, and how much of it was written."""

from __future__ import annotations

from pathlib import Path

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
    masks: tuple[str, str] = ("", ""),
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
    notes: tuple[str, ...] = ()
    written = _written_frames(data) if stacked else frames
    if written < frames:
        notes = (f"{where}: {frames - written} of {frames} frames at the end were never written; left out",)
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
        mask_dataset=masks[0],
        frame_masks=masks[1],
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


def find_masks(
    files: Files, path: Path, data: h5py.Dataset, per_frame: tuple[str, ...], shared: tuple[str, ...]
) -> tuple[str, str]:
    """Find (shared mask, masks of single frames): they are told apart by their shape."""
    frame = data.shape[1:] if data.ndim >= 3 else data.shape
    found = ["", ""]
    for slot, names, shape in ((0, shared, frame), (1, per_frame, data.shape)):
        for name in names:
            mask = files.dataset(path, name)
            if mask is None or mask.dtype.kind not in "biu":
                continue
            fits = mask.shape == shape or (
                slot == 1 and mask.shape[1:] == shape[1:] and len(mask) >= len(data)
            )
            if fits and (slot == 0 or data.ndim >= 3):
                found[slot] = name
                break
    return found[0], found[1]


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
