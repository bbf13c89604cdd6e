"""Receivers that are killed: their lists are those of an undisturbed run."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import live_cases as cases
import numpy as np
import pytest
import zmq
from test_live_receiver import frame, rows

from sfxjax.live.frames import LiveFrame
from sfxjax.live.keeper import LIVE_JOURNAL, JudgedFrame, Keeper

RECEIVER = """
import sys, time
sys.path[:0] = ["tests"]
import live_cases as cases
from pathlib import Path
from sfxjax.live.command import receive_until_stopped
from sfxjax.live.frames import Faults
from sfxjax.live.keeper import Keeper
from sfxjax.live.receiver import Receiver
from sfxjax.live.zeromq import ZeroMQSource

def judge(frame, weight):
    time.sleep(0.003)
    return cases.judge(frame, weight)

judge.min_snr, judge.min_spots, judge.model = 6.0, 4, "a test"
keeper = Keeper(Path(sys.argv[2]), {"a": 1})
receive_until_stopped(Receiver(ZeroMQSource(sys.argv[1], "stream2", Faults()), judge, keeper, 2), None)
keeper.close()
"""


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize("last", [signal.SIGINT, signal.SIGTERM])
def test_ten_kills_at_random_leave_the_lists_of_an_undisturbed_run(
    tmp_path: Path, last: signal.Signals
) -> None:
    # A series that is sent again and again, as long as a frame of it is not in the lists.
    frames, draws = 2000, np.random.default_rng(last)
    address, stop = cases.free_address(), threading.Event()
    series = list(cases.messages("stream2", frames))

    def detector() -> None:
        with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
            socket.setsockopt(zmq.SNDHWM, 4)
            socket.setsockopt(zmq.LINGER, 0)
            socket.bind(address)
            while not stop.is_set():
                for message in series:
                    while not stop.is_set():
                        try:
                            socket.send_multipart(message, zmq.NOBLOCK)
                            break
                        except zmq.Again:
                            time.sleep(0.001)
                    time.sleep(0.001)

    player = threading.Thread(target=detector)
    player.start()
    out = tmp_path / "killed"

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", RECEIVER, address, str(out)]
        return subprocess.Popen(command, cwd=cases.REPOSITORY, stdout=subprocess.DEVNULL, text=True)

    try:
        for _ in range(10):
            before, process, until = lines_of(out / "frames.csv"), start(), time.monotonic() + 120
            while lines_of(out / "frames.csv") <= before + 1:
                assert time.monotonic() < until and process.poll() is None
                time.sleep(0.01)
            time.sleep(draws.uniform(0, 0.6))
            process.kill()
            process.wait()
        killed_at = lines_of(out / "frames.csv")
        process, until = start(), time.monotonic() + 300
        while lines_of(out / "frames.csv") <= frames and time.monotonic() < until:
            time.sleep(0.1)
        process.send_signal(last)
        # 130 where it could not end in order within a moment.
        assert process.wait(60) in (0, 130)
    finally:
        process.kill()
        stop.set()
        player.join()
    assert killed_at < frames
    # What an undisturbed run lists: each frame once, by what it shows.
    whole = Keeper(tmp_path / "whole", {})
    for number in range(frames):
        whole.add(
            cases.judge(
                LiveFrame("series-4-abc", f"//{number}", 0.0, lambda n=number: cases.pixels(n), number), 1
            )[0]
        )  # type: ignore[misc]
    whole.close()
    for name in ("spots.csv", "hits.lst", "misses.lst"):
        found, expected = ((folder / name).read_text().splitlines() for folder in (out, tmp_path / "whole"))
        assert sorted(found) == sorted(expected), name
    known = ("file", "event", "score", "label", "spots", "fourth_snr", "reason")
    listed = [
        sorted([row[key] for key in known] for row in rows(folder)) for folder in (out, tmp_path / "whole")
    ]
    assert listed[0] == listed[1]


@pytest.mark.slow
def test_live_itself_goes_on_after_kills_with_files(tmp_path: Path) -> None:
    from sfxjax.simulate.conditions import Condition, draw_frame

    rng = np.random.default_rng(0)
    conditions = [Condition("counting", 3.0, 0.8, spots, "none", (), (256, 256)) for spots in [0, 12] * 60]
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["entry/data/data"] = np.array([draw_frame(rng, each).values for each in conditions])
    command = [
        sys.executable,
        "-m",
        "sfxjax.cli",
        "live",
        str(tmp_path / "run.h5"),
        "--quiet-for",
        "3",
        "--out",
    ]

    def start(out: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*command, str(tmp_path / out)], cwd=cases.REPOSITORY, stdout=subprocess.DEVNULL
        )

    assert start("whole").wait(400) == 0
    for _ in range(2):
        before, process = lines_of(tmp_path / "killed" / "frames.csv"), start("killed")
        while lines_of(tmp_path / "killed" / "frames.csv") <= before + 1 and process.poll() is None:
            time.sleep(0.01)
        process.kill()
        process.wait()
    assert start("killed").wait(400) == 0
    for name in ("frames.csv", "spots.csv", "hits.lst", "misses.lst"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_the_journal_is_short_where_nothing_comes(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path / "o", {})
    keeper.commit()
    size = (tmp_path / "o" / LIVE_JOURNAL).stat().st_size
    for _ in range(50):
        keeper.commit()
    assert (tmp_path / "o" / LIVE_JOURNAL).stat().st_size == size
    keeper.add(JudgedFrame(frame(1), 2, None, "damaged"))
    keeper.close()
    assert (tmp_path / "o" / LIVE_JOURNAL).stat().st_size > size
