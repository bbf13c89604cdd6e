"""Damaged chunks that make a plug-in's filter read beyond them, and virtual data sets of themselves, end no command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from sfxjax.data.bitshuffle import packs, rows_unpacked, whole_chunks
from sfxjax.data.frames import ReadOptions
from sfxjax.data.hdf5 import Files
from sfxjax.data.inputs import find_files
from sfxjax.data.masks import load_mask
from sfxjax.data.read import FrameReader
from sfxjax.data.values_apart import values_apart
from sfxjax.errors import UserError
from sfxjax.screen.sources import Sources

hdf5plugin = pytest.importorskip("hdf5plugin")
SHAPE = (80, 100)
FRAMES = np.random.default_rng(0).poisson(5, (20, *SHAPE)).astype("u2")
DATA = "/entry/data/data"
FILTERS = {
    "bitshuffle": hdf5plugin.Bitshuffle(),
    "bitshuffle of zstd": hdf5plugin.Bitshuffle(cname="zstd"),
    "lz4": hdf5plugin.LZ4(),
    "blosc": hdf5plugin.Blosc(),
    "gzip": {"compression": "gzip"},
}


def write(path: Path, values: np.ndarray, chunks: tuple[int, ...], filters: Any, name: str = DATA) -> Path:
    with h5py.File(path, "a") as file:
        file.create_dataset(name, data=values, chunks=chunks, **filters)
    return path


def damage(path: Path, frame: int, change: Callable[[bytes], bytes], name: str = DATA) -> None:
    """Change the chunk of a frame as it is stored."""
    with h5py.File(path, "r+") as file:
        data = file[name]
        place = (frame, *(0,) * (data.ndim - 1)) if data.ndim == 3 else (0, 0)
        skipped, chunk = data.id.read_direct_chunk(place)
        data.id.write_direct_chunk(place, change(chunk), skipped)


def long_block(chunk: bytes) -> bytes:
    """Have the first block claim to be 2 GB long."""
    return chunk[:12] + b"\x7f\xff\xff\xff" + chunk[16:]


def cut(chunk: bytes) -> bytes:
    return chunk[:20]


@pytest.mark.parametrize("change", [long_block, cut])
def test_a_damaged_frame_is_an_error_and_the_others_are_read(change: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "run.h5", FRAMES, (1, *SHAPE), FILTERS["bitshuffle"])
    damage(path, 3, change)
    with FrameReader(ReadOptions()) as reader:
        # Looks for bad pixels, over these frames.
        sources = Sources(reader)
        sources.open(find_files([str(path)]))
        (stack,) = sources.run.stacks
        for number in range(len(FRAMES)):
            if number == 3:
                with pytest.raises(UserError, match="ended the reader|cannot be unpacked"):
                    sources.read(stack, number)
            else:
                np.testing.assert_array_equal(sources.read(stack, number).pixels, FRAMES[number])
        crops = [read.reason for read in reader.read(stack, [2, 3, 4], np.dtype(np.uint16))]
    assert [bool(reason) for reason in crops] == [False, True, False]


def test_a_damaged_mask_is_one_line(tmp_path: Path) -> None:
    mask = "/entry/instrument/detector/pixel_mask"
    path = write(tmp_path / "run.h5", FRAMES, (1, *SHAPE), FILTERS["gzip"])
    write(path, np.eye(*SHAPE, dtype="u4"), SHAPE, FILTERS["bitshuffle"], mask)
    damage(path, 0, long_block, mask)
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(path))
        with pytest.raises(UserError, match="pixel_mask.*(ended the reader|cannot be unpacked)"):
            reader.whole_mask(stack)
    with pytest.raises(UserError, match="pixel_mask.*(ended the reader|cannot be unpacked)"):
        load_mask(f"{path}:{mask}")


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("chunks", [(1, *SHAPE), (3, 32, 40)])
def test_values_read_apart_are_those_stored(filters: str, chunks: tuple[int, ...], tmp_path: Path) -> None:
    path = write(tmp_path / "run.h5", FRAMES[:7], chunks, FILTERS[filters])
    with Files(tmp_path) as files:
        data = files.dataset(path, DATA)
        assert data is not None and files.check_storage(data) == (filters != "gzip")
        for place in ((), (5,), (6, slice(3, 70), slice(90, 100)), (slice(0, 7), 2)):
            np.testing.assert_array_equal(values_apart(data, place), FRAMES[:7][place])
            np.testing.assert_array_equal(files.values(data, place), FRAMES[:7][place])
    # The next file of that name; of what no plug-in unpacks, nothing is kept open.
    path.unlink()
    if filters == "gzip":
        return
    write(path, FRAMES[7:14], chunks, FILTERS[filters])
    with Files(tmp_path) as files:
        data = files.dataset(path, DATA)
        assert data is not None
        np.testing.assert_array_equal(values_apart(data, (5,)), FRAMES[12])


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "u8"])
@pytest.mark.parametrize("shape", [(2, 64, 64), (2, 3, 5), (2, 50, 99)])
def test_chunks_are_whole_at_their_full_length_alone(
    dtype: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    values = np.random.default_rng(1).integers(0, 100, shape).astype(dtype)
    path = write(tmp_path / "run.h5", values, (1, *shape[1:]), hdf5plugin.Bitshuffle())
    with h5py.File(path) as file:
        data = file[DATA]
        assert packs(data) and whole_chunks(data, ()) and whole_chunks(data, (1,))
        assert not whole_chunks(data, (2,))
        chunk = data.id.read_direct_chunk((1, 0, 0))[1]
    lengths = np.unique(np.linspace(1, len(chunk) - 1, 40).astype(int))
    for change in (
        *(lambda _, length=length: chunk[:length] for length in lengths),
        lambda _: chunk[:8] + b"\0\0\0\7" + chunk[12:],
        lambda _: b"\0" * 7 + b"\x10" + chunk[8:],
        *([long_block] if np.prod(shape[1:]) >= 8 else []),
    ):
        damage(path, 1, change)
        with h5py.File(path) as file:
            assert whole_chunks(file[DATA], (0,)) and not whole_chunks(file[DATA], (1,))


@pytest.mark.parametrize("nelems", [0, 256])
@pytest.mark.parametrize("dtype", ["u1", ">i2", "f4", "i8"])
def test_rows_unpacked_alone_are_those_of_the_frame(dtype: str, nelems: int, tmp_path: Path) -> None:
    # Frames of several blocks, the last of them short, with elements behind it.
    values = np.random.default_rng(2).integers(0, 100, (3, 245, 113)).astype(dtype)
    path = write(tmp_path / "run.h5", values, (1, 245, 113), hdf5plugin.Bitshuffle(nelems=nelems))
    alone = 0
    with Files(tmp_path) as files:
        data = files.dataset(path, DATA)
        assert data is not None
        for frame in range(3):
            for first, last in ((0, 1), (0, 180), (60, 130), (100, 101), (239, 245), (244, 245), (62, 245)):
                for columns in ((), (slice(0, 113),), (slice(20, 60),), (slice(100, 300),)):
                    place = frame, slice(first, last), *columns
                    rows = rows_unpacked(data, place)
                    alone += rows is not None
                    for found in (files.values(data, place), *([] if rows is None else [rows])):
                        assert found.dtype == values.dtype
                        np.testing.assert_array_equal(found, values[place])
    assert alone >= 3 * 4 * 3


def test_other_places_and_damaged_chunks_are_not_unpacked_by_rows(tmp_path: Path) -> None:
    values = np.random.default_rng(3).integers(0, 100, (2, 2, 120, 100)).astype("u2")
    path = write(tmp_path / "run.h5", values, (1, 1, 120, 100), hdf5plugin.Bitshuffle(nelems=256))
    wanted = slice(40, 80), slice(10, 90)
    with h5py.File(path) as file:
        data = file[DATA]
        np.testing.assert_array_equal(rows_unpacked(data, (1, 0, *wanted)), values[1, 0][wanted])
        others: list[Any] = [
            (),
            (1,),
            (1, 0),
            (1, 0, 5),
            (slice(0, 2), 0, *wanted),
            (1, slice(0, 2), *wanted),
        ]
        others += [(2, 0, *wanted), (1, 0, slice(0, 119)), (1, 0, slice(5, 5)), (1, 0, slice(0, 60, 2))]
        assert all(rows_unpacked(data, place) is None for place in others)
    whole = write(tmp_path / "whole.h5", values[0], (2, 120, 100), hdf5plugin.Bitshuffle())
    with h5py.File(whole) as file:
        assert rows_unpacked(file[DATA], (1, *wanted)) is None
    # Also where the rows asked for would be there.
    for number, change in enumerate((long_block, cut, lambda chunk: chunk[:-9])):
        own = write(tmp_path / f"{number}.h5", values[0], (1, 120, 100), hdf5plugin.Bitshuffle(nelems=256))
        damage(own, 1, change)
        with h5py.File(own) as file:
            np.testing.assert_array_equal(rows_unpacked(file[DATA], (0, *wanted)), values[0, 0][wanted])
            assert rows_unpacked(file[DATA], (1, *wanted)) is None


def test_a_script_that_guards_nothing_reads_frames_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "run.h5", FRAMES, (1, *SHAPE), FILTERS["lz4"])
    (tmp_path / "script.py").write_text(
        "from sfxjax.data.frames import ReadOptions\n"
        "from sfxjax.data.read import FrameReader\n"
        "with FrameReader(ReadOptions()) as reader:\n"
        f"    (stack,) = reader.stacks({str(path)!r})\n"
        "    print(stack.by_plugin, reader.original(stack, 1).sum())\n"
    )
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == (f"True {FRAMES[1].sum()}\n", "")


def virtual(path: Path, source: str, name: str = DATA) -> Path:
    layout = h5py.VirtualLayout(FRAMES.shape, FRAMES.dtype)
    layout[:] = h5py.VirtualSource(source, name, FRAMES.shape)
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset(DATA, layout)
    return path


@pytest.mark.parametrize("kind", ["itself", "its own file", "another and back", "a link back"])
def test_a_virtual_data_set_of_itself_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    if kind == "a link back":
        virtual(path, "other.h5", "/x")
        with h5py.File(tmp_path / "other.h5", "w") as file:
            file["/x"] = h5py.ExternalLink("run.h5", DATA)
    elif kind == "another and back":
        virtual(tmp_path / "other.h5", "run.h5")
        virtual(path, "other.h5")
    else:
        virtual(path, "run.h5" if kind == "itself" else ".")
    with FrameReader(ReadOptions()) as reader, pytest.raises(UserError, match="virtual data set of itself"):
        reader.stacks(str(path))


def test_virtual_data_sets_in_each_other_have_a_bound(tmp_path: Path) -> None:
    write(tmp_path / "0.h5", FRAMES, (1, *SHAPE), FILTERS["bitshuffle"])
    for number in range(1, 41):
        virtual(tmp_path / f"{number}.h5", f"{number - 1}.h5")
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(tmp_path / "3.h5"))
        assert stack.by_plugin
        np.testing.assert_array_equal(reader.original(stack, 7), FRAMES[7])
    with (
        FrameReader(ReadOptions()) as reader,
        pytest.raises(UserError, match="virtual data sets in each other"),
    ):
        reader.stacks(str(tmp_path / "40.h5"))
