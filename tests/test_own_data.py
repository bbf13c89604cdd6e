"""Training on frames of one's own, by the commands of docs/own_data.md, and screening with what comes of it."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.special import expit
from screen_cases import REPOSITORY, tiny_model

from sfxjax.cli import COMMANDS
from sfxjax.data.labels import Label
from sfxjax.data.set_description import cxidb76_set, sets_of_options
from sfxjax.data.sets import FrameSet, open_set
from sfxjax.errors import UserError, run_main
from sfxjax.models.checkpoint import save_model
from sfxjax.screen.__main__ import main as screen
from sfxjax.simulate.write import simulate_set
from sfxjax.training import adapt, dann, evaluation, reduced, supervised, transfer
from sfxjax.training.data import prepare

FRAMES = 60
SHORT = ["--epochs", "2", "--steps", "4", "--batch", "8"]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    for name in ("LN83", "LO19"):
        simulate_set(name, root, FRAMES, seed=5, quiet=True)
    return root


@pytest.fixture(scope="module")
def own(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Float32 frames of 1024x1024 pixels in two HDF5 files, a CSV of labels and a mask."""
    folder = tmp_path_factory.mktemp("own")
    with FrameSet(cxidb76_set(simulated, "LO19")) as frames:
        crops, labels, mask = frames.crops(range(FRAMES)), frames.labels, frames.mask_crop()
    assert mask is not None
    whole = np.full((FRAMES, 1024, 1024), 100, np.float32)
    whole[:, 150:874, 150:874] = crops
    valid = np.zeros((1024, 1024), bool)
    valid[150:874, 150:874] = mask
    half = FRAMES // 2
    rows = []
    for number, part in enumerate((slice(0, half), slice(half, FRAMES))):
        with h5py.File(folder / f"frames_{number}.h5", "w") as file:
            file["frames"] = whole[part]
        rows += [
            (f"frames_{number}.h5", f"//{i}", ("miss", "maybe", "hit")[label])
            for i, label in enumerate(labels[part])
        ]
    with h5py.File(folder / "mask.h5", "w") as file:
        file["mask"] = valid.astype(np.uint8)
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "event", "label"), *rows])
    return folder


def own_set(folder: Path) -> list[str]:
    values = ["dataset=/frames", f"labels={folder}/labels.csv", f"mask={folder}/mask.h5:/mask", "mask_good=1"]
    return ["--set", f"myrun={folder}/frames_*.h5", *values]


@pytest.mark.slow
def test_frames_of_ones_own_are_what_the_same_frames_of_cxidb76_are(simulated: Path, own: Path) -> None:
    """The layout, the type and the size of the file decide nothing of what a network reads."""
    described = sets_of_options([own_set(own)[1:]])["myrun"]
    prepared = []
    for description in (cxidb76_set(simulated, "LO19"), described):
        with FrameSet(description) as frames:
            prepared.append(prepare(frames, [None, "row_wise_decomposition"]))
    first, second = prepared
    np.testing.assert_array_equal(second.labels, first.labels)
    np.testing.assert_allclose(second.statistics, first.statistics, rtol=0.01)
    for reduction, atol in ((None, 0.02), ("row_wise_decomposition", 1e-4)):
        np.testing.assert_allclose(
            np.asarray(second.masked[reduction], np.float32),
            np.asarray(first.masked[reduction], np.float32),
            atol=atol,
        )


@pytest.mark.slow
def test_train_on_own_frames_and_screen_them(
    simulated: Path, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = [
        "--source",
        "LN83",
        "--target",
        "myrun",
        "--data",
        str(simulated),
        *own_set(own),
        *SHORT,
        "--labels",
        "30",
    ]
    dann.main([*target, "--out", str(tmp_path / "dann")])
    results = json.loads((tmp_path / "dann" / "results.json").read_text())
    assert results["frames"] == {"LN83": FRAMES, "myrun": FRAMES}
    assert results["tested"]["myrun"]["frames"] == FRAMES
    assert results["simulated_sets"] == ["LN83"]
    assert "LN83 simulated, myrun measured" in capsys.readouterr().out
    files = sorted(map(str, own.glob("frames_*.h5")))
    options = ["--dataset", "/frames", "--mask", f"{own}/mask.h5:/mask", "--mask-good", "1"]
    assert (
        screen([*files, *options, "--model", str(tmp_path / "dann"), "--out", str(tmp_path / "screened")])
        == 0
    )
    with (tmp_path / "screened" / "frames.csv").open() as file:
        screened = [float(row["score"]) for row in csv.DictReader(file)]
    with h5py.File(tmp_path / "dann" / "scores.h5") as file:
        np.testing.assert_allclose(screened, file["myrun"], atol=5e-3)
    # The screening's own list is a list of labels.
    again = ["--set", f"myrun={own}/frames_*.h5", "dataset=/frames", f"labels={tmp_path}/screened/frames.csv"]
    with FrameSet(sets_of_options([again[1:]])["myrun"]) as frames:
        assert (frames.labels >= 0).all()


def walk_through() -> tuple[str, list[list[str]]]:
    """Return what docs/own_data.md says: its file of sets, and its commands without the `sfxjax`."""
    text = (REPOSITORY / "docs" / "own_data.md").read_text()
    blocks = [
        textwrap.dedent(block) for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, re.MULTILINE)
    ]
    (table,) = (block for block in blocks if "[run12]" in block)
    commands = [
        shlex.split(block.replace("\\\n", "")) for block in blocks if block.strip().startswith("sfxjax ")
    ]
    commands = [command[1:] for command in commands]
    return table, [[" ".join(words[:2]), *words[2:]] if words[0] == "train" else words for words in commands]


def test_the_walk_through(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its files and its commands, with fewer frames and shorter trainings, and fewer labels than 100."""
    for folder in ("run12", "run13"):
        (tmp_path / folder).mkdir()
        for path in own.iterdir():
            os.link(path, tmp_path / folder / path.name)
    for path in tmp_path.glob("run13/[!f]*"):
        path.unlink()
    monkeypatch.chdir(tmp_path)
    table, commands = walk_through()
    Path("sets.toml").write_text(table)
    with open_set("sets.toml", "run12") as frames:
        assert len(frames) == FRAMES and (frames.labels >= 0).all()
    assert all(command[0] in COMMANDS for command in commands)
    (one, few, adapted, same), screening = commands[:4], commands[4]
    assert [command[0] for command in commands] == [
        "train supervised",
        "train reduced",
        "train adapt",
        "train supervised",
        "screen",
    ]
    for command, program, name, labels in (
        (one, supervised, "supervised-run12-all", FRAMES * 6 // 10),
        (few, reduced, "reduced-run12-soft_spot_counts-30", 30),
    ):
        shorter = ["--labels", "30"] if labels == 30 else []
        program.main([*command[1:], *SHORT, *shorter])
        results = json.loads(Path("runs", name, "results.json").read_text())
        assert results["labels"] == labels and results["simulated"] is False
        assert results["tested"]["run12"]["first_frame"] > 0
    # Said on the command line, the set is the same, and the run is found finished.
    capsys.readouterr()
    stamp = Path("runs/supervised-run12-all/results.json").stat().st_mtime_ns
    supervised.main([*same[1:], *SHORT])
    assert Path("runs/supervised-run12-all/results.json").stat().st_mtime_ns == stamp
    assert "--source LN83 --target run12 --sets sets.toml" in " ".join(adapted)
    files = sorted(map(str, Path("run13").glob("*.h5")))
    place = screening.index("run13/*.h5")
    assert screen([*screening[1:place], *files, *screening[place + 1 :]]) == 0
    with Path("screened/frames.csv").open() as file:
        assert [row["file"] for row in csv.DictReader(file)] == [
            name for name in files for _ in range(FRAMES // 2)
        ]


@pytest.mark.slow
def test_a_few_labels_of_one_own_set_and_a_base_of_another(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Transfer between own sets; the first has labels for half of its frames, and only those are used."""
    lines = (own / "labels.csv").read_text().splitlines(keepends=True)
    (tmp_path / "half.csv").write_text("".join(lines[: 1 + FRAMES // 2]))
    first = [f"first={own}/frames_*.h5", "dataset=/frames", f"labels={tmp_path}/half.csv"]
    options = ["--source", "first", "--target", "myrun", "--set", *first, *own_set(own)]
    transfer.main([*options, *SHORT, "--labels", "30", "--out", str(tmp_path / "run")])
    results, base = (
        json.loads((tmp_path / "run" / part / "results.json").read_text()) for part in ("", "base")
    )
    assert results["tested"]["myrun"]["first_frame"] > 0
    assert base["labels"] == FRAMES // 2 * 6 // 10 and base["frames"]["first"] == FRAMES
    assert f"first: {FRAMES // 2} of {FRAMES} frames have a label" in capsys.readouterr().out


@pytest.mark.slow
def test_a_target_without_labels_is_trained_for_and_not_tested(
    simulated: Path, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "sets.toml"
    table.write_text(
        f'[myrun]\nfiles = "{own}/frames_1.h5"\ndataset = "/frames"\nmask = "{own}/mask.h5:/mask"\nmask_good = 1\n'
    )
    options = [
        "--source",
        "LN83",
        "--target",
        "myrun",
        "--data",
        str(simulated),
        "--sets",
        str(table),
        *SHORT,
    ]
    adapt.main([*options, "--labels", "30", "--out", str(tmp_path / "run")])
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert set(results["tested"]) == {"LN83"} and results["frames"]["myrun"] == FRAMES // 2
    assert "myrun: no labels, so it is not tested on" in capsys.readouterr().out


def test_panels_and_a_geometry(simulated: Path, tmp_path: Path) -> None:
    """A stack of two panels, put side by side by a CrystFEL geometry, gives the frames it was cut from."""
    with FrameSet(cxidb76_set(simulated, "LO19")) as frames:
        crops, labels = frames.crops(range(FRAMES)), frames.labels
    with h5py.File(tmp_path / "panels.h5", "w") as file:
        file["data"] = np.stack([crops[:, :362], crops[:, 362:]], axis=1)
    panels = "".join(
        f"p{k}/dim1 = {k}\np{k}/min_fs = 0\np{k}/max_fs = 723\np{k}/min_ss = 0\np{k}/max_ss = 361\n"
        f"p{k}/corner_x = -362\np{k}/corner_y = {362 * k - 362}\np{k}/fs = +1x\np{k}/ss = +1y\n"
        for k in (0, 1)
    )
    (tmp_path / "panels.geom").write_text(
        "clen = 0.1\nphoton_energy = 9500\nadu_per_photon = 1\nres = 9090.9\ndata = /data\n"
        f"dim0 = %\ndim2 = ss\ndim3 = fs\n{panels}"
    )
    rows = "".join(f"panels.h5,//{i},{10 * label}\n" for i, label in enumerate(labels))
    (tmp_path / "spots.csv").write_text(f"file,event,spots\n{rows}")
    values = [
        f"cspad={tmp_path}/panels.h5",
        f"geometry={tmp_path}/panels.geom",
        f"labels={tmp_path}/spots.csv",
    ]
    with FrameSet(sets_of_options([values])["cspad"]) as frames:
        np.testing.assert_array_equal(frames.labels > 0, labels > 0)
        np.testing.assert_array_equal(frames.crops(range(5)), crops[:5])
    supervised.main(
        ["--dataset", "cspad", "--set", *values, *SHORT, "--labels", "30", "--out", str(tmp_path / "run")]
    )
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["frames"] == {"cspad": FRAMES} and results["labels"] == 30


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["myrun"], "--set 'myrun' is not NAME=FILES"),
        (["myrun=nowhere.h5"], "no such file or folder: nowhere.h5"),
        (["myrun={own}/frames_0.h5", "labels=absent.csv"], "no such file of labels: absent.csv"),
        (
            ["myrun={own}/frames_0.h5", "lables=labels.csv"],
            "no key 'lables' and no file lables=labels.csv; known are labels, mask",
        ),
        (["my/run={own}/frames_0.h5"], "a set cannot be named 'my/run'"),
        (["myrun={own}/frames_0.h5", "mask_good=yes"], "mask_good=yes is no number"),
        (["myrun={own}/frames_0.h5", "beam_centre=3"], "is not x,y such as"),
    ],
)
def test_a_description_that_is_incomplete(values: list[str], message: str, own: Path) -> None:
    with pytest.raises(UserError, match=message):
        sets_of_options([[value.format(own=own) for value in values]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[myrun\n", "not a TOML file"),
        ("files = 3\n", "files is no table"),
        (
            '[myrun]\nfiles = ["run_0.h5"]\nlabel = "x"\n',
            r"\[myrun\] has an unknown key 'label'; known are files, labels",
        ),
        ("[myrun]\nmask = 3\nfiles = []\n", r"mask of \[myrun\] is no str"),
        ("[myrun]\n", "names no files"),
        ('[myrun]\nfiles = "."\nbeam_centre = ["a", "b"]\n', "is not x,y such as"),
    ],
)
def test_a_table_that_is_wrong(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "sets.toml").write_text(text)
    with pytest.raises(UserError, match=message):
        sets_of_options(table=tmp_path / "sets.toml")


def test_labels_that_do_not_fit_and_sets_without_any(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "labels.csv").write_text("file,event,label\nrun_9.h5,//0,hit\n")
    for values, message in (
        ([f"labels={tmp_path}/labels.csv"], "line 2: there is no frame //0 in run_9.h5"),
        ([], "the set myrun has no labels to train on"),
    ):
        options = ["--dataset", "myrun", "--set", f"myrun={own}/frames_*.h5", "dataset=/frames", *values]
        assert (
            run_main(
                lambda options=options: supervised.main([*options, *SHORT, "--out", str(tmp_path / "x")])
            )
            == 2
        )
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_finished_run_is_not_taken_for_one_on_other_labels(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text((own / "labels.csv").read_text())
    values = [f"myrun={own}/frames_*.h5", "dataset=/frames", f"labels={labels}"]
    options = [
        "--dataset",
        "myrun",
        "--set",
        *values,
        *SHORT,
        "--labels",
        "30",
        "--out",
        str(tmp_path / "run"),
    ]
    reduced.main(options)
    labels.write_text(labels.read_text().replace("maybe", "miss"))
    assert run_main(lambda: reduced.main(options)) == 2
    assert "a run with other labels of myrun; name another folder" in capsys.readouterr().err


def test_what_decides_a_set_is_recorded(own: Path, tmp_path: Path) -> None:
    """A mask or a geometry that changed makes another set, though its name is the same."""
    for name in ("mask.h5", "detector.geom"):
        os.link(own / "labels.csv", tmp_path / name)
    values = [
        f"myrun={own}/frames_*.h5",
        f"mask={tmp_path}/mask.h5:/mask",
        f"geometry={tmp_path}/detector.geom",
    ]
    seen = [sets_of_options([values])["myrun"].to_json()]
    for name in ("mask.h5", "detector.geom"):
        (tmp_path / name).unlink()
        (tmp_path / name).write_text("another")
        seen.append(sets_of_options([values])["myrun"].to_json())
    assert seen[0] != seen[1] != seen[2]
    # So does what lies behind a link.
    with h5py.File(tmp_path / "x_master.h5", "w") as file:
        file["/entry/data/data_000001"] = h5py.ExternalLink("x_data_000001.h5", "/entry/data/data")
    behind = []
    for number in range(2):
        (tmp_path / "x_data_000001.h5").write_text(f"frames {number}")
        behind.append(sets_of_options([[f"myrun={tmp_path}/x_master.h5"]])["myrun"].to_json())
    assert behind[0] != behind[1]


def test_names_that_there_are_not(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(lambda: supervised.main(["--dataset", "other", *own_set(own)])) == 2
    assert (
        "no set named 'other'; choose one of LN83, LN84, LO19, LG36, L498, myrun, or"
        in capsys.readouterr().err
    )
    (tmp_path / "sets.toml").write_text(f'[myrun]\nfiles = "{own}"\n')
    with pytest.raises(UserError, match="no set named 'other'; it describes myrun"):
        open_set(tmp_path / "sets.toml", "other")


@pytest.mark.slow
def test_measured_frames_are_trained_on_as_they_are_screened(shared: Path, tmp_path: Path) -> None:
    """Single images of a Pilatus, with gaps and values that mean none, labelled by their spots."""
    folder, reduction = shared / "data" / "real" / "l_cysteine", "soft_spot_counts"
    with (folder.parent / "frames.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["file"].startswith("l_cysteine/")]
    lines = [f"{Path(row['file']).name},//0,{row['spots']}\n" for row in rows]
    (tmp_path / "spots.csv").write_text("file,event,spots\n" + "".join(lines))
    with FrameSet(
        sets_of_options([[f"cysteine={folder}", f"labels={tmp_path}/spots.csv"]])["cysteine"]
    ) as frames:
        words = {Path(row["file"]).name: row["label"].upper() for row in rows}
        assert [Label(label).name for label in frames.labels] == [
            words[Path(stack.file).name] for stack in frames.stacks
        ]
        # Vectors stay float32, where maps of whole frames are kept in half the precision.
        model = tiny_model(reduction)
        logits = evaluation.map_logits(model, prepare(frames, [reduction]).masked[reduction])
    save_model(tmp_path / "model", model)
    assert screen([str(folder), "--model", str(tmp_path / "model"), "--out", str(tmp_path / "out")]) == 0
    with (tmp_path / "out" / "frames.csv").open() as file:
        screened = [float(row["score"]) for row in csv.DictReader(file)]
    # The frames differ by far more than the two ways to read them may.
    tolerance = 1e-4
    assert np.ptp(screened) > 100 * tolerance
    np.testing.assert_allclose(expit(logits), screened, atol=tolerance)
