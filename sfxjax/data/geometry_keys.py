"""The keys of CrystFEL's geometry files: which there are, and which lines of a file have no effect and should be named.

A line without a panel's name, `mask_edge_pixels = 1`, is a default for the panels that begin after it (crystfel_geometry(5)):
after the last panel it does nothing, there as here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import NamedTuple

from sfxjax.data.geometry import COMPARISONS
from sfxjax.text import first_few

MASK_KEY = re.compile(r"mask(\d*)_(data|file|goodbits|badbits)|mask|mask_(file|good|bad)")
REGION_KEYS = {f"{end}_{axis}" for end in ("min", "max") for axis in ("fs", "ss", "x", "y")} | {"panel"}
# Of the file as a whole, wherever they stand.
WHOLE_KEYS = {
    *("clen", "photon_energy", "photon_energy_scale", "photon_energy_bandwidth", "bandwidth", "wavelength"),
    *("electron_voltage", "peak_list", "peak_list_type", "peak_info", "peak_info_location"),
    *("detector_shift_x", "detector_shift_y"),
}
_UNHEEDED_KEYS = {"adu_per_eV", "adu_per_photon", "badrow_direction", "integr_radius", "peak_sep", "name"}
_UNHEEDED_KEYS |= {"rail_direction", "clen_for_centering", "location"}
# That leave pixels out in CrystFEL, and nothing here.
_NOT_DONE = {"max_adu", "saturation_map", "saturation_map_file", "satmap", "satmap_file"}
_PANEL_KEYS = {
    *("min_fs", "max_fs", "min_ss", "max_ss", "corner_x", "corner_y", "fs", "ss", "res", "coffset", "data"),
    *("mask_edge_pixels", "no_index", "mask", "mask_file", "mask_good", "mask_bad"),
    *(f"dim{axis}" for axis in range(4)),
    *(f"mask{number}_{what}" for number in (0, 1) for what in ("data", "file", "goodbits", "badbits")),
    *(f"flag_{comparison}" for comparison in COMPARISONS),
    *_NOT_DONE,
}
_FREE_KEYS = re.compile(r"rigid_group.*|group_.*|dim\d+")
_KEYS_NAMED = 6


class GeometryLine(NamedTuple):
    """A line of a geometry file.

    Attributes:
        name: of a panel or a bad region; empty: a default, or of the file as a whole.
        key: of it.
        value: of that.
    """

    name: str
    key: str
    value: str

    @property
    def is_region(self) -> bool:
        """Whether it is about a bad region."""
        return self.name.startswith("bad")

    @property
    def is_panel(self) -> bool:
        """Whether it is about a panel."""
        return bool(self.name) and not self.is_region

    def __str__(self) -> str:
        return f"{self.name}/{self.key}" if self.name else self.key


def split_lines(text: str) -> tuple[list[GeometryLine], list[str]]:
    """Split a geometry file into its lines without comments, and those that are no lines of a geometry file."""
    lines, others = [], []
    for line in text.splitlines():
        key, equals, value = line.partition(";")[0].partition("=")
        key, value = key.strip(), value.strip()
        if not equals or not key:
            others += [line.strip()] if key or value else []
            continue
        name, slash, field = key.partition("/")
        lines.append(GeometryLine(name if slash else "", field if slash else key, value))
    return lines, others


def leaves_out(key: str) -> bool:
    """Tell whether a key of a panel decides which of its pixels count."""
    return key.startswith(("flag_", "mask")) or key in (*_NOT_DONE, "no_index")


def meant(key: str) -> str:
    """Return a question for the key that a misspelt one was meant for; nothing where none is like it."""
    near = difflib.get_close_matches(key.lower(), sorted(_PANEL_KEYS | WHOLE_KEYS | _UNHEEDED_KEYS), 1, 0.75)
    return f" (did you mean {near[0]}?)" if near else ""


def without_effect(lines: list[GeometryLine], others: list[str], path: object) -> tuple[str, ...]:
    """Name the lines that have no effect here though something may be expected of them.

    Args:
        lines: of the file.
        others: what else stands in it.
        path: of the file.

    Returns:
        A line for each kind.
    """
    late, between = _misplaced(lines)
    # Only of those that are named a likeness is looked for, which takes long.
    unknown = list(dict.fromkeys(line for line in lines if not _is_known(line)))
    likely = [f"{line}{'' if line.is_region else meant(line.key)}" for line in unknown[:_KEYS_NAMED]]
    likely += map(str, unknown[_KEYS_NAMED:])
    not_done = [line.key for line in lines if line.key in _NOT_DONE]
    not_done += [f"badrow_direction {line.value}" for line in lines if _marks_rows(line)]
    found = [
        (not_done, "not used here: {}"),
        (likely, "not known and without effect: {}"),
        (late, "without effect, since no panel begins after it: {}; put it before the first panel"),
        (between, "between the panels, so that it holds for those alone that begin after it: {}"),
        (_bits_of_no_mask(lines), "without effect, bits of a mask whose data set is not given: {}"),
        (
            [repr(line[:40]) for line in others],
            "without effect, since there is no key or no '=' (comments begin with ;): {}",
        ),
    ]
    return tuple(f"{path}: {text.format(_some(names))}" for names, text in found if names)


def _misplaced(lines: list[GeometryLine]) -> tuple[list[str], list[str]]:
    """Return the defaults of panels that stand after all panels, and those between them that leave pixels out."""
    begins = {line.name: place for place, line in reversed(list(enumerate(lines))) if line.is_panel}
    if not begins:
        return [], []
    first, last = min(begins.values()), max(begins.values())
    before = set(lines[:first])
    late, between = [], []
    for place, line in enumerate(lines):
        if line.name or place < first or line in before or line.key in WHOLE_KEYS | _UNHEEDED_KEYS:
            continue
        if place > last and _is_known(line) and not re.match("rigid_group|group_", line.key):
            late.append(line.key)
        elif place < last and leaves_out(line.key):
            between.append(line.key)
    return late, between


def _is_known(line: GeometryLine) -> bool:
    if line.is_region:
        return line.key in REGION_KEYS
    known = line.key in _PANEL_KEYS | WHOLE_KEYS | _UNHEEDED_KEYS
    return known or bool(MASK_KEY.fullmatch(line.key) or _FREE_KEYS.fullmatch(line.key))


def _marks_rows(line: GeometryLine) -> bool:
    """Tell whether CrystFEL before 0.6 left rows out by a line."""
    return line.key == "badrow_direction" and line.value not in ("-", "")


def _bits_of_no_mask(lines: list[GeometryLine]) -> list[str]:
    masks = {
        MASK_KEY.sub(r"\1", line.key) or "0" for line in lines if re.fullmatch(r"mask(\d*_data)?", line.key)
    }
    bits = [line.key for line in lines if re.fullmatch(r"mask\d*_(good|bad)(bits)?", line.key)]
    return [key for key in bits if (re.sub(r"\D", "", key) or "0") not in masks]


def _some(names: Iterable[str]) -> str:
    return first_few(dict.fromkeys(names), _KEYS_NAMED)
