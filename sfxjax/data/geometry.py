"""Where a detector's panels lie, from CrystFEL geometry files, and the assembly of their pixels to one image.

A panel pixel (ss, fs) lies at `corner + (fs + 1/2) fs_vector + (ss + 1/2) ss_vector` in pixels from the beam,
x along columns and y along rows of the assembled image. Each pixel of the image takes the value of the panel
pixel that covers its centre; what no panel covers is a gap. (White et al., J. Appl. Cryst. 45:335, 2012, and the
CrystFEL manual page crystfel_geometry.)
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfxjax.crop import CROP
from sfxjax.errors import UserError, explain_os_error

_VECTOR_TERM = re.compile(r"([+-]?)\s*(\d*\.?\d*(?:[eE][+-]?\d+)?)\s*([xyz])")
_COMPARISONS = {"lessthan": np.less, "morethan": np.greater, "equal": np.equal}
_MOST_MASKS = 8
_NOT_PANELS = ("rigid_group", "group_", "bad")


@dataclass(frozen=True)
class Panel:
    """A flat rectangle of pixels.

    Attributes:
        name: as the geometry gives it.
        first: index of its first pixel in the stored frame, one number for each axis.
        ss_axis: axis of the stored frame along which its slow scan runs.
        fs_axis: the same for the fast scan.
        size: (ss, fs), pixels.
        corner: (x, y) of the first pixel's corner, pixels from the beam.
        fs_vector: (x, y) of one step along fast scan, pixels.
        ss_vector: (x, y) of one step along slow scan, pixels.
    """

    name: str
    first: tuple[int, ...]
    ss_axis: int
    fs_axis: int
    size: tuple[int, int]
    corner: tuple[float, float]
    fs_vector: tuple[float, float]
    ss_vector: tuple[float, float]


@dataclass(frozen=True)
class BadRegion:
    """A region of bad pixels: x and y in pixels from the beam, or fs and ss of a panel, both ends included."""

    panel: str
    in_panel: bool
    low: tuple[float, float]
    high: tuple[float, float]


@dataclass(frozen=True)
class GeometryMask:
    """A mask that a geometry names.

    Attributes:
        data: path of it, with `%` for a part that varies.
        file: that holds it; None: the frames' own.
        good_bits: that good pixels have set; None: not given.
        bad_bits: that good pixels have not set; None: not given.
    """

    data: str
    file: str | None = None
    good_bits: int | None = None
    bad_bits: int | None = None


@dataclass(frozen=True)
class Geometry:
    """A detector.

    Attributes:
        panels: of it.
        data: path of the frames, with `%` for a part that varies; None: not given.
        masks: of bad pixels.
        bad_regions: of bad pixels.
        flags: (comparison, value): pixels less than, more than or equal to a value are bad.
    """

    panels: tuple[Panel, ...]
    data: str | None = None
    masks: tuple[GeometryMask, ...] = ()
    bad_regions: tuple[BadRegion, ...] = ()
    flags: tuple[tuple[str, float], ...] = ()

    @property
    def axes(self) -> int:
        """Number of axes of a stored frame."""
        return len(self.panels[0].first)

    @property
    def own_mask(self) -> GeometryMask | None:
        """The mask in the frames' own file, if there is one."""
        return next((mask for mask in self.masks if mask.file is None), None)

    def flagged(self, pixels: np.ndarray) -> np.ndarray:
        """Tell which pixels are bad by their value."""
        bad = np.zeros(pixels.shape, bool)
        for comparison, value in self.flags:
            bad |= _COMPARISONS[comparison](pixels, value)
        return bad

    def check(self, raw_shape: tuple[int, ...], where: str) -> None:
        """Check that every panel lies inside frames of a shape.

        Raises:
            UserError: one does not.
        """
        for panel in self.panels:
            last = list(panel.first)
            if len(last) == len(raw_shape):
                last[panel.ss_axis] += panel.size[0] - 1
                last[panel.fs_axis] += panel.size[1] - 1
            if len(last) != len(raw_shape) or any(at >= n for at, n in zip(last, raw_shape, strict=True)):
                size = "x".join(map(str, raw_shape))
                raise UserError(
                    f"{where}: panel {panel.name} of the geometry does not lie in frames of {size}"
                )

    def assembly(self, raw_shape: tuple[int, ...], size: int = CROP) -> np.ndarray:
        """Tell which stored pixel each pixel of the image around the beam shows.

        Args:
            raw_shape: of a stored frame.
            size: side of the image, pixels; the beam is in its middle.

        Returns:
            int64 (size, size): index into the flattened frame, -1 in gaps and bad regions.
        """
        index = np.full((size, size), -1, np.int64)
        strides = [math.prod(raw_shape[axis + 1 :]) for axis in range(len(raw_shape))]
        for panel in self.panels:
            rows, columns, ss, fs = _covered(panel, size)
            keep = ~self._bad(panel, rows, columns, ss, fs, size)
            first = sum(at * stride for at, stride in zip(panel.first, strides, strict=True))
            here = first + ss * strides[panel.ss_axis] + fs * strides[panel.fs_axis]
            index[rows[keep], columns[keep]] = here[keep]
        return index

    def extent(self) -> tuple[int, int]:
        """Return (rows, columns) of the image that holds all panels."""
        corners = []
        for panel in self.panels:
            for ss in (0, panel.size[0]):
                for fs in (0, panel.size[1]):
                    corners.append(
                        [panel.corner[k] + fs * panel.fs_vector[k] + ss * panel.ss_vector[k] for k in (0, 1)]
                    )
        width, height = np.ptp(np.array(corners), axis=0)
        return math.ceil(height - 1e-6), math.ceil(width - 1e-6)

    def _bad(
        self,
        panel: Panel,
        rows: np.ndarray,
        columns: np.ndarray,
        ss: np.ndarray,
        fs: np.ndarray,
        size: int,
    ) -> np.ndarray:
        bad = np.zeros(rows.shape, bool)
        for region in self.bad_regions:
            if region.in_panel:
                if region.panel != panel.name:
                    continue
                first, second = fs, ss
            else:
                first, second = columns + 0.5 - size / 2, rows + 0.5 - size / 2
            inside = (first >= region.low[0]) & (first <= region.high[0])
            bad |= inside & (second >= region.low[1]) & (second <= region.high[1])
        return bad


def _covered(panel: Panel, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """List the image's pixels whose centre a panel covers: rows, columns, and ss and fs in the panel."""
    matrix = np.array([panel.fs_vector, panel.ss_vector], float).T
    slow, fast = panel.size
    corners = np.array(panel.corner)[:, None] + matrix @ np.array([[0, fast, 0, fast], [0, 0, slow, slow]])
    spans = []
    for low, high in zip(corners.min(1), corners.max(1), strict=True):
        begin = max(0, math.floor(low + size / 2) - 1)
        spans.append(np.arange(begin, max(begin, min(size, math.ceil(high + size / 2) + 1))))
    columns, rows = (grid.ravel() for grid in np.meshgrid(spans[0], spans[1]))
    places = np.stack([columns, rows]) + 0.5 - size / 2 - np.array(panel.corner)[:, None]
    # A panel pixel holds its lower edges; rounding must not let one slip to its neighbour.
    fs, ss = np.floor(np.linalg.solve(matrix, places) + 1e-6).astype(np.int64)
    inside = (fs >= 0) & (fs < fast) & (ss >= 0) & (ss < slow)
    return rows[inside], columns[inside], ss[inside], fs[inside]


def read_geometry(path: str | Path) -> Geometry:
    """Read a CrystFEL geometry file.

    Raises:
        UserError: it is missing, or holds no panels that make sense.
    """
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
        UserError: it holds no panels that make sense.
    """
    defaults: dict[str, str] = {}
    named: dict[str, dict[str, str]] = {}
    bad: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        key, equals, value = line.partition(";")[0].partition("=")
        key, value = key.strip(), value.strip()
        if not equals or not key:
            continue
        name, slash, field = key.rpartition("/")
        if not slash:
            defaults[key] = value
        elif name.startswith("bad"):
            bad.setdefault(name, {})[field] = value
        elif not name.startswith(_NOT_PANELS):
            # What stands before a panel's first line holds for it.
            named.setdefault(name, dict(defaults))[field] = value
    try:
        panels = tuple(_panel(name, fields) for name, fields in named.items() if _is_used(fields))
        regions = tuple(_region(fields) for fields in bad.values())
        common = _common([fields for fields in named.values() if _is_used(fields)])
        masks = _masks(common)
        flags = tuple(
            (name, float(common[f"flag_{name}"])) for name in _COMPARISONS if f"flag_{name}" in common
        )
    except (KeyError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: {error} is missing or wrong in this geometry file") from error
    if not panels:
        raise UserError(f"{path}: no panels in this geometry file")
    if sum(mask.file is None for mask in masks) > 1:
        raise UserError(f"{path}: only one mask in the frames' own file is read; leave the others out")
    return Geometry(panels, common.get("data"), masks, regions, flags)


def _common(panels: list[dict[str, str]]) -> dict[str, str]:
    """Return what holds for all panels of where data and masks are and which values are bad."""
    common = {}
    for key in dict.fromkeys(key for fields in panels for key in fields):
        if key == "data" or key.startswith(("mask", "flag_")):
            if any(fields.get(key) != panels[0].get(key) for fields in panels):
                raise ValueError(f"{key}, which differs between panels,")
            common[key] = panels[0][key]
    return common


def _masks(fields: dict[str, str]) -> tuple[GeometryMask, ...]:
    # Older files name their only mask without a number.
    numbered = {"mask": "mask0_data", "mask_file": "mask0_file"}
    numbered |= {"mask_good": "mask0_goodbits", "mask_bad": "mask0_badbits"}
    fields = {numbered.get(key, key): value for key, value in fields.items()}
    return tuple(
        GeometryMask(
            fields[f"mask{k}_data"],
            fields.get(f"mask{k}_file"),
            _bits(fields.get(f"mask{k}_goodbits")),
            _bits(fields.get(f"mask{k}_badbits")),
        )
        for k in range(_MOST_MASKS)
        if f"mask{k}_data" in fields
    )


def _is_used(fields: dict[str, str]) -> bool:
    return fields.get("no_index", "0") in ("0", "false") and "min_fs" in fields


def _panel(name: str, fields: dict[str, str]) -> Panel:
    fast, slow = (
        (int(float(fields[f"min_{axis}"])), int(float(fields[f"max_{axis}"]))) for axis in ("fs", "ss")
    )
    dims = _dims(fields) or ["ss", "fs"]
    frame_dims = [dim for dim in dims if dim != "%"]
    if "%" in dims[1:] or frame_dims.count("ss") != 1 or frame_dims.count("fs") != 1:
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
    where = frame_dims.index("ss"), frame_dims.index("fs")
    return Panel(name, tuple(first), *where, size, corner, fs_vector, ss_vector)


def _dims(fields: dict[str, str]) -> list[str] | None:
    dims: list[str] = []
    while f"dim{len(dims)}" in fields:
        dims.append(fields[f"dim{len(dims)}"].strip())
    return dims or None


def _vector(text: str) -> tuple[float, float]:
    found = {"x": 0.0, "y": 0.0, "z": 0.0}
    rest = _VECTOR_TERM.sub("", text).strip()
    terms = _VECTOR_TERM.findall(text)
    if rest or not terms:
        raise ValueError(f"direction {text!r}")
    for sign, number, axis in terms:
        found[axis] += (-1 if sign == "-" else 1) * (float(number) if number else 1.0)
    return found["x"], found["y"]


def _region(fields: dict[str, str]) -> BadRegion:
    in_panel = "min_fs" in fields
    first, second = ("fs", "ss") if in_panel else ("x", "y")
    low = (float(fields[f"min_{first}"]), float(fields[f"min_{second}"]))
    high = (float(fields[f"max_{first}"]), float(fields[f"max_{second}"]))
    return BadRegion(fields.get("panel", ""), in_panel, low, high)


def _bits(text: str | None) -> int | None:
    return None if text is None else int(text, 0)
