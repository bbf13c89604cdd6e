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
from sfxjax.pixels.missing_values import value_limit
from sfxjax.progress import progress
from sfxjax.screen.found_spots import THRESHOLD
from sfxjax.simulate.conditions import Condition, draw_run
from sfxjax.spots.day_one import find_spots
from sfxjax.spots.fixed_pattern import FixedPattern
from sfxjax.training.adapt_day_one import adapt_to_run

from ..day_one.measure import MATRIX, is_clear_hit, is_clear_miss, is_shown_by_photons

# No training used such seeds, nor was anything chosen on them.
ADAPTED_SEED = 6_100_000
SHAPE = (240, 240)
# Conditions of several kinds, and all of those of `bench/results/day-one.md` but other shapes of frames whose recall or accuracy
# on misses is below 95 %.
ADAPTED_CONDITIONS = (
    "uneven response",
    "every artefact of light",
    "every artefact of reading",
    "dark with defects",
    "as drawn in training",
    "noisy areas",
    "held out: rings, hot pixels and gaps",
    "counting 3",
    "very wide spots",
    "spots of 3 pixels",
    "held out: spots of 4.5 pixels",
)


def measure_run(name: str, seed: int, frames: int, judged: int) -> dict[str, Any]:
    """Adapt to a run and judge other frames of it, before and after.

    Args:
        name: of a condition of `bench.day_one.measure.MATRIX`.
        seed: of the run.
        frames: of the run that are adapted to.
        judged: further frames of the run, that are judged.
    """
    given = Condition(**{**MATRIX[name], "shape": SHAPE})
    run = draw_run(ADAPTED_SEED + 100 * list(MATRIX).index(name) + seed, given)
    whole, drawn = [], []
    for number, frame in enumerate(islice(run, frames + judged)):
        whole.append(WholeFrame(frame.values, None, value_limit(frame.values)))
        if number >= frames:
            drawn.append(frame)
    adapted = adapt_to_run(whole[:frames])
    hits, misses, shown = (
        np.array([told(frame) for frame in drawn])
        for told in (is_clear_hit, is_clear_miss, is_shown_by_photons)
    )

    def told_by(pattern: FixedPattern | None, threshold: float) -> dict[str, float | None]:
        def called(frame: WholeFrame) -> bool:
            pixels, mask, limit = frame if pattern is None else pattern.taken_out(*frame)
            try:
                return find_spots(pixels, mask, limit=limit).score >= threshold
            except UserError:
                # Saturated all over: screening lists it as an error.
                return False

        with ThreadPoolExecutor(cores()) as pool:
            hit = np.array(list(pool.map(called, whole[frames:])))
        recall, accuracy = 100 * float(hit[hits].mean()), 100 * float((~hit[misses]).mean())
        hidden = hit[shown & ~hits]
        return {
            "recall": recall,
            "accuracy_on_misses": accuracy,
            "hidden_found": int(hidden.sum()),
        }

    before = told_by(None, THRESHOLD)
    after = before if adapted.pattern is None else told_by(adapted.pattern, adapted.threshold)
    return {
        "condition": name,
        "seed": seed,
        "detector": drawn[0].condition.detector,
        "hits": int(hits.sum()),
        "misses": int(misses.sum()),
        "hidden": int((shown & ~hits).sum()),
        "kept": adapted.pattern is not None,
        "why": adapted.why,
        "threshold": adapted.threshold,
        "check": {
            name: {"hits": check.hits, "misses": check.misses}
            for name, check in (("before", adapted.before), ("after", adapted.after))
        },
        "before": before,
        "after": after,
    }


def rates(run: Mapping[str, Any], when: str, hidden: bool = True) -> tuple[float, float]:
    """Return recall and accuracy on misses, per cent.

    Args:
        run: of `measure_run`.
        when: before or after.
        hidden: count the hits that are clear only once all that stays put in the run is taken away.
    """
    tested = run[when]
    found = tested["recall"] / 100 * run["hits"] + hidden * tested["hidden_found"]
    return 100 * found / (run["hits"] + hidden * run["hidden"]), tested["accuracy_on_misses"]


def gains(runs: Sequence[Mapping[str, Any]], hidden: bool = True) -> np.ndarray:
    """Return what adapting gains in balanced accuracy, points, (runs,); arguments as those of `rates`."""
    return np.array(
        [(sum(rates(run, "after", hidden)) - sum(rates(run, "before", hidden))) / 2 for run in runs]
    )


def adapted_table(runs: Sequence[Mapping[str, Any]], frames: int, judged: int) -> str:
    """Lay the runs out as Markdown, what does not hold first."""
    kept = np.array([run["kept"] for run in runs])

    def in_words(gained: np.ndarray) -> str:
        worse = [
            f"{run['condition']} ({gain:.1f})" for run, gain in zip(runs, gained, strict=True) if gain < -0.5
        ]
        of_kept = f", of those adapted {gained[kept].mean():+.1f}" if kept.any() else ""
        return f"worse by more than 0.5 points: {', '.join(worse) or 'none'}; on average of all {gained.mean():+.2f}{of_kept}"

    gained, as_shown = gains(runs), gains(runs, hidden=False)
    lines = [
        f"Simulated runs of {SHAPE[0]} x {SHAPE[1]} pixels, of one detector each: adapted to {frames} frames, and judged on"
        f" {judged} others. Adapted: {kept.sum()} of {len(runs)} runs. Hits and misses are clear ones to who has taken away all"
        " that stays put in the run.",
        "",
        f"- Balanced accuracy: {in_words(gained)}.",
        f"- Counted by the hits that are clear in the frame as it is alone: {in_words(as_shown)}.",
        "",
        "Recall / accuracy on misses, per cent; balanced: gained; in brackets by the hits that are clear in the frame as it is.",
        "",
        "| condition | detector | as it is | adapted | balanced | what was done |",
        "|---|---|---|---|---|---|",
    ]
    for run, gain, own in zip(runs, gained, as_shown, strict=True):
        pairs = ["{:.1f} / {:.1f}".format(*rates(run, when)) for when in ("before", "after")]
        done = run["why"] if run["kept"] else f"nothing: {run['why']}"
        lines.append(
            f"| {run['condition']} | {run['detector']} | {pairs[0]} | {pairs[1]} | {gain:+.1f} ({own:+.1f}) | {done} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = new_parser("bench.labels.adapted", "The day-one model adapted to simulated runs without labels.")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each condition (default: 1)")
    parser.add_argument("--frames", type=int, default=200, help="of each run, adapted to (default: 200)")
    parser.add_argument("--judged", type=int, default=240, help="further frames of each run (default: 240)")
    parser.add_argument("--runs", type=Path, default=Path("runs/labels"), help="(default: runs/labels)")
    parser.add_argument(
        "--results", type=Path, default=Path("bench/results"), help="(default: bench/results)"
    )
    chosen = parser.parse_args(arguments)
    if chosen.seeds < 1 or min(chosen.frames, chosen.judged) < 40:
        raise UserError("--seeds must be at least 1, --frames and --judged 40")
    chosen.runs.mkdir(parents=True, exist_ok=True)
    path = chosen.runs / f"adapted-{chosen.frames}-{chosen.judged}.json"
    done: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    plans = [(name, seed) for seed in range(chosen.seeds) for name in ADAPTED_CONDITIONS]
    with progress("runs", len(plans), "runs") as advance:
        for name, seed in plans:
            key = f"{name}|{seed}"
            if key not in done:
                done[key] = measure_run(name, seed, chosen.frames, chosen.judged)
                atomic_write_json(path, done)
            advance(1)
    runs = [done[f"{name}|{seed}"] for name, seed in plans]
    atomic_write_json(
        chosen.results / "adapted.json",
        {"simulated": True, "frames": chosen.frames, "judged": chosen.judged, "runs": runs},
    )
    text = adapted_table(runs, chosen.frames, chosen.judged)
    atomic_write_text(chosen.results / "adapted.md", text)
    print(text)
    print(f"adapted.json and .md are in {chosen.results}")


if __name__ == "__main__":
    sys.exit(run_main(main))
