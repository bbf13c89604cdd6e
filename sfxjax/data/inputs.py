"""Files, folders and patterns of a command line, expanded to names of files that may hold frames."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from sfxjax.data.formats import known_formats
from sfxjax.errors import UserError

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".cxi", ".nxs")


def expand(names: list[str]) -> list[str]:
    """Expand folders to the files of frames in them, and patterns to the files they fit, in a natural order.

    Args:
        names: as the user gave them.

    Returns:
        Names of files, each once.

    Raises:
        UserError: a file or folder is missing, a folder holds no frames, or a pattern fits nothing.
    """
    found: list[str] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            inside = [str(entry) for entry in path.iterdir() if entry.is_file() and _may_hold_frames(entry)]
            if not inside:
                raise UserError(
                    f"{name}: no file in this folder may hold frames ({', '.join(sorted(_suffixes()))})"
                )
            found += sorted(_without_parts(inside), key=natural_order)
        elif path.exists():
            found.append(name)
        elif glob.has_magic(name):
            fitting = [entry for entry in glob.glob(name, recursive=True) if Path(entry).is_file()]  # noqa: PTH207
            if not fitting:
                raise UserError(f"no file fits the pattern {name}")
            found += sorted(fitting, key=natural_order)
        else:
            raise UserError(f"no such file or folder: {name}")
    return list(dict.fromkeys(found))


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts `run_9` before `run_10`."""
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), part) if part.isdecimal() else (0, 0, part) for part in parts if part]


def _suffixes() -> set[str]:
    return {*HDF5_SUFFIXES, *(suffix for each in known_formats().values() for suffix in each.suffixes)}


def _may_hold_frames(path: Path) -> bool:
    return path.name.lower().endswith(tuple(_suffixes())) and not path.name.startswith(".")


def _without_parts(names: list[str]) -> list[str]:
    """Leave out the data files of a DECTRIS master that lies beside them: the master links to them."""
    masters = {name.rpartition("_master.")[0] for name in names if "_master." in name}
    parts = re.compile(r"(.*)_data_\d+\.[^.]*")
    return [name for name in names if not ((match := parts.fullmatch(name)) and match[1] in masters)]
