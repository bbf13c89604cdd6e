"""Does it reproduce? What the paper found, what was measured here, and whether that holds.

All figures are means over sets (and pairs and seeds) on frames 1601-2000 of each set, which no network was trained or
validated on, unless a finding says otherwise. A finding whose runs are missing is `not tested`. `bench.paper.claims` puts
them among all that the paper found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sfxjax.training.published import SETS, FrameRange

from .methods import METHODS, TEST_FRAMES, Mean, mean_of, percent, published_mean, sets_of
from .runs import TrainedRun

HOLDS, FAILS, NOT_RUN = "holds", "does not hold", "not tested"

# A loss of recall, and a method that wins it back: both claims, the keys of three methods, and their words for readers.
COMPARED_METHODS = (
    (
        (
            "200 labels from scratch lose recall against 1200",
            "transfer with 200 labels wins most of that loss back",
        ),
        ("supervised", "supervised_few", "transfer"),
        ("1200 labels", "200 labels", "transfer"),
    ),
    (
        ("the source-only CNN loses recall on the other sets", "DANN wins most of that loss back"),
        ("supervised", "source_only", "dann"),
        ("own set", "other sets", "DANN"),
    ),
    (
        (
            "25 labels from scratch lose recall against 1200",
            "transfer with 25 labels wins most of that loss back",
        ),
        ("supervised", "supervised_fewer", "transfer_fewer"),
        ("1200 labels", "25 labels", "transfer"),
    ),
    (
        (
            "the source-only CNN loses recall on the other sets, its LCN units",
            "DANN wins most of that loss back, its LCN units",
        ),
        ("supervised_normalised", "source_only_normalised", "dann_normalised"),
        ("own set", "other sets", "DANN"),
    ),
)
# With fewer labels the paper has no figures; those with 200 stand beside.
WITH_200 = {"supervised_fewer": "supervised_few", "transfer_fewer": "transfer"}
# A loss of recall of less than this is none, per cent.
LEAST_LOSS = 1.0
# Most of a loss is more than this share of it.
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
        verdict: HOLDS, FAILS or NOT_RUN.
        reason: why, as far as it is known; empty where nothing is to be added.
    """

    claim: str
    paper: str
    ours: str
    verdict: str
    reason: str = ""


def findings(runs: Sequence[TrainedRun]) -> list[Finding]:
    """Judge the paper's five findings by the runs there are.

    The first two are judged a second time with an eighth of the labels, since a network that needs fewer than the paper's has
    little to lose with as many; the last two on networks that read frames in LCN units, as the paper's do.

    Args:
        runs: all there are.
    """
    few, own, fewer, lcn = ([_loss(runs, *each), _won_back(runs, *each)] for each in COMPARED_METHODS)
    return [*few, _reduced(runs), *own, *fewer, *lcn]


def goals(runs: Sequence[TrainedRun]) -> list[Finding]:
    """Judge the balanced accuracies that this project set itself to reach; of the paper's figures, the same means."""
    wanted: list[tuple[str, str, FrameRange, float]] = [
        ("2D CNN with 1200 labels on its own set, frames 1601-2000", "supervised", "last", 97.0),
        ("RWD and 1D CNN with 200 labels on its own set, frames 401-2000", "reduced", "after_few", 95.0),
        ("DANN on all frames of the target", "dann", "all", 93.0),
    ]
    judged = []
    for title, key, frames, least in wanted:
        method = METHODS[key]
        found = mean_of(runs, method, percent("balanced_accuracy"), frames=frames)
        paper = published_mean(method, lambda pair: (pair.recall + pair.miss_accuracy) / 2)
        verdict = NOT_RUN if found is None else HOLDS if found.value >= least else FAILS
        judged.append(
            Finding(
                f"{title}: balanced accuracy at least {least:.0f} %", f"{paper:.1f}", _text(found), verdict
            )
        )
    return judged


def spot_counter_line(runs: Sequence[TrainedRun]) -> str:
    """Say how the spot counter fares without labels of the tested set beside the networks that have none either."""
    keys = ("spots_carried", "dann", "source_only", "reduced_carried")
    means = {key: mean_of(runs, METHODS[key], percent("balanced_accuracy")) for key in keys}
    told = [f"{METHODS[key].title} {_text(mean)}" for key, mean in means.items() if mean is not None]
    return f"Balanced accuracy without labels of the tested set: {'; '.join(told)}." if told else ""


def _loss(
    runs: Sequence[TrainedRun], claims: tuple[str, str], keys: tuple[str, ...], words: tuple[str, ...]
) -> Finding:
    whole, lost = _recalls(runs, *keys[:2])
    paper = _pair_text(*_published(*keys[:2])) + _of_200(keys)
    if whole is None or lost is None:
        return untested(claims[0], "", paper)
    change = lost.value - whole.value
    ours = f"{words[0]} {_text(whole)}, {words[1]} {_text(lost)}: {change:+.1f}{_partly(whole)}"
    return judged(claims[0], paper, ours, change <= -LEAST_LOSS)


def _won_back(
    runs: Sequence[TrainedRun], claims: tuple[str, str], keys: tuple[str, ...], words: tuple[str, ...]
) -> Finding:
    whole, lost, won = _recalls(runs, *keys)
    first, second, third = _published(*keys)
    paper = f"{third:.1f}, between {second:.1f} and {first:.1f}: {_share_text(_share(first, second, third))}{_of_200(keys)}"
    if whole is None or lost is None or won is None:
        return untested(claims[1], "", paper)
    share = _share(whole.value, lost.value, won.value)
    ours = f"{words[2]} {_text(won)}, between {_text(lost)} and {_text(whole)}: {_share_text(share)}{_partly(whole)}"
    return judged(claims[1], paper, ours, share is not None and share > MOST_OF_A_LOSS)


def _reduced(runs: Sequence[TrainedRun]) -> Finding:
    claim = f"RWD and 1D CNN with 200 labels come within {NEAR:.0f} points of the 2D CNN with 1200, in recall"
    keys = "supervised", "reduced"
    many, reduced = _recalls(runs, *keys)
    paper = _pair_text(*_published(*keys))
    if many is None or reduced is None:
        return untested(claim, "", paper)
    balanced = [mean_of(runs, METHODS[key], percent("balanced_accuracy"), many.sets) for key in keys]
    ours = (
        f"2D CNN {_text(many)}, RWD {_text(reduced)}: {reduced.value - many.value:+.1f}; balanced accuracy "
        f"{_text(balanced[0])} and {_text(balanced[1])}{_partly(many)}"
    )
    return judged(claim, paper, ours, reduced.value >= many.value - NEAR)


def _recalls(runs: Sequence[TrainedRun], *keys: str) -> list[Mean | None]:
    """Mean recalls of methods over the sets that all of them were tested on."""
    methods = [METHODS[key] for key in keys]
    sets = sets_of(runs, methods)
    return [
        mean_of(runs, method, percent("recall"), sets, TEST_FRAMES) if sets else None for method in methods
    ]


def _published(*keys: str) -> list[float]:
    values = [published_mean(METHODS[WITH_200.get(key, key)], lambda pair: pair.recall) for key in keys]
    return [value for value in values if value is not None]


def _of_200(keys: Sequence[str]) -> str:
    return " (with 200)" if WITH_200.keys() & set(keys) else ""


def _share(whole: float, lost: float, found: float) -> float | None:
    """Share of a loss that is won back; None where hardly anything was lost."""
    return None if whole - lost < LEAST_LOSS else (found - lost) / (whole - lost)


def _share_text(share: float | None) -> str:
    return "nothing was lost that could be won back" if share is None else f"{100 * share:.0f} % of the loss"


def _pair_text(first: float, second: float) -> str:
    return f"{first:.1f} and {second:.1f}: {second - first:+.1f}"


def _text(mean: Mean | None) -> str:
    if mean is None:
        return ""
    return f"{mean.value:.1f}" if mean.deviation is None else f"{mean.value:.1f} ± {mean.deviation:.1f}"


def _partly(mean: Mean) -> str:
    return "" if mean.sets == SETS else f" (on {', '.join(mean.sets)} alone)"


def judged(claim: str, paper: str, ours: str, holds: bool, reason: str = "") -> Finding:
    """Return a finding that holds or does not."""
    return Finding(claim, paper, ours, HOLDS if holds else FAILS, reason)


def untested(claim: str, reason: str = "", paper: str = "") -> Finding:
    """Return a finding that was not tested."""
    return Finding(claim, paper, "", NOT_RUN, reason)
