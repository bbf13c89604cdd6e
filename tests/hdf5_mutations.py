"""Damages what HDF5 files hold: objects, attributes, links, shapes and types, each by a seed."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from mutations import ODD_NUMBERS, ODD_VALUES, Random, damage_bytes

ODD_TYPES = [
    "u1",
    "i1",
    ">i2",
    "u2",
    "i4",
    ">u4",
    "u8",
    "i8",
    "f2",
    "f4",
    ">f8",
    "f16",
    "c8",
    "?",
    "S4",
    "V8",
]


def damage_hdf5(path: Path, random: Random) -> None:
    """Damage an HDF5 file where it lies: its bytes, or one of its objects or attributes."""
    if random.random() < 0.5:
        path.write_bytes(damage_bytes(path.read_bytes(), random))
        return
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        sets = [name for name in names if isinstance(file.get(name, getlink=True), h5py.HardLink)]
        name = str(random.choice(names))
        if random.random() < 0.15 and sets:
            item = file[str(random.choice(sets))]
            odd = ODD_VALUES[random.integers(0, 12)]
            item.attrs[str(random.choice(["units", "simulated", "signal"]))] = (
                "x" if odd is None else str(odd)
            )
            file.attrs["simulated"] = str(odd)
            return
        if random.random() < 0.3:
            # Of a name that some layout reads and this file may not have.
            name = str(random.choice(EXTRA_NAMES))
        try:
            replace_object(file, name, random)
        except (ValueError, KeyError, RuntimeError, OSError, TypeError):
            file.attrs["not"] = "changed"


EXTRA_NAMES = (
    *(
        "entry/instrument/detector/pixel_mask",
        "entry/instrument/detector/bit_depth_image",
        "metadata/simulated",
    ),
    *(
        "entry/instrument/detector/beam_center_x",
        "entry/instrument/detector/saturation_value",
        "entry/data/data",
    ),
    *("entry_1/data_1/mask", "entry_1/trainId", "entry_1/image_1/data", "entry_1/result_1/nPeaks", "cheetah"),
    *(
        "entry/instrument/detector/x_pixel_size",
        "data/JF/meta/is_good_frame",
        "data/chunk_2/images",
        "metadata/pixelmask",
    ),
)


def replace_object(file: h5py.File, name: str, random: Random) -> None:
    """Put something else where an object of an HDF5 file is."""
    old = file.get(name)
    shape = old.shape if isinstance(old, h5py.Dataset) and old.shape else (3, 72, 80)
    dtype = old.dtype if isinstance(old, h5py.Dataset) else np.dtype("u2")
    if name in file:
        del file[name]
    kind = random.integers(0, 22)
    if kind == 0:
        return
    if kind == 1:
        file[name] = np.ones(shape).astype(str(random.choice(ODD_TYPES)))
    elif kind == 2:
        file[name] = np.ones(random.permutation(shape), dtype if dtype.kind in "biuf" else "u2")
    elif kind == 3:
        file.create_group(name)["inner"] = 1
    elif kind == 4:
        file[name] = h5py.Empty("u2")
    elif kind == 5:
        file[name] = random.choice([-1.0, 0, np.nan, np.inf, 1e300, 2**63, 1e-300])
    elif kind == 6:
        file[name] = str(random.choice(ODD_NUMBERS))
    elif kind == 7:
        file[name] = np.zeros((2, 4), [("a", "i4"), ("b", "f4")])
    elif kind == 8:
        file[name] = h5py.SoftLink(str(random.choice([f"/{name}", "/", "/nowhere", ".."])))
    elif kind == 9:
        target = str(
            random.choice(
                ["gone.h5", "../../../../etc/passwd", ".", "", "/dev/zero", Path(file.filename).name]
            )
        )
        file[name] = h5py.ExternalLink(target, f"/{name}")
    elif kind == 10:
        file[name] = file["/"]
    elif kind == 11:
        axes = int(random.integers(2, 5))
        claimed = [int(n) for n in random.choice([0, 1, 3, 72, 80, 724, 2**20, 2**31, 2**40], axes)]
        chunks = tuple(min(max(n, 1), 64) for n in claimed)
        file.create_dataset(name, claimed, "u2", chunks=chunks, maxshape=(None,) * axes)
    elif kind == 12:
        file.create_dataset(name, shape, "f4", external=[("nowhere.raw", 0, h5py.h5f.UNLIMITED)])
    elif kind == 13:
        layout = h5py.VirtualLayout((6, 72, 80), "u2")
        layout[:3] = h5py.VirtualSource("gone.h5", name, (3, 72, 80))
        layout[3:] = h5py.VirtualSource(".", "nowhere", (3, 72, 80))
        file.create_virtual_dataset(name, layout)
    elif kind == 14:
        file.create_dataset(name, (5, 72, 80), h5py.vlen_dtype("u2"))
    elif kind == 15:
        file.create_dataset(name, (10**7, 8, 8), "u1", chunks=(1, 8, 8))
    elif kind == 16:
        file[name] = np.zeros((2,) * 12, "u1")
    elif kind == 17:
        file[name] = np.array([b"\xff\xfe", b"x"], object).astype(h5py.string_dtype())
    elif kind == 18:
        file[name] = np.full(shape, random.choice([0, 1, 255, -1, np.nan]), "f4")
    elif kind == 19:
        # One value, one row, one frame or none.
        file[name] = np.zeros(
            [(1,) * len(shape), (0,) * len(shape), (1, *shape[1:]), (*shape, 1)][random.integers(0, 4)]
        )
    elif kind == 20:
        file.create_dataset(name, (6, 4096, 4096), "f8", chunks=(6, 4096, 4096), compression="gzip")
    else:
        file.create_group("/".join([name, *(["deep"] * 200)]))
