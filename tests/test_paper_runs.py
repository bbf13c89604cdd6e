"""Runs on disk, what is refused of them, and their cells against scikit-learn. Nothing is trained here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from paper_cases import AFTER_FEW, FRAMES, LAST, classes, counters, every_run, one
from sklearn.metrics import (
    balanced_accuracy_score,
    confusion_matrix,
    recall_score,
)

from bench.paper import __main__ as paper
from bench.paper import spots
from bench.paper.plans import Comparison, Network, plan_of
from bench.paper.runs import cell_record, read_run, spread
from sfxjax.data.splits import split
from sfxjax.data.write import SetMetadata, SetWriter
from sfxjax.errors import UserError
from sfxjax.spots.classical import choose_threshold
from sfxjax.training.published import SETS
from sfxjax.training.run_folder import settings_of
from sfxjax.training.scores import write_scores


@pytest.fixture(scope="module")
def runs() -> list:
    """Every run of two seeds."""
    return every_run()


# Runs on disk


def test_a_run_is_read_as_it_was_written_and_refused_where_it_is_damaged_or_of_other_labels(
    tmp_path: Path,
) -> None:
    network = Network("supervised", "full", "LN83")
    folder, truth = tmp_path / network.name, classes()
    plan = plan_of(network, Comparison(frames=FRAMES), tmp_path)
    assert read_run(network, plan, folder, truth) is None
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps(settings_of(plan)))
    assert read_run(network, plan, folder, truth) is None, "it was begun"
    scores = {name: np.linspace(0, 1, FRAMES, dtype=np.float32) for name in SETS}
    write_scores(folder / "scores.h5", scores, truth)
    (folder / "results.json").write_text(json.dumps({"seed": 0}))
    run = read_run(network, plan, folder, truth)
    assert (run.network, run.record) == (network, {"seed": 0})
    for name in SETS:
        np.testing.assert_array_equal(run.scores[name], scores[name])
        np.testing.assert_array_equal(run.classes[name], truth[name])
    with pytest.raises(UserError, match="other labels of LO19"):
        read_run(network, plan, folder, truth | {"LO19": (truth["LO19"] + 1) % 3})
    other = plan_of(network, Comparison(frames=220), tmp_path)
    with pytest.raises(UserError, match="other settings"):
        read_run(network, other, folder, truth)
    (folder / "scores.h5").write_bytes((folder / "scores.h5").read_bytes()[:-200])
    with pytest.raises(UserError, match=r"scores\.h5"):
        read_run(network, plan, folder, truth)
    (folder / "results.json").write_text("{")
    with pytest.raises(UserError, match=r"results\.json is damaged"):
        read_run(network, plan, folder, truth)


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


def test_spread_is_of_the_sample() -> None:
    mean = spread([90.0, 94.0])
    assert (mean, mean.deviation) == (92.0, pytest.approx(np.std([90, 94], ddof=1)))
    assert str(mean) == "92.0 ± 2.8" and f"{mean:.1f}" == "92.0"
    assert (spread([90.0]), spread([90.0]).deviation, str(spread([90.0]))) == (90.0, None, "90.0")
    assert spread([]) is spread([90.0, None]) is None


# The spot counter's runs


def test_spot_counters_have_thresholds_chosen_on_validation_frames() -> None:
    made = counters()
    assert len(made) == 6
    for run in made:
        source = run.network.source
        chosen = split(run.network.split, FRAMES).validation
        part = slice(chosen.start, chosen.stop)
        odds = run.scores[source].astype(float)
        counts = np.round(odds / (1 - odds) * run.record["spot_count_threshold"] - 0.5).astype(int)
        truth = classes()[source] > 0
        assert run.record["spot_count_threshold"] == choose_threshold(counts[part], truth[part])
        assert run.record["labels"] == len(chosen)
        np.testing.assert_array_equal(run.scores[source] >= 0.5, counts >= run.record["spot_count_threshold"])


def test_what_was_measured_of_the_same_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "counts.json"
    measured = []

    def measure() -> dict:
        measured.append(1)
        return {"number": len(measured)}

    about = {"frames": 30, "quick": False}
    for frames, number in ((30, 1), (30, 1), (40, 2)):
        assert paper.kept(path, about | {"frames": frames}, measure)["number"] == number
    for damaged in ("{", "3"):
        path.write_text(damaged)
        with pytest.raises(UserError, match="damaged"):
            paper.kept(path, about, measure)


def test_spots_of_every_set_are_counted(tmp_path: Path, monkeypatch) -> None:
    labels = np.resize([0, 2, 0], 30)
    words = ["MISS", "MAYBE", "HIT"]
    runs = {"LN83": "r0018", "LN84": "r0095", "LO19": "r0020"}
    for name, file in runs.items():
        path = tmp_path / name / f"{file}_2000.h5"
        with SetWriter(path, 30, (724, 724), np.int16, 30, SetMetadata((64.0, 64.0), 0.177)) as writer:
            frames = np.full((30, 724, 724), 7, np.int16)
            writer.append(frames, np.full(30, 1.3), np.full(30, 120.0))
        lines = [f"{file}_2000.h5 [{n}] {words[label]}\n" for n, label in enumerate(labels, start=1)]
        (path.parent / "expert_annotation.txt").write_text("".join(lines))
    monkeypatch.setattr(
        spots, "count_set", lambda frame_set, indices, advance: labels[list(indices)] * len(frame_set.name)
    )
    counted = spots.count_sets(tmp_path, 30)
    assert counted["simulated"]
    assert counted["spots"] == dict.fromkeys(runs, (labels * 4).tolist())
    assert json.loads(json.dumps(counted)) == counted
    classes = paper.labels_of_sets(tmp_path)
    for run in spots.spot_counters(counted["spots"], classes, counted["simulated"]):
        assert cell_record(run, "LN83", "all")["balanced_accuracy"]["percent"] == 100
