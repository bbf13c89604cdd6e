from __future__ import annotations

import errno
import os
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from sfxjax.cxidb import (
    HIT,
    MAYBE,
    MISS,
    SETS,
    SetMetadata,
    SetWriter,
    central_region,
    open_set,
    parse_annotations,
    read_mask,
    write_annotations,
)
from sfxjax.errors import UserError

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


@pytest.mark.parametrize("compression", [None, "gzip", "bitshuffle"])
@pytest.mark.parametrize("dtype", [np.int16, np.int32])
def test_round_trip(tmp_path: Path, compression: str | None, dtype: Any) -> None:
    if compression == "bitshuffle":
        pytest.importorskip("hdf5plugin")
    frames, labels = frames_of(range(25), dtype), np.arange(25) % 3
    wavelength, distance = np.linspace(1.2, 1.4, 25), np.linspace(120, 130, 25)
    path = tmp_path / "LN83" / LN83
    with SetWriter(path, 25, SHAPE, dtype, 2, METADATA, compression=compression) as writer:
        for start, stop in ((0, 1), (1, 8), (8, 8), (8, 25)):
            part = slice(start, stop)
            writer.append(
                frames[part], wavelength[part], distance[part], ["2018-12-13T00:00Z"] * (stop - start)
            )
        assert not path.exists()
    write_annotations(path.parent / "expert_annotation.txt", LN83, labels)
    with open_set(tmp_path, "LN83") as read:
        np.testing.assert_array_equal(read.crops(range(25), 12), frames[:, :, 1:13])
        np.testing.assert_array_equal(read.wavelength, wavelength)
        np.testing.assert_array_equal(read.distance, distance)
        np.testing.assert_array_equal(read.labels, labels)
        assert read.simulated
        assert read.dtype == dtype


def test_written_layout_is_that_of_the_deposition(tmp_path: Path) -> None:
    with SetWriter(tmp_path / LN83, 3, SHAPE, np.int32, 2, METADATA) as writer:
        writer.append(frames_of(range(3), np.int32), [1.3] * 3, [124.0] * 3)
    with h5py.File(tmp_path / LN83) as file:
        metadata = {key: value[()] for key, value in file["metadata"].items()}
        assert metadata.pop("idh5_version") == b"idh5_v1.0"
        assert metadata.pop("ACTIVE_AREAS").tolist() == [0, 0, 12, 15]
        assert metadata == {
            "BEAM_CENTER_X": 1.5,
            "BEAM_CENTER_Y": 2.25,
            "PIXEL_SIZE": 0.17708,
            "SIZE1": 12,
            "SIZE2": 15,
            "MIN_TRUSTED_VALUE": 0.0,
            "SATURATED_VALUE": 65535.0,
            "simulated": True,
        }
        assert [(name, sorted(group)) for name, group in file["data"].items()] == [
            ("chunk_0", ["distance", "images", "timestamp", "wavelength"]),
            ("chunk_1", ["distance", "images", "timestamp", "wavelength"]),
        ]
        assert file["data/chunk_1/images"].shape == (1, 12, 15)


@pytest.mark.parametrize("where", ["dataset", "attribute"])
@pytest.mark.parametrize(
    ("value", "simulated"),
    [(True, True), (False, False), (np.int8(1), True), ("yes", True), (np.zeros(1, "i4,i4"), True)],
)
def test_simulated_mark(tmp_path: Path, where: str, value: Any, simulated: bool) -> None:
    folder = make_set(tmp_path, TWO_GROUPS)
    with h5py.File(folder / "ln83" / LN83, "r+") as file:
        if where == "dataset":
            file["metadata/simulated"] = value
        else:
            file.attrs["simulated"] = value
    with open_set(folder, "LN83") as frames:
        assert frames.simulated is simulated


def test_a_set_not_written_to_its_end_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / LN83
    path.write_bytes(b"old")
    with (
        pytest.raises(ValueError, match="2 of 3 frames were written"),
        SetWriter(path, 3, SHAPE, np.int16, 2, METADATA) as writer,
    ):
        writer.append(frames_of(range(2)), [1.3] * 2, [124.0] * 2)
    with pytest.raises(KeyboardInterrupt), SetWriter(path, 3, SHAPE, np.int16, 2, METADATA):
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == [LN83]


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("space", [0, 1000, 4000, 30000, None])
def test_a_disk_that_fills_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str | None, space: int | None
) -> None:
    path = tmp_path / LN83
    frames = np.random.default_rng(0).integers(0, 1 << 30, (40, *SHAPE), dtype=np.int32)

    def write() -> None:
        with SetWriter(path, 40, SHAPE, np.int32, 8, METADATA, compression=compression) as writer:
            for frame in frames:
                writer.append(frame[None], [1.3], [124.0])
            appended.append(True)

    appended: list[bool] = []
    write()
    appended.clear()
    whole = path.read_bytes()
    os_write = os.write

    def write_what_fits(handle: int, content: memoryview) -> int:
        position = os.lseek(handle, 0, os.SEEK_CUR)
        # None: all frames fit, and what is written at the end does not.
        end = space if space is not None else 0 if appended else sys.maxsize
        fits = min(len(content), end - position)
        if fits <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os_write(handle, content[:fits])

    monkeypatch.setattr(os, "write", write_what_fits)
    with pytest.raises(OSError, match=f"No space left on device: '{path}'") as error:
        write()
    assert error.value.errno == errno.ENOSPC
    assert path.read_bytes() == whole
    assert [item.name for item in tmp_path.iterdir()] == [LN83]


def test_writer_refuses_what_does_not_fit(tmp_path: Path) -> None:
    with SetWriter(tmp_path / LN83, 3, SHAPE, np.int16, 2, METADATA) as writer:
        with pytest.raises(ValueError, match="expected images of int16"):
            writer.append(frames_of(range(3), np.int32), [1.3] * 3, [124.0] * 3)
        with pytest.raises(ValueError, match="expected images of int16"):
            writer.append(frames_of(range(3), shape=(15, 12)), [1.3] * 3, [124.0] * 3)
        with pytest.raises(ValueError, match="4 frames for a set of 3"):
            writer.append(frames_of(range(4)), [1.3] * 4, [124.0] * 4)
        with pytest.raises(ValueError, match="2 values of distance for 3 frames"):
            writer.append(frames_of(range(3)), [1.3] * 3, [124.0] * 2)
        writer.append(frames_of(range(3)), [1.3] * 3, [124.0] * 3)


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
    with pytest.raises(UserError, match="not an HDF5 file") as error:
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
        np.testing.assert_array_equal(frames.crops([0, 5, 7], 12), frames_of([0, 5, 7])[:, :, 1:13])
        with pytest.raises(UserError, match=r"frame 6 \(counted from 0\) of LN83 is damaged") as error:
            frames.crops(range(9), 12)
    one_line(error)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.pop("data"), "no group /data"),
        (lambda file: file.update({"data/chunk_2": h5py.SoftLink("/gone")}), "damaged HDF5 file"),
        (lambda file: [file["data"].pop(name) for name in list(file["data"])], "no groups of frames"),
        (lambda file: file["data/chunk_1"].pop("images"), "no images in /data/chunk_1"),
        (lambda file: file["data/chunk_1"].pop("wavelength"), "no wavelength in /data/chunk_1"),
        (lambda file: file["data/chunk_0"].pop("distance"), "no distance in /data/chunk_0"),
        (lambda file: replace(file, "distance", np.ones(3)), "one number for each of 5 frames"),
        (lambda file: replace(file, "wavelength", [b"1.3"] * 5), "one number for each of 5 frames"),
        (lambda file: replace(file, "images", np.ones((5, *SHAPE))), "must be integers"),
        (lambda file: replace(file, "images", np.ones(SHAPE, np.int16)), "must be integers"),
        (
            lambda file: replace(file, "images", np.ones((5, *SHAPE), np.int32)),
            "differ in frame size or pixel",
        ),
        (
            lambda file: replace(file, "images", np.ones((5, 15, 12), np.int16)),
            "differ in frame size or pixel",
        ),
    ],
)
def test_faults_of_the_layout(tmp_path: Path, change: Any, message: str) -> None:
    folder = make_set(tmp_path, TWO_GROUPS)
    with h5py.File(folder / "ln83" / LN83, "r+") as file:
        change(file)
    with pytest.raises(UserError, match=message) as error:
        open_set(folder, "LN83")
    assert LN83 in one_line(error)


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
        assert frames.crops([4], 8).shape == (1, 8, 8)


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
    with pytest.raises(UserError, match="the mask has 15x12 pixels, the frames 12x15"):
        open_set(folder, "LN83")


def test_faults_of_a_mask_file(tmp_path: Path) -> None:
    path = tmp_path / "mask.npz"
    for arrays, message in (
        ({"bad": np.ones(SHAPE, bool)}, "no array named `good`"),
        ({"good": np.ones(SHAPE, np.uint8)}, "two-dimensional bool"),
        ({"good": np.ones(5, bool)}, "two-dimensional bool"),
        ({"good": np.array([object()])}, "not an .npz file of plain arrays"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(UserError, match=message):
            read_mask(path)
    np.savez(path, good=np.ones(SHAPE, bool))
    content = path.read_bytes()
    for damaged in (b"", b"text", content[:60]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="not an .npz file"):
            read_mask(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good.npy", b"text")
    with pytest.raises(UserError, match=r"mask\.npz"):
        read_mask(path)
    with path.open("wb") as file:
        np.save(file, np.ones(SHAPE, bool))
    with pytest.raises(UserError, match="no array named `good`"):
        read_mask(path)
    with pytest.raises(UserError, match="no such file or folder: .*absent.npz"):
        read_mask(tmp_path / "absent.npz")


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
