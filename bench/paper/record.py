"""What a comparison is kept as: one JSON-ready record with all figures and tables, from which its page is written.

`cells.json` holds it. The page can so be written again, with other words around the same figures, and nothing trained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sfxjax.errors import UserError, explain_os_error
from sfxjax.training.published import SETS

from .findings import findings, goals, spot_counter_line
from .methods import METHODS, Method, mean_of, percent
from .runs import METRICS, TrainedRun, check_runs
from .table_layout import Table
from .tables import (
    TABLES,
    describe,
    measured_table,
    paper_table,
    recall_table,
    row_record,
    summary_table,
    table_rows,
)

RECORD = "cells.json"
MEASURED_TABLE = 6


def record_of(
    runs: Sequence[TrainedRun], measured: Mapping[str, Any] | None = None, notes: Sequence[str] = ()
) -> dict[str, Any]:
    """Sum runs up.

    Args:
        runs: all there are.
        measured: see `bench.paper.tables.measured_table`.
        notes: lines on how they were made: the command, the time it took.

    Returns:
        JSON-ready: `data`, in words; `simulated`, `quick` and `seeds`; `notes`; `findings` and `goals` of `bench.paper.findings`;
        `counter`, a line; `means` by method and metric, each with the `value`, its `deviation` over seeds and the values of
        the `sets`, per cent; `layout`, the tables as they are shown; `tables`, a record for every cell and seed; `table6`,
        what was measured.

    Raises:
        UserError: the runs cannot stand in one table.
    """
    check_runs(runs)
    rows = {number: table_rows(number, runs) for number in TABLES}
    laid_out = {number: paper_table(number, runs, some) for number, some in rows.items()}
    laid_out[MEASURED_TABLE] = measured_table(measured or {}, runs)
    layout = [summary_table(runs), *(laid_out[number] for number in sorted(laid_out)), recall_table(runs)]
    return {
        "data": describe(runs),
        "simulated": any(run.simulated for run in runs),
        "quick": any(run.quick for run in runs),
        "seeds": len({run.seed for run in runs if run.method != "spot_counter"}),
        "notes": [*notes, *_made(runs, laid_out)],
        "findings": [asdict(finding) for finding in findings(runs)],
        "goals": [asdict(goal) for goal in goals(runs)],
        "counter": spot_counter_line(runs),
        "means": _means(runs),
        "layout": [asdict(table) for table in layout],
        "tables": {f"table{number}": [row_record(row) for row in some] for number, some in rows.items()},
        "table6": measured,
    }


def read_comparison(path: Path) -> dict[str, Any]:
    """Read a record.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        record = json.loads(path.read_text())
        [Table(**table) for table in record["layout"]]
    except OSError as error:
        raise UserError(explain_os_error(error, path) or f"{path}: {error}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is no record of bench.paper ({error})") from error
    return record


def _means(runs: Sequence[TrainedRun]) -> dict[str, dict[str, Any]]:
    def figure(method: Method, metric: str) -> dict[str, Any] | None:
        by_set = {name: mean_of(runs, method, percent(metric), (name,)) for name in SETS}
        sets = {name: each.value for name, each in by_set.items() if each is not None}
        mean = mean_of(runs, method, percent(metric))
        about = {"value": mean and mean.value, "deviation": mean and mean.deviation}
        return about | {"sets": sets} if sets else None

    found = {key: {m: figure(method, m) for m in METRICS} for key, method in METHODS.items()}
    return {key: {m: value for m, value in each.items() if value} for key, each in found.items()}


def _made(runs: Sequence[TrainedRun], tables: Mapping[int, Table]) -> list[str]:
    by_method: dict[str, list[TrainedRun]] = {}
    for run in runs:
        by_method.setdefault(run.method, []).append(run)
    lines = [
        f"{len(some)} of {method}, seeds {', '.join(map(str, sorted({run.seed for run in some})))}"
        for method, some in by_method.items()
    ]
    devices = sorted({str(run.record["device"]) for run in runs if run.record.get("device")})
    versions = sorted({str(run.record["jax"]) for run in runs if run.record.get("jax")})
    missing = {
        number: sum(row[4] == "not run" for row in tables[number].rows[: -tables[number].summaries])
        for number in TABLES
    }
    told = [f"Runs: {'; '.join(lines) or 'none'}."]
    if devices:
        told.append(f"Devices: {', '.join(devices)}; jax {', '.join(versions)}.")
    empty = [f"{count} of Table {number}" for number, count in missing.items() if count]
    return [*told, f"Cells not run: {', '.join(empty)}." if empty else "Every cell was run."]
