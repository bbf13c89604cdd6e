"""The places of the panels of a CBF file with a full header, from its axes (International Tables G, ch. 3.7)."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from sfxjax.geometry import Geometry, Panel

_TOKEN = re.compile(
    r"""(?:^;(.*?)^;)|'((?:[^'\n]|'(?=\S))*)'|"((?:[^"\n]|"(?=\S))*)"|(#[^\n]*)|(\S+)""", re.M | re.S
)

Table = list[dict[str, str]]


def cbf_geometry(text: str, shapes: list[tuple[int, int]]) -> Geometry | None:
    """Place the panels of a CBF file.

    Args:
        text: of the file, without its images.
        shapes: (ss, fs) of each image, in order, pixels.

    Returns:
        The panels in pixels from the beam, x to the right and y downwards in the image, the stored frame being
        (panel, ss, fs), or (ss, fs) where there is one panel; None if the text does not describe them.
    """
    try:
        tables = _tables(text)
        return _geometry(tables, shapes)
    except (KeyError, ValueError, IndexError, ZeroDivisionError, RecursionError, np.linalg.LinAlgError):
        return None


def _geometry(tables: dict[str, Table], shapes: list[tuple[int, int]]) -> Geometry | None:
    axes = {row["id"]: row for row in tables["axis"]}
    settings = {row["axis_id"]: row for row in tables.get("diffrn_scan_frame_axis", [])}
    increments = {row["axis_id"]: row for row in tables["array_structure_list_axis"]}
    arrays: dict[str, dict[str, dict[str, str]]] = {}
    for row in tables["array_structure_list"]:
        arrays.setdefault(row["array_id"], {})[row["precedence"]] = row
    order = [row["array_id"] for row in tables.get("array_data", [])]
    if sorted(order) != sorted(arrays) or len(order) != len(shapes):
        order = list(arrays)
    if len(order) != len(shapes):
        return None
    sets = {row["axis_set_id"]: row["axis_id"] for row in tables["array_structure_list_axis"]}
    panels = []
    for number, (name, shape) in enumerate(zip(order, shapes, strict=True)):
        steps, start = [], np.zeros(3)
        fast_axis, slow_axis = (sets[arrays[name][precedence]["axis_set_id"]] for precedence in ("1", "2"))
        for axis in (fast_axis, slow_axis):
            rotation, _ = _frame(axes, settings, axis)
            direction = rotation @ _triple(axes[axis], "vector")
            steps.append(direction * float(increments[axis]["displacement_increment"]))
            start = start + direction * _number(increments[axis].get("displacement", "0"))
        start = start + _frame(axes, settings, fast_axis)[1]
        pixel = float(np.linalg.norm(steps[0]))
        # Looking along the beam, x is to the right and y up; rows count downwards. What programs write as a
        # panel's origin is its first pixel's corner.
        flip = np.array([1.0, -1.0]) / pixel
        fs_vector, ss_vector = steps[0][:2] * flip, steps[1][:2] * flip
        corner = start[:2] * flip
        if abs(fs_vector[0] * ss_vector[1] - fs_vector[1] * ss_vector[0]) < 0.1:
            return None
        first = (number, 0, 0) if len(shapes) > 1 else (0, 0)
        where = (1, 2) if len(shapes) > 1 else (0, 1)
        vectors = (tuple(map(float, vector)) for vector in (corner, fs_vector, ss_vector))
        panels.append(Panel(name, first, *where, shape, *vectors))  # type: ignore[arg-type]
    return Geometry(tuple(panels))


def _frame(
    axes: dict[str, dict[str, str]], settings: dict[str, dict[str, str]], name: str, depth: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return rotation and origin (mm) of what an axis carries."""
    if depth > 50:
        raise ValueError("axes depend on one another in circles")
    row = axes[name]
    parent = row.get("depends_on", ".")
    rotation, origin = np.eye(3), np.zeros(3)
    if parent not in (".", "?"):
        rotation, origin = _frame(axes, settings, parent, depth + 1)
    origin = origin + rotation @ _triple(row, "offset")
    vector, setting = _triple(row, "vector"), settings.get(name, {})
    if row.get("type") == "translation":
        origin = origin + rotation @ vector * _number(setting.get("displacement", "0"))
    elif row.get("type") == "rotation":
        rotation = rotation @ _rotation(vector, math.radians(_number(setting.get("angle", "0"))))
    return rotation, origin


def _rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    length = np.linalg.norm(axis)
    if angle == 0 or length == 0:
        return np.eye(3)
    x, y, z = axis / length
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


def _triple(row: dict[str, str], key: str) -> np.ndarray:
    return np.array([_number(row.get(f"{key}[{k}]", ".")) for k in (1, 2, 3)])


def _number(text: str) -> float:
    return 0.0 if text in (".", "?") else float(text)


def _tables(text: str) -> dict[str, Table]:
    """Read the categories of a CIF text, each a list of rows."""
    tokens: list[tuple[str, bool]] = []
    for found in _TOKEN.finditer(text):
        quoted = found[1] or found[2] or found[3]
        if found[5] is not None:
            tokens.append((found[5], False))
        elif found[4] is None:
            tokens.append((quoted or "", True))
    tables: dict[str, Table] = {}
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
