"""CrystFEL's geometry files: panels, and every key by which they leave pixels out.

The manual page crystfel_geometry(5) says what the keys mean. fs and ss of a bad region count in the data block, as min_fs and
min_ss of a panel do. What stands before a panel's first line holds for that panel too. A key that leaves pixels out and is not
done here is named in the geometry's notes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path

from sfxjax.data.geometry import COMPARISONS, BadRegion, Flags, Geometry, GeometryMask, Panel
from sfxjax.errors import UserError, explain_os_error
from sfxjax.files import refuse_pipe

_VECTOR_TERM = re.compile(r"([+-]?)\s*(\d*\.?\d*(?:[eE][+-]?\d+)?)\s*([xyz])")
_MASK_KEY = re.compile(r"mask(\d*)_(data|file|goodbits|badbits)|mask|mask_(file|good|bad)")
_MOST_MASKS = 8
_METRES = {"": 1.0, "m": 1.0, "mm": 1e-3}
# eV Angstrom (CODATA 2018).
PLANCK_TIMES_LIGHT = 12398.419843320026
_NOT_PANELS = ("rigid_group", "group_", "bad")
_REGION_KEYS = {f"{end}_{axis}" for end in ("min", "max") for axis in ("fs", "ss", "x", "y")} | {"panel"}

Fields = dict[str, str]


def read_geometry(path: str | Path) -> Geometry:
    """Read a CrystFEL geometry file.

    Raises:
        UserError: it is missing, or holds no panels that make sense.
    """
    refuse_pipe(path)
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(explain_os_error(error, path) or f"{path}: {error}") from error
    return parse_geometry(text, path)


def parse_geometry(text: str, path: str | Path) -> Geometry:
    """Read the text of a CrystFEL geometry file.

    Args:
        text: of it.
        path: where it comes from, for messages.

    Raises:
        UserError: it holds no panels that make sense, or a bad region that lies in none of them.
    """
    defaults: Fields = {}
    default_flags: list[tuple[str, str]] = []
    named: dict[str, Fields] = {}
    flags: dict[str, list[tuple[str, str]]] = {}
    bad: dict[str, Fields] = {}
    for line in text.splitlines():
        key, equals, value = line.partition(";")[0].partition("=")
        key, value = key.strip(), value.strip()
        if not equals or not key:
            continue
        name, slash, field = key.rpartition("/")
        if name.startswith("bad"):
            bad.setdefault(name, {})[field] = value
        elif not slash and not key.startswith("flag_"):
            defaults[key] = value
        elif not slash:
            default_flags.append((key, value))
        elif not name.startswith(_NOT_PANELS):
            # What stands before a panel's first line holds for it.
            fields = named.setdefault(name, dict(defaults))
            own = flags.setdefault(name, list(default_flags))
            if field.startswith("flag_"):
                own.append((field, value))
            else:
                fields[field] = value
    used = {name: fields for name, fields in named.items() if _is_used(fields)}
    try:
        panels = tuple(_panel(name, fields, _flags(flags[name])) for name, fields in used.items())
        regions = tuple(_region(name, fields) for name, fields in bad.items())
        common = _common(list(used.values()), path)
        masks = _geometry_masks(common)
    except (KeyError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: {error} is missing or wrong in this geometry file") from error
    if not panels:
        raise UserError(f"{path}: no panels in this geometry file")
    if sum(mask.file is None for mask in masks) > 1:
        raise UserError(f"{path}: only one mask in the frames' own file is read; leave the others out")
    axes = {_frame_axis(fields) for fields in used.values()}
    if len(axes) > 1:
        raise UserError(f"{path}: the panels differ in which axis counts the frames")
    for region in regions:
        _check_region(region, panels, set(named), path)
    notes = _not_done([defaults, *used.values()], bad.values(), path)
    wavelength = _wavelength({**defaults, **next(iter(used.values()))})
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
        if key == "data" or _MASK_KEY.fullmatch(key):
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
    for k in sorted({int(found[1]) for key in fields if (found := _MASK_KEY.fullmatch(key)) and found[1]}):
        if f"mask{k}_data" not in fields:
            if f"mask{k}_file" in fields:
                raise ValueError(f"mask{k}_data, the path of the mask in {fields[f'mask{k}_file']},")
            continue  # Bits alone, of no mask.
        if k >= _MOST_MASKS:
            raise ValueError(f"mask{k}_data: CrystFEL has masks 0 to {_MOST_MASKS - 1}; its number")
        good, bad = (_mask_bits(fields.get(f"mask{k}_{name}")) for name in ("goodbits", "badbits"))
        masks.append(GeometryMask(fields[f"mask{k}_data"], fields.get(f"mask{k}_file"), good, bad))
    return tuple(masks)


def _is_used(fields: Fields) -> bool:
    return fields.get("no_index", "0") in ("0", "false") and "min_fs" in fields


def _flags(lines: list[tuple[str, str]]) -> Flags:
    flags = []
    for key, value in lines:
        comparison = key.removeprefix("flag_")
        if comparison not in COMPARISONS:
            raise ValueError(f"{key}, which is not known and")
        flags.append((comparison, float(value)))
    return tuple(flags)


def _panel(name: str, fields: Fields, flags: Flags) -> Panel:
    fast, slow = (
        (int(float(fields[f"min_{axis}"])), int(float(fields[f"max_{axis}"]))) for axis in ("fs", "ss")
    )
    dims = _dims(fields) or ["ss", "fs"]
    frame_dims = [dim for dim in dims if dim != "%"]
    if dims.count("%") > 1 or frame_dims.count("ss") != 1 or frame_dims.count("fs") != 1:
        raise ValueError(f"dim of panel {name}")
    first = []
    for dim in frame_dims:
        first.append(fast[0] if dim == "fs" else slow[0] if dim == "ss" else int(dim))
    size = (slow[1] - slow[0] + 1, fast[1] - fast[0] + 1)
    fs_vector, ss_vector = (
        _vector(fields.get(axis, default)) for axis, default in (("fs", "x"), ("ss", "y"))
    )
    area = fs_vector[0] * ss_vector[1] - fs_vector[1] * ss_vector[0]
    if min(size) < 1 or min(first) < 0 or max(size) > 2**20 or abs(area) < 0.1:
        raise ValueError(f"extent or direction of panel {name}")
    corner = (float(fields["corner_x"]), float(fields["corner_y"]))
    if not all(map(math.isfinite, (*corner, *fs_vector, *ss_vector))) or max(map(abs, corner)) > 1e6:
        raise ValueError(f"corner of panel {name}")
    if max(map(abs, (*fs_vector, *ss_vector))) > 100:
        raise ValueError(f"direction of panel {name}")
    edge = int(fields.get("mask_edge_pixels", "0"))
    if not 0 <= edge < 2**20:
        raise ValueError(f"mask_edge_pixels of panel {name}")
    where = frame_dims.index("ss"), frame_dims.index("fs")
    distance, offset = _quantity(fields.get("clen"), _METRES), _quantity(fields.get("coffset", "0"), _METRES)
    if distance is not None:
        distance = distance + offset if offset is not None and distance + offset > 0 else None
    pixels = _quantity(fields.get("res"), {"": 1.0})
    return Panel(
        *(name, tuple(first), *where, size, corner, fs_vector, ss_vector, flags, edge),
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


def _vector(text: str) -> tuple[float, float]:
    found = {"x": 0.0, "y": 0.0, "z": 0.0}
    rest = _VECTOR_TERM.sub("", text).strip()
    terms = _VECTOR_TERM.findall(text)
    if rest or not terms:
        raise ValueError(f"direction {text!r}")
    for sign, number, axis in terms:
        found[axis] += (-1 if sign == "-" else 1) * (float(number) if number else 1.0)
    return found["x"], found["y"]


def _region(name: str, fields: Fields) -> BadRegion:
    in_panel = any(f"{end}_{axis}" in fields for end in ("min", "max") for axis in ("fs", "ss"))
    first, second = ("fs", "ss") if in_panel else ("x", "y")
    wanted = {f"{end}_{axis}" for end in ("min", "max") for axis in (first, second)}
    mixed = _REGION_KEYS - wanted - {"panel"}
    if mixed & fields.keys():
        raise ValueError(f"{name}, which counts in fs and ss and in x and y at once,")
    for key in sorted(wanted - fields.keys()):
        raise ValueError(f"{key} of {name}")
    low = (float(fields[f"min_{first}"]), float(fields[f"min_{second}"]))
    high = (float(fields[f"max_{first}"]), float(fields[f"max_{second}"]))
    if not all(map(math.isfinite, (*low, *high))) and in_panel:
        raise ValueError(f"extent of {name}")
    if low[0] > high[0] or low[1] > high[1]:
        raise ValueError(f"{name}, whose end lies before its beginning,")
    return BadRegion(name, fields.get("panel", ""), in_panel, low, high)


def _not_done(fields: list[Fields], bad: Iterable[Fields], path: str | Path) -> tuple[str, ...]:
    """Name the keys that leave pixels out in CrystFEL and do nothing here."""
    keys = {key for some in fields for key in some}
    unread = {
        key
        for key in keys
        if key == "max_adu"
        or key.startswith(("satmap", "saturation_map"))
        or (key.startswith("mask") and key != "mask_edge_pixels" and not _MASK_KEY.fullmatch(key))
    }
    unread |= {f"{key} of a bad region" for some in bad for key in some.keys() - _REGION_KEYS}
    return (f"{path}: not used here: {', '.join(sorted(unread))}",) if unread else ()


def _mask_bits(text: str | None) -> int | None:
    return None if text is None else int(text, 0)
