"""What decides the results of a screening besides the frames' files, as its journal records it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from sfxjax.data.frames import ReadOptions
from sfxjax.errors import UserError, explain_os_error


def read_by(options: ReadOptions, mask: np.ndarray | None) -> dict[str, Any]:
    """Return what the user's word on the frames changes in results, by its name for the user.

    A mask is known by the pixels that it leaves, not by its name.

    Args:
        options: what the user says about the files.
        mask: of the run's first frames, from all there is, bool, True = good; None: all are.
    """
    said = (options.mask, options.geometry, options.mask_good, options.good_bits, options.bad_bits)
    named = any(value is not None for value in said)
    bits = [options.mask_good, options.good_bits, options.bad_bits]
    return {
        "data set": options.dataset,
        "mask": mask_digest(mask) if named else None,
        # Masks of single frames are read with them.
        "meaning of the files' masks": bits if options.mask is None and bits != [None] * 3 else None,
        "geometry": None if options.geometry is None else file_digest(Path(options.geometry)),
        "beam centre": options.centre,
    }


def mask_digest(mask: np.ndarray | None) -> str:
    """Return what tells a mask, bool or None, from any other."""
    if mask is None or mask.all():
        return "every pixel"
    return hashlib.sha256(repr(mask.shape).encode() + np.packbits(mask).tobytes()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """Return what tells a small file's content from any other.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise UserError(explain_os_error(error, path) or f"{path}: {error}") from error
