"""The table of `bench.throughput`: on the terminal, and as Markdown from a record.

python -m bench.throughput.table throughput.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sfxjax.command_line import new_parser
from sfxjax.errors import UserError, run_main

SECTIONS = {
    "single steps": "one step alone, its input on the device",
    "frames on the device": "raw crop on the device -> decision",
    "host memory": "frames in host memory -> decision on the host",
    "file": "file -> lists",
    "training": "training steps, maps or vectors on the device; frames of both domains count",
}
HEADS = ("", "a second", "quartiles", "batch", "kB", "of copy", "of bus", "MFLOP", "MB", "paper", "beside")
KEY = (
    "kB: a frame's input read once and output written once; MFLOP: a frame, by XLA's count; MB: of the program with its "
    "batch; paper: on one A100 40 GB."
)


def show_stages(record: dict[str, Any]) -> None:
    """Print the record on the terminal."""
    print()
    print("\n".join(table_heading(record)))
    sections = {title: [row(stage) for stage in stages] for title, stages in by_section(record).items()}
    rows = [HEADS, *(cells for section in sections.values() for cells in section)]
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(HEADS) - 1)]

    def line(cells: tuple[str, ...]) -> str:
        aligned = [cells[0].ljust(widths[0])]
        aligned += [cell.rjust(width) for cell, width in zip(cells[1:-1], widths[1:], strict=True)]
        return "  ".join([*aligned, cells[-1]]).rstrip()

    print(line(HEADS))
    for title, section in sections.items():
        print(f"\n{title}")
        for cells in section:
            print(line(cells))
    print(f"\n{KEY}")
    for left_out in record["left_out"]:
        print(f"left out: {left_out}")


def markdown(record: dict[str, Any]) -> str:
    """Return the record as Markdown tables, one a section."""
    lines = [f"{' '.join(table_heading(record))}"]
    for title, stages in by_section(record).items():
        rows = [row(stage) for stage in stages]
        used = [column for column in range(len(HEADS)) if any(cells[column] for cells in rows)]
        heads = [HEADS[column] if column else title for column in used]
        lines += ["", f"| {' | '.join(heads)} |", "|---" + "|---:" * (len(used) - 2) + "|---|"]
        lines += [f"| {' | '.join(cells[column] for column in used)} |" for cells in rows]
    return "\n".join([*lines, "", KEY]) + "\n"


def table_heading(record: dict[str, Any]) -> list[str]:
    """Say on what the record was taken, and what the ceilings are."""
    where, bus = record["machine"], record["bus_bytes_per_second"]
    versions = ", ".join(f"{name} {value}" for name, value in where["versions"].items())
    ceiling = "host and device share one memory." if bus is None else f"host to device {bus / 1e9:.1f} GB/s."
    return [
        f"{where['device']} ({where['platform']}), {where['processor']}, {where['cores']} cores; {versions}.",
        f"Copy within device memory, read and write: {record['copy_bytes_per_second'] / 1e9:.1f} GB/s; {ceiling}",
    ]


def by_section(record: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Group the stages by the titles of their sections."""
    grouped = {
        title: [stage for stage in record["stages"] if stage["section"] == section]
        for section, title in SECTIONS.items()
    }
    return {title: stages for title, stages in grouped.items() if stages}


def row(stage: dict[str, Any]) -> tuple[str, ...]:
    """Return a stage's cells."""
    rate = stage["rate"]

    def share(value: float | None) -> str:
        return "" if not value else f"{100 * value:.3g} %"

    beside = []
    for other in stage["others"]:
        by_processor = other["ratio_of_processor_time"]
        notes = [other["note"]] if other["note"] else []
        notes += [] if by_processor is None else [f"{by_processor:.3g}x by processor time"]
        beside.append(
            f"{other['ratio']:.3g}x {other['name']}{' (' + '; '.join(notes) + ')' if notes else ''}"
        )
    beside += [
        f"{key}: {value}" for key, value in stage.items() if "alone" in key or key.startswith("share of ")
    ]
    return (
        stage["name"],
        _figure(rate["median"]),
        f"{_figure(rate['low'])} - {_figure(rate['high'])}",
        str(rate["batch"]),
        f"{stage['bytes_a_frame'] / 1e3:.4g}",
        share(stage["share_of_copy_bandwidth"]),
        share(stage["share_of_bus"]),
        "" if stage["operations_a_frame"] is None else f"{stage['operations_a_frame'] / 1e6:.3g}",
        "" if stage["program_bytes"] is None else f"{stage['program_bytes'] / 1e6:.4g}",
        "" if stage["paper_a100"] is None else f"{stage['paper_a100']['rate']:,}",
        "; ".join(beside),
    )


def _figure(value: float) -> str:
    """Return three figures without an exponent."""
    return f"{float(f'{value:.3g}'):,.{0 if value >= 100 else 1}f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = new_parser("bench.throughput.table", "Print a record of bench.throughput as Markdown.")
    parser.add_argument("record", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    try:
        print(markdown(json.loads(options.record.read_text())), end="")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{options.record} is no record of bench.throughput ({error!r})") from error


if __name__ == "__main__":
    sys.exit(run_main(main))
