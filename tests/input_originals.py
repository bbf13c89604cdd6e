"""Undamaged inputs of every kind that is read, written into a folder."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import h5py
import msgpack
import numpy as np

SHAPE = (72, 80)
JOURNAL_OF = {"model": "x", "files": [["a.cxi", 1, 2]]}
FRAMES = [("run/a.cxi", f"//{k}") for k in range(6)]
GEOMETRY = """; comment
clen = 0.1
data = /entry_1/data_1/data
dim0 = %
dim1 = ss
dim2 = fs
mask0_data = /entry_1/data_1/mask
mask0_goodbits = 0x0
mask0_badbits = 0xffff
mask_edge_pixels = 1
flag_morethan = 60000
bada/min_x = -4.0
bada/max_x = 4.0
bada/min_y = -6
bada/max_y = 6
badb/panel = p0
badb/min_fs = 3
badb/max_fs = 6
badb/min_ss = 0
badb/max_ss = 10
p0/min_fs = 0
p0/max_fs = 39
p0/min_ss = 0
p0/max_ss = 71
p0/fs = +1.0x +0.001y
p0/ss = -0.001x +1.0y
p0/corner_x = -40.5
p0/corner_y = -36.0
p1/min_fs = 40
p1/max_fs = 79
p1/min_ss = 0
p1/max_ss = 71
p1/fs = x
p1/ss = y
p1/corner_x = 2
p1/corner_y = -36.0
"""
TABLE = """[mine]
files = ["a.cxi", "*.h5"]
labels = "labels.csv"
mask = "mask.npz"
mask_good = 1
beam_centre = [36.5, 40.0]
dataset = "/entry_1/data_1/data"
min_spots = 10

[other]
files = "a.cxi"
bad_bits = 0x8005
"""


def pixels(count: int = 6, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).poisson(90, (count, *shape)).astype(np.uint16)


def write_masks(folder: Path) -> list[str]:
    good = np.ones(SHAPE, bool)
    np.savez_compressed(folder / "mask.npz", good=good, other=np.zeros(3))
    np.save(folder / "mask.npy", good)
    with h5py.File(folder / "mask.h5", "w") as file:
        file["/entry_1/data_1/mask"], file["pixel_mask"] = np.zeros(SHAPE, "u2"), np.zeros(SHAPE, "i4")
    shutil.copy(folder / "plain.tif", folder / "mask.tif")
    return ["mask.npz", "mask.npy", "mask.tif", "mask.h5"]


def write_hdf5(folder: Path) -> list[str]:
    data = pixels()
    with h5py.File(folder / "a.cxi", "w") as file:
        detector = file.create_group("/entry_1/instrument_1/detector_1")
        detector.create_dataset("data", data=data, chunks=(1, *SHAPE), compression="gzip")
        detector["mask"], detector["mask_shared"] = np.zeros_like(data), np.zeros(SHAPE, np.uint16)
        file["/entry_1/data_1/data"] = h5py.SoftLink("/entry_1/instrument_1/detector_1/data")
        file["/entry_1/result_1/nPeaks"] = np.arange(6)
    with h5py.File(folder / "cxidb76.h5", "w") as file:
        for number in (0, 1):
            file[f"/data/chunk_{number}/images"] = data[3 * number : 3 * number + 3]
            file[f"/data/chunk_{number}/distance"] = np.zeros(3)
    with h5py.File(folder / "x_data_000001.h5", "w", libver="latest") as file:
        file.create_dataset(
            "/entry/data/data", data=data, chunks=(2, *SHAPE), shuffle=True, compression="lzf"
        )
    with h5py.File(folder / "x_master.h5", "w") as file:
        for number in (1, 2):
            file[f"/entry/data/data_00000{number}"] = h5py.ExternalLink(
                "x_data_000001.h5", "/entry/data/data"
            )
        detector = file.create_group("/entry/instrument/detector")
        detector["beam_center_x"], detector["beam_center_y"] = 40.0, 36.0
        detector["beam_center_x"].attrs["units"] = "pixel"
        detector["pixel_mask"], detector["bit_depth_image"] = np.zeros(SHAPE, "u4"), 16
        detector["x_pixel_size"] = 7.5e-5
    layout = h5py.VirtualLayout(data.shape, data.dtype)
    layout[:] = h5py.VirtualSource("x_data_000001.h5", "/entry/data/data", data.shape)
    with h5py.File(folder / "virtual.nxs", "w") as file:
        file.create_virtual_dataset("/entry/data/data", layout)
        file["/entry/instrument/detector/saturation_value"] = 50_000
    with h5py.File(folder / "generic.h5", "w") as file:
        file["/data/JF/data"], file["/data/JF/meta/is_good_frame"] = data, np.ones(6, "u1")
        file["/data/JF/meta/pixel_mask"] = np.zeros(SHAPE, "u1")
    with h5py.File(folder / "sacla.h5", "w") as file:
        for number in range(3):
            file[f"/tag-{number}/data"] = data[number].astype("f4")
        file["/metadata/pixelmask"] = np.zeros(SHAPE, "u1")
    return ["a.cxi", "cxidb76.h5", "x_master.h5", "virtual.nxs", "generic.h5", "sacla.h5"]


def write_images(folder: Path) -> list[str]:
    import fabio
    from PIL import Image
    from test_geometry import write_cbf

    data = pixels()
    fabio.cbfimage.CbfImage(data=data[0].astype(np.int32)).write(str(folder / "plain.cbf"))
    content = (folder / "plain.cbf").read_bytes()
    (folder / "text.cbf").write_bytes(content)
    (folder / "packed.cbf.gz").write_bytes(gzip.compress(content))
    write_cbf(folder / "panels.cbf", data[:2].astype(np.int32), [(-4.0, 3.0, 0.0), (0.1, 3.0, 0.0)])
    fabio.tifimage.TifImage(data=data[0]).write(str(folder / "plain.tif"))
    shutil.copy(folder / "plain.tif", folder / "a.mccd")
    images = [Image.fromarray(frame) for frame in data[:3]]
    images[0].save(folder / "stack.tif", save_all=True, append_images=images[1:])
    images[0].save(folder / "big.tif", big_tiff=True)
    return [
        "plain.cbf",
        "text.cbf",
        "packed.cbf.gz",
        "panels.cbf",
        "plain.tif",
        "a.mccd",
        "stack.tif",
        "big.tif",
    ]


def write_labels(folder: Path) -> list[str]:
    spots = [0, 2, 5, 12, 40, 80]
    words = ["MISS", "MISS", "MAYBE", "HIT", "HIT", "ERROR"]
    texts = {
        "labels.csv": "file,event,label\n"
        + "".join(f"{f},{e},{w}\n" for (f, e), w in zip(FRAMES, words, strict=True)),
        "spots.csv": "file,event,spots\n"
        + "".join(f"{f},{e},{n}\n" for (f, e), n in zip(FRAMES, spots, strict=True)),
        "expert_annotation.txt": "".join(f"r.h5 [{k}] {w}\n" for k, w in enumerate([*words[:5], "HIT"], 1)),
        "hits.lst": "".join(f"{f} {e}\n" for f, e in FRAMES[3:]),
        "frames.txt": "# timestamp, event_id, hit, filename, index, num_peaks, ave_intensity\n"
        + "".join(f"1.{k}, 7-{k}, 1, run/a.cxi, {k}, {n}, 4.4\n" for k, n in enumerate(spots)),
        "dials.log": "DIALS 3.8\n|   image |   #spots |   #spots_no_ice |\n"
        + "".join(f"|{k:8d} |{n:9d} |{n:8d} |\n" for k, n in enumerate(spots, 1)),
        "counts.txt": "".join(f"{k:05d} {n:5d} Hit\n" for k, n in enumerate(spots, 1)),
        "run.stream": "CrystFEL stream format 2.3\n"
        + "".join(
            f"----- Begin chunk -----\nImage filename: {f}\nEvent: {e}\nindexed_by = {'none' if n < 9 else 'xgandalf'}\n"
            f"num_peaks = {n}\n----- End chunk -----\n"
            for (f, e), n in zip(FRAMES, spots, strict=True)
        ),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    image = np.repeat(np.arange(6), spots).astype("<i4")
    places = np.column_stack([image * 7.0, image * 3.0, image + 0.5])
    columns = {
        "id": ["int", [len(image), image.tobytes()]],
        "xyzobs.px.value": ["vec3<double>", [len(image), places.astype("<f8").tobytes()]],
    }
    table = {"identifiers": {0: "a"}, "nrows": len(image), "data": columns}
    (folder / "strong.refl").write_bytes(msgpack.packb(["dials::af::reflection_table", 1, table]))
    with h5py.File(folder / "peaks.h5", "w") as file:
        file["entry_1/result_1/nPeaks"] = np.array(spots, np.int32)
    return list(texts)


def write_json(folder: Path) -> None:
    """Write labels of `sfxjax label` and the model fitted to them."""
    records = [{"file": file, "event": event, "label": "HIT", "click": event} for file, event in FRAMES]
    (folder / "me.labels.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    fitted = {
        "kind": "sfxjax: day-one model fitted to labels",
        "weights": [4.0, 0, 0, 0, 0],
        "threshold": 0.5,
    }
    (folder / "recalibration.json").write_text(
        json.dumps(fitted | {"min_snr": 6.0, "min_spots": 4, "labels": 9})
    )


def write_model(folder: Path) -> None:
    import screen_cases as cases

    from sfxjax.models.checkpoint import save_model

    save_model(folder, cases.tiny_model("radial_extremes"))


def write_journal(path: Path) -> None:
    from sfxjax.screen.journal import Journal
    from sfxjax.screen.results import Results, scored
    from sfxjax.screen.run import unreadable

    journal = Journal(path, JOURNAL_OF, Results())
    frame = unreadable("a.cxi"), 0
    for score in (0.1, 0.9):
        journal.add(scored([frame], np.array([score], np.float32), [""], np.zeros((1, 6), np.float32)))
    journal.close()
