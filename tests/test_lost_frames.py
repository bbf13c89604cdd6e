"""No frame without a row and a status: parts of files that are missing, damaged or cut short cost their own frames alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import screen_cases as cases

from sfxjax.data.frames import ReadOptions
from sfxjax.data.read import FrameReader
from sfxjax.errors import UserError

FRAMES = cases.frames(4, 96)


def screened(run: Path, *options: object) -> tuple[int, list[tuple[str, str, str]]]:
    """Count spots; returns the exit status, and (event, label, reason) of every row."""
    out = run.parent / "out"
    status = cases.screen(run, "--out", out, "--no-report", "--overwrite", *options)
    return status, [(row["event"], row["label"], row["reason"]) for row in cases.rows(out)]


def master(folder: Path, parts: int, **images: int) -> Path:
    """Write a DECTRIS master of parts with four frames each, which may say how many images there are."""
    with h5py.File(folder / "x_master.h5", "w") as file:
        for number in range(1, parts + 1):
            name = f"x_data_{number:06d}.h5"
            cases_file = folder / name
            with h5py.File(cases_file, "w") as part:
                part["/entry/data/data"] = FRAMES
            file[f"/entry/data/data_{number:06d}"] = h5py.ExternalLink(name, "/entry/data/data")
        for key, value in images.items():
            file[f"/entry/instrument/detector/detectorSpecific/{key}"] = value
    return folder / "x_master.h5"


def empty(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["/entry/data/other"] = 1


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5000])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (Path.unlink, "is missing"),
        (empty, "no data set"),
        (cut, "cut short"),
        (lambda p: p.write_bytes(b""), ""),
    ],
)
def test_a_part_of_a_master_that_cannot_be_read_has_its_rows(damage: Any, words: str, tmp_path: Path) -> None:
    run = master(tmp_path, 3)
    damage(tmp_path / "x_data_000002.h5")
    status, rows = screened(run)
    assert status == 1
    assert [label == "ERROR" for _, label, _ in rows] == 4 * [False] + 4 * [True] + 4 * [False]
    assert [event for event, *_ in rows[3:9]] == [
        "data_000001//3",
        *(f"data_000002//{k}" for k in range(4)),
        "data_000003//0",
    ]
    assert all(words in reason and reason for _, _, reason in rows[4:8])


def test_parts_at_the_end_count_where_the_master_says_that_there_are_more_images(tmp_path: Path) -> None:
    run = master(tmp_path, 3, nimages=5, ntrigger=2)
    (tmp_path / "x_data_000003.h5").unlink()
    status, rows = screened(run)
    assert status == 1 and len(rows) == 10 and [row[1] for row in rows[8:]] == ["ERROR", "ERROR"]
    # The writer had room for a third file, and eight images were taken.
    (tmp_path / "b").mkdir()
    run = master(tmp_path / "b", 3, nimages=8)
    (tmp_path / "b" / "x_data_000003.h5").unlink()
    status, rows = screened(run)
    assert status == 0 and len(rows) == 8


@pytest.mark.parametrize("count", ["another detector", "a .nxs of links", "a virtual .nxs", "nobody"])
def test_a_part_missing_at_the_end_counts_where_any_master_knows_of_it(count: str, tmp_path: Path) -> None:
    run = master(tmp_path, 3)
    (tmp_path / "x_data_000003.h5").unlink()
    if count == "another detector":
        with h5py.File(run, "a") as file:
            file["/entry/instrument/ELE_D0/detectorSpecific/nimages"] = 12
    elif count == "a .nxs of links":
        (tmp_path / "nxs").mkdir()
        master(tmp_path / "nxs", 3, nimages=12).rename(tmp_path / "x.nxs")
    elif count == "a virtual .nxs":
        layout = h5py.VirtualLayout((12, 96, 96), FRAMES.dtype)
        for part in range(3):
            layout[4 * part : 4 * part + 4] = h5py.VirtualSource(
                f"x_data_{part + 1:06d}.h5", "/entry/data/data", FRAMES.shape
            )
        with h5py.File(tmp_path / "x.nxs", "w") as file:
            file.create_virtual_dataset("/entry/data/data", layout)
    status, rows = screened(run)
    assert (status, len(rows)) == ((0, 8) if count == "nobody" else (1, 12))
    assert all(label == "ERROR" and "is missing" in reason for _, label, reason in rows[8:])


def test_images_that_are_in_no_part_are_noted(tmp_path: Path) -> None:
    with FrameReader(ReadOptions()) as reader:
        stacks = reader.stacks(str(master(tmp_path, 2, nimages=6, ntrigger=2)))
    assert sum(stack.frames for stack in stacks) == 8
    assert "12 images, of which 4 are in no part" in stacks[0].notes[-1]


def test_a_source_of_a_virtual_set_that_is_shorter_than_what_is_taken_loses_those_frames(
    tmp_path: Path,
) -> None:
    layout = h5py.VirtualLayout((8, 96, 96), FRAMES.dtype)
    for number, length in ((0, 2), (1, 4)):
        with h5py.File(tmp_path / f"part{number}.h5", "w") as file:
            file["/data"] = FRAMES[:length]
        # Every second frame of the set.
        layout[number::2] = h5py.VirtualSource(f"part{number}.h5", "/data", FRAMES.shape)
    with h5py.File(tmp_path / "run.nxs", "w") as file:
        file.create_virtual_dataset("/entry/data/data", layout)
    status, rows = screened(tmp_path / "run.nxs")
    assert status == 1 and len(rows) == 8
    assert [number for number, row in enumerate(rows) if row[1] == "ERROR"] == [4, 6]
    assert "never written" in rows[4][2]


@pytest.mark.parametrize("kind", ["no images", "a link to nowhere", "other axes", "a damaged object"])
def test_a_group_of_cxidb_76_without_images_has_a_row(kind: str, tmp_path: Path) -> None:
    run = cases.write_cxidb76(tmp_path / "run.h5", FRAMES[:2], FRAMES[2:3], FRAMES[3:])
    with h5py.File(run, "r+") as file:
        place = file["/data/chunk_1/images"].id.get_offset()
        header = h5py.h5o.get_info(file["/data/chunk_1/images"].id).addr
        if kind != "a damaged object":
            del file["/data/chunk_1/images"]
        if kind == "a link to nowhere":
            file["/data/chunk_1/images"] = h5py.SoftLink("/gone")
        elif kind == "other axes":
            file["/data/chunk_1/images"] = np.zeros(7)
        file["/data/times"] = np.zeros(4)
    if kind == "a damaged object":
        content = bytearray(run.read_bytes())
        content[header : header + 8] = b"\xff" * 8
        run.write_bytes(content)
        assert place
    status, rows = screened(run)
    assert status == 1
    assert [row[0] for row in rows] == ["chunk_0//0", "chunk_0//1", "chunk_1//0", "chunk_2//0"]
    assert [label == "ERROR" for _, label, _ in rows] == [False, False, True, False]
    assert "chunk_1" in rows[2][2]


@pytest.mark.parametrize("path", ["/tag-{}/data", "/{}/data", "/run_7/detector_1/tag_{}/detector_data"])
@pytest.mark.parametrize(
    "kind", ["no data", "a link to nowhere", "no image", "another shape", "several images"]
)
def test_one_among_many_groups_alike_has_its_row(path: str, kind: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "run.h5", "w") as file:
        for number in range(4):
            file[path.format(98 + number)] = FRAMES[number]
        file["/metadata/pixelmask"], file["/file_info/version"] = np.zeros((96, 96), "u1"), 1
        file[path.format("info")] = 1
        name = path.format(100)
        del file[name]
        if kind == "a link to nowhere":
            file[name] = h5py.SoftLink("/gone")
        elif kind != "no data":
            file[name] = {
                "no image": np.arange(5),
                "another shape": FRAMES[2, :64, :80],
                "several images": FRAMES[:2],
            }[kind]
    status, rows = screened(tmp_path / "run.h5")
    found = sorted((event, label == "ERROR") for event, label, _ in rows)
    read = kind in ("another shape", "several images")
    tag = path.split("/")[-2].format(100)
    events = [f"{tag}//0", f"{tag}//1"] if kind == "several images" else [f"{tag}//"]
    others = [(f"{path.split('/')[-2].format(number)}//", False) for number in (98, 99, 101)]
    assert status == int(not read)
    assert found == sorted([*others, *((event, not read) for event in events)])


def test_a_damaged_list_of_groups_is_no_empty_one(tmp_path: Path) -> None:
    run = cases.write_cxidb76(tmp_path / "run.h5", FRAMES[:2], FRAMES[2:])
    content = run.read_bytes()
    heaps = [place for place in range(len(content) - 4) if content[place : place + 4] == b"HEAP"]
    ended = []
    for place in heaps:
        run.write_bytes(content[:place] + b"PAEH" + content[place + 4 :])
        with FrameReader(ReadOptions()) as reader:
            try:
                stacks = reader.stacks(str(run))
            except UserError as error:
                assert "damaged" in str(error)
                ended.append("refused")
                continue
        lost = [stack for stack in stacks if stack.unreadable]
        # The heap of another group, such as the metadata's, costs no frame.
        assert lost or sum(stack.frames for stack in stacks) == 4
        ended.append("rows" if lost else "whole")
    assert {"refused", "rows"} <= set(ended)


def test_a_virtual_set_with_a_source_cut_short_loses_that_ones_frames(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout((8, 96, 96), FRAMES.dtype)
    for number in (0, 1):
        with h5py.File(tmp_path / f"part{number}.h5", "w") as file:
            file["/data"] = FRAMES
        layout[4 * number : 4 * number + 4] = h5py.VirtualSource(f"part{number}.h5", "/data", FRAMES.shape)
    with h5py.File(tmp_path / "run.nxs", "w") as file:
        file.create_virtual_dataset("/entry/data/data", layout)
    cut(tmp_path / "part0.h5")
    status, rows = screened(tmp_path / "run.nxs")
    assert status == 1
    assert [label == "ERROR" for _, label, _ in rows] == 4 * [True] + 4 * [False]
    assert "part0.h5" in rows[0][2]


def test_with_a_model_the_rows_are_the_same(tmp_path: Path) -> None:
    from sfxjax.models.checkpoint import save_model

    model = save_model(tmp_path / "runs" / "model", cases.tiny_model())
    run = master(tmp_path, 3)
    (tmp_path / "x_data_000002.h5").unlink()
    out = tmp_path / "scored"
    assert cases.screen(run, "--model", model, "--out", out, "--no-report") == 1
    assert [row["label"] == "ERROR" for row in cases.rows(out)] == 4 * [False] + 4 * [True] + 4 * [False]


@pytest.mark.parametrize("virtual", [False, True])
def test_frames_of_a_file_that_is_cut_while_it_is_read_are_not_zeros(virtual: bool, tmp_path: Path) -> None:
    part = tmp_path / "part.h5"
    with h5py.File(part, "w") as file:
        file["/entry/data/data"] = FRAMES
    run = part
    if virtual:
        run = tmp_path / "run.nxs"
        layout = h5py.VirtualLayout(FRAMES.shape, FRAMES.dtype)
        layout[:] = h5py.VirtualSource("part.h5", "/entry/data/data", FRAMES.shape)
        with h5py.File(run, "w") as file:
            file.create_virtual_dataset("/entry/data/data", layout)
    with FrameReader(ReadOptions(panels_apart=True)) as reader:
        (stack,) = reader.stacks(str(run))
        np.testing.assert_array_equal(reader.original(stack, 0), FRAMES[0])
        with part.open("r+b") as stream:
            stream.truncate(part.stat().st_size - 1000)
        with pytest.raises(UserError, match=r"part\.h5: cut short"):
            reader.original(stack, 3)
        (read,) = reader.read(stack, [3], FRAMES.dtype)
        assert read.crop is None and "cut short" in read.reason


def test_frames_that_do_not_differ_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = cases.write_cxi(tmp_path / "same.cxi", np.repeat(FRAMES[1:2], 5, axis=0))
    screened(run)
    assert "all 5 frames have the same expected number of spots" in capsys.readouterr().out
    run = cases.write_cxi(tmp_path / "differ.cxi", cases.frames(5, 96))
    screened(run)
    assert "the same" not in capsys.readouterr().out


NEVER = "the frame was never written: the file only has room for it"
SHAPE = FRAMES.shape[1:]


def sparse(path: Path, written: list[int], name: str = "/entry/data/data", **options: Any) -> Path:
    """Write some of nine frames."""
    with h5py.File(path, "w") as file:
        data = file.create_dataset(name, (9, *SHAPE), FRAMES.dtype, chunks=(1, *SHAPE), **options)
        for number in written:
            data[number] = FRAMES[number % 4]
    return path


def never_written(rows: list[tuple[str, str, str]]) -> list[int]:
    """Return the places of the rows that are errors, whose reason is that they were never written."""
    lost = [place for place, (_, label, _) in enumerate(rows) if label == "ERROR"]
    assert all(rows[place][2] == NEVER for place in lost)
    return lost


@pytest.mark.parametrize("options", [{}, {"compression": "gzip", "fillvalue": 7}])
def test_frames_that_were_never_written_are_errors(options: Any, tmp_path: Path) -> None:
    status, rows = screened(sparse(tmp_path / "run.h5", [1, 2, 5, 6], **options))
    # What is missing at the end is left out, which a note says.
    assert status == 1 and len(rows) == 7 and never_written(rows) == [0, 3, 4]


def test_frames_that_were_never_written_are_errors_with_a_model(tmp_path: Path) -> None:
    from sfxjax.models.checkpoint import save_model

    model = save_model(tmp_path / "runs" / "model", cases.tiny_model())
    run = sparse(tmp_path / "run.h5", [1, 2, 5, 6])
    out = tmp_path / "scored"
    assert cases.screen(run, "--model", model, "--out", out, "--no-report") == 1
    assert never_written([(r["event"], r["label"], r["reason"]) for r in cases.rows(out)]) == [0, 3, 4]


@pytest.mark.parametrize("nested", [False, True])
def test_frames_of_virtual_data_sets_that_were_never_written_are_errors(nested: bool, tmp_path: Path) -> None:
    for part in (0, 1):
        sparse(tmp_path / f"part{part}.h5", [0, 1, 3, 4, 5, 6, 7, 8][part:], "/data")
    layout = h5py.VirtualLayout((20, *SHAPE), FRAMES.dtype)
    whole = h5py.VirtualSource("part0.h5", "/data", (9, *SHAPE))
    # Every second frame is of one source; of frames 18 and 19 there is none.
    layout[:18:2], layout[1:12:2] = whole, h5py.VirtualSource("part1.h5", "/data", (9, *SHAPE))[:6]
    layout[13:18:2] = h5py.VirtualSource("part1.h5", "/data", (9, *SHAPE))[6:]
    run = tmp_path / "run.nxs"
    with h5py.File(run, "w") as file:
        file.create_virtual_dataset("/entry/data/data", layout)
    if nested:
        run = tmp_path / "outer.nxs"
        with h5py.File(run, "w") as file:
            outer = h5py.VirtualLayout((20, *SHAPE), FRAMES.dtype)
            outer[:] = h5py.VirtualSource("run.nxs", "/entry/data/data", (20, *SHAPE))
            file.create_virtual_dataset("/entry/data/data", outer)
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(run))
        reasons = [read.reason for read in reader.read(stack, range(20), FRAMES.dtype)]
    # Of the sources' frames 2 (both) and 0 (the second).
    assert [place for place, reason in enumerate(reasons) if reason] == [1, 4, 5, 18, 19]
    assert set(reasons) == {"", NEVER}


def test_a_virtual_data_set_of_panels_has_its_frames(tmp_path: Path) -> None:
    """Each source fills a part of every frame."""
    layout = h5py.VirtualLayout((9, 2, *SHAPE), FRAMES.dtype)
    for panel in (0, 1):
        sparse(tmp_path / f"panel{panel}.h5", [0, 1, 2, 4, 5, 6, 7, 8 - panel], "/data")
        layout[:, panel] = h5py.VirtualSource(f"panel{panel}.h5", "/data", (9, *SHAPE))
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file.create_virtual_dataset("/entry/data/data", layout)
    _, rows = screened(tmp_path / "run.h5")
    assert never_written(rows) == [3]


@pytest.mark.parametrize("chunks", [None, True, (96, 96)])
def test_a_single_frame_that_was_never_written_is_an_error(chunks: Any, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file.create_dataset("/entry/data/data", SHAPE, FRAMES.dtype, chunks=chunks)
    status, rows = screened(tmp_path / "run.h5")
    assert status == 1 and never_written(rows) == [0] and len(rows) == 1


def test_parts_of_a_master_that_were_never_written_have_rows_but_at_the_end(tmp_path: Path) -> None:
    run = master(tmp_path, 4)
    for part, written in (("2", 0), ("3", 1), ("4", 2)):
        with h5py.File(tmp_path / f"x_data_00000{part}.h5", "w") as file:
            chunks = None if part == "2" else (1, *SHAPE)
            data = file.create_dataset("/entry/data/data", FRAMES.shape, FRAMES.dtype, chunks=chunks)
            data[:written] = FRAMES[:written]
    status, rows = screened(run)
    assert status == 1 and len(rows) == 14 and never_written(rows) == [4, 5, 6, 7, 9, 10, 11]


def test_frames_of_which_a_part_was_never_written_are_noted(tmp_path: Path) -> None:
    run = tmp_path / "run.h5"
    with h5py.File(run, "w") as file:
        data = file.create_dataset("/entry/data/data", FRAMES.shape, FRAMES.dtype, chunks=(1, 48, 96))
        data[:3], data[3, :48] = FRAMES[:3], FRAMES[3, :48]
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(run))
    assert "parts of 1 frames were never written, where all pixels read 0" in stack.notes[0]


def test_chunks_of_several_frames_count_as_written(tmp_path: Path) -> None:
    run = tmp_path / "run.h5"
    with h5py.File(run, "w") as file:
        data = file.create_dataset("/entry/data/data", (12, *SHAPE), FRAMES.dtype, chunks=(3, *SHAPE))
        data[0], data[10:12] = FRAMES[0], FRAMES[:2]
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(run))
        reasons = [read.reason for read in reader.read(stack, range(12), FRAMES.dtype)]
    assert [place for place, reason in enumerate(reasons) if reason] == [3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("chunks", [None, (1, *SHAPE)])
def test_frames_none_of_which_was_written_are_refused_with_the_reason(chunks: Any, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file.create_dataset("/entry/data/data", FRAMES.shape, FRAMES.dtype, chunks=chunks)
    with pytest.raises(UserError, match="4 of 4 frames at the end were never written"):
        screened(tmp_path / "run.h5")


def test_a_mask_that_was_never_written_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["/entry/data/data"] = FRAMES
        file.create_dataset("/entry/instrument/detector/pixel_mask", SHAPE, "u4")
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(tmp_path / "run.h5"))
    assert not stack.mask_datasets and "pixel_mask is not used: it was never written" in stack.notes[0]
