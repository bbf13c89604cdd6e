"""Sets that are written are read back, and are in the layout of the deposition."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from cxidb_cases import LN83, METADATA, SHAPE, TWO_GROUPS, frames_of, make_set

from sfxjax.crop import padded_crop
from sfxjax.data.labels import write_annotations
from sfxjax.data.sets import open_set
from sfxjax.data.write import SetWriter


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
        np.testing.assert_array_equal(read.crops(range(25)), padded_crop(frames, frames.dtype))
        with h5py.File(path, locking=False) as file:
            for key, values in (("wavelength", wavelength), ("distance", distance)):
                stored = [file[f"data/{name}/{key}"][()] for name in sorted(file["data"])]
                np.testing.assert_array_equal(np.concatenate(stored), values)
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
