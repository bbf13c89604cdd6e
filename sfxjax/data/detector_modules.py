"""Files that hold one module each of the same frames, told by the names that detectors' receivers give them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

# Of EuXFEL, whose DA01 holds no frames, and of PSI's receiver: all but the module's number and that of the file in a sequence.
_EUXFEL = re.compile(r"(?P<run>(?:RAW|CORR|PROC)-R\d+-(?!DA)[A-Z]+)(?P<module>\d+)-S\d+\.h5")
_PSI = re.compile(r"(?P<run>.+)_d(?P<module>\d+)_f\d+_\d+\.h5")
_JOINED_BY = {
    _EUXFEL: "give the file that extra-data-make-virtual-cxi makes of the run's folder",
    _PSI: "give the file of the receiver that shows all modules, whose name has _virtual_",
}


def modules_apart(names: Iterable[str]) -> list[str]:
    """Say which files hold modules of the same frames, each of which is judged as a frame of its own.

    Args:
        names: of different files.
    """
    found: dict[tuple[re.Pattern[str], str], dict[str, str]] = {}
    for name in names:
        path = Path(name)
        for pattern in _JOINED_BY:
            if match := pattern.fullmatch(path.name):
                key = pattern, str(path.parent / match["run"])
                found.setdefault(key, {}).setdefault(match["module"], name)
    return [
        f"{next(iter(modules.values()))} and those of {len(modules) - 1} more modules hold a module each of the same frames: "
        f"each is judged by itself, so that a frame counts {len(modules)} times with the spots of one; {_JOINED_BY[pattern]}"
        for (pattern, _), modules in found.items()
        if len(modules) > 1
    ]
