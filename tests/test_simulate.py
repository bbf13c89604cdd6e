"""Simulated sets on disk: whole or absent, read back by CXIDB 76's reader, cached by what made them."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from sfxjax.command_line import call_of
from sfxjax.data.labels import classify
from sfxjax.data.sets import open_set
from sfxjax.data.write import SetWriter
from sfxjax.errors import UserError, run_main
from sfxjax.simulate import cache, command, parameters
from sfxjax.simulate import sets as simulated_sets
from sfxjax.simulate import write as simulate
from sfxjax.simulate.artefacts import LIGHT, READING
from sfxjax.simulate.conditions import DETECTORS, GAPS
from sfxjax.simulate.parameters import SIMULATED_SETS
from sfxjax.simulate.particles import PARTICLE_SETS
from sfxjax.simulate.sets import CROP, plan_run
from sfxjax.simulate.write import TRUTH_FILE, simulate_set, simulated_data, simulated_mask

LO19 = SIMULATED_SETS["LO19"]
FRAMES = 18


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighteen frames in groups of seven, simulated four at a time."""
    root = tmp_path_factory.mktemp("sets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulate, "GROUP_SIZE", 7)
        simulate_set("LO19", root, FRAMES, seed=3, batch=4, quiet=True)
    return root


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_set_is_read_back_with_labels_mask_and_truth(folder: Path) -> None:
    plan = plan_run(LO19, FRAMES, 3)
    with open_set(folder, "LO19") as frames, h5py.File(folder / "LO19" / TRUTH_FILE) as truth:
        assert frames.simulated
        assert len(frames) == FRAMES
        assert frames.frame_shape == (CROP, CROP)
        assert frames.dtype == np.int16
        np.testing.assert_array_equal(frames.labels, classify(plan.spots))
        np.testing.assert_array_equal(truth["count"], plan.spots)
        with h5py.File(frames.path, locking=False) as file:
            for group in file["data"].values():
                np.testing.assert_allclose(group["wavelength"], LO19.geometry.wavelength)
                np.testing.assert_allclose(group["distance"], LO19.geometry.distance)
        offsets, in_crop = truth["offsets"][:], truth["in_crop"][:]
        assert offsets.shape == (FRAMES + 1,)
        assert offsets[-1] == len(truth["position"]) == len(truth["signal_to_noise"]) == len(in_crop)
        for index in range(FRAMES):
            own = slice(offsets[index], offsets[index + 1])
            assert in_crop[own].sum() == plan.spots[index]
            assert np.all(truth["signal_to_noise"][own] >= 6)
            assert np.all((truth["position"][own] >= 0) & (truth["position"][own] < CROP))
        assert truth.attrs["simulated"]
        # The file's order is the truth's: the brightest spot of a frame stands where the truth says.
        pixels = frames.crops(range(FRAMES)).astype(float)
        assert frames.mask_crop() is not None
        for index in np.flatnonzero(plan.spots >= 60):
            ss, fs = np.round(truth["position"][offsets[index]]).astype(int)
            around = pixels[index, max(ss - 8, 0) : ss + 9, max(fs - 8, 0) : fs + 9]
            assert (
                pixels[index, ss - 1 : ss + 2, fs - 1 : fs + 2].max()
                == around.max()
                > 1.5 * np.median(around)
            )


def test_metadata_places_the_beam_in_the_crop(folder: Path) -> None:
    with h5py.File(folder / "LO19" / "r0020_2000.h5") as file:
        assert sorted(file["data"]) == ["chunk_0", "chunk_1", "chunk_2"]
        assert file["metadata/simulated"][()]
        pixel = file["metadata/PIXEL_SIZE"][()]
        fs, ss = (file[f"metadata/BEAM_CENTER_{axis}"][()] / pixel for axis in "XY")
        dark = np.argwhere(np.all(file["data/chunk_1/images"][:] == 0, axis=0))
    # The beam stop is a disc around the beam.
    np.testing.assert_allclose(dark.mean(axis=0), [ss, fs], atol=0.5)
    assert (ss, fs) == pytest.approx((958.0 - 598, 960.5 - 598))


@pytest.mark.slow
def test_pixels_do_not_depend_on_batch_or_compression(folder: Path, tmp_path: Path) -> None:
    simulate_set("LO19", tmp_path, FRAMES, seed=3, batch=16, compression="gzip", quiet=True)
    with open_set(folder, "LO19") as one, open_set(tmp_path, "LO19") as other:
        np.testing.assert_array_equal(one.crops(range(FRAMES)), other.crops(range(FRAMES)))
    for name in (TRUTH_FILE, "expert_annotation.txt"):
        assert (folder / "LO19" / name).read_bytes() == (tmp_path / "LO19" / name).read_bytes()
    stored = (tmp_path / "LO19" / "r0020_2000.h5").stat().st_size
    assert stored < 0.9 * (folder / "LO19" / "r0020_2000.h5").stat().st_size


def test_mask_hides_stop_arms_and_border() -> None:
    for name, each in SIMULATED_SETS.items():
        good = simulated_mask(each, (CROP, CROP))
        ss, fs = (
            np.mgrid[:CROP, :CROP] - np.array(simulated_sets.frame_centre(each, (CROP, CROP)))[:, None, None]
        )
        stop = np.hypot(ss, fs) <= each.detector.stop_radius
        assert not np.any(good & stop)
        arms = (np.abs(ss) < 80) & (np.abs(fs) < 30)
        assert np.any(good & arms) != (name == "LN83")
        assert np.all(good[np.hypot(ss, fs) > 90])
        whole = simulated_mask(each, (1920, 1920))
        np.testing.assert_array_equal(whole[598:1322, 598:1322], good)
        assert whole[0].any() == (name == "LN83")


def test_masks_hide_about_as_much_as_the_real_ones(shared: Path) -> None:
    for name, each in SIMULATED_SETS.items():
        with np.load(shared / "data" / "cxidb76" / name / "mask.npz") as arrays:
            real = arrays["good"]
        ours = simulated_mask(each, real.shape)
        assert np.sum(~ours) == pytest.approx(np.sum(~real), rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["LG36"], "no simulated set for the set 'LG36'"),
        (["LO19", "--frames", "9"], "9 frames is too small; ask for at least 10"),
        (["LO19", "--seed", "-1"], "--seed: '-1' is no whole number"),
        (["LO19", "--batch", "0"], "batches of 0 frames"),
    ],
)
def test_bad_arguments_end_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(lambda: command.main([*arguments, "--out", str(tmp_path)])) == 2
    complaint = capsys.readouterr().err
    assert message in complaint
    assert complaint.count("\n") == 1
    assert names_in(tmp_path) == []


def test_place_taken_by_other_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="is not a folder"):
        simulate_set("LO19", tmp_path / "file", 10, quiet=True)
    (tmp_path / "LO19").mkdir()
    (tmp_path / "LO19" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds files this program did not write"):
        simulate_set("LO19", tmp_path, 10, quiet=True)
    assert (tmp_path / "LO19" / "notes.txt").read_text() == "mine"


def test_too_little_room_is_noticed_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate.shutil, "disk_usage", lambda path: SimpleNamespace(free=10**6))
    with pytest.raises(UserError, match=r"0\.0 GB free at .*, and 2000 frames need 2\.1 GB"):
        simulate_set("LO19", tmp_path, 2000, quiet=True)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("moment", ["frames", "labels"])
def test_a_disk_that_fills_up_leaves_nothing(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(
        *((SetWriter, "append") if moment == "frames" else (simulate, "write_annotations")), full
    )
    arguments = ["LO19", "--frames", "10", "--batch", "4", "--out", str(tmp_path)]
    assert run_main(lambda: command.main(arguments)) == 2
    assert "the disk is full" in capsys.readouterr().err
    assert names_in(tmp_path) == []


def test_an_older_set_stays_until_the_new_one_is_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / "LO19" / TRUTH_FILE).read_bytes()

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SetWriter, "append", stop)
    with pytest.raises(KeyboardInterrupt):
        simulate_set("LO19", folder, FRAMES, seed=4, batch=4, quiet=True)
    assert names_in(folder) == ["LO19"]
    assert (folder / "LO19" / TRUTH_FILE).read_bytes() == before


def test_a_killed_run_leaves_no_set_and_the_next_one_clears_up(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sfxjax.simulate", "LO19", "--frames", "500", "--out", str(tmp_path)]
    root = Path(__file__).resolve().parents[1]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(tmp_path.glob(".LO19.*.part/*")):
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert list(tmp_path.glob(".LO19.*.part"))
    with pytest.raises(UserError, match="no frames of LO19 found"):
        open_set(tmp_path, "LO19")
    simulate_set("LO19", tmp_path, 10, batch=4, quiet=True)
    assert names_in(tmp_path) == ["LO19"]


def test_plain_progress_names_the_simulated_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run_main(lambda: command.main(["lo19", "--frames", "10", "--batch", "4", "--out", str(tmp_path)]))
        == 0
    )
    shown = capsys.readouterr().out
    assert "simulated set LO19" in shown
    assert "10 of 10 frames" in shown
    assert "frames/s" in shown


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Lists the sets a simulation would have written, had it been run; their folders are made, empty."""
    targets: list[Path] = []
    at_work = threading.Lock()

    def write(parameters: simulated_sets.SimulatedSet, target: Path, *rest: object) -> None:
        assert at_work.acquire(blocking=False), "two writers at once"
        time.sleep(0.05)
        target.mkdir()
        targets.append(target)
        at_work.release()

    monkeypatch.setenv("SFXJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(simulate, "_write_set", write)
    return targets


def test_cache_makes_only_what_is_missing(written: list[Path]) -> None:
    root = simulated_data(["LN83"], 20)
    assert written == [root / "LN83"]
    assert simulated_data(["LN83", "LO19"], 20) == root
    assert written == [root / "LN83", root / "LO19"]
    assert names_in(root) == ["LN83", "LO19"]
    with pytest.raises(UserError, match="no simulated set"):
        simulated_data(["LN83", "LG36"], 20)


def test_cache_never_reuses_sets_made_otherwise(written: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    roots = [simulated_data(["LO19"], 20), simulated_data(["LO19"], 21), simulated_data(["LO19"], 20, seed=1)]
    brighter = replace(LO19, level=LO19.level + 1)
    with monkeypatch.context() as patch:
        patch.setitem(parameters.SIMULATED_SETS, "LO19", brighter)
        roots.append(simulated_data(["LO19"], 20))
    with monkeypatch.context() as patch:
        patch.setattr(simulate, "GENERATOR_VERSION", simulate.GENERATOR_VERSION + 1)
        roots.append(simulated_data(["LO19"], 20))
    assert len(set(roots)) == len(written) == 5


def test_cache_is_filled_by_one_of_many_at_a_time(
    written: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[BaseException] = []

    def fill() -> None:
        try:
            simulated_data(["LN83", "LO19"], 20, quiet=True)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=fill) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(written) == 2
    assert names_in(written[0].parent) == ["LN83", "LO19"]


def test_leftovers_of_a_dead_run_are_removed_from_the_cache(written: list[Path]) -> None:
    root = simulated_data(["LO19"], 20)
    for name in (".LN83.0123abcd.part", ".LN83.0123abcd.old"):
        (root / name).mkdir()
        (root / name / "r0018_2000.h5").write_bytes(b"half")
    # Another set's leftovers may belong to a process that is still writing it.
    (root / ".LN84.0123abcd.part").mkdir()
    simulated_data(["LN83"], 20)
    assert names_in(root) == [".LN84.0123abcd.part", "LN83", "LO19"]


def test_the_cache_is_named_and_cleaned(
    written: list[Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = simulated_data(["LN83"], 20)
    (root / "LN83" / "frames").write_bytes(bytes(10**8))
    simulated_data(["LO19"], 20)
    assert (
        f"simulated sets are kept in {tmp_path / 'cache'}, 0.1 GB by now; {call_of('simulate')} --clean"
        in capsys.readouterr().out
    )
    (tmp_path / "cache" / "compiled").mkdir()
    (tmp_path / "cache" / "simulated_sets-of-mine").symlink_to(tmp_path)
    command.main(["--clean"])
    assert "removed 1 folder of simulated sets" in capsys.readouterr().out
    assert names_in(tmp_path / "cache") == ["compiled", "simulated_sets-of-mine"]
    for words in (["LN83", "--clean"], ["LN83"], []):
        with pytest.raises(SystemExit) as stopped:
            command.main(words)
        assert stopped.value.code == 2


def test_the_cache_is_bounded_but_for_what_was_used_today(
    written: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "MOST_CACHED", 2500)
    roots = [simulated_data(["LN83"], 20, seed=seed, quiet=True) for seed in range(4)]
    for root in roots:
        (root / "LN83" / "frames").write_bytes(bytes(1000))
    for number in (0, 1):
        os.utime(roots[number], (1000 + number, 1000 + number))
    simulated_data(["LN83"], 20, seed=3, quiet=True)
    # 4000 bytes: the two of long ago have to go, the two of today may not.
    assert [root.is_dir() for root in roots] == [False, False, True, True]
    os.utime(roots[2], (1000, 1000))
    simulated_data(["LN83"], 20, seed=3, quiet=True)
    assert [root.is_dir() for root in roots] == [False, False, True, True]


def test_the_list_names_every_part_with_a_word_and_goes_alone(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["--list"])
    lines = capsys.readouterr().out.splitlines()
    told = dict(
        line.split(maxsplit=1) for line in lines if line.startswith("  ") and ":" not in line.split()[0]
    )
    assert told.keys() >= {*LIGHT, *READING} and all(len(words) > 15 for words in told.values())
    everything = "\n".join(lines)
    assert all(name in everything for name in (*SIMULATED_SETS, *PARTICLE_SETS, *DETECTORS, *GAPS))
    with pytest.raises(SystemExit):
        command.main(["--list", "LO19"])
