"""Masks of bad pixels, whose polarity differs from program to program and is never pseudo_labels.

Everywhere in this package a mask is bool, True where a pixel is good.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import h5py
import numpy as np

from sfxjax.data.hdf5 import Files
from sfxjax.errors import UserError, explain_os_error

# Frames looked at for pixels that never change or always saturate, and how few tell nothing.
BAD_PIXEL_FRAMES = 32
FEWEST_FRAMES = 16
# Beyond this share the constant pixels are no defect: counting detectors read 0 in most pixels.
MOST_CONSTANT = 0.02

# Names of the data sets whose values CXI, NXmx and EuXFEL define: 0 is good, each bit a fault.
_ZERO_IS_GOOD = {"mask_shared", "pixel_mask"}
_CXI_MASKS = ("/entry_1/data_1/mask", "/entry_1/image_1/mask", "/entry_1/instrument_1/detector_1/mask")


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


def split_mask_name(text: str) -> tuple[Path, str | None]:
    """Split FILE[:PATH]; a file whose own name has a colon is taken as it is if it exists."""
    if Path(text).is_file() or ":" not in text:
        return Path(text), None
    name, _, inner = text.rpartition(":")
    return Path(name), inner


def read_mask_file(
    text: str,
    mask_good: int | None = None,
    good_bits: int | None = None,
    bad_bits: int | None = None,
    *,
    allow_links: bool = False,
    read_image: Callable[[Path], np.ndarray] | None = None,
) -> np.ndarray:
    """Read a mask, True = good, of any number of axes.

    The polarity is `mask_good`; else that of the format: an `.npz` file's bool array `good`; data sets called
    `mask_shared` or `pixel_mask`, or a CXI file's `mask`: 0 is good; psocake's `staticMask.h5`: 1 is good.

    Args:
        text: FILE or FILE:PATH, the path of an HDF5 data set or the name of an array in an .npz file.
        mask_good: 0 or 1, see `good_pixels`.
        good_bits: see `good_pixels`.
        bad_bits: see `good_pixels`.
        allow_links: follow links in an HDF5 file anywhere.
        read_image: reads an image file; None: image files are not taken.

    Raises:
        UserError: the file is missing or damaged, is a pickle, holds no mask, or its polarity is not known.
    """
    path, inner = split_mask_name(text)
    try:
        with path.open("rb") as stream:
            start = stream.read(16)
    except OSError as error:
        raise UserError(explain_os_error(error, path) or f"{path}: {error}") from error
    convention: int | None = None
    if h5py.is_hdf5(path):
        with Files(path.parent, allow_links) as files:
            values, name = _hdf5_mask(files, path, inner)
        convention = _convention(path, name)
        where = f"{path}:{name}"
    elif start[:4] == b"PK\x03\x04" or start[:6] == b"\x93NUMPY":
        values, name = _numpy_mask(path, inner)
        convention = 1 if name == "good" and values.dtype == bool else None
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
        return good_pixels(values, 0, good_bits, bad_bits)
    if mask_good is None:
        mask_good = convention
    if mask_good is None:
        raise UserError(
            f"{where}: whether 0 or 1 marks the good pixels is not settled by this file's format; "
            f"give --mask-good 0 or --mask-good 1 ({_zeros(values)})"
        )
    good = good_pixels(values, mask_good)
    if not good.any():
        raise UserError(
            f"{where}: no pixel is good where {mask_good} means good; give --mask-good {1 - mask_good}?"
        )
    return good


def find_bad_pixels(crops: np.ndarray, good: np.ndarray | None = None) -> tuple[np.ndarray | None, str]:
    """Find pixels that never change or always saturate over a run's first frames.

    Args:
        crops: (n, ss, fs); the first `BAD_PIXEL_FRAMES` are used, and equal frames count once.
        good: (ss, fs) bool of pixels already known; None: all good.

    Returns:
        bool (ss, fs), True where a pixel is bad, or None where nothing was found or the frames cannot tell;
        and a line for the user, empty if nothing was found.
    """
    crops = crops[:BAD_PIXEL_FRAMES]
    if crops.dtype.kind == "f":
        crops = crops[np.isfinite(crops).any(axis=(1, 2))]
    crops = crops[[bool(frame.any()) for frame in crops]] if len(crops) else crops
    if len(crops) < FEWEST_FRAMES or len({frame[::16, ::16].tobytes() for frame in crops}) < FEWEST_FRAMES:
        return None, ""
    usable = np.ones(crops.shape[1:], bool) if good is None else good
    constant = (crops.max(0) == crops.min(0)) & usable
    saturated = np.zeros_like(constant)
    if crops.dtype.kind in "iu":
        saturated = (crops.min(0) == np.iinfo(crops.dtype).max) & usable
    share = constant.sum() / max(usable.sum(), 1)
    if share > MOST_CONSTANT:
        constant = saturated
    bad = constant | saturated
    if not bad.any():
        return None, ""
    unchanged = int((bad & ~saturated).sum())
    return bad, (
        f"{unchanged} pixels never change and {int(saturated.sum())} always saturate over the first "
        f"{len(crops)} frames: masked"
    )


def _convention(path: Path, name: str) -> int | None:
    if path.name == "staticMask.h5":
        return 1
    if PurePosixPath(name).name in _ZERO_IS_GOOD or name in _CXI_MASKS:
        return 0
    return None


def _hdf5_mask(files: Files, path: Path, inner: str | None) -> tuple[np.ndarray, str]:
    names = ["/" + inner.strip("/")] if inner else _mask_names(files.open(path))
    if not names:
        raise UserError(f"{path}: no mask found in it; name its data set as {path}:/PATH")
    if len(names) > 1:
        raise UserError(f"{path} holds {', '.join(names[:6])}; name the mask as {path}:{names[0]}")
    data = files.dataset(path, names[0])
    if data is None:
        raise UserError(f"{path}: no data set {names[0]}")
    if data.shape is None or data.size > 2**28:
        raise UserError(f"{path}: {names[0]} is too large for a mask")
    try:
        return np.asarray(data[()]), names[0]
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"{path}: {names[0]} is damaged ({error})") from error


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
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded, ""
        with loaded:
            names = list(loaded.files)
            name = inner or ("good" if "good" in names else names[0] if len(names) == 1 else "")
            if name not in names:
                raise UserError(
                    f"{path} holds the arrays {', '.join(names[:6])}; name the mask as {path}:NAME"
                )
            return np.asarray(loaded[name]), name
    except UserError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, MemoryError) as error:
        raise UserError(f"{path}: not a file of plain NumPy arrays, or damaged ({error})") from error


def _zeros(values: np.ndarray) -> str:
    return f"{100 * float(np.mean(values == 0)):.2f} % of its pixels are 0"
