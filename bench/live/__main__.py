"""Player -> ZeroMQ -> live -> page on one machine, at the rate that screening a file reaches and at twice that.

    python -m bench.live --seconds 600 --out bench/results/live.json

The frames are simulated (1024x1024, 16 bits, bitshuffle and LZ4); their hit rate is known, so the estimated one can be judged.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sfxjax.command_line import new_parser
from sfxjax.data.frames import ReadOptions
from sfxjax.data.inputs import find_files
from sfxjax.data.read import FrameReader
from sfxjax.errors import UserError, run_main
from sfxjax.files import atomic_write_json
from sfxjax.mapping import cores
from sfxjax.screen.lists import HIT
from sfxjax.screen.sources import Sources
from sfxjax.screen.spots import counted_frames
from sfxjax.simulate.conditions import Condition, draw_frame
from sfxjax.spots.definition import MIN_SNR, MIN_SPOTS

from ..throughput.__main__ import processor

FRAME_SIDE, HIT_SHARE = 1024, 0.3
MEMORY_EVERY = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = new_parser("bench.live", "Measure live under load.")
    parser.add_argument("--seconds", type=float, default=150.0, help="that each run takes")
    parser.add_argument("--frames", type=int, default=200, help="simulated, played again and again")
    parser.add_argument("--viewers", type=int, default=10, help="of the page")
    parser.add_argument("--port", type=int, default=5701, help="that the player uses")
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the figures")
    options = parser.parse_args(arguments)
    if not (options.seconds > 0 and options.frames > 15 and options.viewers >= 0):
        raise UserError("--seconds is above 0, --frames above 15, --viewers from 0 on")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "frames.h5")
        write_frames(path, options.frames)
        rate, labels = file_rate(path, min(options.seconds / 3, 60.0))
        print(f"screening the file: {rate:.1f} frames/s, {100 * np.mean(labels):.1f} % hits", flush=True)
        runs = []
        for factor in (1.0, 2.0):
            runs.append(live_run(path, Path(folder, f"{factor:g}"), factor * rate, options))
            runs[-1] |= {
                "times_the_file_rate": factor,
                "judged_of_the_file_rate": runs[-1]["judged_rate"] / rate,
            }
            print(json.dumps(runs[-1]), flush=True)
    result = {
        "machine": processor(),
        "cores": cores(),
        "other_load": os.getloadavg()[2],
        "frames": f"{FRAME_SIDE}x{FRAME_SIDE} uint16, bslz4, simulated",
        "file_rate": rate,
        "true_hit_rate": float(np.mean(labels)),
        "seconds": options.seconds,
        "viewers": options.viewers,
        "runs": runs,
    }
    atomic_write_json(options.out, result)
    print(load_table(result))
    return 0


def load_table(result: dict[str, Any]) -> str:
    """Return the figures as docs/live.md shows them, in Markdown."""
    rows: list[tuple[str, Any]] = [
        ("played, frames/s", lambda run: f"{run['played_rate']:.1f}"),
        ("judged, frames/s", lambda run: f"{run['judged_rate']:.1f}"),
        ("judged, of the file's rate", lambda run: f"{100 * run['judged_of_the_file_rate']:.0f} %"),
        (
            "frames not accounted for",
            # The player tells how many it has sent now and then, so more may have been received.
            lambda run: str(run["not_accounted_for"] + max(run["sent"] - run["received"], 0)),
        ),
        ("estimated hit rate", lambda run: _in_per_cent(run["hit_rate"])),
        ("frame to list, median", lambda run: f"{run['latency']['median']:.2f} s"),
        ("frame to list, 99 %", lambda run: f"{run['latency']['most']:.2f} s"),
        ("memory, last fifth against second", lambda run: f"{100 * run['memory_growth']:+.1f} %"),
        ("updates a second, slowest viewer", lambda run: f"{run['updates_a_second']:.1f}"),
    ]
    names = [f"{run['times_the_file_rate']:g} x the file's rate" for run in result["runs"]]
    lines = [f"| | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    lines += [f"| {name} | {' | '.join(map(value, result['runs']))} |" for name, value in rows]
    return "\n".join(lines)


def _in_per_cent(rate: dict[str, float]) -> str:
    return f"{100 * rate['value']:.1f} % ({100 * rate['low']:.1f} to {100 * rate['high']:.1f})"


def write_frames(path: Path, count: int) -> None:
    """Write simulated frames, of which about three in ten show spots."""
    import hdf5plugin

    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        stack = file.create_dataset(
            "entry/data/data",
            (count, FRAME_SIDE, FRAME_SIDE),
            "u2",
            chunks=(1, FRAME_SIDE, FRAME_SIDE),
            **hdf5plugin.Bitshuffle(),
        )
        for number in range(count):
            spots = 15 if rng.random() < HIT_SHARE else 0
            condition = Condition("counting", 3.0, 0.8, spots, "none", (), (FRAME_SIDE, FRAME_SIDE))
            stack[number] = draw_frame(rng, condition).values.clip(0, 32000)


def file_rate(path: Path, seconds: float) -> tuple[float, list[bool]]:
    """Screen a file again and again: frames a second once programs are compiled, and which frames are hits."""
    labels: list[bool] = []
    with FrameReader(ReadOptions(panels_apart=True)) as reader:
        sources = Sources(reader)
        sources.open(find_files([str(path)]))
        for frame in counted_frames(sources, MIN_SNR, MIN_SPOTS):
            labels.append(frame.label == HIT)
        started, count = time.monotonic(), 0
        while time.monotonic() - started < seconds:
            count += sum(1 for _ in counted_frames(sources, MIN_SNR, MIN_SPOTS))
        return count / (time.monotonic() - started), labels


def live_run(path: Path, out: Path, rate: float, options: argparse.Namespace) -> dict[str, Any]:
    """Play frames to `sfxjax live` and look on: rates, latency, memory, and where the frames are."""
    address = f"tcp://127.0.0.1:{options.port}"
    live = _started("live", address, "--out", out, "--compilation-cache")
    assert live.stdout is not None
    page = next(
        found for line in live.stdout if (found := re.search(r"http://[^/]+:(\d+)/\?token=(\S+)", line))
    )
    drain = threading.Thread(target=live.stdout.read, daemon=True)
    drain.start()
    # Programs are compiled on a few frames of another series.
    _play(path, address, 10.0, 1, series=1)
    before = json.loads((out / "summary.json").read_text())["frames_that_came"] if _waited_for(out) else {}
    updates = [0] * options.viewers
    for number in range(options.viewers):
        threading.Thread(target=_view, args=(*page.groups(), updates, number), daemon=True).start()
    memory: list[float] = []
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(live.pid, memory, ended))
    watcher.start()
    repeat = max(round(options.seconds * rate / options.frames), 1)
    said = _play(path, address, rate, repeat, series=2)
    time.sleep(3.0)
    connection = http.client.HTTPConnection("127.0.0.1", int(page[1]))
    connection.request("GET", f"/state?token={page[2]}")
    state = json.loads(connection.getresponse().read())
    ended.set()
    watcher.join()
    live.terminate()
    live.wait(30)
    summary = json.loads((out / "summary.json").read_text())
    sent, seconds = (float(value) for value in re.findall(r"sent (\d+) frames in ([\d.]+)", said)[0])
    frames = summary["frames_that_came"]
    found = summary["hit_rate"]
    judged = frames["judged"] - before["judged"]
    accounted = frames["judged"] + frames["left_out"] + frames["errors"] + frames["repeated"]
    early, late = memory[len(memory) // 5 : 2 * len(memory) // 5], memory[-max(len(memory) // 5, 1) :]
    return {
        "played_rate": sent / seconds,
        "judged_rate": judged / seconds,
        "sent": int(sent),
        "received": frames["received"] - before["received"],
        "not_accounted_for": frames["received"] - accounted,
        "counts": frames,
        "hit_rate": {
            name: found[key] / 100 for name, key in (("value", "percent"), ("low", "low"), ("high", "high"))
        },
        # Of the last one to two minutes: programs were compiled before.
        "latency": state["latency"],
        "memory_growth": float(np.mean(late) / np.mean(early) - 1) if early else None,
        "memory_bytes": float(np.mean(late)),
        "updates_a_second": min(updates) / seconds if updates else None,
    }


def _started(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sfxjax.cli", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _play(path: Path, address: str, rate: float, repeat: int, series: int) -> str:
    words = ("play", path, "--to", address, "--rate", rate, "--repeat", repeat, "--series", series)
    return _started(*words).communicate()[0]


def _waited_for(out: Path) -> bool:
    """Wait until what was played has been judged."""
    for _ in range(120):
        time.sleep(1.0)
        path = out / "summary.json"
        frames = json.loads(path.read_text())["frames_that_came"] if path.exists() else {}
        if frames.get("judged", 0) and frames["judged"] + frames["left_out"] >= frames["received"]:
            return True
    raise UserError("live judged nothing in two minutes")


def _watch(process: int, memory: list[float], ended: threading.Event) -> None:
    while not ended.wait(MEMORY_EVERY):
        pages = Path(f"/proc/{process}/statm").read_text().split()[1]
        memory.append(float(pages) * 4096)


def _view(port: str, token: str, updates: list[int], number: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", int(port))
    connection.request("GET", f"/events?token={token}")
    answer = connection.getresponse()
    for _ in itertools.count():
        line = answer.readline()
        if not line:
            return
        updates[number] += line.startswith(b"data: ")


if __name__ == "__main__":
    sys.exit(run_main(main))
