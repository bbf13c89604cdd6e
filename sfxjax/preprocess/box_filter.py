"""Sums over squares of the size of a spot: the filter that is matched to it, for frames and for strips of them.

The light of a spot spreads over some three pixels each way. Its sum stands out of the noise by more than its brightest pixel,
and does not depend on where within a pixel the spot lies.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from sfxjax.errors import UserError
from sfxjax.fusion import fusion_barrier


def check_spot(spot: int) -> None:
    """Raise a UserError unless squares of so many pixels have a pixel in their middle."""
    if not isinstance(spot, int) or spot < 1 or spot % 2 == 0:
        raise UserError(
            f"squares of {spot!r} pixels have no middle; give an odd number, or 1 for single pixels"
        )


def spot_sums(frame: jax.Array, spot: int) -> jax.Array:
    """Add up the square around each pixel, over its edge: noise that differs from pixel to pixel keeps its height.

    Args:
        frame: (ss, fs), normalised, 0 where there is no data. What lies outside counts as 0.
        spot: edge of the squares, pixels, odd.

    Returns:
        (ss, fs).
    """
    half = spot // 2
    return sums_within(jnp.pad(frame, ((half, half), (0, 0))), spot)


def sums_within(strip: jax.Array, spot: int) -> jax.Array:
    """As `spot_sums`, for the middle rows of a strip.

    Args:
        strip: (rows + spot - 1, fs).
        spot: as there.

    Returns:
        (rows, fs).
    """
    if spot == 1:
        return strip
    half = spot // 2
    on_cpu = jax.default_backend() == "cpu"

    def rows(strip: jax.Array) -> jax.Array:
        sums = sum(strip[first : len(strip) - spot + 1 + first] for first in range(spot))
        return jnp.pad(sums, ((0, 0), (half, half)))

    # Kept apart: what reads the sums would add up the rows anew for each of its terms. The pixel is one of the frame, since the
    # compiler knows the zeros around it.
    sums = fusion_barrier(strip[half, half] != jnp.inf if on_cpu else None, rows, strip)
    width = strip.shape[1]
    return sum(sums[:, first : width + first] for first in range(spot)) / spot
