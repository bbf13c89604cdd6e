"""How a set of frames is described: on a command line, in a TOML file, or as one of CXIDB 76's."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sfxjax.data.file_states import file_states
from sfxjax.data.frames import ReadOptions
from sfxjax.data.inputs import find_files
from sfxjax.data.masks import split_mask_name
from sfxjax.errors import UserError
from sfxjax.json_files import shown_value
from sfxjax.toml_files import read_toml

LABEL_FILE = "expert_annotation.txt"


MASK_FILE = "mask.npz"
# Beyond it no place on a detector lies, and no frame has as many spots.
MOST_NUMBER = 10**9


# Folder and file of each set in the deposition.
CXIDB76 = {
    "LN83": ("ln83", "r0018_2000.h5"),
    "LN84": ("ln84", "r0095_2000.h5"),
    "LO19": ("lo19", "r0020_2000.h5"),
    "LG36": ("lg36", "r0087_2000.h5"),
    "L498": ("l498", "r0027_2000.h5"),
}


_KEYS = {
    "labels": str,
    "mask": str,
    "mask_good": int,
    "good_bits": int,
    "bad_bits": int,
    "dataset": str,
    "geometry": str,
    "beam_centre": list,
    "min_spots": int,
}


@dataclass(frozen=True)
class SetDescription:
    """What a set consists of.

    Attributes:
        name: for tables and folders.
        files: names of the files, folders and patterns expanded.
        labels: file of labels, see `sfxjax.data.labels`; None: the frames have none.
        read: what the user says about the files.
        label_name: the frames' file that labels of CXIDB 76 must name.
        min_spots: spots of a finder from which a frame is a hit; None: read off its counts.
        notes: which files were left out, and why.
    """

    name: str
    files: tuple[str, ...]
    labels: str | None = None
    read: ReadOptions = field(default_factory=ReadOptions)
    label_name: str | None = None
    min_spots: int | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return what decides the set's frames and labels, as JSON values.

        Options; the states of the files, of those that they link to, of the mask and of the geometry; a checksum of the labels.
        """
        named = [*self.files]
        if self.read.mask is not None:
            named.append(str(split_mask_name(self.read.mask)[0]))
        if self.read.geometry is not None:
            named.append(self.read.geometry)
        # Without the time of the entry: a training goes on where permissions were changed meanwhile.
        files = [list(state[:4]) for name in named for state in file_states(name)]
        digest = None
        if self.labels is not None and Path(self.labels).is_file():
            with Path(self.labels).open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()[:16]
        own = {} if self.min_spots is None else {"min_spots": self.min_spots}
        return {"files": files, "labels": digest, "read": asdict(self.read), **own}


def sets_in(folder: str | Path | None, names: Sequence[str]) -> dict[str, SetDescription]:
    """Find sets of CXIDB 76 in a folder; none where there is no folder.

    Raises:
        UserError: as `cxidb76_set`.
    """
    return {} if folder is None else {name: cxidb76_set(folder, name) for name in names}


def cxidb76_name(name: str, others: Sequence[str] = ()) -> str:
    """Return the name of a set of CXIDB 76 as the deposition writes it.

    Args:
        name: in either case.
        others: names of other sets that there are, for the message.

    Raises:
        UserError: there is no such set.
    """
    if name.upper() not in CXIDB76:
        raise UserError(
            f"no set named {name!r}; choose one of {', '.join((*CXIDB76, *others))}, or name your own files with --set"
        )
    return name.upper()


def cxidb76_set(folder: str | Path, name: str) -> SetDescription:
    """Find the files of a set of CXIDB 76.

    Args:
        folder: holds `ln83/r0018_2000.h5`, as on the deposition's site, or `LN83/r0018_2000.h5`, or
            `r0018_2000.h5`. `expert_annotation.txt` and, if there is one, `mask.npz` lie beside that file, or
            in `ln83/` or `LN83/`.
        name: one of `CXIDB76`, in either case.

    Raises:
        UserError: there is no such set, or its frames or labels are missing.
    """
    name = cxidb76_name(name)
    own, file_name = CXIDB76[name]
    root = Path(folder)
    own_folders = [root / own, root / name]
    candidates = [place / file_name for place in (*own_folders, root)]
    path = _first_file(candidates)
    if path is None:
        tried = ", ".join(map(str, candidates))
        raise UserError(
            f"no frames of {name} found (tried {tried}); --data must name the folder that holds "
            f"{own}/{file_name} of CXIDB 76"
        )
    # In a folder with files of several sets, labels and mask in the set's own folder are the surer ones.
    places = [*own_folders, root] if path.parent == root else [path.parent, *own_folders]
    labels = _first_file([place / LABEL_FILE for place in places])
    if labels is None:
        raise UserError(f"no labels of {name} found; put its {LABEL_FILE} into {path.parent}")
    mask = _first_file([place / MASK_FILE for place in places])
    read = ReadOptions(mask=None if mask is None else str(mask))
    return SetDescription(name, (str(path),), str(labels), read, file_name)


def sets_of_options(
    sets: Sequence[Sequence[str]] = (), table: str | Path | None = None
) -> dict[str, SetDescription]:
    """Read the sets that a command line describes.

    Args:
        sets: each the values of one `--set`: `NAME=FILE`, more files, and `key=value`.
        table: TOML file of `--sets`.

    Returns:
        By name.

    Raises:
        UserError: a description is incomplete or has an unknown key, two sets have one name, or a file is missing.
    """
    described: list[tuple[str, dict[str, Any], Path]] = []
    if table is not None:
        described += _read_table(Path(table))
    for values in sets:
        name, _, first = values[0].partition("=")
        if not name or not first:
            raise UserError(
                f"--set {values[0]!r} is not NAME=FILES; write --set myrun=run12/*.h5 labels=labels.csv"
            )
        fields: dict[str, Any] = {"files": [first]}
        for value in values[1:]:
            key, _, text = value.partition("=")
            if key in _KEYS:
                fields[key] = _typed(key, text, f"--set {name}")
            elif text and key.isidentifier() and not Path(value).exists() and not glob.has_magic(value):
                raise UserError(
                    f"--set {name}: no key {key!r} and no file {value}; known are {', '.join(_KEYS)}"
                )
            else:
                fields["files"].append(value)
        described.append((name, fields, Path()))
    found: dict[str, SetDescription] = {}
    for name, fields, folder in described:
        if "/" in name or name in (".", "..", "labels"):
            raise UserError(
                f"a set cannot be named {name!r}, which names a folder or a list; choose another name"
            )
        if name in found:
            raise UserError(f"there are two sets named {name!r}; give one of them another name")
        found[name] = _description(name, fields, folder)
    return found


def _read_table(path: Path) -> list[tuple[str, dict[str, Any], Path]]:
    tables = read_toml(path)
    described = []
    for name, fields in tables.items():
        if not isinstance(fields, dict):
            raise UserError(f"{path}: {name} is no table; write [{name}] above the files of a set")
        unknown = sorted(set(fields) - {*_KEYS, "files"})
        if unknown:
            raise UserError(
                f"{path}: [{name}] has an unknown key {unknown[0]!r}; known are files, {', '.join(_KEYS)}"
            )
        files = fields.get("files")
        fields["files"] = [files] if isinstance(files, str) else files
        for key, kind in {**_KEYS, "files": list}.items():
            if fields.get(key) is not None and type(fields[key]) is not kind:
                raise UserError(f"{path}: {key} of [{name}] is no {kind.__name__}")
        described.append((name, fields, path.parent))
    return described


def _typed(key: str, text: str, where: str) -> Any:
    try:
        if _KEYS[key] is int:
            return int(text, 0)
        return [float(part) for part in text.split(",")] if _KEYS[key] is list else text
    except ValueError:
        raise UserError(f"{where}: {key}={text} is no number") from None


def _description(name: str, fields: Mapping[str, Any], folder: Path) -> SetDescription:
    files = fields.get("files")
    if not files or not all(isinstance(file, str) for file in files):
        raise UserError(f"the set {name!r} names no files; give files, folders or patterns")
    centre = fields.get("beam_centre")
    if centre is not None and (
        len(centre) != 2
        or not all(type(part) in (int, float) and -MOST_NUMBER < part < MOST_NUMBER for part in centre)
    ):
        raise UserError(f"the beam centre of the set {name!r} is not x,y such as 960.5,958.2")
    min_spots = fields.get("min_spots")
    if min_spots is not None and not 1 <= min_spots <= MOST_NUMBER:
        raise UserError(
            f"min_spots={shown_value(min_spots)} of the set {name!r} makes no sense: give 1 or more"
        )

    for key, least, most in (("mask_good", 0, 1), ("good_bits", 0, 2**64 - 1), ("bad_bits", 0, 2**64 - 1)):
        if fields.get(key) is not None and not least <= fields[key] <= most:
            raise UserError(
                f"{key}={shown_value(fields[key])} of the set {name!r} makes no sense: give {least} to {most}"
            )

    def place(key: str) -> str | None:
        return None if fields.get(key) is None else str(folder / fields[key])

    labels = place("labels")
    if labels is not None and not Path(labels).is_file():
        raise UserError(f"no such file of labels: {labels}")
    inputs = find_files([str(folder / file) for file in files])
    return SetDescription(
        name,
        inputs.files,
        labels,
        ReadOptions(
            dataset=fields.get("dataset"),
            mask=place("mask"),
            mask_good=fields.get("mask_good"),
            good_bits=fields.get("good_bits"),
            bad_bits=fields.get("bad_bits"),
            geometry=place("geometry"),
            centre=None if centre is None else (float(centre[0]), float(centre[1])),
        ),
        min_spots=min_spots,
        notes=inputs.notes,
    )


def _first_file(candidates: list[Path]) -> Path | None:
    return next((path for path in candidates if path.exists()), None)
