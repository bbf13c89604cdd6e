"""NXmx and DECTRIS masters: `/entry/data/data`, or `/entry/data/data_000001` and its followers, SLS: `data_f000000000000`."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from sfxjax.data.formats.hdf5_stack import Masks, describe_stack, find_masks
from sfxjax.data.frames import FrameStack, ReadOptions
from sfxjax.data.hdf5 import Files
from sfxjax.errors import UserError

NEXUS_DATA = "/entry/data"
NEXUS_DETECTOR = "/entry/instrument/detector"

_NUMBERED = re.compile(r"data_f?\d+")


def find(files: Files, path: Path, options: ReadOptions) -> list[FrameStack]:
    """Find the frames of a file of this layout; none in others."""
    data = files.dataset(path, f"{NEXUS_DATA}/data")
    parts: list[tuple[str, str]] = []
    if data is not None:
        parts = [(f"{NEXUS_DATA}/data", "")]
    else:
        group = files.get(path, NEXUS_DATA)
        if isinstance(group, h5py.Group):
            names = sorted(key for key in group if _NUMBERED.fullmatch(key))
            parts = [(f"{NEXUS_DATA}/{key}", key) for key in names]
    stacks: list[FrameStack] = []
    missing: list[str] = []
    for dataset, event in parts:
        try:
            stack = files.dataset(path, dataset)
        except UserError as error:
            # DECTRIS masters list the files that the writer had room for, written or not.
            if "is missing" in str(error) and len(parts) > 1:
                missing.append(str(error))
                continue
            raise
        if stack is None:
            continue
        mask = Masks()
        if stack.ndim >= 2:
            shared = (f"{NEXUS_DETECTOR}/pixel_mask", f"{NEXUS_DETECTOR}/detectorSpecific/pixel_mask")
            mask = find_masks(files, path, stack, shared, single=len(parts) == 1)
        stacks.append(
            describe_stack(
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
    if missing and not stacks:
        raise UserError(missing[0])
    if missing:
        stacks[0] = replace(stacks[0], notes=(*stacks[0].notes, *missing))
    return stacks


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
