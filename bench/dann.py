"""DANN over several seeds and pairs of sets, beside the paper's Table 5.

    python -m bench.dann --pairs LN83:LO19 --seeds 3

trains what is not yet trained (`train.dann`, one run a pair and seed, each resumable), and writes one JSON record and a
Markdown table of means and spreads under `--results`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sfxjax.errors import UserError, run_main
from sfxjax.files import atomic_write_json, atomic_write_text
from train import dann
from train.execute import RESULTS
from train.published import TABLE_5

NETWORKS = ("dann", "source_only")
METRICS = ("recall", "miss_accuracy", "balanced_accuracy")


def run_pair(source: str, target: str, seed: int, runs: Path, more: Sequence[str]) -> dict[str, Any]:
    """Train a pair, unless that is done, and return the results of DANN and of the source-only network.

    Args:
        source: name of the labelled set.
        target: name of the unlabelled one.
        seed: of the training.
        runs: folder of the runs.
        more: further options of `train.dann`.
    """
    out = runs / f"dann-{source}-{target}-seed{seed}"
    folders = {"dann": out, "source_only": out / dann.SOURCE_ONLY}
    if not all((folder / RESULTS).exists() for folder in folders.values()):
        options = ["--source", source, "--target", target, "--seed", str(seed), "--out", str(out), *more]
        dann.main(options)
    return {name: json.loads((folder / RESULTS).read_text()) for name, folder in folders.items()}


def spread(results: list[dict[str, Any]], network: str, metric: str) -> dict[str, Any]:
    """Return values, mean and standard deviation over seeds of a metric on the target, per cent."""
    values = [result[network]["tested"][result["dann"]["target"]][metric]["percent"] for result in results]
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"values": values, "mean": float(np.mean(values)), "standard_deviation": deviation}


def table(record: dict[str, Any]) -> str:
    """Lay the record out as Markdown, with the paper's figures beside ours."""
    what = "simulated stand-ins" if record["simulated"] else "CXIDB 76"
    seeds = "1 seed" if record["seeds"] == 1 else f"{record['seeds']} seeds"
    lines = [
        f"| {what}, {seeds} | DANN: recall / misses | balanced | source-only: recall / misses "
        "| balanced | paper's DANN on the real sets |",
        "|---|---|---|---|---|---|",
    ]
    for pair in record["pairs"]:
        cells = [f"{pair['source']} -> {pair['target']}"]
        for network in NETWORKS:
            recall, misses, balanced = (pair[network][metric] for metric in METRICS)
            extra = (
                "" if balanced["standard_deviation"] is None else f" ± {balanced['standard_deviation']:.1f}"
            )
            cells += [f"{recall['mean']:.1f} / {misses['mean']:.1f}", f"{balanced['mean']:.1f}{extra}"]
        published = TABLE_5[pair["source"], pair["target"]][1]
        cells.append(f"{published.recall:.2f} / {published.miss_accuracy:.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.dann", description="DANN over seeds and pairs of sets."
    )
    every = ",".join(":".join(pair) for pair in TABLE_5)
    parser.add_argument("--pairs", default=every, help=f"SOURCE:TARGET,... (default: {every})")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, ... (default: 3)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")
    parser.add_argument(
        "--results", type=Path, default=Path("bench/results"), help="(default: bench/results)"
    )
    parser.add_argument("--name", default="dann", help="of the record (default: dann)")
    chosen, more = parser.parse_known_args(arguments)
    pairs = [tuple(pair.upper().split(":")) for pair in chosen.pairs.split(",")]
    unknown = [":".join(pair) for pair in pairs if pair not in TABLE_5]
    if unknown:
        raise UserError(f"no such pair: {', '.join(unknown)}; choose from {every}")
    if chosen.seeds < 1:
        raise UserError("--seeds must be at least 1")
    rows, results = [], []
    for source, target in pairs:
        results = [run_pair(source, target, seed, chosen.runs, more) for seed in range(chosen.seeds)]
        row: dict[str, Any] = {"source": source, "target": target}
        for network in NETWORKS:
            row[network] = {metric: spread(results, network, metric) for metric in METRICS}
        rows.append(row)
    record = {
        "simulated": any(result["dann"]["simulated"] for result in results),
        "seeds": chosen.seeds,
        "frames": results[-1]["dann"]["frames"],
        "recipe": {key: value for key, value in results[-1]["dann"]["recipe"].items() if key != "seed"},
        "device": results[-1]["dann"]["device"],
        "jax": jax.__version__,
        "pairs": rows,
    }
    atomic_write_json(chosen.results / f"{chosen.name}.json", record)
    text = table(record)
    atomic_write_text(chosen.results / f"{chosen.name}.md", text)
    print(text)


if __name__ == "__main__":
    sys.exit(run_main(main))
