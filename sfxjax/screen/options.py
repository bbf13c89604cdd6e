"""What a screening with a model is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sfxjax.data.frames import ReadOptions


@dataclass(frozen=True)
class ScreenOptions:
    """What to screen and how.

    Attributes:
        files: names of the files, folders and patterns expanded.
        out: folder for everything written.
        read: what the user says about the files.
        batch_size: frames scored at once; None: by the device.
        readers: processes that read; None: by the machine.
        process: this process's number and how many there are, if several machines share the screening.
        notes: what of the folders given was left out, and why.
        threshold: score from which the lists are to call a frame a hit.
        overwrite: lists and scores of another screening may be replaced.
    """

    files: tuple[str, ...]
    out: Path
    read: ReadOptions = field(default_factory=ReadOptions)
    batch_size: int | None = None
    readers: int | None = None
    process: tuple[int, int] = (0, 1)
    notes: tuple[str, ...] = ()
    threshold: float = 0.5
    overwrite: bool = False
