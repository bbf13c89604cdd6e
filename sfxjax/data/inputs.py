"""Files, folders, patterns and lists of a command line, expanded to names of files that may hold frames."""

from __future__ import annotations

import glob
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import h5py

from sfxjax.data.events import parse_crystfel_line
from sfxjax.data.formats import known_formats
from sfxjax.data.hdf5 import DAMAGE
from sfxjax.data.links import linked_files
from sfxjax.errors import UserError, explain_os_error
from sfxjax.files import is_file, refuse_pipe

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".cxi", ".nxs")
LIST_SUFFIXES = (".lst",)
# What a screening writes beside its lists.
OWN_NAMES = ("class_means.h5",)
OWN_GROUP = "/entry_1/screening"
# What lies beside frames and holds none: other files in a folder that are not read are named.
NO_FRAMES = (
    *(
        ".txt",
        ".log",
        ".csv",
        ".tsv",
        ".json",
        ".jsonl",
        ".yaml",
        ".yml",
        ".toml",
        ".xml",
        ".md",
        ".html",
        ".pdf",
        ".dat",
    ),
    *(
        ".png",
        ".jpg",
        ".jpeg",
        ".svg",
        ".gif",
        ".geom",
        ".lst",
        ".stream",
        ".expt",
        ".refl",
        ".cell",
        ".mtz",
        ".pdb",
        ".hkl",
    ),
    *(
        ".py",
        ".sh",
        ".ipynb",
        ".npz",
        ".pkl",
        ".pickle",
        ".ini",
        ".cfg",
        ".inp",
        ".journal",
        ".lock",
        ".md5",
        ".sha256",
    ),
)
_PART = re.compile(r"(.*)_(?:data_)?\d+\.[^.]*")


@dataclass(frozen=True)
class Inputs:
    """What a command line names.

    Attributes:
        files: names of files, each once.
        notes: what in folders was left out, and why.
    """

    files: tuple[str, ...]
    notes: tuple[str, ...] = ()


def expand(names: list[str]) -> list[str]:
    """Return the files of `find_files`."""
    return list(find_files(names).files)


def find_files(names: list[str]) -> Inputs:
    """Expand folders to the files of frames in them, patterns to the files they fit, lists to the files they name.

    In folders every frame counts once: files that others there link to are left out, and so are files that link to the same
    ones, and what a screening wrote.

    Args:
        names: as the user gave them.

    Raises:
        UserError: a file or folder is missing, a folder holds no frames, or a pattern fits nothing.
    """
    found: list[str] = []
    notes: list[str] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            inside = _in_folder(path, notes)
            if not inside:
                left_out = f"; {notes[-1]}" if notes else ""
                raise UserError(
                    f"{name}: no file in this folder may hold frames ({', '.join(sorted(_suffixes()))}){left_out}"
                )
            found += inside
        elif path.exists():
            found += _names_in_list(path) if path.suffix in LIST_SUFFIXES else [name]
        elif glob.has_magic(name):
            fitting = [entry for entry in glob.glob(name, recursive=True) if Path(entry).is_file()]  # noqa: PTH207
            if not fitting:
                raise UserError(f"no file fits the pattern {name}")
            found += _each_frame_once(sorted(fitting, key=natural_order), Path(name).parent, notes)
        else:
            raise UserError(f"no such file or folder: {name}")
    return Inputs(tuple(dict.fromkeys(found)), tuple(dict.fromkeys(notes)))


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts `run_9` before `run_10`."""
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), part) if part.isdecimal() else (0, 0, part) for part in parts if part]


def _suffixes() -> set[str]:
    return {*HDF5_SUFFIXES, *(suffix for each in known_formats().values() for suffix in each.suffixes)}


def _in_folder(folder: Path, notes: list[str]) -> list[str]:
    """List the files of frames in a folder, and note what is left out."""
    entries = [entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith(".")]
    mine = tuple(_suffixes())
    inside = sorted((str(entry) for entry in entries if entry.name.lower().endswith(mine)), key=natural_order)
    others = [entry.name.lower() for entry in entries if not entry.name.lower().endswith((*mine, *NO_FRAMES))]
    foreign = Counter("".join(Path(name).suffixes[-2:]) or "without a suffix" for name in others)
    if foreign:
        kinds = ", ".join(f"{count} {kind}" for kind, count in foreign.most_common(6))
        more = f" and {len(foreign) - 6} more kinds" if len(foreign) > 6 else ""
        notes.append(f"{folder}: left out files of formats that are not read: {kinds}{more}")
    return _each_frame_once(inside, folder, notes)


def _each_frame_once(names: list[str], where: Path, notes: list[str]) -> list[str]:
    """Leave out files whose frames others show, and note it."""
    reasons = _shown_by_others(names)
    if reasons:
        shown = "; ".join(f"{Path(name).name} ({why})" for name, why in list(reasons.items())[:6])
        more = f"; and {len(reasons) - 6} more" if len(reasons) > 6 else ""
        notes.append(f"{where}: left out {len(reasons)} files: {shown}{more}")
    return [name for name in names if name not in reasons]


def _shown_by_others(names: list[str]) -> dict[str, str]:
    """Tell which files show frames of other files again, or none, and why."""
    paths = [name for name in names if name.lower().endswith(HDF5_SUFFIXES)]
    known = {Path(name).resolve(): name for name in paths}
    targets: dict[str, frozenset[str]] = {}
    reasons: dict[str, str] = {}
    for name in paths:
        if Path(name).name in OWN_NAMES or _is_own(name):
            reasons[name] = "written by a screening"
        elif _may_link(name, paths):
            linked = {known[target] for target in linked_files(Path(name)) if target in known}
            targets[name] = frozenset(linked - {name})
    for name in paths:
        # A master that is still being written may not link to its files yet.
        stem = re.fullmatch(r"(.*)_data_\d+(\.[^.]*)", name)
        if stem and f"{stem[1]}_master{stem[2]}" in targets:
            targets[f"{stem[1]}_master{stem[2]}"] |= {name}
    masters = {name for name, linked in targets.items() if linked}
    for name in masters:
        for part in targets[name]:
            reasons.setdefault(part, f"{Path(name).name} links to it")
    seen: dict[frozenset[str], str] = {}
    # Of a master and a .nxs of the same frames the master stands first in the alphabet, and is what DIALS and CrystFEL know.
    for name in sorted(masters - reasons.keys(), key=lambda name: ("_master." not in name, name)):
        frames = frozenset(part for part in targets[name] if not Path(part).stem.endswith("_meta"))
        first = seen.setdefault(frames, name)
        if first != name:
            reasons[name] = f"its frames are those of {Path(first).name}"
    for name in paths:
        if Path(name).stem.endswith("_meta") and name not in reasons and masters:
            reasons[name] = "no frames, but what describes them"
    return reasons


def _may_link(name: str, paths: list[str]) -> bool:
    """Tell by the names whether a file may link to others of a folder, so that not every file of a large one is opened."""
    return len(paths) > 1 and (
        "_master." in name or name.endswith((".nxs", ".cxi")) or not _PART.fullmatch(name)
    )


def _is_own(name: str) -> bool:
    """Tell whether a screening wrote a file."""
    if Path(name).name != "hits.cxi":
        return False
    try:
        with h5py.File(name, "r", locking=False) as file:
            return OWN_GROUP in file
    except DAMAGE:
        return False


def _names_in_list(path: Path) -> list[str]:
    """List the files that a list names, a line each; relative ones lie in the working folder or beside the list.

    Raises:
        UserError: the list cannot be read, or names single frames or nothing.
    """
    refuse_pipe(path)
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise UserError(
            explain_os_error(error, path) or f"{path}: cannot be read ({error.strerror})"
        ) from error
    files = []
    for line in filter(str.strip, lines):
        name, event = parse_crystfel_line(line.strip())
        if event and event != "//":
            raise UserError(
                f"{path}: names single frames ({line.strip()}); whole files are screened: leave out what follows their names"
            )
        places = [Path(name), path.parent / name]
        files.append(str(next((place for place in places if is_file(place)), places[0])))
    if not files:
        raise UserError(f"{path}: names no file")
    return files
