"""The paper's tables by one command: which networks it trains, what it leaves, and that it trains nothing twice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.paper import __main__ as paper
from bench.paper import measured as paper_measured
from bench.paper import plans as paper_plans
from bench.paper.plans import QUICK_PAIRS, RWD, Comparison, Network, networks, plan_of
from bench.paper.runs import read_run
from sfxjax.data.splits import split
from sfxjax.devices import trainings_at_once
from sfxjax.errors import UserError, run_main
from sfxjax.models.checkpoint import load_model
from sfxjax.models.stem import BaseConfig
from sfxjax.simulate.write import simulated_data
from sfxjax.training.config import RunConfig
from sfxjax.training.data import PreparedSet
from sfxjax.training.published import PAIRS, SETS

FRAMES = 200


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFXJAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def planned(comparison: Comparison) -> dict[Path, RunConfig]:
    """How each network of a comparison is trained, by the folder of its run."""
    runs = Path("runs")
    return {runs / each.name: plan_of(each, comparison, runs) for each in networks(comparison)}


def test_every_network_of_the_tables_is_planned_once() -> None:
    plans = planned(Comparison())
    normalised = [p for p in plans.values() if not p.recipe.base.noise_normalised]
    assert {(p.method, p.labels) for p in normalised} == {
        ("supervised", None),
        ("reduced", 200),
        ("dann", None),
    }
    assert len(normalised) == 3 + 3 + 6
    made = [
        (p.method, p.source, p.target, p.labels) for p in plans.values() if p.recipe.base.noise_normalised
    ]
    assert len(set(made)) == len(made) == (3 + 3 + 6 + 3 + 6) + (3 + 6 + 3)
    assert {m for m in made if m[0] == "supervised"} == {
        ("supervised", name, None, labels) for name in SETS for labels in (None, 200, 25)
    }
    assert {m[3] for m in made if m[0] in ("transfer", "reduced")} == {200, 25}
    for method in ("transfer", "dann"):
        assert {m[1:3] for m in made if m[0] == method} == set(PAIRS)
    assert all(p.reduction == (RWD if p.method == "reduced" else None) for p in plans.values())
    assert all(p.recipe.base.dimensions == (1 if p.method == "reduced" else 2) for p in plans.values())


def test_a_base_is_trained_before_what_starts_from_it_and_is_the_sources_own() -> None:
    plans = planned(Comparison(tables=(3,), seeds=2))
    order = list(plans)
    for place, plan in enumerate(plans.values()):
        if plan.method != "transfer":
            continue
        base = plans[Path(str(plan.base))]
        assert order.index(Path(str(plan.base))) < place
        assert (base.method, base.source, base.labels) == ("supervised", plan.source, None)
        assert base.recipe.seed == plan.recipe.seed
    assert sum(plan.method == "transfer" for plan in plans.values()) == 24


def test_a_table_alone_takes_its_own_networks() -> None:
    def methods(*tables: int) -> list[str]:
        return sorted({plan.method for plan in planned(Comparison(tables=tables)).values()})

    assert methods(2) == ["supervised"]
    assert methods(4) == ["reduced"]
    assert methods(5) == ["dann", "supervised"]
    assert methods(7) == ["reduced", "supervised"]
    assert methods() == []


def test_a_quick_comparison_has_each_set_once_as_source_and_as_target() -> None:
    for side in (0, 1):
        assert sorted(pair[side] for pair in QUICK_PAIRS) == sorted(SETS)
    quick = planned(Comparison(frames=800, quick=True))
    slow = planned(Comparison(frames=800))
    assert set(quick) < set(slow)
    for out, plan in quick.items():
        assert plan.recipe.epochs < slow[out].recipe.epochs
        assert replace(plan.recipe, epochs=1) == replace(slow[out].recipe, epochs=1)


def test_tables_are_named_with_or_without_the_word() -> None:
    assert paper.read_tables(None) == {1, 2, 3, 4, 5, 6, 7}
    assert paper.read_tables("table3,5") == {3, 5}
    with pytest.raises(UserError, match="no table 8; choose from table1, table2"):
        paper.read_tables("table3,table8")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--only", "figure3"], "choose from table1"),
        (["--seeds", "0"], "at least 1"),
        (["--data", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_made_is_one_line_and_status_2(options, said, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_main(lambda: paper.main(options)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A comparison of two tables and a made-up Table 6, by networks that hardly learn."""
    root = tmp_path_factory.mktemp("paper")
    few = {
        method: replace(recipe, epochs=2, steps_per_epoch=2, batch=8)
        for method, recipe in paper_plans.RECIPES.items()
    }
    measured = {"dann": {"labels": 0, "recall": 91.5}, "device": "a test", "simulated": True, "notes": []}
    options = ["--only", "4,5,6", "--frames", str(FRAMES)]
    options += ["--runs", str(root / "runs"), "--results", str(root / "results")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paper_plans, "RECIPES", few)
        patch.setattr(paper_plans, "ALSO_NORMALISED", ())
        patch.setattr(paper_plans, "ALSO_WITH_FEWER", ())
        patch.setattr(paper_plans, "PAIRS", (("LN83", "LO19"),))
        patch.setattr(paper, "measure_methods", lambda *_: dict(measured))
        paper.main(options)
        yield root, options


@pytest.mark.slow
def test_the_page_holds_what_was_run_and_says_what_was_not(made) -> None:
    root, _ = made
    page = (root / "results" / "report.html").read_text()
    assert "simulated sets" in page
    assert page.count("data:image/png;base64,") == 8
    assert "Table 3" in page and "not run" in page
    assert "91.5" in page
    assert sorted(path.name for path in (root / "results").glob("*.png")) == sorted(
        ["overview.png", "precision_recall.png", *(f"figure{number}.png" for number in range(5, 11))]
    )


@pytest.mark.slow
def test_cells_hold_the_counts_of_the_runs_own_scores(made) -> None:
    root, _ = made
    record = json.loads((root / "results" / "cells.json").read_text())
    assert record["tables"]["table3"][0]["ours"] is None
    apart = record["shown"]["told_apart"]
    assert list(apart) == ["source-only CNN", "DANN"]
    assert all(0 <= value <= 100 for each in apart.values() for value in each.values())
    assert all(0 <= low <= high <= 100 for low, high in record["shown"]["late_accuracy"].values())
    (row,) = [r for r in record["tables"]["table4"] if r["tested"] == "LO19"]
    (ours,) = row["ours"]
    network = Network("reduced", "few", "LO19")
    plan = plan_of(network, Comparison(frames=FRAMES), root / "runs")
    labels = paper.labels_of_sets(simulated_data(SETS, FRAMES, quiet=True))
    run = read_run(network, plan, root / "runs" / network.name, labels)
    test = split("few", FRAMES).test
    chosen = slice(test.start, test.stop)
    called, positive = run.scores["LO19"][chosen] >= 0.5, run.classes["LO19"][chosen] > 0
    assert ours["counts"]["true_positive"] == np.sum(called & positive)
    assert ours["counts"]["false_positive"] == np.sum(called & ~positive)
    assert (ours["seed"], ours["source"], ours["simulated"]) == (0, "LO19", True)
    assert set(run.scores) == set(SETS)


@pytest.mark.slow
def test_the_same_command_trains_nothing_again(made, monkeypatch) -> None:
    root, options = made
    monkeypatch.setattr(paper, "train_and_test", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(paper, "measure_methods", lambda *_: pytest.fail("measured again"))
    (root / "results" / "report.html").unlink()
    paper.main(options)
    assert (root / "results" / "report.html").exists()
    assert load_model(root / "runs" / "dann-full-LN83-LO19-seed0").reduction is None


@pytest.mark.slow
def test_runs_of_other_frames_are_not_mixed_in(made, capsys) -> None:
    _, options = made
    other = [*options, "--frames", "220"]
    assert run_main(lambda: paper.main(other)) == 2
    assert "other settings" in capsys.readouterr().err


@pytest.mark.slow
def test_sets_of_unequal_length_are_refused(tmp_path) -> None:
    lengths = {"LN83": 30, "LN84": 30, "LO19": 40}
    for name, frames in lengths.items():
        (tmp_path / name).symlink_to(simulated_data([name], frames, quiet=True) / name)
    with pytest.raises(UserError, match="LO19 40"):
        paper.labels_of_sets(tmp_path)


@pytest.mark.slow
def test_the_three_methods_are_measured_in_processes_of_their_own() -> None:
    folder = simulated_data(SETS, 200, quiet=True)
    found = paper_measured.measure_methods(True, folder)
    assert [found[method]["labels"] for method in paper_measured.MEASURED] == [40, 40, 0]
    for method in paper_measured.MEASURED:
        assert 0 <= found[method]["recall"] <= 100
        for key in ("preprocessing_seconds", "training_seconds", "frames_per_second", "peak_memory_mib"):
            assert found[method][key] > 0
    assert found["simulated"]


def test_trainings_that_share_several_devices_are_done_one_by_one(monkeypatch) -> None:
    assert trainings_at_once(4) == 1, "the tests have two devices"
    monkeypatch.setattr("jax.device_count", lambda: 1)
    assert trainings_at_once(4) == 4


def test_maps_for_one_base_are_none_for_another() -> None:
    nothing = np.zeros((1, 2), np.float32)
    prepared = PreparedSet("LN83", True, np.zeros(1, np.int8), nothing, {}, {})
    prepared.check(BaseConfig(channels=(2, 3)), None)
    prepared.check(BaseConfig(dimensions=1, channels=(2, 3)), RWD)
    prepared.check(BaseConfig(dimensions=1, noise_normalised=False), "soft_spot_counts")
    vectors = BaseConfig(dimensions=1, noise_normalised=False)
    for other in (BaseConfig(noise_normalised=False), BaseConfig(spot=1), BaseConfig(block=4), vectors):
        with pytest.raises(ValueError, match="prepare it for that"):
            prepared.check(other, RWD if other is vectors else None)
