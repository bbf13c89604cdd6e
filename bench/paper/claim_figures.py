"""The figures that `claims.toml` names, from a comparison's record and from those of experiments and benchmarks.

A figure that was not measured is missing, which is a KeyError where it is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sfxjax.json_files import read_json
from sfxjax.text import counted
from sfxjax.training.published import FRAMES_PER_SECOND_2D, VECTORS_PER_SECOND_1D

from .methods import METHODS, published_mean
from .runs import METRICS, Mean, spread
from .table_layout import NOT_RUN

# Gives a record by its name, empty where there is none.
Records = Callable[[str], Any]
# A loss of recall of less than this is none, per cent.
LEAST_LOSS = 1.0
_PUBLISHED_SPEEDS = {"frames_per_second": FRAMES_PER_SECOND_2D, "vectors_per_second": VECTORS_PER_SECOND_1D}


def records(comparison: Mapping[str, Any], stored: Path) -> Records:
    """Give the parts of a comparison's record, and the records of experiments and benchmarks in a folder, by their names."""

    def read(name: str) -> Any:
        if name in comparison:
            return comparison[name] or {}
        path = stored / f"{name}.json"
        return read_json(path) if path.exists() else {}

    return read


def figures_of(claim: Mapping[str, Any], read: Records) -> dict[str, Any]:
    """Return our figures for a claim, by the names that its words and its rule have for them.

    Raises:
        KeyError: something was not measured.
    """
    return next((figures(claim[source], read) for source, figures in _SOURCES.items() if source in claim), {})


# Rates of the methods of a comparison


class Rates(NamedTuple):
    """Mean rates of a method."""

    recall: Mean
    misses: Mean
    balanced: Mean


def published_rates(key: str) -> Rates:
    """Return the paper's rates of a method, NaN where it has none; with fewer labels than 200, those with 200 stand beside."""
    method = METHODS[{"supervised_fewer": "supervised_few", "transfer_fewer": "transfer"}.get(key, key)]
    values = [published_mean(method, metric) for metric in METRICS]
    return Rates(*(Mean(math.nan if value is None else value) for value in values))


def published_figures(claim: Mapping[str, Any]) -> dict[str, Any]:
    """Return the paper's figures for a claim: its rates of the methods that the claim is of, and its speeds."""
    rates = {key: published_rates(key) for key in claim.get("methods", [])}
    figures = rates | _differences(list(rates.values()))
    return _PUBLISHED_SPEEDS | figures | {"published": figures}


def rate_figures(keys: Sequence[str], read: Records) -> dict[str, Any]:
    """Return the mean rates of methods, and how they differ."""
    means = read("means")
    rates = {
        key: Rates(
            *(Mean(means[key][metric]["value"], means[key][metric]["deviation"]) for metric in METRICS)
        )
        for key in keys
    }
    return rates | _differences(list(rates.values()))


def _differences(rates: Sequence[Rates]) -> dict[str, Any]:
    """Say how the rates of methods differ from those of the first.

    Returns:
        `change`, in recall, to the second; `lack`, in balanced accuracy, of the worst; of three, `won_back`, the fraction of the
        second's loss of recall that the third wins back, and `gain`, the same in words.
    """
    if len(rates) < 2:
        return {}
    whole, less = rates[:2]
    change = less.recall - whole.recall
    figures: dict[str, Any] = {
        "change": change,
        "lack": whole.balanced - min(other.balanced for other in rates[1:]),
    }
    if len(rates) == 3:
        more = rates[2]
        lost = -change >= LEAST_LOSS
        won_back = (more.recall - less.recall) / -change if lost else 0
        told = f"{100 * won_back:.0f} % of the loss" if lost else "nothing was lost that could be won back"
        gain = f"{more.recall}, between {less.recall} and {whole.recall}: {told}"
        figures |= {"won_back": won_back, "gain": gain}
    return figures


# Other parts of a comparison


def measured_figures(key: str, read: Records) -> dict[str, Any]:
    """Return what was measured for a row of Table 6, by method."""
    of_methods = {name: each.get(key) for name, each in read("table6").items() if isinstance(each, dict)}
    return {name: value for name, value in of_methods.items() if value is not None}


def vector_figures(key: str, read: Records) -> dict[str, Any]:
    """Return the mean area under the ROC curve of a method, the last column of the table of fixed recalls."""
    (table,) = (table for table in read("layout") if table["key"] == "recalls")
    (area,) = (row[-1] for row in table["rows"] if row[0] == METHODS[key].title)
    return {} if area == NOT_RUN else {"area": float(area)}


def drawn_figures(part: str, read: Records) -> dict[str, Any]:
    """Return what Fig. 9 (`told_apart`) or Fig. 10 (`late_accuracy`) shows."""
    shown = read("shown")[part]
    if part == "late_accuracy":
        return shown | {f"{key}_swing": most - least for key, (least, most) in shown.items()}
    alone, dann = shown["source-only CNN"], shown["DANN"]
    told = {name: ", ".join(f"{value:.1f}" for value in each.values()) for name, each in shown.items()}
    figures = {
        "classes": ", ".join(dann),
        "alone": told["source-only CNN"],
        "dann": told["DANN"],
        "nearer": all(dann[word] < alone[word] for word in dann),
        "alignment": _what_aligns(read("alignment")),
    }
    if "maybe" not in dann:
        return figures | {"few": "too few"}
    apart = ", ".join(f"{word} {value:.1f} %" for word, value in dann.items())
    return figures | {"apart": apart, "maybes_most": dann["maybe"] == max(dann.values())}


def _what_aligns(record: Any) -> str:
    """Say whether the reversal, or the batch statistics of each set, bring the features of two sets nearer.

    The record is of `bench.experiments.alignment`, which has the reversal's strength 0 as well.
    """
    if not record:
        return ""
    apart: dict[str, list[float]] = {}
    for cell in record["cells"]:
        apart.setdefault(cell["network"], []).append(float(np.mean(list(cell["told_apart"].values()))))
    alone, dann, without = (np.mean(apart[name]) for name in ("source-only CNN", "DANN", "DANN, strength 0"))
    by = f"the reversal brings the features {'nearer' if dann < without else 'further apart'}"
    if abs(dann - without) <= max(map(np.ptp, apart.values())):
        by = (
            "what brings the features nearer is that each set has batch statistics of its own; the reversal adds nothing that "
            "seeds do not"
        )
    return (
        f" LN83 -> LO19 trained again, mean of the classes and of {len(apart['DANN'])} seeds: source-only {alone:.1f} %, DANN "
        f"{dann:.1f} %, the same without the reversal (strength 0) {without:.1f} %: {by}."
    )


# Experiments and benchmarks


def stage_figures(stages: Sequence[str], read: Records) -> dict[str, Any]:
    """Return the frames or vectors a second of stages of `bench.throughput`, and how many times the last the first is."""
    rates = {stage["name"]: stage["rate"]["median"] for stage in read("throughput-h200")["stages"]}
    chosen = [rates[stage] for stage in stages]
    return {"rates": chosen, "times": chosen[0] / chosen[-1]}


def plain_figures(number: int, read: Records) -> dict[str, Any]:
    """Return a finding of `bench.experiments.plain`, and the area under the ROC curve of every row.

    The areas tell a network that orders frames wrongly from one whose threshold moves.
    """
    record = read("plain")
    seeds = counted(len({cell["seed"] for cell in record["cells"]}), "seeds")
    about = f"{seeds}, frames binned {record['binning']}x{record['binning']}."
    areas = _means(record["cells"], "area_under_curve", "row")
    return record["findings"][number] | {"about": about, "areas": areas}


def gan_figures(record: Any) -> dict[str, Any]:
    """Return balanced accuracies with the fewest and the most labels, by pre-training, and how far seeds spread."""
    cells = record["cells"]
    counts = [cell["labels"] for cell in cells]
    least, most = min(counts), max(counts)
    few, many = (_means(cells, "balanced_accuracy", "pretraining", labels=n) for n in (least, most))
    deviations = sum(few[kind].deviation or 0 for kind in ("gan", "none"))
    return record | {"least": least, "most": most, "few": few, "many": many, "deviations": deviations}


def ensemble_figures(record: Any) -> dict[str, Any]:
    """Return balanced accuracy and calibration error of the vote and of its best member, and what signs of errors are worth."""
    cells = record["cells"]
    balanced, errors = (_means(cells, figure) for figure in ("balanced_accuracy", "calibration_error"))
    *members, vote = balanced
    best = max(members, key=lambda member: balanced[member])
    signs = {key: _means(cells, key, network=vote)[vote] for key in ("disagreement", "own_doubt")}
    sets = ", ".join(sorted({cell["set"] for cell in cells}))
    return signs | {
        "vote": {"balanced": balanced[vote], "error": errors[vote]},
        "alone": {"balanced": balanced[best], "error": errors[best]},
        "best": best,
        "sets": sets,
        "seeds": counted(len({cell["seed"] for cell in cells}), "seeds"),
    }


def particle_figures(record: Any) -> dict[str, Any]:
    """Return the balanced accuracies with 200 labels of all networks, and what the best of them rejects."""
    balanced = _means(record["cells"], "balanced_accuracy", labels=200)
    best = max(balanced, key=lambda network: balanced[network])
    cells = [{**cell, **cell["rejected"]} for cell in record["cells"] if cell["network"] == best]
    return {
        "networks": ", ".join(f"{network} {value:.1f}" for network, value in balanced.items()),
        "best": balanced[best],
        "rows": next(value for network, value in balanced.items() if network.startswith("RWD")),
        **{kind: _means(cells, kind, labels=200)[best] for kind in ("multiple", "none")},
    }


def _means(
    cells: Iterable[Mapping[str, Any]], figure: str, by: str = "network", **about: Any
) -> dict[str, Mean]:
    """Return the mean of a figure, a rate's in per cent, for each network or other kind, of the cells with these values."""
    values: dict[str, list[float]] = {}
    for cell in cells:
        if about.items() <= cell.items():
            value = cell[figure]
            values.setdefault(cell[by], []).append(value["percent"] if isinstance(value, dict) else value)
    return {kind: mean for kind, each in values.items() if (mean := spread(each)) is not None}


_EXPERIMENTS = {"gan": gan_figures, "ensemble": ensemble_figures, "particles": particle_figures}
# What gives the figures of a claim, by the key that says in `claims.toml` which of them it needs.
_SOURCES: dict[str, Callable[[Any, Records], dict[str, Any]]] = {
    "methods": rate_figures,
    "table6": measured_figures,
    "area_of": vector_figures,
    "drawn": drawn_figures,
    "stages": stage_figures,
    "plain": plain_figures,
    "experiment": lambda name, read: _EXPERIMENTS[name](read(name)),
}
