"""Where a detector's panels lie, and the assembly of their pixels to one image.

A panel pixel (ss, fs) lies at `corner + (fs + 1/2) fs_vector + (ss + 1/2) ss_vector` in pixels from the beam,
x along columns and y along rows of the assembled image. Each pixel of the image takes the value of the panel
pixel that covers its centre; what no panel covers is a gap. (White et al., J. Appl. Cryst. 45:335, 2012, and the
CrystFEL manual page crystfel_geometry.) `sfxjax.data.geometry_file` reads CrystFEL's files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sfxjax.crop import CROP
from sfxjax.errors import UserError

COMPARISONS = {"lessthan": np.less, "morethan": np.greater, "equal": np.equal}

# (comparison, value): a pixel that compares so with the value is bad.
Flags = tuple[tuple[str, float], ...]


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
        flags: which values mark its bad pixels.
        edge: rows and columns along its edges that are bad (CrystFEL's mask_edge_pixels).
        distance: from the sample, metres; None: not given as a number.
        pixels_per_metre: of its pixels; None: not given.
    """

    name: str
    first: tuple[int, ...]
    ss_axis: int
    fs_axis: int
    size: tuple[int, int]
    corner: tuple[float, float]
    fs_vector: tuple[float, float]
    ss_vector: tuple[float, float]
    flags: Flags = ()
    edge: int = 0
    distance: float | None = None
    pixels_per_metre: float | None = None

    @property
    def begin(self) -> tuple[int, int]:
        """(ss, fs) of its first pixel in the data block, where CrystFEL counts."""
        return self.first[self.ss_axis], self.first[self.fs_axis]

    def view(self, frame: np.ndarray) -> np.ndarray:
        """Return its part of an array of the stored frame's shape, (ss, fs), sharing memory."""
        place: list[int | slice] = list(self.first)
        for axis, length in ((self.ss_axis, self.size[0]), (self.fs_axis, self.size[1])):
            place[axis] = slice(self.first[axis], self.first[axis] + length)
        part = frame[tuple(place)]
        return part if self.ss_axis < self.fs_axis else part.T


@dataclass(frozen=True)
class BadRegion:
    """A region of bad pixels, both ends included.

    Attributes:
        name: as the geometry gives it.
        panel: that it lies in; empty: any.
        in_panel: fs and ss of the data block are given, else x and y in pixels from the beam.
        low: (fs, ss) or (x, y).
        high: (fs, ss) or (x, y).
    """

    name: str
    panel: str
    in_panel: bool
    low: tuple[float, float]
    high: tuple[float, float]

    def mark(self, panel: Panel, good: np.ndarray) -> None:
        """Set its pixels to False.

        Args:
            panel: one of the detector's.
            good: bool (ss, fs) of that panel, changed.
        """
        if self.panel not in ("", panel.name):
            return
        if self.in_panel:
            spans = []
            for low, high, begin in zip(self.low[::-1], self.high[::-1], panel.begin, strict=True):
                spans.append(slice(max(math.ceil(low) - begin, 0), max(math.floor(high) + 1 - begin, 0)))
            good[spans[0], spans[1]] = False
            return
        ss, fs = (np.arange(length) + 0.5 for length in good.shape)
        inside = np.ones(good.shape, bool)
        for k in (0, 1):
            place = panel.corner[k] + fs * panel.fs_vector[k] + (ss * panel.ss_vector[k])[:, None]
            inside &= (place >= self.low[k]) & (place <= self.high[k])
        good[inside] = False


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
        frame_axis: axis of the data set that counts the frames.
        notes: what the file says of bad pixels and is not done here.
        wavelength: of the beam, Angstrom; None: not given as a number.
    """

    panels: tuple[Panel, ...]
    data: str | None = None
    masks: tuple[GeometryMask, ...] = ()
    bad_regions: tuple[BadRegion, ...] = ()
    frame_axis: int = 0
    notes: tuple[str, ...] = ()
    wavelength: float | None = None

    @property
    def axes(self) -> int:
        """Number of axes of a stored frame."""
        return len(self.panels[0].first)

    @property
    def own_mask(self) -> GeometryMask | None:
        """The mask in the frames' own file, if there is one."""
        return next((mask for mask in self.masks if mask.file is None), None)

    @property
    def has_flags(self) -> bool:
        """Whether values mark bad pixels of some panel."""
        return any(panel.flags for panel in self.panels)

    def good(self, raw_shape: tuple[int, ...]) -> np.ndarray:
        """Tell which pixels of a stored frame lie in a panel, in no bad region and at no masked edge.

        Args:
            raw_shape: of a stored frame.

        Returns:
            bool of that shape.
        """
        good = np.zeros(raw_shape, bool)
        for panel in self.panels:
            inside = panel.view(good)
            edge = panel.edge
            inside[edge : panel.size[0] - edge, edge : panel.size[1] - edge] = True
            for region in self.bad_regions:
                region.mark(panel, inside)
        return good

    def numbers(self, raw_shape: tuple[int, ...]) -> np.ndarray:
        """Return the number of the panel that each pixel of a stored frame lies in, int16 of its shape, -1 for none."""
        numbers = np.full(raw_shape, -1, np.int16)
        for number, panel in enumerate(self.panels):
            panel.view(numbers)[:] = number
        return numbers

    def unflagged(self, pixels: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Tell which pixels are not bad by their value.

        Args:
            pixels: of any shape, as stored.
            numbers: of each pixel's panel, -1 for none.

        Returns:
            bool of that shape.
        """
        good = np.ones(pixels.shape, bool)
        members: dict[Flags, list[int]] = {}
        for number, panel in enumerate(self.panels):
            members.setdefault(panel.flags, []).append(number)
        for flags, panels in members.items():
            here = np.isin(numbers, panels) if flags and len(members) > 1 else np.ones(1, bool)
            for comparison, value in flags:
                good &= ~(COMPARISONS[comparison](pixels, value) & here)
        return good

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
            int64 (size, size): index into the flattened frame, -1 in gaps, bad regions and masked edges.
        """
        index = np.full((size, size), -1, np.int64)
        strides = [math.prod(raw_shape[axis + 1 :]) for axis in range(len(raw_shape))]
        good = self.good(raw_shape)
        for panel in self.panels:
            rows, columns, ss, fs = _covered(panel, size)
            keep = panel.view(good)[ss, fs]
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
