"""What the default way of screening reads: the run's stacks, what leaves pixels out of them, and words about both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sfxjax.data.bad_pixels import FEWEST_FRAMES, find_bad_pixels
from sfxjax.data.declared_limits import check_declared_limit
from sfxjax.data.events import absolute
from sfxjax.data.frames import FrameStack, ReadOptions, describe_all
from sfxjax.data.inputs import Inputs
from sfxjax.data.read import FrameReader, WholeFrame
from sfxjax.data.resolution import line_of_stated_geometry, resolution, stated_geometry
from sfxjax.data.stack_masks import check_used
from sfxjax.errors import UserError
from sfxjax.screen.made_by import mask_digest
from sfxjax.screen.run import Run, unreadable
from sfxjax.text import printable, say

if TYPE_CHECKING:
    from sfxjax.spots.day_one import FrameSpots

NO_MASK = "no mask is used, of the files or given: pixels are left out by their values alone"
# Lines about the files and their masks that the terminal is told of.
MOST_LINES = 10
# Whole frames looked at for bad pixels.
_LOOKED_AT = 20
# What reading a file raises where it is damaged, foreign, or gone.
UNREADABLE = (UserError, OSError, RuntimeError, ValueError)


def notes_of(run: Run, failed: dict[str, str]) -> list[str]:
    """Return what is to be said of a run's files: what their readers noted, and why some of them cannot be read."""
    return [
        *run.notes(),
        *(f"{name} cannot be screened: {why}" for name, why in without_names(failed).items()),
    ]


def without_names(failed: dict[str, str]) -> dict[str, str]:
    """Return why files cannot be read, by their names, which the reasons begin with no longer."""

    def rest(name: str, reason: str) -> str:
        for said in (name, str(Path(name)), absolute(name)):
            reason = reason.removeprefix(f"{printable(said)}: ")
        return reason

    return {name: rest(name, reason) for name, reason in failed.items()}


def described(run: Run, notes: list[str]) -> list[str]:
    """Say what a run holds, and the notes about it, of many files and notes only the first."""
    readable = [stack for stack in run.stacks if stack.file not in run.failed]
    files = list(dict.fromkeys(stack.file for stack in readable))
    shown = set(files[:MOST_LINES])
    lines = describe_all([stack for stack in readable if stack.file in shown])
    if len(files) > MOST_LINES:
        rest = [stack for stack in readable if stack.file not in shown]
        layouts = ", ".join(sorted({stack.layout for stack in rest}))
        frames = sum(stack.frames for stack in rest)
        lines.append(f"and {len(files) - MOST_LINES} more files ({layouts}) with {frames} frames")
    lines += notes[:MOST_LINES]
    if len(notes) > MOST_LINES:
        lines.append(f"and {len(notes) - MOST_LINES} more such notes")
    return lines


@dataclass
class Sources:
    """The frames of a run, and which of their pixels count.

    Attributes:
        reader: reads them.
        run: the stacks, why files cannot be read, and lines about masks and bad pixels.
        notes: about the files, for the user.
        bad: by shape of the stored frames where pixels were found bad, bool, True = bad.
        masked: whether the user or the files give a mask.
    """

    reader: FrameReader
    run: Run = field(default_factory=Run)
    notes: list[str] = field(default_factory=list)
    bad: dict[tuple[int, ...], np.ndarray] = field(default_factory=dict)
    masked: bool = False

    def open(self, inputs: Inputs) -> None:
        """Look at the files.

        Raises:
            UserError: none can be read, or a mask or a geometry does not fit.
        """
        run = self.run
        for name in inputs.files:
            try:
                found = self.reader.stacks(name)
                lines = [line for stack in found for line in self.reader.shared_mask(stack).lines]
            except UserError as error:
                if len(inputs.files) == 1:
                    raise
                run.failed[name], found, lines = str(error), [unreadable(name)], []
            run.stacks += found
            run.masks += [line for line in dict.fromkeys(lines) if line not in run.masks]
        readable = run.readable()
        if not any(stack.frames for stack in readable):
            raise UserError(run.why_empty())
        check_used(self.reader.options, readable)
        self.notes = [*inputs.notes, *notes_of(run, run.failed)]
        if self.reader.geometry is None:
            # Of many files alike the first speaks for all.
            self.notes += [line for line in [line_of_stated_geometry(readable[0])] if line]
        if not run.masks:
            run.masks.append(NO_MASK)
        check_declared_limit(readable[0], self.reader.whole)
        self._find_bad_pixels(readable)

    def lines(self) -> list[str]:
        """Return what the terminal is told."""
        besides = "besides what the masks leave out" if self.masked else "no mask given"
        bad = [f"{besides}: {self.run.bad_pixels}"] if self.run.bad_pixels else []
        return [
            printable(line) for line in (*described(self.run, self.notes), *self.run.masks[:MOST_LINES], *bad)
        ]

    def mask(self) -> np.ndarray | None:
        """Return the mask that the run's first frames share, bool of the stored frames' shape, True = valid; or None."""
        return self.reader.whole_mask(self.run.readable()[0])

    def bad_pixels(self) -> str:
        """Return what tells the pixels found bad from any others."""
        return " ".join(f"{shape}: {mask_digest(~bad)}" for shape, bad in self.bad.items())

    def resolution(self, stack: FrameStack, spots: FrameSpots) -> np.ndarray | None:
        """Return the resolution of a frame's spots, Angstrom, NaN where it is not known; None without a geometry.

        That is the user's, else the file's own, see `stated_geometry`.
        """
        geometry = self.reader.geometry or stated_geometry(stack)
        return None if geometry is None else resolution(geometry, spots.ss, spots.fs, stack.raw_shape)

    def read(self, stack: FrameStack, number: int) -> WholeFrame:
        """Read a frame, with the pixels found bad among those left out.

        Raises:
            UserError, OSError, RuntimeError, ValueError: it cannot be read.
        """
        if stack.file in self.run.failed:
            raise UserError(self.run.failed[stack.file])
        return self.reader.whole(stack, number).without(self.bad.get(stack.raw_shape))

    def _find_bad_pixels(self, readable: list[FrameStack]) -> None:
        """Find pixels that never change, where no mask tells them, and hot ones, over the first frames of the first shape.

        Masks mark gaps and dead pixels, and seldom all that have become hot since they were made.
        """
        first = readable[0]
        stacks = [stack for stack in readable if stack.raw_shape == first.raw_shape]
        self.masked = bool(self.reader.options.mask) or any(
            stack.mask_datasets or stack.frame_masks for stack in readable
        )
        if sum(stack.frames for stack in stacks) < FEWEST_FRAMES:
            return

        def frames() -> Iterator[np.ndarray]:
            for stack in stacks:
                for number in range(stack.frames):
                    try:
                        yield self.reader.original(stack, number)
                    except UNREADABLE:
                        continue

        bad, self.run.bad_pixels = find_bad_pixels(
            islice(frames(), _LOOKED_AT), self.reader.whole_mask(first), only_hot=self.masked
        )
        if bad is not None:
            self.bad[first.raw_shape] = bad


@contextmanager
def opened_run(read: ReadOptions, inputs: Inputs) -> Iterator[Sources]:
    """Open a run's frames and say what they are; they are closed at the end.

    Args:
        read: how they are read.
        inputs: the files.

    Raises:
        UserError: there is nothing to screen, or an option makes no sense.
    """
    with FrameReader(read) as reader:
        sources = Sources(reader)
        sources.open(inputs)
        for line in sources.lines():
            say(line)
        yield sources
