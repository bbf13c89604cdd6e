"""Training from the command line, end to end: outputs, resuming after a kill, and input that cannot be used."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from sklearn.metrics import recall_score

from sfxjax.data.labels import write_annotations
from sfxjax.data.set_description import CXIDB76
from sfxjax.data.sets import open_set
from sfxjax.data.write import SetMetadata, SetWriter
from sfxjax.errors import run_main
from sfxjax.models.checkpoint import load_model
from sfxjax.screen.scorer import Screener
from sfxjax.simulate.write import simulated_data
from sfxjax.training import command, dann
from sfxjax.training.scores import read_log, read_scores

REPOSITORY = Path(__file__).resolve().parents[1]
SIMULATED_SETS = ["--source", "LN83", "--target", "LO19", "--frames", "40", "--labels", "24"]
SIMULATED_SETS += ["--epochs", "2", "--steps", "2", "--batch", "8"]

# The command, killed while it writes the given checkpoint.
KILLED = """
import os, signal, sys
import orbax.checkpoint as ocp
from sfxjax.training import dann
save, left = ocp.StandardCheckpointer.save, [int(sys.argv[1])]
def stop(self, path, tree):
    left[0] -= 1
    if not left[0]:
        os.makedirs(path)
        os.kill(os.getpid(), signal.SIGKILL)
    save(self, path, tree)
ocp.StandardCheckpointer.save = stop
dann.main(sys.argv[2:])
"""


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """A cache of their own for simulated sets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFXJAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory, own_cache) -> tuple[Path, str]:
    """An uninterrupted run on simulated sets, and what it printed; not to be written to."""
    out = tmp_path_factory.mktemp("run") / "out"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        dann.main([*SIMULATED_SETS, "--out", str(out)])
    return out, printed.getvalue()


@pytest.fixture
def copied(run, tmp_path: Path) -> Path:
    """A copy of that run."""
    return shutil.copytree(run[0], tmp_path / "out")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def results(folder: Path) -> dict:
    """The results of both networks but for the times."""
    both = {}
    for place in (folder, folder / "source_only"):
        both[place.name] = json.loads((place / "results.json").read_text())
        assert both[place.name].pop("training_seconds") > 0
    return dict(zip(("dann", "source_only"), both.values(), strict=True))


def complaint(capsys, *arguments: object) -> str:
    """Run the command in vain: one line on standard error and exit code 2."""
    capsys.readouterr()
    assert run_main(lambda: dann.main([str(argument) for argument in arguments])) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_what_a_run_leaves_and_prints(run) -> None:
    out, printed = run
    names = {"model", "checkpoints", "results.json", "settings.json", "scores.h5", "log.jsonl"}
    assert {path.name for path in out.iterdir()} == names | {"learning_curves.png", "source_only"}
    assert {path.name for path in (out / "source_only").iterdir()} == names
    told = [line for line in printed.splitlines() if "LO19" in line and "devices" not in line]
    assert all("simulated set" in line for line in told if "│" not in line and "┃" not in line)
    assert "LN83 -> LO19, simulated sets" in printed
    assert "no --data given: simulated sets of 40 frames" in printed
    assert "paper, Table 5" in printed

    for name, network in results(out).items():
        adversarial = name == "dann"
        assert (network["method"], network["target"]) == (
            ("dann", "LO19") if adversarial else ("supervised", None)
        )
        assert network["simulated"] is True
        assert network["frames"] == {"LN83": 40, "LO19": 40}
        assert network["recipe"]["steps_per_epoch"] == 2
        assert network["epoch_kept"] == 2
        assert network["tested"]["LO19"]["frames"] == 40
        assert network["tested"]["LN83"]["frames"] == 8, "the labelled set's test frames alone"
        folder = out if adversarial else out / "source_only"
        lines = read_log(folder)
        assert [line["epoch"] for line in lines] == [1, 2]
        assert all(("domain_loss" in line) == adversarial for line in lines)
    assert imread(out / "learning_curves.png").std() > 0.01


def test_scores_are_those_of_the_model_on_the_frames(run, tmp_path) -> None:
    """The scores kept, made from maps in memory, against the screening code on the file's own frames."""
    out, _ = run
    kept = read_scores(out / "scores.h5")
    data = simulated_data(["LN83", "LO19"], 40)
    with open_set(data, "LO19") as frame_set:
        crops, mask = frame_set.crops(range(40)), frame_set.mask_crop()
        np.testing.assert_array_equal(kept["LO19"].labels, frame_set.labels)
        scored = Screener(load_model(out)).score_crops(crops[:16], mask).scores
    # Maps are kept at half the precision of float32.
    np.testing.assert_allclose(kept["LO19"].scores[:16], scored, atol=0.01)
    tested = json.loads((out / "results.json").read_text())["tested"]["LO19"]
    called, positive = kept["LO19"].scores >= 0.5, kept["LO19"].labels > 0
    assert tested["recall"]["percent"] == pytest.approx(100 * recall_score(positive, called))


def test_the_models_score_frames(run) -> None:
    out, _ = run
    frames = np.random.default_rng(0).normal(size=(2, 720, 720)).astype(np.float32)
    trained = [load_model(out), load_model(out / "source_only")]
    for model in trained:
        scores = np.asarray(model.scores(frames))
        assert scores.shape == (2,)
        assert np.all((scores >= 0) & (scores <= 1))
        assert model.trained_on["simulated"] is True
    assert (trained[0].trained_on["target"], trained[1].trained_on["target"]) == ("LO19", None)


def test_a_finished_run_is_not_trained_again(copied, monkeypatch, capsys) -> None:
    before = results(copied)
    command.prepared_set.cache_clear()
    monkeypatch.setattr(command, "prepare", lambda *_, **__: pytest.fail("frames were read"))
    assert run_main(lambda: dann.main([*SIMULATED_SETS, "--out", str(copied)])) == 0
    assert results(copied) == before


@pytest.mark.parametrize("checkpoint", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_killed_run_ends_as_an_uninterrupted_one(checkpoint: int, run, tmp_path, capsys) -> None:
    """Killed while it writes the second epoch's checkpoint, or the model."""
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILLED, str(checkpoint), *SIMULATED_SETS, "--out", str(out)]
    killed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (out / "results.json").exists()
    kept = [path.name for path in (out / "checkpoints").glob("epoch_*")]
    assert sorted(kept) == ["epoch_0001", "epoch_0002"][: checkpoint - 1]
    assert run_main(lambda: dann.main([*SIMULATED_SETS, "--out", str(out)])) == 0
    assert results(out) == results(run[0])
    for name in ("log.jsonl", "source_only/log.jsonl"):
        assert (out / name).read_text() == (run[0] / name).read_text()
    assert [path for path in out.rglob("*.part")] == [], "what the kill left is cleared away"


def test_other_settings_do_not_go_into_the_same_folder(copied, capsys) -> None:
    before = contents(copied)
    for more in (["--seed", "1"], ["--epochs", "3"], ["--strength", "0"], ["--frames", "41"]):
        assert "other settings" in complaint(capsys, *SIMULATED_SETS, *more, "--out", copied)
    assert contents(copied) == before


@pytest.mark.parametrize("format", [None, 1])
def test_a_run_of_another_version_is_refused(format: int | None, copied, capsys) -> None:
    settings = json.loads((copied / "settings.json").read_text())
    settings |= {"format": format}
    if format is None:
        del settings["format"]
    (copied / "settings.json").write_text(json.dumps(settings))
    before = contents(copied)
    line = complaint(capsys, *SIMULATED_SETS, "--out", copied)
    assert "another version of sfxjax" in line and "train again" in line
    assert contents(copied) == before


@pytest.mark.parametrize("file", ["settings.json", "checkpoints"])
def test_damaged_files_of_a_run_are_named(file: str, copied, capsys) -> None:
    if file == "settings.json":
        (copied / file).write_text("{")
    else:
        (copied / "results.json").unlink()  # else nothing is left to do
        for path in (copied / "checkpoints" / "epoch_0002" / "weights").rglob("*"):
            if path.is_file():
                path.write_bytes(b"")
    before = contents(copied)
    assert "damaged" in complaint(capsys, *SIMULATED_SETS, "--out", copied)
    assert contents(copied) == before


def test_a_full_disk_at_a_checkpoint_leaves_what_was_there(copied, monkeypatch, capsys) -> None:
    shutil.rmtree(copied / "checkpoints" / "epoch_0002")
    (copied / "results.json").unlink()
    before = contents(copied)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("orbax.checkpoint.StandardCheckpointer.save", full)
    line = complaint(capsys, *SIMULATED_SETS, "--out", copied)
    assert "the disk is full" in line
    assert "epoch_0002" in line
    assert contents(copied) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--source", "LN99", "--target", "LO19"], "no set named 'LN99'"),
        (["--source", "LN83", "--target", "ln83"], "the same set"),
        ([*SIMULATED_SETS, "--epochs", "0"], "--epochs: '0' is no whole number from 1 to"),
        ([*SIMULATED_SETS, "--batch=-4"], "--batch: '-4' is no whole number from 1 to"),
        ([*SIMULATED_SETS, "--batch", "9"], "cannot be shared by 2 devices"),
        ([*SIMULATED_SETS, "--learning-rate", "nan"], "--learning-rate"),
        ([*SIMULATED_SETS, "--seed", str(2**70)], "--seed"),
        ([*SIMULATED_SETS, "--frames", "3"], "3 frames"),
        ([*SIMULATED_SETS, "--reduction", "nonsense"], "unknown reduction 'nonsense'"),
        ([*SIMULATED_SETS, "--labels", "25"], "--labels 25 is out of range"),
        (["--source", "LG36", "--target", "LO19"], "LG36"),
    ],
)
def test_settings_that_cannot_be_used(arguments, words, tmp_path, monkeypatch, capsys) -> None:
    """Refused before anything is read, simulated or written."""
    monkeypatch.setattr(command, "prepare", lambda *_, **__: pytest.fail("frames were read"))
    out = tmp_path / "out"
    assert words in complaint(capsys, *arguments, "--out", out)
    assert not out.exists()


def write_sets(root: Path, side: int = 724, frames: int = 20) -> Path:
    """Small sets LN83 and LO19 of noise, in the deposition's layout, with every third frame a hit."""
    rng = np.random.default_rng(0)
    images = rng.poisson(20, (frames, side, side)).astype(np.int16)
    labels = np.where(np.arange(frames) % 3, 0, 2)
    for name in ("LN83", "LO19"):
        folder_name, file_name = CXIDB76[name]
        folder = root / folder_name
        folder.mkdir(parents=True)
        metadata = SetMetadata((60.0, 60.0), 0.17)
        path = folder / file_name
        with SetWriter(path, frames, (side, side), np.int16, 10, metadata, simulated=False) as writer:
            writer.append(images, np.full(frames, 1.3), np.full(frames, 150.0))
        write_annotations(folder / "expert_annotation.txt", file_name, labels)
    return root


@pytest.fixture(scope="module")
def good_sets(tmp_path_factory) -> Path:
    return write_sets(tmp_path_factory.mktemp("sets"))


def _cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _shorten_labels(file: Path) -> None:
    labels = file.with_name("expert_annotation.txt")
    labels.write_text("".join(labels.read_text().splitlines(keepends=True)[:-1]))


def _one_class(file: Path) -> None:
    write_annotations(file.with_name("expert_annotation.txt"), file.name, np.zeros(20, int))


DAMAGE = {
    "missing": (lambda file: shutil.rmtree(file.parent), "no frames of LN83 found"),
    "not HDF5": (lambda file: file.write_bytes(b"no HDF5" * 1000), "not an HDF5 file"),
    "cut short": (_cut, "cut short"),
    "labels of the wrong length": (_shorten_labels, "19 labels for 20 frames"),
    "labels missing": (lambda file: file.with_name("expert_annotation.txt").unlink(), "no labels of LN83"),
    "one class": (_one_class, "one class"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_data_that_cannot_be_used(damage: str, good_sets, tmp_path, capsys) -> None:
    spoil, words = DAMAGE[damage]
    data = shutil.copytree(good_sets, tmp_path / "data")
    spoil(data / CXIDB76["LN83"][0] / CXIDB76["LN83"][1])
    out = tmp_path / "out"
    out.mkdir()
    (out / "results.json").write_text("earlier")
    line = complaint(capsys, "--source", "LN83", "--target", "LO19", "--data", data, "--out", out)
    assert words in line
    assert contents(out) == {"results.json": b"earlier"}, (
        "nor is the folder taken, so that mended data can be used"
    )


@pytest.mark.slow
def test_frames_smaller_than_the_crop_are_padded(tmp_path) -> None:
    data = write_sets(tmp_path / "data", side=723)
    out = tmp_path / "out"
    options = ["--source", "LN83", "--target", "LO19", "--data", str(data), "--out", str(out)]
    dann.main([*options, "--epochs", "1", "--steps", "1", "--batch", "4"])
    kept = json.loads((out / "results.json").read_text())
    assert kept["frames"] == {"LN83": 20, "LO19": 20} and not kept["simulated"]


def test_an_output_folder_that_is_a_file(tmp_path, capsys) -> None:
    (tmp_path / "out").write_text("mine")
    assert "not a folder" in complaint(capsys, *SIMULATED_SETS, "--out", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"
