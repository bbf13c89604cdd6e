"""The paper's Tables 1 to 7 and Figures 5 to 10, ours beside the published figures, as one page.

    python -m bench.paper --quick         # every table on two processor cores, fewer frames, epochs and pairs
    python -m bench.paper --seeds 3       # mean and spread
    python -m bench.paper --only table3   # train for some tables alone; the page shows what else there is
    python -m bench.paper --page          # the page again from what was measured

leaves `report.html`, `cells.json`, `tables.md` and the pictures in a folder of `--results`. Every trained network is a run of
its own under `--runs`, with its model and the scores of every frame, and is trained once: a killed comparison goes on with the
same command.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

from sfxjax.command_line import new_parser
from sfxjax.data.set_description import sets_in
from sfxjax.data.sets import open_set
from sfxjax.devices import trainings_at_once
from sfxjax.errors import UserError, run_main
from sfxjax.files import atomic_write_json
from sfxjax.models.stem import BaseConfig
from sfxjax.progress import progress
from sfxjax.simulate.write import simulated_data
from sfxjax.training.command import prepared_sets
from sfxjax.training.config import RunConfig
from sfxjax.training.data import PreparedSet
from sfxjax.training.published import PAIRS, SETS
from sfxjax.training.run import total_steps, train_and_test
from sfxjax.training.run_folder import check_folder, finished

from .claims import claims
from .curves import draw_overview
from .findings import Finding
from .measured import MEASURED_METHODS, measure_methods
from .pictures import draw_frames, draw_runs
from .plans import QUICK_PAIRS, RWD, TABLES_OF_RUNS, Comparison, planned
from .record import MEASURED_TABLE, RECORD, read_comparison, record_of
from .report import OVERVIEW, write_page
from .runs import RESULTS, TrainedRun, read_run
from .spots import run_spot_counter

FRAMES, QUICK_FRAMES = 2000, 800
MEASURED = "measured.json"
ALL_TABLES = (*TABLES_OF_RUNS, MEASURED_TABLE)
# Small networks leave most of a device idle, and programs compile side by side.
MOST_WORKERS = 4


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = new_parser("bench.paper", "The paper's tables and figures.")
    parser.add_argument("--data", metavar="DIR", help="folder of CXIDB 76; without it, simulated sets")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"{QUICK_FRAMES} frames of each simulated set, fewer epochs, {len(QUICK_PAIRS)} of {len(PAIRS)} pairs",
    )
    parser.add_argument(
        "--only", metavar="TABLES", help="train for these alone: table1,table3,... (default: all)"
    )
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0, 1, ... (default: 1)")
    parser.add_argument(
        "--frames",
        type=int,
        help=f"of each simulated set (default: {FRAMES}, or {QUICK_FRAMES} with --quick)",
    )
    parser.add_argument(
        "--workers", type=int, help="trainings at once (default: cores, at most 4; one with several devices)"
    )
    parser.add_argument(
        "--page", action="store_true", help="write the page of an earlier comparison again, and train nothing"
    )
    parser.add_argument(
        "--runs", type=Path, help="folder of the runs (default: runs/paper, or runs/paper-quick)"
    )
    parser.add_argument(
        "--results", type=Path, help="(default: bench/results/paper, or bench/results/paper-quick)"
    )
    return parser.parse_args(arguments)


def read_tables(only: str | None) -> tuple[int, ...]:
    """Return the numbers of `table3,table5` or `3,5`; all of them for None.

    Raises:
        UserError: there is no such table.
    """
    if only is None:
        return ALL_TABLES
    known = {f"table{number}": number for number in ALL_TABLES}
    names = [part.strip().lower() for part in only.split(",")]
    names = [f"table{name}" if name.isdigit() else name for name in names]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(f"--only: no {', '.join(unknown)}; choose from {', '.join(sorted(known))}")
    return tuple(sorted({known[name] for name in names}))


def train_all(
    plans: Mapping[Path, RunConfig], sets_for: Callable[[BaseConfig], Mapping[str, PreparedSet]], workers: int
) -> int:
    """Train what is not yet trained, several at once; those that others start from come first.

    Args:
        plans: by folder.
        sets_for: gives the prepared sets for a network's base; every network scores all of them.
        workers: trainings at once.

    Returns:
        How many were trained.
    """
    left = {out: plan for out, plan in plans.items() if finished(plan, out) is None}
    stages = [
        {out: plan for out, plan in left.items() if (plan.base is None) == first} for first in (True, False)
    ]
    with (
        progress("training", sum(map(total_steps, left.values())), "steps") as advance,
        ThreadPoolExecutor(workers) as pool,
    ):
        for stage in stages:
            futures = [
                pool.submit(train_and_test, plan, sets_for(plan.recipe.base), out, advance)
                for out, plan in stage.items()
            ]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    return len(left)


def read_runs(comparison: Comparison, runs: Path, counters: Sequence[Path]) -> list[TrainedRun]:
    """Read those runs of a comparison that are finished, and the spot counter's, which come last."""
    folders = [out for out in planned(comparison, runs) if (out / RESULTS).exists()]
    return [read_run(folder, quick=comparison.quick) for folder in [*folders, *counters]]


def measured_methods(comparison: Comparison, folder: Path, runs: Path, wanted: bool) -> dict[str, Any] | None:
    """Measure Table 6, or give what was measured earlier; None where it was not and is not wanted."""
    path = runs / MEASURED
    about = {"data": comparison.data, "frames": comparison.frames, "quick": comparison.quick}
    try:
        measured = json.loads(path.read_text())
        if all(measured.get(key) == value for key, value in about.items()):
            return measured
    except FileNotFoundError:
        pass
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); delete it and give the command again") from error
    if not wanted:
        return None
    with progress("measuring the three methods of Table 6", len(MEASURED_METHODS), "methods") as advance:
        measured = measure_methods(comparison, folder, advance) | about
    atomic_write_json(path, measured)
    return measured


def length_of_sets(folder: Path) -> int:
    """Return the number of frames of the sets in a folder.

    Raises:
        UserError: a set is missing, or they differ.
    """
    lengths = {}
    for name in SETS:
        with open_set(folder, name) as frame_set:
            lengths[name] = len(frame_set)
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise UserError(f"the sets in {folder} differ in length ({told}); the paper's splits need one length")
    return lengths[SETS[0]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    began = time.monotonic()
    chosen = read_options(arguments)
    wanted = read_tables(chosen.only)
    frames = (QUICK_FRAMES if chosen.quick else FRAMES) if chosen.frames is None else chosen.frames
    workers = min(os.cpu_count() or 1, MOST_WORKERS) if chosen.workers is None else chosen.workers
    if chosen.seeds < 1 or workers < 1 or frames < 1:
        raise UserError("--seeds, --frames and --workers must be at least 1")
    name = "paper-quick" if chosen.quick else "paper"
    runs = chosen.runs or Path("runs") / name
    results = chosen.results or Path("bench/results") / name
    if chosen.page:
        write_answer(read_comparison(results / RECORD), results)
        print(f"{results}: report.html and tables.md")
        return
    if chosen.data is None:
        folder = simulated_data(SETS, frames)
    else:
        folder = Path(chosen.data)
        frames = length_of_sets(folder)
    every = Comparison(
        TABLES_OF_RUNS,
        chosen.seeds,
        QUICK_PAIRS if chosen.quick else PAIRS,
        chosen.data,
        frames,
        chosen.quick,
    )
    comparison = replace(every, tables=tuple(number for number in TABLES_OF_RUNS if number in wanted))
    plans = planned(comparison, runs)
    for out, plan in plans.items():
        check_folder(out, plan)
    counters = run_spot_counter(folder, SETS, runs, quick=chosen.quick)
    measured = measured_methods(every, folder, runs, MEASURED_TABLE in wanted)

    def sets_for(base: BaseConfig) -> Mapping[str, PreparedSet]:
        heights = BaseConfig(noise_normalised=base.noise_normalised)
        return prepared_sets(SETS, (None, RWD), sets_in(chosen.data, SETS), frames, base=heights)

    workers = trainings_at_once(workers)
    trained = train_all(plans, sets_for, workers)
    sets = sets_for(BaseConfig())

    found = read_runs(every, runs, counters)
    results.mkdir(parents=True, exist_ok=True)
    pictures = draw_frames(folder, found[-1], results)
    more, shown = draw_runs(found, planned(every, runs), sets, results)
    seconds = round(time.monotonic() - began)
    asked = ["--quick"] * chosen.quick + [f"--seeds {chosen.seeds}"]
    asked += [] if chosen.only is None else [f"--only {chosen.only}"]
    notes = [
        f"python -m bench.paper {' '.join(asked)}: {seconds} s, {trained} networks trained in this call, {workers} at once."
    ]
    record = record_of(found, measured, notes) | {"shown": shown}
    atomic_write_json(results / RECORD, record)
    write_answer(record, results)
    print(
        f"{results}: report.html, tables.md, {RECORD} and {len(pictures) + len(more) + 1} pictures ({seconds} s)"
    )
    print(
        f"next: open {results / 'report.html'}; every network is a run under {runs}, for python -m sfxjax.screen FILE --model RUN"
    )


def write_answer(record: Mapping[str, Any], folder: Path) -> None:
    """Write the page and its overview, and print whether the paper's findings hold."""
    draw_overview(record, folder / f"{OVERVIEW}.png")
    write_page(record, folder)
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Does it reproduce? ({record['data']})")
    for column in ("finding", "paper", "ours", ""):
        table.add_column(column)
    for finding in [*claims(record), *(Finding(**goal) for goal in record["goals"])]:
        table.add_row(finding.claim, finding.paper, finding.ours, finding.verdict)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


if __name__ == "__main__":
    sys.exit(run_main(main))
