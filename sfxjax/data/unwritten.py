"""Which frames of an HDF5 data set nobody ever wrote: HDF5 reads them as a fill value, which looks like an empty frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np

from sfxjax.data.frames import FrameStack
from sfxjax.data.hdf5 import Files
from sfxjax.data.virtual_sets import linked
from sfxjax.errors import UserError

# More chunks take longer than some seconds to list.
MOST_LISTED_CHUNKS = 500_000
# Virtual data sets may be sources of others.
_MOST_SOURCES_DEEP = 4


class UnwrittenFrames:
    """Remembers which frames of the data sets of open files were never written."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], np.ndarray | None] = {}

    def clear(self) -> None:
        """Forget all."""
        self._known.clear()

    def refuse(self, files: Files, stack: FrameStack, data: h5py.Dataset, frame: int) -> None:
        """Refuse a frame that was never written.

        Args:
            files: opens the sources of virtual data sets.
            stack: that has the frame.
            data: its data set.
            frame: number from 0.

        Raises:
            UserError: it was not.
        """
        key = stack.file, stack.dataset
        if key not in self._known:
            self._known[key] = unwritten_frames(files, data, stack.frame_axis, stack.stacked)
        lost = self._known[key]
        if lost is not None and lost[frame]:
            raise UserError("the frame was never written: the file only has room for it")


def whole_grid(data: h5py.Dataset) -> list[int]:
    """Return the number of chunks that a chunked data set has room for along each axis."""
    return [-(-length // chunk) for length, chunk in zip(data.shape, data.chunks, strict=True)]


def stored_chunks(data: h5py.Dataset, axis: int) -> Counter[int] | None:
    """Count the chunks on disk by their place along an axis.

    Returns:
        How many there are, by place; None where all are there, or they are too many to list.
    """
    stored, length = data.id.get_num_chunks(), int(data.chunks[axis])
    if stored == int(np.prod([float(count) for count in whole_grid(data)])) or stored > MOST_LISTED_CHUNKS:
        return None
    found: Counter[int] = Counter()
    # HDF5 lists chunks in no promised order, so each is looked at, all in one go.
    data.id.chunk_iter(lambda chunk: found.update((int(chunk.chunk_offset[axis]) // length,)))
    return found


def is_unwritten(data: h5py.Dataset) -> bool:
    """Tell whether a data set has values of which none was ever written."""
    elsewhere = data.is_virtual or data.external
    return bool(data.size) and not elsewhere and data.id.get_storage_size() == 0


def unwritten_frames(
    files: Files, data: h5py.Dataset, axis: int, stacked: bool, left: int = _MOST_SOURCES_DEEP
) -> np.ndarray | None:
    """Tell which frames were never written, those of virtual data sets and their sources included.

    Of a chunk of several frames nobody knows which were written, and all count as written.

    Args:
        files: opens the sources of virtual data sets.
        data: the frames.
        axis: that counts them.
        stacked: whether there is such an axis; else the data set is one frame.
        left: how deep sources may lie.

    Returns:
        bool (frames,), True where nothing was written; None: all were, as far as can be told.
    """
    frames = int(data.shape[axis]) if stacked else 1
    lost = np.ones(frames, bool)
    if data.is_virtual:
        for places, inner in _sources(files, data, axis if stacked else None, frames, left):
            lost[places[~inner]] = False
    elif data.chunks is None:
        if not is_unwritten(data):
            return None
    else:
        chunks = stored_chunks(data, axis if stacked else 0)
        if chunks is None:
            return None
        length = int(data.chunks[axis]) if stacked else 1
        for place in chunks if stacked else [0] * bool(chunks):
            lost[place * length : (place + 1) * length] = False
    return lost if lost.any() else None


def _sources(
    files: Files, data: h5py.Dataset, axis: int | None, frames: int, left: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give for each source of a virtual data set the frames that it fills, and bool of as many: which of them it lacks."""
    own = Path(data.file.filename)
    known: dict[tuple[str, str], np.ndarray | None] = {}
    lengths: dict[tuple[str, str], int] = {}
    for source in data.virtual_sources():
        places = np.zeros(1, int) if axis is None else _selected(source.vspace, axis, frames)
        lost = np.zeros(len(places), bool)
        # Missing sources and patterns of names are told otherwise.
        if left > 0 and "%" not in source.file_name + source.dset_name:
            name = source.file_name, source.dset_name
            if name not in known:
                known[name] = None
                with suppress(UserError):
                    path = own if source.file_name == "." else linked(own, source.file_name)
                    inner = files.get(path, source.dset_name)
                    if isinstance(inner, h5py.Dataset) and inner.shape is not None and inner.ndim:
                        alike = inner.ndim > 2 and inner.shape[-2:] == data.shape[-2:] and axis == 0
                        lengths[name] = len(inner) if alike else frames
                        known[name] = unwritten_frames(files, inner, 0, inner.ndim > 2, left - 1)
            there, length = known[name], lengths.get(name, frames)
            if length < frames:
                # A source may be shorter than what is taken of it.
                lost[len(_selected(source.src_space, 0, length)) :] = True
            if there is not None:
                taken = _selected(source.src_space, 0, len(there)) if len(there) > 1 else np.zeros(1, int)
                # Where frames are not taken one for one, all of a source must be missing.
                lost |= there[taken] if len(taken) == len(places) else there[taken].all()
        yield places, lost


def _selected(space: h5py.h5s.SpaceID, axis: int, length: int) -> np.ndarray:
    """Return the places along an axis that a selection holds, of those below a length."""
    if space.get_select_type() == h5py.h5s.SEL_ALL:
        # Such a selection may be of no known extent.
        return np.arange(length)
    if space.get_select_type() == h5py.h5s.SEL_HYPERSLABS and space.is_regular_hyperslab():
        start, stride, count, block = (int(part[axis]) for part in space.get_regular_hyperslab())
        # The count may be without an end.
        firsts = np.arange(start, length, max(stride, 1))[: min(count, length)]
        places = (firsts[:, None] + np.arange(min(block, length))).reshape(-1)
    else:
        low, high = space.get_select_bounds()
        places = np.arange(int(low[axis]), int(high[axis]) + 1)
    return places[places < length]
