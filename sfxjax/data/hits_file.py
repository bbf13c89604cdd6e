"""A CXI file of the hits alone: their pixels as stored, in the type stored, and what the run's files say of them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import h5py
import numpy as np

from sfxjax.data.filters import by_plugin
from sfxjax.data.frames import FrameStack
from sfxjax.data.hdf5 import located
from sfxjax.data.new_hdf5 import NewHDF5
from sfxjax.data.opening import DAMAGE
from sfxjax.data.read import FrameReader
from sfxjax.errors import UserError
from sfxjax.text import first_few

DATA = "/entry_1/data_1/data"
DETECTOR_DATA = "/entry_1/instrument_1/detector_1/data"
OWN = "/entry_1/screening"
# A larger data set that does not belong to single frames is left out.
MOST_BUFFERED_BYTES = 64 * 2**20
# All that is copied takes at most so many times the frames' own bytes more.
_MOST_TIMES = 2
_COMPRESSED_FROM = 4096

_LAYOUTS_OWN = {DATA, DETECTOR_DATA}
_PER_FRAME = "/entry_1/per_frame"


def write_hits(
    reader: FrameReader,
    path: Path,
    chosen: list[tuple[FrameStack, list[int]]],
    indices: list[int],
    scores: list[float],
    results: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> dict[str, Any]:
    """Write frames to a CXI file.

    Frames lie in `/entry_1/data_1/data`, linked to `/entry_1/instrument_1/detector_1/data`. Data sets with one
    entry a frame are copied for these frames, under the same path, or under `/entry_1/per_frame` where they lie
    beside the frames; masks that all frames share and small others are copied whole, from the first file.
    `/entry_1/screening` says where each frame comes from.

    Args:
        reader: reads the frames.
        path: of the file; it must not exist.
        chosen: stacks and numbers of the frames, in order.
        indices: of the frames in the run.
        scores: of the frames.
        results: further data sets by their paths; what the files have in these groups, such as peaks of another program, is
            not copied beside them.

    Returns:
        `left_out`, the names of data sets that not all stacks have, that are damaged, or that are too large.

    Raises:
        UserError: the frames differ in shape or type.
        OSError: the disk is full, or a frame cannot be read.
    """
    chosen = [(stack, numbers) for stack, numbers in chosen if numbers]
    kinds = {(stack.raw_shape, stack.dtype) for stack, _ in chosen}
    if len(kinds) > 1:
        raise UserError(
            "hits of different shapes or types do not fit into one file; screen these files apart"
        )
    count = sum(len(numbers) for _, numbers in chosen)
    with NewHDF5(path) as file:
        raw_shape, dtype = next(iter(kinds), ((1, 1), "<u2"))
        if len(raw_shape) == 3 and raw_shape[0] == 1:
            raw_shape = raw_shape[1:]
        data = (
            file.create_dataset(
                DETECTOR_DATA,
                (count, *raw_shape),
                dtype,
                chunks=(1, *raw_shape),
                compression="gzip",
                compression_opts=1,
                shuffle=True,
            )
            if count
            else file.create_dataset(DETECTOR_DATA, (0, *raw_shape), dtype)
        )
        file[DATA] = h5py.SoftLink(DETECTOR_DATA)
        place = 0
        for stack, numbers in chosen:
            for number in numbers:
                data[place] = reader.original(stack, number).reshape(raw_shape)
                file.check()
                place += 1
        text = h5py.string_dtype()
        file[f"{OWN}/file"] = np.array([_utf8(s.file) for s, ns in chosen for _ in ns], object).astype(text)
        file[f"{OWN}/event"] = np.array([_utf8(s.event(n)) for s, ns in chosen for n in ns], object).astype(
            text
        )
        file[f"{OWN}/index"] = np.asarray(indices, np.int64)
        file[f"{OWN}/score"] = np.asarray(scores, np.float32)
        groups = {name.rpartition("/")[0] for name in results}
        left_out = _copy_metadata(reader, file, chosen, count, groups)
        for name, values in results.items():
            file[name] = values
        return {"left_out": left_out}


def line_of_lacking(names: list[str]) -> str:
    """Say what of the files `write_hits` left out."""
    return f"hits.cxi lacks {first_few(names)}: too large, damaged, or not in all files"


def _copy_metadata(
    reader: FrameReader,
    file: NewHDF5,
    chosen: list[tuple[FrameStack, list[int]]],
    count: int,
    replaced: set[str],
) -> list[str]:
    left_out: list[str] = []
    kept = [(stack, numbers) for stack, numbers in chosen if stack.dataset]
    if not kept or len(kept) < len(chosen):
        return left_out
    try:
        found = [_metadata(reader, stack, replaced) for stack, _ in kept]
    except DAMAGE:
        return ["all that the files say of their frames (damaged)"]
    # Data that compress well can unfold to many times the files they come from.
    room = MOST_BUFFERED_BYTES + _MOST_TIMES * sum(
        np.dtype(s.dtype).itemsize * math.prod(s.raw_shape) * len(n) for s, n in kept
    )
    for name, first in found[0][0].items():
        same = [one.get(name) for one, _ in found]
        if any(
            other is None or (other.shape[1:], other.dtype) != (first.shape[1:], first.dtype)
            for other in same
        ):
            left_out.append(name)
            continue
        entries = [
            (stack, data, number)
            for data, (stack, numbers) in zip(same, kept, strict=True)
            for number in numbers
            if data is not None
        ]
        copied = _copy(reader, file, name, first, (count, *first.shape[1:]), entries, room)
        if copied is None:
            left_out.append(name)
        else:
            room -= copied
    for name, data in found[0][1].items():
        if name not in file:
            copied = _copy(
                reader, file, name, data, data.shape, [(kept[0][0], data, ())], min(room, MOST_BUFFERED_BYTES)
            )
            if copied is None:
                left_out.append(name)
            else:
                room -= copied
    return left_out


def _copy(
    reader: FrameReader,
    file: h5py.File,
    name: str,
    like: h5py.Dataset,
    shape: tuple[int, ...],
    entries: list[tuple[FrameStack, h5py.Dataset, Any]],
    room: int,
) -> int | None:
    """Copy entries of data sets, one after the other, into a new one.

    Args:
        reader: of the stacks.
        file: that is written.
        name: path of the new data set.
        like: one of the data sets, for type and attributes.
        shape: of the new one; of a single entry `()` that entry's.
        entries: (stack, data set of its file, place) of each.
        room: most bytes to take.

    Returns:
        How many bytes were taken; None where they would be more than `room`, or where an entry is damaged.
    """
    taken = math.prod(shape) * like.dtype.itemsize
    numbers = like.dtype.kind in "biuf"

    def value(stack: FrameStack, data: h5py.Dataset, place: Any) -> Any:
        if not numbers:
            return data[place]
        return reader.values(stack, f"{data.file.filename}:{data.name}", () if place == () else (place,))

    try:
        if not numbers and any(by_plugin(data) for _, data, _ in entries):
            return None
        if like.dtype.kind == "O":
            # Texts of any length count by what they hold.
            for _, data, place in entries:
                taken += sum(len(text) for text in np.asarray(data[place], object).ravel())
                if taken > room:
                    return None
        if taken > room:
            return None
        large = len(shape) > 1 and taken > _COMPRESSED_FROM * shape[0]
        storage = {"chunks": (1, *shape[1:]), "compression": "gzip", "compression_opts": 1} if large else {}
        values = [] if large else [value(*entry) for entry in entries]
    except (UserError, *DAMAGE, MemoryError):
        return None
    target = file.create_dataset(name, shape, like.dtype, **storage)
    for row, entry in enumerate(entries):
        try:
            copied = value(*entry) if large else values[row]
        except (UserError, *DAMAGE, MemoryError):
            del file[name]
            return None
        target[() if entry[2] == () else row] = copied
    with contextlib.suppress(*DAMAGE):
        _copy_attributes(like, target)
    return taken


def _metadata(
    reader: FrameReader, stack: FrameStack, replaced: set[str]
) -> tuple[dict[str, h5py.Dataset], dict[str, h5py.Dataset]]:
    """Find data sets with one entry a frame, and others, by the path they will have. Links to masks alone are followed.

    Those in groups that are replaced are passed over.
    """
    frames = reader.dataset(stack)
    file = frames.file
    beside = stack.dataset.rpartition("/")[0]
    length = len(frames) if stack.stacked and stack.frame_axis == 0 else -1
    # As many rows or panels as there are frames do not make a shared mask one of each frame.
    masks = {located(Path(stack.file), name)[1]: reader.dataset(stack, name) for name in stack.mask_datasets}
    per_frame: dict[str, h5py.Dataset] = {}
    others: dict[str, h5py.Dataset] = {}

    def visit(name: str, item: Any) -> None:
        path = f"/{name}"
        if (
            not isinstance(item, h5py.Dataset)
            or item == frames
            or path in _LAYOUTS_OWN
            or path.startswith(OWN)
            or path.rpartition("/")[0] in replaced
        ):
            return
        if item.is_virtual or item.external or item.shape is None or item.dtype.kind not in "biufSUO":
            return
        if item.dtype.kind == "O" and h5py.check_string_dtype(item.dtype) is None:
            return
        if item in masks.values():
            others[path] = item
        elif item.ndim >= 1 and len(item) == length:
            if path.rpartition("/")[0] == beside and not path.startswith("/entry_1/"):
                path = f"{_PER_FRAME}/{path.rpartition('/')[2]}"
            per_frame[path] = item
        elif item.ndim < 3 and not (stack.layout == "CXIDB 76" and path.startswith("/data/")):
            others[path] = item

    file.visititems(visit)
    # Those of a master lie in another file than its frames; links to them are the names that geometries know.
    return per_frame, others | masks


def _copy_attributes(stack: h5py.Dataset, target: h5py.Dataset) -> None:
    for key, value in stack.attrs.items():
        if np.asarray(value).dtype.kind in "biufSU":
            target.attrs[key] = value


def _utf8(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
