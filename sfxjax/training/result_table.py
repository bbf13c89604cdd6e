"""What a training command ends with: the table, ours beside the paper's, and the next step."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sfxjax.command_line import call_of
from sfxjax.models.checkpoint import MODEL_FOLDER
from sfxjax.progress import print_table
from sfxjax.training.config import RunConfig
from sfxjax.training.evaluation import at_chance
from sfxjax.training.published import TABLE_5, Pair

METRIC = "recall on hits and maybes / accuracy on misses, % (95 % interval)"


def show_results(
    heading: str,
    rows: list[tuple[str, dict[str, dict[str, Any]]]],
    published: Sequence[tuple[str, Mapping[str, Pair]]] = (),
) -> None:
    """Print a table of results, ours beside the paper's.

    Args:
        heading: above the table.
        rows: title of a network, and what it was tested to by set.
        published: title of a row, and the paper's figures by set.
    """
    from rich.table import Table

    names = list(rows[0][1])
    if not names:
        print(f"{heading.partition(':')[0]}: no set with labels to test on")
        return
    table = Table(title=heading)
    table.add_column("network")
    for name in names:
        each = rows[0][1][name]
        which = f"all {each['frames']}" if each["first_frame"] == 0 else f"{each['frames']} test"
        table.add_column(f"{name}, {which} frames", justify="right")
        table.add_column("balanced", justify="right")
    for network, tested in rows:
        cells = []
        for name in names:
            parts = [tested[name][key] for key in ("recall", "miss_accuracy")]
            cells.append(" / ".join(_interval(part) for part in parts))
            cells.append(_percent_text(tested[name]["balanced_accuracy"]["percent"]))
        table.add_row(network, *cells)
    for row, figures in published:
        cells = []
        for name in names:
            pair = figures.get(name)
            cells += (
                ["", ""]
                if pair is None
                else [f"{pair.recall:.2f} / {pair.miss_accuracy:.2f}", f"{sum(pair) / 2:.1f}"]
            )
        table.add_row(row, *cells)
    print_table(table)


def published_dann(plan: RunConfig) -> list[tuple[str, Mapping[str, Pair]]]:
    """Return the row of Table 5 for a run's source and target, as `show_results` takes it; none for other sets."""
    pair = TABLE_5.get((plan.source, str(plan.target)))
    return (
        [] if pair is None else [("paper, Table 5: DANN, real sets", dict(zip(plan.sets, pair, strict=True)))]
    )


def _percent_text(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _interval(part: dict[str, Any]) -> str:
    return "-" if part["percent"] is None else f"{part['percent']:.1f} ({part['low']:.1f}-{part['high']:.1f})"


def kind_of_sets(results: Mapping[str, Any]) -> str:
    """Say of a run's sets that they are simulated or measured, by name where there are both kinds.

    Args:
        results: with `frames` by set, and `simulated_sets` or, of a run made before there were sets of both kinds, `simulated`.
    """
    names = list(results["frames"])
    simulated = results.get("simulated_sets", names if results["simulated"] else [])
    if simulated and len(simulated) < len(names):
        return ", ".join(f"{name} {'simulated' if name in simulated else 'measured'}" for name in names)
    return "simulated sets" if simulated else "measured sets"


def heading(plan: RunConfig, results: dict[str, Any]) -> str:
    """Return the heading of a run's table; simulated sets are named as such."""
    return f"{plan.title()}, {kind_of_sets(results)}, seed {plan.recipe.seed}: {METRIC}"


def next_steps(out: Path, plan: RunConfig, tested: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what to do with a run's model, a line each.

    Args:
        out: the run's folder.
        plan: of the run.
        tested: summaries by set, as `sfxjax.training.evaluation.summarize` gives them.
    """
    name = plan.target or plan.source
    if name in tested and at_chance(tested[name]):
        balanced = tested[name]["balanced_accuracy"]["percent"]
        what = name if name in (plan.data or {}) else f"the simulated set {name}"
        return [
            f"not for screening: on {what} the network is not better than chance ({balanced:.1f} % balanced)",
            f"next: {call_of('screen')} FILE --out DIR (counts spots, by a model that comes with the package), "
            "or more --labels or --epochs",
        ]
    # Code of a user's own is run only where it is named again.
    own = plan.reduction is not None and ":" in plan.reduction
    code = f" --reduction {shlex.quote(str(plan.reduction))}" if own else ""
    return [f"next: {call_of('screen')} FILE --model {shlex.quote(str(out))}{code} --out DIR"]


def print_next_step(out: Path, plan: RunConfig, results: Mapping[str, Any], began: float) -> None:
    """Say what a run has left and what to do next; a network that learnt nothing is not recommended.

    Args:
        out: the run's folder.
        plan: of the run.
        results: of the run.
        began: `time.monotonic` of the command's beginning.
    """
    print(
        f"{MODEL_FOLDER}, scores.h5, log.jsonl and results.json are in {out} ({time.monotonic() - began:.0f} s)"
    )
    for line in next_steps(out, plan, results["tested"]):
        print(line)
