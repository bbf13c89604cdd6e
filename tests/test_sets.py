"""Sets in the layout of CXIDB 76: frames, labels and masks as they are read, the real ones too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cxidb_cases import LN83, SHAPE, TWO_GROUPS, frames_of, label_lines, make_set, write_groups

from sfxjax.crop import padded_crop
from sfxjax.data.labels import HIT, MAYBE, MISS, parse_annotations, write_annotations
from sfxjax.data.masks import read_mask_file
from sfxjax.data.set_description import CXIDB76
from sfxjax.data.sets import open_set


def padded(frames: np.ndarray) -> np.ndarray:
    return padded_crop(frames, frames.dtype if frames.dtype.itemsize <= 4 else np.dtype(np.float32))


def test_groups_are_read_in_the_order_of_their_sorted_names(tmp_path: Path) -> None:
    # Made in an order of their own, and named so that order by name is neither that nor the natural one.
    groups = [("chunk_2", range(7, 9)), ("chunk_10", range(3, 7)), ("Chunk_3", range(3))]
    with open_set(make_set(tmp_path, groups), "LN83") as frames:
        assert len(frames) == 9
        np.testing.assert_array_equal(frames.crops(range(9)), padded(frames_of(range(9))))


@pytest.mark.parametrize("dtype", ["<i2", "<i4", ">i2", "<u2", "<i8", "<f4"])
@pytest.mark.parametrize(
    "storage", [{}, {"compression": "gzip"}, {"compression": "lzf", "chunks": (2, 5, 5)}]
)
def test_pixels_keep_their_type_and_values(tmp_path: Path, dtype: str, storage: dict[str, Any]) -> None:
    with open_set(make_set(tmp_path, TWO_GROUPS, dtype=dtype, **storage), "LN83") as frames:
        crops = frames.crops([8, 0])
        assert frames.frame_shape == SHAPE
        native = np.dtype(dtype).newbyteorder("=")
        assert crops.dtype == frames.dtype == (native if native.itemsize <= 4 else np.float32)
        np.testing.assert_array_equal(crops, padded(frames_of([8, 0], dtype)))


@pytest.mark.parametrize(
    "indices",
    [[8, 0, 3, 4, 1], [5, 5, 2, 5], range(8, -1, -1), [3], [], np.array([7, 6], np.int32), range(2, 7)],
)
def test_frames_come_in_the_order_asked_for(tmp_path: Path, indices: Sequence[int]) -> None:
    with open_set(make_set(tmp_path, TWO_GROUPS), "LN83") as frames:
        np.testing.assert_array_equal(frames.crops(indices), padded(frames_of(np.asarray(indices, int))))


def test_batches_cover_the_indices(tmp_path: Path) -> None:
    with open_set(make_set(tmp_path, TWO_GROUPS), "LN83") as frames:
        batches = list(frames.batches([8, 1, 2, 0, 7], 2))
        for numbers, batch in zip([[8, 1], [2, 0], [7]], batches, strict=True):
            np.testing.assert_array_equal(batch.crops, frames.crops(numbers))
            assert batch.count == len(numbers) == len(batch.limits)
        assert list(frames.batches([], 4)) == []


@pytest.mark.parametrize("indices", [[9], [-1], [0.5], [[0, 1]], np.ones(9, bool)])
def test_frame_numbers_that_do_not_exist(tmp_path: Path, indices: Any) -> None:
    with open_set(make_set(tmp_path, TWO_GROUPS), "LN83") as frames, pytest.raises(IndexError):
        frames.crops(indices)


def test_frames_smaller_than_the_crop_are_padded_and_the_padding_is_masked(tmp_path: Path) -> None:
    with open_set(make_set(tmp_path, TWO_GROUPS), "LN83") as frames:
        covered = frames.covered()
        assert covered is not None
        np.testing.assert_array_equal(covered, padded(np.ones(SHAPE, bool)))
        (batch,) = frames.batches([3], 4)
        np.testing.assert_array_equal(batch.mask, covered)


def test_labels_and_positives(tmp_path: Path) -> None:
    with open_set(make_set(tmp_path, TWO_GROUPS), "ln83") as frames:
        assert frames.name == "LN83"
        assert frames.labels.dtype == np.int8
        assert frames.labels.tolist() == [MAYBE, HIT, MISS] * 3
        assert frames.positives.tolist() == [True, True, False] * 3
        np.testing.assert_array_equal(frames.mask_crop(), frames.covered())
        assert not frames.simulated


@pytest.mark.parametrize("place", ["ln83", "LN83", "."])
@pytest.mark.parametrize("beside", ["ln83", "LN83", None])
def test_layouts_of_the_data_folder(tmp_path: Path, place: str, beside: str | None) -> None:
    write_groups(tmp_path / place / LN83, TWO_GROUPS)
    labels = tmp_path / (place if beside is None else beside)
    labels.mkdir(exist_ok=True)
    (labels / "expert_annotation.txt").write_text("\n".join(label_lines(9)))
    good = np.ones(SHAPE, bool)
    good[3, 4] = False
    np.savez(labels / "mask.npz", good=good)
    with open_set(tmp_path, "LN83") as frames:
        assert frames.path == tmp_path / place / LN83
        assert len(frames.labels) == 9
        np.testing.assert_array_equal(frames.original(0)[1], good)
        np.testing.assert_array_equal(frames.mask_crop(), padded(good))


# The real labels and masks. Counts are those of the deposition, HIT, MAYBE and MISS.


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("L498", (148, 498, 1354)),
        ("LG36", (235, 57, 1708)),
        ("LN84", (806, 132, 1062)),
        ("LN83", (346, 63, 1591)),
        ("LO19", (730, 151, 1119)),
    ],
)
def test_real_labels(shared: Path, tmp_path: Path, name: str, counts: tuple[int, int, int]) -> None:
    path = shared / "data" / "cxidb76" / name / "expert_annotation.txt"
    labels = parse_annotations(path, 2000, CXIDB76[name][1])
    assert tuple(np.count_nonzero(labels == label) for label in (HIT, MAYBE, MISS)) == counts
    write_annotations(tmp_path / "copy.txt", CXIDB76[name][1], labels)
    assert (tmp_path / "copy.txt").read_bytes() == path.read_bytes()


def test_real_masks_hide_the_beam_stop(shared: Path) -> None:
    mask = read_mask_file(str(shared / "data" / "cxidb76" / "LN83" / "mask.npz"))
    assert np.count_nonzero(~mask) == np.count_nonzero(~mask[598:1322, 598:1322]) == 13271
    mask = read_mask_file(str(shared / "data" / "cxidb76" / "LO19" / "mask.npz"))
    assert np.count_nonzero(~mask[598:1322, 598:1322]) == 9465
