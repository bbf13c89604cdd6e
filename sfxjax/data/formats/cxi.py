"""CXI of Cheetah, OM and psocake (`/entry_1/data_1/data`), Cheetah's assembled images, and EXtra-data's virtual CXI."""

from __future__ import annotations

import re
from pathlib import Path

import h5py

from sfxjax.data.formats.file_masks import Masks, find_masks, opened
from sfxjax.data.formats.hdf5_stack import describe_stack, first_data_set
from sfxjax.data.frames import FrameStack, ReadOptions
from sfxjax.data.hdf5 import Files
from sfxjax.data.masks import cxi_faults

# Of frames that are named, which may be those of any entry and detector; those of the first are found.
_FRAMES_PLACE = re.compile(r"(/entry_\d+)/(data|instrument_1/detector|image)_(\d+)/data")


def is_place(name: str) -> bool:
    """Tell whether frames of this layout may be at a path."""
    return _FRAMES_PLACE.fullmatch(name) is not None


def find(
    files: Files, path: Path, options: ReadOptions, name: str = "", event_path: str = ""
) -> list[FrameStack]:
    """Find the frames of a file of this layout, or those at one of its paths; none in others.

    Args:
        files: opens the file.
        path: of the file.
        options: of the user.
        name: path of the frames; empty: they are looked for in the first entry, and of the first detector.
        event_path: path parts of CrystFEL's event.
    """
    place = _FRAMES_PLACE.fullmatch(name)
    entry, number = (place[1], place[3]) if place else ("/entry_1", "1")
    beside, detector = f"{entry}/data_{number}", f"{entry}/instrument_1/detector_{number}"
    image = f"{entry}/image_{number}"
    is_image = place is not None and place[2] == "image"
    wanted = () if is_image else (name,) if name else (f"{beside}/data", f"{detector}/data")
    dataset, data = first_data_set(files, path, wanted)
    assembled = files.dataset(path, f"{image}/data") if is_image or not name else None
    if data is None or (assembled is not None and options.geometry is None and assembled.ndim == 3):
        if assembled is None:
            return []
        dataset, data, writer = f"{image}/data", assembled, "Cheetah CXI, assembled images"
        names = [f"{image}/mask_shared", f"{image}/mask"]
    else:
        writer = _cxi_writer(files, path, data, entry, beside, detector)
        names = [f"{group}/{mask}" for mask in ("mask_shared", "mask") for group in (beside, detector)]
    masks = find_masks(files, path, data, names)
    faults = _faults(files, path, masks)
    return [
        describe_stack(
            path, data, dataset, writer, options, event_path=event_path, masks=masks, mask_bits=faults
        )
    ]


def _faults(files: Files, path: Path, masks: Masks) -> int | None:
    found = [(name, files.dataset(path, name)) for name in (*masks.shared, masks.single) if name]
    faults = [cxi_faults(files, path, name, mask.dtype) for name, mask in found if mask is not None]
    # Of narrow masks these are all bits.
    return next((bits for bits in faults if bits is not None), None)


def _cxi_writer(files: Files, path: Path, data: h5py.Dataset, entry: str, beside: str, detector: str) -> str:
    if files.get(path, f"{entry}/trainId") is not None:
        return "EuXFEL virtual CXI"
    if any(opened(files, path, name) is not None for name in ("/cheetah", f"{detector}/mask_shared")):
        return "Cheetah CXI"
    group = files.get(path, beside)
    link = group.get("data", getlink=True) if isinstance(group, h5py.Group) else None
    return "psocake or Cheetah CXI" if isinstance(link, h5py.SoftLink) else "OM or Cheetah CXI"
