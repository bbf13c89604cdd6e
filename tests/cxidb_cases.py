"""What the tests of sets in the layout of CXIDB 76 share: small files of frames that tell their number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sfxjax.data.write import SetMetadata

SHAPE = (12, 15)
METADATA = SetMetadata(beam_centre=(1.5, 2.25), pixel_size=0.17708)
LN83 = "r0018_2000.h5"


def frames_of(
    numbers: Sequence[int] | np.ndarray, dtype: Any = np.int16, shape: tuple[int, int] = SHAPE
) -> np.ndarray:
    """Frames whose pixels all differ and tell the frame number: 200 * number + place, odd ones negated."""
    places = np.arange(np.prod(shape)).reshape(shape)
    signs = np.where(places % 2, -1, 1)
    return ((200 * np.asarray(numbers)[:, None, None] + places) * signs).astype(dtype)


def write_groups(
    path: Path, groups: Sequence[tuple[str, Sequence[int]]], dtype: Any = np.int16, **storage: Any
) -> None:
    """Write groups of the given frames, in the given order, straight with h5py."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", track_order=True) as file:
        file["metadata/idh5_version"] = "idh5_v1.0"
        data = file.create_group("data", track_order=True)
        for name, numbers in groups:
            group = data.create_group(name)
            group.create_dataset("images", data=frames_of(numbers, dtype), **storage)
            group["wavelength"] = 1.0 + np.asarray(numbers) / 1000
            group["distance"] = 100.0 + np.asarray(numbers)
            group["timestamp"] = np.asarray(numbers)


def label_lines(count: int, file_name: str = LN83) -> list[str]:
    return [f"{file_name} [{n}] {('MISS', 'MAYBE', 'HIT')[n % 3]}" for n in range(1, count + 1)]


def make_set(tmp_path: Path, groups: Sequence[tuple[str, Sequence[int]]], **options: Any) -> Path:
    write_groups(tmp_path / "ln83" / LN83, groups, **options)
    count = sum(len(numbers) for _, numbers in groups)
    (tmp_path / "ln83" / "expert_annotation.txt").write_text("\n".join(label_lines(count)) + "\n")
    return tmp_path


TWO_GROUPS = [("chunk_0", range(4)), ("chunk_1", range(4, 9))]
