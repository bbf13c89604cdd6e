"""Sets in the layout of CXIDB 76: frames, labels and masks as they are read, the real ones too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from cxidb_cases import LN83, SHAPE, TWO_GROUPS, frames_of, label_lines, make_set, write_groups

from sfxjax.data.cxidb import (
    HIT,
    MAYBE,
    MISS,
    SETS,
    central_region,
    open_set,
    parse_annotations,
    read_mask,
    write_annotations,
)
from sfxjax.errors import UserError


def test_groups_are_read_in_the_order_of_their_sorted_names(tmp_path: Path) -> None:
    # Made in an order of their own, and named so that order by name is neither that nor the natural one.
    groups = [("chunk_2", range(7, 9)), ("chunk_10", range(3, 7)), ("Chunk_3", range(3))]
    with open_set(make_set(tmp_path, groups), "LN83") as frames:
        assert len(frames) == 9
        np.testing.assert_array_equal(frames.crops(range(9), 12), frames_of(range(9))[:, :, 1:13])
        np.testing.assert_allclose(frames.wavelength, 1.0 + np.arange(9) / 1000)
        np.testing.assert_array_equal(frames.distance, 100.0 + np.arange(9))


@pytest.mark.parametrize("dtype", ["<i2", "<i4", ">i2", "<u2", "<i8"])
@pytest.mark.parametrize(
    "storage", [{}, {"compression": "gzip"}, {"compression": "lzf", "chunks": (2, 5, 5)}]
)
def test_pixels_keep_their_type_and_values(tmp_path: Path, dtype: str, storage: dict[str, Any]) -> None:
    with open_set(make_set(tmp_path, TWO_GROUPS, dtype=dtype, **storage), "LN83") as frames:
        crops = frames.crops([8, 0], 10)
        assert frames.frame_shape == SHAPE
        assert crops.dtype == frames.dtype == np.dtype(dtype).newbyteorder("=")
        np.testing.assert_array_equal(crops, frames_of([8, 0], dtype)[:, 1:11, 2:12])


@pytest.mark.parametrize(
    "indices",
    [[8, 0, 3, 4, 1], [5, 5, 2, 5], range(8, -1, -1), [3], [], np.array([7, 6], np.int32), range(2, 7)],
)
def test_frames_come_in_the_order_asked_for(tmp_path: Path, indices: Sequence[int]) -> None:
    with open_set(make_set(tmp_path, TWO_GROUPS), "LN83") as frames:
        np.testing.assert_array_equal(
            frames.crops(indices, 8), frames_of(np.asarray(indices, int))[:, 2:10, 3:11]
        )


def test_neighbouring_frames_are_read_in_one_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[tuple[slice, ...]] = []
    read_direct = h5py.Dataset.read_direct

    def note(self: h5py.Dataset, out: np.ndarray, region: tuple[slice, ...]) -> None:
        requests.append(region)
        read_direct(self, out, region)

    monkeypatch.setattr(h5py.Dataset, "read_direct", note)
    with open_set(make_set(tmp_path, TWO_GROUPS), "LN83") as frames:
        frames.crops([6, 2, 3, 4, 5, 0, 3], 8)
    rows, columns = slice(2, 10), slice(3, 11)
    expected = [(slice(0, 1), rows, columns), (slice(2, 4), rows, columns), (slice(0, 3), rows, columns)]
    assert requests == expected


def test_batches_cover_the_indices(tmp_path: Path) -> None:
    with open_set(make_set(tmp_path, TWO_GROUPS), "LN83") as frames:
        batches = list(frames.batches([8, 1, 2, 0, 7], 2, size=8))
        assert [numbers.tolist() for numbers, _ in batches] == [[8, 1], [2, 0], [7]]
        for numbers, crops in batches:
            np.testing.assert_array_equal(crops, frames.crops(numbers, 8))
        assert list(frames.batches([], 4, size=8)) == []


@pytest.mark.parametrize("indices", [[9], [-1], [0.5], [[0, 1]], np.ones(9, bool)])
def test_frame_numbers_that_do_not_exist(tmp_path: Path, indices: Any) -> None:
    with open_set(make_set(tmp_path, TWO_GROUPS), "LN83") as frames, pytest.raises(IndexError):
        frames.crops(indices, 8)


@pytest.mark.parametrize(
    ("shape", "size", "first"),
    [((1920, 1920), 724, (598, 598)), ((1765, 1765), 724, (520, 520)), ((724, 725), 724, (0, 0))],
)
def test_central_region(shape: tuple[int, int], size: int, first: tuple[int, int]) -> None:
    assert central_region(shape, size) == tuple(slice(start, start + size) for start in first)


def test_frames_smaller_than_the_crop(tmp_path: Path) -> None:
    with (
        open_set(make_set(tmp_path, TWO_GROUPS), "LN83") as frames,
        pytest.raises(UserError, match="12x15 pixels are too small for a crop of 724x724"),
    ):
        frames.crops([0])


def test_labels_and_positives(tmp_path: Path) -> None:
    with open_set(make_set(tmp_path, TWO_GROUPS), "ln83") as frames:
        assert frames.name == "LN83"
        assert frames.labels.dtype == np.int8
        assert frames.labels.tolist() == [MAYBE, HIT, MISS] * 3
        assert frames.positives.tolist() == [True, True, False] * 3
        assert frames.mask is None
        assert frames.mask_crop(8) is None
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
        assert frames.mask is not None
        np.testing.assert_array_equal(frames.mask, good)
        np.testing.assert_array_equal(frames.mask_crop(8), good[2:10, 3:11])


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
    labels = parse_annotations(path, 2000, SETS[name].file_name)
    assert tuple(np.count_nonzero(labels == label) for label in (HIT, MAYBE, MISS)) == counts
    write_annotations(tmp_path / "copy.txt", SETS[name].file_name, labels)
    assert (tmp_path / "copy.txt").read_bytes() == path.read_bytes()


def test_real_masks_hide_the_beam_stop(shared: Path) -> None:
    mask = read_mask(shared / "data" / "cxidb76" / "LN83" / "mask.npz")
    assert np.count_nonzero(~mask) == np.count_nonzero(~mask[central_region((1920, 1920), 724)]) == 13271
    mask = read_mask(shared / "data" / "cxidb76" / "LO19" / "mask.npz")
    assert np.count_nonzero(~mask[central_region((1920, 1920), 724)]) == 9465
