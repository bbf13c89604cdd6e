"""What is left out of the first frame that was judged, by masks and by values, in words."""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from sfxjax.data.stack_masks import left_out
from sfxjax.errors import UserError
from sfxjax.live.judge import Looks
from sfxjax.pixels.missing_values import type_limit
from sfxjax.screen.left_out import line_of_frame, line_of_limit
from sfxjax.screen.sources import NO_MASK


class FirstFrame(NamedTuple):
    """What is left out of a frame.

    Attributes:
        mask_lines: by masks, those given and those that came with it together.
        value_lines: by its values.
    """

    mask_lines: list[str]
    value_lines: list[str]


def first_frame(looks: Looks) -> FirstFrame:
    """Say what is left out of a frame."""
    pixels, mask, limit = looks.pixels, looks.mask, looks.limit
    masks = NO_MASK if mask is None else f"masks given and of the stream together: {left_out(mask)}"
    values = []
    with suppress(UserError):
        values = line_of_frame(pixels, mask, limit)
    if limit < type_limit(pixels.dtype):
        values.append(
            f"in the first frame pixels of {limit:.10g} and more were left out: gaps, dead or saturated pixels"
        )
    else:
        values += line_of_limit(pixels, mask, limit)
    return FirstFrame([masks], values)
