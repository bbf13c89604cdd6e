"""Where beamlines keep frames and masks; links of runs that were moved; folders with frames in several files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from sfxjax.crop import padded_crop
from sfxjax.data.frames import ReadOptions
from sfxjax.data.geometry_file import read_geometry
from sfxjax.data.hits_file import OWN
from sfxjax.data.inputs import find_files
from sfxjax.data.masks import load_mask
from sfxjax.data.read import FrameReader
from sfxjax.errors import UserError

SHAPE = (80, 100)
FRAMES = np.random.default_rng(0).integers(1, 90, (6, *SHAPE)).astype(np.int32)
BAD = np.zeros(SHAPE, np.uint8)
BAD[5:9, 20:40] = 1


def write(path: Path, **sets: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, value in sets.items():
            file[name] = value
    return path


def mask_of(path: Path, **options: Any) -> tuple[Any, Any]:
    """Return the first stack of a file, and which of its pixels are left out in all frames."""
    with FrameReader(ReadOptions(**options)) as reader:
        stacks = reader.stacks(str(path))
        assert sum(stack.frames for stack in stacks) == len(FRAMES)
        stored = [reader.original(stack, number) for stack in stacks for number in range(stack.frames)]
        np.testing.assert_array_equal(np.stack(stored), FRAMES)
        return stacks[0], reader.whole_mask(stacks[0])


@pytest.mark.parametrize(
    ("frames", "mask"),
    [
        ("/entry/data/data", "/entry/instrument/ELE_D0/pixel_mask"),
        ("/entry/data/data_f000000000000", "/entry/instrument/detector/pixel_mask"),
        ("/entry/instrument/detector/data", "/entry/instrument/detector/pixel_mask"),
        ("/data/JF07T32V02/data", "/data/JF07T32V02/meta/pixel_mask"),
        ("/entry_0000/instrument/jf4m/data", "/entry_0000/instrument/jf4m/detector_information/pixel_mask"),
        ("/R0017/scan_dat/raymx_data", "/R0017/scan_dat/pixel_mask"),
    ],
)
def test_frames_and_masks_of_more_beamlines_are_found(frames: str, mask: str, tmp_path: Path) -> None:
    path = write(tmp_path / "run.h5", **{frames: FRAMES, mask: BAD})
    for options in ({}, {"dataset": frames}):
        stack, good = mask_of(path, **options)
        assert stack.dataset == frames and stack.mask_datasets == (mask,)
        np.testing.assert_array_equal(good, BAD == 0)


def test_one_image_in_each_of_many_groups_is_sacla_s(tmp_path: Path) -> None:
    sets = {f"/tag-{number}/data": frame for number, frame in enumerate(FRAMES, 100)}
    path = write(tmp_path / "sacla.h5", **sets, **{"/metadata/pixelmask": BAD})
    stack, good = mask_of(path)
    assert stack.event(0) == "tag-100//" and any("no known layout" in note for note in stack.notes)
    np.testing.assert_array_equal(good, BAD == 0)


def test_two_stacks_are_asked_about_and_those_behind_links_are_listed(tmp_path: Path) -> None:
    write(tmp_path / "far.h5", **{"/x": FRAMES})
    path = write(tmp_path / "run.h5", **{"/a": FRAMES, "/b/c": h5py.ExternalLink("far.h5", "/x")})
    with FrameReader(ReadOptions()) as reader, pytest.raises(UserError, match=r"/a 6x80x100, /b/c 6x80x100"):
        reader.stacks(str(path))


@pytest.mark.parametrize("by", ["link", "virtual data set"])
@pytest.mark.parametrize("at", ["/entry/data/data", "/entry/instrument/detector/data"])
def test_a_part_that_is_read_alone_has_the_mask_of_its_master(by: str, at: str, tmp_path: Path) -> None:
    part = write(tmp_path / "run_000001.h5", **{at: FRAMES})
    master = tmp_path / "run_master.h5"
    beside = write(tmp_path / "esrf.h5", **{"/1.1/measurement/eiger": h5py.ExternalLink(part.name, at)})
    # Of another run, whose mask is none of these frames.
    write(tmp_path / "run2_master.h5", **{"/entry/instrument/detector/pixel_mask": BAD.T})
    assert mask_of(part)[1] is None
    with h5py.File(master, "w") as file:
        file["/entry/instrument/detector/pixel_mask"] = BAD
        file["/entry/instrument/detector/bit_depth_readout"] = 16
        if by == "link":
            file["/entry/data/data_000001"] = h5py.ExternalLink(part.name, at)
        else:
            layout = h5py.VirtualLayout(FRAMES.shape, FRAMES.dtype)
            layout[:] = h5py.VirtualSource(part.name, at, FRAMES.shape)
            file.create_virtual_dataset("/entry/data/data", layout)
    for path in (part, beside):
        stack, good = mask_of(path)
        assert (
            stack.mask_datasets == (f"{master}:/entry/instrument/detector/pixel_mask",) and 16 in stack.depths
        )
        np.testing.assert_array_equal(good, BAD == 0)
    # A mask that the user names there takes the place of what was found.
    half = np.arange(BAD.size).reshape(BAD.shape) % 2
    with h5py.File(master, "a") as file:
        file["/own"] = half
    np.testing.assert_array_equal(mask_of(part, mask=f"{master}:/own", mask_good=1)[1], half == 1)


def test_a_pipe_is_refused_or_passed_over_where_a_file_was_expected(tmp_path: Path) -> None:
    part, pipe = write(tmp_path / "run_000001.h5", **{"/entry/data/data": FRAMES}), tmp_path / "run_master.h5"
    os.mkfifo(pipe)
    assert mask_of(part)[1] is None
    assert find_files([str(tmp_path)]).files == (str(part),)
    for read in (read_geometry, load_mask):
        with pytest.raises(UserError, match="a pipe or a device"):
            read(str(pipe))
    os.mkfifo(tmp_path / "frames.lst")
    with pytest.raises(UserError, match="a pipe or a device"):
        find_files([str(tmp_path / "frames.lst")])


def test_the_mask_in_the_file_that_a_link_leads_to_is_found(tmp_path: Path) -> None:
    place = "/entry_0000/instrument/eiger"
    write(tmp_path / "lima.h5", **{f"{place}/data": FRAMES, f"{place}/detector_information/pixel_mask": BAD})
    path = write(
        tmp_path / "scan.h5", **{"/1.1/measurement/eiger": h5py.ExternalLink("lima.h5", f"{place}/data")}
    )
    stack, good = mask_of(path)
    assert stack.mask_datasets == (f"{tmp_path}/lima.h5:{place}/detector_information/pixel_mask",)
    np.testing.assert_array_equal(good, BAD == 0)


def test_a_mask_of_no_known_meaning_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "run.h5", **{"/entry/data/data": FRAMES, "/other/badmask": BAD})
    stack, good = mask_of(path)
    assert good is None
    assert any(
        "/other/badmask of shape 80x100 is not used" in note and "--mask-good" in note for note in stack.notes
    )
    given = f"{path}:/other/badmask"
    np.testing.assert_array_equal(mask_of(path, mask=given, mask_good=0)[1], BAD == 0)


def test_a_mask_of_the_other_polarity_stops_at_once_with_the_question(tmp_path: Path) -> None:
    path = write(
        tmp_path / "run.h5", **{"/entry/data/data": FRAMES, "/entry/instrument/detector/pixel_mask": 1 - BAD}
    )
    with pytest.raises(UserError, match=r"leaves 1 % of the pixels if 0 is good; give --mask-good 1"):
        mask_of(path)
    np.testing.assert_array_equal(mask_of(path, mask_good=1)[1], BAD == 0)


def test_bits_that_are_no_faults_in_masks_of_each_frame(tmp_path: Path) -> None:
    masks = np.zeros((6, *SHAPE), np.uint16)
    masks[:, 3:6, 3:6], masks[:, 10, 10], masks[:, 20] = 8192, 8, 16384 | 2048 | 256
    path = write(tmp_path / "run.cxi", **{"/entry_1/data_1/data": FRAMES, "/entry_1/data_1/mask": masks})
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(path))
        np.testing.assert_array_equal(reader.whole(stack, 0).mask, masks[0] != 8)
        (read,) = reader.read(stack, [0], np.dtype(np.int32))
    covered = padded_crop(np.ones(SHAPE, bool), np.dtype(bool))
    assert read.mask is not None
    np.testing.assert_array_equal(read.mask & covered, padded_crop(masks[0] != 8, np.dtype(bool)))
    # EuXFEL has other bits: all are faults.
    with h5py.File(path, "a") as file:
        file["/entry_1/trainId"] = np.arange(6)
    with FrameReader(ReadOptions()) as reader:
        np.testing.assert_array_equal(reader.whole(reader.stacks(str(path))[0], 0).mask, masks[0] == 0)


def test_frames_that_the_file_calls_not_good_have_a_reason(tmp_path: Path) -> None:
    place = "/data/JF07T32V02"
    path = write(
        tmp_path / "run.h5",
        **{f"{place}/data": FRAMES, f"{place}/is_good_frame": np.array([1, 1, 0, 1, 1, 0], np.int8)[:, None]},
    )
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(path))
        reasons = [read.reason for read in reader.read(stack, range(6), np.dtype(np.int32))]
    assert [bool(reason) for reason in reasons] == [False, False, True, False, False, True]
    assert any("2 of 6 frames are not good" in note for note in stack.notes)


@pytest.mark.parametrize("virtual", [False, True])
@pytest.mark.parametrize("kind", ["absolute", "symlink"])
def test_frames_of_moved_runs_are_found_beside_the_real_file(
    virtual: bool, kind: str, tmp_path: Path
) -> None:
    raw, processed = tmp_path / "raw", tmp_path / "processed"
    raw.mkdir()
    processed.mkdir()
    write(raw / "x_data_000001.h5", **{"/entry/data/data": FRAMES})
    name = "/gone/elsewhere/x_data_000001.h5" if kind == "absolute" else "x_data_000001.h5"
    with h5py.File(raw / "x_master.h5", "w") as file:
        if virtual:
            layout = h5py.VirtualLayout(FRAMES.shape, "i4")
            layout[:] = h5py.VirtualSource(name, "/entry/data/data", FRAMES.shape)
            file.create_virtual_dataset("/entry/data/data", layout, fillvalue=0)
        else:
            file["/entry/data/data_000001"] = h5py.ExternalLink(name, "/entry/data/data")
    path = raw / "x_master.h5"
    if kind == "symlink":
        path = processed / "x_master.h5"
        path.symlink_to(raw / "x_master.h5")
    mask_of(path)
    # Another folder is still not the run's.
    (raw / "x_data_000001.h5").rename(tmp_path / "x_data_000001.h5")
    with FrameReader(ReadOptions()) as reader, pytest.raises(UserError, match="missing"):
        (stack,) = reader.stacks(str(path))
        reader.original(stack, 0)


def test_a_virtual_source_without_the_data_set_is_missing(tmp_path: Path) -> None:
    write(tmp_path / "part.h5", **{"/other": FRAMES})
    layout = h5py.VirtualLayout(FRAMES.shape, "i4")
    layout[:] = h5py.VirtualSource("part.h5", "/entry/data/data", FRAMES.shape)
    with h5py.File(tmp_path / "x.nxs", "w") as file:
        file.create_virtual_dataset("/entry/data/data", layout, fillvalue=0)
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(tmp_path / "x.nxs"))
        assert stack.missing == (
            (0, 5, "the file part.h5 with this frame is damaged, or without /entry/data/data"),
        )


def test_missing_parts_and_masks_behind_links_are_noted(tmp_path: Path) -> None:
    write(tmp_path / "x_data_000002.h5", **{"/entry/data/data": FRAMES})
    links = {
        f"/entry/data/data_{k:06d}": h5py.ExternalLink(f"x_data_{k:06d}.h5", "/entry/data/data")
        for k in (1, 2, 3)
    }
    meta = {"/entry/instrument/detector/pixel_mask": h5py.ExternalLink("x_meta.h5", "/mask")}
    with FrameReader(ReadOptions()) as reader:
        lost, stack = reader.stacks(str(write(tmp_path / "x_master.h5", **links, **meta)))
        assert reader.static_mask(stack) is not None  # The padding alone.
    # All parts but the last have as many frames.
    assert "x_data_000001.h5, which is missing" in lost.unreadable and lost.frames == len(FRAMES)
    notes = (*lost.notes, *stack.notes)
    for words in ("x_data_000003.h5, which is missing", "pixel_mask is not used"):
        assert any(words in note for note in notes), notes


def test_a_file_that_is_being_written_names_follow(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    # A writer that is killed leaves its mark, as one at work has it.
    killed = f"import h5py, os; f = h5py.File({str(path)!r}, 'w', libver='latest'); f['/entry/data/data'] = [[1]]; "
    subprocess.run([sys.executable, "-c", killed + "f.swmr_mode = True; f.flush(); os._exit(0)"], check=True)
    with FrameReader(ReadOptions()) as reader, pytest.raises(UserError, match="--follow"):
        reader.stacks(str(path))


def test_in_a_folder_every_frame_counts_once(tmp_path: Path) -> None:
    for part in (1, 2):
        write(tmp_path / f"x_1_{part:06d}.h5", **{"/entry/data/data": FRAMES[3 * part - 3 : 3 * part]})
    write(tmp_path / "x_1_meta.h5", mask=BAD)
    for name in ("x_1_master.h5", "x_1.nxs"):
        with h5py.File(tmp_path / name, "w") as file:
            if name.endswith("nxs"):
                layout = h5py.VirtualLayout(FRAMES.shape, "i4")
                for part in (0, 1):
                    source = h5py.VirtualSource(f"x_1_{part + 1:06d}.h5", "/entry/data/data", (3, *SHAPE))
                    layout[3 * part : 3 * part + 3] = source
                file.create_virtual_dataset("/entry/data/data", layout)
            for part in (1, 2) if "master" in name else ():
                file[f"/entry/data/data_{part:06d}"] = h5py.ExternalLink(
                    f"x_1_{part:06d}.h5", "/entry/data/data"
                )
            file["/entry/instrument/detector/pixel_mask"] = h5py.ExternalLink("x_1_meta.h5", "mask")
    write(tmp_path / "y.h5", **{"/entry/data/data": FRAMES})
    write(tmp_path / "hits.cxi", **{"/entry_1/data_1/data": FRAMES, f"{OWN}/index": np.arange(6)})
    write(tmp_path / "class_means.h5", **{"/HIT/mean": FRAMES[0]})
    for name in ("old.img", "frame0001", "notes.txt"):
        (tmp_path / name).touch()
    for given in (str(tmp_path), str(tmp_path / "*.[hnc]*")):
        inputs = find_files([given])
        assert inputs.files == (str(tmp_path / "x_1_master.h5"), str(tmp_path / "y.h5"))
        (note,) = [note for note in inputs.notes if "left out 6 files" in note]
        for words in ("x_1.nxs (its frames are those of x_1_master.h5)", "hits.cxi (written by a screening)"):
            assert words in note
    assert any(
        "1 .img" in note and "1 without a suffix" in note for note in find_files([str(tmp_path)]).notes
    )
    # What is named itself is taken at its name.
    assert find_files([str(tmp_path / "x_1_000001.h5")]).files == (str(tmp_path / "x_1_000001.h5"),)


def test_a_list_of_files_is_read_and_one_of_frames_refused(tmp_path: Path) -> None:
    write(tmp_path / "y.h5", **{"/entry/data/data": FRAMES})
    (tmp_path / "files.lst").write_text(f"y.h5\n\n{tmp_path}/y.h5 //\n")
    assert find_files([str(tmp_path / "files.lst")]).files == (str(tmp_path / "y.h5"),)
    (tmp_path / "frames.lst").write_text("y.h5 //3\n")
    with pytest.raises(UserError, match="names single frames"):
        find_files([str(tmp_path / "frames.lst")])


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_every_image_of_a_tiff_stack_is_a_frame(dtype: Any, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pages = [image.fromarray(frame.astype(dtype)) for frame in FRAMES]
    for big in (False, True):
        pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:], big_tiff=big)
        stack, _ = mask_of(tmp_path / "stack.tif")
        assert stack.event(3) == "//3"
