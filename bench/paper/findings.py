"""Does it reproduce? What the paper claims, what was measured here, and whether that holds, by the mean rates of the methods.

The words stand in `claims.toml`. All figures are means over sets (and pairs and seeds) on frames 1601-2000 of each set, which no
network was trained or validated on, unless a claim says otherwise. A claim whose runs are missing is `not tested`.
`bench.paper.claims` judges what other records answer, and puts everything in order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sfxjax.text import plus_minus
from sfxjax.toml_files import read_toml
from sfxjax.training.published import FRAMES_PER_SECOND_2D, SETS, VECTORS_PER_SECOND_1D, FrameRange

from .methods import METHODS, mean_of, published_mean
from .runs import METRICS, TrainedRun

HOLDS, FAILS, NOT_TESTED = "holds", "does not hold", "not tested"
WORDS = read_toml(Path(__file__).with_name("claims.toml"))

# Of `bench.paper.methods.means_of_methods`.
Means = Mapping[str, Mapping[str, Any]]
# A loss of recall of less than this is none, per cent.
LEAST_LOSS = 1.0
# Most of a loss is more than this fraction of it.
MOST_OF_A_LOSS = 0.5
# How near RWD must come to the 2D CNN, per cent.
NEAR = 2.0
# Two mean rates, or a method and a better one, are alike within so many points.
ALIKE = 2.0
# What the words may name beside the figures of a claim.
CONSTANTS = {
    "near": NEAR,
    "alike": ALIKE,
    "frames_per_second": FRAMES_PER_SECOND_2D,
    "vectors_per_second": VECTORS_PER_SECOND_1D,
}


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        claim: what is claimed.
        paper: the paper's figures for it.
        ours: what was measured, in words and figures; empty if not run.
        verdict: HOLDS, FAILS or NOT_TESTED.
        reason: why, as far as it is known; empty where nothing is to be added.
    """

    claim: str
    paper: str
    ours: str
    verdict: str
    reason: str = ""


class Figure(float):
    """A mean rate, per cent, written with its deviation over seeds if it has one; by a format such as `.1f` without it."""

    _text: str

    def __new__(cls, value: float, deviation: float | None = None) -> Figure:
        """Make one of a mean and its deviation."""
        made = super().__new__(cls, value)
        made._text = plus_minus(value, deviation)
        return made

    def __str__(self) -> str:
        return self._text


class Rates(NamedTuple):
    """Mean rates of a method."""

    recall: Figure
    misses: Figure
    balanced: Figure


def published_rates(key: str) -> Rates:
    """Return the paper's rates of a method, NaN where it has none; with fewer labels than 200, those with 200 stand beside."""
    method = METHODS[{"supervised_fewer": "supervised_few", "transfer_fewer": "transfer"}.get(key, key)]
    values = [published_mean(method, metric) for metric in METRICS]
    return Rates(*(Figure(math.nan if value is None else value) for value in values))


def _rates(means: Mapping[str, Any], sets: Sequence[str]) -> Rates:
    """Return a method's rates over some sets; the deviation is known over all of them alone."""
    if sets == SETS and all(means[metric]["value"] is not None for metric in METRICS):
        return Rates(*(Figure(means[metric]["value"], means[metric]["deviation"]) for metric in METRICS))
    return Rates(*(Figure(np.mean([means[metric]["sets"][name] for name in sets])) for metric in METRICS))


def common_sets(means: Means, keys: Sequence[str]) -> tuple[str, ...]:
    """Return the sets that all these methods have been tested on."""
    found = [means[key].get(metric, {"value": None, "sets": {}}) for key in keys for metric in METRICS]
    # Over all of them the mean is enough.
    if all(mean["value"] is not None for mean in found):
        return SETS
    return tuple(name for name in SETS if all(name in mean["sets"] for mean in found))


def _lost(whole: Rates, less: Rates) -> bool:
    return whole.recall - less.recall >= LEAST_LOSS


def _won_back(whole: Rates, less: Rates, more: Rates) -> float:
    """Fraction of a loss that is won back."""
    return (more.recall - less.recall) / (whole.recall - less.recall)


def _mostly_won_back(whole: Rates, less: Rates, more: Rates) -> bool:
    return _lost(whole, less) and _won_back(whole, less, more) > MOST_OF_A_LOSS


# Whether a claim of `claims.toml` holds, by the rates of the methods it is of. Two losses of recall and how far they are won
# back are judged a second time: with an eighth of the labels, since a network that needs fewer than the paper's has little to
# lose with as many; and on networks that read frames in LCN units, as the paper's do.
BY_RATES: dict[str, Callable[..., bool]] = {
    **dict.fromkeys(("few", "fewer", "loss", "loss_normalised"), _lost),
    **dict.fromkeys(("transfer", "transfer_fewer", "dann", "dann_normalised"), _mostly_won_back),
    **dict.fromkeys(("carried", "carried_normalised"), lambda rows, frames: rows.recall > frames.recall),
    "reduced": lambda many, rwd: rwd.recall >= many.recall - NEAR,
    "own_set": lambda many: many.balanced >= published_rates("supervised").balanced - ALIKE,
    "hit_finder": lambda many, spots: many.balanced > spots.balanced,
    "below_transfer": lambda dann, transfer: dann.recall < transfer.recall,
    "when_to_stop": lambda dann: dann.balanced >= published_rates("dann").balanced,
    "weakly_supervised": lambda many, *others: min(o.balanced for o in others) >= many.balanced - ALIKE,
}


def words_of(name: str, part: str, **figures: Any) -> str:
    """Return a part of a claim's words with figures filled in; empty where the claim has no such part."""
    return WORDS[name].get(part, "").format_map(CONSTANTS | figures)


def judged(name: str, holds: bool, figures: Mapping[str, Any], paper: str | None = None) -> Finding:
    """Return a finding that holds or does not, with our figures by their names in its words.

    The paper's are in its words too, unless they are given.
    """
    claim, theirs, ours, reason = (
        words_of(name, part, **figures) for part in ("claim", "paper", "ours", "reason")
    )
    return Finding(claim, theirs if paper is None else paper, ours, HOLDS if holds else FAILS, reason)


def untested(name: str, paper: str = "", reason: str = "") -> Finding:
    """Return a finding that was not tested."""
    return Finding(words_of(name, "claim"), paper, "", NOT_TESTED, reason)


def judged_by_rates(means: Means, name: str) -> Finding:
    """Judge a claim of `BY_RATES` over the sets that all of its methods were tested on, by their means."""
    keys = WORDS[name]["of"]
    published = _figures(keys, [published_rates(key) for key in keys])
    paper = words_of(name, "paper" if "paper" in WORDS[name] else "ours", **published)
    sets = common_sets(means, keys)
    if not sets:
        return untested(name, paper)
    rates = [_rates(means[key], sets) for key in keys]
    figures = _figures(keys, rates) | {"published": published}
    found = judged(name, BY_RATES[name](*rates), figures, paper)
    return found if sets == SETS else replace(found, ours=f"{found.ours} (on {', '.join(sets)} alone)")


def _figures(keys: Sequence[str], rates: Sequence[Rates]) -> dict[str, Any]:
    """Name the figures of methods: their rates, and how those of the others differ from the first."""
    figures: dict[str, Any] = dict(zip(keys, rates, strict=True))
    if len(rates) > 1:
        figures["change"] = rates[1].recall - rates[0].recall
        figures["lack"] = rates[0].balanced - min(other.balanced for other in rates[1:])
    if len(rates) == 3:
        whole, less, more = rates
        told = "nothing was lost that could be won back"
        if _lost(whole, less):
            told = f"{100 * _won_back(whole, less, more):.0f} % of the loss"
        figures["gain"] = f"{more.recall}, between {less.recall} and {whole.recall}: {told}"
    return figures


def goals(runs: Sequence[TrainedRun]) -> list[Finding]:
    """Judge the balanced accuracies that this project set itself to reach; of the paper's figures, the same means."""
    wanted: list[tuple[str, str, FrameRange, float]] = [
        ("2D CNN with 1200 labels on its own set, frames 1601-2000", "supervised", "last", 97.0),
        ("RWD and 1D CNN with 200 labels on its own set, frames 401-2000", "reduced", "after_few", 95.0),
        ("DANN on all frames of the target", "dann", "all", 93.0),
    ]
    reached = []
    for title, key, frames, least in wanted:
        claim = f"{title}: balanced accuracy at least {least:.0f} %"
        found = mean_of(runs, METHODS[key], "balanced_accuracy", frames=frames)
        verdict = NOT_TESTED if found is None else HOLDS if found.value >= least else FAILS
        ours = "" if found is None else str(found)
        reached.append(Finding(claim, str(published_rates(key).balanced), ours, verdict))
    return reached


def spot_counter_line(runs: Sequence[TrainedRun]) -> str:
    """Say how the spot counter fares without labels of the tested set beside the networks that have none either."""
    methods = [METHODS[key] for key in ("spots_carried", "dann", "source_only", "reduced_carried")]
    means = [(method.title, mean_of(runs, method, "balanced_accuracy")) for method in methods]
    told = "; ".join(f"{title} {mean}" for title, mean in means if mean is not None)
    return f"Balanced accuracy without labels of the tested set: {told}." if told else ""
