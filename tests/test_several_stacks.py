"""Files with several stacks of frames: whose masks are whose, and that none is passed over without a word."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import screen_cases as cases

from sfxjax.crop import padded_crop
from sfxjax.data.frames import FrameStack, ReadOptions
from sfxjax.data.read import FrameReader
from sfxjax.screen.spots import main as count_spots

SHAPE = (80, 100)
FRAMES = np.random.default_rng(0).integers(1, 90, (7, *SHAPE)).astype(np.uint16)
# Of each frame others are bad.
MASKS = (np.arange(FRAMES.size).reshape(FRAMES.shape) // 13 % 11 == 0).astype(np.uint16)
LINKS = {
    f"/entry/data/data_00000{part}": h5py.ExternalLink(f"run_data_00000{part}.h5", "/entry/data/data")
    for part in (1, 2)
}
MASK = "/entry/instrument/detector/pixel_mask"


def write(path: Path, sets: dict[str, Any]) -> Path:
    with h5py.File(path, "w") as file:
        for name, value in sets.items():
            file[name] = value
    return path


def write_parts(folder: Path) -> None:
    for part, frames in ((1, FRAMES[:4]), (2, FRAMES[4:])):
        write(folder / f"run_data_00000{part}.h5", {"/entry/data/data": frames})


def check_masks(path: Path, masks: np.ndarray, **options: Any) -> list[FrameStack]:
    """Compare the masks of all frames of a file, whole and of crops; 0 is good."""
    with FrameReader(ReadOptions(**options)) as reader:
        stacks = reader.stacks(str(path))
        places = [(stack, number) for stack in stacks for number in range(stack.frames)]
        assert len(places) == len(masks)
        for (stack, number), bad in zip(places, masks, strict=True):
            np.testing.assert_array_equal(reader.whole(stack, number).mask, bad == 0)
            (read,) = reader.read(stack, [number], np.dtype(np.uint16))
            static = reader.static_mask(stack)
            good = np.ones((724, 724), bool) if read.mask is None else read.mask
            covered = padded_crop(np.ones(SHAPE, bool), np.dtype(bool))
            expected = padded_crop(bad == 0, np.dtype(bool)) & covered
            np.testing.assert_array_equal(good & (True if static is None else static), expected)
    return stacks


def test_a_mask_that_does_not_fit_the_frames_of_another_part_is_named(tmp_path: Path) -> None:
    write_parts(tmp_path)
    (tmp_path / "run_data_000002.h5").unlink()
    write(tmp_path / "run_data_000002.h5", {"/entry/data/data": FRAMES[4:, :70]})
    path = write(tmp_path / "run_master.h5", LINKS | {MASK: MASKS[0]})
    with FrameReader(ReadOptions()) as reader:
        first, second = reader.stacks(str(path))
        assert (first.mask_datasets, second.mask_datasets) == ((MASK,), ())
        assert first.notes + second.notes == (
            f"{path}: the mask {MASK} is not used for /entry/data/data_000002: the frames have 70x100 pixels, the mask is for "
            "80x100",
        )


def test_a_mask_of_each_frame_of_several_parts_is_that_of_its_frame(tmp_path: Path) -> None:
    write_parts(tmp_path)
    master = write(tmp_path / "run_master.h5", LINKS | {MASK: MASKS})
    for stack in check_masks(master, MASKS):
        assert stack.frame_masks == MASK and not any("not used" in note for note in stack.notes)
    # Alone, which of the masks are those of the part is not said.
    with FrameReader(ReadOptions()) as reader:
        (part,) = reader.stacks(str(tmp_path / "run_data_000002.h5"))
        assert part.frame_masks == "" and reader.whole(part, 0).mask is None
    assert any("is for 7 frames, and which are these 3 is not said" in note for note in part.notes)


def test_a_mask_of_each_frame_that_a_geometry_names_is_that_of_its_frame(tmp_path: Path) -> None:
    write_parts(tmp_path)
    master = write(tmp_path / "run_master.h5", LINKS | {"/own": MASKS})
    geometry = tmp_path / "run.geom"
    geometry.write_text(
        "clen = 0.1\nres = 10000\nphoton_energy = 9000\ndata = /entry/data/data_%\nmask = /own\nmask_good = 0x0\nmask_bad = 0x1\n"
        "dim0 = %\ndim1 = ss\ndim2 = fs\np/min_fs = 0\np/max_fs = 99\np/min_ss = 0\np/max_ss = 79\n"
        "p/corner_x = -50\np/corner_y = -40\np/fs = +1.0x\np/ss = +1.0y\n"
    )
    with FrameReader(ReadOptions(geometry=str(geometry), panels_apart=True)) as reader:
        stacks = reader.stacks(str(master))
        found = [reader.whole(stack, number).mask for stack in stacks for number in range(stack.frames)]
    np.testing.assert_array_equal(np.stack(found), MASKS == 0)


@pytest.mark.parametrize("each", ["a mask of each frame", "a mask of all frames"])
@pytest.mark.parametrize(
    "names", ["/entry_%/data_1/data", "/run_%/data", "/entry_%/instrument_1/detector_1/data"]
)
def test_each_entry_has_its_own_mask(each: str, names: str, tmp_path: Path) -> None:
    group = names.rpartition("/")[0]
    mask = f"{group}/{'pixel_mask' if 'run' in names else 'mask'}"
    sets: dict[str, Any] = {}
    expected = MASKS.copy()
    for entry, part in (("1", slice(0, 4)), ("2", slice(4, 7))):
        sets[names.replace("%", entry)] = FRAMES[part]
        if each == "a mask of all frames":
            expected[part] = MASKS[part.start]
        sets[mask.replace("%", entry)] = MASKS[part] if each == "a mask of each frame" else MASKS[part.start]
    stacks = check_masks(write(tmp_path / "run.h5", sets), expected, dataset=names)
    assert not [note for stack in stacks for note in stack.notes if "not used" in note]


@pytest.mark.parametrize(
    ("read", "others", "option", "count"),
    [
        ("/entry_1/data_1/data", {"/entry_2/data_1/data": FRAMES}, "--dataset '/entry_%/data_1/data'", 14),
        ("/entry_1/data_1/data", {"/entry_1/data_2/data": FRAMES}, "--dataset '/entry_1/data_%/data'", 14),
        (
            "/entry_1/data_1/data",
            {"/entry_1/data_2/data": FRAMES[:5, :70]},
            "--dataset '/entry_1/data_2/data'",
            5,
        ),
        (
            "/entry/data/data",
            {"/entry/data/data_000001": FRAMES[:5]},
            "--dataset '/entry/data/data_000001'",
            5,
        ),
        (
            "/entry/data/data",
            {"/entry/data/data_000001": FRAMES[:5], "/entry/data/data_000002": FRAMES[:4]},
            "--dataset '/entry/data/data_%'",
            9,
        ),
        ("/entry/data/data", {"/entry_2/data/data": FRAMES[:5]}, "--dataset '/entry_2/data/data'", 5),
    ],
)
def test_stacks_that_are_not_read_are_named_with_the_option_that_reads_them(
    read: str, others: dict[str, Any], option: str, count: int, tmp_path: Path
) -> None:
    path = write(tmp_path / "run.h5", {read: FRAMES, **others})
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(path))
        (note,) = stack.notes
    assert stack.dataset == read and all(name in note for name in others) and option in note
    with FrameReader(ReadOptions(dataset=shlex.split(option)[1])) as reader:
        assert sum(stack.frames for stack in reader.stacks(str(path))) == count


def test_the_same_frames_by_other_names_need_no_line(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout(FRAMES.shape, FRAMES.dtype)
    layout[:4] = h5py.VirtualSource("run_data_000001.h5", "/entry/data/data", (4, *SHAPE))
    layout[4:] = h5py.VirtualSource("run_data_000002.h5", "/entry/data/data", (3, *SHAPE))
    write_parts(tmp_path)
    master = write(tmp_path / "run_master.h5", LINKS)
    with h5py.File(master, "a") as file:
        file.create_virtual_dataset("/entry/data/data", layout)
        file["/entry/instrument/detector/data"] = h5py.SoftLink("/entry/data/data")
    cheetah = write(
        tmp_path / "run.cxi",
        {
            "/entry_1/data_1/data": FRAMES,
            "/entry_1/instrument_1/detector_1/data": h5py.SoftLink("/entry_1/data_1/data"),
            "/entry_1/image_1/data": FRAMES[:, None],
            "/entry_1/data_1/mask": MASKS,
        },
    )
    for path in (master, cheetah):
        with FrameReader(ReadOptions(panels_apart=True)) as reader:
            assert sum(stack.frames for stack in reader.stacks(str(path))) == 7
            assert not [note for stack in reader.stacks(str(path)) for note in stack.notes]


def test_a_gap_in_the_numbers_of_parts_is_in_terminal_report_and_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_parts(tmp_path)
    links = [h5py.ExternalLink(f"run_data_00000{part}.h5", "/entry/data/data") for part in (1, 2)]
    master = write(
        tmp_path / "run_master.h5", {"/entry/data/data_000001": links[0], "/entry/data/data_000003": links[1]}
    )
    assert count_spots([str(master), "--out", str(tmp_path / "out")]) == 0
    words = "it lacks the parts data_000002 between others"
    assert words in capsys.readouterr().out and len(cases.rows(tmp_path / "out")) == 7
    assert any(words in note for note in json.loads((tmp_path / "out/summary.json").read_text())["notes"])
    assert words in (tmp_path / "out/report.html").read_text()
    # Those of SLS are numbered by their first frames.
    links = {
        f"/entry/data/data_f00000000{first}": link
        for first, link in zip(("0000", "0004"), links, strict=True)
    }
    with FrameReader(ReadOptions()) as reader:
        assert not [note for stack in reader.stacks(str(write(master, links))) for note in stack.notes]
