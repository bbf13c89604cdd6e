"""Faults of a set's files, each told in one line."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from cxidb_cases import LN83, SHAPE, TWO_GROUPS, frames_of, label_lines, make_set

from sfxjax.crop import padded_crop
from sfxjax.data.labels import HIT, MAYBE, MISS, parse_annotations
from sfxjax.data.masks import read_mask_file
from sfxjax.data.sets import open_set
from sfxjax.errors import UserError

# Faults of the frames' file.


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_unknown_set_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'LN99'; choose one of LN83, LN84, LO19, LG36, L498"):
        open_set(tmp_path, "LN99")


def test_missing_set_says_what_was_tried(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        open_set(tmp_path / "nowhere", "LN83")
    text = one_line(error)
    for place in ("ln83/", "LN83/", ""):
        assert f"{tmp_path}/nowhere/{place}{LN83}" in text
    assert "--data must name the folder that holds ln83/r0018_2000.h5" in text


def test_missing_labels(tmp_path: Path) -> None:
    folder = make_set(tmp_path, TWO_GROUPS)
    (folder / "ln83" / "expert_annotation.txt").unlink()
    with pytest.raises(UserError, match="no labels of LN83 found; put its expert_annotation.txt into"):
        open_set(folder, "LN83")


@pytest.mark.parametrize("content", [b"", b"not HDF5 at all" * 100])
def test_not_an_hdf5_file(tmp_path: Path, content: bytes) -> None:
    folder = make_set(tmp_path, TWO_GROUPS)
    (folder / "ln83" / LN83).write_bytes(content)
    with pytest.raises(UserError, match="not an HDF5 file" if content else "the file is empty") as error:
        open_set(folder, "LN83")
    one_line(error)


def test_a_folder_in_the_place_of_the_frames(tmp_path: Path) -> None:
    (tmp_path / "ln83" / LN83).mkdir(parents=True)
    (tmp_path / "ln83" / "expert_annotation.txt").touch()
    with pytest.raises(UserError, match=LN83):
        open_set(tmp_path, "LN83")


@pytest.mark.parametrize("kept", [0.3, 0.99])
def test_truncated_file(tmp_path: Path, kept: float) -> None:
    folder = make_set(tmp_path, TWO_GROUPS)
    path = folder / "ln83" / LN83
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UserError, match="cut short") as error:
        open_set(folder, "LN83")
    one_line(error)


def test_a_damaged_frame_is_named(tmp_path: Path) -> None:
    folder = make_set(tmp_path, TWO_GROUPS, compression="gzip", chunks=(1, *SHAPE))
    path = folder / "ln83" / LN83
    with h5py.File(path) as file:
        chunk = file["data/chunk_1/images"].id.get_chunk_info(2)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * chunk.size)
    with open_set(folder, "LN83") as frames:
        np.testing.assert_array_equal(
            frames.crops([0, 5, 7]), padded_crop(frames_of([0, 5, 7]), np.dtype(np.int16))
        )
        with pytest.raises(UserError, match=r"frame 6 \(counted from 0\) of LN83 is damaged") as error:
            frames.crops(range(9))
    one_line(error)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.pop("data"), "no frames where known layouts have them"),
        (lambda file: [file["data"].pop(name) for name in list(file["data"])], "it holds no stack of images"),
        (lambda file: file["data/chunk_1"].pop("images"), "9 labels for 4 frames"),
        (lambda file: replace(file, "images", np.ones(SHAPE, np.int16)), "9 labels for 5 frames"),
        (lambda file: replace(file, "images", np.ones((5, *SHAPE), complex)), "no real numbers"),
        (lambda file: replace(file, "images", np.ones((5, 15, 12), np.int16)), "frames of 15x12 pixels"),
    ],
)
def test_faults_of_the_layout(tmp_path: Path, change: Any, message: str) -> None:
    folder = make_set(tmp_path, TWO_GROUPS)
    with h5py.File(folder / "ln83" / LN83, "r+") as file:
        change(file)
    with pytest.raises(UserError, match=message) as error:
        open_set(folder, "LN83")
    assert "ln83/" in one_line(error)


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file["data/chunk_1"].pop("wavelength"),
        lambda file: file["data/chunk_0"].pop("distance"),
        lambda file: replace(file, "distance", np.ones(3)),
        lambda file: replace(file, "wavelength", [b"1.3"] * 5),
        lambda file: replace(file, "images", frames_of(range(4, 9)).astype(np.float64)),
        lambda file: replace(file, "images", frames_of(range(4, 9), np.int32)),
    ],
)
def test_frames_are_read_whatever_else_a_group_holds_and_of_any_type(tmp_path: Path, change: Any) -> None:
    folder = make_set(tmp_path, TWO_GROUPS)
    with h5py.File(folder / "ln83" / LN83, "r+") as file:
        change(file)
    with open_set(folder, "LN83") as frames:
        pixels = frames.crops(range(9))
        np.testing.assert_array_equal(pixels, padded_crop(frames_of(range(9)), pixels.dtype))


def test_a_group_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    folder = make_set(tmp_path, TWO_GROUPS)
    with h5py.File(folder / "ln83" / LN83, "r+") as file:
        file["data/chunk_2"] = h5py.SoftLink("/gone")
    with open_set(folder, "LN83") as frames:
        assert len(frames) == 9
        assert any("no data set /data/chunk_2/images" in note for note in frames.notes)


def replace(file: h5py.File, key: str, values: Any) -> None:
    del file[f"data/chunk_1/{key}"]
    file[f"data/chunk_1/{key}"] = values


def test_a_missing_filter_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_set(tmp_path, TWO_GROUPS, compression="gzip")
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: False)
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(UserError, match="compressed by HDF5 filter 1; install hdf5plugin"):
        open_set(folder, "LN83")


def test_plain_files_need_no_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with open_set(make_set(tmp_path, TWO_GROUPS, compression="gzip"), "LN83") as frames:
        assert frames.crops([4]).shape == (1, 724, 724)


# Faults of labels and masks.


@pytest.mark.parametrize(
    ("number", "line", "message"),
    [
        (3, f"{LN83} [3] PERHAPS", "line 3: 'PERHAPS' is none of MISS, MAYBE, HIT"),
        (3, f"{LN83} [4] HIT", r"line 3: expected frame \[3\], found \[4\]"),
        (3, "00003     3 Miss", r"line 3: expected `FILE \[3\] HIT`, found '00003"),
        (3, "", "line 3: expected"),
        (3, "r0095_2000.h5 [3] HIT", "line 3: labels r0095_2000.h5, not r0018_2000.h5"),
    ],
)
def test_faults_of_a_label_line(tmp_path: Path, number: int, line: str, message: str) -> None:
    folder = make_set(tmp_path, TWO_GROUPS)
    lines = label_lines(9)
    lines[number - 1] = line
    (folder / "ln83" / "expert_annotation.txt").write_text("\n".join(lines))
    with pytest.raises(UserError, match=message) as error:
        open_set(folder, "LN83")
    one_line(error)


@pytest.mark.parametrize("count", [0, 8, 10])
def test_labels_of_another_number_of_frames(tmp_path: Path, count: int) -> None:
    folder = make_set(tmp_path, TWO_GROUPS)
    (folder / "ln83" / "expert_annotation.txt").write_text("\n".join(label_lines(count)))
    with pytest.raises(UserError, match=f"{count} labels for 9 frames"):
        open_set(folder, "LN83")


def test_labels_with_other_line_ends_and_a_blank_last_line(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes("\r\n".join([*label_lines(3), "", ""]).encode())
    assert parse_annotations(path, 3).tolist() == [MAYBE, HIT, MISS]


def test_labels_that_are_no_text_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not a text file"):
        parse_annotations(tmp_path / "labels.txt", 3)
    with pytest.raises(UserError, match="no such file or folder: .*absent.txt"):
        parse_annotations(tmp_path / "absent.txt", 3)


def test_mask_of_another_shape(tmp_path: Path) -> None:
    folder = make_set(tmp_path, TWO_GROUPS)
    np.savez(folder / "ln83" / "mask.npz", good=np.ones((15, 12), bool))
    with pytest.raises(UserError, match=r"the mask has 15x12 pixels, the frames of \S+ 12x15"):
        open_set(folder, "LN83")


def test_faults_of_a_mask_file(tmp_path: Path) -> None:
    path = tmp_path / "mask.npz"
    for arrays, message in (
        ({"bad": np.ones(SHAPE, bool)}, "whether 0 or 1 marks the good pixels is not settled"),
        ({"good": np.ones(SHAPE, np.uint8)}, "whether 0 or 1 marks the good pixels is not settled"),
        ({"good": np.ones(5, bool)}, "is no mask"),
        ({"good": np.array([object()])}, "mask.npz"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(UserError, match=message):
            read_mask_file(str(path))
    np.savez(path, good=np.ones(SHAPE, bool))
    content = path.read_bytes()
    for damaged in (b"", b"text", content[:60]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"mask\.npz"):
            read_mask_file(str(path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good.npy", b"text")
    with pytest.raises(UserError, match=r"mask\.npz"):
        read_mask_file(str(path))
    with path.open("wb") as file:
        np.save(file, np.ones(SHAPE, bool))
    with pytest.raises(UserError, match="whether 0 or 1 marks the good pixels is not settled"):
        read_mask_file(str(path))
    with pytest.raises(UserError, match="no such file or folder: .*absent.npz"):
        read_mask_file(str(tmp_path / "absent.npz"))
