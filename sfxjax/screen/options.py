"""What a screening is told, and options that several commands share. No JAX: processes that read import this."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sfxjax.command_line import between, whole_in
from sfxjax.data.frames import ReadOptions
from sfxjax.spots.definition import MIN_SNR, MIN_SPOTS

# Of the command line, by their names in `ReadOptions`.
FRAME_OPTIONS = ("dataset", "mask", "mask_good", "good_bits", "bad_bits", "geometry", "allow_links")


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


@dataclass(frozen=True)
class ScreenTask:
    """What `sfxjax.screen.command.screen_run` is to do.

    Attributes:
        files: names of files and folders, and patterns.
        out: folder for everything written.
        model: folder of the trained model.
        read: what the user says about the files.
        reduction: `file.py:function` of the user, for a model that was trained on its vectors; None: the model's own.
        threshold: score from which a frame is a hit; None: the model's.
        recall: share of the positives to keep, instead of a threshold.
        follow: the files are still being written: seconds without news until they count as whole; None: they are whole.
        batch_size: frames scored at once; None: by the device.
        readers: processes that read; None: by the machine.
        write_hits: write `hits.cxi` too.
        report: write the report and mean images.
        overwrite: lists and scores of another screening may be replaced.
        compilation_cache: keep compiled programs for the next time.
    """

    files: Sequence[str]
    out: Path
    model: str | Path
    read: ReadOptions = field(default_factory=ReadOptions)
    reduction: str | None = None
    threshold: float | None = None
    recall: float | None = None
    follow: float | None = None
    batch_size: int | None = None
    readers: int | None = None
    write_hits: bool = False
    report: bool = True
    overwrite: bool = False
    compilation_cache: bool = False


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


def add_frame_arguments(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add what a user says about frames in files; `options_of_frames` reads it."""
    add = parser.add_argument
    add("--dataset", metavar="PATH", help="path of the frames in HDF5 files; %% stands for any name")
    add("--mask", metavar="FILE[:PATH]", help="mask of bad pixels")
    add(
        "--mask-good", type=int, choices=(0, 1), help="value of good pixels in the mask, or in the files' own"
    )
    add("--good-bits", type=_bit_field, metavar="BITS", help="bits that good pixels have set, as 0x1")
    add("--bad-bits", type=_bit_field, metavar="BITS", help="bits that bad pixels have set, as 0x8005")
    add("--geometry", metavar="FILE", help="CrystFEL geometry: its masks, and places of panels")
    add("--allow-links", action="store_true", help="follow links out of the run's folder")


def options_of_frames(options: argparse.Namespace, **more: Any) -> ReadOptions:
    """Return what `add_frame_arguments` was told, with other fields of `ReadOptions`.

    Raises:
        UserError: two of the options answer one question, or a name is empty.
    """
    return ReadOptions(**{name: getattr(options, name) for name in FRAME_OPTIONS}, **more)


def _bit_field(text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        value = 0
    if not 0 < value < 2**64:
        raise argparse.ArgumentTypeError(f"{text!r} is no number such as 0x8005")
    return value


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
