"""CrystFEL's geometry files: panels, and every key by which they leave pixels out.

The manual page crystfel_geometry(5) says what the keys mean. fs and ss of a bad region count in the data block, as min_fs and
min_ss of a panel do. What stands before a panel's first line holds for that panel too. A key that leaves pixels out and is not
done here is named in the geometry's notes.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from pathlib import Path

from sfxjax.data.geometry import COMPARISONS, BadRegion, Flags, Geometry, GeometryMask, Panel
from sfxjax.data.geometry_keys import MASK_KEY, REGION_KEYS, WHOLE_KEYS, meant, split_lines, without_effect
from sfxjax.errors import UserError
from sfxjax.files import read_bounded

_VECTOR_TERM = re.compile(r"([+-]?)\s*(\d*\.?\d*(?:[eE][+-]?\d+)?)\s*([xyz])")
_MOST_MASKS = 8
_METRES = {"": 1.0, "m": 1.0, "mm": 1e-3}
# eV Angstrom (CODATA 2018).
PLANCK_TIMES_LIGHT = 12398.419843320026
_YES, _NO = ("1", "true", "yes"), ("0", "false", "no")
# Bytes: a thousand panels take one million.
_MOST_GEOMETRY_BYTES = 2**26
# Bad regions times panels: a detector of 256 panels may have thousands.
_MOST_MARKS = 2_000_000

Fields = dict[str, str]


def read_geometry(path: str | Path) -> Geometry:
    """Read a CrystFEL geometry file.

    Raises:
        UserError: it is missing, or holds no panels that make sense.
    """
    content = read_bounded(path, _MOST_GEOMETRY_BYTES, "geometry file")
    return parse_geometry(content.decode("utf-8-sig", errors="replace"), path)


def parse_geometry(text: str, path: str | Path) -> Geometry:
    """Read the text of a CrystFEL geometry file.

    Args:
        text: of it.
        path: where it comes from, for messages.

    Raises:
        UserError: it holds no panels that make sense, or a bad region that lies in none of them.
    """
    lines, others = split_lines(text)
    defaults: Fields = {}
    default_flags: list[tuple[str, str]] = []
    named: dict[str, Fields] = {}
    flags: dict[str, list[tuple[str, str]]] = {}
    bad: dict[str, Fields] = {}
    for line in lines:
        if line.is_region:
            bad.setdefault(line.name, {})[line.key] = line.value
            continue
        fields, own = defaults, default_flags
        if line.is_panel:
            # What stands before a panel's first line holds for it.
            fields = named.setdefault(line.name, dict(defaults))
            own = flags.setdefault(line.name, list(default_flags))
        if line.key.startswith("flag_"):
            own.append((line.key, line.value))
        else:
            fields[line.key] = line.value
    whole = {key: value for key, value in defaults.items() if key in WHOLE_KEYS}
    named = {name: {**whole, **fields} for name, fields in named.items()}
    try:
        _flags(default_flags)
        used = {name: fields for name, fields in named.items() if _is_used(name, fields, named)}
        panels = tuple(_panel(name, fields, _flags(flags[name], name)) for name, fields in used.items())
        regions = tuple(_region(name, fields) for name, fields in bad.items())
        common = _common(list(used.values()), path)
        masks = _geometry_masks(common)
    except (ValueError, OverflowError) as error:
        raise UserError(f"{path}: {error}; correct this geometry file") from error
    if not panels:
        left_out = ": no_index leaves all of them out" if named else ""
        raise UserError(f"{path}: no panels in this geometry file{left_out}")
    if len(panels) * len(regions) > _MOST_MARKS:
        raise UserError(
            f"{path}: {len(regions)} bad regions in {len(panels)} panels are beyond belief; put them into a mask"
        )
    if sum(mask.file is None for mask in masks) > 1:
        raise UserError(f"{path}: only one mask in the frames' own file is read; leave the others out")
    axes = {_frame_axis(fields) for fields in used.values()}
    if len(axes) > 1:
        raise UserError(f"{path}: the panels differ in which axis counts the frames")
    for region in regions:
        _check_region(region, panels, set(named), path)
    notes = without_effect(lines, others, path)
    wavelength = _wavelength(next(iter(used.values())))
    return Geometry(panels, common.get("data"), masks, regions, axes.pop(), notes, wavelength)


def _check_region(region: BadRegion, panels: tuple[Panel, ...], named: set[str], path: str | Path) -> None:
    """Refuse a bad region that can mark nothing, since it is meant to."""
    if region.panel and region.panel not in named:
        raise UserError(f"{path}: {region.name} is in the panel {region.panel}, which this geometry has not")
    if not region.in_panel:
        return
    mine = [panel for panel in panels if region.panel in ("", panel.name)]
    for panel in mine:
        spans = zip(region.low[::-1], region.high[::-1], panel.begin, panel.size, strict=True)
        if all(low < begin + length and high >= begin for low, high, begin, length in spans):
            return
    if mine:
        places = ", ".join(
            f"{panel.name} has ss {panel.begin[0]} to {panel.begin[0] + panel.size[0] - 1} "
            f"and fs {panel.begin[1]} to {panel.begin[1] + panel.size[1] - 1}"
            for panel in mine[:2]
        )
        raise UserError(
            f"{path}: {region.name} lies outside its panel ({places}); fs and ss of a bad region count in "
            "the data block, as min_fs and min_ss of a panel do"
        )


def _common(panels: list[Fields], path: str | Path) -> Fields:
    """Return where frames and masks are, which must hold for all panels."""
    common = {}
    for key in dict.fromkeys(key for fields in panels for key in fields):
        if key == "data" or MASK_KEY.fullmatch(key):
            if any(fields.get(key) != panels[0].get(key) for fields in panels):
                raise UserError(
                    f"{path}: {key} differs between panels, which is not read; put all panels into one data set, and their "
                    "masks into another of its shape"
                )
            common[key] = panels[0][key]
    return common


def _geometry_masks(fields: Fields) -> tuple[GeometryMask, ...]:
    # Older files name their only mask without a number.
    numbered = {"mask": "mask0_data", "mask_file": "mask0_file"}
    numbered |= {"mask_good": "mask0_goodbits", "mask_bad": "mask0_badbits"}
    fields = {numbered.get(key, key): value for key, value in fields.items()}
    masks = []
    for k in sorted({int(found[1]) for key in fields if (found := MASK_KEY.fullmatch(key)) and found[1]}):
        if f"mask{k}_data" not in fields:
            if f"mask{k}_file" in fields:
                raise ValueError(
                    f"mask{k}_file is given without mask{k}_data, the path of the mask in that file"
                )
            continue  # Bits alone, of no mask, which is noted.
        if k >= _MOST_MASKS:
            raise ValueError(f"mask{k}_data is no mask of CrystFEL, which has masks 0 to {_MOST_MASKS - 1}")
        good, bad = (_mask_bits(fields, f"mask{k}_{name}") for name in ("goodbits", "badbits"))
        masks.append(GeometryMask(fields[f"mask{k}_data"], fields.get(f"mask{k}_file"), good, bad))
    return tuple(masks)


def _is_used(name: str, fields: Fields, named: Mapping[str, Fields]) -> bool:
    """Tell whether a panel is not left out by no_index."""
    no_index = fields.get("no_index", "0").lower()
    if no_index not in (*_YES, *_NO):
        raise ValueError(f"{name}/no_index = {no_index} is neither 0 nor 1")
    if no_index in _NO and "min_fs" not in fields:
        # A mistyped name makes a panel of its own.
        near = difflib.get_close_matches(name, [each for each in named if "min_fs" in named[each]], 1)
        raise ValueError(
            f"the panel {name} has no min_fs{f'; did you mean the panel {near[0]}?' if near else ''}"
        )
    return no_index in _NO


def _flags(lines: list[tuple[str, str]], panel: str = "") -> Flags:
    flags = []
    for key, value in lines:
        comparison = key.removeprefix("flag_")
        if comparison not in COMPARISONS:
            raise ValueError(f"{key} is no key of a geometry{meant(key)}")
        flags.append((comparison, _number({key: value}, key, panel)))
    return tuple(flags)


def _number(fields: Fields, key: str, name: str, default: str | None = None) -> float:
    """Return a number, infinite too.

    Args:
        fields: of the panel or region.
        key: of the number.
        name: of the panel or region, for messages.
        default: of the number; None: it must be there.
    """
    text = fields.get(key, default)
    full = f"{name}/{key}" if name else key
    if text is None:
        raise ValueError(f"{full} is missing")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise ValueError(f"{full} = {text} is no number")
    return value


def _whole(fields: Fields, key: str, name: str, default: str | None = None) -> int:
    value = _number(fields, key, name, default)
    if not math.isfinite(value):
        raise ValueError(f"{name}/{key} = {value} is no whole number")
    return int(value)


def _panel(name: str, fields: Fields, flags: Flags) -> Panel:
    fast, slow = (
        (_whole(fields, f"min_{axis}", name), _whole(fields, f"max_{axis}", name)) for axis in ("fs", "ss")
    )
    dims = _dims(fields) or ["ss", "fs"]
    frame_dims = [dim for dim in dims if dim != "%"]
    if dims.count("%") > 1 or frame_dims.count("ss") != 1 or frame_dims.count("fs") != 1:
        raise ValueError(
            f"dim0, dim1 and so on of the panel {name} need ss and fs once each, and % at most once"
        )
    first = []
    for dim in frame_dims:
        first.append(
            fast[0] if dim == "fs" else slow[0] if dim == "ss" else _whole({"dim": dim}, "dim", name)
        )
    size = (slow[1] - slow[0] + 1, fast[1] - fast[0] + 1)
    fs_vector, ss_vector = (
        _vector(fields.get(axis, default), f"{name}/{axis}") for axis, default in (("fs", "x"), ("ss", "y"))
    )
    area = fs_vector[0] * ss_vector[1] - fs_vector[1] * ss_vector[0]
    if min(size) < 1 or min(first) < 0 or max(size) > 2**20 or abs(area) < 0.1:
        raise ValueError(f"the panel {name} has an extent or directions that make no sense")
    corner = (_number(fields, "corner_x", name), _number(fields, "corner_y", name))
    if not all(map(math.isfinite, (*corner, *fs_vector, *ss_vector))) or max(map(abs, corner)) > 1e6:
        raise ValueError(f"the panel {name} has a corner that makes no sense")
    if max(map(abs, (*fs_vector, *ss_vector))) > 100:
        raise ValueError(f"the panel {name} has directions that make no sense")
    edge = _number(fields, "mask_edge_pixels", name, "0")
    if not (0 <= edge < 2**20 and edge.is_integer()):
        raise ValueError(f"{name}/mask_edge_pixels = {edge:g} is no number of pixels")
    where = frame_dims.index("ss"), frame_dims.index("fs")
    distance, offset = _quantity(fields.get("clen"), _METRES), _quantity(fields.get("coffset", "0"), _METRES)
    if distance is not None:
        distance = distance + offset if offset is not None and distance + offset > 0 else None
    pixels = _quantity(fields.get("res"), {"": 1.0})
    return Panel(
        *(name, tuple(first), *where, size, corner, fs_vector, ss_vector, flags, int(edge)),
        distance=distance,
        pixels_per_metre=pixels if pixels and pixels > 0 else None,
    )


def _wavelength(fields: Fields) -> float | None:
    """Return the beam's wavelength, Angstrom; None where it is not given, or by the path of a data set."""
    wavelength = _quantity(fields.get("wavelength"), {"": 1e10, "m": 1e10, "A": 1.0})
    energy = _quantity(fields.get("photon_energy"), {"": 1.0, "eV": 1.0, "keV": 1e3, "MeV": 1e6})
    if wavelength is None and energy is not None and energy > 0:
        wavelength = PLANCK_TIMES_LIGHT / energy
    return wavelength if wavelength is not None and wavelength > 0 else None


def _quantity(text: str | None, units: dict[str, float]) -> float | None:
    """Return a number with its unit, as `0.1`, `100 mm` or `9.5 keV`; None of what is no such thing."""
    number, _, unit = (text or "").partition(" ")
    try:
        value = float(number) * units[unit.strip()]
    except (ValueError, KeyError):
        return None
    return value if math.isfinite(value) else None


def _dims(fields: Fields) -> list[str] | None:
    dims: list[str] = []
    while f"dim{len(dims)}" in fields:
        dims.append(fields[f"dim{len(dims)}"].strip())
    return dims or None


def _frame_axis(fields: Fields) -> int:
    dims = _dims(fields) or []
    return dims.index("%") if "%" in dims else 0


def _vector(text: str, where: str) -> tuple[float, float]:
    found = {"x": 0.0, "y": 0.0, "z": 0.0}
    rest = _VECTOR_TERM.sub("", text).strip()
    terms = _VECTOR_TERM.findall(text)
    if rest or not terms:
        raise ValueError(f"{where} = {text} is no direction such as 1.0x -0.01y")
    for sign, number, axis in terms:
        found[axis] += (-1 if sign == "-" else 1) * (float(number) if number else 1.0)
    return found["x"], found["y"]


def _region(name: str, fields: Fields) -> BadRegion:
    in_panel = any(f"{end}_{axis}" in fields for end in ("min", "max") for axis in ("fs", "ss"))
    first, second = ("fs", "ss") if in_panel else ("x", "y")
    wanted = {f"{end}_{axis}" for end in ("min", "max") for axis in (first, second)}
    mixed = REGION_KEYS - wanted - {"panel"}
    if mixed & fields.keys():
        raise ValueError(f"{name} counts in fs and ss and in x and y at once")
    low = (_number(fields, f"min_{first}", name), _number(fields, f"min_{second}", name))
    high = (_number(fields, f"max_{first}", name), _number(fields, f"max_{second}", name))
    if not all(map(math.isfinite, (*low, *high))) and in_panel:
        raise ValueError(f"{name} has an extent that is not finite")
    if low[0] > high[0] or low[1] > high[1]:
        raise ValueError(f"{name}: its end lies before its beginning")
    return BadRegion(name, fields.get("panel", ""), in_panel, low, high)


def _mask_bits(fields: Fields, key: str) -> int | None:
    text = fields.get(key)
    try:
        return None if text is None else int(text, 0)
    except ValueError:
        raise ValueError(f"{key} = {text} is no whole number such as 0x1") from None
