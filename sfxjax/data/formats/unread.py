"""Stacks of images in a file that are none of the frames read from it: each is named, with the option that reads it."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import h5py

from sfxjax.data.formats.cxi import is_place
from sfxjax.data.formats.file_masks import identities
from sfxjax.data.formats.generic import image_sets, only_difference
from sfxjax.data.frames import FrameStack
from sfxjax.data.hdf5 import Files, located, object_identity
from sfxjax.data.opening import DAMAGE, in_words
from sfxjax.data.virtual_sets import virtual_sources
from sfxjax.errors import UserError
from sfxjax.text import first_few


def unread_stacks(files: Files, path: Path, stacks: list[FrameStack]) -> list[str]:
    """Say which stacks of images in a file are not read, and how they are; no line where all are.

    Virtual data sets of the frames, what those are made of, and the same frames assembled are none.

    Args:
        files: opens the file.
        path: of the file.
        stacks: that are read.
    """
    read = [stack.dataset for stack in stacks if not stack.unreadable]
    try:
        found = image_sets(files, path, {stack.dataset for stack in stacks})
    except DAMAGE as error:
        return [f"{path}: whether it holds other frames is not known: {in_words(error)}"]
    images = {name: shape for name, shape in found.items() if len(shape) > 2}
    if not images:
        return []
    known = identities(files, path, read)
    known |= {key for name in read for key in _behind(files, path, name)}
    entries = {PurePosixPath(name).parts[1] for name in read if is_place(name)}
    others = [
        name
        for name in sorted(images)
        if not (identities(files, path, [name]) | _behind(files, path, name)) & known
        and not (is_place(name) and "/image_" in name and PurePosixPath(name).parts[1] in entries)
    ]
    if not others:
        return []
    sizes = [f"{name} ({'x'.join(map(str, images[name]))})" for name in others]
    return [
        f"{path}: {len(others)} other stack{'s' * (len(others) > 1)} of images in it {'is' if len(others) == 1 else 'are'} not "
        f"read: {first_few(sizes, most=4)}; give {_option(read, others, stacks, images)}"
    ]


def _option(
    read: list[str], others: list[str], stacks: list[FrameStack], images: dict[str, tuple[int, ...]]
) -> str:
    """Return the option that reads other data sets: together with those that are read where one pattern fits all."""
    alike = all(images[name][1:] == stacks[0].raw_shape for name in others)
    pattern = _pattern([*read, *others]) if alike else ""
    if pattern:
        return f"--dataset '{pattern}' to read all"
    pattern = _pattern(others) if len(others) > 1 and len({images[name][1:] for name in others}) == 1 else ""
    return f"--dataset '{pattern or others[0]}' to read {'them' if pattern else others[0]} instead"


def _pattern(names: list[str]) -> str:
    """Return the pattern of paths that differ in a number alone, with `%` for it; empty where they differ in more."""
    found = only_difference(names)
    if found is None:
        return ""
    pattern, place, keys = found
    stem = keys[0].rstrip("0123456789")
    if not all(key.startswith(stem) and key[len(stem) :].isdecimal() for key in keys):
        return ""
    pattern[place] = f"{stem}%"
    return "/" + "/".join(pattern[1:])


def _behind(files: Files, path: Path, name: str) -> set[tuple[int, int]]:
    """Return the identities of what a virtual data set is made of, as far as it can be opened."""
    try:
        data = files.get(*located(path, name))
        if not isinstance(data, h5py.Dataset) or not data.is_virtual:
            return set()
        found = set()
        for source, inner in virtual_sources(data):
            item = files.get(source, inner) if "%" not in inner and source.is_file() else None
            if item is not None:
                found.add(object_identity(item))
        return found
    except (UserError, *DAMAGE):
        return set()
