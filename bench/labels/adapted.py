"""The day-one model adapted to simulated runs without labels, beside the model as it is.

    python -m bench.labels.adapted          # writes bench/results/adapted.{json,md}

Each run is kept as soon as it is done: a killed call goes on with the same command.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from sfxjax.command_line import new_parser
from sfxjax.data.read import WholeFrame
from sfxjax.errors import UserError, run_main
from sfxjax.files import atomic_write_json, atomic_write_text
from sfxjax.mapping import cores
from sfxjax.pixel_values import value_limit
from sfxjax.progress import progress
from sfxjax.simulate.conditions import Condition, draw_run
from sfxjax.spots.day_one import find_spots
from sfxjax.spots.fixed_pattern import FixedPattern
from sfxjax.training.adapt_day_one import adapt_to_run

from ..day_one.measure import MATRIX, is_clear_hit, is_clear_miss

# No training used such seeds, nor was anything chosen on them.
ADAPTED_SEED = 3_000_000
SHAPE = (240, 240)
ADAPTED_CONDITIONS = (
    "uneven response",
    "every artefact of light",
    "every artefact of reading",
    "dark with defects",
    "as drawn in training",
    "noisy areas",
    "held out: rings, hot pixels and gaps",
    "counting 3",
)


def measure_run(name: str, seed: int, frames: int) -> dict[str, Any]:
    """Adapt to a run and judge its clear hits and misses, before and after.

    Args:
        name: of a condition of `bench.day_one.measure.MATRIX`.
        seed: of the run.
        frames: of the run.
    """
    given = Condition(**{**MATRIX[name], "shape": SHAPE})
    drawn = list(islice(draw_run(ADAPTED_SEED + 100 * list(MATRIX).index(name) + seed, given), frames))
    whole = [WholeFrame(frame.values, None, value_limit(frame.values)) for frame in drawn]
    adapted = adapt_to_run(whole)
    hits, misses = (np.array([told(frame) for frame in drawn]) for told in (is_clear_hit, is_clear_miss))

    def judged(pattern: FixedPattern | None) -> dict[str, float]:
        def called(frame: WholeFrame) -> bool:
            pixels, mask, limit = frame if pattern is None else pattern.taken_out(*frame)
            try:
                return find_spots(pixels, mask, limit=limit).score >= 0.5
            except UserError:
                # Saturated all over: screening lists it as an error.
                return False

        with ThreadPoolExecutor(cores()) as pool:
            hit = np.array(list(pool.map(called, whole)))
        recall, accuracy = 100 * float(hit[hits].mean()), 100 * float((~hit[misses]).mean())
        return {"recall": recall, "accuracy_on_misses": accuracy, "balanced": (recall + accuracy) / 2}

    before = judged(None)
    after = before if adapted.pattern is None else judged(adapted.pattern)
    return {
        "condition": name,
        "seed": seed,
        "detector": drawn[0].condition.detector,
        "hits": int(hits.sum()),
        "misses": int(misses.sum()),
        "kept": adapted.pattern is not None,
        "why": adapted.why,
        "before": before,
        "after": after,
    }


def adapted_table(runs: Sequence[Mapping[str, Any]], frames: int) -> str:
    """Lay the runs out as Markdown, what does not hold first."""
    gains = [run["after"]["balanced"] - run["before"]["balanced"] for run in runs]
    worse = [f"{run['condition']} ({gain:.1f})" for run, gain in zip(runs, gains, strict=True) if gain < -0.5]
    kept = sum(run["kept"] for run in runs)
    lines = [
        f"Simulated runs of {frames} frames of {SHAPE[0]} x {SHAPE[1]} pixels, of one detector each; recall of clear hits / "
        f"accuracy on clear misses, per cent. Worse by more than 0.5 points: {', '.join(worse) or 'none'}. Adapted: {kept} of "
        f"{len(runs)} runs; on average of all {np.mean(gains):+.1f} points.",
        "",
        "| condition | detector | as it is | adapted | balanced | what was done |",
        "|---|---|---|---|---|---|",
    ]
    for run, gain in zip(runs, gains, strict=True):
        pairs = [f"{run[w]['recall']:.1f} / {run[w]['accuracy_on_misses']:.1f}" for w in ("before", "after")]
        done = run["why"] if run["kept"] else f"nothing: {run['why']}"
        lines.append(
            f"| {run['condition']} | {run['detector']} | {pairs[0]} | {pairs[1]} | {gain:+.1f} | {done} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = new_parser("bench.labels.adapted", "The day-one model adapted to simulated runs without labels.")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each condition (default: 1)")
    parser.add_argument("--frames", type=int, default=80, help="of each run (default: 80)")
    parser.add_argument("--runs", type=Path, default=Path("runs/labels"), help="(default: runs/labels)")
    parser.add_argument(
        "--results", type=Path, default=Path("bench/results"), help="(default: bench/results)"
    )
    chosen = parser.parse_args(arguments)
    if chosen.seeds < 1 or chosen.frames < 40:
        raise UserError("--seeds must be at least 1, --frames 40")
    chosen.runs.mkdir(parents=True, exist_ok=True)
    path = chosen.runs / f"adapted-{chosen.frames}.json"
    done: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    plans = [(name, seed) for seed in range(chosen.seeds) for name in ADAPTED_CONDITIONS]
    with progress("runs", len(plans), "runs") as advance:
        for name, seed in plans:
            key = f"{name}|{seed}"
            if key not in done:
                done[key] = measure_run(name, seed, chosen.frames)
                atomic_write_json(path, done)
            advance(1)
    runs = [done[f"{name}|{seed}"] for name, seed in plans]
    atomic_write_json(
        chosen.results / "adapted.json", {"simulated": True, "frames": chosen.frames, "runs": runs}
    )
    text = adapted_table(runs, chosen.frames)
    atomic_write_text(chosen.results / "adapted.md", text)
    print(text)
    print(f"adapted.json and .md are in {chosen.results}")


if __name__ == "__main__":
    sys.exit(run_main(main))
