"""The signal-to-noise ratios of a frame's strongest spots, and a soft count of its spots made from them.

Frames are labelled by their number of Bragg spots, positive from four on. So one number decides, the ratio of the fourth
strongest spot; measured against the noise beside the spot it means the same on every detector, at every beam intensity and
anywhere in the frame. The fainter spots tell crystals from chance. Frames of few photons are beyond this, as they are
beyond the normalisation, which divides by the frame's own standard deviation.
"""

from __future__ import annotations

import jax

from sfxjax.spots.signal_to_noise import spot_ratios

SPOTS_KEPT = 64
# Each simulated set has its hits and misses separated best by a ratio of 6.5 to 6.9 of the fourth strongest spot. The ratio
# of one spot is measured with an error of 1.
VISIBLE_RATIO = 6.7
SOFTNESS = 0.5


def spot_signal_to_noise(frame: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Signal-to-noise ratios of the 64 strongest spots.

    Noise alone stays below about 5 in half a million pixels; a frame is positive where its fourth ratio is above about 6.7.

    Args:
        frame: (height, width), multiples of 24.
        valid: bool of that shape, True where a pixel counts, or None: all do.

    Returns:
        (64,) float32, falling; 0 where there are no more spots.
    """
    return jax.lax.top_k(spot_ratios(frame, valid), SPOTS_KEPT)[0]


def soft_spot_counts(frame: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """The 64 strongest spots, each counting from 0, surely no spot, to 1, surely one; they add up to the number of spots.

    Whether a ratio is 6 or 8 decides whether there is a spot; 60 or 80 makes no difference.

    Args:
        frame: (height, width), multiples of 24.
        valid: bool of that shape, True where a pixel counts, or None: all do.

    Returns:
        (64,) float32, falling: 1 / (1 + exp((6.7 - ratio) / 0.5)) of the ratios that `spot_signal_to_noise` gives.

    References:
        A spot is seen from a signal to noise of about 5 on: Rose, J. Opt. Soc. Am. 38:196 (1948).
    """
    return jax.nn.sigmoid((spot_signal_to_noise(frame, valid) - VISIBLE_RATIO) / SOFTNESS)
