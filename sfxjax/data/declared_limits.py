"""Limits that a file declares for its pixels' values, such as a saturation value, and whether they can be meant."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np

from sfxjax.data.frames import FrameStack
from sfxjax.data.masks import FEWEST_GOOD
from sfxjax.errors import UserError
from sfxjax.pixels.missing_values import is_below, value_limit
from sfxjax.text import per_cent

# Pixels that tell how many are left; of more only a part is looked at.
_ENOUGH = 100_000


class LimitLeavesNothingError(UserError):
    """A limit that a file declares leaves next to no pixel of a frame."""


def refuse_limit_that_leaves_nothing(stack: FrameStack, pixels: np.ndarray, mask: np.ndarray | None) -> None:
    """Refuse a frame of which a declared limit leaves next to nothing.

    Args:
        stack: that the frame is of.
        pixels: of it, any shape.
        mask: bool of that shape, True where a pixel counts; or None.

    Raises:
        LimitLeavesNothingError: less than 5 % of the pixels that mean something otherwise are below the limit.
    """
    if stack.limit is None or pixels.size == 0:
        return
    step = max(1, pixels.size // _ENOUGH)
    some = pixels.reshape(-1)[::step]
    some = some if mask is None else some[mask.reshape(-1)[::step]]
    some = some[is_below(some, value_limit(some, depths=stack.depths))]
    if not some.size:
        return
    share = np.count_nonzero(is_below(some, stack.limit)) / some.size
    if share < FEWEST_GOOD:
        raise LimitLeavesNothingError(
            f"only {per_cent(share)} of the pixels are below {stack.limit:.10g}, from which on they are saturated by the word of "
            "the file"
        )


def check_declared_limit(stack: FrameStack, read: Callable[[FrameStack, int], object]) -> None:
    """Refuse a stack if a declared limit leaves next to nothing of its first, its middle and its last frame.

    Args:
        stack: of frames.
        read: reads one, and refuses as `refuse_limit_that_leaves_nothing` does.

    Raises:
        UserError: it does.
    """
    if stack.limit is None:
        return
    refused: LimitLeavesNothingError | None = None
    for number in sorted({0, stack.frames // 2, stack.frames - 1}):
        try:
            with suppress(OSError, RuntimeError, ValueError):
                read(stack, number)
                return
        except LimitLeavesNothingError as error:
            refused = error
        except UserError:
            continue
    if refused is not None:
        raise UserError(
            f"{stack.file}: {refused}; correct its saturation_value or countrate_correction_count_cutoff, or remove it"
        )
