"""Of several processes each says in a line which one is missing or gone, and ends with status 2."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sfxjax import processes
from sfxjax.errors import UserError
from sfxjax.processes import join_processes

REPOSITORY = Path(__file__).resolve().parents[1]
WORKER = "processes-worker"


def work(port: int, number: int, count: int, join_seconds: float, fails: bool, threshold: float) -> None:
    """Run one of the processes: it joins, and then does nothing for a minute."""
    from sfxjax.errors import run_main

    # A shell's background jobs start with Ctrl-C ignored, and what the tests start would with them.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    processes.JOIN_SECONDS, processes.LOST_SECONDS = join_seconds, 4.0

    def main() -> None:
        options = _options(port, count, number)
        options.threshold = threshold
        join_processes(options)
        print("joined", flush=True)
        if fails:
            time.sleep(2)
            raise UserError("nothing works")
        time.sleep(60)

    sys.exit(run_main(main))


def _options(port: int, count: int, number: int) -> argparse.Namespace:
    return argparse.Namespace(
        distributed=True, coordinator=f"127.0.0.1:{port}", processes=count, process=number
    )


@pytest.fixture
def port() -> int:
    """A port that is free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def start(port: int) -> Iterator:
    """Starts processes of a job, and ends them afterwards."""
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    environment |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(REPOSITORY)}
    started: list[subprocess.Popen] = []

    def start(
        number: int,
        count: int = 2,
        join_seconds: float = 60,
        fails: bool = False,
        threshold: float = 0.5,
    ) -> subprocess.Popen:
        words = [WORKER, *map(str, (port, number, count, join_seconds, int(fails), threshold))]
        process = subprocess.Popen(
            [sys.executable, __file__, *words],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def _ended(process: subprocess.Popen) -> str:
    """Return the one line of a process that ended with status 2."""
    said = process.communicate(timeout=40)[1]
    assert process.returncode == 2, said
    assert "Traceback" not in said and "***" not in said
    (line,) = (line for line in said.splitlines() if "error" in line)
    return line


@pytest.mark.parametrize("killed", [0, 1])
def test_one_that_is_killed_ends_the_other_with_a_line(start, killed: int) -> None:
    both = [start(number) for number in (0, 1)]
    assert [process.stdout.readline() for process in both] == ["joined\n"] * 2
    both[killed].send_signal(signal.SIGKILL)
    line = _ended(both[1 - killed])
    assert f"process {killed}" in line and "give the same command to all processes" in line


def test_other_options_than_process_0_has_are_refused(start) -> None:
    both = [start(0), start(1, threshold=0.75)]
    assert "threshold is 0.75 in process 1 and 0.5 in process 0" in _ended(both[1])
    assert "process 1" in _ended(both[0])


@pytest.mark.parametrize("failing", [0, 1])
def test_one_that_fails_or_is_interrupted_ends_the_other_and_waits_for_none(start, failing: int) -> None:
    both = [start(number, fails=number == failing == 1) for number in (0, 1)]
    assert [process.stdout.readline() for process in both] == ["joined\n"] * 2
    if failing == 0:
        both[0].send_signal(signal.SIGINT)
        assert both[0].wait(timeout=10) == 130
    else:
        assert "nothing works" in _ended(both[1])
    assert f"process {failing}" in _ended(both[1 - failing])


def test_those_that_never_start_are_named_by_the_others(start) -> None:
    first, second = start(0, 4, 6), start(2, 4, 6)
    for process in (first, second):
        assert "processes 1, 3 of 4 did not come within 6 s" in _ended(process)


def test_process_0_that_never_starts_is_named(start, port) -> None:
    assert f"process 0 was not there, at 127.0.0.1:{port}, within 1 s" in _ended(start(1, 2, 1))


def test_strangers_at_the_port_are_passed_over(port, monkeypatch) -> None:
    monkeypatch.setattr(processes, "JOIN_SECONDS", 1.5)
    import threading

    def disturb() -> None:
        for words in (b"GET / HTTP/1.1\r\n\r\n", b"sfxjax 7\n", b"sfxjax x\n", b""):
            for _ in range(20):
                try:
                    with socket.create_connection(("127.0.0.1", port), timeout=1) as line:
                        line.sendall(words)
                    break
                except OSError:
                    time.sleep(0.05)

    stranger = threading.Thread(target=disturb)
    stranger.start()
    with pytest.raises(UserError, match="process 1 of 2 did not come"):
        join_processes(_options(port, 2, 0))
    stranger.join()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"process": 2}, "process 2 of 2 makes no sense"),
        ({"process": -1}, "process -1 of 2 makes no sense"),
        ({"coordinator": "nowhere"}, "is no HOST:PORT"),
        ({"coordinator": "host:99999"}, "is no HOST:PORT"),
        ({"coordinator": "192.0.2.1:4000", "process": 0}, "cannot listen"),
        ({"distributed": False}, "without --distributed"),
    ],
)
def test_what_makes_no_sense_is_refused(port, change, reason) -> None:
    options = argparse.Namespace(**vars(_options(port, 2, 1)) | change)
    with pytest.raises(UserError, match=reason):
        join_processes(options)


def test_one_process_of_one_needs_no_other(port) -> None:
    assert join_processes(_options(port, 1, 0)) == (0, 1)


if __name__ == "__main__" and sys.argv[1] == WORKER:
    work(*map(int, sys.argv[2:5]), float(sys.argv[5]), sys.argv[6] == "1", float(sys.argv[7]))
