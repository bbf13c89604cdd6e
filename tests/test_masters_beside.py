"""A part that is read alone: a master beside it that cannot be used is named; what a link leads to is called by its name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import screen_cases as cases

from sfxjax.data.frames import FrameStack, ReadOptions
from sfxjax.data.links import MOST_NAMES, masters_of
from sfxjax.data.read import FrameReader
from sfxjax.errors import UserError

FRAMES = cases.frames(3, 96)
AT = "/entry/data/data"


def write(path: Path, **sets: object) -> Path:
    with h5py.File(path, "w") as file:
        for name, value in {AT: FRAMES, **sets}.items():
            file[name] = value
    return path


def stacks(path: Path) -> list[FrameStack]:
    with FrameReader(ReadOptions()) as reader:
        return reader.stacks(str(path))


def cut(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = np.zeros(2000)
    path.write_bytes(path.read_bytes()[:3000])


def linkless(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["/entry/instrument/detector/pixel_mask"] = np.ones((96, 96), "u4")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (cut, "cut short"),
        (Path.touch, "the file is empty"),
        (lambda path: path.symlink_to("gone.h5"), "a link to nothing"),
        (Path.mkdir, "a folder"),
        (os.mkfifo, "a pipe or a device"),
        (linkless, "does not link to x_"),
    ],
)
@pytest.mark.parametrize(
    ("part", "master"),
    [("x_000001.h5", "x.nxs"), ("x_data_000001.h5", "x_master.h5"), ("x_000001.h5", "x_master.h5")],
)
def test_a_master_that_cannot_be_used_is_named(
    make: Callable[[Path], None], words: str, part: str, master: str, tmp_path: Path
) -> None:
    path = write(tmp_path / part)
    make(tmp_path / master)
    # That of another run is no matter.
    Path.touch(tmp_path / "y_master.h5")
    (stack,) = stacks(path)
    (note,) = stack.notes
    assert f"{master}: by its name the master of {part}, but its mask and limits are not used" in note
    assert words in note and stack.mask_datasets == ()


def test_the_master_of_its_own_name_is_found_among_any_number(tmp_path: Path) -> None:
    path = write(tmp_path / "x_000001.h5")
    with h5py.File(tmp_path / "x_master.h5", "w") as file:
        file["/entry/data/data_000001"] = h5py.ExternalLink("x_000001.h5", AT)
    for number in range(MOST_NAMES):
        Path.touch(tmp_path / f"{number}_master.h5")
    assert masters_of(path) == [tmp_path / "x_master.h5"] and stacks(path)[0].notes == ()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (os.mkfifo, "is a pipe or a device"),
        (Path.mkdir, "is a folder"),
        (lambda path: path.symlink_to("gone.h5"), "is a link to nothing"),
        (lambda path: path, "is missing"),
    ],
)
def test_what_a_link_leads_to_is_called_by_name(
    make: Callable[[Path], object], words: str, tmp_path: Path
) -> None:
    write(tmp_path / "there.h5")
    make(tmp_path / "target.h5")
    links = {
        f"/entry/data/data_00000{number}": h5py.ExternalLink(name, AT)
        for number, name in enumerate(("there.h5", "target.h5", "there.h5"), 1)
    }
    with h5py.File(tmp_path / "x_master.h5", "w") as file:
        for name, link in links.items():
            file[name] = link
        file["/entry/instrument/detector/pixel_mask"] = h5py.ExternalLink("target.h5", "/mask")
    _, lost, _ = found = stacks(tmp_path / "x_master.h5")
    assert words in lost.unreadable
    assert any("pixel_mask" in note and words in note for stack in found for note in stack.notes)
    layout = h5py.VirtualLayout((6, 96, 96), FRAMES.dtype)
    for place, name in enumerate(("there.h5", "target.h5")):
        layout[3 * place : 3 * place + 3] = h5py.VirtualSource(name, AT, FRAMES.shape)
    with h5py.File(tmp_path / "run.nxs", "w") as file:
        file.create_virtual_dataset(AT, layout)
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(tmp_path / "run.nxs"))
        np.testing.assert_array_equal(reader.original(stack, 2), FRAMES[2])
        with pytest.raises(UserError, match=f"the file target.h5 with this frame {words}"):
            reader.original(stack, 3)
