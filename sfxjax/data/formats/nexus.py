"""NXmx and DECTRIS masters: `/entry/data/data`, or `/entry/data/data_000001` and its followers, SLS: `data_f000000000000`."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import h5py

from sfxjax.data.formats.detector import nearest_groups
from sfxjax.data.formats.file_masks import Masks, find_masks, one_number, opened
from sfxjax.data.formats.hdf5_stack import StackPart, describe_parts, describe_stack, open_part, part_keys
from sfxjax.data.frames import FrameStack, ReadOptions
from sfxjax.data.hdf5 import MAX_FRAMES, Files
from sfxjax.data.links import identity, masters_of
from sfxjax.errors import UserError
from sfxjax.text import first_few

NEXUS_DATA = "/entry/data"
NEXUS_DETECTOR = "/entry/instrument/detector"

_NUMBERED = re.compile(r"data_f?\d+")


def find(files: Files, path: Path, options: ReadOptions) -> list[FrameStack]:
    """Find the frames of a file of this layout; none in others."""
    parts = [open_part(files, path, f"{NEXUS_DATA}/data", "")]
    alone = parts[0].data is not None
    if not alone:
        group = files.get(path, NEXUS_DATA)
        names = (
            [key for key in part_keys(group, path) if _NUMBERED.fullmatch(key)]
            if isinstance(group, h5py.Group)
            else []
        )
        parts = [open_part(files, path, f"{NEXUS_DATA}/{key}", key) for key in names]
    centre = _nexus_centre(files, path)
    # Any program may write `/entry/data/data`: what NeXus asks for beside it tells whether the file is one of its.
    known = any(opened(files, path, name) is not None for name in (NEXUS_DETECTOR, "/entry/definition"))
    layout = "NXmx" if known or any(part.event_path for part in parts) else "HDF5"
    shared = (f"{NEXUS_DETECTOR}/pixel_mask", f"{NEXUS_DETECTOR}/detectorSpecific/pixel_mask")

    def describe(part: StackPart) -> FrameStack:
        data = part.data
        assert isinstance(data, h5py.Dataset)
        # Masks of each frame of several parts are found by all their frames, see `complete`.
        count = len(data) if len(parts) == 1 and data.ndim else 0
        masks = find_masks(files, path, data, shared, frames=count) if data.ndim >= 2 else Masks()
        return describe_stack(
            path,
            data,
            part.dataset,
            layout,
            options,
            event_path=part.event_path,
            masks=masks,
            centre=centre,
            negatives_bad=True,
        )

    if not any(part.data is not None for part in parts):
        return []
    parts, notes = _with_counts(files, path, parts)
    notes += _holes(path, [part.event_path for part in parts])
    stacks = describe_parts(parts, describe)
    return [replace(stacks[0], notes=(*stacks[0].notes, *notes)), *stacks[1:]]


def _holes(path: Path, keys: list[str]) -> list[str]:
    """Say which numbers are missing between those of DECTRIS' parts; those of SLS' parts are of their first frames."""
    counts = [key.removeprefix("data_") for key in keys]
    numbers = sorted(int(count) for count in counts if count.isdecimal())
    gaps = [(low + 1, high - 1) for low, high in pairwise(numbers) if high > low + 1]
    if not gaps:
        return []
    width = max(map(len, counts))
    names = [
        f"data_{low:0{width}d}" + (f" to data_{high:0{width}d}" if high > low else "") for low, high in gaps
    ]
    return [
        f"{path}: it lacks the parts {first_few(names, 4, things='gaps')} between others; their frames are not read: "
        "is the file whole?"
    ]


def _with_counts(files: Files, path: Path, parts: list[StackPart]) -> tuple[list[StackPart], list[str]]:
    """Tell how many frames parts have that cannot be read, and leave out those at the end that never were.

    All parts but the last have as many frames as the first. DECTRIS' masters list the files that the writer had room for, written
    or not: what is missing at the end counts where a master has more images than the other parts hold.

    Returns:
        The parts, and what is to be said of those left out and of frames that are in no part.
    """
    lengths = [
        len(part.data) if isinstance(part.data, h5py.Dataset) and part.data.ndim else 0 for part in parts
    ]
    if not any(lengths):
        return parts, []
    each = next(length for length in lengths if length)
    last = max(place for place, length in enumerate(lengths) if length)
    images = _images(files, path, parts)
    left = images - sum(length or each for length in lengths[: last + 1])
    kept, notes = [], []
    for place, part in enumerate(parts):
        if isinstance(part.data, h5py.Dataset):
            kept.append(part)
        elif place < last:
            kept.append(part._replace(frames=each))
        elif left > 0:
            kept.append(part._replace(frames=min(each, left)))
            left -= each
        elif isinstance(part.data, str) and "is missing" in part.data:
            notes.append(part.data)
        else:
            kept.append(part)
    if left > 0:
        notes.append(
            f"{path}: there are said to be {images} images, of which {left} are in no part: they are missing or were never taken"
        )
    return kept, notes


def _images(files: Files, path: Path, parts: list[StackPart]) -> int:
    """Return how many images a master, or else another one of the same frames beside it, says there are; 0 where none does."""
    first = next(part.data for part in parts if isinstance(part.data, h5py.Dataset))
    others = [other for other in masters_of(Path(first.file.filename)) if identity(other) != identity(path)]
    for master in (path, *others):
        with suppress(UserError):
            groups = (NEXUS_DETECTOR, *nearest_groups(files, master, f"{NEXUS_DATA}/data"))
            images = max(_images_of(files, master, group) for group in groups)
            whole = None if images or master == path else files.get(master, f"{NEXUS_DATA}/data")
            if isinstance(whole, h5py.Dataset) and whole.ndim == first.ndim:
                images = min(len(whole), MAX_FRAMES)
            if images:
                return images
    return 0


def _images_of(files: Files, path: Path, detector: str) -> int:
    """Return how many images the group of a detector says there are, for all triggers; 0 where it says nothing."""
    counts = [
        next(
            (
                count
                for below in ("/detectorSpecific", "")
                if (count := one_number(files, path, f"{detector}{below}/{name}"))
            ),
            None,
        )
        for name in ("nimages", "ntrigger")
    ]
    if counts[0] is None or not 0 < counts[0] <= MAX_FRAMES:
        return 0
    triggers = counts[1] if counts[1] is not None and counts[1] >= 1 else 1
    return int(min(counts[0] * triggers, MAX_FRAMES))


def _nexus_centre(files: Files, path: Path) -> tuple[float, float] | None:
    values = []
    for key in ("beam_center_x", "beam_center_y"):
        value, number = (
            opened(files, path, f"{NEXUS_DETECTOR}/{key}"),
            one_number(files, path, f"{NEXUS_DETECTOR}/{key}"),
        )
        if value is None or number is None or not math.isfinite(number):
            return None
        units = value.attrs.get("units", "pixel")
        units = units.decode(errors="replace") if isinstance(units, bytes) else str(units)
        if not units.startswith("pixel"):
            # Some masters give it in metres.
            pixel = one_number(files, path, f"{NEXUS_DETECTOR}/{key[-1]}_pixel_size")
            if units not in ("m", "mm") or pixel is None or not pixel > 0:
                return None
            number *= (1e-3 if units == "mm" else 1.0) / pixel
        values.append(number)
    return values[0], values[1]
