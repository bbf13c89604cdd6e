"""The places of the panels of a CBF file with a full header, from its axes (International Tables G, ch. 3.7)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from sfxjax.data.geometry import Geometry, Panel

_TOKEN = re.compile(
    r"""(?:^;(.*?)^;)|'((?:[^'\n]|'(?=\S))*)'|"((?:[^"\n]|"(?=\S))*)"|(#[^\n]*)|(\S+)""", re.M | re.S
)

Loop = list[dict[str, str]]

# How CIF says that there is no value, or none known.
_NONE = (".", "?", "")


def cbf_geometry(text: str, shapes: list[tuple[int, int, int]]) -> Geometry | None:
    """Place the panels of a CBF file.

    Args:
        text: of the file, without its images.
        shapes: (planes, ss, fs) of each image, in order, pixels.

    Returns:
        The panels in pixels from the beam, x to the right and y downwards in the image, the stored frame being
        (plane, ss, fs) with the planes of all images in order, or (ss, fs) where there is one plane; None if the
        text does not describe them.
    """
    try:
        tables = _tables(text)
        # Numbers that make no sense are seen in the panels' places.
        with np.errstate(all="ignore"):
            return _geometry(tables, shapes)
    except (
        *(KeyError, ValueError, IndexError, ZeroDivisionError, OverflowError, RecursionError),
        np.linalg.LinAlgError,
    ):
        return None


def _geometry(tables: dict[str, Loop], shapes: list[tuple[int, int, int]]) -> Geometry | None:
    order = [row["array_id"] for row in tables.get("array_data", [])]
    known = list(dict.fromkeys(row["array_id"] for row in tables["array_structure_list"]))
    if sorted(order) != sorted(known) or len(order) != len(shapes):
        order = known
    if len(order) != len(shapes):
        return None
    # The first plane of each image among all planes.
    before = dict(zip(order, np.cumsum([0, *(shape[0] for shape in shapes)]).tolist(), strict=False))
    size = dict(zip(order, shapes, strict=True))
    planes = sum(shape[0] for shape in shapes)
    panels = []
    for name, array, steps in _panels(tables):
        ranges = _panel_ranges(tables, name, array, size[array])
        if ranges["3"][1] != 1:
            return None
        corner, fs_vector, ss_vector = _place(tables, steps)
        first: tuple[int, ...] = (ranges["2"][0], ranges["1"][0])
        if planes > 1:
            first = (before[array] + ranges["3"][0], *first)
        extent = (ranges["2"][1], ranges["1"][1])
        ss_axis = len(first) - 2
        panels.append(Panel(name, first, ss_axis, ss_axis + 1, extent, corner, fs_vector, ss_vector))
    return Geometry(tuple(panels)) if panels else None


def _panels(tables: dict[str, Loop]) -> Iterator[tuple[str, str, tuple[str, str]]]:
    """Give name, array, and sets of the fast and the slow axis of each panel, a whole array or a section of one."""
    sets: dict[tuple[str, str], dict[str, str]] = {}
    for row in tables["array_structure_list"]:
        if row["axis_set_id"] in _NONE:
            continue
        if row.get("direction", "increasing") != "increasing" or row["index"] != row["precedence"]:
            raise ValueError("pixels stored in another order")
        section = row.get("array_section_id", ".")
        key = (row["array_id"] if section in _NONE else section, row["array_id"])
        sets.setdefault(key, {})[row["precedence"]] = row["axis_set_id"]
    for (name, array), own in sets.items():
        yield name, array, (own["1"], own["2"])


def _panel_ranges(
    tables: dict[str, Loop], name: str, array: str, shape: tuple[int, int, int]
) -> dict[str, tuple[int, int]]:
    """Return first pixel, from 0, and length of a panel along its array's axes: 1 fast, 2 slow, 3 planes."""
    ranges = {str(3 - axis): (0, length) for axis, length in enumerate(shape)}
    for row in tables.get("array_structure_list_section", []):
        if row["id"] == name and row["array_id"] == array:
            start, end = int(row["start"]), int(row["end"])
            if (
                row.get("stride", "1") not in ("1", *_NONE)
                or not 1 <= start <= end <= ranges[row["index"]][1]
            ):
                raise ValueError("a section that makes no sense")
            ranges[row["index"]] = (start - 1, end - start + 1)
    return ranges


def _place(
    tables: dict[str, Loop], sets: tuple[str, str]
) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
    """Return a panel's corner and its fast and slow steps, in pixels, x to the right and y downwards."""
    axes = {row["id"]: row for row in tables["axis"]}
    settings = {row["axis_id"]: row for row in tables.get("diffrn_scan_frame_axis", [])}
    of_set = {row["axis_set_id"]: row for row in tables["array_structure_list_axis"]}
    steps, start = [], np.zeros(3)
    for name in sets:
        row = of_set[name]
        axis = row["axis_id"]
        rotation, _ = _frame(axes, settings, axis)
        direction = rotation @ _triple(axes[axis], "vector")
        steps.append(direction * float(row["displacement_increment"]))
        start = start + direction * _as_float(row.get("displacement", "0"))
    start = start + _frame(axes, settings, of_set[sets[0]]["axis_id"])[1]
    # Looking along the beam, x is to the right and y up; rows count downwards. What programs write as a
    # panel's origin is its first pixel's corner.
    flip = np.array([1.0, -1.0]) / float(np.linalg.norm(steps[0]))
    corner, fast, slow = (vector[:2] * flip for vector in (start, *steps))
    far = max(np.abs(corner).max(), 1e4 * np.abs(slow).max())
    if not (abs(fast[0] * slow[1] - fast[1] * slow[0]) > 0.1 and far <= 1e6):
        raise ValueError("a panel that lies along the beam, or nowhere")
    return (corner[0], corner[1]), (fast[0], fast[1]), (slow[0], slow[1])


def _frame(
    axes: dict[str, dict[str, str]], settings: dict[str, dict[str, str]], name: str, depth: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return rotation and origin (mm) of what an axis carries."""
    if depth > 50:
        raise ValueError("axes depend on one another in circles")
    row = axes[name]
    parent = row.get("depends_on", ".")
    rotation, origin = np.eye(3), np.zeros(3)
    if parent not in _NONE:
        rotation, origin = _frame(axes, settings, parent, depth + 1)
    origin = origin + rotation @ _triple(row, "offset")
    vector, setting = _triple(row, "vector"), settings.get(name, {})
    if row.get("type") == "translation":
        origin = origin + rotation @ vector * _as_float(setting.get("displacement", "0"))
    elif row.get("type") == "rotation":
        rotation = rotation @ _rotation(vector, math.radians(_as_float(setting.get("angle", "0"))))
    return rotation, origin


def _rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    length = np.linalg.norm(axis)
    if angle == 0 or length == 0:
        return np.eye(3)
    x, y, z = axis / length
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


def _triple(row: dict[str, str], key: str) -> np.ndarray:
    return np.array([_as_float(row.get(f"{key}[{k}]", ".")) for k in (1, 2, 3)])


def _as_float(text: str) -> float:
    return 0.0 if text in _NONE else float(text)


def _tables(text: str) -> dict[str, Loop]:
    """Read the categories of a CIF text, each a list of rows."""
    tokens: list[tuple[str, bool]] = []
    for found in _TOKEN.finditer(text):
        quoted = found[1] or found[2] or found[3]
        if found[5] is not None:
            tokens.append((found[5], False))
        elif found[4] is None:
            tokens.append((quoted or "", True))
    tables: dict[str, Loop] = {}
    place = 0
    while place < len(tokens):
        word, quoted_word = tokens[place]
        if quoted_word or not (word.startswith("_") or word.lower() == "loop_"):
            place += 1
        elif word.startswith("_"):
            category, _, item = word[1:].lower().partition(".")
            value: Any = tokens[place + 1][0] if place + 1 < len(tokens) else ""
            rows = tables.setdefault(category, [{}])
            rows[-1][item] = value
            place += 2
        else:
            place += 1
            names = []
            while place < len(tokens) and tokens[place][0].startswith("_") and not tokens[place][1]:
                names.append(tokens[place][0][1:].lower())
                place += 1
            values = []
            while place < len(tokens) and (tokens[place][1] or not _ends_loop(tokens[place][0])):
                values.append(tokens[place][0])
                place += 1
            for begin in range(0, len(values) - len(names) + 1, max(len(names), 1)):
                row = {
                    name.partition(".")[2]: value
                    for name, value in zip(names, values[begin : begin + len(names)], strict=True)
                }
                tables.setdefault(names[0].partition(".")[0], []).append(row)
    return tables


def _ends_loop(word: str) -> bool:
    return word.startswith("_") or word.lower().startswith(("loop_", "data_", "save_"))
