"""Where the crop's centre lies: by the user's word, or by the file's where that makes sense."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sfxjax.crop import CROP, crop_window
from sfxjax.data.frames import FrameStack
from sfxjax.errors import UserError


def centred(stack: FrameStack, centre: tuple[float, float] | None) -> FrameStack:
    """Decide where the crop's centre of a stack is.

    Args:
        stack: as its file describes it.
        centre: (x, y) that the user gives, pixels; None: nothing.

    Raises:
        UserError: a geometry places the beam already, or the crop would hold nothing of the frame.
    """
    if stack.assembled:
        if centre is not None:
            raise UserError("the geometry places the beam already; leave out --beam-centre")
        return stack
    if centre is not None:
        crop_window(stack.shape, centre)
        return replace(stack, centre=centre)
    if stack.centre is None:
        return stack
    x, y = stack.centre
    if not (np.isfinite(x) and np.isfinite(y)):
        return replace(stack, centre=None)
    inside = 0 < x < stack.shape[1] and 0 < y < stack.shape[0]
    if not inside or (min(stack.shape) >= CROP and not crop_window(stack.shape, (x, y)).whole):
        note = f"{stack.file}: its beam centre ({x:.1f}, {y:.1f}) is too far out; the centre is cropped"
        return replace(stack, centre=None, notes=(*stack.notes, note))
    return stack
