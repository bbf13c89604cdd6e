"""Finds the frames in HDF5 files: by the layouts that beamlines write, each in its own module, or by a path that is named."""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sfxjax.data.formats import cxi, cxidb76, nexus
from sfxjax.data.formats.detector import MasksCounted, complete, masks_counted
from sfxjax.data.formats.generic import image_sets, only_frames
from sfxjax.data.formats.hdf5_stack import StackPart, describe_parts, describe_stack, open_part, part_keys
from sfxjax.data.formats.unread import unread_stacks
from sfxjax.data.frames import FrameStack, ReadOptions
from sfxjax.data.geometry import Geometry
from sfxjax.data.hdf5 import Files
from sfxjax.data.masks import split_mask_name, without_ones
from sfxjax.data.opening import damage_named
from sfxjax.errors import UserError
from sfxjax.files import is_file

_DIGITS = re.compile(r"\d+")
# The first that knows a file has it.
LAYOUTS = (cxidb76, cxi, nexus)


def hdf5_stacks(
    files: Files, name: str, options: ReadOptions, geometry: Geometry | None = None
) -> list[FrameStack]:
    """Describe the frames of one HDF5 file, in their order.

    Args:
        files: opens it.
        name: path of the file as the user gave it.
        options: of the user.
        geometry: that `options` names.

    Raises:
        UserError: there are no frames, or more than one data set could be meant.
    """
    path = Path(name)
    stacks = _found(files, path, options, geometry)
    stacks = complete(files, path, stacks, _named_masks(path, options, geometry))
    return _with_geometry(files, stacks, geometry, options)


def _named_masks(path: Path, options: ReadOptions, geometry: Geometry | None) -> list[str]:
    """List patterns of the masks in a file that the user or the geometry names."""
    found = []
    if geometry is not None and geometry.own_mask is not None:
        found.append(geometry.own_mask.data.replace("%", "*"))
    if options.mask is not None:
        file, inner = split_mask_name(options.mask)
        if inner and is_file(file) and file.samefile(path):
            found.append(inner)
    return [f"/{name.strip('/')}" for name in found]


def _found(files: Files, path: Path, options: ReadOptions, geometry: Geometry | None) -> list[FrameStack]:
    axis = 0 if geometry is None else geometry.frame_axis
    if options.dataset is None and geometry is not None and geometry.data is not None:
        # The geometry's path, unless this file keeps its frames elsewhere.
        named: list[FrameStack] = []
        with contextlib.suppress(_NoDataSet):
            named = _named(files, path, replace(options, dataset=geometry.data), axis)
        if named:
            return named
    if options.dataset is not None:
        return _named(files, path, options, axis)
    for layout in LAYOUTS:
        stacks = layout.find(files, path, options)
        if stacks:
            others = unread_stacks(files, path, stacks)
            stacks = [replace(stacks[0], notes=(*stacks[0].notes, *others)), *stacks[1:]]
        if stacks and geometry is not None and geometry.data is not None:
            note = f"{path}: {geometry.data}, where the geometry has the frames, is not in it; {stacks[0].dataset} is read"
            return [replace(stacks[0], notes=(*stacks[0].notes, note)), *stacks[1:]]
        if stacks:
            return stacks
    clear = only_frames(files, path, options)
    if clear:
        stacks = _named(files, path, replace(options, dataset=clear), axis)
        note = f"{path}: no known layout; its frames are taken from {clear}, where alone they can be"
        return [replace(stacks[0], notes=(*stacks[0].notes, note)), *stacks[1:]]
    raise UserError(
        f"{path}: no frames where known layouts have them; name them with --dataset ({_contents(files, path)})"
    )


def _contents(files: Files, path: Path) -> str:
    candidates = [f"{name} {'x'.join(map(str, shape))}" for name, shape in image_sets(files, path).items()]
    candidates = candidates or _likely_data_sets(files.open(path))
    return f"it holds {', '.join(candidates[:6])}" if candidates else "it holds no stack of images"


class _NoDataSet(UserError):
    """The file holds no data set of the name."""


def _with_geometry(
    files: Files, stacks: list[FrameStack], geometry: Geometry | None, options: ReadOptions
) -> list[FrameStack]:
    """Apply a geometry to the frames; without one, refuse frames of several panels."""
    placed = []
    for stack, count in zip(stacks, masks_counted(stacks), strict=True):
        where = f"{stack.file}: {stack.dataset}"
        if geometry is None:
            if len(stack.raw_shape) == 3 and stack.raw_shape[0] > 1 and not options.panels_apart:
                raise UserError(
                    f"{where} has frames of {stack.raw_shape[0]} panels; "
                    "give their places with --geometry FILE.geom"
                )
            placed.append(stack)
            continue
        if stack.stacked and stack.frames and geometry.axes == len(stack.raw_shape) + 1:
            # One frame of several panels, where a stack of frames was supposed.
            raw_shape = (stack.frames, *stack.raw_shape)
            stack = replace(stack, raw_shape=raw_shape, frames=1, stacked=False, frame_axis=0)
        geometry.check(stack.raw_shape, where)
        stack = _masked(files, stack, geometry, count)
        if not placed:
            stack = replace(stack, notes=(*stack.notes, *geometry.notes))
        if not options.panels_apart:
            stack = replace(stack, assembled=True, shape=geometry.extent(), centre=None)
        placed.append(stack)
    return placed


def _masked(files: Files, stack: FrameStack, geometry: Geometry, count: MasksCounted) -> FrameStack:
    """Take the mask that a geometry names in the frames' file instead of the one that the layout has."""
    mask = geometry.own_mask
    if mask is None or stack.unreadable:
        return stack
    name = "/" + mask.data.replace("%", stack.event_path).strip("/")
    data = files.dataset(Path(stack.file), name)
    if data is None:
        raise UserError(
            f"{stack.file}: the mask {name} that the geometry names is not in it; leave it out of the geometry, or "
            "name the right one"
        )
    others = [other for other in (*stack.mask_datasets, stack.frame_masks) if other not in ("", name)]
    if others:
        note = f"{stack.file}: the mask {' and '.join(others)} is not used, since the geometry names {name}"
        stack = replace(stack, notes=(*stack.notes, note))
    if without_ones(data.shape or ()) == without_ones(stack.raw_shape):
        return replace(stack, mask_datasets=(name,), frame_masks="")
    axis = stack.frame_axis
    if stack.stacked and data.ndim == len(stack.raw_shape) + 1:
        one = (*data.shape[:axis], *data.shape[axis + 1 :])
        own = count.own or count.frames is None or "%" in mask.data
        frames, first = (stack.frames, 0) if own else (count.frames, count.first)
        if one == stack.raw_shape and data.shape[axis] >= frames:
            return replace(stack, mask_datasets=(), frame_masks=name, first_mask=first)
    found, wanted = ("x".join(map(str, shape)) for shape in (data.shape, stack.raw_shape))
    raise UserError(f"{stack.file}: the mask {name} of the geometry has {found} pixels, the frames {wanted}")


def _of_a_layout(files: Files, path: Path, options: ReadOptions, name: str) -> list[FrameStack]:
    """Find frames that are named where a layout has them, for the masks and the beam centre it has with them."""
    if cxi.is_place(name):
        return cxi.find(files, path, options, name)
    if name.startswith(f"{nexus.NEXUS_DATA}/"):
        found = nexus.find(files, path, options)
        return [replace(stack, event_path="") for stack in found if stack.dataset == name]
    return []


def _named(files: Files, path: Path, options: ReadOptions, axis: int = 0) -> list[FrameStack]:
    pattern = "/" + (options.dataset or "").strip("/")
    if "%" not in pattern:
        data = files.dataset(path, pattern)
        if data is None:
            raise _NoDataSet(f"{path}: no data set {pattern}; {_contents(files, path)}")
        known = _of_a_layout(files, path, options, pattern) if axis == 0 else []
        return known or [describe_stack(path, data, pattern, "HDF5", options, frame_axis=axis)]
    head, _, tail = pattern.partition("%")
    folder, _, prefix = head.rpartition("/")
    group = files.get(path, folder or "/")
    parts = []
    if isinstance(group, h5py.Group):
        rest = tail.partition("/")[0]
        for key in part_keys(group, path):
            if key.startswith(prefix) and key.endswith(rest) and len(key) >= len(prefix) + len(rest):
                event = key[len(prefix) : len(key) - len(rest) or None]
                parts.append(open_part(files, path, f"{head}{event}{tail}", event))
        if not (prefix or rest):
            # Of groups that were never to hold frames the names are others, and not only in their numbers.
            alike = {
                _DIGITS.sub("0", part.event_path)
                for part in parts
                if isinstance(part.data, h5py.Dataset) and part.data.ndim > 1
            }
            parts = [part for part in parts if _DIGITS.sub("0", part.event_path) in alike]
    if not any(part.data is not None for part in parts):
        raise _NoDataSet(f"{path}: no data set fits {pattern}; {_contents(files, path)}")

    def describe(part: StackPart) -> FrameStack:
        assert isinstance(part.data, h5py.Dataset)
        if axis == 0 and cxi.is_place(part.dataset):
            return cxi.find(files, path, options, part.dataset, part.event_path)[0]
        return describe_stack(
            path, part.data, part.dataset, "HDF5", options, event_path=part.event_path, frame_axis=axis
        )

    return describe_parts(parts, describe)


def says_simulated(files: Files, path: Path) -> bool:
    """Tell whether an HDF5 file says that its frames were not measured."""
    with damage_named(f"{path}: what it says of its frames"):
        stored = files.get(path, "/metadata/simulated")
        if isinstance(stored, h5py.Dataset):
            value = files.values(stored) if stored.size == 1 and stored.dtype.kind in "biuf" else True
        else:
            value = files.open(path).attrs.get("simulated", False)
        # A mark of any other kind than a number still is one: simulated frames never pass for measured ones.
        return np.asarray(value).dtype.kind not in "biuf" or bool(np.all(value))


def _likely_data_sets(file: h5py.File, limit: int = 6) -> list[str]:
    """List data sets that could be stacks of frames; links are not followed."""
    found: list[str] = []

    def visit(name: str, item: Any) -> bool | None:
        image = isinstance(item, h5py.Dataset) and item.ndim >= 2 and item.dtype.kind in "iuf"
        if image and min(item.shape[-2:]) >= 16:
            found.append(f"/{name} {'x'.join(map(str, item.shape))}")
        return True if len(found) >= limit else None

    with contextlib.suppress(OSError, RuntimeError, ValueError, TypeError, KeyError, UnicodeError):
        file.visititems(visit)
    return found
