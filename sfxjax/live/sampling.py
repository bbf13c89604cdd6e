"""What is judged of frames that come faster than that goes: a sample that does not depend on what the frames show.

The buffer has a bounded number of places. While one is free each frame takes one. When none is, the frames that come share the
last place: of the k frames of a group each is kept with the same probability, by a draw that looks at nothing but k (reservoir
sampling), and the group ends when a place becomes free. A frame judged thus stands for the k of its group, and the mean of hits
weighted by k is an unbiased estimate of the hit rate, whatever the groups' lengths: when a group ends is decided by the frames
before it.

Where all judging stands still, as while a program is compiled, one frame would come to stand for thousands and decide the rate of
a shift. So a group takes at most a few times as many frames as are usual; those beyond stand for nothing and are left out.

References:
    Vitter, ACM Trans. Math. Softw. 11:37 (1985); Horvitz and Thompson, J. Am. Stat. Assoc. 47:663 (1952).
"""

from __future__ import annotations

import random
import threading
from collections import deque
from typing import Generic, TypeVar

_Frame = TypeVar("_Frame")

# A group takes at most so many times the usual number of frames, and so many in any case; usual is a mean over the last groups.
LARGEST_GROUP, SMALLEST_BOUND, LAST_GROUPS = 4.0, 16.0, 50


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
        self._usual = 1.0
        self._skipped = 0

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
            kept, group = self._waiting[-1]
            if group >= max(LARGEST_GROUP * self._usual, SMALLEST_BOUND):
                self._skipped += 1
                return True
            self._waiting.pop()
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
            self._usual += (taken[1] - self._usual) / LAST_GROUPS
            self._changed.notify_all()
            return taken

    def skipped(self) -> int:
        """Return how many frames were left out, since this was last asked, that no other stands for."""
        with self._changed:
            skipped, self._skipped = self._skipped, 0
            return skipped

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
