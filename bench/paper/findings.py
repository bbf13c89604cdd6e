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

# Ends the keys of methods that read frames in LCN units.
AS_NORMALISED = "_normalised"
# Keys of the 2D CNN and of transfer by how many labels of the tested set they have.
BY_LABELS = {200: ("supervised_few", "transfer"), 25: ("supervised_fewer", "transfer_fewer")}
# A loss of recall of less than this is none, per cent.
LEAST_LOSS = 1.0
# Most of a loss is more than this share of it.
MOST = 0.5
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
    ours = [_loss_of_few(runs), _transfer(runs), _reduced(runs), _loss_abroad(runs), _dann(runs)]
    again = [_loss_of_few(runs, 25), _transfer(runs, 25)]
    return [*ours, *again, _loss_abroad(runs, AS_NORMALISED), _dann(runs, AS_NORMALISED)]


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


def _loss_of_few(runs: Sequence[TrainedRun], labels: int = 200) -> Finding:
    many, few = _recalls(runs, "supervised", BY_LABELS[labels][0])
    claim = f"{labels} labels from scratch lose recall against 1200"
    paper = _pair_text(*_published("supervised", "supervised_few")) + _of_200(labels)
    if many is None or few is None:
        return Finding(claim, paper, "", NOT_RUN)
    loss = f"{few.value - many.value:+.1f}{_partly(many)}"
    ours = f"1200 labels {_text(many)}, {labels} labels {_text(few)}: {loss}"
    return Finding(claim, paper, ours, _verdict(many.value - few.value >= LEAST_LOSS))


def _transfer(runs: Sequence[TrainedRun], labels: int = 200) -> Finding:
    claim = f"transfer with {labels} labels wins most of that loss back"
    many, few, transfer = _recalls(runs, "supervised", *BY_LABELS[labels])
    paper = _won_back(*_published("supervised", "supervised_few", "transfer")) + _of_200(labels)
    if many is None or few is None or transfer is None:
        return Finding(claim, paper, "", NOT_RUN)
    share = _share(many.value, few.value, transfer.value)
    ours = f"transfer {_text(transfer)}, between {_text(few)} and {_text(many)}: {_share_text(share)}{_partly(many)}"
    return Finding(claim, paper, ours, _verdict(share is not None and share > MOST))


def _of_200(labels: int) -> str:
    return "" if labels == 200 else " (with 200)"


def _reduced(runs: Sequence[TrainedRun]) -> Finding:
    claim = f"RWD and 1D CNN with 200 labels come within {NEAR:.0f} points of the 2D CNN with 1200, in recall"
    many, reduced = _recalls(runs, "supervised", "reduced")
    paper = _pair_text(*_published("supervised", "reduced"))
    if many is None or reduced is None:
        return Finding(claim, paper, "", NOT_RUN)
    balanced = [
        mean_of(runs, METHODS[key], percent("balanced_accuracy"), many.sets)
        for key in ("supervised", "reduced")
    ]
    ours = (
        f"2D CNN {_text(many)}, RWD {_text(reduced)}: {reduced.value - many.value:+.1f}; balanced accuracy "
        f"{_text(balanced[0])} and {_text(balanced[1])}{_partly(many)}"
    )
    return Finding(claim, paper, ours, _verdict(reduced.value >= many.value - NEAR))


def _loss_abroad(runs: Sequence[TrainedRun], variant: str = "") -> Finding:
    claim = f"the source-only CNN loses recall on the other sets{_on(variant)}"
    keys = f"supervised{variant}", f"source_only{variant}"
    own, abroad = _recalls(runs, *keys)
    paper = _pair_text(*_published(*keys))
    if own is None or abroad is None:
        return Finding(claim, paper, "", NOT_RUN)
    ours = f"own set {_text(own)}, other sets {_text(abroad)}: {abroad.value - own.value:+.1f}{_partly(own)}"
    return Finding(claim, paper, ours, _verdict(own.value - abroad.value >= LEAST_LOSS))


def _dann(runs: Sequence[TrainedRun], variant: str = "") -> Finding:
    claim = f"DANN wins most of that loss back{_on(variant)}"
    keys = f"supervised{variant}", f"source_only{variant}", f"dann{variant}"
    own, abroad, dann = _recalls(runs, *keys)
    paper = _won_back(*_published(*keys))
    if own is None or abroad is None or dann is None:
        return Finding(claim, paper, "", NOT_RUN)
    share = _share(own.value, abroad.value, dann.value)
    ours = f"DANN {_text(dann)}, between {_text(abroad)} and {_text(own)}: {_share_text(share)}{_partly(own)}"
    return Finding(claim, paper, ours, _verdict(share is not None and share > MOST))


def _on(variant: str) -> str:
    return ", its LCN units" if variant else ""


def _recalls(runs: Sequence[TrainedRun], *keys: str) -> list[Mean | None]:
    """Mean recalls of methods over the sets that all of them were tested on."""
    methods = [METHODS[key] for key in keys]
    sets = sets_of(runs, methods)
    return [
        mean_of(runs, method, percent("recall"), sets, TEST_FRAMES) if sets else None for method in methods
    ]


def _published(*keys: str) -> list[float]:
    values = [published_mean(METHODS[key], lambda pair: pair.recall) for key in keys]
    return [value for value in values if value is not None]


def _share(whole: float, lost: float, found: float) -> float | None:
    """Share of a loss that is won back; None where hardly anything was lost."""
    return None if whole - lost < LEAST_LOSS else (found - lost) / (whole - lost)


def _share_text(share: float | None) -> str:
    return "nothing was lost that could be won back" if share is None else f"{100 * share:.0f} % of the loss"


def _won_back(whole: float, lost: float, found: float) -> str:
    return f"{found:.1f}, between {lost:.1f} and {whole:.1f}: {_share_text(_share(whole, lost, found))}"


def _pair_text(first: float, second: float) -> str:
    return f"{first:.1f} and {second:.1f}: {second - first:+.1f}"


def _verdict(holds: bool) -> str:
    return HOLDS if holds else FAILS


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
