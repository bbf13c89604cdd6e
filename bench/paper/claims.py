"""Every finding of the paper in one line: holds, does not hold or not tested, with figures and the reason.

The figures are those of a comparison's record (`bench.paper.record`) and of the experiments and benchmarks whose records lie
under `bench/results/`. Nothing is trained or measured here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sfxjax.training.published import TABLE_6

from .findings import FAILS, HOLDS, NOT_RUN, Finding, judged, untested
from .methods import METHODS, published_mean
from .outlook import STORED, feature_findings, outlook, plain_network, read_stored, speed_findings

# Two mean rates, or a method and a better one, are alike within so many points.
ALIKE = 2.0

STEM = "Our 2D network reads the extremes of spots' sums, which are made for spots, so few labels suffice."
UNITS = "What carries over is the scaling to each frame's noise; in LCN units, the paper's, it is lost."


def claims(record: Mapping[str, Any], stored: Path = STORED) -> list[Finding]:
    """Judge all that the paper found.

    Args:
        record: of a comparison.
        stored: folder with the records of experiments and benchmarks; what is missing there is not tested.
    """
    means = record["means"]
    gains = [
        "Balanced accuracy {:.1f} and {:.1f} without the reversal.".format(
            *(_mean(means, key + units, "balanced_accuracy") or np.nan for key in ("dann", "source_only"))
        )
        for units in ("", "_normalised")
    ]
    reasons = (
        STEM,
        "Nearly nothing is lost that could be won back: " + STEM[0].lower() + STEM[1:],
        "Both read heights scaled to each frame's noise.",
        UNITS,
        gains[0],
        "An eighth of the labels loses what 200 labels no longer lose.",
        "A base trained on another set knows spots already.",
        "One seed. Heights in LCN units differ from set to set.",
        f"One seed. {gains[1]}",
    )
    of_runs = [
        replace(Finding(**finding), reason=reason)
        for finding, reason in zip(record["findings"], reasons, strict=True)
    ]
    few, transfer, reduced, loss, dann, fewer, transfer_fewer, loss_lcn, dann_lcn = of_runs
    plain = plain_network(read_stored(stored, "plain"))
    return [
        _own_set(means),
        loss,
        loss_lcn,
        plain[2],
        _counter(means),
        untested(
            "GCN and LCN make training converge faster and the network more robust",
            "Every network here reads frames after both.",
        ),
        untested(
            "The central crop of 724x724 pixels keeps most of the spots that matter",
            "Simulated sets keep the crop alone.",
        ),
        few,
        fewer,
        plain[0],
        transfer,
        transfer_fewer,
        plain[1],
        untested(
            "Sets of the same instrument and detector share what transfer needs",
            "All three sets are simulated with one detector family, so there is no pair to compare with.",
        ),
        _vectors(record),
        reduced,
        *speed_findings(read_stored(stored, "throughput-h200")),
        dann,
        dann_lcn,
        plain[3],
        _below_transfer(means),
        *feature_findings(record.get("shown"), read_stored(stored, "alignment")),
        _no_target_labels(means),
        *_compared(record),
        *_carried(means),
        _comparable(means),
        *outlook(stored),
    ]


def count_verdicts(found: Sequence[Finding]) -> str:
    """Say how many findings hold, do not, and were not tested."""
    number = {verdict: sum(item.verdict == verdict for item in found) for verdict in (HOLDS, FAILS, NOT_RUN)}
    return f"Of {len(found)} findings {number[HOLDS]} hold here, {number[FAILS]} do not and {number[NOT_RUN]} are not tested."


def _mean(means: Mapping[str, Any], key: str, metric: str = "recall") -> float | None:
    found = means[key].get(metric)
    return found and found["value"]


def _published(key: str, figure: Callable[[Any], float] = lambda pair: pair.recall) -> float:
    value = published_mean(METHODS[key], figure)
    assert value is not None
    return value


def _balanced(pair: Any) -> float:
    return (pair.recall + pair.miss_accuracy) / 2


def _own_set(means: Mapping[str, Any]) -> Finding:
    claim = "A 2D CNN with 1200 labels does well on its own set"
    recall, misses = (_mean(means, "supervised", metric) for metric in ("recall", "miss_accuracy"))
    paper = f"recall {_published('supervised'):.1f}, misses {_published('supervised', lambda p: p.miss_accuracy):.1f}"
    if recall is None or misses is None:
        return untested(claim, "", paper)
    well = (recall + misses) / 2 >= _published("supervised", _balanced) - ALIKE
    return judged(claim, paper, f"recall {recall:.1f}, misses {misses:.1f}", well)


def _counter(means: Mapping[str, Any]) -> Finding:
    claim = "A CNN does better than a tuned hit finder (Ke et al., its reference 12)"
    network, counter = (_mean(means, key, "balanced_accuracy") for key in ("supervised", "spots"))
    if network is None or counter is None:
        return untested(claim, "")
    reason = "The labels of simulated sets are counts of visible spots, which is what a spot counter counts."
    ours = f"balanced accuracy of the 2D CNN {network:.1f}, of the spot counter {counter:.1f}"
    return judged(claim, "not quantified", ours, network > counter, reason)


def _vectors(record: Mapping[str, Any]) -> Finding:
    claim = "Row-wise decompositions of hits, maybes and misses look different (Fig. 8)"
    table = next(table for table in record["layout"] if table["key"] == "recalls")
    area = next(row for row in table["rows"] if row[0] == METHODS["reduced"].title)[-1]
    try:
        good = float(area) > 0.95
    except ValueError:
        return untested(claim, "", "shown")
    return judged(claim, "shown", f"area under ROC of the 1D CNN with 200 labels {area}", good)


def _below_transfer(means: Mapping[str, Any]) -> Finding:
    claim = "DANN, without a label of the target, stays below transfer with 200, in recall"
    dann, transfer = (_mean(means, key) for key in ("dann", "transfer"))
    paper = f"{_published('dann'):.1f} and {_published('transfer'):.1f}"
    if dann is None or transfer is None:
        return untested(claim, "", paper)
    misses = [_mean(means, key, "miss_accuracy") for key in ("dann", "transfer")]
    reason = f"It is below in accuracy on misses: {misses[0]:.1f} and {misses[1]:.1f}."
    return judged(claim, paper, f"{dann:.1f} and {transfer:.1f}", dann < transfer, reason)


def _no_target_labels(means: Mapping[str, Any]) -> Finding:
    claim = "So no label of the target is needed to know when to stop"
    dann = _mean(means, "dann", "balanced_accuracy")
    paper = f"balanced accuracy {_published('dann', _balanced):.1f}"
    if dann is None:
        return untested(claim, "", paper)
    reason = "The epoch kept and the calibration are chosen on source frames alone."
    good = dann >= _published("dann", _balanced)
    return judged(claim, paper, f"{dann:.1f}", good, reason)


def _compared(record: Mapping[str, Any]) -> list[Finding]:
    """Judge the order of the three methods in each row of Table 6 that can be measured."""
    measured, methods = record["table6"] or {}, ("transfer", "reduced", "dann")
    looks = {
        "Size of labels": ("labels", "{:.0f}", lambda t, r, d: d < min(t, r)),
        "Train": ("training_seconds", "{:.0f} s", lambda t, r, d: r < t < d),
        "Recall": ("recall", "{:.1f} %", lambda t, r, d: d < min(t, r)),
        "Resource consuming": ("peak_memory_mib", "{:.0f} MiB", lambda t, r, d: r < t < d),
        "Speed of prediction": ("frames_per_second", "{:.0f} frames/s", lambda t, r, d: r > max(t, d)),
    }
    found = []
    for words, said in TABLE_6.items():
        claim = f"Table 6, {words.lower()}: transfer {said.transfer}, RWD {said.reduced}, DANN {said.dann}"
        if words not in looks:
            found.append(
                untested(claim, "It is a judgement of a person's work; the seconds stand in Table 6.")
            )
            continue
        key, layout, holds = looks[words]
        values = [(measured.get(name) or {}).get(key) for name in methods]
        if None in values:
            found.append(untested(claim, ""))
            continue
        ours = ", ".join(layout.format(value) for value in values)
        reason = (
            "Of one pair, with frames pre-processed once and kept in memory; RWD reads one set, the others two."
            if words in ("Train", "Resource consuming")
            else ""
        )
        found.append(judged(claim, "the authors' judgement", ours, holds(*values), reason))
    return found


def _carried(means: Mapping[str, Any]) -> list[Finding]:
    found = []
    for suffix, told, reason in (
        ("", "", UNITS.split(";")[0] + ", which both have."),
        ("_normalised", ", its LCN units", "One seed; RWD loses accuracy on misses instead."),
    ):
        claim = f"RWD networks carry over to other sets better than 2D CNNs do, in recall (Table 7){told}"
        rows, frames = (_mean(means, key + suffix) for key in ("reduced_carried", "source_only"))
        paper = f"{_published('reduced_carried'):.1f} and {_published('source_only'):.1f}"
        if rows is None or frames is None:
            found.append(untested(claim, "", paper))
            continue
        balanced = [
            _mean(means, key + suffix, "balanced_accuracy") for key in ("reduced_carried", "source_only")
        ]
        ours = f"{rows:.1f} and {frames:.1f}; balanced accuracy {balanced[0]:.1f} and {balanced[1]:.1f}"
        found.append(judged(claim, paper, ours, rows > frames, reason))
    return found


def _comparable(means: Mapping[str, Any]) -> Finding:
    claim = "Weakly supervised methods do as well as full supervision, in balanced accuracy"
    keys = ("supervised", "transfer", "reduced", "dann")
    values = [_mean(means, key, "balanced_accuracy") for key in keys]
    paper = [_published(key, _balanced) for key in keys]

    def told(some: Sequence[float]) -> str:
        return f"2D CNN {some[0]:.1f}; transfer {some[1]:.1f}, RWD {some[2]:.1f}, DANN {some[3]:.1f}"

    known = [value for value in values if value is not None]
    if len(known) < len(keys):
        return untested(claim, "", told(paper))
    reason = (
        f"Within {ALIKE:.0f} points; the paper's own methods are up to {paper[0] - min(paper):.1f} apart."
    )
    return judged(claim, told(paper), told(known), min(known) >= known[0] - ALIKE, reason)
