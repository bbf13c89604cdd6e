"""Screening that is killed, and files that are damaged in any way."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import screen_cases as cases

from sfxjax.data.frames import ReadOptions, pixel_type
from sfxjax.data.workers import Readers
from sfxjax.errors import UserError
from sfxjax.models.checkpoint import save_model
from sfxjax.screen.journal import Journal
from sfxjax.screen.results import Results

SECRET = 54321


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("runs") / "tiny" / "model", cases.tiny_model()).parent


def long_run(folder: Path, frames: int) -> Path:
    """A virtual stack that repeats 50 frames: long, but small on disk. One frame is damaged, one is empty."""
    data = cases.frames(50, 724)
    data[7] = 0
    with h5py.File(folder / "part.h5", "w") as file:
        file["frames"] = data
    layout = h5py.VirtualLayout((frames, 724, 724), np.uint16)
    for begin in range(0, frames, 50):
        layout[begin : begin + 50] = h5py.VirtualSource("part.h5", "frames", data.shape)
    with h5py.File(folder / "run.cxi", "w") as file:
        file.create_virtual_dataset("/entry_1/data_1/data", layout)
    return folder / "run.cxi"


def kill_and_compare(folder: Path, model: Path, frames: int, kills: int, seed: int) -> list[int]:
    """Kill a screening at random moments until `kills` hit a running process; returns the batches known at each."""
    run = long_run(folder, frames)
    options = ["--model", model, "--batch-size", "4", "--no-report"]
    whole, out = folder / "whole", folder / "killed"
    started = time.monotonic()
    first = cases.command(run, *options, "--out", whole, timeout=600)
    took = time.monotonic() - started
    assert first.returncode == 1, first.stderr
    started = time.monotonic()
    cases.command(run, *options, "--out", whole)
    starting = time.monotonic() - started

    def same() -> None:
        for name in ("frames.csv", "hits.lst", "misses.lst"):
            assert (out / name).read_bytes() == (whole / name).read_bytes()
        left = sorted(path.name for path in out.iterdir())
        assert [name for name in left if ".part" not in name] == sorted(path.name for path in whole.iterdir())

    generator = np.random.default_rng(seed)
    call = [sys.executable, "-m", "sfxjax.screen", *map(str, [run, *options, "--out", out])]
    known: list[int] = []
    while len(known) < kills:
        process = subprocess.Popen(
            call,
            cwd=cases.REPOSITORY,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            # Short enough that a run is killed several times before its end.
            process.wait(generator.uniform(0, starting + (took - starting) / 3))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            known.append(known_batches(out / "screening.journal"))
        else:
            same()
            shutil.rmtree(out)
    last = cases.command(run, *options, "--out", out, timeout=600)
    assert last.returncode == 1, last.stderr
    same()
    return known


def known_batches(journal: Path) -> int:
    """Count what a journal holds: after the first line one a batch, the last perhaps cut."""
    return max(0, journal.read_bytes().count(b"\n") - 1) if journal.exists() else 0


@pytest.mark.slow
def test_a_killed_screening_ends_as_one_that_was_not(tmp_path: Path, model: Path) -> None:
    kill_and_compare(tmp_path, model, frames=100, kills=2, seed=0)


@pytest.mark.slow
def test_twenty_kills_of_two_thousand_frames(tmp_path: Path, model: Path) -> None:
    known = kill_and_compare(tmp_path, model, frames=2000, kills=20, seed=1)
    assert sum(0 < batches < 500 for batches in known) >= 10, known


@pytest.mark.slow
def test_a_journal_cut_anywhere_is_taken_up(tmp_path: Path, model: Path) -> None:
    run = cases.write_cxi(tmp_path / "a.cxi", cases.frames(9, 724))
    arguments = [run, "--model", model, "--out", tmp_path / "o", "--batch-size", "2", "--no-report"]
    assert cases.screen(*arguments) == 0
    journal = tmp_path / "o" / "screening.journal"
    whole, listed = journal.read_bytes(), (tmp_path / "o" / "frames.csv").read_bytes()
    header = whole.index(b"\n") + 1
    generator = np.random.default_rng(0)
    for cut in [header, header + 1, len(whole) - 1, *generator.integers(header, len(whole), 2)]:
        journal.write_bytes(whole[:cut])
        assert cases.screen(*arguments) == 0
        assert (tmp_path / "o" / "frames.csv").read_bytes() == listed
    cases.write_cxi(run, cases.frames(9, 724, seed=5))
    assert cases.screen(*arguments) == 0
    assert (tmp_path / "o" / "frames.csv").read_bytes() != listed


def test_two_screenings_into_one_folder_do_not_mix(tmp_path: Path, model: Path) -> None:
    run = cases.write_cxi(tmp_path / "a.cxi", cases.frames(2, 724))
    (tmp_path / "o").mkdir()
    journal = Journal(tmp_path / "o" / "screening.journal", {}, Results())
    with pytest.raises(UserError, match="another process is writing into"):
        cases.screen(run, "--model", model, "--out", tmp_path / "o")
    journal.close()
    assert cases.screen(run, "--model", model, "--out", tmp_path / "o", "--no-report") == 0


def originals(folder: Path) -> list[Path]:
    """One small file of each layout."""
    data = cases.frames(6, 48)
    made = []
    with h5py.File(folder / "cheetah.cxi", "w") as file:
        detector = file.create_group("/entry_1/instrument_1/detector_1")
        detector.create_dataset("data", data=data, chunks=(1, 48, 48), compression="gzip")
        detector["mask"], detector["mask_shared"] = np.zeros_like(data), np.zeros((48, 48), np.uint16)
        file["/entry_1/data_1/data"] = h5py.SoftLink("/entry_1/instrument_1/detector_1/data")
    made.append(folder / "cheetah.cxi")
    made.append(cases.write_cxidb76(folder / "cxidb76.h5", data[:3], data[3:]))
    with h5py.File(folder / "x_data_000001.h5", "w", libver="latest") as file:
        file.create_dataset(
            "/entry/data/data", data=data, chunks=(2, 48, 48), shuffle=True, compression="lzf"
        )
    with h5py.File(folder / "x_master.h5", "w") as file:
        file["/entry/data/data_000001"] = h5py.ExternalLink("x_data_000001.h5", "/entry/data/data")
        file["/entry/instrument/detector/beam_center_x"] = 24.0
        file["/entry/instrument/detector/beam_center_y"] = 24.0
    made += [folder / "x_data_000001.h5", folder / "x_master.h5"]
    layout = h5py.VirtualLayout(data.shape, data.dtype)
    layout[:] = h5py.VirtualSource("x_data_000001.h5", "/entry/data/data", data.shape)
    with h5py.File(folder / "virtual.cxi", "w") as file:
        file.create_virtual_dataset("/entry_1/data_1/data", layout)
    made.append(folder / "virtual.cxi")
    fabio = pytest.importorskip("fabio")
    fabio.cbfimage.CbfImage(data=data[0].astype(np.int32)).write(str(folder / "a.cbf"))
    fabio.tifimage.TifImage(data=data[0]).write(str(folder / "a.tif"))
    return [*made, folder / "a.cbf", folder / "a.tif"]


def mutated(path: Path, target: Path, secret: Path, generator: np.random.Generator) -> Path:
    """Write a damaged copy: cut short, bits flipped, bytes overwritten, or its contents made absurd."""
    content = bytearray(path.read_bytes())
    kind = generator.integers(0, 6)
    if kind < 4 or path.suffix in (".cbf", ".tif"):
        if kind == 0:
            content = content[: generator.integers(0, len(content))]
        elif kind == 1:
            content[:8] = content[:8] if generator.random() < 0.7 else bytes(8)
            # The first kilobytes hold most of what describes the rest.
            ends = min(len(content), 6000)
            for place in generator.integers(8, ends, generator.integers(1, 20)):
                content[place] ^= 1 << generator.integers(0, 8)
        elif kind == 2:
            for place in generator.integers(0, len(content), generator.integers(1, 200)):
                content[place] = generator.integers(0, 256)
        else:
            begin = int(generator.integers(0, len(content)))
            content[begin : begin + 64] = generator.bytes(64)
        target.write_bytes(content)
        return target
    names = ["/entry_1/data_1/data", "/data/chunk_0/images", "/entry/data/data", "/entry/data/data_000001"]
    with h5py.File(target, "w") as file:
        name = str(generator.choice(names))
        choice = generator.integers(0, 9)
        if choice == 0:
            file[name] = h5py.ExternalLink(str(secret), "/entry_1/data_1/data")
        elif choice == 1:
            file[name] = h5py.SoftLink(name)
        elif choice == 2:
            file[name] = np.array(["text", "more"], h5py.string_dtype())
        elif choice == 3:
            file.create_dataset(name, (2**40, 2**20, 2**20), "u2", chunks=(1, 1024, 1024))
        elif choice == 4:
            file.create_dataset(name, (5, 48, 48), "u2", external=[(str(secret), 0, 5 * 48 * 48 * 2)])
        elif choice == 5:
            layout = h5py.VirtualLayout((6, 48, 48), "u2")
            layout[:] = h5py.VirtualSource(str(secret), "/entry_1/data_1/data", (6, 48, 48))
            file.create_virtual_dataset(name, layout)
        elif choice == 6:
            file[name] = np.zeros((3, 4, 5, 6, 2))
        elif choice == 7:
            file.create_dataset(name, (0, 48, 48), "u2")
        else:
            file[name] = np.zeros((3, 48, 48), [("a", "i4"), ("b", "f4")])
    return target


def screen_mutations(folder: Path, count: int, seed: int) -> dict[str, int]:
    """Read damaged files as the command does; returns how they ended."""
    secret_folder = folder / "secret"
    secret_folder.mkdir()
    secret = cases.write_cxi(secret_folder / "s.h5", np.full((6, 48, 48), SECRET, np.uint16))
    run_folder = folder / "run"
    run_folder.mkdir()
    files = originals(run_folder)
    outside = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    generator = np.random.default_rng(seed)
    ended = {"read": 0, "error frames": 0, "refused": 0, "reader ended": 0}
    with Readers(ReadOptions(), timeout=20) as readers:
        for number in range(count):
            original = files[number % len(files)]
            target = run_folder / f"m{number}{original.suffix}"
            mutated(original, target, secret, generator)
            content = target.read_bytes()
            started = time.monotonic()
            try:
                reasons = read_all(readers, target)
                ended["error frames" if any(reasons) else "read"] += 1
            except UserError as error:
                assert str(error).strip()
                ended["reader ended" if "ended the reader" in str(error) else "refused"] += 1
            assert time.monotonic() - started < 90
            assert target.read_bytes() == content
            target.unlink()
    # Nothing was written anywhere.
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == outside
    return ended


def read_all(readers: Readers, path: Path) -> list[str]:
    reasons: list[str] = []
    sources = readers.stacks(str(path))
    for source in sources:
        readers.static_mask(source)
        frames = [(source, number) for number in range(min(source.frames, 40))]
        for batch in readers.batches([frames] if frames else [], 40, pixel_type([source.dtype])):
            reasons += batch.reasons
            assert not np.any(batch.crops == SECRET), "a link out of the folder was followed"
    return reasons


def test_damaged_files_end_in_a_line_or_in_error_frames(tmp_path: Path) -> None:
    ended = screen_mutations(tmp_path, 120, 0)
    assert ended["refused"] > 20
    assert ended["read"] + ended["error frames"] > 5


@pytest.mark.slow
def test_a_thousand_damaged_files(tmp_path: Path) -> None:
    ended = screen_mutations(tmp_path, 1000, 1)
    assert ended["refused"] > 200
    # The largest of all processes started here, in kB on Linux: no absurd shape was believed.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2 * 2**20, ended


def test_a_reader_that_dies_or_hangs_costs_the_frames_at_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = cases.frames(6, 64)
    run = cases.write_cxi(tmp_path / "run.cxi", data)
    with Readers(ReadOptions(), timeout=30) as readers:
        (source,) = readers.stacks(str(run))
        frames = [(source, number) for number in range(6)]
        batches = readers.batches([frames[:2], frames[2:4], frames[4:]], 2, np.dtype(np.uint16))
        first = next(batches)
        os.kill(readers._readers[0]._process.pid, signal.SIGKILL)
        rest = list(batches)
    assert first.reasons + rest[0].reasons + rest[1].reasons == [""] * 6
    crops = np.concatenate([first.crops, *(batch.crops for batch in rest)])
    np.testing.assert_array_equal(crops[:, 330:394, 330:394], data)
