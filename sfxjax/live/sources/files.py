"""Frames of files that are being written: a folder, still empty perhaps, a growing HDF5 file, or a file for each frame."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sfxjax.data.file_states import State, file_states
from sfxjax.data.frames import FrameStack, ReadOptions, describe_all
from sfxjax.data.inputs import Inputs, find_files
from sfxjax.data.links import frames_behind, identity, shown_of
from sfxjax.data.read import FrameReader
from sfxjax.data.stack_masks import check_used
from sfxjax.live.frames import Faults, LiveFrame, MessageError, ReplacedFile
from sfxjax.live.known_files import COMPARED_GROWN, KnownFiles
from sfxjax.screen.same_frames import COMPARED
from sfxjax.screen.sources import NO_MASK, UNREADABLE
from sfxjax.text import counted, printable

FILE_POLL_SECONDS = 0.5
# A frame that cannot be read in a file that has not changed for so long is an error: it is not being written any more.
PATIENCE_SECONDS = 20.0
GONE = "the file is gone"


class FileSource:
    """Files that are being written; see `sfxjax.live.receiver.Source`.

    Args:
        names: files, folders or patterns; a folder may be empty or not there yet.
        options: how to read them.
        faults: counts what cannot be read.
        is_known: tells by file and event whether a frame was judged before.
        say: called with each line that the user should read of what is left out of the files, and of their masks.
        known: by what the files of frames that were judged before are known; gets those of the frames that are read.

    Attributes:
        inputs: the files, as they were found last.
        masks: lines about what leaves out how many of their pixels.
        notes: other lines about them.
        stacks: of each file, as it was when it could be read last.
        failed: why files, or all of their frames that were judged, cannot be read now, by their names.
    """

    waits = True

    def __init__(
        self,
        names: list[str],
        options: ReadOptions,
        faults: Faults,
        is_known: Callable[[str, str], bool] = lambda file, event: False,
        say: Callable[[str], None] = lambda line: None,
        known: KnownFiles | None = None,
    ) -> None:
        self.name = ", ".join(names)
        self.faults = faults
        self._names, self._options, self._is_known, self._say = names, options, is_known, say
        self._known = KnownFiles() if known is None else known
        self.inputs = Inputs(())
        self.masks: list[str] = []
        self.notes: list[str] = []
        self._said: set[str] = set()
        self._late: set[str] = set()
        self.stacks: dict[str, list[FrameStack]] = {}
        self.failed: dict[str, str] = {}
        self._found: dict[tuple[str, str], FrameStack] = {}
        self._done: dict[tuple[str, str], int] = {}
        # Why a frame that was found could not be read yet, by its number.
        self._again: dict[tuple[str, str], dict[int, str]] = {}
        self._signatures: dict[str, tuple[list[State], float]] = {}

    def receive(self, stop: threading.Event) -> Iterator[LiveFrame | ReplacedFile | None]:
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

    def rest(self) -> list[LiveFrame]:
        """Return the frames that were found and could never be read, and one for each file that could not; call it at the end."""
        given = []
        for key, left in self._again.items():
            name, stack = key[0], self._found[key]
            for number, reason in sorted(left.items()):
                if not self._is_known(name, stack.event(number)):
                    given.append((name, stack.event(number), self.failed.get(name) or reason))
        for name, reason in self.failed.items():
            if name not in self.stacks and not self._known.frames(name) and not self._is_known(name, ""):
                given.append((name, "", reason))
        now = time.monotonic()
        return [
            LiveFrame(name, event, now, partial(_fail, MessageError("a frame that cannot be read", reason)))
            for name, event, reason in given
        ]

    def lost(self) -> dict[str, str]:
        """Say of the files of frames that were judged why these cannot be read any more, by their names."""
        lost = {}
        for name in self._known.names():
            if name in self.failed:
                lost[name] = self.failed[name]
            elif name not in self.inputs.files and not Path(name).exists():
                lost[name] = GONE
            elif name in self.stacks and self._known.is_shorter(name, self.stacks[name]):
                lost[name] = "it holds fewer frames than were judged"
        return lost

    def about(self) -> dict[str, Any]:
        """Return what the summary tells of the files, see `sfxjax.screen.summary.ResultSummary`."""
        stacks = [each for name, each in list(self.stacks.items()) if name not in self.failed]
        return {
            "files": describe_all([stack for each in stacks for stack in each]),
            "unreadable": self.failed | self.lost(),
            "masks": self.masks or [NO_MASK],
            "notes": list(self.notes),
        }

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
        for name in {*self.stacks, *self.failed} - set(inputs.files):
            if not Path(name).exists():
                self.failed[name] = GONE
                # Another one of this name is looked at anew.
                self._signatures.pop(name, None)
        self._tell(inputs.notes, self.notes)
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

    def _tell(self, lines: Iterable[str], kept: list[str] | None = None) -> None:
        """Say lines once, numbers apart, which grow while files are written, and keep them."""
        for line in lines:
            alike = re.sub(r"\d+", "", line)
            if alike not in self._said:
                self._said.add(alike)
                self._say(printable(line))
                if kept is not None:
                    kept.append(line)

    def _of_file(self, reader: FrameReader, name: str) -> Iterator[LiveFrame | ReplacedFile]:
        states, now = file_states(name), time.monotonic()
        before, since = self._signatures.get(name, (None, now))
        since = since if states == before else now
        quiet = now - since > PATIENCE_SECONDS
        # It is looked at once more when it has been quiet for long, and then not again until it changes.
        if states == before and (since == 0.0 or not (quiet or self._may_come(name))):
            return
        self._signatures[name] = states, 0.0 if quiet else since
        try:
            stacks = reader.stacks(name)
        except (*UNREADABLE, KeyError) as error:
            self.failed[name] = " ".join(str(error).split()).removeprefix(f"{printable(name)}: ")
            if quiet:
                self.faults.add(MessageError("a file that cannot be read", str(error)))
            return
        self.failed.pop(name, None)
        if self._known.changes(name, states) and self._was_judged(name, stacks):
            another = self._is_another(reader, name, states, stacks, before is not None)
            if another is None:
                # Amid its writing, or damaged: nothing is known of its frames until it changes.
                if any(stack.frames for stack in stacks):
                    self.failed[name] = "none of its frames can be read any more"
                return
            if another:
                yield from self._replaced(name)
                reader.forget()
        self._known.note(name, states)
        self.stacks[name] = stacks
        if any(stack.frames for stack in stacks):
            check_used(self._options, stacks)
        for stack in stacks:
            self._tell(stack.notes, self.notes)
            with contextlib.suppress(*UNREADABLE):
                self._tell(reader.shared_mask(stack).lines, self.masks)
            yield from self._of_stack(reader, stack, quiet, states)

    def _may_come(self, name: str) -> bool:
        return any(left for (file, _), left in self._again.items() if file == name)

    def _was_judged(self, name: str, stacks: list[FrameStack]) -> bool:
        """Tell whether frames of a file were judged before; of lists that tell of no files, its name is asked about."""
        return self._known.frames(name) > 0 or any(
            self._is_known(name, stack.event(number)) for stack in stacks for number in range(stack.frames)
        )

    def _is_another(
        self, reader: FrameReader, name: str, states: list[State], stacks: list[FrameStack], is_followed: bool
    ) -> bool | None:
        if not self._known.frames(name):
            return True
        grown = is_followed and self._known.has_grown(name, states)
        return self._known.is_another(name, stacks, reader.original, COMPARED_GROWN if grown else COMPARED)

    def _replaced(self, name: str) -> Iterator[ReplacedFile]:
        """Have the frames of a file that was replaced forgotten, here and in the lists, and say so."""
        replaced = ReplacedFile(name)
        yield replaced
        self._known.forget(name)
        self.stacks.pop(name, None)
        for key in [key for key in self._done if key[0] == name]:
            del self._done[key]
        for key in [key for key in self._again if key[0] == name]:
            del self._again[key]
        self._say(
            printable(
                f"{name} has changed since it was judged: {counted(replaced.forgotten, 'known frames')} are judged again"
            )
        )

    def _of_stack(
        self, reader: FrameReader, stack: FrameStack, quiet: bool, states: list[State]
    ) -> Iterator[LiveFrame]:
        key = stack.file, stack.dataset
        again = self._again.setdefault(key, {})
        self._found[key] = stack
        first = self._done.get(key, 0)
        again |= dict.fromkeys(range(first, stack.frames), "it was not read")
        # A file may have become shorter.
        again |= {
            number: f"the file holds no more than {counted(stack.frames, 'frames')}"
            for number in again
            if number >= stack.frames
        }
        numbers = sorted(number for number in again if number < stack.frames)
        for number in numbers:
            event = stack.event(number)
            if not self._is_known(stack.file, event):
                try:
                    frame = reader.whole(stack, number)
                except UNREADABLE as error:
                    again[number] = " ".join(str(error).split())
                    if not quiet:
                        continue
                    reason = MessageError("a frame that cannot be read", again[number])
                    yield LiveFrame(stack.file, event, time.monotonic(), partial(_fail, reason))
                else:
                    is_last = number == numbers[-1]
                    self._known.add(stack.file, states, stack.dataset, number, frame.pixels, is_last)
                    yield LiveFrame(
                        stack.file,
                        event,
                        time.monotonic(),
                        partial(_same, frame.pixels),
                        mask=frame.mask,
                        limit=frame.limit,
                        centre=stack.centre,
                    )
            again.pop(number, None)
        self._done[key] = max(first, stack.frames)
        if not again:
            del self._again[key]


def _same(pixels: np.ndarray) -> np.ndarray:
    return pixels


def _fail(reason: MessageError) -> np.ndarray:
    raise reason
