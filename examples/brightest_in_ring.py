"""The brightest pixel at each distance from the beam: a Bragg spot lifts it, smooth scattering does not."""

import jax
import jax.numpy as jnp
import numpy as np

RING = np.hypot(*(np.mgrid[:720, :720] - 359.5)).astype(int).ravel() // 2  # rings of two pixels


def brightest_in_ring(frame, valid=None):
    """Reduce a frame (720, 720) to (255,); `valid` tells the pixels that may take part, None: all may."""
    seen = frame if valid is None else jnp.where(valid, frame, -jnp.inf)
    return jnp.maximum(jax.ops.segment_max(seen.ravel(), RING, 255), 0)
