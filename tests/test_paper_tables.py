"""Rows, means, curves and layout of the paper's tables, against scikit-learn and by hand. Nothing is trained here."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import numpy as np
import pytest
from paper_cases import AFTER_FEW, LAST, classes, every_run, make_run, one, to_html
from sklearn.metrics import (
    balanced_accuracy_score,
    precision_recall_curve,
    recall_score,
    roc_auc_score,
    roc_curve,
)

from bench.paper.method_figures import precision_at_recall, precision_curve, published_precision
from bench.paper.methods import METHODS, mean_of, means_of_methods, published_mean, runs_of_method
from bench.paper.plans import AS_PUBLISHED, TABLES
from bench.paper.record import record_of
from bench.paper.runs import cell_record, runs_of
from bench.paper.table_layout import to_markdown
from bench.paper.tables import (
    measured_table,
    paper_table,
    recall_table,
    seed_spread,
    summary_table,
    table_rows,
)
from sfxjax.training.published import SETS, Pair, cells


@pytest.fixture(scope="module")
def runs() -> list:
    """Every run of two seeds."""
    return every_run()


# Rows


@pytest.mark.parametrize("number", TABLES)
def test_every_row_has_its_own_runs(runs, number: int) -> None:
    rows = table_rows(number, runs)
    published = [cell._asdict() | {"published": cell.published._asdict()} for cell in cells(number)]
    assert [{key: row[key] for key in published[0]} for row in rows] == published
    for row, cell in zip(rows, cells(number), strict=True):
        assert [record["seed"] for record in row["ours"]] == [0, 1]
        chosen = {"last": LAST, "after_few": AFTER_FEW, "all": slice(0, 200)}[cell.frames]
        truth = classes()[cell.tested][chosen] > 0
        for record, seed in zip(row["ours"], (0, 1), strict=True):
            run = one(runs, cell.method, cell.source, cell.target, cell.split, seed)
            called = run.scores[cell.tested][chosen] >= 0.5
            assert record["recall"]["percent"] == pytest.approx(100 * recall_score(truth, called))
        values = [record["balanced_accuracy"]["percent"] for record in row["ours"]]
        mean = seed_spread(row["ours"], "balanced_accuracy")
        assert (mean, mean.deviation) == (np.mean(values), pytest.approx(np.std(values, ddof=1)))
        labelled = cell.target if cell.method == "transfer" else cell.source
        (record,) = row["spot counter"]
        assert (record["source"], record["split"], record["tested"]) == (labelled, cell.split, cell.tested)
        if number == 5:
            assert {r["source"] for r in row["source-only CNN"]} == {cell.source}
        json.dumps(row, allow_nan=False)


def test_rows_on_the_same_frames(runs) -> None:
    carried = table_rows(7, runs)
    assert {(r["first"], r["last"]) for row in carried for r in row["same_frames"]} == {(1, 200)}
    for number in (2, 3, 4, 5):
        rows = table_rows(number, runs)
        assert {(r["first"], r["last"]) for row in rows for r in row["same_frames"]} == {(161, 200)}
    assert all(row["same_frames"] is None for row in table_rows(1, runs))


def test_source_only_networks_are_those_of_table_1() -> None:
    alone, few = make_run("supervised", "LN83"), make_run("supervised", "LN83", split="few")
    rows = table_rows(5, [alone, few])
    on_pair = next(row for row in rows if (row["source"], row["target"]) == ("LN83", "LO19"))
    on_other = next(row for row in rows if row["source"] == "LN84")
    (record,) = on_pair["source-only CNN"]
    assert (record["source"], record["split"], record["labels"]) == ("LN83", "full", alone.record["labels"])
    assert runs_of([alone, few], method="supervised", split="full", source="LN83") == [alone]
    assert on_other["source-only CNN"] is None
    assert on_pair["ours"] is on_pair["spot counter"] is None
    assert runs_of_method([alone, few], METHODS["source_only"], "LO19") == [alone]


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
    found = mean_of(runs, method, "recall")
    assert found == pytest.approx(np.mean(by_seed))
    assert found.deviation == pytest.approx(np.std(by_seed, ddof=1))


def test_a_set_with_fewer_pairs_weighs_as_much_as_the_others(runs) -> None:
    fewer = [
        run
        for run in runs
        if (run.network.method, run.network.source, run.network.target) != ("dann", "LN83", "LO19")
    ]
    found = mean_of(fewer, METHODS["dann"], "recall")
    of_sets = [mean_of(fewer, METHODS["dann"], "recall", (name,)) for name in SETS]
    assert found == pytest.approx(np.mean(of_sets))


def test_a_set_without_runs_leaves_the_mean_empty(runs) -> None:
    method = METHODS["supervised"]
    fewer = [run for run in runs if (run.network.method, run.network.source) != ("supervised", "LO19")]
    assert mean_of(fewer, method, "recall") is None
    assert mean_of(fewer, method, "recall", ("LN83", "LN84")) is not None
    assert not means_of_methods(fewer)["supervised"] and means_of_methods(fewer)["transfer"]
    assert mean_of([], method, "recall") is None


def test_seeds_that_not_all_cells_have_do_not_count(runs) -> None:
    method = METHODS["supervised"]
    only = [
        run
        for run in runs
        if (run.network.method, run.network.source, run.network.seed) != ("supervised", "LO19", 1)
    ]
    found = mean_of(only, method, "recall")
    values = [cell_record(one(runs, "supervised", s), s, "last")["recall"]["percent"] for s in SETS]
    assert (found, found.deviation) == (pytest.approx(np.mean(values)), None)


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
    assert {(run.network.source, run.network.target) for run in found} == trained
    assert {run.network.split for run in found} == {METHODS[key].split}


def test_published_means() -> None:
    own = published_mean(METHODS["supervised"], "recall")
    assert own == pytest.approx((96.92 + 94.91 + 96.30) / 3)
    target = published_mean(METHODS["dann"], "recall")
    assert target == pytest.approx((90.19 + 89.67 + 92.18 + 85.58 + 96.09 + 90.41) / 6)
    carried = published_mean(METHODS["source_only"], "recall")
    assert carried == pytest.approx((90.28 + 70.37 + 67.69 + 81.48 + 95.38 + 87.50) / 6)
    assert published_mean(METHODS["spots"], "recall") is None


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
    assert row["mean at 95 %"] == f"{mean_of(runs, METHODS['supervised'], 'miss_accuracy_at_95'):.1f}"
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
    every = [seed_spread(r["ours"], "recall") for r in table_rows(3, runs)]
    assert summary[0] == "mean, all rows"
    assert summary[4].startswith(f"{np.mean(every):.1f} / ")
    assert summary[2] == f"{np.mean([c.published.recall for c in cells(3)]):.2f} / 93.34"


def test_one_seed_is_shown_with_its_interval(runs) -> None:
    single = [run for run in runs if run.network.seed == 0]
    (record,) = table_rows(2, single)[0]["ours"]
    text = paper_table(2, single).rows[0][5]
    low, high = (record["balanced_accuracy"][key] for key in ("low", "high"))
    assert text == f"{record['balanced_accuracy']['percent']:.1f} ({low:.1f}-{high:.1f})"


def test_headings_say_what_the_data_are() -> None:
    for simulated, quick, words in (
        (True, False, "(simulated sets)"),
        (False, False, "(CXIDB 76)"),
        (True, True, "(simulated sets, quick: fewer frames or epochs)"),
    ):
        record = record_of([make_run("supervised", "LN83", simulated=simulated)], quick=quick)
        assert len(record["layout"]) == 9
        assert all(table["heading"].endswith(words) for table in record["layout"])


def test_what_was_not_run_is_said_so() -> None:
    run = make_run("supervised", "LN83")
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
    assert seed_spread([record], "recall") is None


def test_text_is_escaped() -> None:
    table = measured_table({"device": "<b> | &"})
    assert "<b>" not in to_html(table)
    assert "&lt;b&gt; | &amp;" in to_html(table)


def test_table_6_shows_words_and_what_was_measured() -> None:
    measured = {
        "transfer": {
            "labels": 200,
            "preprocessing_seconds": 1.25,
            "frames_per_second": 12345.6,
            "recall": 77.0,
        },
        "dann": {"labels": 0, "peak_memory_mib": 812.4},
        "device": "a machine",
        "notes": ["one thing"],
    }
    table = measured_table(measured)
    rows = {row[0].split(" (")[0]: row[1:] for row in table.rows}
    assert rows["Size of labels"] == ["Low", "200", "Low", "not run", "None", "0"]
    assert rows["Pre-processing"][1] == "1.2"
    assert rows["Speed of prediction"] == ["Slow", "12,346", "Fast", "not run", "Slow", "not run"]
    assert rows["Resource consuming"][5] == "812"
    assert rows["Recall"] == ["High", "77.0", "High", "not run", "Medium", "not run"]
    assert table.notes == ["Measured on a machine.", "one thing"]


def test_the_summary_has_every_method_with_the_means_of_its_runs(runs) -> None:
    table = summary_table(runs)
    assert [row[0] for row in table.rows] == [method.title for method in METHODS.values()]
    (row,) = [row for row in table.rows if row[0] == METHODS["dann"].title]
    recalls = []
    for seed in (0, 1):
        by_set = []
        for name in SETS:
            own = [
                r
                for r in runs
                if r.network.variant == AS_PUBLISHED
                and (r.network.method, r.network.target, r.network.seed) == ("dann", name, seed)
            ]
            by_set.append(
                np.mean([recall_score(r.classes[name][LAST] > 0, r.scores[name][LAST] >= 0.5) for r in own])
            )
        recalls.append(100 * np.mean(by_set))
    assert row[2] == f"{np.mean(recalls):.1f} ± {np.std(recalls, ddof=1):.1f}"
    # The means of the target columns of Table 5, first over a set's pairs.
    assert row[5] == f"{published_mean(METHODS['dann'], 'recall'):.1f}"
    assert summary_table([]).rows[0][2:5] == ["not run"] * 3
