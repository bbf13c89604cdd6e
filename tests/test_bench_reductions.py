"""Reductions compared: draws of labels, cells that survive a kill, means, and a user's file all the way through."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.image import imread

from bench.reductions import __main__ as bench
from bench.reductions import cells as reduction_cells
from bench.reductions.cells import (
    Cell,
    append_cell,
    drawn_labels,
    planned_cells,
    read_cells,
    run_cell,
    train_on_few,
)
from bench.reductions.tables import cell_figures, tables
from sfxjax.data.set_description import CXIDB76
from sfxjax.errors import UserError, run_main
from sfxjax.models.checkpoint import load_model, read_checkpoint
from sfxjax.screen.__main__ import main as screen
from sfxjax.simulate.write import simulated_data
from sfxjax.training import reduced, transfer
from sfxjax.training.adaptation import ADAPTATIONS
from sfxjax.training.command import prepared_set
from sfxjax.training.config import TrainingConfig
from sfxjax.training.data import PreparedSet
from sfxjax.training.step import new_state

EXAMPLE = f"{Path(__file__).resolve().parents[1] / 'examples' / 'brightest_in_ring.py'}:brightest_in_ring"


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFXJAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def cell(seed: int, source: str, target: str) -> Cell:
    return Cell("adaptation", "row_wise_decomposition", source, target, 1200, "dann", seed)


def record(of: Cell, recall: float, misses: float) -> dict:
    values = {"recall": recall, "miss_accuracy": misses, "balanced_accuracy": (recall + misses) / 2}
    tested = {name: {"percent": value} for name, value in values.items()}
    tested |= {"miss_accuracy_at_recall": {"90": 99.0, "95": misses - 1, "99": 50.0}, "counts": {}}
    return of.__dict__ | {"tested": tested, "training_seconds": 1.0}


def test_draws_hold_both_classes_and_come_again() -> None:
    positive = np.zeros(100, bool)
    positive[[3, 50, 97]] = True
    for seed in range(20):
        drawn = drawn_labels(positive, 10, seed)
        assert len(np.unique(drawn)) == 10
        assert 2 <= positive[drawn].sum() <= 3
        np.testing.assert_array_equal(drawn, drawn_labels(positive, 10, seed))
    assert len({tuple(drawn_labels(positive, 10, seed)) for seed in range(20)}) > 15
    with pytest.raises(UserError, match="cannot be drawn"):
        drawn_labels(positive, 101, 0)
    with pytest.raises(UserError, match="fewer than 2 of a class"):
        drawn_labels(np.zeros(100, bool), 10, 0)


class Caught(Exception):
    """Ends a training before it begins."""


@pytest.mark.parametrize(("kind", "ways"), [("labels", 2), ("free_labels", 4)])
def test_only_drawn_frames_are_trained_on_with_their_labels_however_they_are_turned(
    kind: str, ways: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every vector tells its frame by one value, the rest being zeros."""
    rows, columns = "row_wise_decomposition", "column_wise_decomposition"
    vectors = {name: np.zeros((200, 9, 1), np.float32) for name in (rows, columns)}
    for place, name in enumerate((rows, columns)):
        vectors[name][:, place, 0] = 1 + np.arange(200)
    labels = np.arange(200, dtype=np.int8) % 3
    sets = {"LN83": PreparedSet("LN83", True, labels, np.zeros((200, 6), np.float32), vectors, vectors)}
    seen = {}

    def fit(recipe, training, validation, *, start, drawn):
        assert start is None
        seen.update(training=training, validation=validation, drawn=drawn)
        raise Caught

    monkeypatch.setattr(reduction_cells, "fit", fit)
    with pytest.raises(Caught):
        run_cell(Cell(kind, rows, "LN83", "LN83", 10, "source_only", 0), sets)
    training, drawn = seen["training"], seen["drawn"]
    expected = drawn_labels(labels[:40] > 0, 10, 0)
    frames = training.source.sum((1, 2)).astype(int) - 1
    assert sorted(frames[drawn]) == sorted(np.tile(expected, ways))
    np.testing.assert_array_equal(training.positive, labels[frames] > 0)
    turns = {
        (int(place), frame)
        for place, frame in zip(training.source.argmax(1)[drawn, 0], frames[drawn], strict=True)
    }
    assert len(turns) == ways * len(expected)
    np.testing.assert_array_equal(seen["validation"].positive, labels[frames[drawn]] > 0)


def test_a_transferred_network_starts_from_the_base_and_ends_with_all_but_the_lowest_block_moved() -> None:
    rng = np.random.default_rng(0)
    recipe = TrainingConfig(epochs=1, steps_per_epoch=2, batch=8)
    maps: dict[str | None, np.ndarray] = {None: rng.normal(size=(40, 24, 24, 2)).astype(np.float32)}
    labels = np.arange(40, dtype=np.int8) % 3
    prepared = PreparedSet("LN83", True, labels, np.zeros((40, 6), np.float32), maps, maps)
    few = Cell("labels", None, "LN83", "LN83", 10, "carried_over", 0)
    other, _ = train_on_few(few, prepared, recipe, np.arange(20, 40))
    base = {
        "params": {"base": other.variables["params"]["base"]},
        "batch_stats": other.variables["batch_stats"],
    }
    network, _ = train_on_few(few, prepared, recipe, np.arange(10), base)
    lowest, others = 0, 0
    for module, before in base["params"]["base"].items():
        after = network.variables["params"]["base"][module]
        same = all(map(np.array_equal, jax.tree.leaves(before), jax.tree.leaves(after)))
        if module.endswith("_0"):
            lowest += 1
            assert same
        else:
            others += not same
    assert lowest and others


def test_cells_survive_a_line_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "cells.jsonl"
    first, second = cell(0, "LN83", "LO19"), cell(1, "LN83", "LO19")
    append_cell(path, record(first, 90, 80))
    with path.open("a") as file:
        file.write('{"kind": "adapt')  # a kill in the middle of a line
    assert set(read_cells(path)) == {first}
    append_cell(path, record(second, 90, 80))
    path.write_text(path.read_text().replace('{"kind": "adapt\n', ""))
    assert set(read_cells(path)) == {first, second}
    path.write_text("nonsense\n" + path.read_text())
    with pytest.raises(UserError, match="line 1 is damaged"):
        read_cells(path)


def test_means_are_over_pairs_and_spreads_over_seeds() -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(50, 100, (3, 2, 2))  # seed, pair, metric
    pairs = [("LN83", "LO19"), ("LO19", "LN83")]
    cells = [
        record(cell(seed, *pair), *values[seed, place])
        for seed in range(3)
        for place, pair in enumerate(pairs)
    ]
    found = cell_figures(cells)
    recalls = values[:, :, 0].mean(axis=1)
    assert found["recall"]["mean"] == pytest.approx(recalls.mean())
    assert found["recall"]["standard_deviation"] == pytest.approx(recalls.std(ddof=1))
    assert found["miss_accuracy_at_95"]["mean"] == pytest.approx(values[:, :, 1].mean() - 1)
    assert found["lowest_recall"] == pytest.approx(values[:, :, 0].mean(axis=0).min())
    assert found["pairs"]["LN83 -> LO19"]["balanced_accuracy"]["mean"] == pytest.approx(values[:, 0].mean())


def test_no_target_label_is_planned_for() -> None:
    cells = planned_cells(
        ["row_wise_decomposition", "soft_spot_counts"],
        ["soft_spot_counts"],
        list(ADAPTATIONS),
        ["LN83", "LO19"],
        [10],
        2,
        2000,
    )
    assert len(set(cells)) == len(cells)
    few = [each for each in cells if each.kind == "labels"]
    assert len(few) == 2 * 2 * 2
    assert all(each.source == each.target for each in few)
    adapted = [each for each in cells if each.kind == "adaptation"]
    assert all(each.source != each.target and each.labels == 1200 for each in adapted)
    assert {each.method for each in adapted if each.reduction == "row_wise_decomposition"} == {"carried_over"}


@pytest.mark.slow
def test_a_file_goes_through_the_benchmark(tmp_path: Path, capsys, monkeypatch) -> None:
    """The README's example: compared with the row-wise decomposition, and not trained again the second time."""
    command = ["--reduction", EXAMPLE, "--sets", "LN83,LO19", "--frames", "100", "--labels", "8"]
    command += [
        "--methods",
        "carried_over",
        "--seeds",
        "1",
        "--runs",
        str(tmp_path / "runs"),
        "--results",
        str(tmp_path / "results"),
    ]
    bench.main(command)
    found = json.loads((tmp_path / "results" / "reductions.json").read_text())
    assert found["simulated"] is True
    assert set(found["few_labels"]) == {"row_wise_decomposition", EXAMPLE}
    assert set(found["adaptation"][EXAMPLE]["carried_over"]["pairs"]) == {"LN83 -> LO19", "LO19 -> LN83"}
    text = (tmp_path / "results" / "reductions.md").read_text()
    assert text == tables(found)
    assert text.count("simulated sets") == 3
    assert text in capsys.readouterr().out
    assert imread(tmp_path / "results" / "reductions.png").std() > 0.01

    monkeypatch.setattr(bench, "run_cell", lambda *_: pytest.fail("trained again"))
    bench.main(command)
    again = json.loads((tmp_path / "results" / "reductions.json").read_text())
    assert again["cells"] == found["cells"]
    assert run_main(lambda: bench.main([*command, "--frames", "101"])) == 2
    assert "other frames" in capsys.readouterr().err


@pytest.fixture
def own(tmp_path: Path) -> list[str]:
    """Frames of one's own, rows of which are the brighter the more of a hit they are, and their labels."""
    with h5py.File(tmp_path / "run.h5", "w") as file:
        frames = np.random.default_rng(0).poisson(20, (40, 724, 724)).astype(np.float32)
        frames[::2, ::9, ::9] += 500
        file["frames"] = frames
    rows = "".join(f"run.h5,//{i},{'miss' if i % 2 else 'hit'}\n" for i in range(40))
    (tmp_path / "labels.csv").write_text(f"file,event,label\n{rows}")
    return [f"mine={tmp_path}/run.h5", "dataset=/frames", f"labels={tmp_path}/labels.csv"]


def test_reductions_are_compared_on_frames_of_ones_own(
    own: list[str], tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(reduction_cells, "RECIPE", TrainingConfig(epochs=2, steps_per_epoch=4, batch=8))
    monkeypatch.setattr(bench, "speeds", lambda names: {name: {"median": 1.0} for name in names})
    folders = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path)]
    command = ["--reduction", "block_maxima", "--labels", "6", "--seeds", "1", *folders, "--set", *own]
    bench.main(command)
    found = json.loads((tmp_path / "reductions.json").read_text())
    assert found["sets"] == ["mine"] and found["simulated"] is False and found["frames"] == {"mine": 40}
    assert {(c["source"], c["target"], c["labels"]) for c in found["cells"]} == {("mine", "mine", 6)}
    assert {c["reduction"] for c in found["cells"]} == {"row_wise_decomposition", "block_maxima"}
    printed = capsys.readouterr().out
    assert "computing on" in printed and "(mine of 40 frames" in printed and "Carried over" not in printed
    assert f"--dataset mine --set {' '.join(own)} --reduction block_maxima --labels 50" in printed
    # Other labels are other data.
    labels = tmp_path / "labels.csv"
    labels.write_text(labels.read_text().replace("//1,miss", "//1,hit"))
    assert run_main(lambda: bench.main(command)) == 2
    assert "other frames" in capsys.readouterr().err
    labels.write_text(labels.read_text().replace("run.h5,//1,hit\n", ""))
    prepared_set.cache_clear()
    assert run_main(lambda: bench.main([*command, "--runs", str(tmp_path / "others")])) == 2
    assert "mine: 1 frame without a label" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--sets", "LN83"], "--set mine is not used"),
        (["--sets", "mine,LN99"], "no set named 'LN99'; choose one of LN83, LN84, LO19"),
        (["--frames", "100"], "--frames has no effect on sets of your own"),
    ],
)
def test_sets_that_are_named_wrongly_are_one_line(more, message, own: list[str], capsys) -> None:
    assert run_main(lambda: bench.main(["--set", *own, *more])) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


@pytest.mark.slow
def test_a_file_is_trained_on_and_screens(tmp_path: Path, capsys) -> None:
    out = tmp_path / "run"
    few = ["--frames", "60", "--labels", "20", "--epochs", "2", "--steps", "3", "--batch", "8"]
    reduced.main(["--dataset", "LO19", "--reduction", EXAMPLE, *few, "--out", str(out)])
    printed = capsys.readouterr().out
    assert "simulated sets" in printed
    assert json.loads((out / "results.json").read_text())["reduction"] == EXAMPLE
    frames = str(simulated_data(["LO19"], 60) / "LO19" / CXIDB76["LO19"][1])
    arguments = [frames, "--model", str(out), "--out", str(tmp_path / "screened")]
    assert run_main(lambda: screen([*arguments, "--reduction", EXAMPLE])) == 0
    assert len((tmp_path / "screened" / "frames.csv").read_text().splitlines()) == 61


@pytest.mark.slow
def test_transfer_moves_only_what_it_should(tmp_path: Path, capsys) -> None:
    """The two steps of the paper's Fig. 3 through the command: the base of step one is the source's, bit by bit."""
    few = [
        "--frames",
        "60",
        "--labels",
        "20",
        "--base-labels",
        "36",
        "--epochs",
        "2",
        "--steps",
        "3",
        "--batch",
        "8",
    ]
    out = tmp_path / "run"
    transfer.main(["--source", "LN83", "--target", "LO19", *few, "--out", str(out)])
    assert "carried over untouched" in capsys.readouterr().out
    base, final = load_model(out / "base"), load_model(out)
    frozen = dataclasses.replace(TrainingConfig().objective, frozen=3)
    recipe = dataclasses.replace(TrainingConfig(epochs=2, steps_per_epoch=3, batch=8), objective=frozen)
    example = jnp.zeros((1, 90, 90, 2))
    state = new_state(recipe.base, recipe.optimizer(), example, 0, ("source",), frozen)
    like = {"state": state, "kept": {"params": state.params, "batch_stats": state.batch_stats}}
    tree, _ = read_checkpoint(out / "checkpoints" / "step_1" / "epoch_0002", like)
    first = tree["state"]
    jax.tree.map(np.testing.assert_array_equal, first.params["base"], base.variables["params"]["base"])
    jax.tree.map(
        np.testing.assert_array_equal,
        first.batch_stats["source"]["base"],
        base.variables["batch_stats"]["base"],
    )
    lowest, upper = "convolution_0", "convolution_1"
    after, before = final.variables["params"]["base"], base.variables["params"]["base"]
    np.testing.assert_array_equal(after[lowest]["kernel"], before[lowest]["kernel"])
    assert not np.array_equal(after[upper]["kernel"], before[upper]["kernel"])
