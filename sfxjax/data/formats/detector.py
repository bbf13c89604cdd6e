"""What an HDF5 file says of its detector beside the frames: masks, bit depths, saturation, and which frames are no good ones.

NXmx keeps them in the detector's group of any name, DECTRIS also in its `detectorSpecific`, SwissFEL in `meta` and ID29 in
`detector_information` beside the frames, SACLA in `/metadata`.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import h5py
import numpy as np

from sfxjax.data.bitshuffle import packs
from sfxjax.data.formats.file_masks import (
    MASKS,
    Masks,
    find_masks,
    link_target,
    masks_of_other_parts,
    number_of,
    numbers_at,
    opened,
    unused_masks,
)
from sfxjax.data.formats.setup import find_setup
from sfxjax.data.frames import FrameStack, Setup
from sfxjax.data.hdf5 import Files, located
from sfxjax.data.links import masters_of, unused_masters
from sfxjax.data.masks import ZERO_IS_GOOD
from sfxjax.errors import UserError

_GROUPS_BELOW = ("", "/meta", "/detectorSpecific", "/detector_information")
_DEPTHS = ("bit_depth_image", "bit_depth_readout")
_LIMITS = ("saturation_value", "countrate_correction_count_cutoff")
# A saturation value below the largest number of 8 bits, less those for gaps and dead pixels, is a mistake.
LEAST_LIMIT = 253
# Of groups that cannot be opened.
_MOST_LINES = 4


def complete(
    files: Files, path: Path, stacks: list[FrameStack], named: Iterable[str] = ()
) -> list[FrameStack]:
    """Add what a file says of its detector to the stacks found in it, where their layout has not said it already.

    Args:
        files: opens it.
        path: of the file.
        stacks: of frames in it.
        named: patterns of the paths of masks that are named by the user or a geometry, which need no line here.
    """
    described: dict[Any, _Detector] = {}
    counts = masks_counted(stacks)
    keys = [
        None if stack.unreadable else _in_common(files, path, stack, count, len(stacks) == 1)
        for stack, count in zip(stacks, counts, strict=True)
    ]
    for stack, count, key in zip(stacks, counts, keys, strict=True):
        if key is not None and key not in described:
            described[key] = _described(files, path, stack, count, len(stacks) == 1)
    notes = _lines_of_settings(files, path, stacks, counts, [described.get(key) for key in keys], named)
    finished = []
    for stack, count, key in zip(stacks, counts, keys, strict=True):
        if key is not None:
            found, more = described[key], notes
            notes = []
            stack = replace(
                stack,
                mask_datasets=found.masks.shared,
                frame_masks=found.masks.single,
                first_mask=count.first if found.masks.single else 0,
                by_plugin=found.by_plugin,
                limit=found.limit,
                depths=found.depths,
                not_good=found.not_good,
                setup=found.setup,
                notes=(*stack.notes, *more),
            )
        finished.append(stack)
    return finished


class _Detector(NamedTuple):
    """What a file says of the detector of a stack, and lines about what of it is not used."""

    masks: Masks
    by_plugin: bool
    limit: float | None
    depths: tuple[int, ...]
    not_good: tuple[int, ...]
    setup: Setup | None
    notes: tuple[str, ...]


class MasksCounted(NamedTuple):
    """Which masks of a data set with one for each frame are those of a stack.

    Attributes:
        frames: that such a data set is for; None: those of the stack's own; 0: there is none.
        first: number of the first that is this stack's.
        own: whether it is for this stack alone, which has a group of its own, as an entry has.
    """

    frames: int | None
    first: int
    own: bool


def masks_counted(stacks: list[FrameStack]) -> list[MasksCounted]:
    """Tell for each stack of a file which masks of single frames are its own: parts in one group share a data set of them."""
    groups = Counter(str(PurePosixPath(stack.dataset).parent) for stack in stacks)
    total = sum(stack.frames for stack in stacks)
    found, first = [], 0
    for stack in stacks:
        own = groups[str(PurePosixPath(stack.dataset).parent)] == 1
        alike = stack.stacked and stack.frame_axis == 0
        count = (None if own else total) if alike else 0
        found.append(MasksCounted(count, 0 if own else first, own))
        first += stack.frames
    return found


def _in_common(files: Files, path: Path, stack: FrameStack, count: MasksCounted, alone: bool) -> Any:
    """Return what stacks have in common that the file says the same of."""
    place = ""
    if alone:
        place = stack.dataset
    elif count.own:
        # Groups are many, of one image each, or few, with a mask each.
        parent = str(PurePosixPath(stack.dataset).parent)
        group = opened(files, path, parent)
        place = parent if isinstance(group, h5py.Group) and any(name in group for name in MASKS) else ""
    return stack.raw_shape, stack.dtype, stack.mask_datasets, stack.frame_masks, place


def _described(files: Files, path: Path, stack: FrameStack, count: MasksCounted, alone: bool) -> _Detector:
    groups = list(_groups(files, path, stack.dataset))
    data = files.dataset(path, stack.dataset)
    assert data is not None
    masks = _detector_masks(files, path, data, groups, stack, count.frames)
    limit, depths, notes = _limits(files, path, groups)
    length = len(data) if stack.stacked and stack.frame_axis == 0 else stack.frames
    not_good, said = _not_good(files, path, groups, stack.frames, length, alone)
    by_plugin = files.check_storage(data) and not packs(data)
    setup = find_setup(files, path, groups)
    return _Detector(masks, by_plugin, limit, depths, not_good, setup, (*notes, *said))


def _lines_of_settings(
    files: Files,
    path: Path,
    stacks: list[FrameStack],
    counts: list[MasksCounted],
    described: list[_Detector | None],
    named: Iterable[str],
) -> list[str]:
    """Say what of the detector's masks and limits is not used."""
    place = next((place for place, one in enumerate(described) if one is not None), None)
    if place is None:
        return []
    first, stack = described[place], stacks[place]
    assert first is not None
    groups = list(_groups(files, path, stack.dataset))
    data = files.dataset(path, stack.dataset)
    assert data is not None
    used = dict.fromkeys(
        name for one in described if one is not None for name in (*one.masks.shared, one.masks.single)
    )
    return [
        *unused_masters(path),
        *_unopened(files, path, groups),
        *unused_masks(
            files, path, data, stack.raw_shape, used, groups, named=named, frames=counts[place].frames
        ),
        *masks_of_other_parts(
            path,
            (
                (stack.dataset, stack.raw_shape, one.masks)
                for stack, count, one in zip(stacks, counts, described, strict=True)
                if one is not None and not count.own
            ),
        ),
        *first.notes,
    ]


def _groups(files: Files, path: Path, dataset: str) -> Iterator[str]:
    """Give the paths of groups that may describe the detector of a data set, the nearest first; see `located`.

    Where the data set is a link into another file, that file's are among them; where a master beside that file links to it, the
    master's.
    """
    places = [(path, dataset, "")]
    with contextlib.suppress(UserError):
        data = files.get(path, dataset)
        if isinstance(data, h5py.Dataset) and data.name:
            other = Path(data.file.filename)
            same = data.file == files.open(path)
            places.append((path, data.name, "") if same else (other, data.name, f"{other}:"))
            places += [
                (master, data.name, f"{master}:") for master in masters_of(other) if not master.samefile(path)
            ]
    seen = set()
    for file, name, prefix in places:
        with contextlib.suppress(UserError):
            for group in (*nearest_groups(files, file, name), "/metadata"):
                for below in _GROUPS_BELOW:
                    full = f"{prefix}{group.rstrip('/')}{below}"
                    if full not in seen:
                        seen.add(full)
                        yield full


def nearest_groups(files: Files, path: Path, dataset: str) -> list[str]:
    """List the group of a data set, and those of instruments and their parts in the entries of its file."""
    nearest = [str(PurePosixPath(dataset).parent)]
    entry = PurePosixPath(dataset).parts[1:2]
    entries = [*entry, *(key for key in files.open(path) if key.startswith("entry") and key not in entry)]
    for name in entries[:8]:
        with contextlib.suppress(UserError):
            group = files.get(path, f"/{name}")
            for key in group if isinstance(group, h5py.Group) else ():
                if key.startswith("instrument"):
                    instrument = files.get(path, f"/{name}/{key}")
                    if isinstance(instrument, h5py.Group):
                        nearest.append(f"/{name}/{key}")
                        nearest += [f"/{name}/{key}/{inner}" for inner in list(instrument)[:64]]
    return nearest


def _detector_masks(
    files: Files, path: Path, data: h5py.Dataset, groups: list[str], stack: FrameStack, frames: int | None
) -> Masks:
    """Add the masks of the frames' detector to those that their layout has: of all that are found, those beside the nearest."""
    found = Masks(stack.mask_datasets, stack.frame_masks)
    detectors = {_detector(path, name) for name in (*found.shared, found.single) if name}
    detectors |= {_detector(path, name) for name in (stack.dataset, str(data.name))}
    for group in groups:
        detector = _detector(path, f"{group}/mask")
        if found != Masks() and detector not in detectors:
            continue
        names = [f"{group}/{name}" for name in ZERO_IS_GOOD]
        more = find_masks(files, path, data, names, frames=frames, raw_shape=stack.raw_shape, known=found)
        if more != found:
            found = more
            detectors.add(detector)
    return found


def _detector(path: Path, name: str) -> str:
    """Return the group of the detector that a data set belongs to, in whatever file."""
    group = str(PurePosixPath(located(path, name)[1]).parent)
    return next(
        (group.removesuffix(below) for below in _GROUPS_BELOW if below and group.endswith(below)), group
    )


def _unopened(files: Files, path: Path, groups: list[str]) -> list[str]:
    """Say which groups of a detector cannot be opened, and why: what they hold of masks and limits is not used."""
    lines = []
    for group in groups:
        target = link_target(files, path, group)
        why = f"it is a link to {target}, where there is nothing"
        try:
            if not target or files.get(*located(path, group)) is not None:
                continue
        except UserError as error:
            why = str(error)
        lines.append(f"{path}: {group} is not used: {why}")
    return lines[:_MOST_LINES]


def _limits(
    files: Files, path: Path, groups: list[str]
) -> tuple[float | None, tuple[int, ...], tuple[str, ...]]:
    """Return the value from which pixels are invalid, the bit depths, and notes about those that make no sense."""
    limits: list[float] = []
    depths: list[int] = []
    notes: list[str] = []
    for group in groups:
        for name in (*_DEPTHS, *_LIMITS):
            data, why = numbers_at(files, path, f"{group}/{name}")
            if data is None and not why:
                continue
            value = math.nan if data is None else number_of(files, data)
            if name in _DEPTHS and value in range(4, 64):
                depths.append(int(value))
            elif name in _LIMITS and math.isfinite(value) and value >= LEAST_LIMIT:
                limits.append(value + 1 if value == round(value) else math.nextafter(value, math.inf))
            elif data is None:
                notes.append(f"{path}: {group}/{name} is not used: {why}")
            elif data.size != 1:
                notes.append(f"{path}: {group}/{name} is not used: it holds {data.size} values, not one")
            else:
                notes.append(f"{path}: {group}/{name} is {value:g}, which is not used")
    return min(limits, default=None), tuple(dict.fromkeys(depths)), tuple(notes)


def _not_good(
    files: Files, path: Path, groups: list[str], frames: int, length: int, alone: bool
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the numbers of the frames that SwissFEL's `is_good_frame` calls not good, and notes about it.

    Args:
        files: opens the file.
        path: of it.
        groups: that describe the detector.
        frames: that were written.
        length: that there is room for.
        alone: whether the file's frames lie in one data set.
    """
    notes = []
    for group in groups:
        name = f"{group}/is_good_frame"
        data, why = numbers_at(files, path, name)
        if data is None and not why:
            continue
        if data is not None and data.size not in (frames, length):
            why = f"it has {data.size} values for {length} frames"
        elif data is not None and not alone:
            why = "the frames lie in several data sets"
        elif data is not None:
            try:
                values = files.values(data).reshape(-1)[:frames]
            except UserError as error:
                why = f"it cannot be read: {error}"
            else:
                if not np.all((values == 0) | (values == 1)):
                    why = "it has values besides 0 and 1"
        if why:
            notes.append(f"{path}: {name} is not used: {why}")
            continue
        bad = tuple(np.flatnonzero(values == 0).tolist())
        if bad:
            notes.append(f"{path}: is_good_frame says that {len(bad)} of {frames} frames are not good")
        return bad, tuple(notes)
    return (), tuple(notes)
