"""The masks in the frames' own file: those that are used, and why any other one is not.

Data sets whose values a convention defines are used where they have the frames' shape, all of one detector together: a pixel is
bad if any of them says so. Whatever else is called a mask, or a map of bad pixels, is named with the reason why it is not used.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import h5py

from sfxjax.data.hdf5 import Files, located, object_identity
from sfxjax.data.masks import ZERO_IS_GOOD, without_ones
from sfxjax.data.opening import DAMAGE
from sfxjax.data.unwritten import is_unwritten
from sfxjax.errors import UserError
from sfxjax.text import first_few

# Names that only masks have; and those that look like one's.
MASKS = ("mask", *ZERO_IS_GOOD)
_LIKE_A_MASK = re.compile(
    r"mask|(bad|dead|hot|cold|noisy|broken|defect\w*|good|valid)_?(pix|channel|map)|defects?$|pixel_?(status|quality)|status_?map",
    re.IGNORECASE,
)
# Looked at for masks, in one group and all in all.
_MOST_IN_GROUP, _MOST_OBJECTS = 2000, 10_000
_MASKS_NAMED = 4


class Masks(NamedTuple):
    """The masks of a stack of frames in its own file.

    Attributes:
        shared: data sets of the masks that hold for all frames.
        single: data set of one mask a frame; empty if there is none.
    """

    shared: tuple[str, ...] = ()
    single: str = ""


def find_masks(
    files: Files,
    path: Path,
    data: h5py.Dataset,
    names: Iterable[str],
    *,
    frames: int | None = None,
    raw_shape: tuple[int, ...] | None = None,
    known: Masks | None = None,
) -> Masks:
    """Find the masks of a stack of frames: those for all and those of each are told apart by their shape.

    Axes of length 1 do not matter. What is of another shape or not of numbers is passed over; `unused_masks` names it.

    Args:
        files: opens the file.
        path: of the file.
        data: the frames.
        names: where masks may be.
        frames: that a data set of one mask a frame is for, those of all data sets of the file; None: those of this one; 0: none.
        raw_shape: of a frame; None: the data set's, without its first axis.
        known: masks found already, to which others are added.

    Returns:
        All that fit, of those with one mask for each frame only the first.
    """
    known = Masks() if known is None else known
    shared, own = list(known.shared), known.single
    seen = identities(files, path, [*shared, own])
    for name in names:
        try:
            mask = files.dataset(*located(path, name))
        except UserError:
            continue
        if mask is None or object_identity(mask) in seen:
            continue
        kind = _mask_kind(mask, data, raw_shape, frames, located(path, name)[0] != path)
        if kind == "shared":
            shared.append(name)
        elif kind == "single":
            own = own or name
        seen.add(object_identity(mask))
    return Masks(tuple(shared), own)


def identities(files: Files, path: Path, names: Iterable[str]) -> set[tuple[int, int]]:
    """Return the identities of what can be opened of some names in a file, or FILE:/PATH."""
    found = set()
    for name in filter(None, names):
        try:
            item = files.get(*located(path, name))
        except UserError:
            continue
        if item is not None:
            found.add(object_identity(item))
    return found


def unused_masks(
    files: Files,
    path: Path,
    data: h5py.Dataset,
    raw_shape: tuple[int, ...],
    used: Iterable[str],
    near: Iterable[str],
    *,
    named: Iterable[str] = (),
    frames: int | None = None,
) -> list[str]:
    """Say of everything in a file that is called a mask, or like one, why it is not used; a line each.

    Args:
        files: opens it.
        path: of the file.
        data: the frames.
        raw_shape: of a frame.
        used: the masks that are used.
        near: groups that describe the frames' detector.
        named: patterns of paths that need no line.
        frames: see `find_masks`.
    """
    passed = identities(files, path, used)
    patterns = [*named]
    lines: list[str] = []
    masked = bool(passed)
    passed.add(object_identity(data))
    for name, is_near in _called_masks(files, path, near):
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            continue
        line = _why_unused(files, path, name, data, raw_shape, frames, passed, masked, is_near)
        if line:
            lines.append(line)
    more = len(lines) - _MASKS_NAMED
    if more > 1:
        lines[_MASKS_NAMED:] = [f"{path}: {more} more data sets called masks are not used"]
    return lines


def masks_of_other_parts(path: Path, parts: Iterable[tuple[str, tuple[int, ...], Masks]]) -> list[str]:
    """Say which masks of some parts of a run are not used for others, whose frames are of another size; a line a size.

    Args:
        path: of the file.
        parts: data set, shape of its frames and masks of each.
    """
    used: dict[str, tuple[int, ...]] = {}
    lacking: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    parts = list(parts)
    for _, shape, masks in parts:
        used |= dict.fromkeys(filter(None, (*masks.shared, masks.single)), shape)
    for dataset, shape, masks in parts:
        for name, other in used.items():
            if shape != other and name not in (*masks.shared, masks.single):
                lacking.setdefault((name, shape), []).append(dataset)
    return [
        f"{path}: the mask {name} is not used for {first_few(datasets, _MASKS_NAMED)}: the frames have "
        f"{'x'.join(map(str, shape))} pixels, the mask is for {'x'.join(map(str, used[name]))}"
        for (name, shape), datasets in lacking.items()
    ]


def _mask_kind(
    mask: h5py.Dataset, data: h5py.Dataset, raw_shape: tuple[int, ...] | None, frames: int | None, apart: bool
) -> str:
    """Return "shared", "single", or nothing for what does not fit.

    A data set of masks in a file apart, such as a master, may be for other frames as well: which are whose is not known there.
    """
    frame = raw_shape
    if frame is None:
        frame = data.shape[1:] if data.ndim >= 3 else data.shape
    if mask.shape is None or mask.dtype.kind not in "biuf" or is_unwritten(mask):
        return ""
    if without_ones(mask.shape) == without_ones(frame):
        return "shared"
    count = len(data) if frames is None and data.ndim else frames
    if data.ndim < 3 or mask.shape[1:] != frame or not count:
        return ""
    return "single" if len(mask) == count or (len(mask) > count and not apart) else ""


def _called_masks(files: Files, path: Path, near: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Give what is called a mask, first in groups of the detector, then anywhere; links are looked at, not followed."""
    waiting = [(name, True) for name in near] + [("/", False)]
    seen: set[Any] = set()
    left = _MOST_OBJECTS
    while waiting and left > 0:
        name, is_near = waiting.pop(0)
        try:
            group = files.get(*located(path, name))
            if not isinstance(group, h5py.Group) or object_identity(group) in seen:
                continue
            seen.add(object_identity(group))
            for key in islice(group, _MOST_IN_GROUP):
                inner = f"{name.rstrip('/')}/{key}"
                if _LIKE_A_MASK.search(key):
                    yield inner, is_near
                hard = isinstance(group.get(key, getlink=True), h5py.HardLink)
                if hard and group.get(key, getclass=True) is h5py.Group:
                    waiting.append((inner, False))
                left -= 1
        except (UserError, *DAMAGE):
            continue


def _why_unused(
    files: Files,
    path: Path,
    name: str,
    data: h5py.Dataset,
    raw_shape: tuple[int, ...],
    frames: int | None,
    passed: set[tuple[int, int]],
    masked: bool,
    is_near: bool,
) -> str:
    """Say why a mask is not used; nothing where it is, was named already, or is none to speak of."""
    last = PurePosixPath(name).name.lower()
    surely = last in MASKS
    where = f"{path}: the mask {name}"
    item, why = numbers_at(files, path, name, passed)
    if item is None:
        return f"{where} is not used: {why}" if why else ""
    if item.size <= 1:
        return f"{where} is not used: it is a single value" if surely else ""
    here, there = ("x".join(map(str, shape)) for shape in (item.shape, raw_shape))
    if not _mask_kind(item, data, raw_shape, frames, located(path, name)[0] != path):
        if masked and not is_near:
            return ""
        if item.shape[1:] == raw_shape and len(item) > 1:
            count = len(data) if frames is None and data.ndim else frames
            return f"{where} of shape {here} is not used: it is for {len(item)} frames, and which are these {count} is not said"
        return f"{where} of shape {here} is not used: the frames have {there} pixels"
    file, inner = located(path, name)
    if last in ZERO_IS_GOOD:
        why = (
            "another one is, nearer to the frames; to use it alone"
            if masked
            else ("it does not lie with the frames or their detector; to use it")
        )
        return f"{where} is not used, since {why} give --mask {file}:{inner} --mask-good 0"
    return (
        f"{where} of shape {here} is not used, since nothing says which of its values are good; name it with "
        f"--mask {file}:{inner} --mask-good 0 or 1"
    )


def numbers_at(
    files: Files, path: Path, name: str, passed: set[tuple[int, int]] | None = None
) -> tuple[h5py.Dataset | None, str]:
    """Open a data set of numbers.

    Args:
        files: opens the file.
        path: of the file.
        name: of the data set in it, or FILE:/PATH.
        passed: identities of objects that are passed over, to which this one is added.

    Returns:
        The data set; or None and why what is there cannot be used; or None and nothing where nothing is there.
    """
    try:
        item = files.get(*located(path, name))
        if isinstance(item, h5py.Dataset):
            files.check_storage(item)
    except UserError as error:
        # Of a group that cannot be opened nobody knows what it holds.
        return None, str(error) if link_in_group(files, path, name) is not None else ""
    if item is None:
        target = link_target(files, path, name)
        return None, f"it is a link to {target}, where there is nothing" if target else ""
    if passed is not None:
        if object_identity(item) in passed:
            return None, ""
        passed.add(object_identity(item))
    if isinstance(item, h5py.Group):
        return None, "it is a group, no data set"
    if item.shape is None:
        return None, "it is empty"
    if item.dtype.kind not in "biuf":
        return None, f"its values are of type {item.dtype}, no real numbers"
    if is_unwritten(item):
        return None, "it was never written"
    return item, ""


def opened(files: Files, path: Path, name: str) -> h5py.Group | h5py.Dataset | None:
    """Return an object of a file that frames can do without, None also where it cannot be opened, which `complete` says."""
    with suppress(UserError):
        return files.get(path, name)
    return None


def link_in_group(files: Files, path: Path, name: str) -> object:
    """Return the link by which a group holds what a name in a file, or FILE:/PATH, stands for; None where there is none."""
    file, inner = located(path, name)
    place = PurePosixPath(inner)
    try:
        group = files.get(file, str(place.parent))
        return group.get(place.name, getlink=True) if isinstance(group, h5py.Group) else None
    except (UserError, *DAMAGE):
        return None


def link_target(files: Files, path: Path, name: str) -> str:
    """Return where a link in a file, or FILE:/PATH, leads; empty if there is no such link."""
    link = link_in_group(files, path, name)
    if isinstance(link, h5py.SoftLink):
        return str(link.path)
    return f"{link.path} in {link.filename}" if isinstance(link, h5py.ExternalLink) else ""


def number_of(files: Files, data: h5py.Dataset) -> float:
    """Return the one number of a data set, NaN where there is none or it cannot be read."""
    with suppress(UserError):
        if data.size == 1:
            return float(files.values(data).reshape(()))
    return math.nan


def one_number(files: Files, path: Path, name: str) -> float | None:
    """Return the one number of a data set, or None where there is none."""
    data, _ = numbers_at(files, path, name)
    value = math.nan if data is None else number_of(files, data)
    return None if math.isnan(value) else value
