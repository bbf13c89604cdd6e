"""The layout of CXIDB 76 (Ke et al. 2018), and of this library's simulated sets: `/data/<chunk>/images`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py

from sfxjax.data.formats.hdf5_stack import describe_stack
from sfxjax.data.frames import FrameStack, ReadOptions
from sfxjax.data.hdf5 import Files


def find(files: Files, path: Path, options: ReadOptions) -> list[FrameStack]:
    """Find the frames of a file of this layout; none in others."""
    group = files.get(path, "/data")
    if not isinstance(group, h5py.Group):
        return []
    stacks: list[FrameStack] = []
    missing: list[str] = []
    # By name, not as created: the labels of CXIDB 76 count the frames in this order.
    for key in sorted(group):
        dataset = f"/data/{key}/images"
        images = files.dataset(path, dataset)
        if images is None:
            missing.append(f"{path}: no images in /data/{key}; left out")
        else:
            stacks.append(describe_stack(path, images, dataset, "CXIDB 76", options, event_path=key))
    return [replace(stacks[0], notes=(*stacks[0].notes, *missing)), *stacks[1:]] if stacks else []
