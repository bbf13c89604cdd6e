"""What comes beside a set's frames: expert labels in CXIDB 76's text files, and masks."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sfxjax.errors import UserError, explain_os_error
from sfxjax.files import atomic_write_text

MISS, MAYBE, HIT = 0, 1, 2
LABEL_WORDS = ("MISS", "MAYBE", "HIT")

_ANNOTATION = re.compile(r"(\S+)\s+\[(\d+)\]\s+(\S+)")


def parse_annotations(path: str | Path, expected_frames: int, file_name: str | None = None) -> np.ndarray:
    """Read expert labels: one line `r0095_2000.h5 [1] MISS` a frame, in order, counted from 1.

    Args:
        path: of the text file.
        expected_frames: how many frames the set has.
        file_name: the frames' file that every line must name; None takes any.

    Returns:
        int8 [expected_frames]: MISS, MAYBE or HIT.

    Raises:
        UserError: the file is missing, or a line is not as above, out of order, or of another set.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file of labels") from error
    except OSError as error:
        raise UserError(explain_os_error(error, path) or f"{path}: {error}") from error
    while lines and not lines[-1].strip():
        lines.pop()
    labels = np.empty(len(lines), np.int8)
    for number, line in enumerate(lines, start=1):
        match = _ANNOTATION.fullmatch(line.strip())
        if match is None:
            raise UserError(f"{path}, line {number}: expected `FILE [{number}] HIT`, found {line[:60]!r}")
        if file_name is not None and match[1] != file_name:
            raise UserError(
                f"{path}, line {number}: labels {match[1]}, not {file_name}; use this set's own labels"
            )
        if int(match[2]) != number:
            raise UserError(f"{path}, line {number}: expected frame [{number}], found [{match[2]}]")
        if match[3] not in LABEL_WORDS:
            raise UserError(f"{path}, line {number}: {match[3]!r} is none of {', '.join(LABEL_WORDS)}")
        labels[number - 1] = LABEL_WORDS.index(match[3])
    if len(labels) != expected_frames:
        raise UserError(
            f"{path}: {len(labels)} labels for {expected_frames} frames; one line a frame is needed"
        )
    return labels


def write_annotations(path: str | Path, file_name: str, labels: Sequence[int] | np.ndarray) -> None:
    """Write labels (MISS, MAYBE or HIT) of the frames in `file_name`, as `parse_annotations` reads them."""
    lines = [f"{file_name} [{n}] {LABEL_WORDS[int(label)]}\n" for n, label in enumerate(labels, start=1)]
    atomic_write_text(path, "".join(lines))


def read_mask(path: str | Path) -> np.ndarray:
    """Read a mask, bool [slow, fast], True where a pixel is good: the array `good` of an .npz file.

    Raises:
        UserError: the file is missing or damaged, or holds no such array. Only a bool array is taken: what 0
            and 1 mean differs between programs.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            good = arrays["good"]
    except OSError as error:
        raise UserError(explain_os_error(error, path) or f"{path}: not an .npz file ({error})") from error
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: no array named `good` in this mask file") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not an .npz file of plain arrays, or damaged ({error})") from error
    if not isinstance(good, np.ndarray) or good.dtype != np.bool_ or good.ndim != 2:
        raise UserError(f"{path}: `good` must be a two-dimensional bool array, True where a pixel is good")
    return good
