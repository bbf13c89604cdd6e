"""The files that the frames of a virtual data set lie in, and which of them are missing or were cut."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

import h5py

from sfxjax.data.opening import DAMAGE
from sfxjax.errors import UserError
from sfxjax.files import is_file, not_a_file

# Files of a virtual data set that are watched.
MOST_SIZES = 64


def linked(own: Path, name: str) -> Path:
    """Return the file that a link in a file names.

    Where that is missing it is, as HDF5 has it, the one of that bare name beside the file: a run that was copied keeps the paths
    of where it was written. A file that is itself a symbolic link has its links' targets beside the real one.

    Args:
        own: the file that holds the link.
        name: as the link has it.
    """
    named = own.parent / name
    if is_file(named):
        return named
    real = own.resolve().parent
    places = [named, real / name, own.parent / Path(name).name, real / Path(name).name]
    there = (place for test in (is_file, os.path.lexists) for place in places if test(place))
    return next(there, named)


def virtual_sources(data: h5py.Dataset) -> list[tuple[Path, str]]:
    """List (file, data set) of a virtual data set's sources, each once: a set of a million frames may name one a million times.

    A pattern such as `part-%b.h5` stands for many files in one folder; its folder is what matters here.
    """
    if not data.is_virtual:
        return []
    own = Path(data.file.filename)
    named = dict.fromkeys((source.file_name, source.dset_name) for source in data.virtual_sources())
    return list(dict.fromkeys((own if file == "." else linked(own, file), name) for file, name in named))


def opened_for(own: Path, source: Path) -> list[Path]:
    """List the files that HDF5 may open for a source of a virtual data set.

    Where the named file is missing it takes a namesake beside the file, or in the working folder, and only then one beside the
    real file that a symbolic link leads to.
    """
    real = own.resolve().parent
    if source.is_file() and (own.parent.resolve() == real or not source.is_relative_to(real)):
        return [source]
    relative = source.relative_to(own.parent) if source.is_relative_to(own.parent) else Path(source.name)
    places = [source, own.parent / source.name, Path.cwd() / relative, Path.cwd() / source.name]
    found = [source]
    for place in places:
        # A pattern such as part-%b.h5 stands for part-0.h5 and so on.
        name = re.sub(r"%\w", "*", glob.escape(place.name))
        found += [path for path in place.parent.glob(name) if path.is_file()] if place.parent.is_dir() else []
    return found


def missing_virtual_frames(data: h5py.Dataset) -> list[tuple[int, int, str]]:
    """List (first frame, last frame, why) of frames missing in a virtual data set: HDF5 silently fills such frames.

    A source counts as missing where it does not lie beside the file, though HDF5 looks elsewhere too, or lacks the data set.
    """
    missing = []
    own = Path(data.file.filename)
    known: dict[tuple[str, str], tuple[Path, bool]] = {}
    for source in data.virtual_sources() if data.is_virtual else ():
        if source.file_name == "." or "%" in source.file_name:
            continue
        named = source.file_name, source.dset_name
        if named not in known:
            place = linked(own, source.file_name)
            known[named] = place, has_data_set(place, source.dset_name)
        place, is_there = known[named]
        if not is_there:
            low, high = source.vspace.get_select_bounds()
            what = not_a_file(place) or f"damaged, or without {source.dset_name}"
            why = f"the file {source.file_name} with this frame is {what}"
            missing.append((int(low[0]), int(high[0]), why))
    return missing


def sizes_of(data: h5py.Dataset) -> dict[Path, int]:
    """Return the sizes in bytes of the files that a data set's pixels lie in, as far as there are such files."""
    files = [Path(data.file.filename), *(source for source, _ in virtual_sources(data))]
    return {path: path.stat().st_size for path in dict.fromkeys(files[:MOST_SIZES]) if is_file(path)}


def refuse_cut(sizes: dict[Path, int]) -> None:
    """Refuse what was read of files that are shorter now than before: HDF5 reads zeros behind the end of a file.

    Raises:
        UserError: one is.
    """
    for place, (path, size) in enumerate(sizes.items()):
        # The first is open, and is read even where its name is gone; of others HDF5 then makes zeros.
        gone = not is_file(path)
        if place > 0 if gone else path.stat().st_size < size:
            raise UserError(f"{path}: cut short or taken away while it was read; fetch it again")


def has_data_set(path: Path, name: str) -> bool:
    """Tell whether a file is there and holds a data set; a pattern of names counts as one."""
    if not is_file(path):
        return False
    try:
        with h5py.File(path, "r", locking=False) as file:
            return "%" in name or name in file
    except DAMAGE:
        return False
