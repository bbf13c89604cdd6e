"""Masks in the frames' own file, in the shapes that beamlines write: used where they are clear, else named as not used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from sfxjax.crop import padded_crop
from sfxjax.data.frames import ReadOptions
from sfxjax.data.read import FrameReader

SHAPE = (40, 60)
BAD = np.zeros(SHAPE, np.uint32)
BAD[5:9, 20:40] = 1
FRAMES = np.random.default_rng(0).integers(0, 90, (6, *SHAPE)).astype(np.int32)
PLACES = [
    ("/entry/data/data", "/entry/instrument/detector/pixel_mask"),
    ("/entry/data/data", "/entry/instrument/detector/detectorSpecific/pixel_mask"),
    ("/entry_1/data_1/data", "/entry_1/data_1/mask"),
]


def write(path: Path, frames: np.ndarray, mask: np.ndarray, places: tuple[str, str]) -> Path:
    with h5py.File(path, "w") as file:
        file[places[0]], file[places[1]] = frames, mask
    return path


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize(
    ("frames", "mask"),
    [
        (FRAMES, BAD),
        (FRAMES, BAD[None]),
        (FRAMES, BAD.astype(bool)),
        (FRAMES, BAD.astype(np.float32)),
        (FRAMES, BAD.astype(np.int8)),
        (FRAMES[:, None], BAD),
        (FRAMES[:, None], BAD[None]),
    ],
)
def test_a_mask_that_all_frames_share(
    frames: np.ndarray, mask: np.ndarray, places: Any, tmp_path: Path
) -> None:
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(write(tmp_path / "run.h5", frames, mask, places)))
        np.testing.assert_array_equal(reader.static_mask(stack), padded_crop(BAD == 0, np.dtype(bool)))
        assert not stack.notes and f"mask {places[1]}" in stack.describe()


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("dtype", [np.uint32, np.float32, bool])
def test_one_mask_a_frame(dtype: Any, places: Any, tmp_path: Path) -> None:
    masks = np.stack([np.roll(BAD, 3 * number, axis=0) for number in range(len(FRAMES))]).astype(dtype)
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(write(tmp_path / "run.h5", FRAMES, masks, places)))
        found = [mask for _, mask, *_ in reader.read(stack, range(len(FRAMES)), np.dtype(np.int32))]
    covered = padded_crop(np.ones(SHAPE, bool), np.dtype(bool))
    for mask, stored in zip(found, masks, strict=True):
        assert mask is not None
        np.testing.assert_array_equal(mask & covered, padded_crop(stored == 0, np.dtype(bool)))


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("mask", [BAD.T.copy(), np.zeros((3, *SHAPE), np.uint32), BAD[:, :-1]])
def test_a_mask_of_another_shape_is_named_as_not_used(mask: np.ndarray, places: Any, tmp_path: Path) -> None:
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(write(tmp_path / "run.h5", FRAMES, mask, places)))
        covered = reader.static_mask(stack)
    shape = "x".join(map(str, mask.shape))
    assert any(f"the mask {places[1]} of shape {shape} is not used" in note for note in stack.notes)
    np.testing.assert_array_equal(covered, padded_crop(np.ones(SHAPE, bool), np.dtype(bool)))
    assert ", mask " not in stack.describe()
