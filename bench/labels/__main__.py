"""How many labels of a new set suffice: the paper's methods, and the day-one model fitted to them; random and active choice.

    python -m bench.labels          # writes bench/results/labels.{json,md,png}

Figures of networks that `bench.paper` and `bench.reductions` have trained are read from their results. What is measured here is
kept curve by curve: a killed call goes on with the same command.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sfxjax.command_line import new_parser
from sfxjax.errors import UserError, run_main
from sfxjax.files import atomic_write_json, atomic_write_text
from sfxjax.progress import progress
from sfxjax.training import transfer
from sfxjax.training.command import named_sets, prepared_set, run
from sfxjax.training.config import RunConfig
from sfxjax.training.run import base_variables

from .answers import RUNS, answers_of, describe_frames
from .curves import ACTIVE, ROW_WISE, day_one_curve, network_curve, taught_curve
from .page import draw, labels_table
from .recorded import (
    DAY_ONE,
    NETWORK,
    RANDOM,
    RECORDED_SETS,
    SCRATCH_ALONE,
    TAUGHT,
    TRANSFER_ALONE,
    earlier,
)

COUNTS = (0, 5, 10, 25, 50, 100, 200)
# The set whose base is transferred: of the two others the one from which `bench.paper` has recorded the better transfer.
BASES = {"LN83": "LO19", "LN84": "LN83", "LO19": "LN84"}


def planned_answers(
    seeds: int, network_seeds: int, taught_seeds: int
) -> list[tuple[str, str, str, tuple[int, ...], int]]:
    """List the curves: set, method, choice, numbers of labels, seed; the quick ones first."""
    names = (*RECORDED_SETS, *RUNS)
    plans: list[tuple[str, str, str, tuple[int, ...], int]] = [
        (name, DAY_ONE, choice, COUNTS, seed)
        for name in names
        for choice in (RANDOM, ACTIVE)
        for seed in range(seeds)
    ]
    # Set by set: preparing one takes minutes.
    plans += [(name, TAUGHT, ACTIVE, (25,), seed) for name in RECORDED_SETS for seed in range(taught_seeds)]
    for seed in range(network_seeds):
        plans += [(name, NETWORK, RANDOM, (25, 200), seed) for name in RUNS]
        plans += [(name, NETWORK, RANDOM, (5,), seed) for name in RECORDED_SETS]
        plans += [(name, NETWORK, ACTIVE, COUNTS[2:], seed) for name in RECORDED_SETS]
    plans += [
        (name, method, RANDOM, COUNTS[1:], seed)
        for name in RECORDED_SETS
        for method in (SCRATCH_ALONE, TRANSFER_ALONE)
        for seed in range(network_seeds)
    ]
    return plans


def base_of(name: str, frames: int, runs: Path) -> dict[str, Any]:
    """Return the base of a 2D CNN trained on the labels of the set that `BASES` names for a set.

    Args:
        name: LN83, LN84 or LO19.
        frames: simulated, of each of them.
        runs: folder for the trained network.
    """
    source, out = BASES[name], runs / f"base-{BASES[name]}-{frames}"
    plan = RunConfig("supervised", source, None, None, None, transfer.BASE_RECIPE, None, frames)
    run(plan, named_sets(plan, {}), out)
    return base_variables(RunConfig("transfer", source, name, None, None, transfer.RECIPE, base=str(out)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = new_parser("bench.labels", "Labels needed: the paper's methods, and the day-one model fitted.")
    parser.add_argument("--seeds", type=int, default=10, help="of the day-one model (default: 10)")
    parser.add_argument(
        "--network-seeds",
        type=int,
        default=2,
        help="of networks that learn from the labels, 0 for none (default: 2)",
    )
    parser.add_argument(
        "--taught-seeds", type=int, default=1, help="of the 2D CNN taught, 0 for none (default: 1)"
    )
    parser.add_argument(
        "--frames", type=int, default=2000, help="of LN83, LN84 and LO19, simulated (default: 2000)"
    )
    parser.add_argument(
        "--run-frames", type=int, default=500, help="of each run of a held-out condition (default: 500)"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/labels"), help="(default: runs/labels)")
    parser.add_argument(
        "--results", type=Path, default=Path("bench/results"), help="(default: bench/results)"
    )
    chosen = parser.parse_args(arguments)
    fewest = min(chosen.network_seeds, chosen.taught_seeds)
    if chosen.seeds < 1 or fewest < 0 or min(chosen.frames, chosen.run_frames) < 400:
        raise UserError(
            "--seeds must be at least 1, --network-seeds and --taught-seeds 0, --frames and --run-frames 400"
        )
    chosen.runs.mkdir(parents=True, exist_ok=True)
    kept = chosen.runs / f"labels-{chosen.frames}-{chosen.run_frames}.json"
    done: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    plans = planned_answers(chosen.seeds, chosen.network_seeds, chosen.taught_seeds)
    with progress("curves", len(plans), "curves") as advance:
        for name, method, choice, counts, seed in plans:
            key = f"{name}|{method}|{choice}|{seed}"
            if key not in done:
                frames = chosen.run_frames if name in RUNS else chosen.frames
                described = describe_frames(name, chosen.run_frames, chosen.frames, chosen.runs)
                if method in (DAY_ONE, TAUGHT):
                    answers = answers_of(described, frames, chosen.runs / f"{name}-{frames}.npz")
                if method == DAY_ONE:
                    done[key] = day_one_curve(answers, counts, choice, seed)
                elif method == TAUGHT:
                    prepared = prepared_set(name, (None,), described, frames)
                    done[key] = taught_curve(prepared, answers, counts, seed)
                elif method in (SCRATCH_ALONE, TRANSFER_ALONE):
                    base = base_of(name, frames, chosen.runs) if method == TRANSFER_ALONE else None
                    prepared = prepared_set(name, (None,), described, frames)
                    done[key] = network_curve(prepared, counts, choice, seed, None, base)
                else:
                    prepared = prepared_set(name, (ROW_WISE,), described, frames)
                    done[key] = network_curve(prepared, counts, choice, seed)
                atomic_write_json(kept, done)
            advance(1)
    measured = [
        {"set": name, "method": method, "choice": choice, "seed": seed, **point}
        for name, method, choice, _, seed in plans
        for point in done[f"{name}|{method}|{choice}|{seed}"]
    ]
    record = {
        "simulated": True,
        "frames": chosen.frames,
        "run_frames": chosen.run_frames,
        "points": [*earlier(chosen.results), *measured],
    }
    atomic_write_json(chosen.results / "labels.json", record)
    text = labels_table(record)
    atomic_write_text(chosen.results / "labels.md", text)
    draw(record, chosen.results / "labels.png")
    print(text)
    print(f"labels.json, .md and .png are in {chosen.results}")


if __name__ == "__main__":
    sys.exit(run_main(main))
