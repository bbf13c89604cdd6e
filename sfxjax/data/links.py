"""Which HDF5 files a file links to, and which masters link to a file of frames."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import h5py

from sfxjax.data.hdf5 import DAMAGE, virtual_sources
from sfxjax.files import is_file

# Of the masters in a folder so many are opened: those whose names begin most like the file's.
MOST_MASTERS = 4
# A folder with more names of masters is searched for none.
MOST_NAMES = 1000


def linked_files(path: Path) -> set[Path]:
    """List the files that a file's frames and masks lie in, by links, virtual data sets and external storage, not opening those.

    Args:
        path: of an HDF5 file; of any other, or a damaged one, none.
    """
    found: set[Path] = set()

    def visit(group: h5py.Group, depth: int) -> None:
        for key in list(group)[:4096]:
            link = group.get(key, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                name = link.filename
                found.add(
                    (path.parent / (name if is_file(path.parent / name) else Path(name).name)).resolve()
                )
            elif isinstance(link, h5py.HardLink) and depth < 6:
                item = group[key]
                if isinstance(item, h5py.Group):
                    visit(item, depth + 1)
                elif isinstance(item, h5py.Dataset):
                    found.update(source.resolve() for source, _ in virtual_sources(item))
                    found.update(Path(os.fsdecode(name)).resolve() for name, *_ in item.external or ())

    if not is_file(path):
        return found
    try:
        with h5py.File(path, "r", locking=False) as file:
            visit(file, 0)
    except DAMAGE:
        return set()
    return found


def masters_of(path: Path) -> list[Path]:
    """List the masters beside a file, `x_master.h5` and `x.nxs`, that link to its frames.

    Args:
        path: of an HDF5 file of frames.
    """
    real = path.resolve()
    names = _masters_in(real.parent, _changed(real.parent))
    nearest = sorted(names, key=lambda name: (-_begun_alike(name, real.name), name))
    masters = [real.parent / name for name in nearest if name != real.name][:MOST_MASTERS]
    return [master for master in masters if is_file(master) and real in _links_of(master, _changed(master))]


def _begun_alike(one: str, other: str) -> int:
    """Count the characters that two names begin with alike."""
    differ = (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differ, min(len(one), len(other)))


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=16)
def _masters_in(folder: Path, changed: int) -> tuple[str, ...]:
    """List the names in a folder that masters have; `changed` tells its versions apart."""
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError:
        return ()
    masters = tuple(name for name in names if "_master." in name or name.endswith(".nxs"))
    return masters if len(masters) <= MOST_NAMES else ()


@lru_cache(maxsize=16)
def _links_of(path: Path, changed: int) -> frozenset[Path]:
    """Return the files that a master links to; `changed` tells its versions apart."""
    return frozenset(linked_files(path))
