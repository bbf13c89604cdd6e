"""What a visible spot and a hit are, where the user does not say otherwise."""

from __future__ import annotations

# Signal-to-noise ratio from which a spot is visible, and visible spots from which a frame is a hit.
MIN_SNR = 6.0
MIN_SPOTS = 4
