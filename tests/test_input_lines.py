"""What is wrong with an input is said in words that name it, and copies of a file are told."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from test_tiff_stacks import Stack

from sfxjax.data.frames import ReadOptions
from sfxjax.data.inputs import find_files
from sfxjax.data.read import FrameReader
from sfxjax.errors import UserError

FRAMES = np.random.default_rng(0).integers(1, 90, (6, 64, 80)).astype(np.uint16)


def write(path: Path, frames: np.ndarray = FRAMES, **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("/entry/data/data", data=frames, **options)
    return path


@pytest.mark.parametrize("name", ["e.cbf", "e.tif", "e.h5", "e.cbf.gz"])
def test_an_empty_file_is_called_empty(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with FrameReader(ReadOptions()) as reader, pytest.raises(UserError, match="the file is empty"):
        reader.stacks(str(tmp_path / name))


def test_damaged_frames_and_files_are_described_in_no_library_s_words(tmp_path: Path) -> None:
    path = write(tmp_path / "run.h5", chunks=(1, 64, 80), compression="gzip")
    with h5py.File(path, "a") as file:
        file["/entry/data/data"].id.write_direct_chunk((2, 0, 0), b"no deflate stream")
    cut = tmp_path / "cut.h5"
    cut.write_bytes(path.read_bytes()[:-100])
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(path))
        reasons = [read.reason for read in reader.read(stack, range(6), np.dtype(np.uint16))]
        with pytest.raises(UserError) as whole:
            reader.whole(stack, 2)
        with pytest.raises(UserError, match=r"cut short; fetch it again \([\d,]+ of [\d,]+ bytes") as short:
            reader.stacks(str(cut))
    assert reasons == ["", "", "the compressed values cannot be unpacked", "", "", ""]
    for text in (*reasons, str(whole.value), str(short.value)):
        assert not re.search("synchronously|filter returned|eof|sblock", text)


@pytest.mark.parametrize("option", ["mask", "dataset", "geometry"])
def test_an_empty_name_is_refused(option: str) -> None:
    with pytest.raises(UserError, match=f"--{option} names nothing"):
        ReadOptions(**{option: ""})


def test_bigtiff_with_the_highest_byte_first_is_refused_in_a_line(tmp_path: Path) -> None:
    pytest.importorskip("fabio")
    path = tmp_path / "run.tif"
    path.write_bytes(bytes(Stack(">", True).content))
    with (
        FrameReader(ReadOptions()) as reader,
        pytest.raises(UserError, match="BigTIFF with the highest byte"),
    ):
        reader.stacks(str(path))


def test_a_subfolder_with_a_single_cbf_is_named(tmp_path: Path) -> None:
    write(tmp_path / "run.h5")
    (tmp_path / "stills").mkdir()
    (tmp_path / "stills/1.cbf").write_bytes(b"###CBF: VERSION 1.5\n")
    assert any("subfolders, such as stills" in note for note in find_files([str(tmp_path)]).notes)
    (tmp_path / "run.h5").unlink()
    with pytest.raises(UserError, match="subfolders, such as stills"):
        find_files([str(tmp_path)])


def test_copies_are_named_and_kept_and_runs_alike_in_size_alone_are_not(tmp_path: Path) -> None:
    run = write(tmp_path / "run.h5")
    shutil.copy(run, tmp_path / "again.h5")
    write(tmp_path / "other.h5", FRAMES[::-1])
    found = find_files([str(tmp_path)])
    assert len(found.files) == 3
    (note,) = found.notes
    assert re.search(r"run\.h5 is as long as .*again\.h5 and alike .* count twice", note)
