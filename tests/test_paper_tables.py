"""Runs, cells, means and tables of the paper against scikit-learn and by hand. Nothing is trained here."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import h5py
import numpy as np
import pytest
from paper_cases import FRAMES, classes, every_run, make_run, spot_counters
from sklearn.metrics import (
    balanced_accuracy_score,
    confusion_matrix,
    precision_recall_curve,
    recall_score,
    roc_auc_score,
    roc_curve,
)

from bench.paper_methods import (
    METHODS,
    at_recall,
    mean_of,
    percent,
    precision_at_recall,
    precision_curve,
    published_mean,
    published_precision,
    runs_of_method,
    sets_of,
)
from bench.paper_runs import (
    Figures,
    cell_record,
    check_runs,
    read_run,
    runs_of,
    source_only_runs,
    spot_counter_runs,
    spread,
    write_scores,
)
from bench.paper_spots import run_spot_counter
from bench.paper_tables import (
    TABLES,
    measured_table,
    paper_table,
    recall_table,
    row_record,
    table_rows,
    to_html,
    to_markdown,
)
from sfxjax.cxidb import SetMetadata, SetWriter
from sfxjax.errors import UserError
from sfxjax.splits import split
from sfxjax.spot_counter import choose_cut
from train.published import SETS, Pair, cells

LAST = slice(160, 200)  # the last fifth
AFTER_FEW = slice(40, 200)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list:
    """Every run of two seeds."""
    return every_run(tmp_path_factory.mktemp("runs"))


def one(runs, method: str, source: str, target: str | None = None, split: str = "full", seed: int = 0):
    (run,) = [
        r
        for r in runs
        if (r.method, r.source, r.target, r.split, r.seed) == (method, source, target, split, seed)
    ]
    return run


# Runs on disk


def test_scores_come_back_as_written(tmp_path: Path) -> None:
    scores = {"LN83": np.array([0.0, 0.25, np.nan, 1.0]), "LO19": np.array([0.5], np.float32)}
    labels = {"LN83": np.array([0, 1, 2, 0]), "LO19": np.array([2], np.int8)}
    more = {"frames": {"LN83": 4, "LO19": 1}, "split": "full"}
    folder = make_run(tmp_path, "supervised", "LN83", more=more)
    write_scores(folder / "scores.h5", scores, labels)
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
        write_scores(tmp_path / "scores.h5", scores, labels)
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
    assert (run.split, run.published) == (split, published)
    filled = [row for number in (1, 2) for row in table_rows(number, [run]) if row.ours is not None]
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
    write_scores(other / "scores.h5", {name: np.zeros(FRAMES, np.float32) for name in SETS}, truth)
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
    write_scores(folder / "scores.h5", scores, {"LN83": run.classes["LN83"]})
    run = read_run(folder)
    assert cell_record(run, "LN83", "last") is not None
    assert cell_record(run, "LN83", "after_few") is None
    assert cell_record(run, "LO19", "last") is None


def test_spread_is_of_the_sample() -> None:
    assert spread([90.0, 94.0]) == (92.0, pytest.approx(np.std([90, 94], ddof=1)))
    assert spread([90.0]) == (90.0, None)
    assert spread([]) == spread([90.0, None]) == (None, None)


# Rows


@pytest.mark.parametrize("number", TABLES)
def test_every_row_has_its_own_runs(runs, number: int) -> None:
    rows = table_rows(number, runs)
    assert [row.cell for row in rows] == cells(number)
    for row in rows:
        cell = row.cell
        assert row.ours.seeds == (0, 1)
        chosen = {"last": LAST, "after_few": AFTER_FEW, "all": slice(0, 200)}[cell.frames]
        truth = classes()[cell.tested][chosen] > 0
        for record, seed in zip(row.ours.records, (0, 1), strict=True):
            run = one(runs, cell.method, cell.source, cell.target, cell.split, seed)
            called = run.scores[cell.tested][chosen] >= 0.5
            assert record["recall"]["percent"] == pytest.approx(100 * recall_score(truth, called))
        values = [record["balanced_accuracy"]["percent"] for record in row.ours.records]
        assert row.ours.spread("balanced_accuracy") == (
            np.mean(values),
            pytest.approx(np.std(values, ddof=1)),
        )
        labelled = cell.target if cell.method == "transfer" else cell.source
        (record,) = row.others["spot counter"].records
        assert (record["source"], record["split"], record["tested"]) == (labelled, cell.split, cell.tested)
        if number == 5:
            assert {r["source"] for r in row.others["source-only CNN"].records} == {cell.source}
        json.dumps(row_record(row), allow_nan=False)


def test_rows_on_the_same_frames(runs) -> None:
    carried = table_rows(7, runs)
    assert {(r["first"], r["last"]) for row in carried for r in row.same_frames.records} == {(1, 200)}
    for number in (2, 3, 4, 5):
        rows = table_rows(number, runs)
        assert {(r["first"], r["last"]) for row in rows for r in row.same_frames.records} == {(161, 200)}
    assert all(row.same_frames is None for row in table_rows(1, runs))


def test_other_inputs_do_not_fill_the_papers_cells(tmp_path: Path) -> None:
    made = [
        make_run(tmp_path, "reduced", "LN83", labels=200, reduction="column_wise_decomposition"),
        make_run(tmp_path, "dann", "LN83", "LO19", reduction="row_wise_decomposition"),
        make_run(tmp_path, "source_only", "LN83", reduction="row_wise_decomposition"),
    ]
    found = [read_run(folder) for folder in made]
    assert all(row.ours is None for number in (4, 5, 7) for row in table_rows(number, found))
    assert all(row.others["source-only CNN"] is None for row in table_rows(5, found))
    assert all(not runs_of_method(found, method, s) for method in METHODS.values() for s in SETS)


def test_source_only_networks_of_the_pair_come_first(tmp_path: Path) -> None:
    alone = read_run(make_run(tmp_path, "source_only", "LN83"))
    paired = read_run(make_run(tmp_path, "source_only", "LN83", "LO19"))
    both = [alone, paired]
    on_pair = next(c for c in cells(5) if (c.source, c.target) == ("LN83", "LO19"))
    on_other = next(c for c in cells(5) if (c.source, c.target) == ("LN83", "LN84"))
    assert source_only_runs(both, on_pair) == [paired]
    assert source_only_runs(both, on_other) == [alone]
    assert runs_of(both, on_pair) == spot_counter_runs(both, on_pair) == []
    plain = read_run(make_run(tmp_path, "supervised", "LN83"))
    assert source_only_runs([plain], on_pair) == [plain]
    assert runs_of_method([plain], METHODS["source_only"], "LO19") == [plain]
    assert runs_of_method([plain, alone], METHODS["source_only"], "LO19") == [alone]


# Means of methods


def test_means_are_over_pairs_then_sets_then_seeds(runs) -> None:
    method = METHODS["dann"]
    by_seed = []
    for seed in (0, 1):
        of_sets = []
        for target in SETS:
            truth = classes()[target][LAST] > 0
            of_sets.append(
                np.mean(
                    [
                        recall_score(
                            truth, one(runs, "dann", source, target, seed=seed).scores[target][LAST] >= 0.5
                        )
                        for source in SETS
                        if source != target
                    ]
                )
            )
        by_seed.append(100 * np.mean(of_sets))
    found = mean_of(runs, method, percent("recall"))
    assert found.value == pytest.approx(np.mean(by_seed))
    assert found.deviation == pytest.approx(np.std(by_seed, ddof=1))
    assert (found.sets, found.seeds, found.runs) == (SETS, 2, 12)


def test_a_set_without_runs_leaves_the_mean_empty(runs) -> None:
    method = METHODS["supervised"]
    fewer = [run for run in runs if (run.method, run.source) != ("supervised", "LO19")]
    assert mean_of(fewer, method, percent("recall")) is None
    assert mean_of(fewer, method, percent("recall"), ("LN83", "LN84")).sets == ("LN83", "LN84")
    assert sets_of(fewer, [method, METHODS["transfer"]]) == ("LN83", "LN84")
    assert mean_of([], method, percent("recall")) is None


def test_seeds_that_not_all_cells_have_do_not_count(runs) -> None:
    method = METHODS["supervised"]
    only = [run for run in runs if (run.method, run.source, run.seed) != ("supervised", "LO19", 1)]
    found = mean_of(only, method, percent("recall"))
    values = [cell_record(one(runs, "supervised", s), s, "last")["recall"]["percent"] for s in SETS]
    assert (found.value, found.deviation, found.seeds) == (pytest.approx(np.mean(values)), None, 1)


@pytest.mark.parametrize(
    ("key", "tested", "trained"),
    [
        ("supervised", "LN83", {("LN83", None)}),
        ("transfer", "LN83", {("LN84", "LN83"), ("LO19", "LN83")}),
        ("dann", "LN83", {("LN84", "LN83"), ("LO19", "LN83")}),
        ("source_only", "LN83", {("LN84", None), ("LO19", None)}),
        ("reduced_carried", "LO19", {("LN83", None), ("LN84", None)}),
        ("spots", "LO19", {("LO19", None)}),
    ],
)
def test_runs_that_stand_for_a_method(runs, key, tested, trained) -> None:
    found = runs_of_method(runs, METHODS[key], tested)
    assert {(run.source, run.target) for run in found} == trained
    assert {run.split for run in found} == {METHODS[key].split}


def test_published_means() -> None:
    own = published_mean(METHODS["supervised"], lambda pair: pair.recall)
    assert own == pytest.approx((96.92 + 94.91 + 96.30) / 3)
    target = published_mean(METHODS["dann"], lambda pair: pair.recall)
    assert target == pytest.approx((90.19 + 89.67 + 92.18 + 85.58 + 96.09 + 90.41) / 6)
    carried = published_mean(METHODS["source_only"], lambda pair: pair.recall)
    assert carried == pytest.approx((90.28 + 70.37 + 67.69 + 81.48 + 95.38 + 87.50) / 6)
    assert published_mean(METHODS["spots"], lambda pair: pair.recall) is None


# Curves


@pytest.mark.parametrize("seed", range(4))
def test_precision_at_recall_against_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(300) < 0.3
    scores = np.round(np.clip(rng.normal(0.35 + 0.3 * truth, 0.2), 0, 1), 2)
    recalls = np.linspace(0.02, 1, 50)
    precision, recall, _ = precision_recall_curve(truth, scores)
    expected = [precision[np.flatnonzero(recall >= wanted - 1e-12)[-1]] for wanted in recalls]
    np.testing.assert_allclose(precision_at_recall(truth, scores, recalls), expected)


def test_curves_are_means_over_runs(runs) -> None:
    recalls = np.array([0.5, 0.9, 1.0])
    method = METHODS["transfer"]
    each = []
    for run in runs_of_method(runs, method, "LN84"):
        each.append(precision_at_recall(classes()["LN84"][LAST] > 0, run.scores["LN84"][LAST], recalls))
    assert len(each) == 4
    np.testing.assert_allclose(precision_curve(runs, method, "LN84", recalls), np.mean(each, axis=0))
    assert precision_curve([], method, "LN84", recalls) is None


def test_precision_of_published_figures() -> None:
    # 63 of 65 positives kept, 2 of 335 misses let through.
    assert published_precision(Pair(96.92, 99.40), 65, 335) == pytest.approx(63 / 65, abs=2e-3)
    assert published_precision(Pair(0, 100), 65, 335) == 1


def test_recall_table_against_scikit_learn(runs) -> None:
    table = recall_table(runs)
    assert len(table.rows) == len(METHODS)
    row = dict(zip(table.columns, table.rows[list(METHODS).index("supervised")], strict=True))
    values = []
    for seed in (0, 1):
        run = one(runs, "supervised", "LO19", seed=seed)
        false_rate, recall, _ = roc_curve(
            classes()["LO19"][LAST] > 0, run.scores["LO19"][LAST], drop_intermediate=False
        )
        values.append(100 * (1 - false_rate[recall >= 0.95 - 1e-12].min()))
    assert row["LO19 at 95 %"] == f"{np.mean(values):.1f}"
    assert row["mean at 95 %"] == f"{mean_of(runs, METHODS['supervised'], at_recall('95')).value:.1f}"
    areas = [
        roc_auc_score(classes()[s][LAST] > 0, one(runs, "supervised", s, seed=seed).scores[s][LAST])
        for s in SETS
        for seed in (0, 1)
    ]
    assert row["mean area under ROC"] == f"{np.mean(areas):.4f}"
    assert {text for line in recall_table([]).rows for text in line[2:]} == {"not run"}


# Layout


class Cells(HTMLParser):
    """Collects the texts of a table's cells, row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open = ""

    def handle_starttag(self, tag, attrs) -> None:
        self.open = tag
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data) -> None:
        if self.open in ("td", "th"):
            self.rows[-1][-1] += data

    def handle_endtag(self, tag) -> None:
        self.open = ""


@pytest.mark.parametrize("number", TABLES)
def test_markdown_and_html_hold_the_same_cells(runs, number: int) -> None:
    table = paper_table(number, runs)
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert len(table.rows) == len(cells(number)) + table.summaries
    lines = [line for line in to_markdown(table).splitlines() if line.startswith("|")]
    told = [[text.strip().strip("*") for text in line.strip("|").split("|")] for line in lines]
    parser = Cells()
    parser.feed(to_html(table))
    assert parser.rows == [table.columns, *table.rows]
    assert [told[0], *told[2:]] == [table.columns, *table.rows]
    assert f'id="table{number}"' in to_html(table)


def test_a_row_of_table_3(runs) -> None:
    table = paper_table(3, runs)
    row = dict(zip(table.columns[:7], table.rows[0], strict=False))
    cell = cells(3)[0]
    assert row["trained on"] == "LN83, then LN84"
    assert row["tested on, frames"] == "LN84, 41-200"
    assert row["paper: recall / misses"] == "96.68 / 92.33"
    truth = classes()["LN84"][AFTER_FEW] > 0
    called = [
        one(runs, *cell[1:2], cell.source, cell.target, "few", s).scores["LN84"][AFTER_FEW] >= 0.5
        for s in (0, 1)
    ]
    recalls = [100 * recall_score(truth, c) for c in called]
    misses = [100 * recall_score(~truth, ~c) for c in called]
    balanced = [100 * balanced_accuracy_score(truth, c) for c in called]
    assert row["ours"] == f"{np.mean(recalls):.1f} / {np.mean(misses):.1f}"
    assert table.rows[0][5] == f"{np.mean(balanced):.1f} ± {np.std(balanced, ddof=1):.1f}"
    assert table.rows[0][6] == "2"
    summary = table.rows[-1]
    every = [r.ours.spread("recall").mean for r in table_rows(3, runs)]
    assert summary[0] == "mean, all rows"
    assert summary[4].startswith(f"{np.mean(every):.1f} / ")
    assert summary[2] == f"{np.mean([c.published.recall for c in cells(3)]):.2f} / 93.34"


def test_one_seed_is_shown_with_its_interval(runs) -> None:
    single = [run for run in runs if run.seed == 0]
    (record,) = table_rows(2, single)[0].ours.records
    text = paper_table(2, single).rows[0][5]
    low, high = (record["balanced_accuracy"][key] for key in ("low", "high"))
    assert text == f"{record['balanced_accuracy']['percent']:.1f} ({low:.1f}-{high:.1f})"


def test_headings_say_what_the_data_are(tmp_path: Path) -> None:
    for more, words in (
        ({}, "(simulated stand-ins)"),
        ({"simulated": False}, "(CXIDB 76)"),
        ({"quick": True}, "(simulated stand-ins, quick: fewer frames or epochs)"),
    ):
        folder = make_run(tmp_path / str(len(words)), "supervised", "LN83", more=more)
        for table in (
            paper_table(1, [read_run(folder)]),
            recall_table([read_run(folder)]),
            measured_table({}, [read_run(folder)]),
        ):
            assert table.heading.endswith(words)
    assert paper_table(1, []).heading.endswith("(not run)")


def test_what_was_not_run_is_said_so(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path, "supervised", "LN83"))
    table = paper_table(1, [run])
    texts = dict(zip([row[0] + row[1][:4] for row in table.rows], table.rows, strict=True))
    assert texts["LN83LN84"][4] != "not run"
    assert texts["LN84LN83"][4:7] == ["not run", "not run", ""]
    assert texts["LN83LN84"][7:] == ["not run", "not run"]
    assert texts["mean, own set"][5].endswith("(1 of 3)")
    assert texts["mean, other sets"][5].endswith("(2 of 6)")
    assert {row[4] for row in paper_table(5, [run]).rows} == {"not run"}


def test_a_class_without_frames_has_no_rate() -> None:
    empty = {"percent": None, "low": None, "high": None}
    whole = {"percent": 90.0, "low": 80.0, "high": 95.0}
    record = {"seed": 0, "recall": empty, "miss_accuracy": whole, "balanced_accuracy": empty}
    found = Figures((record,))
    assert found.spread("recall") == (None, None)
    assert found.interval("balanced_accuracy") is None


def test_text_is_escaped() -> None:
    table = measured_table({"device": "<b> | &"})
    assert "<b>" not in to_html(table)
    assert "&lt;b&gt; | &amp;" in to_html(table)


def test_table_6_shows_words_and_what_was_measured(runs) -> None:
    measured = {
        "transfer": {
            "labels": 200,
            "preprocessing_seconds": 1.25,
            "frames_per_second": 12345.6,
            "recall": 77.0,
        },
        "dann": {"labels": 0, "peak_memory_mib": 812.4},
        "device": "a machine",
        "simulated": True,
        "notes": ["one thing"],
    }
    table = measured_table(measured, runs)
    rows = {row[0].split(" (")[0]: row[1:] for row in table.rows}
    assert rows["Size of labels"] == ["Low", "200", "Low", "not run", "None", "0"]
    assert rows["Pre-processing"][1] == "1.2"
    assert rows["Speed of prediction"] == ["Slow", "12,346", "Fast", "not run", "Slow", "not run"]
    assert rows["Resource consuming"][5] == "812"
    dann = mean_of(runs, METHODS["dann"], percent("recall")).value
    assert rows["Recall"][1::2] == [
        "77.0",
        f"{mean_of(runs, METHODS['reduced'], percent('recall')).value:.1f}",
        f"{dann:.1f}",
    ]
    assert rows["Train"][1] == "10.5"
    assert table.notes == ["Measured on a machine.", "one thing"]


# The spot counter's runs


def test_spot_counters_cut_on_validation_frames(tmp_path: Path) -> None:
    folders = spot_counters(tmp_path)
    assert len(folders) == 6
    for folder in folders:
        run = read_run(folder)
        chosen = split(run.split, FRAMES).validation
        part = slice(chosen.start, chosen.stop)
        odds = run.scores[run.source].astype(float)
        counts = np.round(odds / (1 - odds) * run.record["cut"] - 0.5).astype(int)
        truth = classes()[run.source] > 0
        assert run.record["cut"] == choose_cut(counts[part], truth[part])
        assert run.record["labels"] == len(chosen)
        np.testing.assert_array_equal(run.scores[run.source] >= 0.5, counts >= run.record["cut"])
    assert [path.name for path in spot_counters(tmp_path)] == [path.name for path in folders], (
        "made anew in place"
    )


def test_spots_of_a_set_are_counted_once(tmp_path: Path, monkeypatch, capsys) -> None:
    import bench.paper_spots as spots

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
