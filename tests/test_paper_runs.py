"""Runs on disk, what is refused of them, and their cells against scikit-learn. Nothing is trained here."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from paper_cases import AFTER_FEW, FRAMES, LAST, classes, every_run, make_run, one, spot_counters
from sklearn.metrics import (
    balanced_accuracy_score,
    confusion_matrix,
    recall_score,
)

from bench.paper.runs import AS_PUBLISHED, cell_record, check_runs, read_run, spread, write_test_scores
from bench.paper.spots import run_spot_counter
from bench.paper.tables import (
    table_rows,
)
from sfxjax.data.splits import split
from sfxjax.data.write import SetMetadata, SetWriter
from sfxjax.errors import UserError
from sfxjax.spots.classical import choose_threshold
from sfxjax.training.published import SETS


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list:
    """Every run of two seeds."""
    return every_run(tmp_path_factory.mktemp("runs"))


# Runs on disk


def test_scores_come_back_as_written(tmp_path: Path) -> None:
    scores = {"LN83": np.array([0.0, 0.25, np.nan, 1.0]), "LO19": np.array([0.5], np.float32)}
    labels = {"LN83": np.array([0, 1, 2, 0]), "LO19": np.array([2], np.int8)}
    more = {"frames": {"LN83": 4, "LO19": 1}, "split": "full"}
    folder = make_run(tmp_path, "supervised", "LN83", more=more)
    write_test_scores(folder / "scores.h5", scores, labels)
    run = read_run(folder)
    assert set(run.scores) == set(run.classes) == {"LN83", "LO19"}
    for name in scores:
        assert run.scores[name].dtype == np.float32
        assert run.classes[name].dtype == np.int8
        np.testing.assert_array_equal(run.scores[name], scores[name].astype(np.float32))
        np.testing.assert_array_equal(run.classes[name], labels[name])
    assert not list(folder.glob(".*")), "nothing temporary is left"


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        ({"LN83": np.zeros(3)}, {}),
        ({}, {"LN83": np.zeros(3, int)}),
        ({"LN83": np.zeros(3)}, {"LN83": np.zeros(4, int)}),
        ({"LN83": np.zeros((3, 1))}, {"LN83": np.zeros((3, 1), int)}),
        ({"LN83": np.zeros(0)}, {"LN83": np.zeros(0, int)}),
        ({"LN83": np.array([1.5])}, {"LN83": np.array([0])}),
        ({"LN83": np.array([np.inf])}, {"LN83": np.array([0])}),
        ({"LN83": np.array([1])}, {"LN83": np.array([0])}),
        ({"LN83": np.array([0.5])}, {"LN83": np.array([3])}),
        ({"LN83": np.array([0.5])}, {"LN83": np.array([0.0])}),
    ],
)
def test_scores_that_do_not_fit_are_not_written(scores, labels, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="LN83"):
        write_test_scores(tmp_path / "scores.h5", scores, labels)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"source": "LN99"}, "pair of sets"),
        ({"source": ["LN83"]}, "source"),
        ({"target": "LN83"}, "pair of sets"),
        ({"method": "dann"}, "target"),
        ({"seed": "0"}, "seed"),
        ({"labels": True}, "labels"),
        ({"labels": 121}, "121 labels"),
        ({"labels": 0}, "0 labels"),
        ({"split": "half"}, "split"),
        ({"frames": {"LN83": 200}}, "LN84|LO19"),
        ({"frames": {}}, "frames"),
        ({"threshold": "high"}, "threshold"),
        ({"simulated": "yes"}, "simulated"),
    ],
)
def test_records_that_cannot_be_are_refused(more, words, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words) as told:
        read_run(make_run(tmp_path, "supervised", "LN83", more=more))
    assert str(tmp_path) in str(told.value)
    assert "\n" not in str(told.value)


def test_damaged_runs_are_refused(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "supervised", "LN83")
    scores = (folder / "scores.h5").read_bytes()
    (folder / "scores.h5").write_bytes(scores[:-200])
    with pytest.raises(UserError, match=r"scores\.h5"):
        read_run(folder)
    with h5py.File(folder / "scores.h5", "w") as file:
        file["LN83"] = np.zeros(FRAMES, np.float32)
    with pytest.raises(UserError, match=r"scores\.h5"):
        read_run(folder)
    (folder / "scores.h5").unlink()
    with pytest.raises(UserError, match=r"scores\.h5"):
        read_run(folder)
    (folder / "results.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        read_run(folder)
    (folder / "results.json").write_text("[]")
    with pytest.raises(UserError, match="not a run"):
        read_run(folder)
    with pytest.raises(UserError, match="no such file"):
        read_run(tmp_path / "none")


@pytest.mark.parametrize(
    ("labels", "frames", "split", "published"),
    [
        (1200, 2000, "full", True),
        (1199, 2000, "full", False),
        (200, 2000, "few", True),
        (50, 2000, "few", False),
        (120, 200, "full", True),
        (20, 200, "few", True),
    ],
)
def test_the_split_is_told_by_the_number_of_labels(labels, frames, split, published, tmp_path: Path) -> None:
    folder = make_run(tmp_path, "supervised", "LN83", frames=frames, more={"labels": labels})
    run = read_run(folder)
    assert (run.split, run.variant == AS_PUBLISHED) == (split, published)
    filled = [row for number in (1, 2) for row in table_rows(number, [run]) if row["ours"] is not None]
    assert bool(filled) is published


def test_runs_that_cannot_share_a_table_are_refused(tmp_path: Path) -> None:
    first = read_run(make_run(tmp_path / "a", "supervised", "LN83"))
    check_runs([first, read_run(make_run(tmp_path / "a", "supervised", "LN83", seed=1))])
    with pytest.raises(UserError, match="same training"):
        check_runs([first, read_run(make_run(tmp_path / "b", "supervised", "LN83"))])
    for what in ("simulated", "quick"):
        other = make_run(tmp_path / what, "supervised", "LN84", more={what: what == "quick"})
        with pytest.raises(UserError, match=what):
            check_runs([first, read_run(other)])
    other = make_run(tmp_path / "labels", "supervised", "LN84")
    truth = classes()
    truth["LO19"] = (truth["LO19"] + 1) % 3
    write_test_scores(other / "scores.h5", {name: np.zeros(FRAMES, np.float32) for name in SETS}, truth)
    with pytest.raises(UserError, match="labels of LO19"):
        check_runs([first, read_run(other)])


# Cells


@pytest.mark.parametrize(
    ("frames", "chosen"), [("last", LAST), ("after_few", AFTER_FEW), ("all", slice(0, 200))]
)
def test_a_cell_against_scikit_learn(runs, frames, chosen) -> None:
    run = one(runs, "supervised", "LN84", split="few")
    record = cell_record(run, "LO19", frames)
    truth, called = classes()["LO19"][chosen] > 0, run.scores["LO19"][chosen] >= 0.5
    assert record["recall"]["percent"] == pytest.approx(100 * recall_score(truth, called))
    assert record["miss_accuracy"]["percent"] == pytest.approx(100 * recall_score(~truth, ~called))
    assert record["balanced_accuracy"]["percent"] == pytest.approx(
        100 * balanced_accuracy_score(truth, called)
    )
    (tn, fp), (fn, tp) = confusion_matrix(truth, called)
    assert record["counts"] == {
        "true_positive": tp,
        "false_negative": fn,
        "true_negative": tn,
        "false_positive": fp,
    }
    assert (record["first"], record["last"]) == (chosen.start + 1, 200)
    assert record["recall"]["low"] < record["recall"]["percent"] < record["recall"]["high"]
    assert (record["seed"], record["recipe"], record["tested"]) == (0, {"epochs": 2}, "LO19")
    json.dumps(record, allow_nan=False)


def test_a_threshold_of_its_own_is_used(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path, "supervised", "LN83", more={"threshold": 0.9}))
    called = run.scores["LN83"][LAST] >= 0.9
    expected = recall_score(classes()["LN83"][LAST] > 0, called)
    assert cell_record(run, "LN83", "last")["recall"]["percent"] == pytest.approx(100 * expected)


def test_frames_that_were_not_scored_leave_the_cell_empty(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "supervised", "LN83")
    run = read_run(folder)
    scores = {"LN83": run.scores["LN83"].copy()}
    scores["LN83"][:160] = np.nan
    write_test_scores(folder / "scores.h5", scores, {"LN83": run.classes["LN83"]})
    run = read_run(folder)
    assert cell_record(run, "LN83", "last") is not None
    assert cell_record(run, "LN83", "after_few") is None
    assert cell_record(run, "LO19", "last") is None


def test_spread_is_of_the_sample() -> None:
    assert spread([90.0, 94.0]) == (92.0, pytest.approx(np.std([90, 94], ddof=1)))
    assert spread([90.0]) == (90.0, None)
    assert spread([]) == spread([90.0, None]) == (None, None)


# The spot counter's runs


def test_spot_counters_have_thresholds_chosen_on_validation_frames(tmp_path: Path) -> None:
    folders = spot_counters(tmp_path)
    assert len(folders) == 6
    for folder in folders:
        run = read_run(folder)
        chosen = split(run.split, FRAMES).validation
        part = slice(chosen.start, chosen.stop)
        odds = run.scores[run.source].astype(float)
        counts = np.round(odds / (1 - odds) * run.record["spot_count_threshold"] - 0.5).astype(int)
        truth = classes()[run.source] > 0
        assert run.record["spot_count_threshold"] == choose_threshold(counts[part], truth[part])
        assert run.record["labels"] == len(chosen)
        np.testing.assert_array_equal(
            run.scores[run.source] >= 0.5, counts >= run.record["spot_count_threshold"]
        )
    assert [path.name for path in spot_counters(tmp_path)] == [path.name for path in folders], (
        "made anew in place"
    )


def test_spots_of_a_set_are_counted_once(tmp_path: Path, monkeypatch, capsys) -> None:
    import bench.paper.spots as spots

    folder = tmp_path / "data" / "LN83"
    labels = np.resize([0, 2, 0], 30)
    with SetWriter(
        folder / "r0018_2000.h5", 30, (724, 724), np.int16, 30, SetMetadata((64.0, 64.0), 0.177)
    ) as writer:
        frames = np.random.default_rng(0).poisson(100, (30, 724, 724)).astype(np.int16)
        writer.append(frames, np.full(30, 1.3), np.full(30, 120.0))
    words = ["MISS", "MAYBE", "HIT"]
    lines = [f"r0018_2000.h5 [{n}] {words[label]}\n" for n, label in enumerate(labels, start=1)]
    (folder / "expert_annotation.txt").write_text("".join(lines))
    calls = []

    def counted(frame_set, indices, advance):
        calls.append(frame_set.name)
        return labels[list(indices)] * 5

    monkeypatch.setattr(spots, "count_set", counted)
    for _ in range(2):
        folders = run_spot_counter(tmp_path / "data", ["LN83"], tmp_path / "runs")
        run = read_run(folders[0])
        assert run.simulated
        assert cell_record(run, "LN83", "all")["balanced_accuracy"]["percent"] == 100
    assert calls == ["LN83"]
    run_spot_counter(tmp_path / "data", ["LN83"], tmp_path / "runs", quick=True)
    assert calls == ["LN83", "LN83"]
