"""The table of DANN over seeds: arithmetic, and what is refused. Nothing is trained here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import dann as bench
from sfxjax.errors import UserError, run_main
from train.published import TABLE_5


def results(recall: float, misses: float, seed: int, target: str = "LO19") -> dict:
    """What `train.dann` leaves, with the source-only network ten points worse."""

    def network(less: float) -> dict:
        values = {"recall": recall - less, "miss_accuracy": misses - less}
        values["balanced_accuracy"] = sum(values.values()) / 2
        return {
            "simulated": True,
            "target": target,
            "frames": {"LN83": 40, "LO19": 40},
            "recipe": {"epochs": 2, "seed": seed},
            "device": "cpu",
            "tested": {target: {name: {"percent": value} for name, value in values.items()}},
        }

    return {"dann": network(0.0), "source_only": network(10.0)}


def write(folder: Path, made: dict) -> None:
    """Write the results of both networks where `train.dann` leaves them."""
    for name, result in made.items():
        place = folder if name == "dann" else folder / name
        place.mkdir(parents=True, exist_ok=True)
        (place / "results.json").write_text(json.dumps(result))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Finished runs of two seeds of two pairs."""
    figures = {("LN83", "LO19"): [(90, 94), (80, 100)], ("LO19", "LN83"): [(70, 80), (76, 80)]}
    for (source, target), pairs in figures.items():
        for seed, (recall, misses) in enumerate(pairs):
            folder = tmp_path / "runs" / f"dann-{source}-{target}-seed{seed}"
            write(folder, results(recall, misses, seed, target))
    return tmp_path / "runs"


def test_means_and_sample_standard_deviations() -> None:
    made = [results(90, 94, 0), results(80, 100, 1), results(85, 97, 2)]
    assert bench.spread(made, "dann", "recall") == {
        "values": [90, 80, 85],
        "mean": pytest.approx(85),
        "standard_deviation": pytest.approx(5),
    }
    assert bench.spread(made, "source_only", "balanced_accuracy")["mean"] == pytest.approx(81)
    assert bench.spread(made[:1], "dann", "recall")["standard_deviation"] is None


def test_finished_runs_are_not_trained_again(runs, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(bench.dann, "main", lambda options: pytest.fail(f"trained with {options}"))
    out = tmp_path / "tables"
    arguments = ["--pairs", "ln83:lo19,LO19:LN83", "--seeds", "2", "--runs", str(runs), "--results", str(out)]
    bench.main([*arguments, "--name", "two"])
    record = json.loads((out / "two.json").read_text())
    assert record["simulated"] is True
    assert record["recipe"] == {"epochs": 2}, "the seed is not part of what the seeds share"
    assert [pair["dann"]["balanced_accuracy"]["mean"] for pair in record["pairs"]] == [91, 76.5]
    text = (out / "two.md").read_text()
    assert text in capsys.readouterr().out
    heading, _, first, second = text.splitlines()
    assert "simulated stand-ins, 2 seeds" in heading
    # Recalls 90 and 80, misses 94 and 100, balanced accuracies 92 and 90; the other network ten points below.
    cells = [cell.strip() for cell in first.strip("|").split("|")]
    paper = TABLE_5["LN83", "LO19"][1]
    assert cells == [
        "LN83 -> LO19",
        "85.0 / 97.0",
        "91.0 ± 1.4",
        "75.0 / 87.0",
        "81.0 ± 1.4",
        f"{paper.recall:.2f} / {paper.miss_accuracy:.2f}",
    ]
    assert second.startswith("| LO19 -> LN83 | 73.0 / 80.0 |")


def test_missing_runs_are_trained_with_the_options_given(runs, tmp_path, monkeypatch) -> None:
    asked = []

    def train(options: list[str]) -> None:
        asked.append(options)
        folder = Path(options[options.index("--out") + 1])
        write(folder, results(88, 88, 2))

    monkeypatch.setattr(bench.dann, "main", train)
    arguments = ["--pairs", "LN83:LO19", "--seeds", "3", "--runs", str(runs), "--results", str(tmp_path)]
    bench.main([*arguments, "--frames", "40"])
    (options,) = asked
    assert options[options.index("--seed") + 1] == "2"
    assert options[-2:] == ["--frames", "40"]
    record = json.loads((tmp_path / "dann.json").read_text())
    assert record["pairs"][0]["dann"]["recall"]["values"] == [90, 80, 88]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--pairs", "LN83:LN83"], "no such pair: LN83:LN83"),
        (["--pairs", "LN83"], "no such pair: LN83"),
        (["--seeds", "0"], "--seeds"),
    ],
)
def test_pairs_that_do_not_exist_end_in_a_line(arguments, words, tmp_path, capsys) -> None:
    with pytest.raises(UserError, match=words):
        bench.main(arguments)
    assert run_main(lambda: bench.main([*arguments, "--results", str(tmp_path / "none")])) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "none").exists()
