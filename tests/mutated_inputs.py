"""Every kind of input that is read: an undamaged one, what damages it, and what reads it; and a process that reads with bounds.

Run as a program it damages and reads inputs of some seeds: `python tests/mutated_inputs.py FIRST LAST [command]`.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import hdf5_mutations
import input_originals as originals
import mutations as m
import numpy as np
from input_originals import FRAMES, SHAPE, pixels
from mutated_commands import read_by_command

from sfxjax.errors import UserError, explain_os_error
from sfxjax.spots.fixed_pattern import PATTERN_FILE, FixedPattern, load_pattern

IN_PROCESS, COMMAND, APART = "in process", "command", "process of its own"
SECONDS = 60
# Of resident memory; of addresses for what does without JAX, which reserves more than it uses.
MOST_MEMORY = 3 * 2**30


@dataclass(frozen=True)
class Kind:
    """A kind of input.

    Attributes:
        original: file or folder.
        damage: changes it where it lies.
        read: reads a damaged copy, as the commands do.
        heavy: whether that needs JAX.
    """

    original: Path
    damage: m.Damage
    read: Callable[[Path, m.Random], Any]
    heavy: bool = False


def kinds(folder: Path) -> dict[str, Kind]:
    """Write an undamaged input of every kind into a folder, and tell how each is damaged and read."""
    folder.mkdir(parents=True, exist_ok=True)
    by_text, by_bytes, by_json = (
        m.in_place(damage) for damage in (m.damage_text, m.damage_bytes, m.damage_json)
    )
    by_npz, by_hdf5 = m.in_place(m.damage_npz), hdf5_mutations.damage_hdf5
    made = {name: Kind(folder / name, by_hdf5, read_frames) for name in originals.write_hdf5(folder)}
    for name in originals.write_images(folder):
        packed, text = name.endswith((".gz", ".bz2")), name in ("panels.cbf", "text.cbf")
        damage = m.in_place(m.damage_packed) if packed else by_text if text else by_bytes
        made[name] = Kind(folder / name, damage, read_frames)
    for name in originals.write_masks(folder):
        made[name] = Kind(folder / name, by_hdf5 if name.endswith(".h5") else by_npz, read_mask)
    texts = {"p.geom": (originals.GEOMETRY, read_geometry), "sets.toml": (originals.TABLE, read_table)}
    texts["files.lst"] = "a.cxi\nx_master.h5\nplain.cbf\n", read_list
    for name, (text, read) in texts.items():
        (folder / name).write_text(text)
        made[name] = Kind(folder / name, by_text, read)
    for name in originals.write_labels(folder):
        made[name] = Kind(folder / name, by_text, read_labels)
    made["strong.refl"] = Kind(folder / "strong.refl", by_bytes, read_labels)
    made["peaks.h5"] = Kind(folder / "peaks.h5", by_hdf5, read_labels)
    originals.write_json(folder)
    made["me.labels.jsonl"] = Kind(folder / "me.labels.jsonl", by_text, read_records)
    made["recalibration.json"] = Kind(folder / "recalibration.json", by_json, read_recalibration)
    FixedPattern(np.zeros(SHAPE, bool), np.zeros(SHAPE, np.float32), 1.0).save(folder)
    made["pattern"] = Kind(folder / PATTERN_FILE, by_npz, read_pattern)
    originals.write_journal(folder / "run.journal")
    made["run.journal"] = Kind(folder / "run.journal", by_text, read_journal, heavy=True)
    originals.write_model(folder / "model")
    made["model"] = Kind(folder / "model", m.damage_folder, read_model, heavy=True)
    return made


def read_frames(path: Path, random: m.Random) -> Any:
    """Read frames as screening and training do; of frames that cannot be read only an `Exception` of reading may come."""
    from sfxjax.data.file_states import file_states
    from sfxjax.data.formats import format_name
    from sfxjax.data.frames import ReadOptions, pixel_type
    from sfxjax.data.inputs import find_files
    from sfxjax.data.read import FrameReader

    find_files([str(path)])
    find_files([str(path.parent)])
    file_states(str(path))
    geometry = str(path.parent / "p.geom") if random.random() < 0.1 else None
    options = ReadOptions(
        panels_apart=random.random() < 0.5, geometry=geometry, growing=random.random() < 0.1
    )
    with FrameReader(options) as reader:
        stacks = reader.stacks(str(path))
        for stack in stacks[:3]:
            stack.describe(), stack.event(0)
            reader.shared_mask(stack)
            if not options.panels_apart:
                reader.static_mask(stack)
            list(reader.read(stack, [0, max(stack.frames - 1, 0)], pixel_type([stack.dtype])))
            try:
                reader.whole(stack, 0)
            except (OSError, RuntimeError, ValueError):
                continue
        if stacks and not format_name(path):
            reader.is_simulated(str(path))
        return len(stacks)


def read_mask(path: Path, random: m.Random) -> Any:
    from sfxjax.data.formats import read_image
    from sfxjax.data.masks import load_mask

    inner = random.choice(["", ":good", ":/pixel_mask", ":/entry_1/data_1/mask"], p=[0.7, 0.1, 0.1, 0.1])
    good: tuple[Any, ...] = ((None,), (0,), (1,), (None, 1, None), (None, None, 0xFFFF))[
        random.integers(0, 5)
    ]
    return load_mask(f"{path}{inner}", *good, read_image=read_image).good.sum()


def read_geometry(path: Path, random: m.Random) -> Any:
    from sfxjax.data import geometry_file

    geometry = geometry_file.read_geometry(path)
    geometry.check(SHAPE, "a.cxi")
    geometry.extent(), geometry.assembly(SHAPE)
    return geometry.unflagged(pixels(1)[0], geometry.numbers(SHAPE)).sum()


def read_list(path: Path, random: m.Random) -> Any:
    from sfxjax.data.inputs import find_files

    return find_files([str(path)])


def read_table(path: Path, random: m.Random) -> Any:
    from sfxjax.data.set_description import sets_of_options

    return [described.to_json() for described in sets_of_options(table=str(path)).values()]


def read_labels(path: Path, random: m.Random) -> Any:
    from sfxjax.data import labels

    return labels.read_labels(path, FRAMES, min_spots=10 if random.random() < 0.8 else None)


def read_records(path: Path, random: m.Random) -> Any:
    from sfxjax.label.store import LabelFile, label_array, write_csv

    kept = path.parent / "me.labels.jsonl"
    shutil.copy(path, kept)
    records = LabelFile(path.parent, "me").records
    write_csv(path.parent / "me.csv", records)
    return label_array(records, FRAMES)


def read_recalibration(path: Path, random: m.Random) -> Any:
    from sfxjax.spots.recalibration import FILE, load

    shutil.copy(path, path.parent / FILE)
    model = load(path.parent)
    return (
        None
        if model is None
        else (model.probability(np.zeros((2, 4))), model.min_snr > 0, model.min_spots < 25)
    )


def read_pattern(path: Path, random: m.Random) -> Any:
    place = path.parent / "adapted"
    place.mkdir(exist_ok=True)
    shutil.copy(path, place / PATTERN_FILE)
    return load_pattern(place)


def read_journal(path: Path, random: m.Random) -> Any:
    from sfxjax.screen.journal import Journal
    from sfxjax.screen.results import Results

    journal = Journal(path, originals.JOURNAL_OF, Results())
    journal.lines()
    journal.close()


def read_model(path: Path, random: m.Random) -> Any:
    from sfxjax.models.checkpoint import load_model

    model = load_model(path)
    repr(model)
    assert 0 <= model.threshold <= 1, f"a threshold of {model.threshold} was accepted"
    return model.threshold


class Worker:
    """A process that reads damaged inputs with bounds on memory and time. A context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._context = multiprocessing.get_context("spawn")
        self._process: Any = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None

    def outcome(self, name: str, path: Path, seed: int, heavy: bool, way: str) -> tuple[str, str]:
        """Read one, by `IN_PROCESS`, `COMMAND` or `APART`: "read", "refused" with its line, or "fault" and what is wrong."""
        if self._process is None:
            self._pipe, theirs = self._context.Pipe()
            self._process = self._context.Process(
                target=_serve, args=(theirs, str(self._folder), heavy), daemon=False
            )
            self._process.start()
            theirs.close()
            assert self._pipe.poll(SECONDS) and self._pipe.recv() == "ready"
        self._pipe.send((name, str(path), seed, way))
        # A command also compiles its programs.
        seconds = SECONDS if way == IN_PROCESS else 10 * SECONDS
        try:
            if self._pipe.poll(seconds):
                return self._pipe.recv()
            reason = f"no answer within {seconds} s"
        except (EOFError, OSError):
            self._process.join(5)
            reason = f"ended the process with {self._process.exitcode}"
        self.stop()
        return "fault", reason


def _serve(pipe: Connection, folder: str, heavy: bool) -> None:
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.chdir(folder)
    if not heavy:
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Threads of libraries print tracebacks of their own.
    said = Path(f"stderr.{os.getpid()}")
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    pipe.send("ready")
    while True:
        name, path, seed, way = pipe.recv()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            if way == IN_PROCESS:
                READERS[name](Path(path), np.random.default_rng(seed))
                outcome = "read", ""
            else:
                outcome = read_by_command(name, Path(path), way == APART)
        except UserError as error:
            line = str(error)
            fault = not line.strip() or len(line) > 4000 or any(ord(c) < 32 and c not in "\n\t" for c in line)
            outcome = (
                ("fault", f"a line of {len(line)} characters: {line[:300]!r}") if fault else ("refused", line)
            )
        except OSError as error:
            explained = explain_os_error(error)
            outcome = ("refused", explained) if explained else ("fault", traceback.format_exc())
        except BaseException:
            outcome = "fault", traceback.format_exc()
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if most > MOST_MEMORY / 1024 > before:
            outcome = "fault", f"took {most / 2**20:.1f} GB"
        if said.stat().st_size:
            if "Traceback (most recent" in (printed := said.read_text(errors="replace")):
                outcome = "fault", f"printed {printed}"
            os.truncate(said, 0)
        pipe.send(outcome)


READERS: dict[str, Callable[[Path, m.Random], Any]] = {
    each.__name__: each
    for each in (
        *(read_frames, read_mask, read_geometry, read_list, read_table, read_labels, read_records),
        *(read_recalibration, read_pattern, read_journal, read_model),
    )
}


def damaged_inputs(known: dict[str, Kind], seeds: range) -> Iterator[tuple[int, str, Path]]:
    """Write damaged inputs one after the other, each kind by turns; each is removed when the next is taken."""
    names = list(known)
    for seed in seeds:
        name = names[seed % len(names)]
        kind = known[name]
        # Beside the others, which links lead to, and the name decides what some kinds are.
        target = kind.original.with_name(f"m{seed}{kind.original.name}")
        m.write_damaged(kind.original, target, kind.damage, np.random.default_rng(seed))
        yield seed, name, target
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)


def faults_of(folder: Path, seeds: range, way: str = IN_PROCESS) -> tuple[dict[str, int], list[str]]:
    """Read damaged inputs; returns how many ended how, and what is at fault.

    By `COMMAND` every twentieth is read `APART`.
    """
    known = kinds(folder)
    if way != IN_PROCESS:
        known = {name: kind for name, kind in known.items() if kind.read not in (read_records, read_pattern)}
    counts = {"read": 0, "refused": 0, "fault": 0}
    faults = []
    with Worker(folder) as light, Worker(folder) as heavy:
        for seed, name, path in damaged_inputs(known, seeds):
            kind = known[name]
            with_jax = kind.heavy or way != IN_PROCESS
            chosen = APART if way == COMMAND and seed % 20 == 0 else way
            worker = heavy if with_jax else light
            how, why = worker.outcome(kind.read.__name__, path, seed, with_jax, chosen)
            counts[how] += 1
            if how == "fault":
                faults.append(f"seed {seed}, {name}: {why}")
    return counts, faults


if __name__ == "__main__":
    import tempfile

    first, last = (int(text) for text in (*sys.argv[1:3], "0", "200")[:2])
    with tempfile.TemporaryDirectory() as place:
        result, wrong = faults_of(
            Path(place), range(first, last), sys.argv[3] if sys.argv[3:] else IN_PROCESS
        )
    print("\n\n".join(wrong))
    print(result)
