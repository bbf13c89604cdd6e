"""What the experiments share: their options, the test on the last fifth of a set, and how a record is written."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sfxjax.command_line import new_parser
from sfxjax.data.labels import MISS
from sfxjax.devices import device_line
from sfxjax.errors import UserError
from sfxjax.files import atomic_write_json, atomic_write_text
from sfxjax.text import plus_minus
from sfxjax.training.evaluation import summarize
from sfxjax.training.published import frame_range
from sfxjax.training.run_folder import SCORES_FILE
from sfxjax.training.scores import read_scores


def experiment_parser(
    name: str, description: str, *, frames: int = 2000, seeds: int = 2
) -> argparse.ArgumentParser:
    """Make a parser with the options that every experiment has.

    Args:
        name: of the experiment's module.
        description: for the help.
        frames: default of `--frames`.
        seeds: default of `--seeds`.
    """
    parser = new_parser(f"bench.experiments.{name}", description)
    parser.add_argument("--seeds", type=int, default=seeds, help=f"seeds 0, 1, ... (default: {seeds})")
    parser.add_argument(
        "--frames", type=int, default=frames, help=f"of each simulated set (default: {frames})"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs") / name, help=f"(default: runs/{name})")
    parser.add_argument(
        "--results", type=Path, default=Path("bench/results"), help="(default: bench/results)"
    )
    return parser


def read(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read a command line, and name the device.

    Raises:
        UserError: a number is below 1.
    """
    chosen = parser.parse_args(arguments)
    if min(chosen.seeds, chosen.frames) < 1:
        raise UserError("--seeds and --frames must be at least 1")
    print(device_line())
    return chosen


def last_fifth(folder: Path, name: str) -> dict[str, Any]:
    """Sum up a run's scores of the last fifth of a set, which no run trains or validates on."""
    scores, labels = read_scores(folder / SCORES_FILE)[name]
    last = frame_range("last", len(scores))
    return summarize(labels[last.start : last.stop] != MISS, scores[last.start : last.stop])


def mean_and_deviation(values: Iterable[float], digits: int = 1) -> str:
    """Write numbers as their mean, with the standard deviation of several."""
    known = np.asarray(list(values), float)
    if not len(known):
        return "-"
    return plus_minus(known.mean(), known.std(ddof=1) if len(known) > 1 else None, digits)


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table as Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write(results: Path, name: str, record: Mapping[str, Any], text: str) -> None:
    """Write `NAME.json`, with the device and the version of JAX, and `NAME.md`, and print the latter.

    Raises:
        OSError: from the operating system, such as a full disk.
    """
    results.mkdir(parents=True, exist_ok=True)
    about = {"device": jax.local_devices()[0].device_kind, "jax": jax.__version__}
    atomic_write_json(results / f"{name}.json", dict(record) | about)
    atomic_write_text(results / f"{name}.md", text.rstrip() + "\n")
    print(text)
    print(f"{name}.json and .md are in {results}")
