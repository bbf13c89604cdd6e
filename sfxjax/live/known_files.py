"""By what the files of judged frames are known again: their states, and checksums of some of their frames.

A file whose state has changed may have grown, or hold other frames under its old name. Frames that were kept are read again
then: at a start, and where another file took the place, up to eight, the first and the last among them; where the same file
has grown, the first and the last alone. Only if they are the same do the results of the others stand.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from sfxjax.data.file_states import State, changed_files, joined_states, states_from_json
from sfxjax.data.frames import FrameStack
from sfxjax.screen.run import evenly
from sfxjax.screen.same_frames import COMPARED, checksums
from sfxjax.screen.sources import UNREADABLE

# Of a file at most so many checksums are kept, evenly spread over its frames.
MOST_CHECKSUMS = 16
# Frames that are read again of a file that has grown.
COMPARED_GROWN = 2


class KnownFrame(NamedTuple):
    """A frame that was read.

    Attributes:
        dataset: path of its data set, empty for files of one image.
        number: in the data set.
        checksum: of its pixels.
    """

    dataset: str
    number: int
    checksum: int


@dataclass
class KnownFile:
    """A file of which frames were read.

    Attributes:
        states: of it and of those behind its links, when frames were read of it last.
        frames: how many were read.
        step: of so many frames that were read one is kept.
        kept: the frames that are kept.
        last: the last frame of which a checksum was taken; None: there is none.
    """

    states: list[State]
    frames: int = 0
    step: int = 1
    kept: list[KnownFrame] = field(default_factory=list)
    last: KnownFrame | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields, but for the states, ready for JSON."""
        return {"frames": self.frames, "step": self.step, "kept": self.kept, "last": self.last}


class KnownFiles:
    """The files of which frames were read, by name. One thread adds frames, another may write down what has changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[str, KnownFile] = {}
        self._changed: set[str] = set()
        self._written: dict[str, list[State]] = {}

    def names(self) -> list[str]:
        """Name the files."""
        return list(self._files)

    def frames(self, name: str) -> int:
        """Tell how many frames were read of a file."""
        known = self._files.get(name)
        return 0 if known is None else known.frames

    def forget(self, name: str) -> None:
        """Forget a file."""
        self._files.pop(name, None)
        self._written.pop(name, None)

    def add(
        self, name: str, states: list[State], dataset: str, number: int, pixels: np.ndarray, is_last: bool
    ) -> None:
        """Add a frame that was read.

        Args:
            name: of its file.
            states: of the file, taken before it was opened.
            dataset: path of the frame's data set.
            number: in it.
            pixels: of the frame.
            is_last: it is the last one there for now.
        """
        known = self._files.setdefault(name, KnownFile(states))
        is_kept = known.frames % known.step == 0
        known.frames += 1
        if is_kept or is_last:
            known.last = KnownFrame(dataset, number, checksum(pixels))
        if is_kept and known.last is not None:
            kept = [*known.kept, known.last]
            if len(kept) > MOST_CHECKSUMS:
                kept, known.step = kept[::2], 2 * known.step
            known.kept = kept
        with self._lock:
            self._changed.add(name)

    def changes(self, name: str, states: list[State]) -> bool:
        """Tell whether a file is not known, or not in the state in which frames were read of it."""
        known = self._files.get(name)
        return known is None or bool(changed_files(known.states, states))

    def has_grown(self, name: str, states: list[State]) -> bool:
        """Tell whether a file may just have grown: it is still the same one, and no shorter."""
        known = self._files[name].states[0]
        return states[0][3] == known[3] and states[0][1] >= known[1]

    def is_another(
        self,
        name: str,
        stacks: Sequence[FrameStack],
        read: Callable[[FrameStack, int], np.ndarray],
        most: int = COMPARED,
    ) -> bool | None:
        """Tell whether a file that has changed holds other frames than those that were read, by reading some again.

        Args:
            name: of the file.
            stacks: that it holds now.
            read: gives the pixels of a frame; raises what reading raises.
            most: frames that are read again.

        Returns:
            True: it does; False: it does not; None: none of the frames can be read now.
        """
        known = self._files[name]
        frames = [*known.kept, *([] if known.last is None or known.last in known.kept else [known.last])]
        now = {stack.dataset: stack for stack in stacks if stack.frames and not stack.unreadable}
        if not now:
            return None
        if any(frame.dataset not in now for frame in frames):
            return True
        there = [frame for frame in frames if frame.number < now[frame.dataset].frames]
        chosen = [there[place] for place in evenly(np.arange(len(there)), most)]
        same = 0
        for dataset, number, before in chosen:
            try:
                found = checksum(read(now[dataset], number))
            except UNREADABLE:
                # Of a file that is damaged, or amid its writing.
                continue
            if found != before:
                return True
            same += 1
        return False if same else None

    def is_shorter(self, name: str, stacks: Sequence[FrameStack]) -> bool:
        """Tell whether a file has fewer frames than were read of it."""
        known = self._files[name]
        there = {stack.dataset: stack.frames for stack in stacks}
        frames = [*known.kept, *([] if known.last is None else [known.last])]
        return any(frame.number >= there.get(frame.dataset, 0) for frame in frames)

    def note(self, name: str, states: list[State]) -> None:
        """Take in the states of a file whose frames are still those that were read."""
        known = self._files.get(name)
        if known is not None and states != known.states:
            known.states = joined_states(known.states, states)
            with self._lock:
                self._changed.add(name)

    def records(self) -> Iterator[dict[str, Any]]:
        """Give a record, ready for JSON, of each file that has changed since this was last asked, with the states that did."""
        with self._lock:
            changed, self._changed = self._changed, set()
        for name in sorted(changed):
            known = self._files.get(name)
            if known is not None:
                states, before = list(known.states), set(self._written.get(name, ()))
                yield {
                    "file": name,
                    "states": [state for state in states if state not in before],
                    **known.to_json(),
                }
                self._written[name] = states

    def new(self) -> bool:
        """Tell whether frames were read of a file that no record has told of."""
        with self._lock:
            return any(name not in self._written for name in self._changed)

    def take(self, record: dict[str, Any]) -> None:
        """Take up what `records` gave."""
        name = record["file"]
        states = {state[0]: state for state in self._written.get(name, ())}
        states |= {state[0]: state for state in states_from_json(record["states"])}
        last = None if record["last"] is None else KnownFrame(*record["last"])
        kept = [KnownFrame(*each) for each in record["kept"]]
        self._written[name] = list(states.values())
        self._files[name] = KnownFile(list(states.values()), record["frames"], record["step"], kept, last)


def checksum(pixels: np.ndarray) -> int:
    """Return what tells a frame, (ss, fs) or (panel, ss, fs), from others."""
    return int(checksums(pixels.reshape(1, -1, pixels.shape[-1]))[0])
