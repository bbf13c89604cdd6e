"""Every frame counts once, however its file is named, and a line says what is passed over; a part alone still counts."""

from __future__ import annotations

import bz2
import os
import threading
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import screen_cases as cases

from sfxjax.data.hits_file import OWN
from sfxjax.data.inputs import Inputs, find_files
from sfxjax.data.links import masters_of
from sfxjax.errors import UserError

FRAMES = cases.frames(8, 96)
AT = "/entry/data/data"


def write_part(path: Path, frames: np.ndarray = FRAMES[:4]) -> Path:
    with h5py.File(path, "w") as file:
        file[AT] = frames
    return path


def write_virtual(path: Path, *parts: tuple[str, slice], name: str = AT) -> Path:
    """Write a virtual data set of some frames of parts that have four each."""
    lengths = [frames.stop - frames.start for _, frames in parts]
    layout = h5py.VirtualLayout((sum(lengths), 96, 96), FRAMES.dtype)
    place = 0
    for (part, frames), length in zip(parts, lengths, strict=True):
        layout[place : place + length] = h5py.VirtualSource(part, AT, (4, 96, 96))[frames]
        place += length
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset(name, layout)
    return path


def diamond(folder: Path) -> Path:
    """Write a run of eight frames: `x_000001.h5`, `x_000002.h5`, and `x_master.h5`, `x.nxs` and `x_meta.h5` for both."""
    folder.mkdir(exist_ok=True)
    names = ["x_000001.h5", "x_000002.h5"]
    with h5py.File(folder / "x_meta.h5", "w") as file:
        file["mask"] = np.zeros((96, 96), "u4")
    with h5py.File(folder / "x_master.h5", "w") as file:
        for number, name in enumerate(names, 1):
            write_part(folder / name, FRAMES[4 * number - 4 : 4 * number])
            file[f"/entry/data/data_{number:06d}"] = h5py.ExternalLink(name, AT)
        file["/entry/instrument/detector/pixel_mask"] = h5py.ExternalLink("x_meta.h5", "mask")
    write_virtual(folder / "x.nxs", *((name, slice(0, 4)) for name in names))
    return folder


def found(*names: Path | str) -> Inputs:
    return find_files(list(map(str, names)))


def listed(folder: Path) -> Path:
    (folder / "run.lst").write_text("x_000001.h5\nx_master.h5\nx_000002.h5\n")
    return folder / "run.lst"


@pytest.mark.parametrize(
    "names",
    [
        lambda run: sorted(run.glob("*.h5")),
        lambda run: sorted(run.iterdir()),
        lambda run: [run / "x_000002.h5", run],
        lambda run: [listed(run)],
        lambda run: [run / "x_000001.h5", run / "x*.h5", run / "x.nxs"],
        lambda run: [run / "x_master.h5", run / ".." / run.name / "x_master.h5"],
        lambda run: [run / "x_000001.h5", run / "x.nxs", run / "x_master.h5"],
    ],
)
def test_a_master_wins_over_its_parts_however_they_are_named(
    names: Callable[[Path], list[Path]], tmp_path: Path
) -> None:
    run = diamond(tmp_path / "run")
    inputs = found(*names(run))
    assert inputs.files == (str(run / "x_master.h5"),)
    assert any("left out" in note for note in inputs.notes)


def test_eight_frames_have_eight_rows_and_a_line_says_what_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = diamond(tmp_path / "run"), tmp_path / "out"
    assert cases.screen(*sorted(run.iterdir()), "--out", out, "--no-report") == 0
    assert [row["event"] for row in cases.rows(out)] == [
        f"data_00000{part}//{frame}" for part in (1, 2) for frame in range(4)
    ]
    assert "x_000001.h5 (x_master.h5 links to it)" in capsys.readouterr().out


def test_links_to_a_file_and_other_ways_to_write_its_path_are_the_same_file(tmp_path: Path) -> None:
    run = diamond(tmp_path / "run")
    soft, hard = tmp_path / "soft.h5", tmp_path / "hard.h5"
    soft.symlink_to(run / "x_000001.h5")
    os.link(run / "x_000001.h5", hard)
    for other in (soft, hard):
        assert found(other, run / "x_master.h5").files == (str(run / "x_master.h5"),)
        assert found(run / "x_000001.h5", other).files == (str(run / "x_000001.h5"),)
        # A part whose master is not among the files counts.
        assert found(other).files == (str(other),) and found(other).notes == ()
    odd = f"{run}/../run/x_000001.h5"
    inputs = found(odd, run / "x_000001.h5", odd)
    assert inputs.files == (odd,)
    assert f"the same file as {odd}" in inputs.notes[0] and "named again" in inputs.notes[0]
    (run / "all.lst").write_text(f"x_000001.h5\n{soft}\ngone.h5\n")
    assert found(run / "all.lst").files == (str(run / "x_000001.h5"), "gone.h5")
    (run / "circle.h5").symlink_to("circle.h5")
    with h5py.File(run / "y.nxs", "w") as file:
        file["/entry/data/data"] = h5py.ExternalLink("circle.h5", AT)
    assert found(run / "y.nxs", run / "x_000001.h5").files == (str(run / "y.nxs"), str(run / "x_000001.h5"))
    # Of two names of a master the one stays that has its parts beside it.
    (tmp_path / "elsewhere").mkdir()
    os.link(run / "x_master.h5", tmp_path / "elsewhere" / "x_master.h5")
    given = found(tmp_path / "elsewhere", run / "x_master.h5").files
    assert given == (str(run / "x_master.h5"),)


def test_a_master_stays_that_shows_more_frames_than_another(tmp_path: Path) -> None:
    run = diamond(tmp_path)
    more = write_virtual(run / "all.nxs", *((f"x_00000{n}.h5", slice(0, 4)) for n in (1, 2, 3)))
    write_part(run / "x_000003.h5")
    inputs = found(run / "x_master.h5", run / "x.nxs", more)
    assert inputs.files == (str(more),)
    assert "x_master.h5 (its frames are among those of all.nxs)" in inputs.notes[0]
    # Two that show different frames of one part are two runs, and neither is left out.
    halves = [write_virtual(run / f"h{n}.nxs", ("x_000001.h5", slice(2 * n, 2 * n + 2))) for n in (0, 1)]
    assert found(*halves).files == tuple(map(str, halves)) and found(*halves).notes == ()
    most = write_virtual(run / "most.nxs", ("x_000001.h5", slice(1, 4)))
    (note,) = found(halves[0], most).notes
    assert "some of its frames are those of h0.nxs and count twice" in note
    assert "h0.nxs shows its frames 0 to 1" in found(halves[0], run / "x_000001.h5").notes[0]


def test_a_master_of_masters_wins_over_all_behind_it(tmp_path: Path) -> None:
    write_part(tmp_path / "lima_0001.h5")
    with h5py.File(tmp_path / "scan_0001.h5", "w") as file:
        file["/1.1/measurement/eiger"] = h5py.ExternalLink("lima_0001.h5", AT)
    with h5py.File(tmp_path / "proposal.h5", "w") as file:
        file["scan"] = h5py.ExternalLink("scan_0001.h5", "/1.1")
    assert found(tmp_path).files == (str(tmp_path / "proposal.h5"),)
    assert found(tmp_path / "lima_0001.h5", tmp_path / "proposal.h5").files == (
        str(tmp_path / "proposal.h5"),
    )
    assert found(*tmp_path.glob("*_0001.h5")).files == (str(tmp_path / "scan_0001.h5"),)
    # Two that link to each other show one run.
    for one, other in ("ab", "ba"):
        with h5py.File(tmp_path / f"{one}.h5", "a") as file:
            file.require_group("/entry/data")["own"] = FRAMES
            file["/entry/data/data"] = h5py.ExternalLink(f"{other}.h5", "/entry/data/own")
    assert found(tmp_path / "a.h5", tmp_path / "b.h5").files == (str(tmp_path / "a.h5"),)


def test_a_file_that_others_link_to_for_its_mask_keeps_its_frames(tmp_path: Path) -> None:
    first, second = write_part(tmp_path / "first.h5"), write_part(tmp_path / "second_master.h5")
    write_part(tmp_path / "gain.h5", FRAMES[0])
    with h5py.File(first, "a") as file:
        file["/entry/mask"], file["/entry/times"] = np.zeros((96, 96), "u1"), np.arange(4)
    with h5py.File(second, "a") as file:
        file["/entry/instrument/detector/pixel_mask"] = h5py.ExternalLink("first.h5", "/entry/mask")
        file["/entry/times"] = h5py.ExternalLink("first.h5", "/entry/times")
        file["/entry/gain"] = h5py.ExternalLink("x.h5", "/gain")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["gain"] = FRAMES[0]
    (tmp_path / "gain.h5").unlink()
    for inputs in (found(first, second), found(tmp_path)):
        assert inputs.files == (str(first), str(second))
    assert "x.h5 (no frames, but what second_master.h5 links to)" in found(tmp_path).notes[0]
    assert masters_of(first) == []


def test_hits_of_a_screening_count_beside_other_files_than_those_they_are_from(tmp_path: Path) -> None:
    run, hits = (cases.write_cxi(tmp_path / name, FRAMES) for name in ("run.cxi", "hits.cxi"))
    with h5py.File(hits, "a") as file:
        file[f"{OWN}/file"] = ["run/run.cxi"] * len(FRAMES)
    other = cases.write_cxi(tmp_path / "other.cxi", FRAMES)
    assert found(hits).files == (str(hits),)
    assert found(other, hits).files == (str(other), str(hits))
    renamed = hits.rename(tmp_path / "run_hits.cxi")
    assert found(renamed, run).files == found(tmp_path / "run*.cxi").files == (str(run),)
    assert "run_hits.cxi (written by a screening)" in found(renamed, run).notes[0]


def test_a_file_beside_its_compressed_copy_counts_once(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    plain, packed = tmp_path / "a.tif", tmp_path / "a.tif.bz2"
    image.fromarray(FRAMES[0]).save(plain)
    packed.write_bytes(bz2.compress(plain.read_bytes()))
    assert found(tmp_path).files == found(packed, plain).files == (str(plain),)
    assert "a.tif.bz2 (compressed from a.tif)" in found(tmp_path).notes[0]
    assert found(packed).files == (str(packed),)


def test_training_labelling_and_following_tell_what_they_leave_out(tmp_path: Path) -> None:
    from sfxjax.data.frames import ReadOptions
    from sfxjax.data.set_description import sets_of_options
    from sfxjax.data.sets import FrameSet
    from sfxjax.live.frames import Faults
    from sfxjax.live.sources.files import FileSource

    run = diamond(tmp_path / "run")
    described = sets_of_options([[f"x={run}/*.h5", f"{run}/x.nxs"]])["x"]
    with FrameSet(described) as frames:
        assert len(frames) == 8 and any("left out 4 files" in note for note in frames.notes)
    said: list[str] = []
    names = [str(tmp_path / "to come"), *map(str, sorted(run.iterdir()))]
    source = FileSource(names, ReadOptions(growing=True), Faults(), say=said.append)
    for _ in range(2):
        assert source._files() == (str(run / "x_master.h5"),)
    assert len(said) == 1 and "left out 4 files" in said[0]


def test_what_is_no_file_in_a_folder_is_named(tmp_path: Path) -> None:
    run = diamond(tmp_path / "run")
    (run / "x_000003.h5").symlink_to("gone.h5")
    os.mkfifo(run / "x_000004.h5")
    (run / "x_000005.h5").mkdir()
    (run / "images").mkdir()
    for given in (run, run / "*.h5"):
        (note,) = [note for note in found(given).notes if "no file" in note]
        assert note.endswith(
            "x_000003.h5 (a link to nothing); x_000004.h5 (a pipe or a device); x_000005.h5 (a folder)"
        )
    with pytest.raises(UserError, match="a link to nothing"):
        found(run / "x_000003.h5")


def test_folders_without_frames_are_passed_over_and_subfolders_are_named(tmp_path: Path) -> None:
    for name in ("bare", "run", "nested/scan_1", "nested/scan_2"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "nested" / "scan_2" / "x.h5").touch()
    for names in (["bare"], ["bare", "nested"]):
        with pytest.raises(UserError) as refused:
            found(*(tmp_path / name for name in names))
        assert str(refused.value).count("no file in this folder may hold frames") == len(names)
    said = f"{tmp_path / 'nested'}: its subfolders, such as scan_2, are not looked into: name them"
    assert str(refused.value).endswith(said)
    (tmp_path / "run" / "y.h5").touch()
    inputs = found(tmp_path / "bare", tmp_path / "run")
    assert inputs.files == (str(tmp_path / "run" / "y.h5"),)
    assert inputs.notes[0].startswith(f"{tmp_path / 'bare'}: no file in this folder may hold frames")
    # Beside frames a folder with more of them is told, unless it is named itself.
    (tmp_path / "nested" / "z.h5").touch()
    assert found(tmp_path / "nested").notes == (said,)
    both = found(tmp_path / "nested", tmp_path / "nested" / "scan_2")
    assert len(both.files) == 2 and both.notes == ()
    with pytest.raises(UserError, match=r"only folders such as .*scan_1: name them"):
        found(tmp_path / "nested" / "scan_1*")


def test_a_master_that_comes_after_its_parts_were_followed_is_not_judged_again(
    tmp_path: Path,
) -> None:
    from sfxjax.data.frames import ReadOptions
    from sfxjax.live.frames import Faults
    from sfxjax.live.sources.files import FileSource

    run = diamond(tmp_path / "run")
    aside = tmp_path / "aside"
    aside.mkdir()
    late = ("x_master.h5", "x.nxs", "x_000002.h5", "x_meta.h5")
    for name in late:
        (run / name).rename(aside / name)
    said: list[str] = []
    read = ReadOptions(growing=True, panels_apart=True)
    source = FileSource([str(run)], read, Faults(), say=said.append)
    stop, came = threading.Event(), []
    for frame in source.receive(stop):
        if frame is not None:
            came.append((Path(frame.file).name, frame.event))
        elif len(came) == 4 and not (run / "x.nxs").exists():
            for name in late:
                (aside / name).rename(run / name)
        elif len(came) >= 8:
            stop.set()
    assert came == [(f"x_00000{part}.h5", f"//{number}") for part in (1, 2) for number in range(4)]
    assert source.inputs.files == (str(run / "x_000001.h5"), str(run / "x_000002.h5"))
    assert sum("the parts are read on in its place" in line for line in said) == 2
    # Likewise where it was judged by an earlier start.
    known = FileSource([str(run)], read, Faults(), lambda file, event: file.endswith("x_000001.h5"))
    assert known._files() == source.inputs.files


@pytest.mark.parametrize(
    ("name", "others", "way_out"),
    [
        ("CORR-R0012-AGIPD{}-S00000.h5", ["CORR-R0012-AGIPD00-S00001.h5"], "extra-data-make-virtual-cxi"),
        ("scan_d{}_f0_3.h5", ["scan_d00_f1_3.h5"], "_virtual_"),
    ],
)
def test_modules_in_files_of_their_own_are_named(
    name: str, others: list[str], way_out: str, tmp_path: Path
) -> None:
    names = [name.format("00"), name.format("01"), name.format("15"), *others]
    for number, each in enumerate(names):
        with h5py.File(tmp_path / each, "w") as file:
            file["/entry/data/data"] = np.full((2, 64, 80), number, np.uint16)
    (note,) = find_files([str(tmp_path)]).notes
    assert names[0] in note and "2 more modules" in note and "counts 3 times" in note and way_out in note
    # One module alone, in several files, counts once.
    for each in names[1:3]:
        (tmp_path / each).unlink()
    assert find_files([str(tmp_path)]).notes == ()
