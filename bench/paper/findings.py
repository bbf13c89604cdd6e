"""Does it reproduce? What the paper found, what was measured here, and whether that holds, by the mean rates of the methods.

All figures are means over sets (and pairs and seeds) on frames 1601-2000 of each set, which no network was trained or
validated on, unless a finding says otherwise. A finding whose runs are missing is `not tested`. `bench.paper.claims` puts
them among all that the paper found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from sfxjax.training.published import SETS, FrameRange

from .methods import METHODS, mean_of, published_mean, rate_text
from .runs import METRICS, TrainedRun

HOLDS, FAILS, NOT_TESTED = "holds", "does not hold", "not tested"

# Of `bench.paper.methods.means_of_methods`.
Means = Mapping[str, Mapping[str, Any]]
# A loss of recall of less than this is none, per cent.
LEAST_LOSS = 1.0
# Most of a loss is more than this fraction of it.
MOST_OF_A_LOSS = 0.5
# How near RWD must come to the 2D CNN, per cent.
NEAR = 2.0


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


def judged(claim: str, paper: str, ours: str, holds: bool, reason: str = "") -> Finding:
    """Return a finding that holds or does not."""
    return Finding(claim, paper, ours, HOLDS if holds else FAILS, reason)


def untested(claim: str, reason: str = "", paper: str = "") -> Finding:
    """Return a finding that was not tested."""
    return Finding(claim, paper, "", NOT_TESTED, reason)


class Rates(NamedTuple):
    """Mean rates of a method, per cent, and two of them with their deviation over seeds, as texts."""

    recall: float
    misses: float
    balanced: float
    recall_text: str
    balanced_text: str


# What is said of the rates of some methods, in the order of their keys.
Said = Callable[..., str]


def published_rates(key: str) -> Rates:
    """Return the paper's rates of a method; with fewer labels than 200 it has none, and those with 200 stand beside."""
    key = {"supervised_fewer": "supervised_few", "transfer_fewer": "transfer"}.get(key, key)
    means = {metric: {"value": published_mean(METHODS[key], metric), "deviation": None} for metric in METRICS}
    return _rates(means, SETS)


def common_sets(means: Means, keys: Sequence[str]) -> tuple[str, ...]:
    """Return the sets that all these methods have been tested on."""
    found = [means[key].get(metric, {"value": None, "sets": {}}) for key in keys for metric in METRICS]
    # Over all of them the mean is enough.
    if all(mean["value"] is not None for mean in found):
        return SETS
    return tuple(name for name in SETS if all(name in mean["sets"] for mean in found))


def judged_by_rates(
    means: Means,
    claim: str,
    keys: Sequence[str],
    figures: Said,
    holds: Callable[..., bool],
    reason: str | Said = "",
    paper: str | Said | None = None,
) -> Finding:
    """Judge a claim on the rates of some methods, over the sets that all of them were tested on.

    Args:
        means: of the methods.
        claim: in words.
        keys: of the methods, in `bench.paper.methods.METHODS`.
        figures: says the rates.
        holds: tells by our rates whether the claim holds.
        reason: says why, by our rates.
        paper: says the paper's rates; None: as `figures`.
    """
    paper = paper if isinstance(paper, str) else (paper or figures)(*map(published_rates, keys))
    sets = common_sets(means, keys)
    if not sets:
        return untested(claim, "", paper)
    rates = [_rates(means[key], sets) for key in keys]
    partly = "" if sets == SETS else f" (on {', '.join(sets)} alone)"
    why = reason if isinstance(reason, str) else reason(*rates)
    return judged(claim, paper, figures(*rates) + partly, holds(*rates), why)


def _rates(means: Mapping[str, Any], sets: Sequence[str]) -> Rates:
    """Return a method's rates over some sets; the deviation is known over all of them alone."""
    if len(sets) < len(SETS) or any(mean["value"] is None for mean in means.values()):
        over = {metric: np.mean([mean["sets"][name] for name in sets]) for metric, mean in means.items()}
        means = {metric: {"value": float(value), "deviation": None} for metric, value in over.items()}
    recall, misses, balanced = (means[metric]["value"] for metric in METRICS)
    recall_text, _, balanced_text = (rate_text(means[m]["value"], means[m]["deviation"]) for m in METRICS)
    return Rates(recall, misses, balanced, recall_text, balanced_text)


def findings(means: Means) -> list[Finding]:
    """Judge the paper's five findings: two losses of recall that are won back, and RWD beside the 2D CNN.

    The first two are judged a second time with an eighth of the labels, since a network that needs fewer than the paper's has
    little to lose with as many; the last two on networks that read frames in LCN units, as the paper's do.
    """
    few, fewer = (
        _loss_and_gain(
            means,
            (
                f"{labels} labels from scratch lose recall against 1200",
                f"transfer with {labels} labels wins most of that loss back",
            ),
            ("supervised", f"supervised_{key}", transfer),
            ("1200 labels", f"{labels} labels", "transfer"),
            note,
        )
        for labels, key, transfer, note in (
            (200, "few", "transfer", ""),
            (25, "fewer", "transfer_fewer", " (with 200)"),
        )
    )
    own, lcn = (
        _loss_and_gain(
            means,
            (
                f"the source-only CNN loses recall on the other sets{units}",
                f"DANN wins most of that loss back{units}",
            ),
            (f"supervised{suffix}", f"source_only{suffix}", f"dann{suffix}"),
            ("own set", "other sets", "DANN"),
        )
        for suffix, units in (("", ""), ("_normalised", ", its LCN units"))
    )
    reduced = judged_by_rates(
        means,
        f"RWD and 1D CNN with 200 labels come within {NEAR:.0f} points of the 2D CNN with 1200, in recall",
        ("supervised", "reduced"),
        lambda many, rwd: (
            f"2D CNN {many.recall_text}, RWD {rwd.recall_text}: {rwd.recall - many.recall:+.1f}; balanced accuracy "
            f"{many.balanced_text} and {rwd.balanced_text}"
        ),
        lambda many, rwd: rwd.recall >= many.recall - NEAR,
        paper=_change,
    )
    return [*few, reduced, *own, *fewer, *lcn]


def _loss_and_gain(
    means: Means,
    claims: tuple[str, str],
    keys: tuple[str, str, str],
    words: tuple[str, str, str],
    note: str = "",
) -> list[Finding]:
    """Judge whether recall is lost from the first method to the second, and whether the third wins most of it back."""
    return [
        judged_by_rates(
            means,
            claims[0],
            keys[:2],
            lambda whole, less: (
                f"{words[0]} {whole.recall_text}, {words[1]} {less.recall_text}: {less.recall - whole.recall:+.1f}"
            ),
            lambda whole, less: less.recall - whole.recall <= -LEAST_LOSS,
            paper=lambda *rates: _change(*rates) + note,
        ),
        judged_by_rates(
            means,
            claims[1],
            keys,
            lambda *rates: f"{words[2]} {_gain(*rates)}",
            lambda *rates: (_won_back(*rates) or 0) > MOST_OF_A_LOSS,
            paper=lambda *rates: _gain(*rates) + note,
        ),
    ]


def _change(first: Rates, second: Rates) -> str:
    return f"{first.recall:.1f} and {second.recall:.1f}: {second.recall - first.recall:+.1f}"


def _gain(whole: Rates, less: Rates, more: Rates) -> str:
    won = _won_back(whole, less, more)
    told = "nothing was lost that could be won back" if won is None else f"{100 * won:.0f} % of the loss"
    return f"{more.recall_text}, between {less.recall_text} and {whole.recall_text}: {told}"


def _won_back(whole: Rates, less: Rates, more: Rates) -> float | None:
    """Fraction of a loss that is won back; None where hardly anything was lost."""
    lost = whole.recall - less.recall
    return None if lost < LEAST_LOSS else (more.recall - less.recall) / lost


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
        paper = published_rates(key).balanced_text
        found = mean_of(runs, METHODS[key], "balanced_accuracy", frames=frames)
        reached.append(
            judged(claim, paper, str(found), found.value >= least) if found else untested(claim, "", paper)
        )
    return reached


def spot_counter_line(runs: Sequence[TrainedRun]) -> str:
    """Say how the spot counter fares without labels of the tested set beside the networks that have none either."""
    methods = [METHODS[key] for key in ("spots_carried", "dann", "source_only", "reduced_carried")]
    means = [(method.title, mean_of(runs, method, "balanced_accuracy")) for method in methods]
    told = "; ".join(f"{title} {mean}" for title, mean in means if mean is not None)
    return f"Balanced accuracy without labels of the tested set: {told}." if told else ""
