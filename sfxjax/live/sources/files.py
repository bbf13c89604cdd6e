"""Frames of files that are being written: a folder, still empty perhaps, a growing HDF5 file, or a file for each frame."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from sfxjax.data.frames import FrameStack, ReadOptions
from sfxjax.data.inputs import Inputs, find_files
from sfxjax.data.links import HDF5_SUFFIXES, frames_behind, identity, linked_files, shown_of
from sfxjax.data.read import FrameReader
from sfxjax.data.stack_masks import check_used
from sfxjax.live.frames import Faults, LiveFrame, MessageError
from sfxjax.screen.sources import UNREADABLE
from sfxjax.text import printable

FILE_POLL_SECONDS = 0.5
# A frame that cannot be read in a file that has not changed for so long is an error: it is not being written any more.
PATIENCE_SECONDS = 20.0

Signature = tuple[tuple[int, int], ...]


class FileSource:
    """Files that are being written; see `sfxjax.live.receiver.Source`.

    Args:
        names: files, folders or patterns; a folder may be empty or not there yet.
        options: how to read them.
        faults: counts what cannot be read.
        is_known: tells by file and event whether a frame was judged before.
        say: called with each line that the user should read of what is left out of the files, and of their masks.

    Attributes:
        inputs: the files, as they were found last.
    """

    waits = True

    def __init__(
        self,
        names: list[str],
        options: ReadOptions,
        faults: Faults,
        is_known: Callable[[str, str], bool] = lambda file, event: False,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.name = ", ".join(names)
        self.faults = faults
        self._names, self._options, self._is_known, self._say = names, options, is_known, say
        self.inputs = Inputs(())
        self._said: set[str] = set()
        self._late: set[str] = set()
        self._done: dict[tuple[str, str], int] = {}
        self._again: dict[tuple[str, str], set[int]] = {}
        self._signatures: dict[str, tuple[Signature, float]] = {}

    def receive(self, stop: threading.Event) -> Iterator[LiveFrame | None]:
        """Give the frames as they are written, and None now and then where none are, until told to stop."""
        with FrameReader(self._options) as reader:
            while not stop.is_set():
                for name in self._files():
                    for frame in self._of_file(reader, name):
                        yield frame
                        if stop.is_set():
                            return
                reader.close()
                yield None
                stop.wait(FILE_POLL_SECONDS)

    def _files(self) -> tuple[str, ...]:
        while True:
            inputs = find_files(self._names, waiting=True, without=self._late)
            late = self._come_late(inputs)
            if not late:
                break
            self._late |= late
            self._tell(
                f"{name}: came when frames of its parts had been judged; the parts are read on in its place"
                for name in sorted(late & set(inputs.files))
            )
        self.inputs = inputs
        self._tell(inputs.notes)
        return inputs.files

    def _come_late(self, inputs: Inputs) -> set[str]:
        """Return the masters of which a part was judged by its own name, before they came, and what only they need."""
        judged = {file for (file, _), frames in self._done.items() if frames}
        parts = [name for name in inputs.left_out if name in judged or self._is_known(name, "//0")]
        known = {identity(Path(name)) for name in parts}
        late: set[str] = set()
        for name in inputs.files if known else ():
            frames = {identity(shown.file) for shown in frames_behind(Path(name))}
            if known & frames:
                # What it links to besides, such as its masks, is no file of frames either.
                besides = {identity(shown.file) for shown in shown_of(Path(name))} - frames
                late |= {name, *(other for other in inputs.left_out if identity(Path(other)) in besides)}
        return late

    def _tell(self, notes: Iterable[str]) -> None:
        """Say lines once: numbers of files and frames grow while they are written."""
        for note in notes:
            alike = re.sub(r"\d+", "", note)
            if alike not in self._said:
                self._said.add(alike)
                self._say(printable(note))

    def _of_file(self, reader: FrameReader, name: str) -> Iterator[LiveFrame]:
        signature, now = _signature(name), time.monotonic()
        before, since = self._signatures.get(name, (None, now))
        since = since if signature == before else now
        quiet = now - since > PATIENCE_SECONDS
        # It is looked at once more when it has been quiet for long, and then not again until it changes.
        if signature == before and (since == 0.0 or not (quiet or self._may_come(name))):
            return
        self._signatures[name] = signature, 0.0 if quiet else since
        try:
            stacks = reader.stacks(name)
        except (*UNREADABLE, KeyError) as error:
            if quiet:
                self.faults.add(MessageError("a file that cannot be read", str(error)))
            return
        if any(stack.frames for stack in stacks):
            check_used(self._options, stacks)
        for stack in stacks:
            self._tell(stack.notes)
            with contextlib.suppress(*UNREADABLE):
                self._tell(reader.shared_mask(stack).lines)
            yield from self._of_stack(reader, stack, quiet)

    def _may_come(self, name: str) -> bool:
        return any(left for (file, _), left in self._again.items() if file == name)

    def _of_stack(self, reader: FrameReader, stack: FrameStack, quiet: bool) -> Iterator[LiveFrame]:
        key = stack.file, stack.dataset
        again = self._again.setdefault(key, set())
        first = self._done.get(key, 0)
        for number in sorted(again | set(range(first, stack.frames))):
            again.add(number)
            event = stack.event(number)
            if not self._is_known(stack.file, event):
                try:
                    frame = reader.whole(stack, number)
                except UNREADABLE as error:
                    if not quiet:
                        continue
                    reason = MessageError("a frame that cannot be read", " ".join(str(error).split()))
                    yield LiveFrame(stack.file, event, time.monotonic(), partial(_fail, reason))
                else:
                    yield LiveFrame(
                        stack.file,
                        event,
                        time.monotonic(),
                        partial(_same, frame.pixels),
                        mask=frame.mask,
                        limit=frame.limit,
                        centre=stack.centre,
                    )
            again.discard(number)
        self._done[key] = max(first, stack.frames)
        if not again:
            del self._again[key]


def _signature(name: str) -> Signature:
    """Return sizes and times of a file and of those that it links to, by which a change is told."""
    path = Path(name)
    linked = sorted(linked_files(path)) if name.lower().endswith(HDF5_SUFFIXES) else []
    found = []
    for each in (path, *linked):
        try:
            status = each.stat()
        except OSError:
            continue
        found.append((status.st_size, status.st_mtime_ns))
    return tuple(found)


def _same(pixels: np.ndarray) -> np.ndarray:
    return pixels


def _fail(reason: MessageError) -> np.ndarray:
    raise reason
