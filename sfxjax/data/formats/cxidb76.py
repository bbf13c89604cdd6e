"""The layout of CXIDB 76 (Ke et al. 2018), and of this library's simulated sets: `/data/<chunk>/images`."""

from __future__ import annotations

import contextlib
from pathlib import Path

import h5py

from sfxjax.data.formats.hdf5_stack import StackPart, describe_parts, describe_stack, open_part, part_keys
from sfxjax.data.frames import FrameStack, ReadOptions
from sfxjax.data.hdf5 import Files
from sfxjax.data.opening import DAMAGE


def find(files: Files, path: Path, options: ReadOptions) -> list[FrameStack]:
    """Find the frames of a file of this layout; none in others."""
    group = files.get(path, "/data")
    if not isinstance(group, h5py.Group):
        return []
    # By name, not as created: the labels of CXIDB 76 count the frames in this order.
    parts = [
        open_part(files, path, f"/data/{key}/images", key)
        for key in part_keys(group, path)
        if _may_be_chunk(group, key)
    ]
    if not any(isinstance(part.data, h5py.Dataset) for part in parts) and any(
        part.data is None for part in parts
    ):
        return []

    def describe(part: StackPart) -> FrameStack:
        return describe_stack(path, part.data, part.dataset, "CXIDB 76", options, event_path=part.event_path)

    return describe_parts(parts, describe) if parts else []


def _may_be_chunk(group: h5py.Group, key: str) -> bool:
    """Tell whether a member of `/data` is a group, or a link or something damaged that was to be one."""
    with contextlib.suppress(*DAMAGE):
        is_own = isinstance(group.get(key, getlink=True), h5py.HardLink)
        return not (is_own and group.get(key, getclass=True) is h5py.Dataset)
    return True
