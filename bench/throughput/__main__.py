"""Measure frames a second: every step alone, the ways from a frame to a decision, and training.

    python -m bench.throughput --json throughput.json

Each stage's output is compared with a reference before it is timed; a wrong answer is no figure, and ends the run with
status 1. Three
kinds of rate are kept apart: one step on input that lies on the device; from a raw crop on the device to a decision; from
host memory, or a file, to a decision. Compilation is outside, `--seconds` is for timing alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sfxjax.command_line import new_parser, refuse_unused
from sfxjax.devices import simulate_devices
from sfxjax.errors import UserError, run_main
from sfxjax.files import CACHE_VARIABLE, atomic_write_json

from .table import show_stages

EXIT_WRONG_ANSWER = 1
ORDER = ("frames on the device", "host memory", "training", "single steps", "file")


def read_stage_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = new_parser(
        "bench.throughput",
        "Measure frames a second, every output compared with a reference first.",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the record there")
    parser.add_argument(
        "--quick", action="store_true", help="few stages, for coarse figures in a minute or two"
    )
    parser.add_argument("--only", metavar="STAGE,...", help="stages whose names begin so")
    parser.add_argument("--seconds", type=float, metavar="S", help="to time each stage for (2, or 0.3)")
    parser.add_argument(
        "--minutes", type=float, default=7.0, metavar="M", help="begin no stage after so many"
    )
    parser.add_argument("--list", action="store_true", help="name the stages and end")
    parser.add_argument(
        "--devices",
        type=int,
        metavar="N",
        help="simulate N devices, and only check that they score and train as one does",
    )
    parser.add_argument("--file-frames", type=int, metavar="N", help="in the file that is screened")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = read_stage_options(arguments)
    if options.seconds is not None and not 0 < options.seconds < 3600:
        raise UserError("--seconds must be above 0")
    if options.file_frames is not None and options.file_frames < 10:
        raise UserError("--file-frames must be at least 10")
    if options.list:
        refuse_unused(
            options, ("json", "seconds", "minutes", "devices", "file_frames", "seed"), "with --list"
        )
    elif options.devices is not None:
        refuse_unused(options, ("json", "only", "seconds", "minutes"), "with --devices, which only checks")
    if options.devices is not None:
        simulate_devices(options.devices)
    # JAX is imported here, after the devices are settled.
    from .inputs import real_crops
    from .stages import Setting, WrongAnswer

    stages = chosen_stages(options.only, options.quick)
    if options.list:
        for stage in stages:
            print(f"{stage.name:32}{stage.section}")
        return 0
    with TemporaryDirectory() as folder:
        if find_spec("platformdirs") is None:
            # Nothing says where to keep simulated sets.
            os.environ.setdefault(CACHE_VARIABLE, folder)
        setting = Setting(
            quick=options.quick,
            seed=options.seed,
            real=real_crops(),
            folder=Path(folder),
            frames_in_file=options.file_frames,
        )
        if options.devices is not None:
            from .many_devices import check_many

            try:
                print(check_many(setting, options.devices))
            except WrongAnswer as error:
                print(f"wrong answer: {error}", file=sys.stderr)
                return EXIT_WRONG_ANSWER
            return 0
        record = run_stages(stages, setting, options)
    show_stages(record)
    if options.json is not None:
        atomic_write_json(options.json, record)
        print(f"written to {options.json}")
    for line in record["wrong_answers"]:
        print(f"wrong answer: {line}", file=sys.stderr)
    return EXIT_WRONG_ANSWER if record["wrong_answers"] else 0


def chosen_stages(only: str | None, quick: bool = False) -> list[Any]:
    """Return the stages whose names begin with one of the given words; without any all, or those of a quick run.

    Raises:
        UserError: a word is no beginning.
    """
    from . import file_stage, frame_stages, raw_stages, screening_stages, training_stages

    modules = (raw_stages, frame_stages, screening_stages, file_stage, training_stages)
    stages = [stage for module in modules for stage in module.STAGES]
    if only is None:
        return [stage for stage in stages if stage.quick or not quick]
    words = [word.strip() for word in only.split(",") if word.strip()]
    for word in words:
        if not any(stage.name.startswith(word) for stage in stages):
            raise UserError(f"no stage begins with {word!r}; --list names them")
    return [stage for stage in stages if any(stage.name.startswith(word) for word in words)]


def run_stages(stages: Sequence[Any], setting: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Measure the ceilings and every stage; returns the record."""
    from .stages import NotHere, WrongAnswer
    from .timing import bus_bandwidth, copy_bandwidth, peak_memory

    seconds = options.seconds or (0.3 if options.quick else 2.0)
    began = time.monotonic()
    record: dict[str, Any] = {
        "machine": machine(setting),
        "quick": options.quick,
        "seconds_a_stage": seconds,
        "seed": options.seed,
        "real_frames_compared": len(setting.real[0]),
        "copy_bytes_per_second": copy_bandwidth(setting.device, seconds),
        "bus_bytes_per_second": bus_bandwidth(setting.device, seconds),
        "stages": [],
        "left_out": [],
        "wrong_answers": [],
    }
    # What matters most comes first, in case the time runs out.
    for stage in sorted(stages, key=lambda stage: ORDER.index(stage.section)):
        if time.monotonic() - began > 60 * options.minutes:
            record["left_out"].append(f"{stage.name}: {options.minutes:g} minutes are over, see --minutes")
            continue
        print(f"{time.monotonic() - began:5.0f} s  {stage.name}", file=sys.stderr, flush=True)
        try:
            found = measure_stage(stage, setting, record, seconds)
        except NotHere as reason:
            record["left_out"].append(f"{stage.name}: {reason}")
            continue
        except WrongAnswer as error:
            # The others may be right, and a GPU may not be at hand again.
            record["wrong_answers"].append(f"{stage.name}: {error}")
            continue
        record["stages"].append(found)
        found["peak_bytes_so_far"] = peak_memory(setting.device)
        record["seconds"] = round(time.monotonic() - began, 1)
        if options.json is not None:
            # A machine that is lent may be taken back before the last stage.
            atomic_write_json(options.json, record)
    names = [stage.name for stage in stages]
    record["stages"].sort(key=lambda found: names.index(found["name"]))
    record["seconds"] = round(time.monotonic() - began, 1)
    return record


def measure_stage(stage: Any, setting: Any, record: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Check and time one stage and its rivals; what is missing for a rival goes to the record's `left_out`."""
    from .kernels import slowest_kernels
    from .stages import NotHere
    from .timing import Timed, measure_in_turns, operations, program_memory, rate_of, time_calls

    work = stage.make(setting)
    timed = Timed(work.call, work.batches, work.frames)
    if work.timed is None:
        rate = time_calls(timed, seconds)
    else:
        times, processor_times = work.timed(seconds)
        rate = rate_of(times, processor_times, work.frames)
    per_frame = operations(work.operations) if work.operations else None
    bus = record["bus_bytes_per_second"]
    found: dict[str, Any] = {
        "name": stage.name,
        "section": stage.section,
        "input": work.shape,
        "rate": rate.to_json(),
        "bytes_a_frame": work.moved,
        "share_of_copy_bandwidth": rate.median * work.moved / record["copy_bytes_per_second"],
        "bytes_a_frame_over_bus": work.over_bus,
        "share_of_bus": rate.median * work.over_bus / bus if bus else None,
        "operations_a_frame": per_frame,
        "operations_per_second": None if per_frame is None else per_frame * rate.median,
        "program_bytes": program_memory(work.program),
        "paper_a100": None if work.published is None else asdict(work.published),
        "slowest_kernels": []
        if setting.on_cpu or work.call is None
        else slowest_kernels(work.call, list(work.batches)),
        "others": [],
        **work.after(rate.median),
    }
    for make in work.rivals:
        try:
            rival = make()
        except NotHere as reason:
            record["left_out"].append(f"{stage.name}: {reason}")
            continue
        ours, theirs = measure_in_turns([timed, Timed(rival.call, rival.batches, rival.frames)], seconds)
        found["others"].append(
            {
                "name": rival.name,
                "note": rival.note,
                "rate": theirs.to_json(),
                "our_rate_in_turns": ours.to_json(),
                "ratio": float(f"{ours.median / theirs.median:.3g}"),
                "ratio_of_processor_time": float(f"{theirs.processor / ours.processor:.3g}")
                if setting.on_cpu
                else None,
            }
        )
    return found


def machine(setting: Any) -> dict[str, Any]:
    """Describe the device and the versions that the figures depend on."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for name in ("jax", "jaxlib", "flax", "optax", "numpy", "scipy", "torch", "pyFAI", "sfxjax"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "device": setting.device.device_kind,
        "platform": setting.device.platform,
        "processor": processor(),
        "cores": setting.cores,
        "python": platform.python_version(),
        "versions": versions,
    }


def processor() -> str:
    """Name the host's processor."""
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


if __name__ == "__main__":
    sys.exit(run_main(main))
