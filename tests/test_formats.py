"""Files in each layout give the crops that the same frames in an array give."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import screen_cases as cases

from sfxjax.crop import CROP, padded_crop
from sfxjax.data.frames import ReadOptions
from sfxjax.data.inputs import find_files
from sfxjax.data.read import FrameReader
from sfxjax.data.virtual_sets import opened_for
from sfxjax.errors import UserError


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    return cases.frames(3, 760)


def read(path: Path, dtype: Any = np.uint16, **options: Any) -> tuple[list[str], np.ndarray, Any, list[str]]:
    """Return events, crops (unreadable ones 0), the mask of all frames, and reasons and layout."""
    with FrameReader(ReadOptions(**options)) as reader:
        events, crops, reasons = [], [], []
        for source in reader.stacks(str(path)):
            mask = reader.static_mask(source)
            for number, (crop, own, reason, _) in enumerate(
                reader.read(source, range(source.frames), np.dtype(dtype))
            ):
                events.append(source.event(number))
                crops.append(np.zeros((CROP, CROP), dtype) if crop is None else crop)
                reasons.append(reason)
                if own is not None:
                    mask = own if mask is None else mask & own
    return events, np.stack(crops), mask, reasons


def central(data: np.ndarray) -> np.ndarray:
    return padded_crop(data, data.dtype)


def test_cheetah_with_a_link_a_shared_mask_and_masks_of_frames(tmp_path: Path, data: np.ndarray) -> None:
    shared, own = np.zeros(data.shape[1:], np.uint16), np.zeros(data.shape, np.uint16)
    shared[400, 300] = 8
    own[1, 410, 310] = 0x80
    with h5py.File(tmp_path / "a.cxi", "w") as file:
        detector = file.create_group("/entry_1/instrument_1/detector_1")
        detector["data"], detector["mask"], detector["mask_shared"] = data, own, shared
        file["/entry_1/data_1/data"] = h5py.SoftLink("/entry_1/instrument_1/detector_1/data")
        file["/LCLS/photon_energy_eV"] = np.full(3, 9500.0)
    events, crops, mask, _ = read(tmp_path / "a.cxi")
    assert events == ["//0", "//1", "//2"]
    np.testing.assert_array_equal(crops, central(data))
    expected = np.ones(data.shape[1:], bool)
    expected[400, 300] = expected[410, 310] = False
    np.testing.assert_array_equal(mask, central(expected))


def test_cheetahs_assembled_images_stand_in_for_panels_without_a_geometry(
    tmp_path: Path, data: np.ndarray
) -> None:
    with h5py.File(tmp_path / "a.cxi", "w") as file:
        file["/entry_1/data_1/data"] = np.zeros((3, 8, 95, 380), np.uint16)
        file["/entry_1/image_1/data"] = data
    np.testing.assert_array_equal(read(tmp_path / "a.cxi")[1], central(data))


@pytest.mark.parametrize("storage", ["plain", "gzip", "lz4", "zstd"])
def test_om_and_its_compressions(tmp_path: Path, data: np.ndarray, storage: str) -> None:
    options: dict[str, Any] = {} if storage == "plain" else {"chunks": (1, *data.shape[1:])}
    if storage == "gzip":
        options["compression"] = "gzip"
    elif storage != "plain":
        options |= pytest.importorskip("hdf5plugin").Bitshuffle(cname=storage)
    path = cases.write_cxi(tmp_path / "om.h5", data, **options)
    np.testing.assert_array_equal(read(path)[1], central(data))


def test_psocakes_static_mask_is_one_where_good(tmp_path: Path, data: np.ndarray) -> None:
    with h5py.File(tmp_path / "p.cxi", "w") as file:
        file["/entry_1/instrument_1/detector_1/data"] = data
        file["/entry_1/data_1/data"] = h5py.SoftLink("/entry_1/instrument_1/detector_1/data")
    good = np.ones(data.shape[1:], np.uint8)
    good[380:390, 400] = 0
    with h5py.File(tmp_path / "staticMask.h5", "w") as file:
        file["/entry_1/data_1/mask"] = good
    _, crops, mask, _ = read(tmp_path / "p.cxi", mask=str(tmp_path / "staticMask.h5"))
    np.testing.assert_array_equal(crops, central(data))
    np.testing.assert_array_equal(mask, central(good.astype(bool)))


SLAB = """
photon_energy = 9500 ; eV
adu_per_eV = 0.001
res = 9097.525473
dim0 = %
dim1 = ss
dim2 = fs
rigid_group_q0 = p0,p1
p0/min_fs = 0
p0/max_fs = 759
p0/min_ss = 0
p0/max_ss = 379
p0/corner_x = -380
p0/corner_y = -380
p0/fs = +1.0x +0.0y
p0/ss = y
p1/min_fs = 0
p1/max_fs = 759
p1/min_ss = 380
p1/max_ss = 759
p1/corner_x = -380
p1/corner_y = 10
p1/fs = x
p1/ss = +0.0x +1.0y
badspot/min_x = -20
badspot/max_x = -10
badspot/min_y = -30
badspot/max_y = -20
"""


def modules_geometry(count: int, rows: int) -> str:
    """Panels above one another, each a module of (frame, module, ss, fs)."""
    text = ["res = 5000", "dim0 = %", "dim2 = ss", "dim3 = fs"]
    for number in range(count):
        text += [
            f"m{number}/dim1 = {number}",
            f"m{number}/min_fs = 0",
            f"m{number}/max_fs = 759",
            f"m{number}/min_ss = 0",
            f"m{number}/max_ss = {rows - 1}",
            f"m{number}/fs = +1.000000x +0.000000y",
            f"m{number}/ss = +0.000000x +1.000000y",
            f"m{number}/corner_x = -380.0",
            f"m{number}/corner_y = {-380 + number * rows}.0",
        ]
    return "\n".join(text)


def test_a_slab_of_panels_is_assembled_with_its_gap_masked(tmp_path: Path, data: np.ndarray) -> None:
    (tmp_path / "d.geom").write_text(SLAB)
    path = cases.write_cxi(tmp_path / "a.cxi", data)
    _, crops, mask, _ = read(path, geometry=str(tmp_path / "d.geom"))
    # Rows of the image run from -362 to 361; the second panel lies 10 rows lower than without a gap.
    expected = np.zeros((3, CROP, CROP), np.uint16)
    expected[:, :362] = data[:, 18:380, 18:742]
    expected[:, 372:] = data[:, 380:732, 18:742]
    good = np.ones((CROP, CROP), bool)
    good[362:372] = False
    good[332:342, 342:352] = False
    np.testing.assert_array_equal(mask, good)
    np.testing.assert_array_equal(crops[:, good], expected[:, good])


def test_euxfel_modules_in_virtual_data_sets_are_assembled(tmp_path: Path, data: np.ndarray) -> None:
    stacked = data.reshape(3, 4, 190, 760).astype(np.float32)
    stacked[1, 2, 50, 400] = np.nan
    layout = h5py.VirtualLayout(stacked.shape, np.float32)
    masks = h5py.VirtualLayout(stacked.shape, np.uint32)
    for module in range(4):
        with h5py.File(tmp_path / f"module{module}.h5", "w") as file:
            file["image/data"], file["image/mask"] = stacked[:, module], np.zeros((3, 190, 760), np.uint32)
        layout[:, module] = h5py.VirtualSource(f"module{module}.h5", "image/data", (3, 190, 760))
        masks[:, module] = h5py.VirtualSource(f"module{module}.h5", "image/mask", (3, 190, 760), np.uint32)
    with h5py.File(tmp_path / "v.cxi", "w") as file:
        file.create_virtual_dataset("/entry_1/instrument_1/detector_1/data", layout)
        file.create_virtual_dataset("/entry_1/instrument_1/detector_1/mask", masks)
        file["/entry_1/data_1/data"] = h5py.SoftLink("/entry_1/instrument_1/detector_1/data")
        for key in ("trainId", "pulseId", "cellId"):
            file[f"/entry_1/{key}"] = np.arange(3)
    (tmp_path / "a.geom").write_text(modules_geometry(4, 190))
    _, crops, mask, _ = read(tmp_path / "v.cxi", np.float32, geometry=str(tmp_path / "a.geom"))
    np.testing.assert_array_equal(crops, central(stacked.reshape(3, 760, 760)))
    assert mask is None or mask.all()
    with pytest.raises(UserError, match="4 panels.*--geometry"):
        read(tmp_path / "v.cxi")
    (tmp_path / "module2.h5").unlink()
    reasons = read(tmp_path / "v.cxi", np.float32, geometry=str(tmp_path / "a.geom"))[3]
    assert all("module2.h5" in reason for reason in reasons)


def test_a_virtual_cxi_of_extra_data_is_assembled(tmp_path: Path) -> None:
    """The AGIPD of the European XFEL by its own programs: EXtra-data's file, EXtra-geom's geometry."""
    pytest.importorskip("extra_data", exc_type=ImportError)
    extra_geom = pytest.importorskip("extra_geom")
    from extra_data import RunDirectory
    from extra_data.components import AGIPD1M
    from extra_data.tests.mockdata import write_file
    from extra_data.tests.mockdata.detectors import AGIPDModule

    stacked = np.random.default_rng(0).normal(100, 5, (16, 2, 512, 128)).astype(np.float32)
    for number in range(16):
        name = f"SPB_DET_AGIPD1M-1/DET/{number}CH0"
        path = tmp_path / f"CORR-R0001-AGIPD{number:02}-S00000.h5"
        write_file(str(path), [AGIPDModule(name, raw=False, frames_per_train=2)], 1, 32, format_version="1.0")
        with h5py.File(path, "a") as file:
            file[f"INSTRUMENT/{name}:xtdf/image/data"][:] = stacked[number]
            file[f"INSTRUMENT/{name}:xtdf/image/mask"][:, 7] = 4
    run = RunDirectory(str(tmp_path))
    AGIPD1M(run).write_virtual_cxi(str(tmp_path / "v.cxi"))
    for opened in run.files:
        opened.close()
    corners = [(-525, 625), (-550, -10), (520, -160), (542, 475)]
    geometry = extra_geom.AGIPD_1MGeometry.from_quad_positions(corners)
    where = "/entry_1/instrument_1/detector_1"
    paths = {"data_path": f"{where}/data", "mask_path": f"{where}/mask"}
    options = {"adu_per_ev": 0.001, "clen": 0.1, "photon_energy": 9500, **paths}
    geometry.write_crystfel_geom(str(tmp_path / "a.geom"), **options)
    with FrameReader(ReadOptions(geometry=str(tmp_path / "a.geom"))) as reader:
        (source,) = reader.stacks(str(tmp_path / "v.cxi"))
        read_frames = list(reader.read(source, range(2), np.dtype(np.float32)))
    assert (source.layout, source.frames, source.frame_masks) == ("EuXFEL virtual CXI", 2, paths["mask_path"])
    image, (row, column) = geometry.position_modules(stacked[:, 0])
    wanted = image[row - CROP // 2 :, column - CROP // 2 :][:CROP, :CROP]
    crop, mask, reason, _ = read_frames[0]
    assert not reason
    assert crop is not None
    assert mask is not None
    # Panels at half pixels are placed to either side; the masked row of each module is left out.
    assert np.mean(crop[mask] == wanted[mask]) > 0.7
    assert 0.7 < mask.mean() < 0.8


def test_a_master_with_external_links_and_a_pixel_mask(tmp_path: Path, data: np.ndarray) -> None:
    plugin = pytest.importorskip("hdf5plugin")
    counts = data.astype(np.uint32)
    for number, part in ((1, counts[:2]), (2, counts[2:])):
        with h5py.File(tmp_path / f"run_data_{number:06d}.h5", "w") as file:
            file.create_dataset(
                "/entry/data/data", data=part, chunks=(1, 760, 760), **plugin.Bitshuffle(cname="lz4")
            )
    mask = np.zeros((760, 760), np.uint32)
    mask[300:310] = 1
    with h5py.File(tmp_path / "run_master.h5", "w") as file:
        for number in (2, 1, 3):
            name = f"data_{number:06d}"
            file[f"/entry/data/{name}"] = h5py.ExternalLink(f"run_{name}.h5", "/entry/data/data")
        file["/entry/instrument/detector/detectorSpecific/pixel_mask"] = mask
        file["/entry/instrument/detector/beam_center_x"] = 370.0
        file["/entry/instrument/detector/beam_center_y"] = 390.0
    events, crops, good, _ = read(tmp_path / "run_master.h5", np.uint32)
    assert events == ["data_000001//0", "data_000001//1", "data_000002//0"]
    rows, columns = slice(390 - 362, 390 + 362), slice(370 - 362, 370 + 362)
    np.testing.assert_array_equal(crops, counts[:, rows, columns])
    np.testing.assert_array_equal(good, mask[rows, columns] == 0)
    assert list(find_files([str(tmp_path)]).files) == [str(tmp_path / "run_master.h5")]


def test_images_of_cbf_and_tiff(tmp_path: Path, data: np.ndarray) -> None:
    fabio = pytest.importorskip("fabio")
    frame = data[0].astype(np.int32)
    frame[5:9, 7] = [-1, -2, 40000, -40000]
    fabio.cbfimage.CbfImage(data=frame).write(str(tmp_path / "a.cbf"))
    fabio.tifimage.TifImage(data=frame).write(str(tmp_path / "a.tif"))
    for name in ("a.cbf", "a.tif"):
        events, crops, _, _ = read(tmp_path / name, np.int32)
        assert events == [""]
        np.testing.assert_array_equal(crops[0], central(frame))


def test_the_real_frame_in_cbf_is_that_in_hdf5(shared: Path) -> None:
    folder = shared / "data" / "mfx_rayonix"
    first, second = (read(folder / name, np.int32)[1] for name in ("hit.cbf", "hit.h5"))
    np.testing.assert_array_equal(first, second)


def test_frames_smaller_than_the_crop_are_padded_as_masked(tmp_path: Path, data: np.ndarray) -> None:
    small = data[:, :700, :720]
    path = cases.write_cxi(tmp_path / "a.cxi", small)
    _, crops, mask, _ = read(path)
    np.testing.assert_array_equal(crops[:, 12:712, 2:722], small)
    assert mask[12:712, 2:722].all()
    assert mask.sum() == 700 * 720


def test_the_crop_follows_the_beam_over_the_edge(tmp_path: Path, data: np.ndarray) -> None:
    path = cases.write_cxi(tmp_path / "a.cxi", data)
    _, crops, mask, _ = read(path, centre=(300.0, 400.0))
    np.testing.assert_array_equal(crops[:, :722, 62:], data[:, 38:760, : 724 - 62])
    assert not mask[:, :62].any()
    assert mask[:722, 62:].all()


def test_the_end_of_a_stack_that_was_never_written_is_left_out(tmp_path: Path, data: np.ndarray) -> None:
    with h5py.File(tmp_path / "a.cxi", "w") as file:
        stack = file.create_dataset("/entry_1/data_1/data", (50, 760, 760), np.uint16, chunks=(1, 760, 760))
        stack[:3] = data
    np.testing.assert_array_equal(read(tmp_path / "a.cxi")[1], central(data))


def test_a_damaged_chunk_costs_one_frame(tmp_path: Path, data: np.ndarray) -> None:
    path = cases.write_cxi(tmp_path / "a.cxi", data, chunks=(1, 760, 760), compression="gzip")
    with h5py.File(path) as file:
        chunk = file["/entry_1/data_1/data"].id.get_chunk_info(1)
    with path.open("r+b") as stream:
        stream.seek(chunk.byte_offset + 20)
        stream.write(bytes(200))
    _, crops, _, reasons = read(path)
    assert [bool(reason) for reason in reasons] == [False, True, False]
    np.testing.assert_array_equal(crops[[0, 2]], central(data)[[0, 2]])


@pytest.mark.parametrize("kind", ["external link", "virtual", "raw storage", "chain"])
def test_links_out_of_the_runs_folder_are_refused_unless_allowed(
    tmp_path: Path, data: np.ndarray, kind: str
) -> None:
    elsewhere, folder = tmp_path / "secret", tmp_path / "run"
    elsewhere.mkdir()
    folder.mkdir()
    cases.write_cxi(elsewhere / "x.h5", data)
    (elsewhere / "x.raw").write_bytes(data.tobytes())
    with h5py.File(folder / "a.cxi", "w") as file:
        name = "/entry_1/data_1/data"
        if kind == "external link":
            file[name] = h5py.ExternalLink("../secret/x.h5", name)
        elif kind == "chain":
            file[name] = h5py.SoftLink("/there/data")
            file["/there"] = h5py.ExternalLink(str(elsewhere / "x.h5"), "/entry_1/data_1")
        elif kind == "virtual":
            layout = h5py.VirtualLayout(data.shape, data.dtype)
            layout[:] = h5py.VirtualSource("../secret/x.h5", name, data.shape)
            file.create_virtual_dataset(name, layout)
        else:
            external = [(str(elsewhere / "x.raw"), 0, data.nbytes)]
            file.create_dataset(name, data.shape, data.dtype, external=external)
    said = "pixels outside" if kind == "raw storage" else "outside the run's folder"
    with pytest.raises(UserError, match=said):
        read(folder / "a.cxi")
    np.testing.assert_array_equal(read(folder / "a.cxi", allow_links=True)[1], central(data))


@pytest.mark.parametrize("kind", ["virtual", "raw storage"])
def test_what_lies_in_the_working_folder_is_no_part_of_a_run(
    tmp_path: Path, data: np.ndarray, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HDF5 looks for what is missing beside a file in the working folder, where the user's own files are."""
    home, folder = tmp_path / "home", tmp_path / "run"
    home.mkdir()
    folder.mkdir()
    cases.write_cxi(home / "x-0.h5", data)
    (home / "x.raw").write_bytes(data.tobytes())
    name = "/entry_1/data_1/data"
    with h5py.File(folder / "a.cxi", "w", libver="latest") as file:
        if kind == "raw storage":
            file.create_dataset(name, data.shape, data.dtype, external=[("x.raw", 0, data.nbytes)])
        else:
            layout = h5py.VirtualLayout(data.shape, data.dtype)
            layout[:] = h5py.VirtualSource("x-0.h5", name, data.shape)
            file.create_virtual_dataset(name, layout)
    monkeypatch.chdir(home)
    with pytest.raises(UserError, match="--allow-links"):
        read(folder / "a.cxi")
    # A pattern stands for every file that it may mean.
    assert home / "x-0.h5" in opened_for(folder / "a.cxi", folder / "x-%b.h5")


def test_frames_that_are_nowhere_known_are_asked_for_by_name(tmp_path: Path, data: np.ndarray) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["/my/frames"] = data
        file["/runs/r2/images"], file["/runs/r10/images"] = data[2:], data[:2]
    with pytest.raises(UserError, match=r"--dataset.*/my/frames 3x760x760"):
        read(tmp_path / "a.h5")
    np.testing.assert_array_equal(read(tmp_path / "a.h5", dataset="/my/frames")[1], central(data))
    events, crops, _, _ = read(tmp_path / "a.h5", dataset="/runs/%/images")
    assert events == ["r10//0", "r10//1", "r2//0"]
    np.testing.assert_array_equal(crops, central(data))


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_compressed_cbf_files_are_read_and_found_in_a_folder(
    suffix: str, compress: Any, tmp_path: Path, shared: Path
) -> None:
    plain = next((shared / "data" / "real").rglob("*.cbf"))
    packed = tmp_path / f"{plain.name}{suffix}"
    packed.write_bytes(compress(plain.read_bytes()))
    assert list(find_files([str(tmp_path)]).files) == [str(packed)]
    frames = []
    with FrameReader(ReadOptions()) as reader:
        for name in (plain, packed):
            (stack,) = reader.stacks(str(name))
            frames.append((reader.original(stack, 0), stack.centre, stack.layout))
    np.testing.assert_array_equal(frames[0][0], frames[1][0])
    assert frames[0][1:] == frames[1][1:]
    packed.write_bytes(packed.read_bytes()[: packed.stat().st_size // 2])
    with (
        FrameReader(ReadOptions()) as reader,
        pytest.raises(UserError, match="damaged or cut short|cut short"),
    ):
        reader.stacks(str(packed))
