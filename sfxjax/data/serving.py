"""What a reader process does: it answers requests for frames through a pipe, and puts their pixels into shared memory."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from sfxjax.crop import CROP
from sfxjax.data.file_states import file_states
from sfxjax.data.frames import FrameStack, ReadOptions
from sfxjax.data.hdf5 import first_line
from sfxjax.data.read import FrameReader
from sfxjax.errors import UserError, explain_os_error
from sfxjax.interrupts import end_with

# Frames asked for at once, and requests under way for each reader.
UNIT = 8


SLOTS = 2


MEMORY_LIMIT = 6 * 2**30


_CROP_BYTES = 4 * CROP * CROP


SLOT_BYTES = UNIT * (_CROP_BYTES + CROP * CROP)


# Takes the reader, a request and the shared memory, uint8; gives a value for JSON, and bytes or none.
Answer = Callable[[FrameReader, dict[str, Any], np.ndarray], tuple[Any, bytes]]


def serve(pipe: Connection, options: str, memory: Any, lifeline: Connection, answer: Answer) -> None:
    """Answer requests until the pipe closes; what a reader process runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(lifeline)
    _limit_memory()
    view = np.frombuffer(memory, np.uint8)
    with FrameReader(ReadOptions.from_json(options)) as reader, contextlib.suppress(EOFError, OSError):
        while True:
            request = json.loads(pipe.recv_bytes())
            content: bytes = b""
            try:
                value, content = answer(reader, request, view)
                reply = {"value": value, "bytes": bool(content)}
            except UserError as error:
                reply = {"error": str(error)}
            except MemoryError:
                reply = {"error": f"{_about(request)}: does not fit into memory; is the file damaged?"}
            except Exception as error:  # A damaged file can make a library raise anything.
                explained = explain_os_error(error) if isinstance(error, OSError) else None
                reason = explained or f"{type(error).__name__}: {first_line(error)}"
                reply = {"error": f"{_about(request)}: cannot be read ({reason})"}
            pipe.send_bytes(json.dumps(reply).encode())
            if content:
                pipe.send_bytes(content)


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


def _limit_memory() -> None:
    """Bound this process's memory, where the system can, against files of absurd sizes."""
    if sys.platform != "linux":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY_LIMIT if hard == resource.RLIM_INFINITY else min(MEMORY_LIMIT, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


_OTHER_REQUESTS: dict[str, Callable[[FrameReader, dict[str, Any]], Any]] = {
    "forget": lambda reader, _: reader.close(),
    "states": lambda _, request: file_states(request["file"]),
    "write_hits": _served_hits,
}


def _about(request: dict[str, Any]) -> str:
    return str(request.get("file") or request.get("stack", {}).get("file") or "the frames")
