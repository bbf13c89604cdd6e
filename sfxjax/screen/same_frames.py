"""Whether a file that has changed still holds the frames that were scored: it may have grown, or be another run's."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import numpy as np

from sfxjax.data.frames import FrameStack, pixel_type
from sfxjax.data.workers import Readers
from sfxjax.screen.run import evenly

# Frames of a data set that are read again, the first and the last among them.
COMPARED = 8


def checksums(crops: np.ndarray) -> np.ndarray:
    """Return int64 (n,) that tell crops (n, height, width) from others, whatever type they are read in."""
    return np.array([zlib.crc32(crop[::4].astype(np.float32).tobytes()) for crop in crops], np.int64)


def same_frames(
    readers: Readers, stacks: list[FrameStack], known: Iterable[tuple[str, dict[int, int]]]
) -> bool | None:
    """Tell whether frames are what they were, by reading some again; not where no checksums were kept.

    Frames that cannot be read now tell nothing.

    Args:
        readers: read the frames.
        stacks: of the file, as it is now.
        known: data sets of the file, and the checksums of their known frames by number, -1 where none was taken.

    Returns:
        None where none of the frames can be read.
    """
    compared = unreadable = 0
    now = {stack.dataset: stack for stack in stacks}
    for dataset, kept in known:
        if not kept:
            continue
        stack = now.get(dataset)
        if stack is None or max(kept) >= stack.frames or -1 in kept.values():
            return False
        numbers = evenly(np.array(sorted(kept)), COMPARED).tolist()
        frames = [(stack, number) for number in numbers]
        for batch in readers.batches([frames], COMPARED, pixel_type([stack.dtype])):
            found = checksums(batch.crops[: len(frames)]).tolist()
            for number, checksum, reason in zip(numbers, found, batch.reasons, strict=True):
                if not reason and checksum != kept[number]:
                    return False
                compared += not reason
                unreadable += bool(reason)
    return True if compared or not unreadable else None
