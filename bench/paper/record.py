"""What a comparison is kept as: one JSON-ready record with all figures and tables, from which its page is written.

`cells.json` holds it. The page can so be written again, with other words around the same figures, and nothing trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sfxjax.errors import UserError
from sfxjax.json_files import read_json

from .claim_figures import published_rates
from .claims import FAILS, HOLDS, NOT_TESTED, Finding
from .methods import METHODS, mean_of, means_of_methods
from .plans import TABLES
from .runs import TrainedRun
from .table_layout import NOT_RUN, PAGE_WORDS, Table
from .tables import MEASURED_TABLE, measured_table, paper_table, recall_table, summary_table, table_rows

RECORD = "cells.json"


def record_of(
    runs: Sequence[TrainedRun],
    measured: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    *,
    quick: bool = False,
) -> dict[str, Any]:
    """Sum runs up.

    Args:
        runs: all there are.
        measured: see `bench.paper.tables.measured_table`.
        notes: lines on how they were made: the command, the time it took.
        quick: whether they are of fewer frames or epochs than the full comparison.

    Returns:
        JSON-ready: `data`, in words; `simulated`, `quick` and `seeds`; `notes`; `goals`, findings; `counter`, a line; `means` of
        `bench.paper.methods.means_of_methods`; `layout`, the tables as they are shown; `tables`, a record for every cell and
        seed; `table6`, what was measured.
    """
    simulated = any(run.record["simulated"] for run in runs)
    data = f"{'simulated sets' if simulated else 'CXIDB 76'}{', quick: fewer frames or epochs' * quick}"
    numbered = {number: paper_table(number, runs) for number in TABLES}
    made = _made(runs, numbered)
    numbered[MEASURED_TABLE] = measured_table(measured or {})
    layout = [summary_table(runs), *(numbered[number] for number in sorted(numbered)), recall_table(runs)]
    return {
        "data": data,
        "simulated": simulated,
        "quick": quick,
        "seeds": len({run.network.seed for run in runs}),
        "notes": [*notes, *made],
        "goals": [asdict(goal) for goal in goals(runs)],
        "counter": spot_counter_line(runs),
        "means": means_of_methods(runs),
        "layout": [asdict(replace(table, heading=f"{table.heading} ({data})")) for table in layout],
        "tables": {f"table{number}": table_rows(number, runs) for number in TABLES},
        "table6": measured,
    }


def read_comparison(path: Path) -> dict[str, Any]:
    """Read a record.

    Raises:
        OSError: it cannot be read.
        UserError: it is damaged.
    """
    try:
        record = read_json(path)
        [Table(**table) for table in record["layout"]]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is no record of bench.paper ({error})") from error
    return record


def goals(runs: Sequence[TrainedRun]) -> list[Finding]:
    """Judge the balanced accuracies that this project set itself to reach; of the paper's figures, the same means."""
    reached = []
    for goal in PAGE_WORDS["goals"]:
        found = mean_of(runs, METHODS[goal["method"]], "balanced_accuracy", frames=goal["frames"])
        verdict = NOT_TESTED if found is None else HOLDS if found >= goal["least"] else FAILS
        ours = "" if found is None else str(found)
        claim = f"{goal['title']}: balanced accuracy at least {goal['least']} %"
        reached.append(Finding(claim, str(published_rates(goal["method"]).balanced), ours, verdict))
    return reached


def spot_counter_line(runs: Sequence[TrainedRun]) -> str:
    """Say how the spot counter fares without labels of the tested set beside the networks that have none either."""
    methods = [METHODS[key] for key in ("spots_carried", "dann", "source_only", "reduced_carried")]
    means = [(method.title, mean_of(runs, method, "balanced_accuracy")) for method in methods]
    told = "; ".join(f"{title} {mean}" for title, mean in means if mean is not None)
    return f"Balanced accuracy without labels of the tested set: {told}." if told else ""


def _made(runs: Sequence[TrainedRun], tables: Mapping[int, Table]) -> list[str]:
    """Say which runs there are, on what they were made, and which cells are empty."""
    seeds: dict[str, list[int]] = {}
    for run in runs:
        seeds.setdefault(run.network.method, []).append(run.network.seed)
    made = [
        f"{len(of)} of {method}, seeds {', '.join(map(str, sorted(set(of))))}" for method, of in seeds.items()
    ]
    devices, versions = (sorted({str(run.record[key]) for run in runs}) for key in ("device", "jax"))
    lacking = {
        number: sum(row[4] == NOT_RUN for row in table.single_rows) for number, table in tables.items()
    }
    empty = [f"{count} of Table {number}" for number, count in lacking.items() if count]
    return [
        f"Runs: {'; '.join(made)}.",
        f"Devices: {', '.join(devices)}; jax {', '.join(versions)}.",
        f"Cells not run: {', '.join(empty)}." if empty else "Every cell was run.",
    ]
