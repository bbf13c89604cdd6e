"""What an HDF5 file says of its detector beside the frames: masks, bit depths, saturation, and which frames are no good ones.

NXmx keeps them in the detector's group of any name, DECTRIS also in its `detectorSpecific`, SwissFEL in `meta` and ID29 in
`detector_information` beside the frames, SACLA in `/metadata`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np

from sfxjax.data.formats.hdf5_stack import Masks, find_masks
from sfxjax.data.frames import FrameStack
from sfxjax.data.hdf5 import Files, located
from sfxjax.data.links import masters_of
from sfxjax.data.masks import ZERO_IS_GOOD
from sfxjax.errors import UserError

_BELOW = ("", "/meta", "/detectorSpecific", "/detector_information")
_DEPTHS = ("bit_depth_image", "bit_depth_readout")
_LIMITS = ("saturation_value", "countrate_correction_count_cutoff")
# A saturation value below the largest number of 8 bits, less those for gaps and dead pixels, is a mistake.
LEAST_LIMIT = 253
_MOST_DETECTOR_OBJECTS = 2000


def complete(files: Files, path: Path, stacks: list[FrameStack]) -> list[FrameStack]:
    """Add what a file says of its detector to the stacks found in it, where their layout has not said it already.

    Args:
        files: opens it.
        path: of the file.
        stacks: of frames in it.
    """
    known: dict[Any, Any] = {}
    first = next((stack.dataset for stack in stacks if not stack.unreadable), "")
    finished = []
    for stack in stacks:
        if stack.unreadable:
            finished.append(stack)
            continue
        key = stack.raw_shape, stack.dtype, stack.dataset if len(stacks) == 1 else ""
        if key not in known:
            groups = list(_groups(files, path, stack.dataset))
            data = files.dataset(path, stack.dataset)
            assert data is not None
            masks = Masks()
            said = any("the mask " in note for note in stack.notes)
            if not (stack.mask_dataset or stack.frame_masks or said):
                masks = _detector_masks(files, path, data, groups, stack, len(stacks) == 1)
            known[key] = masks, *_limits(files, path, groups), _not_good(files, path, groups, stack)
        masks, limit, depths, notes, not_good = known[key]
        if masks.shared or masks.single:
            stack = replace(stack, mask_dataset=masks.shared, frame_masks=masks.single)
        more = (*masks.notes, *notes) if stack.dataset == first else ()
        if len(stacks) > 1:
            not_good = ()
        elif not_good:
            more += (
                f"{path}: is_good_frame says that {len(not_good)} of {stack.frames} frames are not good",
            )
        finished.append(
            replace(stack, limit=limit, depths=depths, not_good=not_good, notes=(*stack.notes, *more))
        )
    return finished


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
            for group in (*_nearest(files, file, name), "/metadata"):
                for below in _BELOW:
                    full = f"{prefix}{group.rstrip('/')}{below}"
                    if full not in seen:
                        seen.add(full)
                        yield full


def _nearest(files: Files, path: Path, dataset: str) -> list[str]:
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
    files: Files, path: Path, data: h5py.Dataset, groups: list[str], stack: FrameStack, alone: bool
) -> Masks:
    names = tuple(f"{group}/{name}" for group in groups for name in ZERO_IS_GOOD)
    single = alone and stack.frame_axis == 0
    masks = find_masks(files, path, data, names, single=single, raw_shape=stack.raw_shape)
    if masks != Masks():
        return masks
    # Of what else is called a mask nobody knows the polarity.
    notes: list[str] = []
    left = _MOST_DETECTOR_OBJECTS

    def visit(name: str, item: Any) -> bool | None:
        nonlocal left
        left -= 1
        last = PurePosixPath(name).name.lower()
        if isinstance(item, h5py.Dataset) and "mask" in last and item.ndim >= 2 and item.dtype.kind in "biuf":
            shape = "x".join(map(str, item.shape))
            notes.append(
                f"{path}: the mask /{name} of shape {shape} is not used, since nothing says which of its values "
                f"are good; name it with --mask {path}:/{name} --mask-good 0 or 1"
            )
        return True if left <= 0 or len(notes) >= 4 else None

    with contextlib.suppress(OSError, RuntimeError, ValueError, TypeError, KeyError, UnicodeError):
        files.open(path).visititems(visit)
    return Masks(notes=tuple(notes))


def _limits(
    files: Files, path: Path, groups: list[str]
) -> tuple[float | None, tuple[int, ...], tuple[str, ...]]:
    """Return the value from which pixels are invalid, the bit depths, and notes about those that make no sense."""
    limits: list[float] = []
    depths: list[int] = []
    notes: list[str] = []
    for group in groups:
        for name in (*_DEPTHS, *_LIMITS):
            value = one_number(files, path, f"{group}/{name}")
            if value is None:
                continue
            if name in _DEPTHS:
                if value in range(4, 64):
                    depths.append(int(value))
            elif math.isfinite(value) and value >= LEAST_LIMIT:
                limits.append(value + 1 if value == round(value) else math.nextafter(value, math.inf))
            else:
                notes.append(f"{path}: {group}/{name} is {value:g}, which is not used")
    return min(limits, default=None), tuple(dict.fromkeys(depths)), tuple(notes)


def one_number(files: Files, path: Path, name: str) -> float | None:
    """Return the one number of a data set, or None where there is none."""
    with contextlib.suppress(UserError, OSError, RuntimeError, ValueError, TypeError, OverflowError):
        data = files.get(*located(path, name))
        if isinstance(data, h5py.Dataset) and data.size == 1 and data.dtype.kind in "iuf":
            return float(np.asarray(data[()]).reshape(()))
    return None


def _not_good(files: Files, path: Path, groups: list[str], stack: FrameStack) -> tuple[int, ...]:
    """Return the numbers of the frames that SwissFEL's `is_good_frame` calls not good."""
    for group in groups:
        with contextlib.suppress(UserError, OSError, RuntimeError, ValueError, TypeError):
            data = files.dataset(*located(path, f"{group}/is_good_frame"))
            if data is not None and data.size == stack.frames and data.dtype.kind in "biu":
                return tuple(np.flatnonzero(np.asarray(data[()]).reshape(-1) == 0).tolist())
    return ()
