from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import screen_cases as cases

from sfxjax.data.events import parse_crystfel_line
from sfxjax.errors import UserError
from sfxjax.models.checkpoint import save_model
from sfxjax.screen.command import screen_run
from sfxjax.screen.options import ScreenTask
from sfxjax.screen.scorer import Screener


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("runs") / "tiny" / "model", cases.tiny_model()).parent


@pytest.fixture(scope="session")
def data() -> np.ndarray:
    return cases.frames(5)


def expected(data: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    return Screener(cases.tiny_model()).scores(data, mask)


def test_a_set_in_chunk_groups_is_screened_in_their_order(
    tmp_path: Path, model: Path, data: np.ndarray
) -> None:
    file = tmp_path / "r0018.h5"
    # Written last first, read by name.
    with h5py.File(file, "w") as stack:
        stack["/data/chunk_1/images"] = data[3:]
        stack["/data/chunk_0/images"] = data[:3]
    assert cases.screen(file, "--model", model, "--out", tmp_path / "out") == 0
    found = cases.rows(tmp_path / "out")
    assert list(found[0]) == ["file", "event", "index", "score", "label", "reason"]
    events = ["chunk_0//0", "chunk_0//1", "chunk_0//2", "chunk_1//0", "chunk_1//1"]
    assert [row["event"] for row in found] == events
    assert [row["index"] for row in found] == [str(index) for index in range(5)]
    np.testing.assert_array_equal(cases.scores(tmp_path / "out"), expected(data))
    hits = [int(row["index"]) for row in found if row["label"] == "HIT"]
    selected = json.loads((tmp_path / "out" / "hits.expt").read_text())["imageset"]
    # DIALS counts through the file's groups.
    assert [entry["single_file_indices"] for entry in selected] == [[hit] for hit in hits]
    assert max(hits) > 2


def test_several_files_count_on_and_are_listed_by_the_threshold(
    tmp_path: Path, model: Path, data: np.ndarray
) -> None:
    files = [cases.write_cxi(tmp_path / "a b.cxi", data[:2]), cases.write_cxi(tmp_path / "c.cxi", data[2:])]
    threshold = float(np.sort(expected(data))[2])
    assert cases.screen(*files, "--model", model, "--out", tmp_path / "o", "--threshold", threshold) == 0
    found = cases.rows(tmp_path / "o")
    assert [int(row["index"]) for row in found] == [0, 1, 2, 3, 4]
    assert [row["label"] for row in found] == [
        "HIT" if score >= threshold else "MISS" for score in expected(data)
    ]
    assert sum(row["label"] == "HIT" for row in found) == 3
    for name, label in (("hits.lst", "HIT"), ("misses.lst", "MISS")):
        listed = [parse_crystfel_line(line) for line in (tmp_path / "o" / name).read_text().splitlines()]
        assert listed == [(row["file"], row["event"]) for row in found if row["label"] == label]
    selected = json.loads((tmp_path / "o" / "hits.expt").read_text())["imageset"]
    hits = [row for row in found if row["label"] == "HIT"]
    assert [entry["images"] for entry in selected] == [[row["file"]] for row in hits]
    assert [entry["single_file_indices"] for entry in selected] == [[int(row["event"][2:])] for row in hits]


def test_a_notebook_screens_what_the_command_line_does(tmp_path: Path, model: Path, data: np.ndarray) -> None:
    file = cases.write_cxi(tmp_path / "run.cxi", data)
    given = "--no-report", "--threshold", 0.25
    assert cases.screen(file, "--model", model, "--out", tmp_path / "command", *given) == 0
    task = ScreenTask([str(file)], tmp_path / "call", model, threshold=0.25, report=False)
    assert screen_run(task) == 0
    names = {name: sorted(each.name for each in (tmp_path / name).iterdir()) for name in ("command", "call")}
    assert names["command"] == names["call"]
    for name in ("frames.csv", "hits.lst"):
        assert (tmp_path / "call" / name).read_bytes() == (tmp_path / "command" / name).read_bytes()


def test_a_named_data_set_of_one_frame_and_a_mask(tmp_path: Path, model: Path, data: np.ndarray) -> None:
    file = tmp_path / "one.h5"
    good = np.ones(data.shape[1:], bool)
    good[300:360, 200:500] = False
    with h5py.File(file, "w") as stack:
        stack["/somewhere/frame"] = data[3]
        stack["/somewhere/else"] = data[0]
    np.savez(tmp_path / "mask.npz", good=good)
    arguments = [file, "--dataset", "/somewhere/frame", "--model", model]
    assert cases.screen(*arguments, "--out", tmp_path / "plain") == 0
    assert cases.screen(*arguments, "--mask", tmp_path / "mask.npz", "--out", tmp_path / "masked") == 0
    np.testing.assert_array_equal(cases.scores(tmp_path / "plain"), expected(data[3:4]))
    np.testing.assert_array_equal(cases.scores(tmp_path / "masked"), expected(data[3:4], good))
    assert cases.scores(tmp_path / "plain")[0] != cases.scores(tmp_path / "masked")[0]
    assert cases.rows(tmp_path / "plain")[0]["event"] == "//"


def test_frames_that_tell_nothing_are_errors_with_a_reason(
    tmp_path: Path, model: Path, data: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = data.astype(np.float32)
    bad[0] = 0
    bad[1] = np.nan
    bad[2] = 65535
    file = cases.write_cxi(tmp_path / "bad.cxi", bad)
    assert cases.screen(file, "--model", model, "--out", tmp_path / "out") == 1
    found = cases.rows(tmp_path / "out")
    assert [row["label"] == "ERROR" for row in found] == [True, True, True, False, False]
    assert [row["score"] == "" for row in found] == [True, True, True, False, False]
    for row, word in zip(found, ["0", "usable", "saturated"], strict=False):
        assert word in row["reason"]
    np.testing.assert_array_equal(cases.scores(tmp_path / "out")[3:], expected(bad[3:]))
    assert "3 of 5 frames" in capsys.readouterr().err


def test_what_cannot_be_screened_is_one_line_and_status_2(
    tmp_path: Path, model: Path, data: np.ndarray
) -> None:
    good = cases.write_cxi(tmp_path / "good.cxi", data[:1])
    (tmp_path / "text.h5").write_text("no frames")
    (tmp_path / "cut.cxi").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    cases_and_words: list[tuple[list[object], str]] = [
        ([tmp_path / "gone.h5"], "no such file"),
        ([tmp_path / "text.h5"], "not"),
        ([tmp_path / "cut.cxi"], "cut short"),
        ([good, "--dataset", "/nothing"], "/entry_1/data_1/data"),
        ([good, "--mask", tmp_path / "gone.npz"], "gone.npz"),
        ([good, "--threshold", "7"], "threshold"),
        ([good, "--model", tmp_path], "no trained model"),
    ]
    for arguments, word in cases_and_words:
        with pytest.raises(UserError, match=word):
            cases.screen("--model", model, "--out", tmp_path / "out", *arguments)
    assert not (tmp_path / "out" / "frames.csv").exists()
    result = cases.command(tmp_path / "text.h5", "--model", model, "--out", tmp_path / "out")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1


def test_the_real_frame_has_one_score_alone_and_in_a_file(tmp_path: Path, model: Path, shared: Path) -> None:
    folder = shared / "data" / "mfx_rayonix"
    arguments = [folder / "hit.h5", folder / "blank.h5", "--model", model, "--mask", folder / "mask.npz"]
    assert cases.screen(*arguments, "--out", tmp_path) == 0
    frames = []
    for name in ("hit.h5", "blank.h5"):
        with h5py.File(folder / name) as file:
            frames.append(file["/entry_1/data_1/data"][0])
    good = np.load(folder / "mask.npz")["good"]
    np.testing.assert_array_equal(cases.scores(tmp_path), expected(np.stack(frames), good))
    assert cases.scores(tmp_path)[0] != cases.scores(tmp_path)[1]


def test_the_real_frame_scores_the_same_in_hdf5_cxi_and_cbf(
    tmp_path: Path, model: Path, shared: Path
) -> None:
    folder = shared / "data" / "mfx_rayonix"
    with h5py.File(folder / "hit.h5") as file:
        frame = file["/entry_1/data_1/data"][()]
    with h5py.File(tmp_path / "hit.cxi", "w") as file:
        detector = file.create_group("/entry_1/instrument_1/detector_1")
        detector["data"], detector["mask_shared"] = frame, np.zeros(frame.shape[1:], np.uint16)
        file["/entry_1/data_1/data"] = h5py.SoftLink("/entry_1/instrument_1/detector_1/data")
    files = [folder / "hit.h5", tmp_path / "hit.cxi", folder / "hit.cbf"]
    assert cases.screen(*files, "--model", model, "--out", tmp_path / "o", "--no-report") == 0
    assert [row["event"] for row in cases.rows(tmp_path / "o")] == ["//0", "//0", ""]
    score = cases.scores(tmp_path / "o")
    assert score[0] == score[1] == score[2] == expected(frame)[0]


def layouts(folder: Path, data: np.ndarray) -> dict[str, tuple[Path, list[object]]]:
    """Write the frames in every layout of which files are kept; gives the options each needs."""
    detector = "/entry_1/instrument_1/detector_1"
    made: dict[str, tuple[Path, list[object]]] = {}

    def write(name: str, **sets: np.ndarray | h5py.SoftLink | h5py.ExternalLink) -> Path:
        with h5py.File(folder / name, "w") as file:
            for path, values in sets.items():
                file[path] = values
        return folder / name

    link = h5py.SoftLink(f"{detector}/data")
    no_bits = np.zeros(data.shape, np.uint16)
    cheetah = {f"{detector}/data": data, f"{detector}/mask": no_bits, f"{detector}/mask_shared": no_bits[0]}
    made["Cheetah"] = write("cheetah.cxi", **cheetah, **{"/entry_1/data_1/data": link}), []
    panels = np.zeros((len(data), 8, 20, 30), data.dtype)
    made["Cheetah, assembled"] = (
        write("image.cxi", **{"/entry_1/data_1/data": panels, "/entry_1/image_1/data": data}),
        [],
    )
    made["psocake"] = write("psocake.cxi", **{f"{detector}/data": data, "/entry_1/data_1/data": link}), []
    for name in ("gzip", "shuffled"):
        options = {"chunks": (1, *data.shape[1:]), "compression": "gzip", "shuffle": name == "shuffled"}
        made[f"OM, {name}"] = cases.write_cxi(folder / f"om_{name}.cxi", data, **options), []
    made["CXIDB 76"] = cases.write_cxidb76(folder / "r0018_2000.h5", data[:2], data[2:]), []
    write("x_data_000001.h5", **{"/entry/data/data": data[:3]})
    write("x_data_000002.h5", **{"/entry/data/data": data[3:]})
    master = {
        f"/entry/data/data_{k:06d}": h5py.ExternalLink(f"x_data_{k:06d}.h5", "/entry/data/data")
        for k in (1, 2)
    }
    pixel_mask = {"/entry/instrument/detector/pixel_mask": np.zeros(data.shape[1:], np.uint32)}
    made["DECTRIS master"] = write("x_master.h5", **master, **pixel_mask), []
    made["NXmx"] = write("nxmx.nxs", **{"/entry/data/data": data}, **pixel_mask), []
    made["named"] = write("named.h5", **{"/some/where": data}), ["--dataset", "/some/where"]
    # EXtra-data's: (frame, module, ss, fs), virtual; four modules above one another.
    rows = data.shape[1] // 4
    write("modules.h5", **{f"m{k}": data[:, k * rows : (k + 1) * rows] for k in range(4)})
    layout = h5py.VirtualLayout((len(data), 4, rows, data.shape[2]), data.dtype)
    for k in range(4):
        layout[:, k] = h5py.VirtualSource("modules.h5", f"m{k}", (len(data), rows, data.shape[2]))
    with h5py.File(folder / "virtual.cxi", "w") as file:
        file.create_virtual_dataset(f"{detector}/data", layout)
        file["/entry_1/data_1/data"], file["/entry_1/trainId"] = link, np.arange(len(data))
    half = data.shape[2] // 2
    text = [f"dim0 = %\ndim2 = ss\ndim3 = fs\nmin_fs = 0\nmax_fs = {2 * half - 1}\nmin_ss = 0"]
    text += [f"max_ss = {rows - 1}\ncorner_x = {-half}\nfs = x\nss = y\ndata = {detector}/data"]
    text += [f"m{k}/dim1 = {k}\nm{k}/min_fs = 0\nm{k}/corner_y = {-2 * rows + k * rows}" for k in range(4)]
    (folder / "v.geom").write_text("\n".join(text))
    made["EuXFEL virtual CXI"] = folder / "virtual.cxi", ["--geometry", folder / "v.geom"]
    return made


def test_every_layout_gives_the_scores_of_a_plain_array(
    tmp_path: Path, model: Path, data: np.ndarray
) -> None:
    made = layouts(tmp_path, data)
    plain = {name: path for name, (path, options) in made.items() if not options}
    runs = [(plain, [])] + [({name: path}, options) for name, (path, options) in made.items() if options]
    for number, (files, options) in enumerate(runs):
        out = tmp_path / f"out{number}"
        arguments = [*files.values(), *options, "--model", model, "--out", out, "--no-report"]
        assert cases.screen(*arguments) == 0
        # Masks that exclude nothing change nothing; a program for masks of single frames rounds otherwise.
        for name, found in zip(files, cases.scores(out).reshape(len(files), len(data)), strict=True):
            np.testing.assert_allclose(found, expected(data), rtol=1e-5, err_msg=name)


def test_stills_of_every_writer_give_the_scores_of_a_plain_array(
    tmp_path: Path, model: Path, data: np.ndarray
) -> None:
    fabio = pytest.importorskip("fabio")
    signed = data.astype(np.int32)
    writers = {
        "cbf": fabio.cbfimage.CbfImage,
        "tif": fabio.tifimage.TifImage,
        "mccd": fabio.tifimage.TifImage,
    }
    for suffix, writer in writers.items():
        folder = tmp_path / suffix
        folder.mkdir()
        for number in range(3):
            pixels = data[number] if suffix == "mccd" else signed[number]
            writer(data=pixels).write(str(folder / f"i{number}.{suffix}"))
        assert cases.screen(folder, "--model", model, "--out", tmp_path / f"o{suffix}", "--no-report") == 0
        np.testing.assert_allclose(cases.scores(tmp_path / f"o{suffix}"), expected(data[:3]), rtol=1e-5)


def test_dead_pixels_and_small_frames_are_masked_in_files_as_in_arrays(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = cases.frames(20, 600)
    small[:, 300, 290:310] = 60000
    path = cases.write_cxi(tmp_path / "small.cxi", small)
    assert cases.screen(path, "--model", model, "--out", tmp_path / "o", "--no-report") == 0
    np.testing.assert_array_equal(cases.scores(tmp_path / "o"), expected(small))
    told = capsys.readouterr().out
    assert "600x600 pixels are padded to 724x724" in told
    assert "20 pixels never change" in told
    # The mask tells: with all pixels taken as good the scores are others.
    assert np.all(expected(small) != expected(small, np.ones((600, 600), bool)))


def test_several_devices_score_as_one_and_a_frame_alone_as_in_a_batch(data: np.ndarray) -> None:
    import jax

    assert len(jax.local_devices()) > 1
    screener = Screener(cases.tiny_model(), batch_size=3)
    assert screener.batch_size % len(jax.local_devices()) == 0
    alone = [screener.scores(frame) for frame in data]
    assert np.ndim(alone[0]) == 0
    np.testing.assert_allclose(screener.scores(data), alone, rtol=1e-5)
    masks = np.ones(data.shape, bool)
    masks[1, 300:400] = False
    found = screener.scores(data, masks)
    np.testing.assert_allclose(found[0], screener.scores(data[0], masks[0]), rtol=1e-5)
    assert abs(found[1] - alone[1]) > 1e-5
    with pytest.raises(UserError, match="bool"):
        screener.scores(data, masks.astype(int))
