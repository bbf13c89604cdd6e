"""What a reduction is: one pure function of a pre-processed frame, which gives the vector that a 1D network reads.

A reduction takes `frame`, float32 (720, 720) as `sfxjax.preprocess.preprocess` leaves it, and `valid`, bool of that shape,
True where a pixel counts, or None: all do. It returns (length,) or (length, channels).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax

Reduction = Callable[[jax.Array, jax.Array | None], jax.Array]
_Function = TypeVar("_Function", bound=Callable[..., Any])


def noise_filled(reduction: _Function) -> _Function:
    """Decorate a reduction most of whose values are noise, such as the largest pixel of each row.

    Twice the frame must give twice the vector, and the frame rotated by 180 degrees the vector backwards. A network then
    reads the vector scaled to the frame's noise, and trains on it in both directions.
    """
    reduction.noise_filled = True  # type: ignore[attr-defined]
    return reduction
