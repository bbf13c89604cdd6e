"""Sets of frames to train on and to test on: any files that can be screened, and what is known of their frames.

A set is named in one of three ways:

- `--set NAME=FILES...` with `labels=FILE`, `mask=FILE[:PATH]`, `dataset=PATH`, `geometry=FILE` and so on among the values;
- a table of that name in a TOML file (`--sets FILE`), with the same keys and `files`;
- a set of CXIDB 76 (Ke et al., J. Synchrotron Rad. 25:655, 2018) in the folder that `--data` names.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sfxjax.crop import CROP
from sfxjax.data.batches import CropBatch, crop_batch
from sfxjax.data.frames import FrameStack, ReadOptions, pixel_type
from sfxjax.data.inputs import expand
from sfxjax.data.labels import MISS, UNLABELLED, read_labels
from sfxjax.data.masks import BAD_PIXEL_FRAMES, find_bad_pixels
from sfxjax.data.read import FrameReader
from sfxjax.errors import UserError, explain_os_error

LABEL_FILE = "expert_annotation.txt"
MASK_FILE = "mask.npz"
# Folder and file of each set in the deposition.
CXIDB76 = {
    "LN83": ("ln83", "r0018_2000.h5"),
    "LN84": ("ln84", "r0095_2000.h5"),
    "LO19": ("lo19", "r0020_2000.h5"),
    "LG36": ("lg36", "r0087_2000.h5"),
    "L498": ("l498", "r0027_2000.h5"),
}
_KEYS = {
    "labels": str,
    "mask": str,
    "mask_good": int,
    "good_bits": int,
    "bad_bits": int,
    "dataset": str,
    "geometry": str,
    "beam_centre": list,
}


@dataclass(frozen=True)
class SetDescription:
    """What a set consists of.

    Attributes:
        name: for tables and folders.
        files: names of the files, folders and patterns expanded.
        labels: file of labels, see `sfxjax.data.labels`; None: the frames have none.
        read: what the user says about the files.
        label_name: the frames' file that labels of CXIDB 76 must name.
    """

    name: str
    files: tuple[str, ...]
    labels: str | None = None
    read: ReadOptions = field(default_factory=ReadOptions)
    label_name: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what decides the set's frames and labels, as JSON values: options, files, and a checksum of the labels."""
        files = []
        for name in self.files:
            status = Path(name).stat()
            files.append([name, status.st_size, status.st_mtime_ns])
        digest = None
        if self.labels is not None and Path(self.labels).is_file():
            digest = hashlib.sha256(Path(self.labels).read_bytes()).hexdigest()[:16]
        return {"files": files, "labels": digest, "read": asdict(self.read)}


class FrameSet:
    """A set, open for reading: its labels, and its frames crop by crop. A context manager.

    Attributes:
        name: of the set.
        path: of its first file.
        stacks: of frames, in order.
        frame_shape: (ss, fs) of a frame, pixels.
        dtype: of the crops.
        labels: int8 (frames,): MISS, MAYBE, HIT or UNLABELLED.
        simulated: whether a file says that its frames were not measured.
        notes: what the user should be told of the files.
    """

    def __init__(self, description: SetDescription) -> None:
        """Open the files.

        Raises:
            UserError: a file is missing, damaged or of no known format, or labels or mask do not fit the frames.
        """
        self.description = description
        self.name = description.name
        self.path = Path(description.files[0])
        self._reader = FrameReader(description.read)
        try:
            self.stacks = [stack for name in description.files for stack in self._reader.stacks(name)]
            first = self.stacks[0]
            for stack in self.stacks:
                if stack.shape != first.shape:
                    here, there = ("x".join(map(str, shape)) for shape in (stack.shape, first.shape))
                    raise UserError(
                        f"{stack.file}: frames of {here} pixels, where the set's first have {there}"
                    )
            self.notes = tuple(note for stack in self.stacks for note in stack.notes)
            self.frame_shape = first.shape
            self.dtype = pixel_type([stack.dtype for stack in self.stacks])
            self._frames = [(stack, number) for stack in self.stacks for number in range(stack.frames)]
            if not self._frames:
                raise UserError(f"{self.path}: there are no frames")
            self.simulated = any(self._reader.is_simulated(name) for name in description.files)
            self._masks = self._read_masks()
            self.labels = np.full(len(self), UNLABELLED, np.int8)
            if description.labels is not None:
                frames = [(stack.file, stack.event(number)) for stack, number in self._frames]
                self.labels = read_labels(description.labels, frames, description.label_name)
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"FrameSet({self.name}, {len(self)} frames, {(self.labels != UNLABELLED).sum()} labels)"

    def __len__(self) -> int:
        return len(self._frames)

    def __enter__(self) -> FrameSet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; labels and masks stay usable."""
        self._reader.close()

    @property
    def positives(self) -> np.ndarray:
        """Bool (frames,): Hit or Maybe, the paper's positive class."""
        return self.labels > MISS

    def mask_crop(self) -> np.ndarray | None:
        """Return the mask that all frames of the first stack share, bool (724, 724), True = valid; None: all pixels are."""
        return self._masks[self._key(self.stacks[0])]

    def covered(self) -> np.ndarray | None:
        """Return where the crop holds pixels of the detector, bool (724, 724); None: everywhere."""
        return self._reader.covered(self.stacks[0])

    def crops(self, indices: Sequence[int] | np.ndarray | range) -> np.ndarray:
        """Read the central crops of frames.

        Args:
            indices: frame numbers from 0, in any order; they may repeat.

        Returns:
            (n, 724, 724) in the order of `indices`; what a smaller frame lacks is 0.

        Raises:
            IndexError: there is no such frame.
            UserError: a frame is damaged.
        """
        return self._read(indices)[0]

    def original(self, number: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return a whole frame as stored, and the mask that its stack shares, bool of its shape, or None."""
        stack, frame = self._frames[number]
        return self._reader.original(stack, frame), self._reader.whole_mask(stack)

    def batches(self, indices: Sequence[int] | np.ndarray | range, size: int) -> Iterator[CropBatch]:
        """Read frames, some at a time, with what decides which of their pixels count, as a screening has it.

        Args:
            indices: as for `crops`.
            size: frames at a time; the last batch may hold fewer.

        Raises:
            IndexError, UserError: as `crops`.
        """
        wanted = _numbers(indices, len(self))
        for begin in range(0, len(wanted), size):
            crops, own = self._read(wanted[begin : begin + size])
            stacks = [self._frames[number][0] for number in wanted[begin : begin + size]]
            masks = [self._masks[self._key(stack)] for stack in stacks]
            yield crop_batch(crops, stacks, masks, own, [self._has_mask(stack) for stack in stacks])

    def _read(self, indices: Sequence[int] | np.ndarray | range) -> tuple[np.ndarray, np.ndarray | None]:
        wanted = _numbers(indices, len(self))
        crops = np.zeros((len(wanted), CROP, CROP), self.dtype)
        masks: np.ndarray | None = None
        for place, number in enumerate(wanted):
            stack, frame = self._frames[number]
            crop, mask, reason = next(self._reader.read(stack, [frame], self.dtype))
            if crop is None:
                raise UserError(
                    f"{stack.file}: frame {number} (counted from 0) of {self.name} is damaged; "
                    f"fetch the file again ({reason})"
                )
            crops[place] = crop
            if mask is not None:
                masks = np.ones(crops.shape, bool) if masks is None else masks
                masks[place] = mask
        return crops, masks

    def _read_masks(self) -> dict[tuple[str, str], np.ndarray | None]:
        masks: dict[tuple[str, str], np.ndarray | None] = {}
        for stack in self.stacks:
            mask = self._reader.static_mask(stack)
            # Equal masks are one object, see `crop_batch`.
            alike = (
                known
                for known in masks.values()
                if mask is not None and known is not None and np.array_equal(known, mask)
            )
            masks[self._key(stack)] = next(alike, mask)
        if any(self._has_mask(stack) for stack in self.stacks):
            return masks
        # As a screening does where no mask is given.
        shared = masks[self._key(self.stacks[0])]
        crops = [
            crop
            for stack, number in self._frames[:BAD_PIXEL_FRAMES]
            for crop, _, _ in self._reader.read(stack, [number], self.dtype)
            if crop is not None
        ]
        bad, _ = find_bad_pixels(np.array(crops), shared) if crops else (None, "")
        if bad is None:
            return masks
        found = ~bad if shared is None else shared & ~bad
        return {key: found if mask is shared or mask is None else mask & ~bad for key, mask in masks.items()}

    def _has_mask(self, stack: FrameStack) -> bool:
        return bool(self.description.read.mask or stack.mask_dataset or stack.frame_masks)

    @staticmethod
    def _key(stack: FrameStack) -> tuple[str, str]:
        return stack.file, stack.dataset


def open_set(folder: str | Path, name: str) -> FrameSet:
    """Open one set of CXIDB 76, or a simulated set for it.

    Args:
        folder: see `cxidb76_set`.
        name: one of `CXIDB76`, in either case.

    Raises:
        UserError: there is no such set, a file is missing or damaged, or the files do not fit one another.
    """
    return FrameSet(cxidb76_set(folder, name))


def sets_in(folder: str | Path | None, names: Sequence[str]) -> dict[str, SetDescription]:
    """Find sets of CXIDB 76 in a folder; none where there is no folder.

    Raises:
        UserError: as `cxidb76_set`.
    """
    return {} if folder is None else {name: cxidb76_set(folder, name) for name in names}


def cxidb76_name(name: str) -> str:
    """Return the name of a set of CXIDB 76 as the deposition writes it.

    Raises:
        UserError: there is no such set.
    """
    if name.upper() not in CXIDB76:
        raise UserError(
            f"no set named {name!r}; choose one of {', '.join(CXIDB76)}, or name your own files with --set"
        )
    return name.upper()


def cxidb76_set(folder: str | Path, name: str) -> SetDescription:
    """Find the files of a set of CXIDB 76.

    Args:
        folder: holds `ln83/r0018_2000.h5`, as on the deposition's site, or `LN83/r0018_2000.h5`, or
            `r0018_2000.h5`. `expert_annotation.txt` and, if there is one, `mask.npz` lie beside that file, or
            in `ln83/` or `LN83/`.
        name: one of `CXIDB76`, in either case.

    Raises:
        UserError: there is no such set, or its frames or labels are missing.
    """
    name = cxidb76_name(name)
    own, file_name = CXIDB76[name]
    root = Path(folder)
    own_folders = [root / own, root / name]
    candidates = [place / file_name for place in (*own_folders, root)]
    path = _first_file(candidates)
    if path is None:
        tried = ", ".join(map(str, candidates))
        raise UserError(
            f"no frames of {name} found (tried {tried}); --data must name the folder that holds "
            f"{own}/{file_name} of CXIDB 76"
        )
    # In a folder with files of several sets, labels and mask in the set's own folder are the surer ones.
    places = [*own_folders, root] if path.parent == root else [path.parent, *own_folders]
    labels = _first_file([place / LABEL_FILE for place in places])
    if labels is None:
        raise UserError(f"no labels of {name} found; put its {LABEL_FILE} into {path.parent}")
    mask = _first_file([place / MASK_FILE for place in places])
    read = ReadOptions(mask=None if mask is None else str(mask))
    return SetDescription(name, (str(path),), str(labels), read, file_name)


def sets_of_options(
    sets: Sequence[Sequence[str]] = (), table: str | Path | None = None
) -> dict[str, SetDescription]:
    """Read the sets that a command line describes.

    Args:
        sets: each the values of one `--set`: `NAME=FILE`, more files, and `key=value`.
        table: TOML file of `--sets`.

    Returns:
        By name.

    Raises:
        UserError: a description is incomplete or has an unknown key, two sets have one name, or a file is missing.
    """
    described: list[tuple[str, dict[str, Any], Path]] = []
    if table is not None:
        described += _read_table(Path(table))
    for values in sets:
        name, _, first = values[0].partition("=")
        if not name or not first:
            raise UserError(
                f"--set {values[0]!r} is not NAME=FILES; write --set myrun=run12/*.h5 labels=labels.csv"
            )
        fields: dict[str, Any] = {"files": [first]}
        for value in values[1:]:
            key, _, text = value.partition("=")
            if key in _KEYS:
                fields[key] = _typed(key, text, f"--set {name}")
            else:
                fields["files"].append(value)
        described.append((name, fields, Path()))
    found: dict[str, SetDescription] = {}
    for name, fields, folder in described:
        if name in found:
            raise UserError(f"there are two sets named {name!r}; give one of them another name")
        found[name] = _description(name, fields, folder)
    return found


def _read_table(path: Path) -> list[tuple[str, dict[str, Any], Path]]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(explain_os_error(error, path) or f"{path}: {error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a TOML file ({error})") from error
    described = []
    for name, fields in tables.items():
        if not isinstance(fields, dict):
            raise UserError(f"{path}: {name} is no table; write [{name}] above the files of a set")
        unknown = sorted(set(fields) - {*_KEYS, "files"})
        if unknown:
            raise UserError(
                f"{path}: [{name}] has an unknown key {unknown[0]!r}; known are files, {', '.join(_KEYS)}"
            )
        files = fields.get("files")
        fields["files"] = [files] if isinstance(files, str) else files
        for key, kind in {**_KEYS, "files": list}.items():
            if fields.get(key) is not None and type(fields[key]) is not kind:
                raise UserError(f"{path}: {key} of [{name}] is no {kind.__name__}")
        described.append((name, fields, path.parent))
    return described


def _typed(key: str, text: str, where: str) -> Any:
    try:
        if _KEYS[key] is int:
            return int(text, 0)
        return [float(part) for part in text.split(",")] if _KEYS[key] is list else text
    except ValueError:
        raise UserError(f"{where}: {key}={text} is no number") from None


def _description(name: str, fields: Mapping[str, Any], folder: Path) -> SetDescription:
    files = fields.get("files")
    if not files or not all(isinstance(file, str) for file in files):
        raise UserError(f"the set {name!r} names no files; give files, folders or patterns")
    centre = fields.get("beam_centre")
    if centre is not None and len(centre) != 2:
        raise UserError(f"the beam centre of the set {name!r} is not x,y such as 960.5,958.2")

    def place(key: str) -> str | None:
        return None if fields.get(key) is None else str(folder / fields[key])

    labels = place("labels")
    if labels is not None and not Path(labels).is_file():
        raise UserError(f"no such file of labels: {labels}")
    return SetDescription(
        name,
        tuple(expand([str(folder / file) for file in files])),
        labels,
        ReadOptions(
            dataset=fields.get("dataset"),
            mask=place("mask"),
            mask_good=fields.get("mask_good"),
            good_bits=fields.get("good_bits"),
            bad_bits=fields.get("bad_bits"),
            geometry=place("geometry"),
            centre=None if centre is None else (float(centre[0]), float(centre[1])),
        ),
    )


def _first_file(candidates: list[Path]) -> Path | None:
    return next((path for path in candidates if path.exists()), None)


def _numbers(indices: Sequence[int] | np.ndarray | range, frames: int) -> np.ndarray:
    """Check frame numbers.

    Raises:
        IndexError: they are no integers in one dimension, or there is no such frame.
    """
    wanted = np.asarray(indices)
    if wanted.size == 0:
        return np.empty(0, int)
    if wanted.ndim != 1 or not np.issubdtype(wanted.dtype, np.integer):
        raise IndexError("frame numbers must be a one-dimensional sequence of integers")
    if not 0 <= wanted.min() <= wanted.max() < frames:
        raise IndexError(f"frame numbers must be from 0 to {frames - 1}")
    return wanted
