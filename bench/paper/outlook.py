"""Findings that experiments and benchmarks of their own answer: the plain network, Figs. 9 and 10, speed, the paper's outlook."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sfxjax.json_files import read_json
from sfxjax.training.published import FRAMES_PER_SECOND_2D, VECTORS_PER_SECOND_1D

from .findings import HOLDS, Finding, judged, untested

STORED = Path(__file__).resolve().parents[1] / "results"


class Answer(NamedTuple):
    """What a record says of a claim: our figures in words, whether it holds, and why."""

    ours: str
    holds: bool
    reason: str = ""


def read_stored(stored: Path, name: str) -> Any:
    """Return the record NAME.json of a folder; empty where there is none."""
    path = stored / f"{name}.json"
    return read_json(path) if path.exists() else {}


def judged_by_record(
    record: Any, claim: str, judge: Callable[[Any], Answer], paper: str = "outlook", unclear: str = ""
) -> Finding:
    """Judge a claim by a record; where that lacks what is needed the claim is not tested.

    Args:
        record: of an experiment or a benchmark.
        claim: in words.
        judge: answers by the record; it raises a KeyError where a value is missing.
        paper: what the paper says of it.
        unclear: the reason where it is not tested.
    """
    try:
        return judged(claim, paper, *judge(record))
    except KeyError:
        return untested(claim, unclear, paper)


def outlook(stored: Path) -> list[Finding]:
    """Judge what the paper names as its next steps, by the records in a folder."""
    read = partial(read_stored, stored)
    found = "Shots of single particles are found with 200 labels (its references 14, 34, 35)"
    best = "An ensemble of weak networks is better than one of them (its reference 33)"
    return [
        judged_by_record(
            read("gan"), "Unsupervised pre-training by a GAN saves labels (its reference 32)", _gan
        ),
        judged_by_record(read("ensemble"), best, _ensemble),
        judged_by_record(read("particles"), found, _particles),
        judged_by_record(
            read("particles"), "RWD may not do for other classification tasks", _rwd_on_particles, "said"
        ),
        judged_by_record(
            read("throughput-h200"), "RWD can screen online, at SHINE's million pulses a second", _online
        ),
    ]


def speed_findings(stored: Path) -> list[Finding]:
    """Judge the speeds of the paper's Section 3.4.2 by the record of `bench.throughput` in a folder."""
    claim = "The 1D CNN is more than 80 times as fast as the 2D CNN"
    paper = f"{VECTORS_PER_SECOND_1D:,} and {FRAMES_PER_SECOND_2D} a second on an A100, without and with pre-processing"
    whole = "not measured: vectors were made outside the count"
    record = read_stored(stored, "throughput-h200")
    return [
        judged_by_record(record, f"{claim}, networks alone", _speed_of_networks, paper),
        judged_by_record(record, f"{claim}, from a raw crop to a decision", _speed_of_screening, whole),
    ]


# What tells a network that orders frames wrongly from one whose threshold moves, by the number of the plain network's finding.
COMPARED_AREAS = {
    2: {
        "many": "own set",
        "source_only": "the other set",
        "statistics": "with that set's batch statistics",
    },
    3: {"source_only": "before", "dann": "after DANN"},
}


def plain_network(stored: Path) -> list[Finding]:
    """Judge the four findings of `bench.experiments.plain`, in its order, by its record in a folder."""
    claims = {
        "200 labels from scratch lose recall against 1200": "It loses far less than the paper's.",
        "transfer with 200 labels wins recall back": "It pays with misses: the balanced accuracy hardly gains.",
        "the source-only CNN loses recall on the other set": "Carried over, it calls nearly every frame a hit, so it loses "
        "all misses instead.",
        "DANN wins recall back on the other set": "It wins misses back and loses recall; there was no recall to win.",
    }
    record = read_stored(stored, "plain")
    found = []
    for number, (words, reason) in enumerate(claims.items()):
        claim = f"With a plain network as the paper's, {words}"
        if not record:
            found.append(untested(claim))
            continue
        answer = record["findings"][number]
        ours = f"{answer['ours']} points of recall, {answer['ours_balanced']} of balanced accuracy"
        paper = f"{answer['paper']} and {answer['paper_balanced']}"
        seeds = len({cell["seed"] for cell in record["cells"]})
        about = f"{'One seed' if seeds == 1 else f'{seeds} seeds'}, frames binned {record['binning']}x{record['binning']}. "
        reason += _areas(record["cells"], COMPARED_AREAS.get(number, {}))
        # Another word, such as that seeds disagree, is no "holds".
        found.append(judged(claim, paper, ours, answer["verdict"] == HOLDS, about + reason))
    return found


def _areas(cells: Sequence[Mapping[str, Any]], rows: Mapping[str, str]) -> str:
    """Write the mean areas under the ROC curve of rows of the plain network's record, which no threshold decides.

    Args:
        cells: of the record.
        rows: what each is called, by its name in the record.
    """
    found = {
        words: [cell["area_under_curve"] for cell in cells if cell["row"] == row]
        for row, words in rows.items()
    }
    told = ", ".join(f"{words} {np.mean(values):.3f}" for words, values in found.items() if values)
    return f" Area under ROC, whatever the threshold: {told}." if told else ""


def feature_findings(shown: Any, alignment: Any = None) -> list[Finding]:
    """Judge what Figs. 9 and 10 show.

    Args:
        shown: what `bench.paper.feature_figures.draw_runs` found while drawing them, or None.
        alignment: record of `bench.experiments.alignment`, which has the reversal's strength 0 as well, or None.
    """

    def overlap(shown: Any) -> Answer:
        networks = shown["told_apart"]
        alone, dann = networks["source-only CNN"], networks["DANN"]
        told = "; ".join(
            f"{name} {', '.join(f'{v:.1f}' for v in each.values())} %" for name, each in networks.items()
        )
        reason = "50 % would be perfect overlap."
        if alignment:
            reason += f" {_what_aligns(alignment['cells'])}"
        less = all(dann[word] < alone[word] for word in dann)
        return Answer(f"told apart by a linear classifier ({', '.join(dann)}): {told}", less, reason)

    def maybes(shown: Any) -> Answer:
        dann = shown["told_apart"]["DANN"]
        told = ", ".join(f"{word} {value:.1f} %" for word, value in dann.items())
        most = dann["maybe"] == max(dann.values())
        return Answer(f"told apart: {told}", most, "There are few maybes to measure with.")

    def curves(shown: Any) -> Answer:
        label, domain = (shown["late_accuracy"][key] for key in ("label", "domain"))
        return Answer(
            f"after a third of the epochs the label accuracy stays between {label[0]:.0f} and {label[1]:.0f} %, the domain "
            f"accuracy swings between {domain[0]:.0f} and {domain[1]:.0f} %",
            domain[1] - domain[0] > 2 * (label[1] - label[0]),
        )

    shown, by = shown or {}, "shown by t-SNE"
    few = "There are too few maybes to measure with." if shown else ""
    return [
        judged_by_record(
            shown,
            "After DANN the features of both sets overlap more than the source-only network's (Fig. 9)",
            overlap,
            by,
        ),
        judged_by_record(
            shown, "Features of maybes differ most between the sets after DANN (Fig. 9)", maybes, by, few
        ),
        judged_by_record(
            shown,
            "Loss and accuracy of the label classifier come to a plateau, those of the domain classifier oscillate (Fig. 10)",
            curves,
            "shown",
        ),
    ]


def _what_aligns(cells: Sequence[Mapping[str, Any]]) -> str:
    """Say whether the reversal, or the batch statistics of each set, bring the features of two sets nearer."""
    apart: dict[str, list[float]] = {}
    for cell in cells:
        apart.setdefault(cell["network"], []).append(float(np.mean(list(cell["told_apart"].values()))))
    alone, dann, without = (np.mean(apart[name]) for name in ("source-only CNN", "DANN", "DANN, strength 0"))
    spread = max(map(np.ptp, apart.values()))
    by = (
        "what brings the features nearer is that each set has batch statistics of its own; the reversal adds nothing that "
        "seeds do not"
        if abs(dann - without) <= spread
        else f"the reversal brings the features {'nearer' if dann < without else 'further apart'}"
    )
    return (
        f"LN83 -> LO19 trained again, mean of the classes and of {len(apart['DANN'])} seeds: source-only {alone:.1f} %, DANN "
        f"{dann:.1f} %, the same without the reversal (strength 0) {without:.1f} %: {by}."
    )


def _gan(record: Any) -> Answer:
    def balanced(kind: str, labels: int) -> float:
        return _mean_figure(record, "balanced_accuracy", pretraining=kind, labels=labels)

    counts = sorted({cell["labels"] for cell in record["cells"]})
    few = counts[0]
    ours = "; ".join(
        f"{labels} labels: GAN {balanced('gan', labels):.1f}, random weights {balanced('none', labels):.1f}, "
        f"labels of another set {balanced('source', labels):.1f}"
        for labels in (few, counts[-1])
    )
    over_seeds = [
        [
            cell["balanced_accuracy"]["percent"]
            for cell in record["cells"]
            if (cell["pretraining"], cell["labels"]) == (kind, few)
        ]
        for kind in ("gan", "none")
    ]
    deviations = sum(float(np.std(values, ddof=1)) for values in over_seeds if len(values) > 1)
    return Answer(
        f"balanced accuracy with {ours}",
        balanced("gan", few) - balanced("none", few) >= max(1, deviations),
        f"Held to a gain over random weights with {few} labels of one point, and of both deviations over seeds together "
        f"({deviations:.1f}). Pictures of {record['side']}x{record['side']} maxima, {record['steps']} steps: what two processor "
        "cores can train.",
    )


def _ensemble(record: Any) -> Answer:
    *members, vote = dict.fromkeys(cell["network"] for cell in record["cells"])
    balanced = {name: _mean_figure(record, "balanced_accuracy", network=name) for name in (*members, vote)}
    best = max(members, key=lambda name: balanced[name])
    own, disagreement = (_mean_figure(record, key, network=vote) for key in ("own_doubt", "disagreement"))
    errors = [_mean_figure(record, "calibration_error", network=name) for name in (vote, best)]
    sets, seeds = (sorted({cell[key] for cell in record["cells"]}) for key in ("set", "seed"))
    return Answer(
        f"balanced accuracy of five {balanced[vote]:.1f}, of the best alone ({best}) {balanced[best]:.1f}",
        balanced[vote] > balanced[best],
        f"{', '.join(sets)}, {len(seeds)} seed{'s' * (len(seeds) > 1)}, 200 labels. Calibration error {errors[0]:.1f} against "
        f"{errors[1]:.1f} points, at five times the reductions and trainings. As a sign of errors disagreement is worth "
        f"{disagreement:.2f} (area under ROC), the vote's own doubt {own:.2f}.",
    )


def _particles(record: Any) -> Answer:
    balanced = _on_particles(record)
    best = max(balanced, key=lambda network: balanced[network])
    rejected = [c["rejected"] for c in record["cells"] if (c["labels"], c["network"]) == (200, best)]
    several, empty = (np.mean([each[kind] for each in rejected]) for kind in ("multiple", "none"))
    told = ", ".join(f"{network} {value:.1f}" for network, value in balanced.items())
    return Answer(
        f"balanced accuracy, mean of two simulated sets: {told}",
        balanced[best] >= 90,
        f"Held to a balanced accuracy of 90. The best rejects {several:.1f} % of shots with several particles and "
        f"{empty:.1f} % of empty ones.",
    )


def _rwd_on_particles(record: Any) -> Answer:
    balanced = _on_particles(record)
    rows = next(value for network, value in balanced.items() if network.startswith("RWD"))
    best = max(balanced.values())
    return Answer(f"on single particles RWD {rows:.1f}, the best network {best:.1f}", rows < best)


def _on_particles(record: Any) -> dict[str, float]:
    """Balanced accuracy of every network with 200 labels."""
    networks = dict.fromkeys(cell["network"] for cell in record["cells"] if cell["labels"] == 200)
    return {name: _mean_figure(record, "balanced_accuracy", labels=200, network=name) for name in networks}


def _mean_figure(record: Any, figure: str, **about: Any) -> float:
    """Mean of a figure over those cells of an experiment's record that have these values; a rate's is in per cent."""
    values = [cell[figure] for cell in record["cells"] if about.items() <= cell.items()]
    return float(np.mean([value["percent"] if isinstance(value, dict) else value for value in values]))


def _speed_of_networks(record: Any) -> Answer:
    vectors, frames = _stage_rates(record, "1d-cnn", "2d-cnn")
    ours = f"{vectors:,.0f} and {frames:,.0f} a second on an H200: {vectors / frames:.0f} times"
    return Answer(ours, vectors > 80 * frames, "The 2D network scores each frame in eight orientations.")


def _speed_of_screening(record: Any) -> Answer:
    one, two = _stage_rates(record, "screening-1d", "screening-2d")
    ours = f"{one:,.0f} and {two:,.0f} a second: {one / two:.1f} times"
    return Answer(ours, one > 80 * two, "Pre-processing takes most of the time, and both need it.")


def _online(record: Any) -> Answer:
    (rate,) = _stage_rates(record, "screening-1d")
    ours = f"{rate:,.0f} raw crops a second on one H200"
    return Answer(
        ours, rate >= 1e6, "It would take as many cards as the ratio says, and the frames have to reach them."
    )


def _stage_rates(record: Any, *stages: str) -> list[float]:
    """Frames or vectors a second of stages of a record of `bench.throughput`."""
    rates = {stage["name"]: stage["rate"]["median"] for stage in record["stages"]}
    return [rates[name] for name in stages]
