"""CXI of Cheetah, OM and psocake (`/entry_1/data_1/data`), Cheetah's assembled images, and EXtra-data's virtual CXI."""

from __future__ import annotations

from pathlib import Path

import h5py

from sfxjax.data.formats.file_masks import Masks, find_masks, opened
from sfxjax.data.formats.hdf5_stack import describe_stack, first_data_set
from sfxjax.data.frames import FrameStack, ReadOptions
from sfxjax.data.hdf5 import Files
from sfxjax.data.masks import cxi_faults

CXI_DATA = "/entry_1/data_1/data"
CXI_DETECTOR = "/entry_1/instrument_1/detector_1"
CXI_ASSEMBLED = "/entry_1/image_1/data"


def find(files: Files, path: Path, options: ReadOptions, name: str = "") -> list[FrameStack]:
    """Find the frames of a file of this layout, or those at one of its paths; none in others."""
    wanted = (CXI_DATA, f"{CXI_DETECTOR}/data") if not name else (name,) if name != CXI_ASSEMBLED else ()
    dataset, data = first_data_set(files, path, wanted)
    assembled = files.dataset(path, CXI_ASSEMBLED) if name in ("", CXI_ASSEMBLED) else None
    if data is None or (assembled is not None and options.geometry is None and assembled.ndim == 3):
        if assembled is None:
            return []
        names = ("/entry_1/image_1/mask_shared", "/entry_1/image_1/mask")
        masks = find_masks(files, path, assembled, names)
        return [
            describe_stack(
                path,
                assembled,
                CXI_ASSEMBLED,
                "Cheetah CXI, assembled images",
                options,
                masks=masks,
                mask_bits=_faults(files, path, masks),
            )
        ]
    masks = find_masks(
        files,
        path,
        data,
        (
            "/entry_1/data_1/mask_shared",
            f"{CXI_DETECTOR}/mask_shared",
            "/entry_1/data_1/mask",
            f"{CXI_DETECTOR}/mask",
        ),
    )
    writer, faults = _cxi_writer(files, path, data), _faults(files, path, masks)
    return [describe_stack(path, data, dataset, writer, options, masks=masks, mask_bits=faults)]


def _faults(files: Files, path: Path, masks: Masks) -> int | None:
    found = [files.dataset(path, name) for name in (*masks.shared, masks.single) if name]
    faults = [cxi_faults(files, path, mask.dtype) for mask in found if mask is not None]
    # Of narrow masks these are all bits.
    return next((bits for bits in faults if bits is not None), None)


def _cxi_writer(files: Files, path: Path, data: h5py.Dataset) -> str:
    if files.get(path, "/entry_1/trainId") is not None:
        return "EuXFEL virtual CXI"
    if any(opened(files, path, name) is not None for name in ("/cheetah", f"{CXI_DETECTOR}/mask_shared")):
        return "Cheetah CXI"
    entry = files.get(path, "/entry_1/data_1")
    link = entry.get("data", getlink=True) if isinstance(entry, h5py.Group) else None
    if isinstance(link, h5py.SoftLink):
        return "psocake or Cheetah CXI"
    return "OM or Cheetah CXI"
