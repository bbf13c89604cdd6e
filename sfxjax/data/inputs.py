"""Files, folders, patterns and lists of a command line, expanded to names of files that may hold frames."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from sfxjax.data.copies import copies
from sfxjax.data.detector_modules import modules_apart
from sfxjax.data.events import absolute
from sfxjax.data.file_lists import is_list, names_in_list
from sfxjax.data.formats import known_formats
from sfxjax.data.links import HDF5_SUFFIXES
from sfxjax.data.repeats import OWN_HITS, OWN_MEANS, repeated
from sfxjax.errors import UserError
from sfxjax.files import is_file, not_a_file
from sfxjax.text import counted, first_few

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


@dataclass(frozen=True)
class Inputs:
    """What a command line names.

    Attributes:
        files: names of files, each once.
        notes: what was left out, and why.
        left_out: names of the files whose frames others of them show, and of those without frames.
    """

    files: tuple[str, ...]
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def find_files(names: Sequence[str], *, waiting: bool = False, without: Collection[str] = ()) -> Inputs:
    """Expand folders to the files of frames in them, patterns to the files they fit, lists to the files they name.

    Every frame counts once, see `sfxjax.data.repeats`: the notes say what is left out for that, or since it holds no frames.
    Folders inside folders are not looked into, which a note says.

    Args:
        names: as the user gave them.
        waiting: what is not there yet is passed over, and so are folders without frames.
        without: names of files that are none of them.

    Raises:
        UserError: a file or folder is missing, a pattern fits nothing, or nothing named may hold frames.
    """
    found: list[str] = []
    named: set[str] = set()
    notes: list[str] = []
    empty: list[str] = []
    apart = {absolute(name) for name in names}
    for name in names:
        try:
            files, is_named = _meant(name, notes, apart)
        except UserError:
            if waiting:
                continue
            raise
        if not files:
            empty.append(f"{name}: no file in this folder may hold frames ({', '.join(sorted(_suffixes()))})")
        found += files
        named.update(files if is_named else ())
    if not (found or waiting):
        raise UserError("; ".join([*empty, *notes]))
    notes += [] if waiting else empty
    every = [name for name in dict.fromkeys(found) if name not in without]
    again = [name for name, count in Counter(found).items() if count > 1]
    reasons, shared = repeated(every, named)
    reasons |= {name: "named again" for name in again if name not in reasons}
    # In their order: a line that is said once must not come again with its names turned round.
    reasons = {name: reasons[name] for name in every if name in reasons}
    if reasons:
        notes.append(f"left out {counted(len(reasons), 'files')}: {_listed(reasons, every)}")
    files = [name for name in every if reasons.get(name, "named again") == "named again"]
    notes += [] if waiting else copies(files)
    notes += modules_apart(files)
    if not (files or waiting):
        raise UserError(f"{', '.join(names)}: no file may hold frames; {'; '.join(notes)}")
    return Inputs(tuple(files), tuple(dict.fromkeys([*notes, *shared])), tuple(reasons))


def _meant(name: str, notes: list[str], apart: Collection[str]) -> tuple[list[str], bool]:
    """Return the files that a name means, none of a folder without frames, and whether it names them itself."""
    path = Path(name)
    if path.is_dir():
        return _in_folder(path, notes, apart), False
    if path.exists():
        return (names_in_list(path), True) if is_list(path) else ([name], True)
    if glob.has_magic(name):
        entries = glob.glob(name, recursive=True)  # noqa: PTH207
        fitting = [entry for entry in entries if is_file(entry)]
        _note_no_files([Path(entry) for entry in entries], f"the pattern {name}", notes)
        if not fitting:
            folders = [entry for entry in entries if Path(entry).is_dir()]
            only = f", only folders such as {folders[0]}: name them, or the files in them" if folders else ""
            raise UserError(f"no file fits the pattern {name}{only}")
        return sorted(fitting, key=natural_order), False
    nothing = ", which is a link to nothing" if path.is_symlink() else ""
    raise UserError(f"no such file or folder: {name}{nothing}")


def _listed(reasons: dict[str, str], names: list[str]) -> str:
    """Name files and why they are left out, of many the first."""
    alike = Counter(Path(name).name for name in names)
    shown = [
        f"{name if alike[Path(name).name] > 1 else Path(name).name} ({why})" for name, why in reasons.items()
    ]
    return first_few(shown, between="; ")


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts `run_9` before `run_10`."""
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), part) if part.isdecimal() else (0, 0, part) for part in parts if part]


def _suffixes() -> set[str]:
    return {*HDF5_SUFFIXES, *(suffix for each in known_formats().values() for suffix in each.suffixes)}


def _in_folder(folder: Path, notes: list[str], apart: Collection[str]) -> list[str]:
    """List the files of frames in a folder, and note what is left out, but for folders in it that are named apart."""
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    mine = tuple(_suffixes())
    _note_no_files([entry for entry in entries if entry.name.lower().endswith(mine)], str(folder), notes)
    subfolders = sorted(
        entry
        for entry in entries
        if entry.is_dir() and not entry.name.lower().endswith(mine) and absolute(str(entry)) not in apart
    )
    entries = [entry for entry in entries if is_file(entry)]
    inside = sorted((str(entry) for entry in entries if entry.name.lower().endswith(mine)), key=natural_order)
    others = [entry.name.lower() for entry in entries if not entry.name.lower().endswith((*mine, *NO_FRAMES))]
    # Beside frames, only such as hold more of them; alone, any that may.
    shown = [entry for entry in subfolders if _holds_frames(entry)] or ([] if inside else subfolders)
    if shown:
        notes.append(f"{folder}: its subfolders, such as {shown[0].name}, are not looked into: name them")
    foreign = Counter("".join(Path(name).suffixes[-2:]) or "without a suffix" for name in others)
    if foreign:
        kinds = first_few((f"{count} {kind}" for kind, count in foreign.most_common()), things="kinds")
        notes.append(f"{folder}: left out files of formats that are not read: {kinds}")
    return inside


def _holds_frames(folder: Path) -> bool:
    """Tell whether a folder itself holds a file of frames, other than what a screening has written."""
    mine = tuple(_suffixes())
    try:
        with os.scandir(folder) as entries:
            return any(
                entry.name.lower().endswith(mine) and entry.name not in (OWN_HITS, OWN_MEANS)
                for entry in entries
            )
    except OSError:
        return False


def _note_no_files(entries: list[Path], where: str, notes: list[str]) -> None:
    """Note entries that are no files, though their names are those of files of frames."""
    what = {
        str(entry): not_a_file(entry) for entry in entries if entry.name.lower().endswith(tuple(_suffixes()))
    }
    what = {name: kind for name, kind in sorted(what.items()) if kind}
    if what:
        notes.append(f"{where}: left out what is no file: {_listed(what, list(what))}")
