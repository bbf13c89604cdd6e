"""What a screening is told, and options that several commands share. No JAX: processes that read import this."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path

from sfxjax.command_line import between, whole_in
from sfxjax.data.frames import ReadOptions
from sfxjax.spots.definition import MIN_SNR, MIN_SPOTS


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


def add_spot_arguments(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add what decides which frame is a hit."""
    parser.add_argument(
        "--min-snr",
        type=between(0, 1e6),
        metavar="S",
        help=f"signal to noise a spot is visible from ({MIN_SNR:g})",
    )
    parser.add_argument(
        "--min-spots",
        type=whole_in(1, 24),
        metavar="N",
        help=f"visible spots a frame is a hit from ({MIN_SPOTS})",
    )


def add_readers(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the option for processes that read."""
    parser.add_argument(
        "--readers", type=whole_in(1, 256), metavar="N", help="processes that read and decompress"
    )


def add_overwrite(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the option that lets lists of another screening be replaced."""
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the lists of an earlier call with other options; what it scored is used again where that holds",
    )
