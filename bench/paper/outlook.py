"""Findings that experiments and benchmarks of their own answer: the plain network, Figs. 9 and 10, speed, the paper's outlook."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from sfxjax.training.published import FRAMES_PER_SECOND_2D, VECTORS_PER_SECOND_1D

from .findings import FAILS, HOLDS, Finding, judged, untested

STORED = Path(__file__).resolve().parents[1] / "results"


def read_stored(stored: Path, name: str) -> Any:
    """Return the record NAME.json of a folder, or None."""
    path = stored / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def speed_findings(measured: Any) -> list[Finding]:
    """Judge the speeds of Section 3.4.2 by a record of `bench.throughput`."""
    claim = "The 1D CNN is more than 80 times as fast as the 2D CNN"
    paper = f"{VECTORS_PER_SECOND_1D:,} and {FRAMES_PER_SECOND_2D} a second on an A100, without and with pre-processing"
    names = ("1d-cnn", "2d-cnn", "screening-1d", "screening-2d")
    rates = {s["name"]: s["rate"]["median"] for s in (measured or {}).get("stages", []) if s["name"] in names}
    if len(rates) < len(names):
        return [untested(claim, "", paper)]
    (vectors, frames, one, two) = (rates[name] for name in names)
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
    apart = shown["told_apart"]
    alone, dann = apart["source-only CNN"], apart["DANN"]
    told = "; ".join(
        f"{name} {', '.join(f'{v:.1f}' for v in each.values())} %" for name, each in apart.items()
    )
    reason = (
        "50 % would be perfect overlap. Each set has batch statistics of its own and the domain classifier is small; which of "
        "them keeps the features apart was not measured."
    )
    if measured is not None:
        without = [
            cell["told_apart"].values()
            for cell in measured["cells"]
            if cell["network"].endswith("strength 0")
        ]
        reason += f" Without the reversal, strength 0: {np.mean([list(each) for each in without]):.1f} % in the mean."
    (label_low, label_high), (domain_low, domain_high) = (
        shown["late_accuracy"][key] for key in ("label", "domain")
    )
    return [
        judged(
            overlap,
            "shown by t-SNE",
            f"told apart by a linear classifier ({', '.join(dann)}): {told}",
            all(dann[word] < alone[word] for word in dann),
            reason,
        ),
        judged(
            maybes,
            "shown by t-SNE",
            f"told apart: {', '.join(f'{word} {value:.1f} %' for word, value in dann.items())}",
            max(dann, key=lambda word: dann[word]) == "maybe",
            "There are few maybes to measure with.",
        )
        if "maybe" in dann
        else untested(maybes, "There are too few maybes to measure with.", "shown by t-SNE"),
        judged(
            curves,
            "shown",
            f"after a third of the epochs the label accuracy stays between {label_low:.0f} and {label_high:.0f} %, the domain "
            f"accuracy swings between {domain_low:.0f} and {domain_high:.0f} %",
            domain_high - domain_low > 2 * (label_high - label_low),
        ),
    ]


def plain_network(measured: Any) -> list[Finding]:
    """Read the four findings of a plain network, in the order of `bench.experiments.plain`."""
    texts = (
        ("200 labels from scratch lose recall against 1200", "It loses far less than the paper's."),
        (
            "transfer with 200 labels wins recall back",
            "It pays with misses: the balanced accuracy hardly gains.",
        ),
        (
            "the source-only CNN loses recall on the other set",
            "Carried over, it calls nearly every frame a hit, so it loses all misses instead.",
        ),
        (
            "DANN wins recall back on the other set",
            "It wins misses back and loses recall; there was no recall to win.",
        ),
    )
    found = []
    for number, (claim, reason) in enumerate(texts):
        claim = f"With a plain network as the paper's, {claim}"
        if measured is None:
            found.append(untested(claim, ""))
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
    """Judge what the paper names as its next steps."""
    throughput = read_stored(stored, "throughput-h200")
    rates = {s["name"]: s["rate"]["median"] for s in (throughput or {}).get("stages", [])}
    online = "RWD can screen online, at SHINE's million pulses a second"
    return [
        _gan(read_stored(stored, "gan")),
        _ensemble(read_stored(stored, "ensemble")),
        *_particles(read_stored(stored, "particles")),
        judged(
            online,
            "outlook",
            f"{rates['screening-1d']:,.0f} raw crops a second on one H200",
            rates["screening-1d"] >= 1e6,
            "It would take as many cards as the ratio says, and the frames have to reach them.",
        )
        if "screening-1d" in rates
        else untested(online, "", "outlook"),
    ]


def _over(cells: list[dict[str, Any]], value: Any) -> float:
    """Mean of a figure over records."""
    return float(np.mean([value(cell) for cell in cells]))


def _ensemble(measured: Any) -> Finding:
    claim = "An ensemble of weak networks is better than one of them (its reference 33)"
    if measured is None:
        return untested(claim, "", "outlook")
    by_network: dict[str, list[dict[str, Any]]] = {}
    for cell in measured["cells"]:
        by_network.setdefault(cell["network"], []).append(cell)
    *_, vote = by_network
    balanced = {
        name: _over(cells, lambda c: c["balanced_accuracy"]["percent"]) for name, cells in by_network.items()
    }
    best = max((name for name in by_network if name != vote), key=lambda name: balanced[name])
    own, disagreement = (
        _over(by_network[vote], lambda c, key=key: c[key]) for key in ("own_doubt", "disagreement")
    )
    errors = [_over(by_network[name], lambda c: c["calibration_error"]) for name in (vote, best)]
    sets, seeds = (sorted({cell[key] for cell in measured["cells"]}) for key in ("set", "seed"))
    reason = (
        f"{', '.join(sets)}, {len(seeds)} seed{'s' * (len(seeds) > 1)}, 200 labels. Calibration error {errors[0]:.1f} against "
        f"{errors[1]:.1f} points, at five times the reductions and trainings. As a sign of errors disagreement is worth "
        f"{disagreement:.2f} (area under ROC), the vote's own doubt {own:.2f}."
    )
    ours = f"balanced accuracy of five {balanced[vote]:.1f}, of the best alone ({best}) {balanced[best]:.1f}"
    return judged(claim, "outlook", ours, balanced[vote] > balanced[best], reason)


def _particles(measured: Any) -> list[Finding]:
    found = "Shots of single particles are found with 200 labels (its references 14, 34, 35)"
    general = "RWD may not do for other classification tasks"
    if measured is None:
        return [untested(found, "", "outlook"), untested(general)]
    few = [cell for cell in measured["cells"] if cell["labels"] == 200]
    balanced = {
        network: _over(
            [cell for cell in few if cell["network"] == network], lambda c: c["balanced_accuracy"]["percent"]
        )
        for network in dict.fromkeys(cell["network"] for cell in few)
    }
    best = max(balanced, key=lambda network: balanced[network])
    rows = next(value for network, value in balanced.items() if network.startswith("RWD"))
    told = ", ".join(f"{network} {value:.1f}" for network, value in balanced.items())
    chosen = [cell for cell in few if cell["network"] == best]
    several, empty = (
        _over(chosen, lambda c, kind=kind: c["rejected"][kind]) for kind in ("multiple", "none")
    )
    return [
        judged(
            found,
            "outlook",
            f"balanced accuracy, mean of two simulated sets: {told}",
            balanced[best] >= 90,
            f"Held to a balanced accuracy of 90. The best rejects {several:.1f} % of shots with several particles and "
            f"{empty:.1f} % of empty ones.",
        ),
        judged(
            general,
            "said",
            f"on single particles RWD {rows:.1f}, the best network {balanced[best]:.1f}",
            rows < balanced[best],
        ),
    ]


def _gan(measured: Any) -> Finding:
    claim = "Unsupervised pre-training by a GAN saves labels (its reference 32)"
    if measured is None:
        return untested(claim, "", "outlook")
    counts = sorted({cell["labels"] for cell in measured["cells"]})
    few, many = counts[0], counts[-1]

    def balanced(kind: str, labels: int) -> float:
        some = [c for c in measured["cells"] if (c["pretraining"], c["labels"]) == (kind, labels)]
        return _over(some, lambda c: c["balanced_accuracy"]["percent"])

    ours = "; ".join(
        f"{labels} labels: GAN {balanced('gan', labels):.1f}, random weights {balanced('none', labels):.1f}, "
        f"labels of another set {balanced('source', labels):.1f}"
        for labels in (few, many)
    )
    reason = (
        f"Held to one point over random weights with {few} labels. Pictures of {measured['side']}x{measured['side']} maxima, "
        f"{measured['steps']} steps: what two processor cores can train."
    )
    holds = balanced("gan", few) >= balanced("none", few) + 1
    return judged(claim, "outlook", f"balanced accuracy with {ours}", holds, reason)
