"""Which pixels of the crops of a run's stacks count in all frames of a stack, and lines about what leaves them out."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from sfxjax.crop import CROP
from sfxjax.data.frames import FrameStack
from sfxjax.data.workers import Readers


class CropMasks:
    """The masks of stacks, by file and data set.

    Args:
        readers: read them.
        lines: gets the lines about them.
        say: called with each line that the user should read.
    """

    def __init__(self, readers: Readers, lines: list[str], say: Callable[[str], None]) -> None:
        self._readers, self._lines, self._say = readers, lines, say
        self._masks: dict[tuple[str, str], np.ndarray | None] = {}

    def of(self, stack: FrameStack) -> np.ndarray | None:
        """Return a stack's good pixels, bool (724, 724); None: all are, or they have not been fetched."""
        return self._masks.get((stack.file, stack.dataset))

    def forget(self, files: Collection[str]) -> None:
        """Forget the masks of files that were replaced."""
        for key in [key for key in self._masks if key[0] in files]:
            del self._masks[key]

    def fetch(self, stack: FrameStack) -> None:
        """Fetch a stack's mask before its frames are read: one pipe serves both.

        Raises:
            UserError: it does not fit, or is damaged.
        """
        key = (stack.file, stack.dataset)
        if key in self._masks:
            return
        good, lines = self._readers.static_mask(stack)
        for line in lines:
            if line not in self._lines:
                self._lines.append(line)
                self._say(line)
        # Equal masks are one object, so that a batch of single images has one mask.
        for known in self._masks.values():
            if known is not None and good is not None and np.array_equal(known, good):
                good = known
                break
        if good is not None and min(stack.shape) < CROP:
            size = "x".join(map(str, stack.shape))
            self._say(f"frames of {size} pixels are padded to 724x724; the padding is masked")
        self._masks[key] = good
