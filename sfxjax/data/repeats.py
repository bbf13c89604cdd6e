"""Which of the files of a run show frames that others of them show too, so that every frame counts once."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

import h5py

from sfxjax.data.formats.generic import image_sets
from sfxjax.data.hdf5 import Files
from sfxjax.data.links import (
    HDF5_SUFFIXES,
    PART,
    Identity,
    Shown,
    frames_behind,
    identity,
    shape_of,
    shown_of,
)
from sfxjax.data.opening import DAMAGE
from sfxjax.errors import UserError
from sfxjax.files import is_file

# What a screening writes beside its lists.
OWN_MEANS, OWN_HITS = "class_means.h5", "hits.cxi"
OWN_GROUP = "/entry_1/screening"
PACKED_SUFFIXES = (".gz", ".bz2")
_OF_MASTER = re.compile(r"(.*)_data_\d+(\.[^.]*)")

# Of each data set the parts of its first axis that are shown; None: all of it.
Ranges = dict[tuple[Identity, str], list[tuple[int, int]] | None]
# A file may claim any number of hits, and the names that it keeps fold out to any size.
_MOST_HITS, _HITS_AT_ONCE, _LONGEST_NAME = 1_000_000, 10_000, 2**13


def repeated(names: Sequence[str], named: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """Tell which files are left out since others show their frames, or since they hold none.

    A master stays and its parts go, however they are named. A part whose master is not among the files stays.

    Args:
        names: of the files, in order.
        named: those of them that the user named, where others were found in a folder or by a pattern.

    Returns:
        Why a file is left out, by its name; and lines about files that stay and show some of the same frames.
    """
    reasons = _other_names(names)
    files = {identity(Path(name)): name for name in names if name not in reasons and is_file(name)}
    for name in files.values():
        plain = Path(name).with_suffix("")
        if name.lower().endswith(PACKED_SUFFIXES) and identity(plain) in files:
            reasons[name] = f"compressed from {plain.name}"
    files = {key: name for key, name in files.items() if name.lower().endswith(HDF5_SUFFIXES)}
    for name in files.values():
        if _is_own(name, files.values(), name in named):
            reasons[name] = "written by a screening"
    shown = _leave_out_parts(files, reasons)
    notes = _leave_out_like_others(shown, reasons)
    _leave_out_without_frames(files, shown, reasons)
    return reasons, notes


def _other_names(names: Sequence[str]) -> dict[str, str]:
    """Leave out other names of the same file: links to it, and other ways to write its path."""
    alike: dict[Identity, list[str]] = {}
    for name in names:
        alike.setdefault(identity(Path(name)), []).append(name)
    reasons: dict[str, str] = {}
    for same in alike.values():
        # A hard link to a master may lie where its parts do not.
        kept = max(same, key=_reached) if len(same) > 1 else same[0]
        reasons |= {name: f"the same file as {kept}" for name in same if name != kept}
    return reasons


def _reached(name: str) -> int:
    """Count the files behind a file that are there."""
    return sum(shown.file.exists() for shown in shown_of(Path(name)))


def _is_own(name: str, names: Collection[str], is_named: bool) -> bool:
    """Tell whether a screening wrote a file; hits count where the user names them, and not the files that they are from."""
    path = Path(name)
    if path.name == OWN_MEANS:
        return not is_named or len(names) > 1
    if path.suffix.lower() != ".cxi":
        return False
    try:
        with h5py.File(path, "r", locking=False) as file:
            if OWN_GROUP not in file:
                return False
            origins = _origins(file)
    except DAMAGE:
        return False
    others = {Path(other).name for other in names if other != name}
    return bool(origins & others) or (path.name == OWN_HITS and not is_named)


def _origins(file: h5py.File) -> set[str]:
    """Return the names of the files that the hits of a screening are from, of the first `_MOST_HITS`."""
    if f"{OWN_GROUP}/file" not in file:
        return set()
    data = file[f"{OWN_GROUP}/file"]
    count = min(data.size, _MOST_HITS) if data.ndim == 1 and data.dtype.itemsize < _LONGEST_NAME else 0
    found: set[str] = set()
    for first in range(0, count, _HITS_AT_ONCE):
        found |= set(data.asstr()[first : min(first + _HITS_AT_ONCE, count)])
    return {Path(text).name for text in found}


def _leave_out_parts(files: dict[Identity, str], reasons: dict[str, str]) -> dict[str, set[Shown]]:
    """Leave out files whose frames a master shows; returns what the others show of files behind them."""
    shown: dict[str, set[Shown]] = {}
    parts: set[str] = set()
    for name in sorted(files.values(), key=lambda name: PART.fullmatch(name) is not None):
        # Of a run's thousands of parts none is opened, once its master was.
        if name in reasons or (name in parts and PART.fullmatch(name)):
            continue
        shown[name] = {each for each in frames_behind(Path(name)) if files.get(identity(each.file)) != name}
        parts |= {files[key] for key in (identity(each.file) for each in shown[name]) if key in files}
    for name in _preferred(shown, parts):
        ends: dict[str, list[int]] = {}
        for each in shown[name] if name not in reasons else ():
            part = files.get(identity(each.file))
            if part is not None:
                ends.setdefault(part, []).extend(each.range or ())
        for part, numbers in ends.items():
            what = f"shows its frames {min(numbers)} to {max(numbers)}" if numbers else "links to it"
            reasons.setdefault(part, f"{Path(name).name} {what}")
    masters = {str(Path(name).resolve()): name for name in shown if "_master." in name}
    for name in files.values():
        # A master that is still being written may not link to its files yet.
        stem = _OF_MASTER.fullmatch(str(Path(name).resolve())) if masters and "_data_" in name else None
        master = masters.get(f"{stem[1]}_master{stem[2]}") if stem else None
        if master is not None:
            reasons.setdefault(name, f"by its name a part of {Path(master).name}")
    return {name: found for name, found in shown.items() if name not in reasons}


def _preferred(names: Collection[str], parts: Collection[str] = ()) -> list[str]:
    """Sort masters: those that no other shows first, and of the rest what DIALS and CrystFEL know."""
    return sorted(names, key=lambda name: (name in parts, "_master." not in name, name))


def _leave_out_like_others(shown: dict[str, set[Shown]], reasons: dict[str, str]) -> list[str]:
    """Leave out masters whose frames another master shows all; note those that share some."""
    some = {_key_of_shown(each) for found in shown.values() for each in found if each.range}
    ranges = {name: _ranges(found, some) for name, found in shown.items()}
    kept: list[str] = []
    for name in _preferred([name for name in shown if ranges[name]]):
        whole = next((other for other in kept if _covers(ranges[other], ranges[name])), None)
        if whole is not None:
            reasons[name] = f"its frames are those of {Path(whole).name}"
            continue
        for other in [other for other in kept if _covers(ranges[name], ranges[other])]:
            reasons[other] = f"its frames are among those of {Path(name).name}"
            kept.remove(other)
        kept.append(name)
    pairs = [(one, other) for place, one in enumerate(kept) for other in kept[:place]]
    return [
        f"{one}: some of its frames are those of {Path(other).name} and count twice; give one of the two"
        for one, other in pairs
        if _overlap(ranges[one], ranges[other])
    ]


def _key_of_shown(shown: Shown) -> tuple[Identity, str]:
    return identity(shown.file), shown.dataset


def _ranges(found: set[Shown], some: set[tuple[Identity, str]]) -> Ranges:
    """Put together what a file shows of each data set.

    Args:
        found: what it shows.
        some: data sets of which some file may show a part.
    """
    joined: Ranges = {}
    parts: dict[tuple[Identity, str], list[tuple[int, int]]] = {}
    for each in found:
        if each.file.stem.endswith("_meta"):
            continue
        key, range_ = _key_of_shown(each), each.range
        if range_ is None and key in some and (shape := shape_of(each)):
            range_ = 0, shape[0] - 1
        if range_ is None:
            joined[key] = None
        else:
            parts.setdefault(key, []).append(range_)
    for key, ranges in parts.items():
        merged: list[tuple[int, int]] = []
        for first, last in sorted(ranges):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = merged[-1][0], max(last, merged[-1][1])
            else:
                merged.append((first, last))
        joined.setdefault(key, merged)
    return joined


def _covers(one: Ranges, other: Ranges) -> bool:
    """Tell whether a file shows all that another one shows."""
    for key, parts in other.items():
        own = one.get(key, [])
        if own is None:
            continue
        if parts is None or not all(any(a <= first and last <= b for a, b in own) for first, last in parts):
            return False
    return True


def _overlap(one: Ranges, other: Ranges) -> bool:
    return any(
        one[key] is None
        or parts is None
        or any(a <= last and first <= b for a, b in one[key] or () for first, last in parts)
        for key, parts in other.items()
        if key in one
    )


def _leave_out_without_frames(
    files: dict[Identity, str], shown: dict[str, set[Shown]], reasons: dict[str, str]
) -> None:
    """Leave out files that only describe the frames of others: `x_meta.h5`, or one with a mask that others link to."""
    for name in shown:
        for each in shown_of(Path(name)):
            other = files.get(identity(each.file), name)
            if other != name and other not in reasons and not _has_images(Path(other)):
                reasons[other] = f"no frames, but what {Path(name).name} links to"
    for name in files.values():
        if Path(name).stem.endswith("_meta") and any(shown.values()):
            reasons.setdefault(name, "no frames, but what describes them")


def _has_images(path: Path) -> bool:
    try:
        with Files(path.parent) as files:
            return bool(image_sets(files, path))
    except (UserError, *DAMAGE):
        return True
