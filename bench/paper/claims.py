"""Every finding of the paper in one line: holds, does not hold or not tested, with figures and the reason.

The figures are those of a comparison's record (`bench.paper.record`) and of the experiments and benchmarks whose records lie
under `bench/results/`. Nothing is trained or measured here. Claims on the rates of methods are judged in `bench.paper.findings`;
the others, here: speed, Table 6, Figs. 8 to 10, the plain network, and the paper's outlook.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sfxjax.json_files import read_json
from sfxjax.text import counted

from .findings import (
    BY_RATES,
    FAILS,
    HOLDS,
    NOT_TESTED,
    WORDS,
    Finding,
    judged,
    judged_by_rates,
    untested,
    words_of,
)
from .methods import MEASURED_METHODS, METHODS
from .runs import spread
from .table_layout import NOT_RUN

STORED = Path(__file__).resolve().parents[1] / "results"
# Gives a record by its name, empty where there is none.
Records = Callable[[str], Any]


def claims(record: Mapping[str, Any], stored: Path = STORED) -> list[Finding]:
    """Judge all that the paper found, in the order of `claims.toml`.

    Args:
        record: of a comparison.
        stored: folder with the records of experiments and benchmarks; what is missing there is not tested.
    """
    read = records(record, stored)
    return [_judged_claim(name, read) for name in WORDS]


def _judged_claim(name: str, read: Records) -> Finding:
    if name in BY_RATES:
        return judged_by_rates(read("means"), name)
    if name in BY_RECORDS:
        return judged_by_records(name, read)
    return untested(name, reason=words_of(name, "reason"))


def count_verdicts(found: Sequence[Finding]) -> str:
    """Say how many findings hold, do not, and were not tested."""
    number = Counter(item.verdict for item in found)
    return f"Of {len(found)} findings {number[HOLDS]} hold here, {number[FAILS]} do not and {number[NOT_TESTED]} are not tested."


def records(comparison: Mapping[str, Any], stored: Path) -> Records:
    """Give the parts of a comparison's record, and the records of experiments and benchmarks in a folder, by their names."""

    def read(name: str) -> Any:
        if name in comparison:
            return comparison[name] or {}
        path = stored / f"{name}.json"
        return read_json(path) if path.exists() else {}

    return read


def judged_by_records(name: str, read: Records) -> Finding:
    """Judge a claim of `BY_RECORDS`; where a record lacks what is needed it is not tested."""
    try:
        return BY_RECORDS[name](name, read)
    except KeyError:
        return untested(name, words_of(name, "paper"))


def _plain(name: str, read: Records) -> Finding:
    """Judge a finding of `bench.experiments.plain`, with the areas under the ROC curve of the rows that the claim's words name.

    They tell a network that orders frames wrongly from one whose threshold moves.
    """
    record = read("plain")
    if not record:
        return untested(name)
    answer, cells = record["findings"][WORDS[name]["number"]], record["cells"]
    seeds = len({cell["seed"] for cell in cells})
    about = f"{'One seed' if seeds == 1 else f'{seeds} seeds'}, frames binned {record['binning']}x{record['binning']}."
    found = {
        words: [cell["area_under_curve"] for cell in cells if cell["row"] == row]
        for row, words in WORDS[name].get("rows", {}).items()
    }
    told = ", ".join(f"{words} {np.mean(values):.3f}" for words, values in found.items() if values)
    areas = f" Area under ROC, whatever the threshold: {told}." if told else ""
    # Another word, such as that seeds disagree, is no "holds".
    return judged(name, answer["verdict"] == HOLDS, answer | {"about": about, "areas": areas})


def _vectors(name: str, read: Records) -> Finding:
    table = next(table for table in read("layout") if table["key"] == "recalls")
    area = next(row for row in table["rows"] if row[0] == METHODS["reduced"].title)[-1]
    if area == NOT_RUN:
        raise KeyError(area)
    return judged(name, float(area) > 0.95, {"area": area})


def _speeds(name: str, read: Records) -> Finding:
    """Compare the rates of the 1D and of the 2D network, two stages of `bench.throughput`."""
    one, two = _stage_rates(name, read)
    return judged(name, one > 80 * two, {"one": one, "two": two, "times": one / two})


def _online(name: str, read: Records) -> Finding:
    (rate,) = _stage_rates(name, read)
    return judged(name, rate >= 1e6, {"rate": rate})


def _stage_rates(name: str, read: Records) -> list[float]:
    """Frames or vectors a second of the claim's stages of `bench.throughput`."""
    rates = {stage["name"]: stage["rate"]["median"] for stage in read("throughput-h200")["stages"]}
    return [rates[stage] for stage in WORDS[name]["stages"]]


def _feature_overlap(name: str, read: Records) -> Finding:
    apart = read("shown")["told_apart"]
    alone, dann = apart["source-only CNN"], apart["DANN"]
    told = (", ".join(f"{value:.1f}" for value in each.values()) for each in (alone, dann))
    figures = dict(zip(("alone", "dann"), told, strict=True))
    figures |= {"classes": ", ".join(dann), "alignment": _what_aligns(read("alignment"))}
    return judged(name, all(dann[word] < alone[word] for word in dann), figures)


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


def _maybes(name: str, read: Records) -> Finding:
    dann = read("shown")["told_apart"]["DANN"]
    if "maybe" not in dann:
        return untested(name, words_of(name, "paper"), words_of(name, "reason", few="too few"))
    apart = ", ".join(f"{word} {value:.1f} %" for word, value in dann.items())
    return judged(name, dann["maybe"] == max(dann.values()), {"apart": apart, "few": "few"})


def _curves(name: str, read: Records) -> Finding:
    late = read("shown")["late_accuracy"]
    label, domain = (late[key][1] - late[key][0] for key in ("label", "domain"))
    return judged(name, domain > 2 * label, late)


def _measured(name: str, read: Records, key: str, holds: Callable[..., bool]) -> Finding:
    """Judge what the paper says of transfer, RWD and DANN in a row of Table 6, by what was measured under a key."""
    values = [read("table6")[method][key] for method in MEASURED_METHODS]
    if None in values:
        raise KeyError(key)
    return judged(name, holds(*values), dict(zip(MEASURED_METHODS, values, strict=True)))


def _gan(name: str, read: Records) -> Finding:
    record = read("gan")
    counts = [cell["labels"] for cell in record["cells"]]
    least, most = min(counts), max(counts)

    def percents(kind: str, labels: int) -> list[float]:
        return _figures_of_cells(record, "balanced_accuracy", pretraining=kind, labels=labels)

    few, many = (
        {kind: float(np.mean(percents(kind, labels))) for kind in ("gan", "none", "source")}
        for labels in (least, most)
    )
    deviations = sum(spread(percents(kind, least)).deviation or 0 for kind in ("gan", "none"))
    figures = {"few": few, "many": many, "least": least, "most": most, "deviations": deviations}
    return judged(name, few["gan"] - few["none"] >= max(1, deviations), record | figures)


def _ensemble(name: str, read: Records) -> Finding:
    record = read("ensemble")
    balanced = _by_network(record, "balanced_accuracy")
    *members, vote = balanced
    best = max(members, key=lambda member: balanced[member])
    error = _by_network(record, "calibration_error")
    voted, alone = (
        {"balanced_accuracy": balanced[network], "calibration_error": error[network]}
        for network in (vote, best)
    )
    sets, seeds = (sorted({cell[key] for cell in record["cells"]}) for key in ("set", "seed"))
    figures: dict[str, Any] = {"vote": voted, "alone": alone, "best": best, "sets": ", ".join(sets)}
    for key in ("disagreement", "own_doubt"):
        figures[key] = float(np.mean(_figures_of_cells(record, key, network=vote)))
    figures["seeds"] = counted(len(seeds), "seeds")
    return judged(name, voted["balanced_accuracy"] > alone["balanced_accuracy"], figures)


def _particles(name: str, read: Records) -> Finding:
    balanced = _by_network(read("particles"), "balanced_accuracy", labels=200)
    best = max(balanced, key=lambda network: balanced[network])
    rejected = _figures_of_cells(read("particles"), "rejected", labels=200, network=best)
    figures = {kind: np.mean([each[kind] for each in rejected]) for kind in ("multiple", "none")}
    told = ", ".join(f"{network} {value:.1f}" for network, value in balanced.items())
    return judged(name, balanced[best] >= 90, figures | {"networks": told})


def _rwd_on_particles(name: str, read: Records) -> Finding:
    balanced = _by_network(read("particles"), "balanced_accuracy", labels=200)
    rows = next(value for network, value in balanced.items() if network.startswith("RWD"))
    best = max(balanced.values())
    return judged(name, rows < best, {"rows": rows, "best": best})


def _by_network(record: Any, figure: str, **about: Any) -> dict[str, float]:
    """Mean of a figure of every network's cells that have these values, in the order of the record."""
    networks = dict.fromkeys(cell["network"] for cell in record["cells"] if about.items() <= cell.items())
    return {
        name: float(np.mean(_figures_of_cells(record, figure, network=name, **about))) for name in networks
    }


def _figures_of_cells(record: Any, figure: str, **about: Any) -> list[Any]:
    """A figure of those cells of an experiment's record that have these values; a rate's is in per cent."""
    values = [cell[figure] for cell in record["cells"] if about.items() <= cell.items()]
    return [value.get("percent", value) if isinstance(value, dict) else value for value in values]


# What judges a claim of `claims.toml`, by its name.
BY_RECORDS: dict[str, Callable[[str, Records], Finding]] = {
    "plain_few": _plain,
    "plain_transfer": _plain,
    "plain_loss": _plain,
    "plain_dann": _plain,
    "vectors": _vectors,
    "speed_of_networks": _speeds,
    "speed_of_screening": _speeds,
    "overlap": _feature_overlap,
    "maybes": _maybes,
    "curves": _curves,
    "table6_labels": partial(_measured, key="labels", holds=lambda t, r, d: d < min(t, r)),
    "table6_training": partial(_measured, key="training_seconds", holds=lambda t, r, d: r < t < d),
    "table6_recall": partial(_measured, key="recall", holds=lambda t, r, d: d < min(t, r)),
    "table6_memory": partial(_measured, key="peak_memory_mib", holds=lambda t, r, d: r < t < d),
    "table6_speed": partial(_measured, key="frames_per_second", holds=lambda t, r, d: r > max(t, d)),
    "gan": _gan,
    "ensemble": _ensemble,
    "particles": _particles,
    "rwd_on_particles": _rwd_on_particles,
    "online": _online,
}
