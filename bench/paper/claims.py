"""Every finding of the paper in one line: holds, does not hold or not tested, with figures and the reason.

The figures are those of a comparison's record (`bench.paper.record`) and of the experiments and benchmarks whose records lie
under `bench/results/`. Nothing is trained or measured here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sfxjax.training.published import TABLE_6

from .findings import (
    FAILS,
    HOLDS,
    NOT_TESTED,
    Finding,
    judged,
    judged_by_rates,
    published_rates,
    untested,
)
from .methods import MEASURED_METHODS, METHODS
from .outlook import (
    STORED,
    Answer,
    feature_findings,
    judged_by_record,
    outlook,
    plain_network,
    read_stored,
    speed_findings,
)
from .table_layout import NOT_RUN

_UNITS = "What carries over is the scaling to each frame's noise"
# Two mean rates, or a method and a better one, are alike within so many points.
ALIKE = 2.0
# Rows of Table 6 that can be measured: key of `bench.paper.measured`, how it is written, and what the paper's words say of
# transfer, RWD and DANN.
_TABLE_6: dict[str, tuple[str, str, Callable[[float, float, float], bool]]] = {
    "Size of labels": ("labels", "{:.0f}", lambda t, r, d: d < min(t, r)),
    "Train": ("training_seconds", "{:.0f} s", lambda t, r, d: r < t < d),
    "Recall": ("recall", "{:.1f} %", lambda t, r, d: d < min(t, r)),
    "Resource consuming": ("peak_memory_mib", "{:.0f} MiB", lambda t, r, d: r < t < d),
    "Speed of prediction": ("frames_per_second", "{:.0f} frames/s", lambda t, r, d: r > max(t, d)),
}


def claims(record: Mapping[str, Any], stored: Path = STORED) -> list[Finding]:
    """Judge all that the paper found.

    Args:
        record: of a comparison.
        stored: folder with the records of experiments and benchmarks; what is missing there is not tested.
    """
    few, transfer, reduced, loss, dann, fewer, transfer_fewer, loss_lcn, dann_lcn = _of_runs(record)
    plain = plain_network(stored)
    by_rates = partial(judged_by_rates, record["means"])
    supervised = published_rates("supervised").balanced
    lowest = min(published_rates(key).balanced for key in MEASURED_METHODS)
    return [
        by_rates(
            "A 2D CNN with 1200 labels does well on its own set",
            ["supervised"],
            lambda many: f"recall {many.recall:.1f}, misses {many.misses:.1f}",
            lambda many: many.balanced >= supervised - ALIKE,
        ),
        loss,
        loss_lcn,
        plain[2],
        by_rates(
            "A CNN does better than a tuned hit finder (Ke et al., its reference 12)",
            ["supervised", "spots"],
            lambda many, spots: (
                f"balanced accuracy of the 2D CNN {many.balanced:.1f}, of the spot counter {spots.balanced:.1f}"
            ),
            lambda many, spots: many.balanced > spots.balanced,
            "The labels of simulated sets are counts of visible spots, which is what a spot counter counts.",
            "not quantified",
        ),
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
        *speed_findings(stored),
        dann,
        dann_lcn,
        plain[3],
        by_rates(
            "DANN, without a label of the target, stays below transfer with 200, in recall",
            ["dann", "transfer"],
            lambda dann, transfer: f"{dann.recall:.1f} and {transfer.recall:.1f}",
            lambda dann, transfer: dann.recall < transfer.recall,
            lambda dann, transfer: (
                f"It is below in accuracy on misses: {dann.misses:.1f} and {transfer.misses:.1f}."
            ),
        ),
        *feature_findings(record.get("shown"), read_stored(stored, "alignment")),
        by_rates(
            "So no label of the target is needed to know when to stop",
            ["dann"],
            lambda dann: f"{dann.balanced:.1f}",
            lambda dann: dann.balanced >= published_rates("dann").balanced,
            "The epoch kept and the calibration are chosen on source frames alone.",
            lambda dann: f"balanced accuracy {dann.balanced:.1f}",
        ),
        *_compared(record),
        *(
            by_rates(
                f"RWD networks carry over to other sets better than 2D CNNs do, in recall (Table 7){units}",
                [f"reduced_carried{suffix}", f"source_only{suffix}"],
                lambda rows, frames: (
                    f"{rows.recall:.1f} and {frames.recall:.1f}; balanced accuracy {rows.balanced:.1f} and "
                    f"{frames.balanced:.1f}"
                ),
                lambda rows, frames: rows.recall > frames.recall,
                reason,
                lambda rows, frames: f"{rows.recall:.1f} and {frames.recall:.1f}",
            )
            for suffix, units, reason in (
                ("", "", f"{_UNITS}, which both have."),
                ("_normalised", ", its LCN units", "One seed; RWD loses accuracy on misses instead."),
            )
        ),
        by_rates(
            "Weakly supervised methods do as well as full supervision, in balanced accuracy",
            ["supervised", *MEASURED_METHODS],
            lambda many, transfer, rwd, dann: (
                f"2D CNN {many.balanced:.1f}; transfer {transfer.balanced:.1f}, RWD {rwd.balanced:.1f}, "
                f"DANN {dann.balanced:.1f}"
            ),
            lambda many, *others: min(other.balanced for other in others) >= many.balanced - ALIKE,
            f"Within {ALIKE:.0f} points; the paper's own methods are up to {supervised - lowest:.1f} apart.",
        ),
        *outlook(stored),
    ]


def count_verdicts(found: Sequence[Finding]) -> str:
    """Say how many findings hold, do not, and were not tested."""
    number = {
        verdict: sum(item.verdict == verdict for item in found) for verdict in (HOLDS, FAILS, NOT_TESTED)
    }
    return f"Of {len(found)} findings {number[HOLDS]} hold here, {number[FAILS]} do not and {number[NOT_TESTED]} are not tested."


def _of_runs(record: Mapping[str, Any]) -> list[Finding]:
    """Give the findings of a record their reasons, in the order of `bench.paper.findings.findings`."""
    gains = []
    for suffix in ("", "_normalised"):
        known = [record["means"][key + suffix].get("balanced_accuracy") for key in ("dann", "source_only")]
        rates = [f"{mean['value']:.1f}" for mean in known if mean and mean["value"] is not None]
        gains.append(
            f"Balanced accuracy {rates[0]} and {rates[1]} without the reversal." if len(rates) == 2 else ""
        )
    reasons = (
        "Our 2D network reads the extremes of spots' sums, which are made for spots, so few labels suffice.",
        "Nearly nothing is lost that could be won back: our 2D network reads the extremes of spots' sums, which are made for "
        "spots, so few labels suffice.",
        "Both read heights scaled to each frame's noise.",
        f"{_UNITS}; in LCN units, the paper's, it is lost.",
        gains[0],
        "An eighth of the labels loses what 200 labels no longer lose.",
        "A base trained on another set knows spots already.",
        "One seed. Heights in LCN units differ from set to set.",
        f"One seed. {gains[1]}".rstrip(),
    )
    found = [Finding(**finding) for finding in record["findings"]]
    pairs = zip(found, reasons, strict=True)
    return [item if item.verdict == NOT_TESTED else replace(item, reason=reason) for item, reason in pairs]


def _vectors(record: Mapping[str, Any]) -> Finding:
    claim = "Row-wise decompositions of hits, maybes and misses look different (Fig. 8)"
    table = next(table for table in record["layout"] if table["key"] == "recalls")
    area = next(row for row in table["rows"] if row[0] == METHODS["reduced"].title)[-1]
    if area == NOT_RUN:
        return untested(claim, "", "shown")
    ours = f"area under ROC of the 1D CNN with 200 labels {area}"
    return judged(claim, "shown", ours, float(area) > 0.95)


def _compared(record: Mapping[str, Any]) -> list[Finding]:
    """Judge the order of the three methods in each row of Table 6 that can be measured."""

    def judge(words: str, measured: Any) -> Answer:
        key, layout, holds = _TABLE_6[words]
        values = [measured[name][key] for name in MEASURED_METHODS]
        if None in values:
            raise KeyError(key)
        reason = (
            "Of one pair, with frames pre-processed once and kept in memory; RWD reads one set, the others two."
            if words in ("Train", "Resource consuming")
            else ""
        )
        return Answer(", ".join(layout.format(value) for value in values), holds(*values), reason)

    found = []
    for words, said in TABLE_6.items():
        claim = f"Table 6, {words.lower()}: transfer {said.transfer}, RWD {said.reduced}, DANN {said.dann}"
        if words in _TABLE_6:
            by = partial(judge, words)
            found.append(judged_by_record(record["table6"] or {}, claim, by, "the authors' judgement"))
        else:
            reason = "It is a judgement of a person's work; the seconds stand in Table 6."
            found.append(untested(claim, reason))
    return found
