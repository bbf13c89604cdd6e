"""Which HDF5 files a file links to, what of them it shows as frames, and which masters link to a file of frames."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import h5py

from sfxjax.data.formats.generic import NO_FRAMES_BY_NAME
from sfxjax.data.hdf5 import Files
from sfxjax.data.opening import DAMAGE
from sfxjax.data.virtual_sets import linked
from sfxjax.errors import UserError
from sfxjax.files import is_file, not_a_file

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".cxi", ".nxs")
# Of the masters in a folder so many are opened: those whose names begin most like the file's.
MOST_MASTERS = 4
# A folder with more names of masters is searched for none but those of the file's own name.
MOST_NAMES = 1000
# Links that are looked at in a file; and of each of its groups, the objects that are opened.
MOST_LINKS, MOST_OPENED = 100_000, 4096
# Images of fewer rows or columns are none.
SMALLEST = 16
# Files that lead to others in turn.
MOST_STEPS = 64
# A part of a run, by its name.
PART = re.compile(r"(.*)_(?:data_)?\d+\.[^.]*")
_DATA = re.compile(r"data(_f?\d+)?")

Identity = tuple[int, int] | str


class Shown(NamedTuple):
    """A data set of another file that a file shows as its own.

    Attributes:
        file: that it lies in.
        dataset: its path there, without the first slash.
        range: the first and the last along its first axis, of a virtual data set; None: all.
        frames: whether it may hold frames, by its names.
    """

    file: Path
    dataset: str
    range: tuple[int, int] | None
    frames: bool


def identity(path: Path) -> Identity:
    """Return what is the same for all names and links of a file: its device and inode; where it is missing, its path."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return os.path.abspath(path)  # noqa: PTH100 - also of a name that no file can have
    return status.st_dev, status.st_ino


def linked_files(path: Path) -> set[Path]:
    """List the files that a file's frames and masks lie in, by links, virtual data sets and external storage, not opening those.

    Args:
        path: of an HDF5 file; of any other, or a damaged one, none.
    """
    return {shown.file for shown in shown_of(path)}


def shown_of(path: Path) -> set[Shown]:
    """Return what a file shows of others, not opening those.

    Args:
        path: of an HDF5 file; of any other, or a damaged one, nothing.
    """
    if not is_file(path):
        return set()
    found = set()
    for link in _links(path, *_changed(path)):
        target = linked(path, str(link.file))
        # Where it is missing it may yet come beside the file.
        target = target if is_file(target) else path.parent / link.file.name
        found.add(link._replace(file=Path(os.path.realpath(target))))
    return found


def frames_behind(path: Path) -> set[Shown]:
    """Return what a file shows of others as frames, also by way of files that show them in turn."""
    found: set[Shown] = set()
    waiting, seen = [path], {identity(path)}
    while waiting and len(seen) < MOST_STEPS:
        new = {shown for shown in shown_of(waiting.pop()) if _shows_frames(shown)}
        new = {shown._replace(file=file) for shown in new for file in files_meant(shown.file)}
        found |= new
        for shown in new:
            # Parts are many, and link to nothing.
            part = PART.fullmatch(shown.file.name) and _is_data(shown)
            if not part and identity(shown.file) not in seen:
                seen.add(identity(shown.file))
                waiting.append(shown.file)
    return found


def files_meant(target: Path) -> list[Path]:
    """Return the files that a name of a link means: where it is a pattern such as part-%b.h5, those there are."""
    if "%" not in target.name:
        return [target]
    pattern = re.sub(r"%\w", "*", glob.escape(target.name))
    return sorted(path for path in target.parent.glob(pattern) if path.is_file())


def masters_of(path: Path) -> list[Path]:
    """List the masters beside a file, `x_master.h5` and `x.nxs`, that link to its frames.

    Args:
        path: of an HDF5 file of frames.
    """
    real = path.resolve()
    names = _masters_in(real.parent, *_changed(real.parent)) or _own_masters(real)
    nearest = sorted(names, key=lambda name: (-_begun_alike(name, real.name), name))
    masters = [real.parent / name for name in nearest if name != real.name][:MOST_MASTERS]
    return [master for master in masters if _shows(master, real)]


def unused_masters(path: Path) -> list[str]:
    """Say which files that are masters of a part by their names cannot be used as such, and why.

    Args:
        path: of an HDF5 file of frames.
    """
    real, used = path.resolve(), masters_of(path)
    lines = []
    for master in (real.parent / name for name in _own_masters(real)):
        if master in used:
            continue
        why = not_a_file(master)
        why = f"it is {why}" if why else f"it does not link to {real.name}, or is damaged"
        try:
            if is_file(master):
                with Files(master.parent) as files:
                    files.open(master)
        except UserError as error:
            why = str(error).removeprefix(f"{master}: ")
        lines.append(
            f"{master}: by its name the master of {real.name}, but its mask and limits are not used: {why}"
        )
    return lines


def _own_masters(part: Path) -> list[str]:
    """List the names of masters beside a part that are masters of it by their names."""
    found = PART.fullmatch(part.name)
    stem = found[1].removesuffix("_data") if found else ""
    names = (f"{stem}_master{part.suffix}", f"{stem}.nxs") if stem else ()
    return [name for name in names if os.path.lexists(part.parent / name)]


def _shows(master: Path, part: Path) -> bool:
    return any(shown.file == part and _shows_frames(shown) for shown in shown_of(master))


def _begun_alike(one: str, other: str) -> int:
    """Count the characters that two names begin with alike."""
    differ = (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differ, min(len(one), len(other)))


def _changed(path: Path) -> tuple[int, ...]:
    """Return what tells versions of a file or folder apart."""
    try:
        status = path.stat()
    except OSError:
        return (0,)
    return status.st_mtime_ns, status.st_size, status.st_ino


@lru_cache(maxsize=16)
def _masters_in(folder: Path, *changed: int) -> tuple[str, ...]:
    """List the names in a folder that masters have; `changed` tells its versions apart."""
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError:
        return ()
    masters = tuple(name for name in names if "_master." in name or name.endswith(".nxs"))
    return masters if len(masters) <= MOST_NAMES else ()


@lru_cache(maxsize=2**14)
def _links(path: Path, *changed: int) -> frozenset[Shown]:
    """Return what a file shows of others, whose names are as the file has them; `changed` tells its versions apart."""
    left = MOST_LINKS

    def visit(group: h5py.Group, depth: int) -> Iterator[Shown]:
        nonlocal left
        for place, key in enumerate(list(group)[:left]):
            left -= 1
            link = group.get(key, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                yield _link(key, link.filename, link.path)
            elif isinstance(link, h5py.HardLink) and depth < 6 and place < MOST_OPENED:
                item = group[key]
                if isinstance(item, h5py.Group):
                    yield from visit(item, depth + 1)
                elif isinstance(item, h5py.Dataset):
                    yield from _stored_outside(item, key)

    try:
        with h5py.File(path, "r", locking=False) as file:
            return frozenset(visit(file, 0))
    except DAMAGE:
        return frozenset()


def _stored_outside(data: h5py.Dataset, key: str) -> Iterator[Shown]:
    """Give the files that the pixels of a data set lie in, as those of a virtual one or by external storage."""
    for name, *_ in data.external or ():
        yield _link(key, os.path.abspath(os.fsdecode(name)), "")  # noqa: PTH100 - HDF5 looks for it in the working folder
    for source in data.virtual_sources() if data.is_virtual else ():
        if source.file_name == ".":
            continue
        range_ = None
        with contextlib.suppress(*DAMAGE):
            low, high = source.src_space.get_select_bounds()
            range_ = int(low[0]), int(high[0])
        yield _link(key, source.file_name, source.dset_name, range_)


def _link(key: str, file: str, dataset: str, range_: tuple[int, int] | None = None) -> Shown:
    names = (key, PurePosixPath(dataset).name)
    frames = not any(NO_FRAMES_BY_NAME.search(name) for name in names)
    return Shown(Path(file), dataset.strip("/"), range_, frames)


def _is_data(shown: Shown) -> bool:
    return _DATA.fullmatch(PurePosixPath(shown.dataset).name) is not None


def _shows_frames(shown: Shown) -> bool:
    """Tell whether what is shown of a file is frames: what a beamline links may be anything."""
    if not shown.frames or _is_data(shown):
        return shown.frames
    shape = shape_of(shown)
    # A group may hold them.
    return shape == () or (shape is not None and len(shape) > 1 and min(shape[-2:]) >= SMALLEST)


def shape_of(shown: Shown) -> tuple[int, ...] | None:
    """Return the shape of a data set that is shown, () for a group, None where it cannot be opened."""
    return _shape(shown.file, shown.dataset, *_changed(shown.file))


@lru_cache(maxsize=2**14)
def _shape(path: Path, name: str, *changed: int) -> tuple[int, ...] | None:
    """See `shape_of`; `changed` tells the file's versions apart."""
    if not is_file(path):
        return None
    try:
        with Files(path.parent) as files:
            item = files.get(path, f"/{name}")
            shape = item.shape if isinstance(item, h5py.Dataset) else () if item is not None else None
            return None if shape is None else tuple(map(int, shape))
    except (UserError, *DAMAGE):
        return None
