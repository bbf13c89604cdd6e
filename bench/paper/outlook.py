"""Findings that experiments and benchmarks of their own answer: the plain network, Figs. 9 and 10, speed, the paper's outlook."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sfxjax.json_files import read_json
from sfxjax.training.published import FRAMES_PER_SECOND_2D, VECTORS_PER_SECOND_1D

from .findings import FAILS, HOLDS, Finding, judged, untested

STORED = Path(__file__).resolve().parents[1] / "results"

# The findings of `bench.experiments.plain`, in its order, and what is to be said of each.
_PLAIN = (
    ("200 labels from scratch lose recall against 1200", "It loses far less than the paper's."),
    ("transfer with 200 labels wins recall back", "It pays with misses: the balanced accuracy hardly gains."),
    (
        "the source-only CNN loses recall on the other set",
        "Carried over, it calls nearly every frame a hit, so it loses all misses instead.",
    ),
    (
        "DANN wins recall back on the other set",
        "It wins misses back and loses recall; there was no recall to win.",
    ),
)


class Answer(NamedTuple):
    """What an experiment says of a claim: our figures in words, whether it holds, and why."""

    ours: str
    holds: bool
    reason: str = ""


def read_stored(stored: Path, name: str) -> Any:
    """Return the record NAME.json of a folder, or None."""
    path = stored / f"{name}.json"
    return read_json(path) if path.exists() else None


def speed_findings(measured: Any) -> list[Finding]:
    """Judge the speeds of Section 3.4.2 by a record of `bench.throughput`."""
    claim = "The 1D CNN is more than 80 times as fast as the 2D CNN"
    paper = f"{VECTORS_PER_SECOND_1D:,} and {FRAMES_PER_SECOND_2D} a second on an A100, without and with pre-processing"
    rates = _rates(measured)
    if not {"1d-cnn", "2d-cnn", "screening-1d", "screening-2d"} <= rates.keys():
        return [untested(claim, "", paper)]
    vectors, frames, one, two = (rates[name] for name in ("1d-cnn", "2d-cnn", "screening-1d", "screening-2d"))
    return [
        judged(
            f"{claim}, networks alone",
            paper,
            f"{vectors:,.0f} and {frames:,.0f} a second on an H200: {vectors / frames:.0f} times",
            vectors > 80 * frames,
            "The 2D network scores each frame in eight orientations.",
        ),
        judged(
            f"{claim}, from a raw crop to a decision",
            "not measured: vectors were made outside the count",
            f"{one:,.0f} and {two:,.0f} a second: {one / two:.1f} times",
            one > 80 * two,
            "Pre-processing takes most of the time, and both need it.",
        ),
    ]


def feature_findings(shown: Any, measured: Any = None) -> list[Finding]:
    """Judge what Figs. 9 and 10 show.

    Args:
        shown: what `bench.paper.pictures.draw_runs` found while drawing them, or None.
        measured: record of `bench.experiments.alignment`, which has the reversal's strength 0 as well, or None.
    """
    overlap = "After DANN the features of both sets overlap more than the source-only network's (Fig. 9)"
    maybes = "Features of maybes differ most between the sets after DANN (Fig. 9)"
    curves = "Loss and accuracy of the label classifier come to a plateau, those of the domain classifier oscillate (Fig. 10)"
    if not shown:
        return [untested(claim, "", "shown") for claim in (overlap, maybes, curves)]
    alone, dann = shown["told_apart"]["source-only CNN"], shown["told_apart"]["DANN"]
    told = "; ".join(
        f"{name} {', '.join(f'{v:.1f}' for v in each.values())} %"
        for name, each in shown["told_apart"].items()
    )
    reason = (
        "50 % would be perfect overlap. Each set has batch statistics of its own and the domain classifier is small; which of "
        "them keeps the features apart was not measured."
    )
    if measured is not None:
        cells = [cell for cell in measured["cells"] if cell["network"].endswith("strength 0")]
        without = np.mean([list(cell["told_apart"].values()) for cell in cells])
        reason += f" Without the reversal, strength 0: {without:.1f} % in the mean."
    few = untested(maybes, "There are too few maybes to measure with.", "shown by t-SNE")
    label, domain = (shown["late_accuracy"][key] for key in ("label", "domain"))
    return [
        judged(
            overlap,
            "shown by t-SNE",
            f"told apart by a linear classifier ({', '.join(dann)}): {told}",
            all(dann[word] < alone[word] for word in dann),
            reason,
        ),
        few
        if "maybe" not in dann
        else judged(
            maybes,
            "shown by t-SNE",
            f"told apart: {', '.join(f'{word} {value:.1f} %' for word, value in dann.items())}",
            max(dann, key=lambda word: dann[word]) == "maybe",
            "There are few maybes to measure with.",
        ),
        judged(
            curves,
            "shown",
            f"after a third of the epochs the label accuracy stays between {label[0]:.0f} and {label[1]:.0f} %, the domain "
            f"accuracy swings between {domain[0]:.0f} and {domain[1]:.0f} %",
            domain[1] - domain[0] > 2 * (label[1] - label[0]),
        ),
    ]


def plain_network(measured: Any) -> list[Finding]:
    """Read the four findings of a plain network, in the order of `bench.experiments.plain`."""
    found = []
    for number, (words, reason) in enumerate(_PLAIN):
        claim = f"With a plain network as the paper's, {words}"
        if measured is None:
            found.append(untested(claim))
            continue
        answer = measured["findings"][number]
        ours = f"{answer['ours']} points of recall, {answer['ours_balanced']} of balanced accuracy"
        paper = f"{answer['paper']} and {answer['paper_balanced']}"
        about = f"One seed, frames binned {measured['binning']}x{measured['binning']}. "
        # Another word, such as that seeds disagree, is no "holds".
        verdict = HOLDS if answer["verdict"] == HOLDS else FAILS
        found.append(Finding(claim, paper, ours, verdict, about + reason))
    return found


def outlook(stored: Path) -> list[Finding]:
    """Judge what the paper names as its next steps, by the records in a folder."""
    asked: list[tuple[str, str, str, Callable[[Any], Answer | None]]] = [
        ("gan", "Unsupervised pre-training by a GAN saves labels (its reference 32)", "outlook", _gan),
        (
            "ensemble",
            "An ensemble of weak networks is better than one of them (its reference 33)",
            "outlook",
            _ensemble,
        ),
        (
            "particles",
            "Shots of single particles are found with 200 labels (its references 14, 34, 35)",
            "outlook",
            _particles,
        ),
        ("particles", "RWD may not do for other classification tasks", "said", _rwd_on_particles),
        ("throughput-h200", "RWD can screen online, at SHINE's million pulses a second", "outlook", _online),
    ]
    found = []
    for name, claim, paper, judge in asked:
        measured = read_stored(stored, name)
        answer = None if measured is None else judge(measured)
        found.append(untested(claim, "", paper) if answer is None else judged(claim, paper, *answer))
    return found


def _gan(measured: Any) -> Answer:
    def balanced(kind: str, labels: int) -> float:
        return _mean(measured, "balanced_accuracy", pretraining=kind, labels=labels)

    counts = sorted({cell["labels"] for cell in measured["cells"]})
    few = counts[0]
    ours = "; ".join(
        f"{labels} labels: GAN {balanced('gan', labels):.1f}, random weights {balanced('none', labels):.1f}, "
        f"labels of another set {balanced('source', labels):.1f}"
        for labels in (few, counts[-1])
    )
    return Answer(
        f"balanced accuracy with {ours}",
        balanced("gan", few) >= balanced("none", few) + 1,
        f"Held to one point over random weights with {few} labels. Pictures of {measured['side']}x{measured['side']} maxima, "
        f"{measured['steps']} steps: what two processor cores can train.",
    )


def _ensemble(measured: Any) -> Answer:
    *members, vote = dict.fromkeys(cell["network"] for cell in measured["cells"])
    balanced = {name: _mean(measured, "balanced_accuracy", network=name) for name in (*members, vote)}
    best = max(members, key=lambda name: balanced[name])
    own, disagreement = (_mean(measured, key, network=vote) for key in ("own_doubt", "disagreement"))
    errors = [_mean(measured, "calibration_error", network=name) for name in (vote, best)]
    sets, seeds = (sorted({cell[key] for cell in measured["cells"]}) for key in ("set", "seed"))
    return Answer(
        f"balanced accuracy of five {balanced[vote]:.1f}, of the best alone ({best}) {balanced[best]:.1f}",
        balanced[vote] > balanced[best],
        f"{', '.join(sets)}, {len(seeds)} seed{'s' * (len(seeds) > 1)}, 200 labels. Calibration error {errors[0]:.1f} against "
        f"{errors[1]:.1f} points, at five times the reductions and trainings. As a sign of errors disagreement is worth "
        f"{disagreement:.2f} (area under ROC), the vote's own doubt {own:.2f}.",
    )


def _particles(measured: Any) -> Answer:
    balanced = _on_particles(measured)
    best = max(balanced, key=lambda network: balanced[network])
    rejected = [c["rejected"] for c in measured["cells"] if (c["labels"], c["network"]) == (200, best)]
    several, empty = (np.mean([each[kind] for each in rejected]) for kind in ("multiple", "none"))
    told = ", ".join(f"{network} {value:.1f}" for network, value in balanced.items())
    return Answer(
        f"balanced accuracy, mean of two simulated sets: {told}",
        balanced[best] >= 90,
        f"Held to a balanced accuracy of 90. The best rejects {several:.1f} % of shots with several particles and "
        f"{empty:.1f} % of empty ones.",
    )


def _rwd_on_particles(measured: Any) -> Answer:
    balanced = _on_particles(measured)
    rows = next(value for network, value in balanced.items() if network.startswith("RWD"))
    best = max(balanced.values())
    return Answer(f"on single particles RWD {rows:.1f}, the best network {best:.1f}", rows < best)


def _on_particles(measured: Any) -> dict[str, float]:
    """Balanced accuracy of every network with 200 labels."""
    networks = dict.fromkeys(cell["network"] for cell in measured["cells"] if cell["labels"] == 200)
    return {name: _mean(measured, "balanced_accuracy", labels=200, network=name) for name in networks}


def _online(measured: Any) -> Answer | None:
    rate = _rates(measured).get("screening-1d")
    if rate is None:
        return None
    ours = f"{rate:,.0f} raw crops a second on one H200"
    reason = "It would take as many cards as the ratio says, and the frames have to reach them."
    return Answer(ours, rate >= 1e6, reason)


def _rates(measured: Any) -> dict[str, float]:
    """Frames or vectors a second by stage, of a record of `bench.throughput` or None."""
    return {stage["name"]: stage["rate"]["median"] for stage in (measured or {}).get("stages", [])}


def _mean(measured: Any, figure: str, **about: Any) -> float:
    """Mean of a figure over those cells of an experiment's record that have these values; a rate's is in per cent."""
    cells = [cell for cell in measured["cells"] if about.items() <= cell.items()]
    values = [cell[figure] for cell in cells]
    return float(np.mean([value["percent"] if isinstance(value, dict) else value for value in values]))
