"""What a file claims or unfolds to costs neither memory nor time without a bound."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import screen_cases as cases

from sfxjax import files, toml_files
from sfxjax.data import file_lists, geometry_file, hdf5, labels, repeats, virtual_sets
from sfxjax.data.formats import hdf5_stack
from sfxjax.data.formats.hdf5_stack import written_frames
from sfxjax.data.frames import ReadOptions
from sfxjax.data.geometry_file import parse_geometry, read_geometry
from sfxjax.data.hits_file import write_hits
from sfxjax.data.inputs import find_files
from sfxjax.data.labels import read_labels
from sfxjax.data.masks import load_mask
from sfxjax.data.read import FrameReader
from sfxjax.errors import UserError
from sfxjax.toml_files import read_toml


def sparse(path: Path, frames: int, written: list[int]) -> Path:
    with h5py.File(path, "w") as file:
        data = file.create_dataset("/entry_1/data_1/data", (frames, 64, 64), "u1", chunks=(1, 64, 64))
        for number in written:
            data[number] = 1 + number % 7
    return path


@pytest.mark.parametrize(
    ("frames", "written", "words"),
    [
        (9_000_000, [0, 8_999_999], "claims 9000000 frames, of which at most 2 were written"),
        (50_000_000, [0], "claims"),
    ],
)
def test_frames_that_nobody_wrote_are_not_believed(
    frames: int, written: list[int], words: str, tmp_path: Path
) -> None:
    run = sparse(tmp_path / "run.cxi", frames, written)
    tracemalloc.start()
    with FrameReader(ReadOptions()) as reader, pytest.raises(UserError, match=words):
        reader.stacks(str(run))
    assert tracemalloc.get_traced_memory()[1] < 2**27
    tracemalloc.stop()


def test_frames_left_out_on_the_way_and_an_end_never_written_are_no_damage(tmp_path: Path) -> None:
    run = sparse(tmp_path / "run.cxi", 2_000_000, list(range(0, 300, 3)))
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(run))
    assert stack.frames == 298 and "never written" in stack.notes[0]


def test_every_chunk_is_looked_at_once(tmp_path: Path) -> None:
    """One look-up by number goes through all chunks before it, so that many took minutes."""

    class Chunks:
        looked_at = 0

        def get_num_chunks(self) -> int:
            return 40_000

        def chunk_iter(self, look: Any) -> None:
            for number in range(40_000):
                self.looked_at += 1
                look(SimpleNamespace(chunk_offset=((number * 7919) % 40_000, 0, 0)))

    chunks = Chunks()
    data = SimpleNamespace(
        id=chunks, shape=(50_000, 64, 64), chunks=(1, 64, 64), is_virtual=False, external=None
    )
    assert written_frames(data) == 40_000  # type: ignore[arg-type]
    assert chunks.looked_at == 40_000
    with h5py.File(tmp_path / "run.h5", "w") as file:
        real = file.create_dataset("frames", (300, 64, 64), "u1", chunks=(2, 2, 64))
        real[:251] = 1
        assert written_frames(real) == 252


@pytest.mark.parametrize("kind", ["npz", "npy", "a heading that lies"])
def test_a_mask_that_unfolds_to_gigabytes_is_refused_unread(kind: str, tmp_path: Path) -> None:
    path = tmp_path / ("mask.npy" if kind == "npy" else "mask.npz")
    header = io.BytesIO()
    shape = (2**16, 2**16) if kind != "a heading that lies" else (512, 512)
    np.lib.format.write_array_header_1_0(header, {"descr": "|b1", "fortran_order": False, "shape": shape})
    if kind == "npy":
        path.write_bytes(header.getvalue())
    else:
        with (
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open("good.npy", "w") as stream,
        ):
            stream.write(header.getvalue())
            for _ in range(256):
                stream.write(bytes(2**20) if kind == "npz" else b"\1" * 2**20)
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    if kind == "a heading that lies":
        # What the heading does not speak of is not read.
        assert load_mask(str(path)).good.shape == (512, 512)
    else:
        with pytest.raises(UserError, match="an array of bool of shape"):
            load_mask(str(path))
    assert tracemalloc.get_traced_memory()[1] < 2**25
    tracemalloc.stop()


def test_data_of_single_frames_that_unfold_are_left_out_of_the_hits(tmp_path: Path) -> None:
    run = cases.write_cxi(tmp_path / "run.cxi", cases.frames(4, 64))
    with h5py.File(run, "r+") as file:
        file.create_dataset(
            "/entry_1/huge", (4, 2**26), "u1", chunks=(1, 2**20), compression="gzip", fillvalue=3
        )
        file["/entry_1/mask"] = np.ones((4, 64, 64), "u2")
        file["/entry_1/time"] = np.arange(4.0)
        # One text, to which every frame refers, is copied as often.
        text = file.create_dataset("/entry_1/text", (4,), h5py.string_dtype())
        text[:] = "x" * 2**25
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(run))
        left_out = write_hits(reader, tmp_path / "hits.cxi", [(stack, [0, 1, 3])], [0, 1, 3], [0.9] * 3)[
            "left_out"
        ]
    assert sorted(left_out) == ["/entry_1/huge", "/entry_1/text"]
    with h5py.File(tmp_path / "hits.cxi") as file:
        np.testing.assert_array_equal(file["/entry_1/time"], [0, 1, 3])
        np.testing.assert_array_equal(file["/entry_1/mask"], np.ones((3, 64, 64)))
        assert "/entry_1/text" not in file
    assert (tmp_path / "hits.cxi").stat().st_size < 2**20


def test_a_damaged_entry_is_left_out_and_the_hits_are_written(tmp_path: Path) -> None:
    run = cases.write_cxi(tmp_path / "run.cxi", cases.frames(3, 64))
    with h5py.File(run, "r+") as file:
        file.create_dataset(
            "/entry_1/noise",
            data=np.arange(3 * 4096.0).reshape(3, 4096),
            chunks=(1, 4096),
            compression="gzip",
        )
        place = file["/entry_1/noise"].id.get_chunk_info(1).byte_offset
    content = bytearray(run.read_bytes())
    content[place : place + 64] = bytes(64)
    run.write_bytes(content)
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(run))
        written = write_hits(reader, tmp_path / "hits.cxi", [(stack, [0, 1])], [0, 1], [0.9, 0.8])
    assert written["left_out"] == ["/entry_1/noise"]


def test_a_file_of_more_groups_than_any_run_has_is_refused_before_they_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5_stack, "MOST_PARTS", 3)
    path = cases.write_cxidb76(tmp_path / "many.h5", *[np.zeros((1, 8, 8), np.uint16)] * 4)
    for options in (ReadOptions(), ReadOptions(dataset="/data/%/images")):
        with FrameReader(options) as reader, pytest.raises(UserError, match="/data holds 4 groups"):
            reader.stacks(str(path))


def test_names_in_what_calls_itself_a_files_hits_are_not_all_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeats, "_MOST_HITS", 20_000)
    cases.write_cxi(tmp_path / "run.cxi", np.zeros((1, 8, 8), np.uint16))
    path = cases.write_cxi(tmp_path / "hits.cxi", np.zeros((1, 8, 8), np.uint16))
    with h5py.File(path, "r+") as file:
        # 2e9 names in a few kilobytes: read at once they take hundreds of gigabytes.
        names = file.create_dataset(
            "/entry_1/screening/file", (2 * 10**9,), h5py.string_dtype(), chunks=(10**6,), compression="gzip"
        )
        names[0] = "run.cxi"
    assert [Path(name).name for name in find_files([str(tmp_path)]).files] == ["run.cxi"]


def test_geometries_of_absurd_extent_are_refused_or_read_at_once() -> None:
    panels = "".join(
        f"p{k}/min_fs = {k}\np{k}/max_fs = {k}\np{k}/min_ss = 0\np{k}/max_ss = 0\np{k}/corner_x = 0\np{k}/corner_y = 0\n"
        for k in range(1500)
    )
    region = "".join(
        f"bad{k}/min_x = 0\nbad{k}/max_x = 1\nbad{k}/min_y = 0\nbad{k}/max_y = 1\n" for k in range(1500)
    )
    with pytest.raises(UserError, match="1500 bad regions in 1500 panels are beyond belief"):
        parse_geometry(panels + region, "g.geom")
    # Likenesses are looked for of those few keys that are named.
    (note,) = parse_geometry(panels + "".join(f"mask_edge_pixel{k} = 3\n" for k in range(50_000)), "g").notes
    assert "and 49994 more" in note and note.count("did you mean") == 6


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("sets.toml", lambda path: read_toml(path)),
        ("labels.csv", lambda path: read_labels(path, [("a.h5", "//0")])),
        ("g.geom", lambda path: read_geometry(path)),
        ("x.lst", lambda path: find_files([str(path)])),
    ],
)
def test_texts_beyond_belief_are_refused_unread(name: str, read: Any, tmp_path: Path) -> None:
    with (tmp_path / name).open("wb") as stream:
        stream.write(b"file,event,label\n")
        stream.truncate(2**40)
    # Read whole, they would take the memory of the machine.
    whole = files.read_bounded
    taken: list[int] = []

    def bounded(path: Path, most: int, what: str) -> bytes:
        taken.append(most)
        return whole(path, min(most, 2**20), what)

    with pytest.MonkeyPatch.context() as patch:
        for module in (toml_files, labels, geometry_file, file_lists):
            patch.setattr(module, "read_bounded", bounded)
        with pytest.raises(UserError, match="MiB; this is no"):
            read(tmp_path / name)
    assert max(taken) <= 2**30


def test_a_nested_table_of_sets_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "sets.toml").write_text("a = " + "[" * 100_000)
    with pytest.raises(UserError, match="not a TOML file"):
        read_toml(tmp_path / "sets.toml")


def test_a_virtual_set_that_names_one_source_many_times_opens_it_a_few_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases.write_cxi(tmp_path / "source.h5", np.ones((2, 8, 8), np.uint16))
    layout = h5py.VirtualLayout((300, 8, 8), np.uint16)
    source = h5py.VirtualSource("source.h5", "/entry_1/data_1/data", (2, 8, 8))
    for number in range(300):
        layout[number] = source[number % 2]
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file.create_virtual_dataset("/entry/data/data", layout)
    asked, whole = [], virtual_sets.has_data_set
    for module in (hdf5, virtual_sets):
        monkeypatch.setattr(module, "has_data_set", lambda *place: asked.append(place) or whole(*place))
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(tmp_path / "run.h5"))
        assert stack.frames == 300 and reader.original(stack, 299).all()
    assert 0 < len(asked) < 10
