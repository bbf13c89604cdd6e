"""Panels: CrystFEL geometries against extra-geom, and CBF files with their axes."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import screen_cases as cases

from sfxjax.crop import CROP
from sfxjax.data.formats.cbf import open_cbf
from sfxjax.data.frames import ReadOptions
from sfxjax.data.geometry import Geometry, Panel
from sfxjax.data.geometry_file import parse_geometry, read_geometry
from sfxjax.data.read import FrameReader
from sfxjax.errors import UserError


def geometry_text(
    turns: list[tuple[str, str]], corners: list[tuple[float, float]], size: tuple[int, int]
) -> str:
    """Panels as modules of (module, ss, fs)."""
    lines = ["photon_energy = 9500", "adu_per_eV = 0.001", "clen = 0.1", "res = 5000"]
    lines += ["dim0 = %", "dim2 = ss", "dim3 = fs", "data = /entry_1/data_1/data"]
    for number, ((fs, ss), (x, y)) in enumerate(zip(turns, corners, strict=True)):
        lines += [
            f"m{number}/{key} = {value}"
            for key, value in {
                "dim1": number,
                "min_fs": 0,
                "max_fs": size[1] - 1,
                "min_ss": 0,
                "max_ss": size[0] - 1,
                "fs": fs,
                "ss": ss,
                "corner_x": x,
                "corner_y": y,
                "coffset": 0.0,
            }.items()
        ]
    return "\n".join(lines) + "\n"


TURNS = [
    ("+1.0x +0.0y", "+0.0x +1.0y"),
    ("+0.0x +1.0y", "-1.0x +0.0y"),
    ("-1.0x -0.0y", "+0.0x -1.0y"),
    ("+0.0x -1.0y", "+1.0x +0.0y"),
]
CORNERS = [(3.0, 4.0), (-5.0, 6.0), (-4.0, -7.0), (8.0, -3.0)]


def test_panels_turned_four_ways_lie_where_their_vectors_say(tmp_path: Path) -> None:
    path = tmp_path / "q.geom"
    path.write_text(geometry_text(TURNS, CORNERS, (40, 60)))
    data = np.arange(1, 4 * 40 * 60 + 1).reshape(4, 40, 60)
    index = read_geometry(path).assembly(data.shape, size=200)
    ours = np.where(index >= 0, data.reshape(-1)[np.maximum(index, 0)], 0)
    expected = np.zeros((200, 200), int)
    expected[104:144, 103:163] = data[0]
    expected[106:166, 55:95] = data[1].T[:, ::-1]
    expected[53:93, 36:96] = data[2][::-1, ::-1]
    expected[37:97, 108:148] = data[3].T[::-1]
    np.testing.assert_array_equal(ours, expected)


def test_a_file_written_by_extra_geom_is_assembled_as_extra_geom_does(tmp_path: Path) -> None:
    extra_geom = pytest.importorskip("extra_geom")
    corners = [(-1100, -560), (60, -560), (1100, 560), (-60, 560)]
    turns = [(1, 1), (1, 1), (-1, -1), (-1, -1)]
    reference = extra_geom.JUNGFRAUGeometry.from_module_positions(corners, turns)
    path = tmp_path / "j.geom"
    reference.write_crystfel_geom(str(path), adu_per_ev=0.001, clen=0.1, photon_energy=9500)
    data = np.arange(1, 4 * 512 * 1024 + 1).reshape(4, 512, 1024)
    geometry = read_geometry(path)
    geometry.check(data.shape, "extra-geom's file")
    index = geometry.assembly(data.shape, size=4800)
    ours = np.where(index >= 0, data.reshape(-1)[np.maximum(index, 0)], 0)
    image, _ = reference.position_modules(data.astype(float))
    image = np.nan_to_num(image).astype(int)
    rows, columns = np.nonzero(ours)
    block = ours[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    # Both drop the same gaps; extra-geom's images may run the other way along x.
    assert block.shape == image.shape
    assert np.array_equal(block, image) or np.array_equal(block[:, ::-1], image)


def test_every_image_pixel_shows_the_panel_pixel_under_its_centre(tmp_path: Path) -> None:
    angle = np.radians(7.0)
    cos, sin = np.cos(angle), np.sin(angle)
    path = tmp_path / "t.geom"
    turn = (f"{cos:.6f}x {sin:+.6f}y", f"{-sin:.6f}x {cos:+.6f}y")
    path.write_text(geometry_text([turn], [(-20.0, -35.0)], (50, 70)))
    geometry = read_geometry(path)
    index = geometry.assembly((1, 50, 70), size=180)
    rows, columns = np.nonzero(index >= 0)
    ss, fs = np.divmod(index[rows, columns], 70)
    panel = geometry.panels[0]
    # The distance from the centre of the pixel shown to that of the image's pixel, in the panel's axes.
    for shown, axis in ((fs, (cos, sin)), (ss, (-sin, cos))):
        x, y = columns + 0.5 - 90 - panel.corner[0], rows + 0.5 - 90 - panel.corner[1]
        assert np.abs(x * axis[0] + y * axis[1] - shown - 0.5).max() <= 0.5 + 1e-4
    # A turned panel covers its own area, without holes.
    assert abs(len(rows) - 50 * 70) < 0.02 * 50 * 70


@pytest.mark.parametrize(
    "change",
    [
        ("corner_x", "corner_q"),
        ("dim2 = ss", "dim2 = zz"),
        ("+1.0x", "+1.0q"),
        ("max_fs = 59", "max_fs = -3"),
    ],
)
def test_a_geometry_that_makes_no_sense_is_refused(tmp_path: Path, change: tuple[str, str]) -> None:
    path = tmp_path / "q.geom"
    path.write_text(geometry_text(TURNS, CORNERS, (40, 60)).replace(*change))
    with pytest.raises(UserError, match="q.geom"):
        read_geometry(path)


def test_a_geometry_of_another_detector_is_refused() -> None:
    panel = Panel("p", (3, 0, 0), 1, 2, (10, 10), (0.0, 0.0), (1.0, 0.0), (0.0, 1.0))
    with pytest.raises(UserError, match="panel p"):
        Geometry((panel,)).check((3, 10, 10), "run.cxi")


def write_cbf(path: Path, panels: np.ndarray, places: list[tuple[float, float, float]]) -> None:
    """Write panels (n, ss, fs) with x, y (mm, of the first pixel's corner) and turn (degrees), 0.1 mm pixels."""
    cif = axis_tables(places)
    cif += ["loop_", "_array_structure_list.array_id", "_array_structure_list.index"]
    cif += ["_array_structure_list.dimension", "_array_structure_list.precedence"]
    cif += ["_array_structure_list.direction", "_array_structure_list.axis_set_id"]
    for number in range(len(places)):
        cif += [f"A{number} 1 {panels.shape[2]} 1 increasing F{number}"]
        cif += [f"A{number} 2 {panels.shape[1]} 2 increasing S{number}"]
    write_arrays(path, cif, panels[:, None])


def write_quads_cbf(path: Path, quads: np.ndarray, places: list[tuple[float, float, float]]) -> None:
    """Write (quad, sensor, ss, fs), each sensor of two panels side by side, as cctbx does for the CSPAD."""
    count, sensors, slow, fast = quads.shape
    cif = axis_tables(places)
    cif += ["loop_", "_array_structure_list.array_id", "_array_structure_list.array_section_id"]
    cif += ["_array_structure_list.index", "_array_structure_list.dimension"]
    cif += ["_array_structure_list.precedence", "_array_structure_list.direction"]
    cif += ["_array_structure_list.axis_set_id"]
    sections = []
    for quad in range(count):
        for index, length in ((1, fast), (2, slow), (3, sensors)):
            cif += [f"A{quad} . {index} {length} {index} increasing ."]
    for number in range(2 * sensors * count):
        quad, sensor, half = number // (2 * sensors), number // 2 % sensors, number % 2
        name = f"A{quad} A{quad}S{sensor}H{half}"
        cif += [f"{name} 1 {fast // 2} 1 increasing F{number}", f"{name} 2 {slow} 2 increasing S{number}"]
        sections += [f"{name} 1 {1 + half * fast // 2} {(1 + half) * fast // 2}", f"{name} 2 1 {slow}"]
        sections += [f"{name} 3 {sensor + 1} {sensor + 1}"]
    names = ("array_id", "id", "index", "start", "end")
    cif += ["loop_", *(f"_array_structure_list_section.{name}" for name in names), *sections]
    write_arrays(path, cif, quads)


def axis_tables(places: list[tuple[float, float, float]]) -> list[str]:
    cif = ["###CBF: VERSION 1.5", "data_test", "loop_", "_axis.id", "_axis.type", "_axis.depends_on"]
    cif += [f"_axis.vector[{k}]" for k in (1, 2, 3)] + [f"_axis.offset[{k}]" for k in (1, 2, 3)]
    cif += ["AXIS_Z translation . 0 0 1 0 0 0", "AXIS_R rotation AXIS_Z 0 0 1 0 0 0"]
    for number, (x, y, _) in enumerate(places):
        cif += [f"T{number} rotation AXIS_R 0 0 1 {x} {y} 0", f"S{number} translation T{number} 0 -1 0 0 0 0"]
        cif += [f"F{number} translation S{number} 1 0 0 0 0 0"]
    cif += ["loop_", "_diffrn_scan_frame_axis.axis_id", "_diffrn_scan_frame_axis.angle"]
    cif += ["_diffrn_scan_frame_axis.displacement", "AXIS_Z 0 -100", "AXIS_R 0 0"]
    cif += [f"T{number} {turn} 0" for number, (_, _, turn) in enumerate(places)]
    cif += ["loop_", "_array_structure_list_axis.axis_set_id", "_array_structure_list_axis.axis_id"]
    cif += ["_array_structure_list_axis.displacement", "_array_structure_list_axis.displacement_increment"]
    return cif + [f"{axis}{number} {axis}{number} 0 0.1" for number in range(len(places)) for axis in "FS"]


def write_arrays(path: Path, cif: list[str], arrays: np.ndarray) -> None:
    """Add packed arrays (n, planes, ss, fs) to a text."""
    cif = [*cif, "loop_", "_array_data.array_id", "_array_data.binary_id", "_array_data.data"]
    content = "\r\n".join(cif).encode() + b"\r\n"
    for number, planes in enumerate(arrays):
        packed = pack(planes)
        content += f"A{number} {number + 1}\r\n;\r\n--CIF-BINARY-FORMAT-SECTION--\r\n".encode()
        content += b'Content-Type: application/octet-stream;\r\n     conversions="x-CBF_PACKED"\r\n'
        content += f"X-Binary-Size: {len(packed)}\r\nX-Binary-Number-of-Elements: {planes.size}\r\n".encode()
        content += b'X-Binary-Element-Type: "signed 32-bit integer"\r\n'
        content += b"X-Binary-Element-Byte-Order: LITTLE_ENDIAN\r\n"
        content += f"X-Binary-Size-Fastest-Dimension: {planes.shape[2]}\r\n".encode()
        content += f"X-Binary-Size-Second-Dimension: {planes.shape[1]}\r\n".encode()
        if len(planes) > 1:
            content += f"X-Binary-Size-Third-Dimension: {len(planes)}\r\n".encode()
        content += b"\r\n\x0c\x1a\x04\xd5" + packed + b"\r\n--CIF-BINARY-FORMAT-SECTION----\r\n;\r\n"
    path.write_bytes(content)


def pack(planes: np.ndarray) -> bytes:
    """Compress (planes, ss, fs) by x-CBF_PACKED, pixel by pixel as CBFlib describes it."""
    count, slow, fast = planes.shape
    values = planes.astype(int).tolist()
    offsets = []
    for p, s, f in np.ndindex(count, slow, fast):
        plane = values[p]
        if s == 0:
            expected = plane[s][f - 1] if f else values[p - 1][0][0] if p else 0
        else:
            if f == 0:
                near = plane[s - 1][:2]
            elif f == fast - 1:
                near = [plane[s][f - 1], plane[s - 1][f]]
            else:
                near = [plane[s][f - 1], *plane[s - 1][f - 1 : f + 2]]
            if p and f == 0:
                near = near + values[p - 1][s - 1][:2]
            elif p and f == fast - 1:
                near = [*near, values[p - 1][s][f], values[p - 1][s - 1][f]]
            elif p:
                near = [*near, values[p - 1][s][f], *values[p - 1][s - 1][f - 1 : f + 2]]
            expected = (sum(near) + len(near) // 2) // len(near)
        offsets.append(values[p][s][f] - expected)
    bits, widths = [], (0, 4, 5, 6, 7, 8, 16, 32)
    place = 0
    generator = np.random.default_rng(0)
    while place < len(offsets):
        log = int(generator.integers(0, 8))
        while (1 << log) > len(offsets) - place:
            log -= 1
        chunk = offsets[place : place + (1 << log)]
        code = next(
            k for k, n in enumerate(widths) if all(-(1 << n >> 1) <= x < max(1 << n >> 1, 1) for x in chunk)
        )
        bits += [(log >> k) & 1 for k in range(3)] + [(code >> k) & 1 for k in range(3)]
        for offset in chunk:
            bits += [(offset >> k) & 1 for k in range(widths[code])]
        place += 1 << log
    header = len(offsets).to_bytes(8, "little") + bytes(24)
    return header + np.packbits(np.array(bits, np.uint8), bitorder="little").tobytes()


def test_packed_images_are_unpacked_exactly(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    panels = generator.normal(0, 5, (3, 21, 30)).round().astype(np.int32)
    panels[1] += generator.integers(-40000, 40000, (21, 30)).astype(np.int32)
    panels[2, 3, 4] = 2**30
    panels[2, 20, 29] = -(2**30)
    write_cbf(tmp_path / "a.cbf", panels, [(0, 0, 0)] * 3)
    file = open_cbf(tmp_path / "a.cbf")
    for number, panel in enumerate(panels):
        np.testing.assert_array_equal(file.read(number)[0], panel)
    # Planes of one array are predicted by the plane before, too.
    write_arrays(tmp_path / "b.cbf", ["###CBF: VERSION 1.5"], panels[None])
    np.testing.assert_array_equal(open_cbf(tmp_path / "b.cbf").read(0), panels)


def test_panels_of_a_cbf_are_assembled_by_its_axes(tmp_path: Path) -> None:
    panels = np.arange(2 * 20 * 30, dtype=np.int32).reshape(2, 20, 30) % 97
    # One 1 mm right of and above the beam; one turned by 90 degrees, its fast axis pointing up.
    write_cbf(tmp_path / "a.cbf", panels, [(1.0, 4.0, 0.0), (-4.0, -4.0, 90.0)])
    with FrameReader(ReadOptions()) as reader:
        (source,) = reader.stacks(str(tmp_path / "a.cbf"))
        mask = reader.static_mask(source)
        ((crop, *_),) = reader.read(source, [0], np.dtype(np.int32))
    expected = np.full((CROP, CROP), -1)
    middle = CROP // 2
    expected[middle - 40 : middle - 20, middle + 10 : middle + 40] = panels[0]
    # Fast runs upwards from row +40, slow to the right from column -40.
    expected[middle + 10 : middle + 40, middle - 40 : middle - 20] = panels[1].T[::-1]
    assert crop is not None
    assert mask is not None
    np.testing.assert_array_equal(mask, expected >= 0)
    np.testing.assert_array_equal(crop[mask], expected[mask])
    with pytest.raises(UserError, match="cut short"):
        (tmp_path / "b.cbf").write_bytes((tmp_path / "a.cbf").read_bytes()[:-900])
        open_cbf(tmp_path / "b.cbf").read(1)


def test_a_cspads_quadrants_in_a_cbf_are_assembled_by_their_sections(tmp_path: Path) -> None:
    """Four arrays of sensors, each sensor two panels with a gap between them and axes of their own."""
    generator = np.random.default_rng(2)
    quads = generator.integers(0, 90, (4, 2, 20, 60)).astype(np.int32)
    # Panels below one another in two columns, 0.1 mm pixels; y up, each of 30 pixels and a gap of 3.
    places = [(-3.3 + 3.3 * (k % 2), 8.0 - 2.0 * (k // 2), 0.0) for k in range(16)]
    write_quads_cbf(tmp_path / "q.cbf", quads, places)
    with FrameReader(ReadOptions()) as reader:
        (source,) = reader.stacks(str(tmp_path / "q.cbf"))
        mask = reader.static_mask(source)
        ((crop, *_),) = reader.read(source, [0], np.dtype(np.int32))
    assert source.raw_shape == (8, 20, 60)
    expected = np.full((CROP, CROP), -1)
    middle = CROP // 2
    rows = slice(middle - 80, middle + 80)
    expected[rows, middle - 33 : middle - 3] = quads[..., :30].reshape(160, 30)
    expected[rows, middle : middle + 30] = quads[..., 30:].reshape(160, 30)
    assert crop is not None
    assert mask is not None
    np.testing.assert_array_equal(mask, expected >= 0)
    np.testing.assert_array_equal(crop[mask], expected[mask])
    # Axes that are not there: no guess.
    text = (tmp_path / "q.cbf").read_bytes()
    (tmp_path / "r.cbf").write_bytes(text.replace(b"T3 rotation", b"X3 rotation"))
    with FrameReader(ReadOptions()) as reader, pytest.raises(UserError, match="8 panels.*--geometry"):
        reader.stacks(str(tmp_path / "r.cbf"))


@pytest.mark.parametrize("frame_axis", [True, False])
@pytest.mark.parametrize("in_geometry", [True, False])
def test_sixty_four_panels_with_and_without_an_axis_of_frames(
    tmp_path: Path, frame_axis: bool, in_geometry: bool
) -> None:
    """A CSPAD's 64 panels, as (64, 185, 194) or (1, 64, 185, 194), whatever the geometry says of frames."""
    panels = np.random.default_rng(0).integers(0, 500, (64, 185, 194)).astype(np.uint16)
    corners = [(194.0 * (k % 8) - 776 + 3 * (k % 8), 185.0 * (k // 8) - 740) for k in range(64)]
    text = geometry_text([TURNS[0]] * 64, corners, (185, 194))
    if not in_geometry:
        lines = [line for line in text.splitlines() if not line.startswith("dim")]
        text = "\n".join(["dim1 = ss", "dim2 = fs", *(line.replace("/dim1", "/dim0") for line in lines)])
    (tmp_path / "c.geom").write_text(text)
    path = cases.write_cxi(tmp_path / "c.cxi", panels[None] if frame_axis else panels)
    with FrameReader(ReadOptions(geometry=str(tmp_path / "c.geom"))) as reader:
        (source,) = reader.stacks(str(path))
        ((crop, _, reason, _),) = reader.read(source, [0], np.dtype(np.uint16))
        mask = reader.static_mask(source)
    assert (source.frames, source.event(0), reason) == (1, "//0" if frame_axis else "//", "")
    assert crop is not None
    assert mask is not None
    whole = np.zeros((1480, 1600), np.uint16)
    for number, (x, y) in enumerate(corners):
        whole[int(y) + 740 :, int(x) + 776 :][:185, :194] = panels[number]
    expected = whole[740 - 362 : 740 + 362, 776 - 362 : 776 + 362]
    np.testing.assert_array_equal(crop[mask], expected[mask])
    assert 0.95 < mask.mean() < 1


def test_masks_and_flagged_values_of_a_geometry_are_left_out(tmp_path: Path) -> None:
    panels = np.random.default_rng(0).integers(1, 500, (2, 4, 40, 60)).astype(np.uint16)
    own = np.zeros(panels.shape, np.uint16)
    own[1, 2, :5], own[0, 3] = 4, 2
    beside = np.ones(panels.shape[1:], np.uint8)
    beside[0, 7] = 0
    path = cases.write_cxi(tmp_path / "a.cxi", panels)
    with h5py.File(path, "a") as file:
        file["/other/mask"] = own
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["/m"] = beside
    text = "mask0_data = /other/mask\nmask0_badbits = 0x4\nmask1_data = /m\nmask1_file = m.h5\n"
    text += "mask1_goodbits = 1\nflag_morethan = 480\nflag_equal = 7\n"
    text += geometry_text(
        [TURNS[0]] * 4, [(-60.0 + 62 * (k % 2), 45.0 * (k // 2)) for k in range(4)], (40, 60)
    )
    (tmp_path / "g.geom").write_text(text)
    good = (own & 4 == 0) & (beside == 1) & (panels <= 480) & (panels != 7)
    geometry = read_geometry(tmp_path / "g.geom")
    index = geometry.assembly(panels.shape[1:])
    with FrameReader(ReadOptions(geometry=str(tmp_path / "g.geom"))) as reader:
        (source,) = reader.stacks(str(path))
        shared = reader.static_mask(source)
        assert shared is not None
        for number, (_, mask, reason, _) in enumerate(reader.read(source, range(2), np.dtype(np.uint16))):
            assert not reason
            assert mask is not None
            expected = (index >= 0) & good[number].reshape(-1)[np.maximum(index, 0)]
            np.testing.assert_array_equal(mask & shared, expected)
    with pytest.raises(UserError, match="mask0_badbits differs between panels"):
        parse_geometry(text + "m1/mask0_badbits = 0x8\n", "g.geom")


def test_damaged_geometries_are_read_or_refused() -> None:
    generator = np.random.default_rng(3)
    text = "mask_good = 0x0\n" + geometry_text(TURNS, CORNERS, (40, 60))
    text += "bad1/min_fs = 1\nbad1/max_fs = 2\nbad1/min_ss = 0\nbad1/max_ss = 3\nbad1/panel = m0\n"
    words = ["", "=", "/", "%", "nan", "1e999", "-1", "0x", "x", "99999999999", ";", "ss", "\n", "m0/"]
    ended = {"read": 0, "refused": 0}
    for _ in range(400):
        pieces = list(text)
        for place in generator.integers(0, len(pieces), generator.integers(1, 6)):
            pieces[place] = str(generator.choice(words))
        path = Path(os.devnull)
        try:
            geometry = parse_geometry("".join(pieces), path)
            geometry.check((4, 40, 60), "run.cxi")
            geometry.assembly((4, 40, 60), size=100)
            ended["read"] += 1
        except UserError as error:
            assert "\n" not in str(error)
            ended["refused"] += 1
    assert min(ended.values()) > 20
