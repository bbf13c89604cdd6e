"""What a process that reads crops answers: it puts their pixels into shared memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sfxjax.crop import CROP
from sfxjax.data.file_states import file_states
from sfxjax.data.frames import FrameStack
from sfxjax.data.read import FrameReader

# Frames asked for at once, and requests under way for each reader.
UNIT = 8


SLOTS = 2


_CROP_BYTES = 4 * CROP * CROP


SLOT_BYTES = UNIT * (_CROP_BYTES + CROP * CROP)


def served_crops(reader: FrameReader, request: dict[str, Any], view: np.ndarray) -> tuple[Any, bytes]:
    """Answer what screening with a model asks for."""
    if request["do"] == "stacks":
        return [stack.to_json() for stack in reader.stacks(request["file"])], b""
    if request["do"] == "mask":
        stack = FrameStack.from_json(request["stack"])
        good = reader.static_mask(stack)
        return list(reader.shared_mask(stack).lines), b"" if good is None else good.tobytes()
    if request["do"] == "read":
        return _read_frames(reader, request, view), b""
    return _OTHER_REQUESTS[request["do"]](reader, request), b""


def _served_hits(reader: FrameReader, request: dict[str, Any]) -> Any:
    from sfxjax.data.hits_file import write_hits

    chosen = [(FrameStack.from_json(fields), numbers) for fields, numbers in request["frames"]]
    return write_hits(reader, Path(request["path"]), chosen, request["indices"], request["scores"])


def _read_frames(reader: FrameReader, request: dict[str, Any], view: np.ndarray) -> dict[str, Any]:
    dtype = np.dtype(request["dtype"])
    crops, masks = slot_arrays(view, request["slot"], dtype)
    reasons: list[str] = []
    limits: list[float] = []
    masked = False
    for fields, numbers in request["frames"]:
        stack = FrameStack.from_json(fields)
        for crop, good, reason, limit in reader.read(stack, numbers, dtype):
            place = len(reasons)
            crops[place] = 0 if crop is None else crop
            masks[place] = True if good is None else good
            masked = masked or good is not None
            reasons.append(reason)
            limits.append(limit)
    return {"reasons": reasons, "masked": masked, "limits": limits}


def slot_arrays(view: np.ndarray, slot: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return a slot's crops (frame, ss, fs) and masks, True where a pixel counts, as views of the shared memory."""
    start = slot * SLOT_BYTES
    crops = view[start : start + UNIT * CROP * CROP * dtype.itemsize].view(dtype).reshape(UNIT, CROP, CROP)
    start += UNIT * _CROP_BYTES
    masks = view[start : start + UNIT * CROP * CROP].view(bool).reshape(UNIT, CROP, CROP)
    return crops, masks


_OTHER_REQUESTS: dict[str, Callable[[FrameReader, dict[str, Any]], Any]] = {
    "forget": lambda reader, _: reader.forget(),
    "states": lambda _, request: file_states(request["file"]),
    "write_hits": _served_hits,
}
