"""Labelling: what is kept of a kill, what an audit proves, which frame comes next, the fitted model, and the page's server."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from sfxjax.data.labels import read_labels
from sfxjax.errors import UserError
from sfxjax.label import store
from sfxjax.label.audit import audit, sample_order
from sfxjax.label.choice import next_frame
from sfxjax.label.session import Session
from sfxjax.screen.found_spots import CountedFrame
from sfxjax.spots import recalibration
from sfxjax.spots.day_one import FrameSpots


def record(number: int, label: str | None, click: str) -> store.Record:
    return store.Record("a.h5", f"//{number}", label, click=click)


def test_labels_outlive_a_kill_within_a_line_and_a_click_sent_twice_counts_once(tmp_path: Path) -> None:
    labels = store.LabelFile(tmp_path, "anna")
    assert labels.add(record(0, "HIT", "a")) and not labels.add(record(0, "HIT", "a"))
    assert labels.add(record(1, "MISS", "b"))
    whole = labels.path.read_bytes()
    for cut in range(1, len(whole.splitlines()[1]) + 1):
        labels.path.write_bytes(whole[:-cut] if cut > 1 else whole[:-2])
        again = store.LabelFile(tmp_path, "anna")
        assert again.add(record(2, "MAYBE", "c"))
        read = store.read_label_records(labels.path)
        assert [each.click for each in read] in (["a", "c"], ["a", "b", "c"])
    assert again.add(record(0, None, "d"))
    store.write_csv(tmp_path / "labels.csv", again.records)
    assert read_labels(tmp_path / "labels.csv", [("a.h5", f"//{k}") for k in range(3)]).tolist()[::2] == [
        -1,
        1,
    ]
    labels.path.write_text('{"nonsense": 1}\n')
    with pytest.raises(UserError, match="line 1: no label"):
        store.LabelFile(tmp_path, "anna")
    with pytest.raises(UserError, match="no name of a labeller"):
        store.LabelFile(tmp_path, "../anna")


def test_agreement_is_cohens_kappa(tmp_path: Path) -> None:
    # Cohen (1960) by hand: 5 of 6 alike, chance 1/2 * 2/3 + 1/2 * 1/3 = 1/2, kappa = (5/6 - 1/2) / (1 - 1/2).
    for name, words in (("anna", "HHHMMM"), ("ben", "HHMMMM")):
        labels = store.LabelFile(tmp_path, name)
        for number, word in enumerate(words):
            labels.add(record(number, {"H": "HIT", "M": "MISS"}[word], str(number)))
    assert store.agreement(tmp_path) == {"anna, ben": {"frames": 6, "kappa": pytest.approx(2 / 3)}}


def test_intervals_and_threshold_hold_over_300_simulated_runs() -> None:
    rng = np.random.default_rng(7)
    inside, proved, kept_enough = 0, 0, 0
    for seed in range(300):
        positive = rng.random(2000) < rng.uniform(0.05, 0.5)
        scores = 1 / (1 + np.exp(-rng.normal(np.where(positive, rng.uniform(0.5, 3), -2), 1.3)))
        sample = sample_order(2000, seed)[: rng.integers(50, 300)]
        found = audit(scores[sample], positive[sample], 0.5, 0.9)
        recall = (scores[positive] >= 0.5).mean()
        inside += found.recall.low <= recall <= found.recall.high
        if found.threshold is not None:
            proved += 1
            kept_enough += (scores[positive] >= found.threshold).mean() >= 0.9
    assert inside / 300 >= 0.93
    # One-sided, 95 %: 2.6 standard deviations of 200 runs below.
    assert proved > 150 and kept_enough / proved >= 0.91


def test_what_the_sample_cannot_prove_is_said() -> None:
    found = audit(np.array([0.9, 0.1]), np.array([True, False]), 0.5, 0.95)
    assert found.threshold is None and "59 are needed" in found.advice
    empty = audit(np.zeros(0), np.zeros(0, bool), 0.5)
    assert (empty.recall.low, empty.recall.high) == (0, 1)


def test_the_next_frame_is_uncertain_and_unlike_the_labelled_ones() -> None:
    inputs = np.array([[0.0], [0.0], [5.0], [2.0]])
    probability = np.array([0.5, 0.5, 0.5, 0.999])
    labelled, allowed = np.zeros(4, bool), np.ones(4, bool)
    assert next_frame(probability, inputs, labelled, allowed) in (0, 1, 2)
    labelled[0] = True
    assert next_frame(probability, inputs, labelled, allowed) == 2
    allowed[2] = False
    assert next_frame(probability, inputs, labelled, allowed) == 3
    assert next_frame(probability, inputs, np.ones(4, bool), allowed) is None


def test_no_label_changes_nothing_and_labels_move_a_wrong_model(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    score = rng.random(400)
    odds = np.log(score / (1 - score)).clip(-9, 9) / 4
    inputs = np.column_stack([odds, odds, np.zeros(400), np.zeros(400)])
    np.testing.assert_allclose(recalibration.Recalibration().probability(inputs), score, atol=2e-4)
    # The true classes part at a score of 0.9.
    positive = score > 0.9
    before = ((score >= 0.5) == positive).mean()
    model = recalibration.fit_recalibration(inputs[:50], positive[:50], inputs)
    assert ((model.probability(inputs[50:]) >= 0.5) == positive[50:]).mean() > before + 0.3
    assert recalibration.fit_recalibration(inputs[:0], positive[:0], inputs) == recalibration.Recalibration()
    model.save(tmp_path)
    assert recalibration.load(tmp_path) == model and recalibration.load(tmp_path / "none") is None
    (tmp_path / recalibration.FILE).write_text(json.dumps({"kind": "other"}))
    with pytest.raises(UserError, match="not a model of labels"):
        recalibration.load(tmp_path)


@pytest.mark.parametrize(("shift", "held"), [(-9.0, 0.1), (-5.0, None), (3.0, 0.5)])
def test_of_a_run_with_few_hits_fewer_are_lost(shift: float, held: float | None) -> None:
    # The day-one model is right about the odds, and hits are rare, few, or common.
    rng = np.random.default_rng(1)
    odds = rng.normal(shift, 4, 20_000).clip(-9, 9)
    inputs = np.column_stack([odds / 4, odds / 4, np.log1p(np.exp(odds / 4)), np.zeros(len(odds))])
    positive = rng.random(len(odds)) < 1 / (1 + np.exp(-odds))
    model = recalibration.fit_recalibration(inputs[:100], positive[:100], inputs)
    scores = model.probability(inputs)

    def told_right(threshold: float) -> tuple[float, float]:
        kept = scores >= threshold
        return kept[positive].mean(), (kept[positive].mean() + (~kept[~positive]).mean()) / 2

    share = positive.mean()
    if held is None:
        assert model.threshold == pytest.approx(share, abs=0.03)
        # No threshold at all does better by more than the uncertainty of the fit.
        best = max(told_right(threshold)[1] for threshold in np.linspace(0.01, 0.99, 99))
        assert told_right(model.threshold)[1] > best - 0.005
        assert told_right(model.threshold)[0] > told_right(0.5)[0] + 0.1
    else:
        assert model.threshold == held and (share < 0.1 if held == 0.1 else share > 0.5)


def test_of_a_short_run_half_of_the_labels_are_learnt_from(tmp_path: Path) -> None:
    # A run of 30 frames, whose spots are made up: frame 0 shows fewest.
    stack: Any = SimpleNamespace(file="a.h5", event=lambda number: f"//{number}")
    none = np.zeros(0)
    counted = [
        CountedFrame(stack, k, FrameSpots(k / 30, k / 40, k / 2, k / 3, none, none, none, none, none))
        for k in range(30)
    ]
    sources: Any = None
    session = Session(sources, counted, tmp_path, "anna", 100, 0.95, 6.0, 4)
    assert "of 30 frames 15, drawn at random" in session.plan_line() and "the other 15" in session.plan_line()
    for click in range(12):
        (frame,) = session.upcoming(1)
        session.label(frame, "HIT" if frame > 15 else "MISS", "", str(click))
    kept = recalibration.load(tmp_path)
    assert kept is not None and kept.labels == session.model.labels == 6
    state = session.state()
    assert state["learnt"] == {"frames": 6, "of": 15}
    assert (state["audit"]["frames"], state["audit"]["of"]) == (6, 15)
    assert session.end_line().startswith("12 labels in ") and "fitted to 6 of them" in session.end_line()
    assert session.end_line().endswith(f"a hit from a probability of {kept.threshold:.3f}")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "run.h5"
    rng = np.random.default_rng(0)
    frames = rng.poisson(40, (12, 300, 500)).astype(np.uint16)
    for frame in frames[::2]:
        for k in range(12):
            ss, fs = 20 + 22 * k, 30 + 37 * k
            frame[ss - 1 : ss + 2, fs - 1 : fs + 2] += np.array(
                [[60, 90, 60], [90, 200, 90], [60, 90, 60]], np.uint16
            )
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = frames
    return path


def test_the_page_keeps_labels_and_refuses_strangers(run: Path, tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    from sfxjax.data.frames import ReadOptions
    from sfxjax.data.inputs import find_files
    from sfxjax.data.read import FrameReader
    from sfxjax.label.server import application
    from sfxjax.screen.__main__ import main as screen
    from sfxjax.screen.sources import Sources
    from sfxjax.screen.spots import counted_frames

    with FrameReader(ReadOptions(panels_apart=True)) as reader:
        sources = Sources(reader)
        sources.open(find_files([str(run)]))
        counted = list(counted_frames(sources, 6.0, 4))
        session = Session(sources, counted, tmp_path / "labels", "anna", 4, 0.95, 6.0, 4)
        client = TestClient(application(session, "secret", 8000), base_url="http://127.0.0.1:8000")
        for path in ("/", "/state", "/next", "/picture/0", "/?token=wrong"):
            assert client.get(path).status_code == 403
        assert client.get("/state?token=secret", headers={"origin": "http://evil.example"}).status_code == 403
        assert client.get("/state?token=secret", headers={"host": "evil.example:8000"}).status_code == 403
        page = client.get("/?token=secret")
        assert page.status_code == 200 and "connect-src 'self'" in page.headers["content-security-policy"]
        assert client.get("/picture/0?token=secret").content.startswith(b"\xff\xd8")
        assert client.get("/picture/99?token=secret").status_code == 404
        assert client.post("/label?token=secret", content=b"[]").status_code == 400
        for click in range(12):
            frame = client.get("/next?token=secret").json()[0]["frame"]
            given = {"frame": frame, "label": "MISS" if frame % 2 else "HIT", "click": str(click)}
            assert [client.post("/label?token=secret", json=given).json()["kept"] for _ in range(2)] == [
                True,
                False,
            ]
        state = client.get("/state?token=secret").json()
        assert state["labels"] == 12 and state["words"] == {"miss": 6, "maybe": 0, "hit": 6}
        assert state["audit"]["frames"] == 4 and client.get("/next?token=secret").json() == []
    options = [str(run), "--model", str(tmp_path / "labels"), "--out", str(tmp_path / "out"), "--no-report"]
    assert screen(options) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert "the day-one model, fitted to 8 labels; " in summary["model"]
    assert str(tmp_path / "labels") in summary["model"]
    with (tmp_path / "out" / "frames.csv").open() as stream:
        assert [row["label"] for row in csv.DictReader(stream)] == ["HIT", "MISS"] * 6


def test_a_link_in_place_of_a_file_of_labels_is_refused(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.touch()
    (tmp_path / "me.labels.jsonl").symlink_to(theirs)
    with pytest.raises(UserError, match="is a symbolic link"):
        store.LabelFile(tmp_path, "me")
    assert theirs.read_bytes() == b""
