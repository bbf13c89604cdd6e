"""Files of no known layout whose frames are clear all the same: one stack of images, or one image in each of many groups."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path, PurePosixPath

import h5py

from sfxjax.data.frames import ReadOptions
from sfxjax.data.hdf5 import Files, object_identity
from sfxjax.errors import UserError

# Smaller images are none of a detector's.
LEAST_SIDE = 64
# Data sets of such names hold no frames.
NO_FRAMES_BY_NAME = re.compile(
    r"mask|gain|pedestal|dark|bad|flat|error|variance|weight|background|mean|sum|average|map", re.I
)
_MOST_LOOKED_AT = 20_000
_DEEPEST = 8


def only_frames(files: Files, path: Path, options: ReadOptions) -> str:
    """Return the path of the only data set, or of a family of them with `%`, that can be frames; empty where that is not clear.

    Links are followed as far as the user allows it.
    """
    images = image_sets(files, path)
    stacks = [name for name, shape in images.items() if len(shape) > 2]
    if len(images) > 1:
        # One among many groups alike may hold an image of another shape, or several.
        family = _family(list(images))
        _, commonest = Counter(images.values()).most_common(1)[0]
        if family and 2 * commonest > len(images) and not (stacks and family.endswith("%")):
            return family
    clear = stacks or list(images)
    return clear[0] if len(clear) == 1 else ""


def image_sets(files: Files, path: Path, without: Collection[str] = ()) -> dict[str, tuple[int, ...]]:
    """List the data sets that may hold frames, each once, with their shapes, but for those of some names."""
    found: dict[str, tuple[int, ...]] = {}
    seen: set[object] = set()
    groups: list[tuple[str, int]] = [("", 0)]
    left = _MOST_LOOKED_AT
    while groups and left > 0:
        name, depth = groups.pop(0)
        try:
            group = files.get(path, name or "/")
        except UserError:
            continue
        if not isinstance(group, h5py.Group):
            continue
        for key in group:
            left -= 1
            inner = f"{name}/{key}"
            if inner in without:
                continue
            try:
                item = files.get(path, inner)
                if isinstance(item, h5py.Group) and depth < _DEEPEST:
                    if object_identity(item) not in seen:
                        seen.add(object_identity(item))
                        groups.append((inner, depth + 1))
                elif (
                    isinstance(item, h5py.Dataset)
                    and _may_be_frames(inner, item)
                    and object_identity(item) not in seen
                ):
                    seen.add(object_identity(item))
                    found[inner] = item.shape
            except UserError:
                continue
    return found


def _may_be_frames(name: str, data: h5py.Dataset) -> bool:
    return (
        data.shape is not None
        and 2 <= data.ndim <= 4
        and data.dtype.kind in "iuf"
        and min(data.shape[-2:]) >= LEAST_SIDE
        and not NO_FRAMES_BY_NAME.search(PurePosixPath(name).name)
    )


def only_difference(names: list[str]) -> tuple[list[str], int, list[str]] | None:
    """Return where paths differ, if in one part alone: the first path's parts, the place, and what each path has there."""
    parts = [PurePosixPath(name).parts for name in names]
    if len({len(some) for some in parts}) > 1:
        return None
    differ = [place for place, some in enumerate(zip(*parts, strict=True)) if len(set(some)) > 1]
    if len(differ) != 1:
        return None
    return list(parts[0]), differ[0], [some[differ[0]] for some in parts]


def _family(names: list[str]) -> str:
    """Return the pattern of paths that differ in one part alone, with `%` for it; empty where they differ in more."""
    found = only_difference(names)
    if found is None:
        return ""
    pattern, place, _ = found
    pattern[place] = "%"
    return "/" + "/".join(pattern[1:])
