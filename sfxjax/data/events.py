"""Lists of frames for other programs: CrystFEL's event lists and DIALS' experiment lists."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

from sfxjax.errors import UserError


def crystfel_line(file: str, event: str) -> str:
    """Return one line for `indexamajig -i`: the file, one space, and `<path parts>//<dim parts>`.

    CrystFEL splits a line at its last space, so a file name may hold spaces and an event may not.

    Args:
        file: path of the file; made absolute, so that the list can be used from any folder.
        event: such as `//17` or `chunk_0//17`; empty for a file with one image.

    Raises:
        UserError: the names cannot stand in such a list.
    """
    path = absolute(file)
    refuse_control(path, event)
    if any(character.isspace() for character in event):
        raise UserError(f"{event!r} in {path}: CrystFEL takes no event with a space; rename the group")
    if not event and any(character.isspace() for character in path):
        # Without an event, what follows the last space of the name would be taken for one.
        event = "//"
    return f"{path} {event}" if event else path


def refuse_control(file: str, event: str) -> None:
    """Refuse names with line breaks and other control characters, which would make lines of their own or rewrite a terminal.

    Raises:
        UserError: one holds such a character, other than a tab.
    """
    names = file + event
    # Characters of these kinds are not printable, as the names of nearly all files are.
    if not names.isprintable() and any(
        unicodedata.category(each) in ("Cc", "Zl", "Zp") and each != "\t" for each in names
    ):
        raise UserError(
            f"{file!r} {event!r}: a name with a line break or another control character cannot stand in a list of events; "
            "rename it"
        )


def parse_crystfel_line(line: str) -> tuple[str, str]:
    """Split a line of an event list by CrystFEL's rules.

    Returns:
        The file, and the event, empty if there is none.
    """
    line = line.rstrip("\r\n")
    file, space, event = line.rpartition(" ")
    return (file, event) if space and "//" in event else (line, "")


def dials_experiments(frames: Iterable[tuple[str, str, int | None]]) -> Iterator[str]:
    """Write frames as the text of a DIALS experiment list (`.expt`), piece by piece.

    Every frame is an experiment with an image set of its own, as dxtbx writes stills. Models of beam and
    detector are left to DIALS, which reads them from the files.

    Args:
        frames: (file, event, number in the file from 0, counted over all its stacks, or None for a file
            with one image).
    """
    entries = [(absolute(file), number) for file, _, number in frames]
    yield '{\n "__id__": "ExperimentList",\n "experiment": [\n'
    yield ",\n".join(
        "  " + json.dumps({"__id__": "Experiment", "identifier": "", "imageset": place})
        for place in range(len(entries))
    )
    yield '\n ],\n "imageset": [\n'
    yield ",\n".join("  " + json.dumps(_image_set(path, number)) for path, number in entries)
    rest = ("beam", "detector", "goniometer", "scan", "crystal", "profile", "scaling_model")
    yield "\n ],\n" + ",\n".join(f' "{key}": []' for key in rest) + "\n}\n"


def absolute(file: str) -> str:
    """Return an absolute path without following links; empty steps such as `//` are dropped."""
    return os.path.abspath(file)  # noqa: PTH100 - Path.absolute would keep `..`


def _image_set(path: str, number: int | None) -> dict[str, Any]:
    # A name that is no UTF-8 keeps its bytes as surrogates, which json escapes.
    described: dict[str, Any] = {"__id__": "ImageSet", "images": [path]}
    described |= {"mask": "", "gain": "", "pedestal": "", "dx": "", "dy": "", "params": {}}
    if number is not None:
        described["single_file_indices"] = [number]
    return described
