"""Reductions compared: how many labels each needs, how it carries over to another set, how fast it is.

    python -m bench.reductions                                    # the library's, and ways to adapt without labels
    python -m bench.reductions --reduction mine.py:my_reduction   # yours beside the row-wise decomposition
    python -m bench.reductions --set run12=run12/*.h5 labels=labels.csv   # on frames of your own, each with a label

writes `reductions.json`, `.md` and `.png` under `--results`. Every trained network is a cell, kept as soon as it is done: a
killed benchmark goes on with the same command.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sfxjax.command_line import call_of, new_parser, refuse_unused
from sfxjax.data.set_description import SetDescription, cxidb76_name, sets_in, sets_of_options
from sfxjax.devices import device_line, trainings_at_once
from sfxjax.errors import UserError, run_main
from sfxjax.files import atomic_write_json, atomic_write_text
from sfxjax.progress import progress
from sfxjax.reductions.reduce import preprocess_and_reduce
from sfxjax.reductions.registry import BUILT_IN, get_reduction, origin_of, reduced_shape
from sfxjax.text import counted
from sfxjax.training.adaptation import ADAPTATIONS
from sfxjax.training.command import add_own_sets, data_of, prepared_sets, read_reduction

from ..throughput.timing import Timed, time_calls
from .cells import TRANSPOSED, UNTOUCHED, append_cell, planned_cells, read_cells, run_cell
from .tables import draw_figure, summarize_cells, tables

DEFAULT_SETS = "LN83,LN84,LO19"
LABELS = "10,25,50,100,200"
BASELINE = "row_wise_decomposition"
# Reductions on which every way of adaptation is tried.
ADAPTED = (BASELINE, "soft_spot_counts")
CELLS = "cells.jsonl"
SPEED_BATCH = 16


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = new_parser("bench.reductions", "Reductions compared.")
    parser.add_argument(
        "--reduction",
        action="append",
        metavar="NAME",
        help="a name, file.py:function or module:function; may be repeated (default: all of the library). "
        f"{BASELINE} comes along",
    )
    parser.add_argument("--labels", default=LABELS, help=f"(default: {LABELS})")
    parser.add_argument(
        "--sets", metavar="NAMES", help=f"with commas (default: those of --set, else {DEFAULT_SETS})"
    )
    add_own_sets(parser)
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, ... (default: 3)")
    parser.add_argument("--frames", type=int, default=2000, help="of each simulated set (default: 2000)")
    parser.add_argument("--simulation-seed", type=int, default=0, help="of the simulation (default: 0)")
    parser.add_argument("--data", metavar="DIR", help="folder of CXIDB 76; without it, simulated sets")
    parser.add_argument(
        "--methods",
        default=",".join(ADAPTATIONS),
        help=f"ways to do without target labels, tried on {' and '.join(ADAPTED)} (default: all)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        help="trainings at once (default: cores; one with several devices)",
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/reductions"), help="(default: runs/reductions)"
    )
    parser.add_argument(
        "--results", type=Path, default=Path("bench/results"), help="(default: bench/results)"
    )
    parser.add_argument("--name", default="reductions", help="of the record (default: reductions)")
    return parser.parse_args(arguments)


def chosen_sets(chosen: argparse.Namespace) -> tuple[list[str], dict[str, SetDescription]]:
    """Return the names of the sets to compare on, and those that are described; the others are simulated.

    Raises:
        UserError: there is no such set, or one is described and not named.
    """
    own = sets_of_options(chosen.set)
    wanted = chosen.sets.split(",") if chosen.sets else list(own) or DEFAULT_SETS.split(",")
    names = list(dict.fromkeys(name if name in own else cxidb76_name(name, tuple(own)) for name in wanted))
    for name in own:
        if name not in names:
            raise UserError(f"--set {name} is not used: the sets named are {', '.join(names)}")
    others = [name for name in names if name not in own]
    if not others:
        refuse_unused(chosen, ("data", "frames", "simulation_seed"), "on sets of your own")
    return names, own | sets_in(chosen.data, others)


def numbers(text: str) -> list[int]:
    """Return the whole numbers of a list with commas.

    Raises:
        UserError: it is no such list.
    """
    try:
        return sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise UserError(f"--labels {text!r} is not a list such as {LABELS}") from None


def speeds(reductions: Sequence[str], seconds: float = 2.0) -> dict[str, dict[str, float]]:
    """Time raw crops on the device to vectors, one reduction after the other.

    Args:
        reductions: names.
        seconds: for each.
    """
    rng = np.random.default_rng(0)
    batches = [jax.device_put(rng.poisson(60, (SPEED_BATCH, 724, 724)).astype(np.uint16)) for _ in range(3)]
    found = {}
    for name in reductions:
        reduction = get_reduction(name)

        def call(batch: jax.Array, reduction: Any = reduction) -> jax.Array:
            return preprocess_and_reduce(batch, reduction=reduction)

        found[name] = time_calls(Timed(call, batches, SPEED_BATCH), seconds).to_json()
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    began = time.monotonic()
    chosen = read_options(arguments)
    labels = numbers(chosen.labels)
    names, described = chosen_sets(chosen)
    if chosen.seeds < 1 or chosen.workers < 1:
        raise UserError("--seeds and --workers must be at least 1")
    reductions = (
        list(BUILT_IN) if chosen.reduction is None else [BASELINE, *map(read_reduction, chosen.reduction)]
    )
    reductions = list(dict.fromkeys(reductions))
    methods = list(dict.fromkeys([UNTOUCHED, *chosen.methods.split(",")]))
    unknown = [name for name in methods if name not in ADAPTATIONS]
    if unknown:
        raise UserError(f"no method {', '.join(unknown)}; choose from {', '.join(ADAPTATIONS)}")
    adapted = [name for name in reductions if name in ADAPTED]
    inputs = tuple(dict.fromkeys([*reductions, *(TRANSPOSED[n] for n in reductions if n in TRANSPOSED)]))

    about = {
        "frames": chosen.frames,
        "simulation_seed": chosen.simulation_seed,
        "data": chosen.data,
        "own": json.loads(json.dumps(data_of(sets_of_options(chosen.set)))),
        "sources": {name: digest_of(name) for name in reductions if ":" in name},
    }
    path = chosen.runs / CELLS
    check_same(chosen.runs, about)
    print(device_line())
    sets = prepared_sets(names, inputs, described, chosen.frames, chosen.simulation_seed)
    for name, each in sets.items():
        if lacking := len(each) - len(each.labelled):
            raise UserError(
                f"{name}: {counted(lacking, 'frames')} without a label; here every frame needs one"
            )
    atomic_write_json(chosen.runs / "settings.json", about)
    cells = planned_cells(
        reductions, adapted, methods, names, labels, chosen.seeds, min(map(len, sets.values()))
    )
    done = read_cells(path)
    left = [cell for cell in cells if cell not in done]
    with (
        progress("training", len(cells), "networks") as advance,
        ThreadPoolExecutor(trainings_at_once(chosen.workers)) as pool,
    ):
        advance(len(cells) - len(left))
        futures = [pool.submit(run_cell, cell, sets) for cell in left]
        try:
            for future in as_completed(futures):
                append_cell(path, future.result())
                advance(1)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    done = read_cells(path)
    record = {
        "simulated": any(each.simulated for each in sets.values()),
        "sets": names,
        "simulation_seed": chosen.simulation_seed,
        "frames": {name: len(each) for name, each in sets.items()},
        "labels": labels,
        "seeds": chosen.seeds,
        "lengths": {name: list(reduced_shape(name)) for name in reductions},
        "crop_to_vector": speeds(reductions),
        "device": jax.local_devices()[0].device_kind,
        "jax": jax.__version__,
        "seconds": round(time.monotonic() - began),
        **summarize_cells([done[cell] for cell in cells]),
        "cells": [slim(done[cell]) for cell in cells],
    }
    atomic_write_json(chosen.results / f"{chosen.name}.json", record)
    text = tables(record)
    atomic_write_text(chosen.results / f"{chosen.name}.md", text)
    draw_figure(record, chosen.results / f"{chosen.name}.png")
    print(text)
    print(f"{chosen.name}.json, .md and .png are in {chosen.results} ({record['seconds']} s)")
    reduction = shlex.quote(reductions[-1])
    own = [shlex.join(["--set", *values]) for values in chosen.set if values[0].startswith(f"{names[0]}=")]
    words = " ".join(["--dataset", names[0], *own, "--reduction", reduction, "--labels 50"])
    print(f"next: {call_of('train reduced')} {words}")


def slim(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a cell without what can be computed from its counts."""
    tested = record["tested"]
    kept = {key: record[key] for key in record if key != "tested"}
    return kept | {"counts": tested["counts"], "miss_accuracy_at_recall": tested["miss_accuracy_at_recall"]}


def digest_of(name: str) -> str | None:
    """Return the SHA-256 of the file or the version of the package that a reduction comes from; None of a built-in one."""
    origin = origin_of(name) or {}
    return origin.get("sha256") or origin.get("version")


def check_same(runs: Path, about: Mapping[str, Any]) -> None:
    """Raise a UserError where a folder holds cells of other data, or of another version of a user's reduction."""
    try:
        earlier = json.loads((runs / "settings.json").read_text())
    except FileNotFoundError:
        return
    except ValueError as error:
        raise UserError(
            f"{runs / 'settings.json'} is damaged ({error}); name another folder with --runs"
        ) from error
    same = all(earlier.get(key) == about[key] for key in ("frames", "simulation_seed", "data", "own"))
    shared = set(earlier.get("sources", {})) & set(about["sources"])
    if not same or any(earlier["sources"][name] != about["sources"][name] for name in shared):
        raise UserError(
            f"{runs} holds networks of other frames or of an older version of a reduction; name another with --runs, or delete it"
        )


if __name__ == "__main__":
    sys.exit(run_main(main))
