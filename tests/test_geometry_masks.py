"""What a CrystFEL geometry leaves out: bad regions, edges, flags and masks, as crystfel_geometry(5) means them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import screen_cases as cases

from sfxjax.data.frames import ReadOptions
from sfxjax.data.geometry_file import parse_geometry, read_geometry
from sfxjax.data.read import FrameReader
from sfxjax.errors import UserError
from sfxjax.screen.spots import main as spots

# Two panels of 40 x 60 pixels, one below the other in the data block.
SHAPE = (80, 60)
PANELS = """data = /entry_1/data_1/data
dim0 = %
dim1 = ss
dim2 = fs
"""
for number in (0, 1):
    PANELS += f"p{number}/min_fs = 0\np{number}/max_fs = 59\np{number}/min_ss = {40 * number}\n"
    PANELS += f"p{number}/max_ss = {40 * number + 39}\np{number}/corner_x = -30\np{number}/corner_y = {40 * number - 40}\n"


def region(name: str = "bad1", **values: object) -> str:
    return "".join(f"{name}/{key} = {value}\n" for key, value in values.items())


def good(text: str) -> np.ndarray:
    return parse_geometry(text, "g.geom").good(SHAPE)


def expected(*places: tuple[slice, slice]) -> np.ndarray:
    mask = np.ones(SHAPE, bool)
    for place in places:
        mask[place] = False
    return mask


def test_fs_and_ss_of_a_bad_region_count_in_the_data_block() -> None:
    block = region(panel="p1", min_fs=10, max_fs=19, min_ss=50, max_ss=59)
    np.testing.assert_array_equal(good(PANELS + block), expected(np.s_[50:60, 10:20]))
    # In the assembled image they lie in the second panel, too.
    index = parse_geometry(PANELS + block, "g").assembly(SHAPE, 100)
    shown = np.unravel_index(index[index >= 0], SHAPE)
    found = np.zeros(SHAPE, bool)
    found[shown] = True
    np.testing.assert_array_equal(found, expected(np.s_[50:60, 10:20]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"panel": "p1", "min_fs": 10, "max_fs": 19, "min_ss": 10, "max_ss": 19}, "lies outside its panel"),
        ({"min_fs": 10, "max_fs": 19, "min_ss": 110, "max_ss": 119}, "lies outside its panel"),
        ({"panel": "q9", "min_fs": 10, "max_fs": 19, "min_ss": 50, "max_ss": 59}, "panel q9"),
        ({"panel": "q9", "min_x": 10, "max_x": 19, "min_y": 50, "max_y": 59}, "panel q9"),
        ({"min_fs": 10, "max_fs": 19, "min_ss": 50}, "bad1/max_ss is missing"),
        ({"min_fs": 10, "max_fs": 19, "min_y": 50, "max_y": 59}, "at once"),
        ({"min_x": 10, "max_x": 1, "min_y": 50, "max_y": 59}, "end lies before"),
    ],
)
def test_a_bad_region_that_marks_nothing_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_geometry(PANELS + region(**values), "g.geom")


def test_a_bad_region_without_a_panel_holds_for_all() -> None:
    text = PANELS + region(min_fs=10, max_fs=19, min_ss=35, max_ss=44)
    np.testing.assert_array_equal(good(text), expected(np.s_[35:45, 10:20]))
    text = PANELS + region(min_x=-30, max_x=-20, min_y=-5, max_y=5)
    np.testing.assert_array_equal(good(text), expected(np.s_[35:45, :10]))


def test_edges_and_panels_that_are_not_indexed_are_left_out() -> None:
    np.testing.assert_array_equal(
        good("mask_edge_pixels = 2\n" + PANELS),
        expected(np.s_[:2], np.s_[38:42], np.s_[78:], np.s_[:, :2], np.s_[:, 58:]),
    )
    np.testing.assert_array_equal(
        good(PANELS + "p1/mask_edge_pixels = 3\n"),
        expected(np.s_[40:43], np.s_[77:], np.s_[40:, :3], np.s_[40:, 57:]),
    )
    np.testing.assert_array_equal(good(PANELS + "p1/no_index = 1\n"), expected(np.s_[40:]))


def test_flags_may_be_repeated_and_differ_between_panels() -> None:
    text = "flag_equal = 7\nflag_equal = 9\n" + PANELS + "p1/flag_morethan = 90\n"
    geometry = parse_geometry(text, "g.geom")
    frame = np.random.default_rng(0).integers(0, 100, SHAPE).astype(np.uint16)
    bad = (frame == 7) | (frame == 9)
    bad[40:] |= frame[40:] > 90
    np.testing.assert_array_equal(geometry.unflagged(frame, geometry.numbers(SHAPE)), ~bad)


HARMLESS = """photon_energy = /LCLS/photon_energy_eV
adu_per_eV = 0.001
res = 13333.3
peak_list = /entry_1/result_1
rigid_group_q0 = p0
group_all = p0,p1
; flag_moretahn = 3
"""


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (
            HARMLESS + PANELS + "p0/coffset = 0.1\np1/fs = 1.0x\nclen = 0.1\nrigid_group_collection_a = q0\n",
            [],
        ),
        (
            "max_adu = 9\n" + PANELS + "p0/saturation_map = /s\n",
            [["not used here", "max_adu, saturation_map"]],
        ),
        (PANELS + region(min_x=0, max_x=1, min_y=0, max_y=1, level=3), [["not known", "bad1/level"]]),
        (
            "mask_edge_pixel = 2\n"
            + PANELS
            + "p1/flag_lesstahn_ = 1\np0/Mask_File = m.h5\nmask_future = /x\n",
            None,
        ),
        (
            PANELS + "flag_morethan = 9\nmask_edge_pixels = 2\nmask = /m\nno_index = 1\nmax_adu = 3\n",
            [
                ["not used here", "max_adu"],
                [
                    "no panel begins after it",
                    "flag_morethan, mask_edge_pixels, mask, no_index, max_adu; put it before the first panel",
                ],
            ],
        ),
        (
            PANELS.replace("p1/min_fs", "flag_morethan = 9\np1/min_fs"),
            [["those alone that begin after it", "flag_morethan"]],
        ),
        ("mask_good = 0\nmask2_badbits = 1\n" + PANELS, [["bits of a mask", "mask_good, mask2_badbits"]]),
        ("max_adu 9\n= 3\n" + PANELS, [["no '='", "'max_adu 9', '= 3'"]]),
        ("\ufeff" + PANELS + "data = /entry_1/data_1/data\n", []),
    ],
)
def test_lines_without_effect_are_named_and_harmless_ones_are_not(
    tmp_path: Path, text: str, named: list[list[str]] | None
) -> None:
    (tmp_path / "g.geom").write_text(text, encoding="utf-8")
    if named is None:
        with pytest.raises(
            UserError, match=r"flag_lesstahn_ is no key of a geometry \(did you mean flag_lessthan\?"
        ):
            read_geometry(tmp_path / "g.geom")
        text = text.replace("p1/flag_lesstahn_ = 1\n", "")
        named = [
            [
                "mask_edge_pixel (did you mean mask_edge_pixels?), p0/Mask_File (did you mean mask_file?)",
                "mask_future",
            ]
        ]
    notes = parse_geometry(text.removeprefix("\ufeff"), "g.geom").notes
    assert len(notes) == len(named)
    assert all(part in note for note, parts in zip(notes, named, strict=True) for part in parts)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PANELS.replace("p1/corner_x", "p1/corner_q"), "p1/corner_x is missing"),
        (PANELS.replace("p1/corner_x = -30", "p1/corner_x = 1e3x"), "p1/corner_x = 1e3x is no number"),
        (PANELS + "p00/flag_morethan = 3\n", "panel p00 has no min_fs; did you mean the panel p0"),
        (PANELS + "p1/no_index = perhaps\n", "p1/no_index = perhaps is neither"),
        ("no_index = 1\n" + PANELS, "no_index leaves all of them out"),
        ("flag_morethan = big\n" + PANELS, "flag_morethan = big is no number"),
        ("mask = /m\nmask_good = 1e3x\n" + PANELS, "mask0_goodbits = 1e3x is no whole number"),
    ],
)
def test_what_is_wrong_in_a_geometry_is_named_with_its_panel(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_geometry(text, "g.geom")


def test_the_camera_length_holds_wherever_it_stands() -> None:
    assert [panel.distance for panel in parse_geometry(PANELS + "clen = 0.2\n", "g").panels] == [0.2, 0.2]


def test_keys_that_make_no_sense_are_refused() -> None:
    for wrong in ("flag_about = 3\n", "mask_file = x.h5\n", "mask_edge_pixels = -1\n"):
        with pytest.raises(UserError):
            parse_geometry(wrong + PANELS, "g.geom")
    with pytest.raises(UserError, match="data differs between panels"):
        parse_geometry(PANELS + "p1/data = /other\n", "g.geom")


FRAMES = np.random.default_rng(1).integers(1, 90, (5, *SHAPE)).astype(np.int32)


def test_masks_of_a_geometry_in_the_working_folder_or_beside_it_or_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cases.write_cxi(tmp_path / "run.cxi", FRAMES)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    geom = tmp_path / "g.geom"
    geom.write_text("mask0_file = m.h5\nmask0_data = /mask\nmask0_goodbits = 1\n" + PANELS)
    with FrameReader(ReadOptions(geometry=str(geom))) as reader:
        (stack,) = reader.stacks(str(path))
        with pytest.raises(UserError, match=r"m.h5 is neither in the working folder nor beside the geometry"):
            reader.static_mask(stack)
    for folder, rows in ((tmp_path, 5), (tmp_path / "work", 9)):  # The working folder comes first.
        mask = np.ones(SHAPE, np.uint8)
        mask[:rows] = 0
        with h5py.File(folder / "m.h5", "w") as file:
            file["mask"] = mask
        with FrameReader(ReadOptions(geometry=str(geom))) as reader:
            shared = reader.shared_mask(stack)
            np.testing.assert_array_equal(shared.good, mask == 1)
            assert any(f"{60 * rows} of 4,800 pixels" in line for line in shared.lines)
    geom.write_text("mask = /entry_1/data_1/mask\nmask_good = 0\nmask_bad = 1\n" + PANELS)
    with (
        FrameReader(ReadOptions(geometry=str(geom))) as reader,
        pytest.raises(UserError, match="mask /entry_1/data_1/mask that the geometry names is not in it"),
    ):
        reader.stacks(str(path))


@pytest.mark.parametrize("axis", [1, 2])
def test_frames_along_another_axis_need_a_geometry_that_says_so(tmp_path: Path, axis: int) -> None:
    frames = np.random.default_rng(2).integers(1, 90, (5, 160, 120)).astype(np.int32)
    with h5py.File(tmp_path / "last.h5", "w") as file:
        file["/data"] = np.moveaxis(frames, 0, axis)
    order = ["dim0 = ss, dim1 = %, dim2 = fs", "dim0 = ss, dim1 = fs, dim2 = %"][axis - 1]
    with FrameReader(ReadOptions(dataset="/data")) as reader, pytest.raises(UserError, match=order):
        reader.stacks(str(tmp_path / "last.h5"))
    text = (
        "data = /data\n"
        + order.replace(", ", "\n")
        + "\np/min_fs = 0\np/max_fs = 119\np/min_ss = 0\np/max_ss = 159\n"
    )
    (tmp_path / "g.geom").write_text(text + "p/corner_x = -60\np/corner_y = -80\n")
    with FrameReader(ReadOptions(geometry=str(tmp_path / "g.geom"))) as reader:
        (stack,) = reader.stacks(str(tmp_path / "last.h5"))
        assert stack.frames == 5
        for number, read in enumerate(reader.read(stack, range(5), np.dtype(np.int32))):
            assert read.crop is not None
            np.testing.assert_array_equal(read.crop[282:442, 302:422], frames[number])
            np.testing.assert_array_equal(reader.original(stack, number), frames[number])


@pytest.mark.parametrize(
    ("shape", "line"),
    [
        ((3, 160, 120, 1), "write 3x160x120 pixels"),
        ((3, 160, 120, 3), "write 3x160x120 pixels"),
        ((16, 300, 128, 40), "more than any detector has"),
    ],
)
def test_axes_behind_those_of_the_pixels_are_no_panels(
    shape: tuple[int, ...], line: str, tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["/entry/data/data"] = np.ones(shape, np.uint8)
    with FrameReader(ReadOptions(panels_apart=True)) as reader, pytest.raises(UserError, match=line):
        reader.stacks(str(tmp_path / "run.h5"))


def test_the_default_screening_honours_masks_and_bad_regions_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = np.random.default_rng(0).poisson(40, (8, 300, 500)).astype(np.uint16)
    for k in range(12):
        ss, fs = 20 + 22 * k, 30 + 15 * k
        frames[:, ss - 1 : ss + 2, fs - 1 : fs + 2] += np.array(
            [[60, 90, 60], [90, 200, 90], [60, 90, 60]], np.uint16
        )
    path = cases.write_cxi(tmp_path / "run.cxi", frames)
    text = (
        "p/min_fs = 0\np/max_fs = 499\np/min_ss = 0\np/max_ss = 299\np/corner_x = -250\np/corner_y = -150\n"
    )
    (tmp_path / "g.geom").write_text(text + region(min_fs=20, max_fs=219, min_ss=10, max_ss=279))
    labels = []
    for more in ([], ["--geometry", str(tmp_path / "g.geom")]):
        out = tmp_path / f"out{len(more)}"
        assert spots([str(path), "--out", str(out), "--no-report", *more]) == 0
        labels.append({row["label"] for row in cases.rows(out)})
    assert labels == [{"HIT"}, {"MISS"}]
    said = capsys.readouterr().out
    assert "no mask is used" in said and "8 of 8 hits show most of their spots" in said
    assert "in bad regions: 54,000 of 150,000 pixels (36 %) left out" in said
    assert "54,000 of 150,000" in (tmp_path / "out2" / "summary.json").read_text()
