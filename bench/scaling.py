"""What more cores, devices and processes bring, and what a node or a facility would need, from measured rates alone.

    python -m bench.scaling --json bench/results/scaling-cpu.json     # measures on this machine, some minutes
    python -m bench.scaling --predict docs/scaling.md                 # from the records under bench/results

Measured are stages of `bench.throughput`, each in a process of its own that may use so many cores, or that JAX shows so many
simulated devices, or several processes at once that share the cores. A prediction divides: every stage's rate on one device
times the devices, what the disk and the network carry over a frame's bytes; the smallest limits.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sfxjax.command_line import new_parser, refuse_unused
from sfxjax.crop import CROP
from sfxjax.errors import UserError, run_main
from sfxjax.files import atomic_write_json, atomic_write_text

RECORDS = Path(__file__).with_name("results")
GPU_RECORD = "throughput-h200.json"
STAGES_MEASURED = ("host-1920-2d", "host-1920-1d", "day-one-1920", "train-dann")
# Frames a second of pulsed sources: EuXFEL's AGIPD at its full train, LCLS-II's aim, and SHINE's pulses (the paper's outlook).
FACILITIES = {"LCLS": 120, "EuXFEL": 27_000, "SHINE": 1_000_000}
# What one device does with frames in the host's memory or a file, and the stage that measures it.
WAYS = {
    "2D CNN": "host-1920-2d",
    "rows and 1D CNN": "host-1920-1d",
    "2D CNN from files, a process a device": "file-2d",
    "spots of whole frames": "day-one-1920",
}
# Of 1920 x 1920 pixels of two bytes, as stored without compression.
STORED_BYTES = 1920 * 1920 * 2


@dataclass(frozen=True)
class Limit:
    """How many frames a second one part of a node lets through.

    Attributes:
        part: in words.
        rate: frames a second.
        how: the arithmetic.
    """

    part: str
    rate: float
    how: str


def node_limits(
    rates: Mapping[str, float], devices: int, frame_bytes: float, disk: float, network: float
) -> list[Limit]:
    """Return what each part of a node lets through, the smallest first.

    Args:
        rates: frames a second by what one device does with them, in words.
        devices: how many the node has.
        frame_bytes: bytes of a frame as it comes, compressed or not.
        disk: bytes a second read.
        network: bytes a second received.
    """
    size = f"{frame_bytes / 1e6:.2f} MB"
    limits = [
        Limit(what, rate * devices, f"{devices} x {rate:,.0f} frames/s") for what, rate in rates.items()
    ]
    limits += [
        Limit("disk", disk / frame_bytes, f"{disk / 1e9:g} GB/s / {size}"),
        Limit("network", network / frame_bytes, f"{network / 1e9:g} GB/s / {size}"),
    ]
    return sorted(limits, key=lambda limit: limit.rate)


def devices_for(wanted: float, rate_a_device: float) -> int:
    """Return the devices that a rate needs, if nothing else limits."""
    return max(1, int(-(-wanted // rate_a_device)))


def medians(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the rate of each stage of a record of `bench.throughput`, frames a second."""
    return {stage["name"]: float(stage["rate"]["median"]) for stage in record["stages"]}


def measure_scaling(seconds: float, stages: Sequence[str]) -> dict[str, Any]:
    """Measure the stages with 1, 2, 4 ... cores, 1, 2 and 4 simulated devices, and one and two processes."""
    cores = sorted(os.sched_getaffinity(0))
    counts = [2**power for power in range(len(cores).bit_length()) if 2**power <= len(cores)]
    rows: list[dict[str, Any]] = []
    machine: dict[str, Any] = {}

    def row(what: str, number: int, groups: list[list[int]], devices: int | None) -> None:
        print(f"{what}: {number}", file=sys.stderr, flush=True)
        records = _together(groups, devices, seconds, stages)
        machine.update(records[0]["machine"])
        rates: dict[str, float] = {}
        for record in records:
            for name, rate in medians(record).items():
                rates[name] = rates.get(name, 0.0) + rate
        rows.append({"what": what, "number": number, "rates": rates})

    for count in counts:
        row("cores", count, [cores[:count]], None)
    for count in (2, 4):
        row("simulated devices, all cores", count, [cores], count)
    if len(cores) > 1:
        half = len(cores) // 2
        row("processes, half of the cores each", 2, [cores[:half], cores[half : 2 * half]], None)
    return {"machine": machine | {"cores": len(cores)}, "seconds_a_stage": seconds, "rows": rows}


def _together(
    groups: list[list[int]], devices: int | None, seconds: float, stages: Sequence[str]
) -> list[dict[str, Any]]:
    """Run `bench.throughput` once for each group of cores, at the same time; returns the records."""
    with TemporaryDirectory() as folder:
        running = []
        for number, cores in enumerate(groups):
            environment = dict(os.environ, JAX_PLATFORMS="cpu")
            if devices is not None:
                flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
                environment["XLA_FLAGS"] = flags.strip()
            file = Path(folder, f"{number}.json")
            command = [sys.executable, "-m", "bench.throughput", "--only", ",".join(stages)]
            command += ["--seconds", str(seconds), "--json", str(file)]
            process = subprocess.Popen(
                ["taskset", "-c", ",".join(map(str, cores)), *command],
                env=environment,
                stdout=subprocess.DEVNULL,
            )
            running.append((process, file))
        records = []
        for process, file in running:
            if process.wait() != 0:
                raise UserError(
                    f"bench.throughput ended with status {process.returncode}; run it alone to see why"
                )
            records.append(json.loads(file.read_text()))
        return records


def scaling_table(record: Mapping[str, Any]) -> list[str]:
    """Lay measured rates out, each beside its ratio to the first row."""
    stages = list(record["rows"][0]["rates"])
    first = record["rows"][0]["rates"]
    lines = [f"| | {' | '.join(stages)} |", f"|---|{'---:|' * len(stages)}"]
    for row in record["rows"]:
        cells = [f"{row['rates'][name]:,.0f} ({row['rates'][name] / first[name]:.2f}x)" for name in stages]
        lines.append(f"| {row['what']}: {row['number']} | {' | '.join(cells)} |")
    return lines


def predicted(
    gpu: Mapping[str, Any], devices: int, disk: float, network: float, compression: float
) -> list[str]:
    """Lay out what a node with several of a measured device would do, and what facilities' rates would take."""
    rates = medians(gpu)
    name = gpu["machine"]["device"]
    size = STORED_BYTES / compression
    ways = {words: rates[stage] for words, stage in WAYS.items()}
    lines = [
        f"| part of a node of {devices} {name} | lets through, frames/s | arithmetic |",
        "|---|---:|---|",
    ]
    for limit in node_limits(ways, devices, size, disk, network):
        lines.append(f"| {limit.part} | {limit.rate:,.0f} | {limit.how} |")
    heads = " | ".join(f"devices: {words}" for words in WAYS)
    lines += ["", f"| source | frames/s | GB/s | {heads} |", f"|---|---:|---:|{'---:|' * len(WAYS)}"]
    for facility, wanted in FACILITIES.items():
        needed = " | ".join(f"{devices_for(wanted, rate):,}" for rate in ways.values())
        lines.append(f"| {facility} | {wanted:,} | {wanted * size / 1e9:,.1f} | {needed} |")
    return lines


def scaling_page(cpu: Mapping[str, Any] | None, gpu: Mapping[str, Any], options: argparse.Namespace) -> str:
    """Write the page of `--predict`."""
    machine = gpu["machine"]
    lines = ["# What more cores, devices and nodes bring", ""]
    if cpu is None:
        lines.append(
            "On processor cores: not measured (`python -m bench.scaling --json bench/results/scaling-cpu.json`)."
        )
    else:
        here = cpu["machine"]
        lines += [
            "## Measured",
            "",
            f"Frames a second on {here['processor']}, {here['cores']} cores, jax {here['versions']['jax']}; in brackets the",
            "ratio to the first row. Simulated devices share the same cores, so they show only what sharing a batch costs.",
            "",
            *scaling_table(cpu),
        ]
    lines += [
        "",
        "## Predicted, not measured",
        "",
        f"From the rates of one {machine['device']} with {machine['cores']} cores of {machine['processor']}, jax",
        f"{machine['versions']['jax']} ([record](../bench/results/{GPU_RECORD})), for {options.disk:g} GB/s of disk,",
        f"{options.network:g} GB/s of network and 1920x1920 uint16 frames of {STORED_BYTES / options.compression / 1e6:.2f} MB",
        f"({options.compression:g} times smaller by compression). It is assumed that devices do not share a bus and that there",
        "are cores enough to feed each. The smallest limits. No node with several GPUs has been measured.",
        "",
        *predicted(gpu, options.gpus, 1e9 * options.disk, 1e9 * options.network, options.compression),
        "",
        "At SHINE's rate the bytes decide before the computing does: what makes frames smaller must sit before the network.",
        f"A row-wise decomposition of the central crop is {STORED_BYTES / (4 * CROP):,.0f} times smaller than the frame, and one",
        f"device judges {medians(gpu)['1d-cnn']:,.0f} of them a second.",
        "",
        f"    python -m bench.scaling --predict docs/scaling.md --gpus {options.gpus} --disk {options.disk:g} "
        f"--network {options.network:g} --compression {options.compression:g}",
        "",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = new_parser(
        "bench.scaling", "Measure what more cores, devices and processes bring; predict for a node."
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="measure, and write the record there")
    parser.add_argument(
        "--seconds", type=float, default=1.0, metavar="S", help="to time each stage for (default: 1)"
    )
    parser.add_argument("--only", default=",".join(STAGES_MEASURED), help="stages (default: %(default)s)")
    parser.add_argument("--predict", type=Path, metavar="FILE", help="write the page from the records")
    parser.add_argument("--gpus", type=int, default=8, help="of the node predicted for (default: 8)")
    parser.add_argument("--disk", type=float, default=10.0, metavar="GB/S", help="(default: 10)")
    parser.add_argument("--network", type=float, default=25.0, metavar="GB/S", help="(default: 25)")
    parser.add_argument(
        "--compression", type=float, default=4.0, help="how many times smaller frames come (default: 4)"
    )
    options = parser.parse_args(arguments)
    if not (options.gpus > 0 and options.disk > 0 and options.network > 0 and options.compression > 0):
        raise UserError("--gpus, --disk, --network and --compression must be above 0")
    if options.json is None and options.predict is None:
        raise UserError(
            "nothing to do: give --json FILE to measure, --predict FILE to write the page, or both"
        )
    if options.json is None:
        refuse_unused(options, ("seconds", "only"), "without --json")
    if options.predict is None:
        refuse_unused(options, ("gpus", "disk", "network", "compression"), "without --predict")
    if options.json is not None:
        record = measure_scaling(options.seconds, options.only.split(","))
        atomic_write_json(options.json, record)
        print("\n".join(scaling_table(record)))
    if options.predict is not None:
        measured = RECORDS / "scaling-cpu.json"
        cpu = json.loads(measured.read_text()) if measured.exists() else None
        gpu = json.loads((RECORDS / GPU_RECORD).read_text())
        atomic_write_text(options.predict, scaling_page(cpu, gpu, options))
        print(f"written: {options.predict}")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
