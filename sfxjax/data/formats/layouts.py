"""Finds the frames in HDF5 files of the layouts that beamlines write, with their masks and beam centre.

Recognised: CXIDB 76 (`/data/<chunk>/images`); CXI of Cheetah, OM and psocake (`/entry_1/data_1/data`), with
Cheetah's assembled images (`/entry_1/image_1/data`); the virtual CXI of EXtra-data (frame, module, ss, fs);
NXmx and DECTRIS masters (`/entry/data/data` or `/entry/data/data_000001`...); any data set named by its path.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sfxjax.data.frames import FrameStack, ReadOptions, check_size
from sfxjax.data.geometry import Geometry
from sfxjax.data.hdf5 import MAX_FRAMES, Files, missing_virtual_frames
from sfxjax.errors import UserError

CXI_DATA = "/entry_1/data_1/data"
CXI_DETECTOR = "/entry_1/instrument_1/detector_1"
CXI_ASSEMBLED = "/entry_1/image_1/data"
NEXUS_DATA = "/entry/data"
NEXUS_DETECTOR = "/entry/instrument/detector"

_NUMBERED = re.compile(r"data_\d+")


def hdf5_stacks(
    files: Files, name: str, options: ReadOptions, geometry: Geometry | None = None
) -> list[FrameStack]:
    """Describe the frames of one HDF5 file, in their order.

    Args:
        files: opens it.
        name: path of the file as the user gave it.
        options: of the user.
        geometry: that `options` names.

    Raises:
        UserError: there are no frames, or more than one data set could be meant.
    """
    path = Path(name)
    if options.dataset is None and geometry is not None and geometry.data is not None:
        # The geometry's path, unless this file keeps its frames elsewhere.
        named: list[FrameStack] = []
        with contextlib.suppress(UserError):
            named = _named(files, path, replace(options, dataset=geometry.data))
        if named:
            return _placed(files, named, geometry)
    if options.dataset is not None:
        return _placed(files, _named(files, path, options), geometry)
    for find in (_cxidb76, _cxi, _nexus):
        sources = find(files, path, options)
        if sources:
            return _placed(files, sources, geometry)
    candidates = _candidates(files.open(path))
    found = f"it holds {', '.join(candidates)}" if candidates else "it holds no stack of images"
    raise UserError(f"{path}: no frames where known layouts have them; name them with --dataset ({found})")


def _placed(files: Files, sources: list[FrameStack], geometry: Geometry | None) -> list[FrameStack]:
    """Fit a geometry to the frames; without one, refuse frames of several panels."""
    placed = []
    for source in sources:
        where = f"{source.file}: {source.dataset}"
        if geometry is None:
            if len(source.raw_shape) == 3 and source.raw_shape[0] > 1:
                raise UserError(
                    f"{where} has frames of {source.raw_shape[0]} panels; "
                    "give their places with --geometry FILE.geom"
                )
            placed.append(source)
            continue
        if source.stacked and source.frames and geometry.axes == len(source.raw_shape) + 1:
            # One frame of several panels, where a stack of frames was supposed.
            raw_shape = (source.frames, *source.raw_shape)
            source = replace(source, raw_shape=raw_shape, frames=1, stacked=False)
        geometry.check(source.raw_shape, where)
        source = _masked(files, source, geometry)
        placed.append(replace(source, assembled=True, shape=geometry.extent(), centre=None))
    return placed


def _masked(files: Files, source: FrameStack, geometry: Geometry) -> FrameStack:
    """Take the mask that a geometry names in the frames' file instead of the one that the layout has."""
    mask = geometry.own_mask
    if mask is None:
        return source
    name = "/" + mask.data.replace("%", source.event_path).strip("/")
    data = files.dataset(Path(source.file), name)
    if data is None:
        note = f"{source.file}: the mask {name} of the geometry is not in it"
        return replace(source, mask_dataset="", frame_masks="", notes=(*source.notes, note))
    if data.shape == source.raw_shape:
        return replace(source, mask_dataset=name, frame_masks="")
    if source.stacked and data.shape[1:] == source.raw_shape and data.shape[0] >= source.frames:
        return replace(source, mask_dataset="", frame_masks=name)
    found, wanted = ("x".join(map(str, shape)) for shape in (data.shape, source.raw_shape))
    raise UserError(f"{source.file}: the mask {name} of the geometry has {found} pixels, the frames {wanted}")


def _known(files: Files, path: Path, options: ReadOptions, name: str) -> list[FrameStack]:
    """Find frames that are named where a layout has them, for the masks and the beam centre it has with them."""
    if name in (CXI_DATA, f"{CXI_DETECTOR}/data", CXI_ASSEMBLED):
        return _cxi(files, path, options, name)
    if name.startswith(f"{NEXUS_DATA}/"):
        found = _nexus(files, path, options)
        return [replace(source, event_path="") for source in found if source.dataset == name]
    return []


def _named(files: Files, path: Path, options: ReadOptions) -> list[FrameStack]:
    pattern = "/" + (options.dataset or "").strip("/")
    if "%" not in pattern:
        data = files.dataset(path, pattern)
        if data is None:
            candidates = _candidates(files.open(path))
            found = f"it holds {', '.join(candidates)}" if candidates else "it holds no stack of images"
            raise UserError(f"{path}: no data set {pattern}; {found}")
        known = _known(files, path, options, pattern)
        return known or [_stack(path, data, pattern, "HDF5", options)]
    head, _, tail = pattern.partition("%")
    folder, _, prefix = head.rpartition("/")
    group = files.get(path, folder or "/")
    sources = []
    if isinstance(group, h5py.Group):
        rest = tail.partition("/")[0]
        for key in sorted(group):
            if key.startswith(prefix) and key.endswith(rest) and len(key) >= len(prefix) + len(rest):
                event = key[len(prefix) : len(key) - len(rest) or None]
                dataset = f"{head}{event}{tail}"
                data = files.dataset(path, dataset)
                if data is not None:
                    sources.append(_stack(path, data, dataset, "HDF5", options, event_path=event))
    if not sources:
        raise UserError(f"{path}: no data set fits {pattern}")
    return sources


def _cxidb76(files: Files, path: Path, options: ReadOptions) -> list[FrameStack]:
    group = files.get(path, "/data")
    if not isinstance(group, h5py.Group):
        return []
    stacks: list[FrameStack] = []
    missing: list[str] = []
    # By name, not as created: the labels of CXIDB 76 count the frames in this order.
    for key in sorted(group):
        dataset = f"/data/{key}/images"
        images = files.dataset(path, dataset)
        if images is None:
            missing.append(f"{path}: no images in /data/{key}; left out")
        else:
            stacks.append(_stack(path, images, dataset, "CXIDB 76", options, event_path=key))
    return [replace(stacks[0], notes=(*stacks[0].notes, *missing)), *stacks[1:]] if stacks else []


def _cxi(files: Files, path: Path, options: ReadOptions, name: str = "") -> list[FrameStack]:
    wanted = (CXI_DATA, f"{CXI_DETECTOR}/data") if not name else (name,) if name != CXI_ASSEMBLED else ()
    dataset, data = _first(files, path, wanted)
    assembled = files.dataset(path, CXI_ASSEMBLED) if name in ("", CXI_ASSEMBLED) else None
    if data is None or (assembled is not None and options.geometry is None and assembled.ndim == 3):
        if assembled is None:
            return []
        masks = _masks(files, path, assembled, ("/entry_1/image_1/mask",), ("/entry_1/image_1/mask_shared",))
        return [_stack(path, assembled, CXI_ASSEMBLED, "Cheetah CXI, assembled images", options, masks=masks)]
    masks = _masks(
        files,
        path,
        data,
        ("/entry_1/data_1/mask", f"{CXI_DETECTOR}/mask"),
        (
            "/entry_1/data_1/mask_shared",
            f"{CXI_DETECTOR}/mask_shared",
            "/entry_1/data_1/mask",
            f"{CXI_DETECTOR}/mask",
        ),
    )
    return [_stack(path, data, dataset, _cxi_writer(files, path, data), options, masks=masks)]


def _cxi_writer(files: Files, path: Path, data: h5py.Dataset) -> str:
    if files.get(path, "/entry_1/trainId") is not None:
        return "EuXFEL virtual CXI"
    if files.get(path, "/cheetah") is not None or files.get(path, f"{CXI_DETECTOR}/mask_shared") is not None:
        return "Cheetah CXI"
    entry = files.get(path, "/entry_1/data_1")
    link = entry.get("data", getlink=True) if isinstance(entry, h5py.Group) else None
    if isinstance(link, h5py.SoftLink):
        return "psocake or Cheetah CXI"
    return "OM or Cheetah CXI"


def _nexus(files: Files, path: Path, options: ReadOptions) -> list[FrameStack]:
    data = files.dataset(path, f"{NEXUS_DATA}/data")
    parts: list[tuple[str, str]] = []
    if data is not None:
        parts = [(f"{NEXUS_DATA}/data", "")]
    else:
        group = files.get(path, NEXUS_DATA)
        if isinstance(group, h5py.Group):
            names = sorted(key for key in group if _NUMBERED.fullmatch(key))
            parts = [(f"{NEXUS_DATA}/{key}", key) for key in names]
    sources: list[FrameStack] = []
    for dataset, event in parts:
        try:
            stack = files.dataset(path, dataset)
        except UserError as error:
            # DECTRIS masters list the files that the writer had room for, written or not.
            if "is missing" in str(error) and sources:
                sources[-1] = replace(sources[-1], notes=(*sources[-1].notes, str(error)))
                continue
            raise
        if stack is None:
            continue
        mask = ("", "")
        if stack.ndim >= 2:
            shared = (f"{NEXUS_DETECTOR}/pixel_mask", f"{NEXUS_DETECTOR}/detectorSpecific/pixel_mask")
            mask = _masks(files, path, stack, (), shared)
        sources.append(
            _stack(
                path,
                stack,
                dataset,
                "NXmx",
                options,
                event_path=event,
                masks=mask,
                centre=_nexus_centre(files, path),
                negatives_bad=True,
            )
        )
    return sources


def _nexus_centre(files: Files, path: Path) -> tuple[float, float] | None:
    values = []
    for key in ("beam_center_x", "beam_center_y"):
        value = files.get(path, f"{NEXUS_DETECTOR}/{key}")
        if not isinstance(value, h5py.Dataset) or value.size != 1 or value.dtype.kind not in "iuf":
            return None
        number = float(np.asarray(value[()]).reshape(()))
        if not np.isfinite(number):
            return None
        units = value.attrs.get("units", "pixel")
        units = units.decode(errors="replace") if isinstance(units, bytes) else str(units)
        if not units.startswith("pixel"):
            # Some masters give it in metres.
            size = files.get(path, f"{NEXUS_DETECTOR}/{key[-1]}_pixel_size")
            if units not in ("m", "mm") or not isinstance(size, h5py.Dataset) or size.size != 1:
                return None
            metres = number * (1e-3 if units == "mm" else 1.0)
            pixel = float(np.asarray(size[()]).reshape(()))
            if not pixel > 0:
                return None
            number = metres / pixel
        values.append(number)
    return values[0], values[1]


def _first(files: Files, path: Path, names: tuple[str, ...]) -> tuple[str, h5py.Dataset | None]:
    for name in names:
        data = files.dataset(path, name)
        if data is not None:
            return name, data
    return "", None


def _masks(
    files: Files, path: Path, data: h5py.Dataset, per_frame: tuple[str, ...], shared: tuple[str, ...]
) -> tuple[str, str]:
    """Find (shared mask, masks of single frames): they are told apart by their shape."""
    frame = data.shape[1:] if data.ndim >= 3 else data.shape
    found = ["", ""]
    for slot, names, shape in ((0, shared, frame), (1, per_frame, data.shape)):
        for name in names:
            mask = files.dataset(path, name)
            if mask is None or mask.dtype.kind not in "biu":
                continue
            fits = mask.shape == shape or (
                slot == 1 and mask.shape[1:] == shape[1:] and len(mask) >= len(data)
            )
            if fits and (slot == 0 or data.ndim >= 3):
                found[slot] = name
                break
    return found[0], found[1]


def _stack(
    path: Path,
    data: h5py.Dataset,
    dataset: str,
    layout: str,
    options: ReadOptions,
    *,
    event_path: str = "",
    masks: tuple[str, str] = ("", ""),
    centre: tuple[float, float] | None = None,
    negatives_bad: bool = False,
) -> FrameStack:
    where = f"{path}: {dataset}"
    if data.shape is None or not 2 <= data.ndim <= 4:
        size = "no" if data.shape is None else f"{data.ndim}"
        raise UserError(f"{where} has {size} axes, where frames have 2 to 4; name the frames with --dataset")
    stacked = data.ndim > 2
    raw_shape = tuple(int(length) for length in (data.shape[1:] if stacked else data.shape))
    check_size(raw_shape, data.dtype, where)
    frames = int(data.shape[0]) if stacked else 1
    if frames > MAX_FRAMES:
        raise UserError(f"{where} claims {frames} frames; is the file damaged?")
    notes: tuple[str, ...] = ()
    written = _written_frames(data) if stacked else frames
    if written < frames:
        notes = (f"{where}: {frames - written} of {frames} frames at the end were never written; left out",)
    return FrameStack(
        file=str(path),
        layout=layout,
        dataset=dataset,
        event_path=event_path,
        frames=written,
        stacked=stacked,
        raw_shape=raw_shape,
        dtype=data.dtype.newbyteorder("=").str,
        shape=(raw_shape[-2], raw_shape[-1]),
        centre=centre,
        mask_dataset=masks[0],
        frame_masks=masks[1],
        negatives_bad=negatives_bad,
        missing=tuple(missing_virtual_frames(data)),
        notes=notes,
    )


def _written_frames(data: h5py.Dataset) -> int:
    """Count the frames up to the last one of which something is on disk: stacks can be over-allocated."""
    frames = int(data.shape[0])
    if data.chunks is None or data.is_virtual:
        early = data.external or data.is_virtual or data.id.get_storage_size() > 0
        return frames if early else 0
    stored = data.id.get_num_chunks()
    grid = [-(-length // chunk) for length, chunk in zip(data.shape, data.chunks, strict=True)]
    if stored == int(np.prod([float(count) for count in grid])):
        return frames
    # HDF5 lists chunks in no promised order, so each is looked at; beyond this number that takes too long.
    if stored > 200_000:
        return frames
    last = max((data.id.get_chunk_info(k).chunk_offset[0] for k in range(stored)), default=-data.chunks[0])
    return min(frames, int(last) + data.chunks[0])


def _candidates(file: h5py.File, limit: int = 6) -> list[str]:
    """List data sets that could be stacks of frames; links are not followed."""
    found: list[str] = []

    def visit(name: str, item: Any) -> bool | None:
        image = isinstance(item, h5py.Dataset) and item.ndim >= 2 and item.dtype.kind in "iuf"
        if image and min(item.shape[-2:]) >= 16:
            found.append(f"/{name} {'x'.join(map(str, item.shape))}")
        return True if len(found) >= limit else None

    with contextlib.suppress(OSError, RuntimeError, ValueError, TypeError, KeyError, UnicodeError):
        file.visititems(visit)
    return found
