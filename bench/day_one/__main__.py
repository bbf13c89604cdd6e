"""The day-one model on simulated conditions, one by one: recall, false hits, calibration, spots.

    python -m bench.day_one                          # writes bench/results/day-one.{json,md,png} and docs/simulation-parts.png
    python -m bench.day_one --weights mine.npz       # other weights, of `train.day_one`

Every condition is kept as soon as it is done: a killed call goes on with the same command.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from sfxjax.command_line import new_parser
from sfxjax.devices import device_line
from sfxjax.errors import UserError, run_main
from sfxjax.files import atomic_write_json, atomic_write_text
from sfxjax.progress import progress
from sfxjax.spots.day_one import WEIGHTS, load_weights

from .measure import MATRIX, judge_simulated, simulate, summarize_condition
from .page import draw_calibration, draw_parts, table


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = new_parser("bench.day_one", "The day-one model on simulated conditions, one by one.")
    parser.add_argument("--frames", type=int, default=100, help="of each condition (default: 100)")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="(default: those shipped)")
    parser.add_argument("--processes", type=int, default=2, help="that simulate (default: 2)")
    parser.add_argument(
        "--results", type=Path, default=Path("bench/results"), help="(default: bench/results)"
    )
    parser.add_argument(
        "--parts", type=Path, default=Path("docs/simulation-parts.png"), help="contact sheet of the artefacts"
    )
    chosen = parser.parse_args(arguments)
    if chosen.frames < 1 or chosen.processes < 1:
        raise UserError("--frames and --processes must be at least 1")
    print(device_line())
    weights = load_weights(chosen.weights)
    mark = f"{sha256(chosen.weights.read_bytes()).hexdigest()[:12]}-{chosen.frames}"
    kept = chosen.results / f".day-one-{mark}.json"
    chosen.results.mkdir(parents=True, exist_ok=True)
    done: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    left = [name for name in MATRIX if name not in done]
    with (
        ProcessPoolExecutor(chosen.processes, mp_context=get_context("spawn")) as pool,
        progress("conditions", len(left) * chosen.frames) as advance,
    ):
        for name in left:
            frames = []
            for frame in pool.map(partial(simulate, name), range(chosen.frames), chunksize=10):
                frames.append(judge_simulated(frame, weights))
                advance(1)
            done[name] = frames
            atomic_write_json(kept, done)
    rows = {name: summarize_condition(done[name]) for name in MATRIX}
    everything = summarize_condition([frame for name in MATRIX for frame in done[name]])
    record = {"frames_a_condition": chosen.frames, "simulated": True, "all": everything, "conditions": rows}
    atomic_write_json(chosen.results / "day-one.json", record)
    atomic_write_text(chosen.results / "day-one.md", table(rows, everything))
    draw_calibration(chosen.results / "day-one-calibration.png", everything)
    draw_parts(chosen.parts)
    kept.unlink(missing_ok=True)
    print(table(rows, everything))
    print(f"written: {chosen.results / 'day-one.md'}, .json, day-one-calibration.png and {chosen.parts}")


if __name__ == "__main__":
    sys.exit(run_main(main))
