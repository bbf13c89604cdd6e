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
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sfxjax.command_line import call_of, new_parser, refuse_unused
from sfxjax.data.set_description import sets_in
from sfxjax.data.sets import open_set
from sfxjax.devices import device_line, trainings_at_once
from sfxjax.errors import UserError, run_main
from sfxjax.files import atomic_write_json
from sfxjax.json_files import read_json
from sfxjax.models.stem import BaseConfig
from sfxjax.progress import print_table, progress
from sfxjax.simulate.write import simulated_data
from sfxjax.training.command import prepared_sets
from sfxjax.training.config import RunConfig
from sfxjax.training.data import PreparedSet
from sfxjax.training.published import SETS
from sfxjax.training.run import total_steps, train_and_test
from sfxjax.training.run_folder import check_folder, finished

from .claims import Finding
from .feature_figures import draw_runs
from .frame_figures import SHOWN_SET, draw_frames
from .measured import measure_methods
from .method_figures import draw_overview, draw_precision_recall
from .plans import RWD, TABLES, Comparison, Network, networks, plan_of
from .record import RECORD, read_comparison, record_of
from .report import write_page
from .runs import read_run
from .spots import count_sets, spot_counters
from .tables import MEASURED_TABLE

FRAMES, QUICK_FRAMES = 2000, 800
# Small networks leave most of a device idle, and programs compile side by side.
MOST_WORKERS = 4


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line, and fill in what depends on `--quick`.

    Raises:
        UserError: a number is below 1, or there is no such table.
    """
    parser = new_parser("bench.paper", "The paper's tables and figures.")
    add = parser.add_argument
    add("--data", metavar="DIR", help="folder of CXIDB 76; without it, simulated sets")
    add("--quick", action="store_true", help="fewer frames, epochs and pairs of sets")
    add("--only", metavar="TABLES", help="train for these alone: table1,table3,... (default: all)")
    add("--seeds", type=int, default=1, help="seeds 0, 1, ...")
    frames = f"of each simulated set (default: {FRAMES}, or {QUICK_FRAMES} with --quick)"
    add("--frames", type=int, help=frames)
    page = "write the page of an earlier comparison again, and train nothing"
    add("--page", action="store_true", help=page)
    add("--runs", type=Path, help="folder of the runs (default: runs/paper, or runs/paper-quick)")
    add("--results", type=Path, help="(default: bench/results/paper, or bench/results/paper-quick)")
    chosen = parser.parse_args(arguments)
    if chosen.page:
        refuse_unused(chosen, ("data", "only", "seeds", "frames", "runs"), "with --page")
    name = "paper-quick" if chosen.quick else "paper"
    chosen.runs = chosen.runs or Path("runs") / name
    chosen.results = chosen.results or Path("bench/results") / name
    if chosen.frames is None:
        chosen.frames = QUICK_FRAMES if chosen.quick else FRAMES
    if min(chosen.seeds, chosen.frames) < 1:
        raise UserError("--seeds and --frames must be at least 1")
    chosen.tables = read_tables(chosen.only)
    return chosen


def read_tables(only: str | None) -> set[int]:
    """Return the numbers of `table3,table5` or `3,5`; all of them for None.

    Raises:
        UserError: there is no such table.
    """
    known = {str(number): number for number in sorted((*TABLES, MEASURED_TABLE))}
    if only is None:
        return set(known.values())
    names = {part.strip().lower().removeprefix("table") for part in only.split(",")}
    if unknown := ", ".join(sorted(names - known.keys())):
        raise UserError(f"--only: no table {unknown}; choose from table{', table'.join(known)}")
    return {known[name] for name in names}


def labels_of_sets(folder: Path) -> dict[str, np.ndarray]:
    """Return the labels of the sets in a folder, (frames,) by set.

    Raises:
        UserError: a set is missing, or they differ in length.
    """
    labels = {}
    for name in SETS:
        with open_set(folder, name) as frame_set:
            labels[name] = frame_set.labels
    if len(set(map(len, labels.values()))) > 1:
        told = ", ".join(f"{name} {len(each)}" for name, each in labels.items())
        raise UserError(f"the sets in {folder} differ in length ({told}); the paper's splits need one length")
    return labels


def kept(path: Path, about: Mapping[str, Any], measure: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Return what was measured earlier about the same, by its file; else measure it and keep it there."""
    try:
        earlier = dict(read_json(path)) if path.exists() else {}
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it and give the command again") from error
    if about.items() <= earlier.items():
        return earlier
    found = {**measure(), **about}
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_json(path, found)
    return found


def train_all(
    plans: Mapping[Path, RunConfig], sets_for: Callable[[BaseConfig], Mapping[str, PreparedSet]], workers: int
) -> int:
    """Train what is not yet trained, so many at once, those that others start from first, and return how many were trained.

    `sets_for` gives the prepared sets for a network's base; every network scores all of them.
    """
    left = {out: plan for out, plan in plans.items() if finished(plan, out) is None}
    with (
        progress("training", sum(map(total_steps, left.values())), "steps") as advance,
        ThreadPoolExecutor(workers) as pool,
    ):
        for is_base in (True, False):
            some = [
                (plan, sets_for(plan.recipe.base), out, advance)
                for out, plan in left.items()
                if (plan.base is None) == is_base
            ]
            # Where one fails, `map` cancels those that have not begun.
            list(pool.map(lambda each: train_and_test(*each), some))
    return len(left)


def train_and_draw(chosen: argparse.Namespace) -> dict[str, Any]:
    """Train what is not yet trained, measure, draw, and return the record of it all."""
    began = time.monotonic()
    runs, results, quick = chosen.runs, chosen.results, chosen.quick
    folder = Path(chosen.data) if chosen.data else simulated_data(SETS, chosen.frames)
    labels = labels_of_sets(folder)
    frames = len(labels[SETS[0]])
    every = Comparison(seeds=chosen.seeds, data=chosen.data, frames=frames, quick=quick)
    asked = replace(every, tables=tuple(number for number in TABLES if number in chosen.tables))

    def plans_of(comparison: Comparison) -> dict[Network, RunConfig]:
        return {network: plan_of(network, comparison, runs) for network in networks(comparison)}

    plans = {runs / network.name: plan for network, plan in plans_of(asked).items()}
    for out, plan in plans.items():
        check_folder(out, plan)
    about = {"data": chosen.data, "frames": frames, "quick": quick}
    counts = kept(runs / "spot_counts.json", about, lambda: count_sets(folder, frames))
    measured = None
    if MEASURED_TABLE in chosen.tables or (runs / "measured.json").exists():
        measured = kept(runs / "measured.json", about, lambda: measure_methods(quick, folder))

    def sets_for(base: BaseConfig) -> Mapping[str, PreparedSet]:
        heights = BaseConfig(noise_normalised=base.noise_normalised)
        return prepared_sets(SETS, (None, RWD), sets_in(chosen.data, SETS), frames, base=heights)

    workers = trainings_at_once(min(os.cpu_count() or 1, MOST_WORKERS))
    trained = train_all(plans, sets_for, workers)

    read = [read_run(each, plan, runs / each.name, labels) for each, plan in plans_of(every).items()]
    found = [run for run in read if run is not None]
    found += spot_counters(counts["spots"], labels, counts["simulated"])
    seconds = round(time.monotonic() - began)
    options = f"{'--quick ' * quick}--seeds {chosen.seeds}{f' --only {chosen.only}' if chosen.only else ''}"
    note = f"python -m bench.paper {options}: {seconds} s, {trained} networks trained in this call, {workers} at once."
    record = record_of(found, measured, [note], quick=quick)
    results.mkdir(parents=True, exist_ok=True)
    draw_frames(folder, np.asarray(counts["spots"][SHOWN_SET]), results)
    record["shown"] = draw_runs(found, plans_of(every), runs, sets_for(BaseConfig()), results)
    draw_precision_recall(found, record["data"], results / "precision_recall.png")
    return record


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    chosen = read_options(arguments)
    results = chosen.results
    if chosen.page:
        write_answer(read_comparison(results / RECORD), results)
        print(f"{results}: report.html and tables.md")
        return
    print(device_line())
    record = train_and_draw(chosen)
    atomic_write_json(results / RECORD, record)
    write_answer(record, results)
    print(f"{results}: report.html, tables.md, {RECORD} and {len(list(results.glob('*.png')))} pictures")
    screen = f"{call_of('screen')} FILE --model RUN"
    print(f"next: open {results / 'report.html'}; every network is a run under {chosen.runs}, for {screen}")


def write_answer(record: Mapping[str, Any], folder: Path) -> None:
    """Write the page and its overview, and print whether the paper's findings hold."""
    draw_overview(record, folder / "overview.png")
    found = write_page(record, folder)
    from rich.table import Table

    table = Table(title=f"Does it reproduce? ({record['data']})")
    for column in ("finding", "paper", "ours", ""):
        table.add_column(column)
    for finding in [*found, *(Finding(**goal) for goal in record["goals"])]:
        table.add_row(finding.claim, finding.paper, finding.ours, finding.verdict)
    print_table(table)


if __name__ == "__main__":
    sys.exit(run_main(main))
