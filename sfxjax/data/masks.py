"""Masks of bad pixels, whose polarity differs from program to program and is never guessed.

Everywhere in this package a mask is bool, True where a pixel is good.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import IO

import h5py
import numpy as np
from numpy.lib import format as npy

from sfxjax.data.hdf5 import Files
from sfxjax.data.opening import damage_named, first_line
from sfxjax.errors import UserError, explain_os_error
from sfxjax.files import is_file, refuse_pipe
from sfxjax.text import per_cent

# A mask that leaves less of the pixels is taken for one of the other polarity.
FEWEST_GOOD = 0.05

# Of a mask in a file of its own.
MOST_MASK_BYTES = 2**28

# Names of data sets whose values NXmx, CXI and EuXFEL define: 0 is good, each bit a fault.
ZERO_IS_GOOD = ("pixel_mask", "mask_shared", "pixelmask")
_ENTRY = re.compile(r"/entry_\d+(?=/)")
_CXI_MASK = re.compile(r"/entry_\d+/(data|image|instrument_1/detector)_\d+/mask")
# Of the bits of CXI and Cheetah these are no faults: outside the resolution limits, corrected, peak, background corrected.
CXI_FAULTS = 0xFFFFFFFF & ~(0x100 | 0x800 | 0x2000 | 0x4000)


@dataclass(frozen=True)
class LoadedMask:
    """A mask from a file.

    Attributes:
        good: bool, True = good.
        where: file and data set.
        meaning: of its values, in words.
    """

    good: np.ndarray
    where: str
    meaning: str


def meaning(good_value: int, good_bits: int | None = None, bad_bits: int | None = None) -> str:
    """Say which values of a mask are good, for arguments as `good_pixels` has them."""
    if good_bits is None and bad_bits is None:
        return "0 is good" if good_value == 0 else "0 is bad"
    parts = [f"bits {good_bits:#x} of good pixels are set"] if good_bits else []
    parts += [f"bits {bad_bits:#x} are bad"] if bad_bits or not good_bits else []
    return ", ".join(parts).replace("bits None", "no bits")


def good_pixels(
    values: np.ndarray, good_value: int, good_bits: int | None = None, bad_bits: int | None = None
) -> np.ndarray:
    """Turn a mask's stored values into bool, True = good.

    Args:
        values: integers, bool, or floats; non-finite ones are bad.
        good_value: 0: zero is good, every other value bad; 1: zero is bad, every other value good.
        good_bits: bits that must all be set (CrystFEL's goodbits).
        bad_bits: bits none of which may be set (CrystFEL's badbits). With either, `good_value` is not used.

    Raises:
        UserError: bits are asked of a mask of floats that are no whole numbers.
    """
    finite = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    if good_bits is None and bad_bits is None:
        return finite & ((values == 0) if good_value == 0 else (values != 0))
    if values.dtype.kind == "f":
        whole = np.where(finite, values, 0)
        if np.any(whole != np.round(whole)) or np.any(np.abs(whole) > 2**53):
            raise UserError("a mask of floats has no bits; give --mask-good 0 or 1 instead of bits")
        values = whole
    bits = values.astype(np.int64).astype(np.uint64)
    wanted, unwanted = np.uint64(good_bits or 0), np.uint64(bad_bits or 0)
    return finite & ((bits & wanted) == wanted) & ((bits & unwanted) == 0)


def without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without its axes of length 1."""
    return tuple(length for length in shape if length != 1)


def split_mask_name(text: str) -> tuple[Path, str | None]:
    """Split FILE[:PATH]; a file whose own name has a colon is taken as it is if it exists."""
    if is_file(text) or ":" not in text:
        return Path(text), None
    name, _, inner = text.rpartition(":")
    return Path(name), inner


def read_mask_file(text: str, mask_good: int | None = None) -> np.ndarray:
    """Read a mask, True = good, as `load_mask` does."""
    return load_mask(text, mask_good).good


def load_mask(
    text: str,
    mask_good: int | None = None,
    good_bits: int | None = None,
    bad_bits: int | None = None,
    *,
    allow_links: bool = False,
    read_image: Callable[[Path], np.ndarray] | None = None,
) -> LoadedMask:
    """Read a mask of any number of axes.

    The polarity is `mask_good`; else that of the format: an `.npz` file's bool array `good`; data sets called `mask_shared` or
    `pixel_mask`, or the `mask` in a CXI file of frames: 0 is good; psocake's `staticMask*.h5`: 1 is good. A `mask` alone in a
    file of its own is written in both polarities, and is asked about unless its values are bits of CXI.

    Args:
        text: FILE or FILE:PATH, the path of an HDF5 data set or the name of an array in an .npz file.
        mask_good: 0 or 1, see `good_pixels`.
        good_bits: see `good_pixels`.
        bad_bits: see `good_pixels`.
        allow_links: follow links in an HDF5 file anywhere.
        read_image: reads an image file; None: image files are not taken.

    Raises:
        UserError: the file is missing or damaged, is a pickle, holds no mask, its polarity is not known, or next to no pixel is
            good.
    """
    path, inner = split_mask_name(text)
    refuse_pipe(path)
    try:
        with path.open("rb") as stream:
            start = stream.read(16)
    except OSError as error:
        raise UserError(explain_os_error(error, path) or f"{path}: {error}") from error
    convention: tuple[int, int | None] | None = None
    if h5py.is_hdf5(path):
        with Files(path.parent, allow_links) as files:
            values, name = _hdf5_mask(files, path, inner)
            convention = _convention(files, path, name, values)
        where = f"{path}:{name}"
    elif start[:4] == b"PK\x03\x04" or start[:6] == b"\x93NUMPY":
        values, name = _numpy_mask(path, inner)
        convention = (1, None) if name == "good" and values.dtype == bool else None
        where = f"{path}:{name}" if name else str(path)
    elif start[:1] == b"\x80" or path.suffix in (".pickle", ".pkl"):
        raise UserError(
            f"{path} is a Python pickle, which could run any program and is never loaded; "
            "save the mask as an .npz file with the bool array `good`"
        )
    elif read_image is not None:
        values, where = read_image(path), str(path)
    else:
        raise UserError(f"{path}: not an HDF5, .npz or .npy file of a mask")
    if values.dtype.kind not in "biuf" or values.ndim < 2:
        raise UserError(f"{where}: {values.dtype} of shape {values.shape} is no mask")
    if good_bits is not None or bad_bits is not None:
        mask_good = 0
    elif mask_good is None and convention is not None:
        mask_good, bad_bits = convention
    if mask_good is None:
        raise UserError(
            f"{where}: whether 0 or 1 marks the good pixels is not settled by this file's format; "
            f"give --mask-good 0 or --mask-good 1 ({_zeros(values)})"
        )
    good = good_pixels(values, mask_good, good_bits, bad_bits)
    words = meaning(mask_good, good_bits, bad_bits)
    if np.mean(good) < FEWEST_GOOD:
        share = (
            f"only {per_cent(float(np.mean(good)))} of the pixels are good"
            if good.any()
            else "no pixel is good"
        )
        raise UserError(f"{where}: {share} if {words}; give --mask-good {1 - mask_good}?")
    return LoadedMask(good, where, words)


def cxi_faults(files: Files, path: Path, name: str, dtype: np.dtype) -> int | None:
    """Return the bits that are faults in a mask of this name and type in a CXI file; None: all are, as in EuXFEL's masks."""
    entry = _ENTRY.match(name)
    if entry is None or dtype.kind not in "iu" or dtype.itemsize == 1:
        return None
    return CXI_FAULTS if files.get(path, f"{entry[0]}/trainId") is None else None


def _convention(files: Files, path: Path, name: str, values: np.ndarray) -> tuple[int, int | None] | None:
    """Return the value of good pixels and the bits that are faults by the format; None: it does not say."""
    if fnmatch(path.name.lower(), "staticmask*.h5"):
        return 1, None
    faults = cxi_faults(files, path, name, values.dtype)
    if PurePosixPath(name).name in ZERO_IS_GOOD:
        return 0, faults
    if _CXI_MASK.fullmatch(name):
        beside = files.get(path, str(PurePosixPath(name).with_name("data")))
        bits = values.dtype.kind in "iu" and bool(np.any((values != 0) & (values != 1)))
        return (0, faults) if beside is not None or bits else None
    return None


def _hdf5_mask(files: Files, path: Path, inner: str | None) -> tuple[np.ndarray, str]:
    with damage_named(str(path)):
        names = ["/" + inner.strip("/")] if inner else _mask_names(files.open(path))
    if not names:
        raise UserError(f"{path}: no mask found in it; name its data set as {path}:/PATH")
    if len(names) > 1:
        raise UserError(f"{path} holds {', '.join(names[:6])}; name the mask as {path}:{names[0]}")
    data = files.dataset(path, names[0])
    if data is None:
        raise UserError(f"{path}: no data set {names[0]}")
    if data.shape is None or data.size * data.dtype.itemsize > MOST_MASK_BYTES:
        raise UserError(f"{path}: {names[0]} is too large for a mask")
    try:
        return files.values(data), names[0]
    except UserError as error:
        raise UserError(f"{path}: {names[0]}: {error}") from error


def _mask_names(file: h5py.File) -> list[str]:
    """List what may be the mask: the only data set with two axes or more, or those with a mask's name."""
    sets: list[str] = []
    file.visititems(
        lambda name, item: (
            sets.append(f"/{name}") if isinstance(item, h5py.Dataset) and item.ndim >= 2 else None
        )
    )
    named = [name for name in sets if "mask" in PurePosixPath(name).name.lower()]
    return named or sets


def _numpy_mask(path: Path, inner: str | None) -> tuple[np.ndarray, str]:
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as stream:
                return _bounded_array(stream), ""
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            name = inner or ("good" if "good" in names else names[0] if len(names) == 1 else "")
            if name not in names:
                raise UserError(
                    f"{path} holds the arrays {', '.join(names[:6])}; name the mask as {path}:NAME"
                )
            with archive.open(archive.namelist()[names.index(name)]) as stream:
                return _bounded_array(stream), name
    except UserError:
        raise
    except Exception as error:  # Archives and headings that are damaged raise many kinds.
        raise UserError(
            f"{path}: not a file of plain NumPy arrays, or damaged ({first_line(error)})"
        ) from error


def _bounded_array(stream: IO[bytes]) -> np.ndarray:
    """Read a NumPy array whose heading is looked at first: an archive of a few kB can claim any size, and hold it."""
    version = npy.read_magic(stream)
    read_heading = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read_heading is None:
        raise ValueError(f"version {version}")
    shape, by_columns, dtype = read_heading(stream)
    size = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or not 0 <= size <= MOST_MASK_BYTES:
        raise ValueError(f"an array of {dtype} of shape {shape}")
    content = stream.read(size)
    if len(content) < size:
        raise ValueError("it ends early")
    array = np.frombuffer(content, dtype)
    return array.reshape(shape[::-1]).T if by_columns else array.reshape(shape)


def _zeros(values: np.ndarray) -> str:
    return f"{100 * float(np.mean(values == 0)):.2f} % of its pixels are 0"
