"""`sfxjax spots`: from files of several kinds to lists, with nothing trained."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import h5py
import numpy as np
import pytest
import screen_cases as cases
from scipy import stats

from sfxjax.errors import run_main
from sfxjax.screen import for_dials
from sfxjax.screen.__main__ import main as screen
from sfxjax.screen.for_dials import place_on
from sfxjax.screen.found_spots import CountedFrame
from sfxjax.screen.spot_lists import hit_rate, hit_rate_line
from sfxjax.screen.spots import count_run, main


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of three frames of 300 x 500 pixels; every second frame has twelve spots in known places."""
    folder = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    for number in range(2):
        frames = rng.poisson(40, (3, 300, 500)).astype(np.uint16)
        for frame in frames[::2]:
            for k in range(12):
                ss, fs = 20 + 22 * k, 30 + 37 * k
                frame[ss - 1 : ss + 2, fs - 1 : fs + 2] += np.array(
                    [[60, 90, 60], [90, 200, 90], [60, 90, 60]], np.uint16
                )
        with h5py.File(folder / f"part_{number}.h5", "w") as file:
            file["entry/data/data"] = frames
    return folder


def test_a_notebook_counts_what_the_command_line_does(run: Path, tmp_path: Path) -> None:
    assert main([str(run), "--out", str(tmp_path / "command"), "--no-report", "--min-spots", "13"]) == 0
    assert count_run([str(run)], tmp_path / "call", report=False, min_spots=13) == 0
    by_command, by_call = (tmp_path / name / "frames.csv" for name in ("command", "call"))
    assert by_call.read_bytes() == by_command.read_bytes()
    assert {row["label"] for row in rows(by_call)} == {"MISS"}, "twelve spots are too few"


def test_spots_and_labels_of_a_folder(run: Path, tmp_path: Path) -> None:
    assert main([str(run), "--out", str(tmp_path / "out")]) == 0
    found = rows(tmp_path / "out" / "frames.csv")
    assert [row["label"] for row in found] == ["HIT", "MISS", "HIT"] * 2
    assert [row["event"] for row in found] == ["//0", "//1", "//2"] * 2
    for row in (row for row in found if row["label"] == "HIT"):
        assert (
            abs(float(row["spots"]) - 12) < 2 and float(row["score"]) > 0.9 and float(row["fourth_snr"]) > 6
        )
    spots = [
        row
        for row in rows(tmp_path / "out" / "spots.csv")
        if row["file"] == found[0]["file"] and row["event"] == "//0"
    ]
    places = np.array([[float(row["ss"]), float(row["fs"])] for row in spots])
    for k in range(12):
        assert np.hypot(*(places - [20 + 22 * k, 30 + 37 * k]).T).min() < 0.5
    assert len((tmp_path / "out" / "hits.lst").read_text().splitlines()) == 4
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["hits"] == summary["hit_rate"]["hits"] == 4 and summary["hit_rate"]["frames"] == 6
    assert "libtbx.python" in (tmp_path / "out" / "for_dials.py").read_text()


def test_hits_of_a_file_with_peaks_of_another_program_have_the_spots_found_here(
    run: Path, tmp_path: Path
) -> None:
    """Cheetah, OM and psocake write their peaks where CrystFEL reads those of `hits.cxi`."""
    path, result = tmp_path / "cheetah.cxi", "entry_1/result_1"
    with h5py.File(run / "part_0.h5") as source, h5py.File(path, "w") as file:
        file["entry_1/data_1/data"] = source["entry/data/data"][:]
        file[f"{result}/nPeaks"] = np.array([0, 3, 0])
        for name in ("peakXPosRaw", "peakYPosRaw", "peakTotalIntensity", "peakMaxIntensity"):
            file[f"{result}/{name}"] = np.full((3, 50), 7.0, np.float32)
        file["entry_1/result_2/nPeaks"] = np.array([5, 6, 7])
    assert screen([str(path), "--out", str(tmp_path / "out"), "--write-hits", "--no-report"]) == 0
    spots = [row for row in rows(tmp_path / "out" / "spots.csv") if row["event"] == "//2"]
    with h5py.File(tmp_path / "out" / "hits.cxi") as file:
        assert file["entry_1/screening/event"].asstr()[:].tolist() == ["//0", "//2"]
        assert file[f"{result}/nPeaks"][1] == len(spots) >= 12
        places = file[f"{result}/peakXPosRaw"][1, : len(spots)]
        np.testing.assert_allclose(places, [float(row["fs"]) for row in spots], atol=0.006)
        # Nothing of the other program's lies beside them.
        assert sorted(file[result]) == ["nPeaks", "peakTotalIntensity", "peakXPosRaw", "peakYPosRaw"]
        assert file["entry_1/result_2/nPeaks"][:].tolist() == [5, 7]


def test_screen_without_a_model_is_the_same_and_shows_and_hands_on_the_spots(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run), "--out", str(tmp_path / "spots"), "--no-report"]) == 0
    assert "--peaks=cxi" not in capsys.readouterr().out
    assert screen([str(run), "--out", str(tmp_path / "screen"), "--write-hits"]) == 0
    listed, printed = tmp_path / "screen" / "hits_cxi.lst", capsys.readouterr().out
    assert listed.read_text().splitlines() == [
        f"{tmp_path / 'screen' / 'hits.cxi'} //{row}" for row in range(4)
    ]
    assert f"or, with these spots: indexamajig -i {listed} -g FILE.geom --peaks=cxi -o " in printed
    assert "peak_list = /entry_1/result_1 and peak_list_type = cxi in the geometry" in printed
    for name in ("frames.csv", "spots.csv", "hits.lst", "misses.lst", "hits.expt"):
        assert (tmp_path / "screen" / name).read_text() == (tmp_path / "spots" / name).read_text()
    assert not (tmp_path / "spots" / "report.html").exists()
    report = (tmp_path / "screen" / "report.html").read_text()
    # Two headings show the four hits: those with most spots, and those drawn as misses none.
    circled = [part.count("<circle") for part in report.split("<figure")[1:]]
    assert [abs(count - 12) <= 1 for count in circled[:4]] == [True] * 4 and "<h2>Misses" in report
    wanted = [row for row in rows(tmp_path / "spots" / "spots.csv") if row["event"] == "//2"][:12]
    with h5py.File(tmp_path / "screen" / "hits.cxi") as file:
        result = file["entry_1/result_1"]
        assert result["nPeaks"][:].tolist() == [
            sum(
                row["file"] == name.decode() and row["event"] == event.decode()
                for row in rows(tmp_path / "spots" / "spots.csv")
            )
            for name, event in zip(
                file["entry_1/screening/file"][:], file["entry_1/screening/event"][:], strict=True
            )
        ]
        second = [result[name][1, : result["nPeaks"][1]] for name in ("peakYPosRaw", "peakXPosRaw")]
        np.testing.assert_allclose(second[0][:12], [float(row["ss"]) for row in wanted], atol=0.006)
        np.testing.assert_allclose(second[1][:12], [float(row["fs"]) for row in wanted], atol=0.006)
        assert (result["peakTotalIntensity"][1, : result["nPeaks"][1]] > 300).all()
        stored = file["entry_1/data_1/data"][1]
        for ss, fs in zip(*second, strict=True):
            assert stored[round(float(ss)), round(float(fs))] > 150


def test_options_of_the_other_way_are_one_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, message in (
        (["--recall", "0.9"], "--recall has no effect without --model"),
        (["--model", "x", "--min-snr", "5"], "--min-snr has no effect with --model"),
    ):
        assert run_main(lambda options=options: screen([str(run), "--out", "none", *options])) == 2
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1


@pytest.mark.parametrize(
    "option",
    [
        *("--readers=2000", "--readers=-1", "--batch-size=0", "--batch-size=100000", "--follow=-3"),
        *("--follow=nan", "--good-bits=-1", "--bad-bits=0", "--beam-centre=nan,1", "--beam-centre=1"),
    ],
)
def test_options_out_of_range_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        screen(["run.h5", "--model", "x", "--out", "o", option])
    assert stopped.value.code == 2
    assert f"argument {option.partition('=')[0]}: " in capsys.readouterr().err.splitlines()[-1]


def test_the_users_numbers_decide(run: Path, tmp_path: Path) -> None:
    main([str(run), "--out", str(tmp_path), "--min-spots", "20"])
    assert {row["label"] for row in rows(tmp_path / "frames.csv")} == {"MISS"}
    main([str(run), "--out", str(tmp_path), "--min-snr", "500", "--overwrite"])
    assert {row["label"] for row in rows(tmp_path / "frames.csv")} == {"MISS"}


def test_mistakes_are_one_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "frames.csv").touch()
    for options, message in (
        (["--out", str(tmp_path)], "holds lists already; name another --out, or give --overwrite"),
        (
            ["--out", str(tmp_path / "x"), "--min-spots", "0"],
            "--min-spots: '0' is no whole number from 1 to 24",
        ),
        (["--out", str(tmp_path / "x"), "--min-snr", "nan"], "--min-snr: 'nan' is no number above 0"),
    ):
        assert run_main(lambda options=options: main([str(run), *options])) == 2
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1


def test_the_hit_rate_has_the_interval_of_its_sample_and_the_doubt_of_its_scores() -> None:
    def frame(score: float | None) -> CountedFrame:
        spots = None if score is None else SimpleNamespace(score=score)
        return CountedFrame(None, 0, spots)  # type: ignore[arg-type]

    scores = [0.9, 0.8, 0.6, 0.3, 0.1, 0.0, 0.0, 0.0]
    found = hit_rate([*map(frame, scores), frame(None)])
    exact = stats.binomtest(3, 8).proportion_ci(method="wilson")
    assert (found["hits"], found["frames"], found["percent"]) == (3, 8, 37.5)
    assert found["low"] == pytest.approx(100 * exact.low) and found["high"] == pytest.approx(100 * exact.high)
    drawn = np.random.default_rng(0).random((200_000, len(scores))) < scores
    assert found["expected"] == pytest.approx(drawn.sum(1).mean(), abs=0.01)
    assert found["deviation"] == pytest.approx(drawn.sum(1).std(), abs=0.01)
    assert hit_rate_line(found).startswith("3 hits among 8 frames: 37.5 % (95 % interval 13.7 to 69.4 %)")
    assert hit_rate_line(hit_rate([frame(None)])) == "no frame could be read"


class Panel(NamedTuple):
    """A panel as DIALS' models have it."""

    size: tuple[int, int]
    offset: tuple[int, int] = (0, 0)

    def get_image_size(self) -> tuple[int, int]:
        return self.size

    def get_raw_image_offset(self) -> tuple[int, int]:
        return self.offset


def test_places_on_the_panels_that_dials_knows() -> None:
    assert place_on([Panel((100, 50))], 49.4, -0.4) == (0, 49.4, -0.4)
    # Panels of 50 rows below one another: the middle of row 50 is the first of the second.
    stack = [Panel((100, 50))] * 3
    assert place_on(stack, 49.4, 7.0) == (0, 49.4, 7.0)
    assert place_on(stack, 50.0, 7.0) == (1, 0.0, 7.0)
    assert place_on(stack, 120.25, 7.0) == (2, 20.25, 7.0)
    # Panels cut from one image.
    cut = [Panel((100, 50)), Panel((100, 50), (100, 0)), Panel((100, 50), (0, 50))]
    assert place_on(cut, 10.0, 130.5) == (1, 10.0, 30.5)
    assert place_on(cut, 60.0, 30.0) == (2, 10.0, 30.0)


def test_frames_in_which_no_pixel_has_a_value_are_errors(tmp_path: Path) -> None:
    data = np.random.default_rng(0).poisson(20, (5, 96, 96)).astype(np.float32)
    data[1], data[2], data[3] = np.nan, np.inf, 0
    path = cases.write_cxi(tmp_path / "run.cxi", data)
    assert cases.screen(path, "--out", tmp_path / "out", "--no-report") == 1
    rows = cases.rows(tmp_path / "out")
    # A frame of zeros holds counts, which are none.
    assert [row["label"] for row in rows] == ["MISS", "ERROR", "ERROR", "MISS", "MISS"]
    assert {row["reason"] for row in rows[1:3]} == {"no pixel has a value that counts"}


def test_files_that_dials_cannot_read_are_left_out_of_what_it_is_handed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a stand-in for DIALS, whose readers fail in ways that they do."""

    class Table(dict[str, list[object]]):
        flags = SimpleNamespace(strong=1)

        def __init__(self) -> None:
            self.names: dict[int, str] = {}

        def experiment_identifiers(self) -> dict[int, str]:
            return self.names

        def extend(self, other: Table) -> None:
            for name, values in other.items():
                self.setdefault(name, []).extend(values)

        def as_file(self, name: str) -> None:
            Path(name).write_text(json.dumps(self))

        def __len__(self) -> int:
            return len(self.get("id", []))

    class Experiments(list[SimpleNamespace]):
        def as_file(self, name: str) -> None:
            Path(name).write_text(json.dumps([each.path for each in self]))

    class Reader:
        @staticmethod
        def get_imageset(paths: list[str], **_: object) -> str:
            return str([][0]) if "damaged" in paths[0] else paths[0]

    def filled(count: int, value: object) -> list[object]:
        return [value] * count

    flex = SimpleNamespace(reflection_table=Table, double=list, vec3_double=list, int=filled, size_t=list)
    flex.vec3_double = flex.size_t = lambda first, *value: filled(first, *value) if value else list(first)
    panel = SimpleNamespace(get_raw_image_offset=lambda: (0, 0), get_image_size=lambda: (99, 99))
    lists = SimpleNamespace(
        ExperimentList=Experiments,
        ExperimentListFactory=SimpleNamespace(
            from_imageset_and_crystal=lambda path, _: [SimpleNamespace(path=path, beam=1, detector=[panel])]
        ),
    )
    registry = SimpleNamespace(get_format_class_for_file=lambda path: None if "strange" in path else Reader)
    for name, module in (
        ("dials.array_family", SimpleNamespace(flex=flex)),
        ("dxtbx.format.Registry", registry),
        ("dxtbx.model.experiment_list", lists),
    ):
        monkeypatch.setitem(sys.modules, name, module)

    def hand_over(*names: str) -> tuple[int, str]:
        (tmp_path / "frames.csv").write_text(
            "".join(["file,event,label\n", *(f"{name},,HIT\n" for name in names)])
        )
        (tmp_path / "spots.csv").write_text(
            "".join(["file,event,ss,fs,snr\n", *(f"{name},,5,{7 + k},9\n" for k, name in enumerate(names))])
        )
        (tmp_path / "hits.expt").write_text(json.dumps({"imageset": [{"images": [name]} for name in names]}))
        return for_dials.main(tmp_path), capsys.readouterr().err

    status, said = hand_over("damaged.h5", "good.cbf", "strange.h5", "damaged.h5", "fine.cbf")
    assert status == 0 and said.splitlines() == [
        "left out 2 of the hits: DIALS cannot read damaged.h5: list index out of range (IndexError)",
        "left out 1 of the hits: DIALS cannot read strange.h5: there is no such file (ValueError)",
    ]
    assert json.loads((tmp_path / "strong.expt").read_text()) == ["good.cbf", "fine.cbf"]
    table = json.loads((tmp_path / "strong.refl").read_text())
    # The spots stay with their frames, whose numbers close up.
    assert table["id"] == [0, 1] and [place[0] for place in table["xyzobs.px.value"]] == [8.5, 11.5]
    # A model's hits have no spots: DIALS finds its own in them.
    (tmp_path / "spots.csv").unlink()
    (tmp_path / "strong.expt").unlink()
    assert for_dials.main(tmp_path) == 0 and not (tmp_path / "strong.expt").exists()
    assert json.loads((tmp_path / "imported.expt").read_text()) == ["good.cbf", "fine.cbf"]
    capsys.readouterr()
    status, said = hand_over("damaged.h5")
    assert status == 1 and said.endswith("error: no hits to hand over that DIALS can read\n")
