"""Writes simulated sets for CXIDB 76's sets in its layout: frames, labels, mask and truth.

    python -m sfxjax.simulate LO19 --frames 2000 --out DIR

makes `DIR/LO19/` with the file `sfxjax.data.sets.open_set` reads, `expert_annotation.txt`, `mask.npz` and
`truth.h5`. The folder gets its name once all of them are whole, so a run that was stopped leaves nothing that
looks like a set.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
from filelock import FileLock, Timeout

from sfxjax.data.labels import HIT_SPOTS, MAYBE_SPOTS, classify, write_annotations
from sfxjax.data.new_hdf5 import NewHDF5
from sfxjax.data.set_description import CXIDB76, LABEL_FILE, MASK_FILE
from sfxjax.data.write import SetMetadata, SetWriter
from sfxjax.errors import UserError
from sfxjax.files import atomic_folder, make_folder, user_cache_folder
from sfxjax.mapping import map_in_threads
from sfxjax.progress import progress
from sfxjax.simulate import sets as simulated_sets
from sfxjax.simulate.cache import cache_line, used
from sfxjax.simulate.detector import SATURATION
from sfxjax.simulate.parameters import SIMULATED_SETS, SimulatedSet, simulated_set
from sfxjax.simulate.sets import CROP, ShotPlan, Truth, plan_run, simulate_frames

TRUTH_FILE = "truth.h5"
FEWEST_SIMULATED = 10  # fewer cannot hold the three classes
MOST_AT_ONCE = 1024  # frames of a batch, 2 GB of them
GROUP_SIZE = 200  # frames in a group of the file
# Part of the cache folder's name: raise it whenever the same parameters give other frames, labels or files.
GENERATOR_VERSION = 3


def simulate_set(
    name: str,
    folder: str | Path,
    frames: int = 2000,
    seed: int = 0,
    *,
    full: bool = False,
    batch: int = 32,
    compression: str | None = None,
    quiet: bool = False,
) -> Path:
    """Simulate one set and write it to `folder/name`, whole or not at all.

    An older set of this program in that place is replaced; leftovers of a run that was killed are removed. If
    another process is writing the same set there, this one waits until it has ended.

    Args:
        name: a key of `sfxjax.simulate.parameters.SIMULATED_SETS`.
        folder: the parent of the new folder; made if missing.
        frames: how many, at least 10.
        seed: of the run; frames, labels and truth are the same for the same seed.
        full: write 1920x1920 pixels instead of the central 724x724.
        batch: frames simulated at once; the frames do not depend on it.
        compression: of the frames: None, `gzip` or `bitshuffle`.
        quiet: show no progress.

    Returns:
        The set's folder.

    Raises:
        UserError: there is no such simulated set, a number is out of range, the disk lacks the room, or the place
            is taken by other files.
        OSError: the files cannot be written.
    """
    parameters = simulated_set(name)
    _check_numbers(frames, seed, batch)
    target = Path(folder) / name
    make_folder(target.parent)
    with only_writer(target, quiet):
        _write_set(parameters, target, frames, seed, full, batch, compression, quiet)
    return target


def simulated_data(names: Sequence[str], frames: int = 2000, seed: int = 0, *, quiet: bool = False) -> Path:
    """Return a folder in the user's cache that holds the named simulated sets, simulating those that are missing.

    Safe to call from several processes. The folder's name is made from the sets' parameters, the generator's
    version, the number of frames and the seed, so that a set made otherwise is never reused.

    Args:
        names: keys of `sfxjax.simulate.parameters.SIMULATED_SETS`.
        frames: of each set, at least 10.
        seed: of the run.
        quiet: show no progress.

    Returns:
        The folder, for `sfxjax.data.sets.open_set`.

    Raises:
        UserError, OSError: as `simulate_set`.
    """
    wanted = [simulated_set(name) for name in names]
    _check_numbers(frames, seed)
    root = user_cache_folder() / f"simulated_sets-v{GENERATOR_VERSION}-{frames}-seed{seed}-{_fingerprint()}"
    make_folder(root)
    used(root)
    for parameters in wanted:
        target = root / parameters.name
        # A set has its name only when it is whole, so looking for the folder is enough.
        if target.is_dir():
            continue
        with only_writer(target, quiet):
            if not target.is_dir():
                _write_set(parameters, target, frames, seed, False, 32, None, quiet)
                if not quiet:
                    print(cache_line())
    return root


def simulated_mask(parameters: SimulatedSet, shape: tuple[int, int]) -> np.ndarray:
    """Mask the beam stop with a margin, and what the real set's mask hides beside it.

    Args:
        parameters: the set.
        shape: size of the frames, the middle of the whole detector, pixels (ss, fs).

    Returns:
        (ss, fs) bool, True for valid.
    """
    centre = simulated_sets.frame_centre(parameters, shape)
    ss = np.arange(shape[0])[:, None] - centre[0]
    fs = np.arange(shape[1])[None, :] - centre[1]
    valid = ss**2 + fs**2 > (parameters.detector.stop_radius + 3.0) ** 2
    half_length, half_width = parameters.mask_arms
    valid &= ~((np.abs(ss) <= half_length) & (np.abs(fs) <= half_width))
    border = parameters.mask_border
    if border and shape == parameters.geometry.shape:
        valid[:border], valid[-border:], valid[:, :border], valid[:, -border:] = False, False, False, False
    return valid


def _write_set(
    parameters: SimulatedSet,
    target: Path,
    frames: int,
    seed: int,
    full: bool,
    batch: int,
    compression: str | None,
    quiet: bool,
) -> None:
    shape = parameters.geometry.shape if full else (CROP, CROP)
    if compression is None:
        _check_room(target.parent, frames, shape)
    _, file_name = CXIDB76[parameters.name]
    centre = simulated_sets.frame_centre(parameters, shape)
    pixel = parameters.geometry.pixel_size
    about = SetMetadata(
        beam_centre=(centre[1] * pixel, centre[0] * pixel), pixel_size=pixel, saturated_value=SATURATION
    )
    truths: list[Truth] = []
    with (
        atomic_folder(target) as folder,
        SetWriter(
            folder / file_name,
            frames,
            shape,
            np.int16,
            GROUP_SIZE,
            about,
            compression=compression,
            simulated=True,
        ) as writer,
        progress(f"simulated set {parameters.name}", frames, quiet=quiet) as advance,
    ):
        for images, truth in _simulate_set(parameters, frames, seed, shape, batch):
            count = len(images)
            writer.append(
                images,
                np.full(count, parameters.geometry.wavelength),
                np.full(count, parameters.geometry.distance),
            )
            truths.append(truth)
            advance(count)
        labels = classify(np.concatenate([truth.count for truth in truths]))
        write_annotations(folder / LABEL_FILE, file_name, labels)
        np.savez_compressed(folder / MASK_FILE, good=simulated_mask(parameters, shape))
        _write_truth(folder / TRUTH_FILE, truths, parameters, seed, shape)


def _simulate_set(
    parameters: SimulatedSet, frames: int, seed: int, shape: tuple[int, int], batch: int
) -> Iterator[tuple[np.ndarray, Truth]]:
    """Yield the run's frames and their truth, batch by batch, on the host."""
    plan = plan_run(parameters, frames, seed)
    batch = min(batch, frames)

    def some(first: int, size: int) -> tuple[jax.Array, Truth]:
        # The last ones are filled up with the last frame, or they would be compiled anew for their own length.
        index = np.minimum(np.arange(first, first + size), frames - 1)
        chosen = ShotPlan(*(column[index] for column in plan))
        return simulate_frames(seed, index, chosen, parameters=parameters, shape=shape)

    def whole(first: int) -> tuple[np.ndarray, Truth]:
        count = min(batch, frames - first)
        made = map_in_threads(lambda place, size: some(first + place, size), batch)
        images, truth = jax.tree.map(lambda column: np.asarray(column)[:count], made)
        return images, truth

    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(whole, 0)
        for first in range(0, frames, batch):
            made = coming.result()
            # The next batch is computed while this one is written.
            if first + batch < frames:
                coming = ahead.submit(whole, first + batch)
            yield made


def _write_truth(
    path: Path, truths: list[Truth], parameters: SimulatedSet, seed: int, shape: tuple[int, int]
) -> None:
    """Write what is known of each frame; visible spots of frame i are rows offsets[i] to offsets[i + 1]."""
    ratio = np.concatenate([truth.signal_to_noise for truth in truths])
    visible = ratio >= simulated_sets.VISIBLE_SIGNAL_TO_NOISE
    with NewHDF5(path) as file:
        file["count"] = np.concatenate([truth.count for truth in truths])
        file["offsets"] = np.concatenate([[0], np.cumsum(visible.sum(axis=1))])
        file["position"] = np.concatenate([truth.position for truth in truths])[visible]
        file["signal_to_noise"] = ratio[visible]
        file["in_crop"] = np.concatenate([truth.in_crop for truth in truths])[visible]
        file["count"].attrs["meaning"] = f"visible spots in the central {CROP}x{CROP} pixels"
        file["position"].attrs["meaning"] = "pixels (ss, fs) from the middle of the frame's first pixel"
        file.attrs["simulated"] = True
        file.attrs["visible_signal_to_noise"] = simulated_sets.VISIBLE_SIGNAL_TO_NOISE
        file.attrs["frame_shape"] = shape
        file.attrs["seed"] = seed
        file.attrs["generator_version"] = GENERATOR_VERSION
        file.attrs["parameters"] = json.dumps(dataclasses.asdict(parameters))


def _check_numbers(frames: int, seed: int, batch: int = 1) -> None:
    if frames < FEWEST_SIMULATED:
        raise UserError(f"a set of {frames} frames is too small; ask for at least {FEWEST_SIMULATED}")
    if not 0 <= seed < 2**31:
        raise UserError(f"seed {seed} is out of range; choose one from 0 to {2**31 - 1}")
    if not 1 <= batch <= MOST_AT_ONCE:
        raise UserError(f"batches of {batch} frames make no sense; choose 1 to {MOST_AT_ONCE}")


def _check_room(folder: Path, frames: int, shape: tuple[int, int]) -> None:
    needed = frames * shape[0] * shape[1] * np.dtype(np.int16).itemsize
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"the disk has {free / 1e9:.1f} GB free at {folder}, and {frames} frames need "
            f"{needed / 1e9:.1f} GB; free some space, name another folder or ask for fewer frames"
        )


def _fingerprint() -> str:
    """Eight letters that change with any parameter of any simulated set, or any constant their labels rest on."""
    constants = [
        CROP,
        HIT_SPOTS,
        MAYBE_SPOTS,
        simulated_sets.VISIBLE_SIGNAL_TO_NOISE,
    ]
    sets = {name: dataclasses.asdict(parameters) for name, parameters in sorted(SIMULATED_SETS.items())}
    text = json.dumps([constants, sets], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@contextmanager
def only_writer(target: Path, quiet: bool) -> Iterator[None]:
    """Hold the lock on writing `target`, and remove what killed writers of it have left."""
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not quiet:
                print(f"{target}: another process is simulating this set; waiting for it", flush=True)
            lock.acquire()
    except (NotImplementedError, OSError):
        # The system or the folder has no locks.
        yield
        return
    try:
        # Whoever holds the lock is the only writer, so every unfinished folder is a dead one's.
        for leftover in target.parent.glob(f".{target.name}.*.part"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield
        # The same goes for an older set that was moved aside; it is kept until there is a new one.
        for replaced in target.parent.glob(f".{target.name}.*.old"):
            shutil.rmtree(replaced, ignore_errors=True)
    finally:
        # Unlinked while still held: whoever waits for it sees that the name is gone and makes a new file.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
