"""The size of the central crop; without JAX, which the processes that read frames do not load."""

from __future__ import annotations

CROP = 724  # pixels; the paper, section 3.1.1
