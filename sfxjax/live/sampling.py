"""What is judged of frames that come faster than that goes: a sample that does not depend on what the frames show.

The buffer has a bounded number of places. While one is free each frame takes one. When none is, the frames that come share the
last place: of the k frames of a group each is kept with the same probability, by a draw that looks at nothing but k (reservoir
sampling), and the group ends when a place becomes free. A frame judged thus stands for the k of its group, and the mean of hits
weighted by k is an unbiased estimate of the hit rate, whatever the groups' lengths: when a group ends is decided by the frames
before it.

References:
    Vitter, ACM Trans. Math. Softw. 11:37 (1985); Horvitz and Thompson, J. Am. Stat. Assoc. 47:663 (1952).
"""

from __future__ import annotations

import random
import threading
from collections import deque
from typing import Generic, TypeVar

_Frame = TypeVar("_Frame")


class Buffer(Generic[_Frame]):
    """Frames that wait to be judged; threads may share it.

    Args:
        places: frames that may wait.
        waits: `put` waits for a place, so that no frame is left out.
        seed: of the draws.

    Attributes:
        places: may be changed at any time.
    """

    def __init__(self, places: int, waits: bool = False, seed: int = 0) -> None:
        self.places = places
        self._waits = waits
        self._draws = random.Random(seed)
        self._waiting: deque[tuple[_Frame, int]] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, frame: _Frame) -> bool:
        """Add a frame, or have it share the last place; returns False once this is closed."""
        with self._changed:
            if self._waits:
                self._changed.wait_for(lambda: len(self._waiting) < self.places or self._closed)
            if self._closed:
                return False
            if len(self._waiting) < max(self.places, 1):
                self._waiting.append((frame, 1))
                self._changed.notify_all()
                return True
            kept, group = self._waiting.pop()
            group += 1
            self._waiting.append((frame if self._draws.randrange(group) == 0 else kept, group))
            return True

    def wait(self, seconds: float) -> None:
        """Wait until a frame is there, or for so long."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed, seconds)

    def take(self) -> tuple[_Frame, int] | None:
        """Return the frame that has waited longest, and how many it stands for; None where there is none."""
        with self._changed:
            if not self._waiting:
                return None
            taken = self._waiting.popleft()
            self._changed.notify_all()
            return taken

    def forget_groups(self) -> int:
        """Let each frame that waits stand for itself alone; returns for how many others it stood.

        So that what came while a program was compiled does not outweigh a shift. Chance decided which of them waits, so what is
        left is as fair a sample as before.
        """
        with self._changed:
            others = sum(group - 1 for _, group in self._waiting)
            self._waiting = deque((frame, 1) for frame, _ in self._waiting)
            return others

    def close(self) -> int:
        """Take no more frames and give up those that wait; returns how many those stand for."""
        with self._changed:
            self._closed = True
            left = sum(group for _, group in self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
            return left

    def __len__(self) -> int:
        return len(self._waiting)
